"""The 36 statuses of a replicate and every legal move between them.

A *replicate* is one worker's attempt at a task. Its life is one path through this table:

    CREATED ─► RUNNING ─► APP_DOWNLOADING ─► APP_DOWNLOADED ─► DATA_DOWNLOADING ─► DATA_DOWNLOADED
            ─► COMPUTING ─► COMPUTED ─► CAN_CONTRIBUTE ─► CONTRIBUTING ─► CONTRIBUTED
            ─► REVEALING ─► REVEALED [─► RESULT_UPLOAD_REQUESTED ─► RESULT_UPLOADING ─► RESULT_UPLOADED]
            ─► COMPLETED

Three parties move a replicate, and the table says which one may make each move:

- the **worker** reports what it does;
- the **chain** decides what counts: CONTRIBUTED and REVEALED are entered on a confirmed log, never on
  somebody's word;
- the **pool** (the scheduler) creates it, asks for the upload, and ends it: lost, late or failed.

A step that fails before the contribution (APP_DOWNLOAD_FAILED, DATA_DOWNLOAD_FAILED, COMPUTE_FAILED)
still leads to a contribution: its result is the description of the failure. The requester learns what
went wrong, and the pool keeps the stake that an unfinished task would cost it.

A worker that was lost comes back through RECOVERING, from where each status that it may meanwhile have
reached is a legal next one. What cannot be undone (a failure, a time-out, COMPLETED) has no way out,
except that the pool marks an unfinished one as FAILED, which frees its place for another worker.

Source: `reference/scheduler-worker.md` sections 3.1 and 3.2 (era 3.0.x). Five things are ours: WORKER_LOST
leads back to RECOVERING without a restart of the worker; a contribution or reveal seen on the chain is
believed in whatever earlier status its reports have reached; a worker that knows before it starts that it
cannot contribute says so at once; one that its own disk, engine or node has failed says FAILED; and
a failed upload is not the end of a replicate: its worker still has the result, so it may be asked again, and
a late success counts (there, one lost upload of the only winner lost the task: section 11.2, row 17).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class ReplicateStatus(StrEnum):
    """What a replicate is doing or how it ended; details ride beside the status, never in a new one."""

    CREATED = "CREATED"
    RUNNING = "RUNNING"
    APP_DOWNLOADING = "APP_DOWNLOADING"
    APP_DOWNLOADED = "APP_DOWNLOADED"
    APP_DOWNLOAD_FAILED = "APP_DOWNLOAD_FAILED"
    DATA_DOWNLOADING = "DATA_DOWNLOADING"
    DATA_DOWNLOADED = "DATA_DOWNLOADED"
    DATA_DOWNLOAD_FAILED = "DATA_DOWNLOAD_FAILED"
    COMPUTING = "COMPUTING"
    COMPUTED = "COMPUTED"
    COMPUTE_FAILED = "COMPUTE_FAILED"
    CAN_CONTRIBUTE = "CAN_CONTRIBUTE"
    CANT_CONTRIBUTE_SINCE_STAKE_TOO_LOW = "CANT_CONTRIBUTE_SINCE_STAKE_TOO_LOW"
    CANT_CONTRIBUTE_SINCE_TASK_NOT_ACTIVE = "CANT_CONTRIBUTE_SINCE_TASK_NOT_ACTIVE"
    CANT_CONTRIBUTE_SINCE_AFTER_DEADLINE = "CANT_CONTRIBUTE_SINCE_AFTER_DEADLINE"
    CANT_CONTRIBUTE_SINCE_CONTRIBUTION_ALREADY_SET = "CANT_CONTRIBUTE_SINCE_CONTRIBUTION_ALREADY_SET"
    CONTRIBUTING = "CONTRIBUTING"
    CONTRIBUTE_FAILED = "CONTRIBUTE_FAILED"
    CONTRIBUTED = "CONTRIBUTED"
    CANT_REVEAL = "CANT_REVEAL"
    REVEALING = "REVEALING"
    REVEALED = "REVEALED"
    REVEAL_FAILED = "REVEAL_FAILED"
    RESULT_UPLOAD_REQUESTED = "RESULT_UPLOAD_REQUESTED"
    RESULT_UPLOAD_REQUEST_FAILED = "RESULT_UPLOAD_REQUEST_FAILED"
    RESULT_UPLOADING = "RESULT_UPLOADING"
    RESULT_UPLOADED = "RESULT_UPLOADED"
    RESULT_UPLOAD_FAILED = "RESULT_UPLOAD_FAILED"
    COMPLETED = "COMPLETED"
    REVEAL_TIMEOUT = "REVEAL_TIMEOUT"
    WORKER_LOST = "WORKER_LOST"
    ABORTED_ON_CONSENSUS_REACHED = "ABORTED_ON_CONSENSUS_REACHED"
    ABORTED_ON_CONTRIBUTION_TIMEOUT = "ABORTED_ON_CONTRIBUTION_TIMEOUT"
    FAILED = "FAILED"
    OUT_OF_GAS = "OUT_OF_GAS"
    RECOVERING = "RECOVERING"


class Mover(StrEnum):
    """Who may make a move."""

    WORKER = "worker"
    CHAIN = "chain"
    POOL = "pool"


S = ReplicateStatus
_Set = frozenset[ReplicateStatus]

CANT_CONTRIBUTE: Final[_Set] = frozenset(
    {
        S.CANT_CONTRIBUTE_SINCE_STAKE_TOO_LOW,
        S.CANT_CONTRIBUTE_SINCE_TASK_NOT_ACTIVE,
        S.CANT_CONTRIBUTE_SINCE_AFTER_DEADLINE,
        S.CANT_CONTRIBUTE_SINCE_CONTRIBUTION_ALREADY_SET,
    }
)
ABORTED: Final[_Set] = frozenset({S.ABORTED_ON_CONSENSUS_REACHED, S.ABORTED_ON_CONTRIBUTION_TIMEOUT})

#: Holds one of its worker's slots: the container has not ended yet.
SLOT_HOLDING: Final[_Set] = frozenset(
    {
        S.CREATED,
        S.RUNNING,
        S.APP_DOWNLOADING,
        S.APP_DOWNLOADED,
        S.DATA_DOWNLOADING,
        S.DATA_DOWNLOADED,
        S.COMPUTING,
    }
)
#: Alive and expected to contribute: counts in the consensus forecast.
BEFORE_CONTRIBUTION: Final[_Set] = SLOT_HOLDING | {
    S.APP_DOWNLOAD_FAILED,
    S.DATA_DOWNLOAD_FAILED,
    S.COMPUTED,
    S.COMPUTE_FAILED,
    S.CAN_CONTRIBUTE,
    S.CONTRIBUTING,
}
#: The worker has nothing more to do, but the pool has not closed the replicate: it becomes FAILED at once.
UNCOMPLETABLE: Final[_Set] = (
    CANT_CONTRIBUTE
    | ABORTED
    | {
        S.CONTRIBUTE_FAILED,
        S.CANT_REVEAL,
        S.REVEAL_FAILED,
        S.REVEAL_TIMEOUT,
        S.OUT_OF_GAS,
    }
)
#: The upload did not come about; the worker keeps the result and may be asked again.
UPLOAD_FAILED: Final[_Set] = frozenset({S.RESULT_UPLOAD_REQUEST_FAILED, S.RESULT_UPLOAD_FAILED})
#: No way out, except that the chain may know better than a FAILED.
FINAL: Final[_Set] = frozenset({S.COMPLETED, S.FAILED})
#: Neither tells how far the replicate has come; see `Replicate.reached`.
INTERLUDES: Final[_Set] = frozenset({S.WORKER_LOST, S.RECOVERING})

#: A failed step has a result as well, its description. FAILED: the worker's disk, engine or node failed it.
_BEFORE_CHECK = CANT_CONTRIBUTE | {S.CAN_CONTRIBUTE, S.FAILED}

#: Known before any work is done, so said before: what the chain would refuse, or why it cannot start.
_REFUSED_EARLY = CANT_CONTRIBUTE | {S.OUT_OF_GAS, S.FAILED}

_WORKER_PATH: Final[dict[ReplicateStatus, _Set]] = {
    S.CREATED: frozenset({S.RUNNING, S.FAILED}),
    S.RUNNING: _REFUSED_EARLY | {S.APP_DOWNLOADING},
    S.APP_DOWNLOADING: frozenset({S.APP_DOWNLOADED, S.APP_DOWNLOAD_FAILED}),
    S.APP_DOWNLOAD_FAILED: _BEFORE_CHECK,
    S.APP_DOWNLOADED: frozenset({S.DATA_DOWNLOADING}),
    S.DATA_DOWNLOADING: frozenset({S.DATA_DOWNLOADED, S.DATA_DOWNLOAD_FAILED}),
    S.DATA_DOWNLOAD_FAILED: _BEFORE_CHECK,
    S.DATA_DOWNLOADED: frozenset({S.COMPUTING}),
    S.COMPUTING: frozenset({S.COMPUTED, S.COMPUTE_FAILED}),
    S.COMPUTED: _BEFORE_CHECK,
    S.COMPUTE_FAILED: _BEFORE_CHECK,
    S.CAN_CONTRIBUTE: frozenset({S.CONTRIBUTING, S.OUT_OF_GAS}),
    S.CONTRIBUTING: frozenset({S.CONTRIBUTE_FAILED, S.OUT_OF_GAS}),
    S.CONTRIBUTED: frozenset({S.REVEALING, S.CANT_REVEAL, S.OUT_OF_GAS}),
    S.REVEALING: frozenset({S.REVEAL_FAILED, S.OUT_OF_GAS}),
    S.REVEALED: frozenset({S.COMPLETED}),
    S.RESULT_UPLOAD_REQUESTED: frozenset(
        {S.RESULT_UPLOADING, S.RESULT_UPLOADED, S.RESULT_UPLOAD_FAILED, S.COMPLETED}
    ),
    S.RESULT_UPLOADING: frozenset({S.RESULT_UPLOADED, S.RESULT_UPLOAD_FAILED, S.COMPLETED}),
    S.RESULT_UPLOADED: frozenset({S.COMPLETED}),
    # Who was silent after the request speaks of the upload before anything else.
    S.RESULT_UPLOAD_REQUEST_FAILED: frozenset({S.RESULT_UPLOADING, S.RESULT_UPLOADED}),
    S.RESULT_UPLOAD_FAILED: frozenset({S.RESULT_UPLOADING, S.RESULT_UPLOADED, S.COMPLETED}),
}
#: A worker that is asked to stop says that it has stopped; after its reveal there is nothing left to stop.
_MAY_ABORT: Final[_Set] = BEFORE_CONTRIBUTION | {S.CONTRIBUTED, S.RECOVERING, S.REVEALING}

#: Reports catch up after a loss: what a worker may say first when it is back, from wherever it stood.
_AFTER_RECOVERY: Final[_Set] = frozenset().union(*_WORKER_PATH.values()) | ABORTED

_ALIVE: Final[_Set] = frozenset(_WORKER_PATH) | {S.RECOVERING}


def _worker_moves() -> dict[ReplicateStatus, _Set]:
    moves = {
        status: targets | (ABORTED if status in _MAY_ABORT else frozenset())
        for status, targets in _WORKER_PATH.items()
    }
    moves[S.RECOVERING] = _AFTER_RECOVERY
    return moves


def _chain_moves() -> dict[ReplicateStatus, _Set]:
    # No log comes between an uncompletable status and the FAILED that follows it in the same step.
    contributed = BEFORE_CONTRIBUTION | INTERLUDES | {S.FAILED}
    revealed = INTERLUDES | {S.CONTRIBUTED, S.REVEALING, S.FAILED}
    return {
        status: frozenset(
            ({S.CONTRIBUTED} if status in contributed else set())
            | ({S.REVEALED} if status in revealed else set())
        )
        for status in contributed | revealed
    }


def _pool_moves() -> dict[ReplicateStatus, _Set]:
    moves: dict[ReplicateStatus, set[ReplicateStatus]] = {status: set() for status in ReplicateStatus}
    for status in _ALIVE - {S.RECOVERING}:
        moves[status] |= {S.WORKER_LOST, S.FAILED}  # to RECOVERING one comes from WORKER_LOST only
    moves[S.RECOVERING] |= {S.WORKER_LOST, S.FAILED}
    # Nothing is awaited of a lost one; but the look-up of what it had uploaded may end while it is lost.
    moves[S.WORKER_LOST] |= {S.RECOVERING, S.FAILED, S.RESULT_UPLOAD_FAILED}
    for status in UNCOMPLETABLE:
        moves[status] |= {S.FAILED}
    for status in (S.CONTRIBUTED, S.REVEALING, S.WORKER_LOST, S.RECOVERING):
        moves[status] |= {S.REVEAL_TIMEOUT}
    moves[S.REVEALED] |= {S.RESULT_UPLOAD_REQUESTED}
    moves[S.RECOVERING] |= {S.RESULT_UPLOAD_REQUESTED, S.RESULT_UPLOAD_REQUEST_FAILED, S.RESULT_UPLOAD_FAILED}
    for status in UPLOAD_FAILED:
        moves[status] |= {S.RESULT_UPLOAD_REQUESTED}
    moves[S.RESULT_UPLOAD_REQUESTED] |= {S.RESULT_UPLOAD_REQUEST_FAILED}
    moves[S.RESULT_UPLOADING] |= {S.RESULT_UPLOAD_FAILED}
    moves[S.RESULT_UPLOADED] |= {S.RESULT_UPLOAD_FAILED}
    return {status: frozenset(targets) for status, targets in moves.items() if targets}


#: Every legal move, by who makes it. What is not here changes nothing.
MOVES: Final[dict[Mover, dict[ReplicateStatus, _Set]]] = {
    Mover.WORKER: _worker_moves(),
    Mover.CHAIN: _chain_moves(),
    Mover.POOL: _pool_moves(),
}


def is_legal(mover: Mover, before: ReplicateStatus, after: ReplicateStatus) -> bool:
    """Tell whether `mover` may take a replicate from `before` to `after`."""
    return after in MOVES[mover].get(before, frozenset())


def _ahead() -> dict[ReplicateStatus, _Set]:
    closures: dict[ReplicateStatus, _Set] = {}
    for start in _WORKER_PATH:
        ahead, fresh = {start}, {start}
        while fresh:
            fresh = {after for s in fresh for after in MOVES[Mover.WORKER].get(s, ())} - ahead
            ahead |= fresh
        closures[start] = frozenset(ahead)
    return closures


#: Where a worker alone can have come from a status, that status included. A worker in RECOVERING goes on from
#: the status it had before: of the moves out of RECOVERING only those into this set are its to make.
AHEAD: Final[dict[ReplicateStatus, _Set]] = _ahead()
