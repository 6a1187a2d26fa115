"""One task: from the deal that bought it to its last log on the chain.

The phase is the chain's word and moves only on a confirmed log:

    RECEIVED ──TaskInitialize──► ACTIVE ──TaskConsensus──► REVEALING ──TaskFinalize──► COMPLETED
                                   ▲                          │
                                   └──────TaskReopen──────────┘    ACTIVE or REVEALING ──TaskClaimed──► FAILED

A task of trust 1 may go from ACTIVE to COMPLETED in one transaction of its worker, `contributeAndFinalize`.

`step(task, event)` is pure and total. Each event first changes the facts; then `_pursue` derives from the
facts what is wanted now (a transaction, an upload) and asks for it, unless it is asked for already. So a wish
can neither be forgotten nor doubled, whatever the order of events. A new worker is not chosen here: the pool,
which knows the workers, asks `needs_worker` and calls `assign`.

Deadlines, with t the category's work clock: contributions before start + 7t, reveals before consensus + 2t,
everything before start + 10t; then anybody may claim. Source: contract IexecPoco2, reference `poco.md` 7.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple, assert_never, get_args

from poolwright.poco.consensus import more_needed
from poolwright.poco.deadlines import contribution_deadline, final_deadline
from poolwright.poco.frozen import replace
from poolwright.poco.keccak import keccak
from poolwright.poco.results import result_hash
from poolwright.poco.types import Hash32, TaskId, Timestamp, WorkerAddress
from poolwright.scheduler.effects import (
    Effect,
    Submission,
    Submit,
    TellWorkerAbort,
    TellWorkerComplete,
    TellWorkerReveal,
    TellWorkerStart,
    TellWorkerUpload,
    VerifyUpload,
)
from poolwright.scheduler.events import (
    ChainRef,
    ChainTaskClaimed,
    ChainTaskConsensusReached,
    ChainTaskContributed,
    ChainTaskContributedAndFinalized,
    ChainTaskFinalized,
    ChainTaskInitialized,
    ChainTaskReopened,
    ChainTaskRevealed,
    DealTerms,
    SubmissionFailed,
    TaskEvent,
    UploadMissing,
    UploadVerified,
    WorkerReported,
)
from poolwright.scheduler.replicate import Replicate, created, moved
from poolwright.wire.messages import AbortCause
from poolwright.wire.statuses import ABORTED, BEFORE_CONTRIBUTION, UNCOMPLETABLE, Mover, ReplicateStatus

S = ReplicateStatus

UPLOAD_SILENCE_SECONDS: Final = 120
"""A worker that was asked to upload and is silent for longer is passed over (reference 3.1, two minutes)."""
UPLOAD_RETRY_SECONDS: Final = 60
"""Wait before a revealer is asked again, doubled after each failure, when no other one is left."""
MAX_UPLOAD_RETRY_SECONDS: Final = 3600
MAX_RETRY_SECONDS: Final = 300
"""Longest wait before a failed transaction is tried again; the first is two seconds."""
MAX_TRIES: Final = 24
"""Times in a row that one transaction is tried, over about an hour and a half. Then only another wish (at
last the claim) or an event moves the task on, and the operator is told."""


class Phase(StrEnum):
    """The task's state on the chain; RECEIVED is what the contract calls UNSET."""

    RECEIVED = "RECEIVED"
    ACTIVE = "ACTIVE"
    REVEALING = "REVEALING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


ChainFactEvent = (
    ChainTaskInitialized
    | ChainTaskContributed
    | ChainTaskConsensusReached
    | ChainTaskRevealed
    | ChainTaskReopened
    | ChainTaskFinalized
    | ChainTaskContributedAndFinalized
    | ChainTaskClaimed
)
_FACT_NAMES: Final[dict[type[object], str]] = {
    event_type: event_type.__name__.removeprefix("Chain") for event_type in get_args(ChainFactEvent)
}
MIN_PATIENCE_SECONDS: Final = 60
ON_THE_WAY: Final = (BEFORE_CONTRIBUTION | {S.REVEALING}) - {S.CREATED, S.COMPUTED, S.COMPUTE_FAILED}
"""A worker that reports one of these goes on as expected: nothing is wanted, awaited or needed anew."""
FAREWELLS: Final = ABORTED | {S.COMPLETED}
"""The last word of a worker about a task: it has removed everything of it."""
MAX_EXPLANATION: Final = 500
"""Characters of a worker's explanation that are kept with a replicate."""
ENDED: Final = frozenset({Phase.COMPLETED, Phase.FAILED})

PHASE_MOVES: Final[dict[tuple[Phase, type[TaskEvent]], Phase]] = {
    (Phase.RECEIVED, ChainTaskInitialized): Phase.ACTIVE,  # initialize, by anybody
    (Phase.ACTIVE, ChainTaskConsensusReached): Phase.REVEALING,  # the contribution that convinced
    (Phase.REVEALING, ChainTaskReopened): Phase.ACTIVE,  # nobody revealed in time
    (Phase.REVEALING, ChainTaskFinalized): Phase.COMPLETED,  # closed and paid
    (Phase.ACTIVE, ChainTaskContributedAndFinalized): Phase.COMPLETED,  # all in one, by its only worker
    (Phase.ACTIVE, ChainTaskClaimed): Phase.FAILED,  # past the final deadline
    (Phase.REVEALING, ChainTaskClaimed): Phase.FAILED,  # past the final deadline
}
"""Every legal move of the phase; any other pair changes nothing."""


class Deadline(StrEnum):
    """The three deadlines of the contract."""

    CONTRIBUTION = "CONTRIBUTION"
    REVEAL = "REVEAL"
    FINAL = "FINAL"


# Looked at for each event: by these names, as finding a member in its class takes five times as long.
_WORKER: Final = Mover.WORKER
_COMPUTING: Final = S.COMPUTING
_RECEIVED: Final = Phase.RECEIVED
_ACTIVE: Final = Phase.ACTIVE
_REVEALING: Final = Phase.REVEALING
_CONTRIBUTION: Final = Deadline.CONTRIBUTION
_REVEAL: Final = Deadline.REVEAL
_FINAL: Final = Deadline.FINAL


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainFact:
    """One line of the task's life on the chain, named by the contract's event."""

    name: str
    at: Timestamp
    ref: ChainRef
    worker: WorkerAddress | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InFlight:
    """The transaction that was asked for and whose log has not come."""

    submission: Submission
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Setback:
    """A transaction failed, the `failures`th time in a row; again from `retry_at` on (None: no more)."""

    submission: Submission
    failures: int
    retry_at: Timestamp | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploaded:
    """The result stands in the repository."""

    link: str
    callback: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Everything known about one task. `deal` is shared by the tasks of a bag."""

    id: TaskId
    index: int
    deal: DealTerms
    phase: Phase = Phase.RECEIVED
    consensus: Hash32 | None = None
    reveal_deadline: Timestamp | None = None
    replicates: tuple[Replicate, ...] = ()
    submitted: int = 0
    """Transactions asked for so far; numbers each of them for good."""
    failures: int = 0
    """Failures in a row of the transaction that is wanted."""
    in_flight: InFlight | None = None
    setback: Setback | None = None
    uploaded: Uploaded | None = None
    passed: frozenset[Deadline] = frozenset()
    """Deadlines that have been acted on."""
    results: bytes = b""
    """What `finalize` stored on the chain: the result link."""
    facts: tuple[ChainFact, ...] = ()

    @property
    def contribution_deadline(self) -> Timestamp:
        return contribution_deadline(self.deal.start_time, self.deal.timeref)

    @property
    def final_deadline(self) -> Timestamp:
        return final_deadline(self.deal.start_time, self.deal.timeref)

    @property
    def is_ended(self) -> bool:
        return self.phase in ENDED

    @property
    def winners(self) -> tuple[Replicate, ...]:
        """Contributors of the consensus result, once there is one (contract: winnerCounter)."""
        if self.consensus is None:
            return ()
        return tuple([r for r in self.replicates if r.result_hash == self.consensus and not r.rejected])

    @property
    def to_stop(self) -> tuple[Replicate, ...]:
        """Those that have neither contributed nor finished, whether heard or lost."""
        return tuple([r for r in self.replicates if r.result_hash is None and not r.is_finished])

    def has_passed(self, deadline: Deadline, now: Timestamp) -> bool:
        """Whether the deadline is behind us; what was once acted on stays so, whatever `now` says."""
        return deadline in self.passed or any(d is deadline and now >= at for d, at in _deadlines(self))

    def replicate_of(self, worker: WorkerAddress) -> Replicate | None:
        for replicate in self.replicates:
            if replicate.worker == worker:
                return replicate
        return None


class Step(NamedTuple):
    """The task after an event, what to do about it, and, when nothing changed, why not."""

    task: Task
    effects: tuple[Effect, ...] = ()
    ignored: str | None = None


def opened(task_id: TaskId, index: int, deal: DealTerms, now: Timestamp) -> Step:
    """A task that a deal has just bought: first of all the chain must know it."""
    return _pursue(Step(Task(id=task_id, index=index, deal=deal)), now)


def step(task: Task, event: TaskEvent, now: Timestamp | None = None) -> Step:
    """Advance one task by one event. Total: what does not apply leaves the task as it is and says why.

    `now` is the latest chain time known, when that is later than the event: what is asked for is asked now.
    """
    if isinstance(event, WorkerReported) and event.status in ON_THE_WAY:
        return _went_on(task, event)
    now = event.at if now is None else max(now, event.at)
    if isinstance(event, WorkerReported):
        result = _reported(task, event)
        return result if result.ignored else _pursue(result, now)
    if task.is_ended:
        return Step(task, ignored=f"the task has ended: {task.phase}")
    if _is_known(task, event):
        return Step(task, ignored="this log is known")
    match event:
        case ChainTaskInitialized():
            result = _initialized(task, event)
        case ChainTaskContributed():
            result = _contributed(task, event)
        case ChainTaskConsensusReached():
            result = _consensus_reached(task, event)
        case ChainTaskRevealed():
            result = _revealed(task, event)
        case ChainTaskReopened():
            result = _reopened(task, event)
        case ChainTaskFinalized():
            result = _finalized(task, event)
        case ChainTaskContributedAndFinalized():
            result = _contributed_and_finalized(task, event)
        case ChainTaskClaimed():
            result = _claimed(task, event)
        case UploadVerified():
            result = _upload_verified(task, event)
        case UploadMissing(worker=worker, reason=reason):
            result = _upload_missing(task, worker, reason, now)
        case SubmissionFailed():
            result = _submission_failed(task, event, now)
        case _:
            assert_never(event)
    return result if result.ignored else _pursue(result, now)


def tick(task: Task, now: Timestamp) -> Step:
    """Act on every deadline that has passed by `now` (chain time)."""
    effects: list[Effect] = []
    for deadline in _unpassed(task, now):
        task = replace(task, passed=task.passed | {deadline})
        match deadline:
            case Deadline.CONTRIBUTION:
                effects += _abort(task, task.to_stop, AbortCause.CONTRIBUTION_TIMEOUT)
            case Deadline.REVEAL:
                late = [r for r in task.winners if not r.revealed]
                effects += _abort(task, late, AbortCause.CONSENSUS_REACHED)
                for replicate in late:
                    task = _close(task, replicate.worker, S.REVEAL_TIMEOUT, now)
            case Deadline.FINAL:
                pass  # what is wanted from now on is the claim
            case _:
                assert_never(deadline)
    for slow in _cover_from(task):
        if now >= slow[0]:
            task = _swapped(task, slow[1], replace(slow[1], is_covered=True))
    for silent in _awaited_uploaders(task):
        if now < silent.since + UPLOAD_SILENCE_SECONDS:
            continue
        is_unanswered = silent.reached is S.RESULT_UPLOAD_REQUESTED
        verdict = S.RESULT_UPLOAD_REQUEST_FAILED if is_unanswered else S.RESULT_UPLOAD_FAILED
        task = _move(task, silent.worker, Mover.POOL, verdict, now, "no answer for two minutes")
    return _pursue(Step(task, tuple(effects)), now)


def next_deadline(task: Task) -> Timestamp | None:
    """When `tick` has something to do, in chain time; None when only an event can move the task."""
    if task.is_ended:
        return None
    due = [at for deadline, at in _deadlines(task) if deadline not in task.passed]
    if task.setback is not None and task.setback.retry_at is not None:
        due.append(task.setback.retry_at)
    if task.phase is _ACTIVE:
        due += [at for at, _ in _cover_from(task)]
    elif task.phase is _REVEALING and task.uploaded is None:
        due += [Timestamp(r.since + UPLOAD_SILENCE_SECONDS) for r in _awaited_uploaders(task)]
        again = _next_uploader(task)
        if again is not None:
            due.append(_may_upload_from(again))
    return min(due, default=None)


def _cover_from(task: Task) -> list[tuple[Timestamp, Replicate]]:
    """From when on each replicate at work counts as slow: another worker gets its place in the forecast.

    An app may compute for one unit of the work clock, and is then ended by its worker; half a unit is enough
    for any other step. So a worker that hangs is covered with most of the seven units left. Who only computes
    for long is not: a second one would not be faster.
    """
    if task.phase is not _ACTIVE:
        return []
    unit, last = task.deal.timeref, task.contribution_deadline
    found = []
    for replicate in task.replicates:
        if replicate.is_expected:
            patience = unit if replicate.reached is _COMPUTING else unit // 2
            at = replicate.life[-1].at + max(patience, MIN_PATIENCE_SECONDS)
            if at < last:
                found.append((Timestamp(at), replicate))
    return found


def needs_worker(task: Task, now: Timestamp) -> bool:
    """Whether one more contribution is needed, counting those still expected (contract: consensus).

    The contract looks for consensus only right after a contribution, in that contribution's group. So a group
    that a reopen leaves heavy enough has not won: with nobody at work somebody must contribute once more.
    """
    if task.phase is not _ACTIVE or now >= task.contribution_deadline:
        return False
    groups: dict[Hash32, int] = {}
    expected: list[int] = []
    for replicate in task.replicates:
        if replicate.result_hash is None:
            if replicate.is_expected:
                expected.append(replicate.weight)
        elif not replicate.rejected:
            groups[replicate.result_hash] = groups.get(replicate.result_hash, 1) * replicate.weight
    if not expected and task.facts[-1].name != "TaskContributed":
        return True
    return more_needed(groups, expected, task.deal.trust)


def assign(task: Task, worker: WorkerAddress, weight: int, now: Timestamp) -> Step:
    """Give the task to a worker that has not taken part in it."""
    start = TellWorkerStart(
        worker=worker,
        task_id=task.id,
        deal_id=task.deal.deal_id,
        index=task.index,
        block=task.facts[-1].ref.block,
        contribute_and_finalize=may_end_at_once(task),
    )
    return Step(replace(task, replicates=(*task.replicates, created(worker, weight, now))), (start,))


def may_end_at_once(task: Task) -> bool:
    """Whether the contract takes `contributeAndFinalize`: trust 1, and nobody has contributed so far.

    It is cheaper than the long way whenever it is allowed (docs/adr/0012-contribute-and-finalize.md).
    """
    return task.deal.trust <= 1 and all(r.result_hash is None for r in task.replicates)


def lose_worker(task: Task, worker: WorkerAddress, now: Timestamp) -> Step:
    """Nothing was heard of the worker for too long; its place goes to another one."""
    lost = _move(task, worker, Mover.POOL, S.WORKER_LOST, now)
    if lost is task:
        return Step(task, ignored="no replicate that could be lost")
    return _pursue(Step(lost), now)


def recover_worker(task: Task, worker: WorkerAddress, now: Timestamp, *, remembers: bool) -> Step:
    """The worker is back. With its journal intact it goes on by itself; without, its attempt has failed.

    One that has lost its journal is also told to stop: the order to start may still be on its way to it.
    """
    replicate = task.replicate_of(worker)
    if replicate is None or replicate.is_finished:
        return Step(task, ignored="no replicate to recover")
    if not remembers:
        closed = _close(task, worker, None, now, "the worker came back without its journal")
        stop = _abort(task, [replicate], AbortCause.CONTRIBUTION_TIMEOUT)
        return _pursue(Step(closed, tuple(stop)), now)
    if not replicate.is_lost:
        return Step(task, ignored="the replicate was not lost")
    recovered = _move(task, worker, Mover.POOL, S.RECOVERING, now)
    return _pursue(Step(recovered), now)


# Facts of the chain ----------------------------------------------------------------------------------


def _on_phase(before: Task, event: ChainFactEvent, after: Task, *effects: Effect) -> Step:
    """Accept `after` when the event may move the phase so; note the fact."""
    if PHASE_MOVES.get((before.phase, type(event))) is not after.phase:
        return Step(before, ignored=f"{type(event).__name__} does not apply in phase {before.phase}")
    return Step(_noted(after, event), effects)


def _noted(task: Task, event: ChainFactEvent) -> Task:
    return replace(task, facts=(*task.facts, _fact_of(event)))


def _is_known(task: Task, event: TaskEvent) -> bool:
    """Whether the event is a log of which the task keeps the fact."""
    name = _FACT_NAMES.get(type(event))
    return name is not None and any(
        fact.name == name
        and fact.at == event.at
        and fact.ref == getattr(event, "ref", None)
        and fact.worker == getattr(event, "worker", None)
        for fact in task.facts
    )


def _fact_of(event: ChainFactEvent) -> ChainFact:
    worker: WorkerAddress | None = getattr(event, "worker", None)
    return ChainFact(name=_FACT_NAMES[type(event)], at=event.at, ref=event.ref, worker=worker)


def _initialized(task: Task, event: ChainTaskInitialized) -> Step:
    return _on_phase(task, event, _settled(task, Submission.INITIALIZE, phase=_ACTIVE))


def _contributed(task: Task, event: ChainTaskContributed) -> Step:
    if task.phase is not Phase.ACTIVE:
        return Step(task, ignored=f"no contribution is possible in phase {task.phase}")
    replicate = task.replicate_of(event.worker)
    if replicate is not None and replicate.result_hash is not None:
        return Step(task, ignored="this worker's contribution is known")
    return Step(_noted(_with_contribution(task, event), event))


def _with_contribution(task: Task, event: ChainTaskContributed | ChainTaskContributedAndFinalized) -> Task:
    worker, weight = event.worker, event.weight
    before = task.replicate_of(worker)
    if before is None:  # authorized by us in a life that this store does not remember
        before = created(worker, weight, event.at)
        task = replace(task, replicates=(*task.replicates, before))
    after = moved(before, Mover.CHAIN, S.CONTRIBUTED, event.at) or before
    return _swapped(task, before, replace(after, result_hash=event.result_hash, weight=weight))


def _consensus_reached(task: Task, event: ChainTaskConsensusReached) -> Step:
    """Winners reveal; who has not contributed stops.

    Who has contributed something else keeps it until the task ends: after a reopen it may be the one who is
    right, and then has to reveal.
    """
    after = replace(
        task,
        phase=Phase.REVEALING,
        consensus=event.consensus,
        reveal_deadline=event.reveal_deadline,
    )
    reveals = [
        TellWorkerReveal(
            worker=r.worker, task_id=task.id, block=event.ref.block, deadline=event.reveal_deadline
        )
        for r in after.winners
        if not r.is_finished
    ]
    return _on_phase(task, event, after, *reveals, *_abort(task, task.to_stop, AbortCause.CONSENSUS_REACHED))


def _revealed(task: Task, event: ChainTaskRevealed) -> Step:
    replicate = task.replicate_of(event.worker)
    if task.phase is not _REVEALING or replicate not in task.winners or replicate.revealed:
        return Step(task, ignored="not a reveal that is still to come")
    after = moved(replicate, Mover.CHAIN, S.REVEALED, event.at) or replicate
    return Step(_noted(_swapped(task, replicate, replace(after, revealed=True)), event))


def _reopened(task: Task, event: ChainTaskReopened) -> Step:
    after = _settled(
        task,
        Submission.REOPEN,
        phase=_ACTIVE,
        consensus=None,
        reveal_deadline=None,
        uploaded=None,
        passed=task.passed - {Deadline.REVEAL},
    )
    unfinished = [r for r in task.winners if not r.is_finished]
    for loser in task.winners:
        after = _edit(_close(after, loser.worker, S.REVEAL_TIMEOUT, event.at), loser.worker, rejected=True)
    return _on_phase(task, event, after, *_abort(task, unfinished, AbortCause.CONSENSUS_REACHED))


def _finalized(task: Task, event: ChainTaskFinalized) -> Step:
    done = [r for r in task.winners if r.revealed and not r.is_finished]
    ended = replace(task, phase=Phase.COMPLETED, in_flight=None, setback=None, results=event.results)
    after, aborts = _dismiss(ended, AbortCause.CONSENSUS_REACHED, event.at, spare=done)
    completes = [TellWorkerComplete(worker=r.worker, task_id=task.id) for r in done]
    return _on_phase(task, event, after, *completes, *aborts)


def _contributed_and_finalized(task: Task, event: ChainTaskContributedAndFinalized) -> Step:
    """One worker has done it all, whatever its reports have reached; nobody is asked for anything more."""
    ended = replace(
        _with_contribution(task, event),
        phase=Phase.COMPLETED,
        consensus=event.result_hash,
        in_flight=None,
        setback=None,
        results=event.results,
    )
    ended = _edit(_move(ended, event.worker, Mover.CHAIN, S.REVEALED, event.at), event.worker, revealed=True)
    after, aborts = _dismiss(ended, AbortCause.CONSENSUS_REACHED, event.at, spare=ended.winners)
    complete = TellWorkerComplete(worker=event.worker, task_id=task.id)
    return _on_phase(task, event, after, complete, *aborts)


def _claimed(task: Task, event: ChainTaskClaimed) -> Step:
    ended = replace(task, phase=Phase.FAILED, in_flight=None, setback=None)
    after, aborts = _dismiss(ended, AbortCause.CONTRIBUTION_TIMEOUT, event.at, reason="the task was claimed")
    return _on_phase(task, event, after, *aborts)


def _settled(task: Task, submission: Submission, **changes: object) -> Task:
    """The task, changed so, once the log of a transaction has come: its failures are past."""
    in_flight = None if task.in_flight and task.in_flight.submission is submission else task.in_flight
    return replace(task, in_flight=in_flight, setback=None, **changes)


# Reports of workers ----------------------------------------------------------------------------------


def _reported(task: Task, event: WorkerReported) -> Step:
    """Believe what a worker alone can know; leave to the chain what the chain says."""
    if event.status in (S.CONTRIBUTED, S.REVEALED):
        return Step(task, ignored="the chain's log decides this, not a report")
    if event.status is S.COMPLETED and task.phase is not Phase.COMPLETED:
        return Step(task, ignored="the task is not finalized")
    replicate = task.replicate_of(event.worker)
    if replicate is None:
        return Step(task, ignored="this worker has no replicate of the task")
    cause, message = event.details.cause, event.details.message
    message = None if message is None else message[:MAX_EXPLANATION]
    after = _move(task, event.worker, Mover.WORKER, event.status, event.at, cause, message)
    if after is task and task.is_ended and event.status in FAREWELLS and not replicate.is_finished:
        # Told to stop before what was good news came, it has purged itself: nothing more is to be awaited.
        after = _close(task, event.worker, None, event.at, "the worker has stopped")
    if after is task:
        return Step(task, ignored=f"no move from {replicate.status} to {event.status}")
    if event.details.exit_code is not None:
        after = _edit(after, event.worker, exit_code=event.details.exit_code)
    if event.status in UNCOMPLETABLE:
        after = _close(after, event.worker, None, event.at)
    if event.status is S.RESULT_UPLOADED and task.phase is Phase.REVEALING and task.uploaded is None:
        return _to_verify(after, event)
    return Step(after)


def _went_on(task: Task, event: WorkerReported) -> Step:
    """The same for a report on the way, as most reports are: nothing is wanted because of it."""
    replicate = task.replicate_of(event.worker)
    if replicate is None:
        return Step(task, ignored="this worker has no replicate of the task")
    details = event.details
    message = None if details.message is None else details.message[:MAX_EXPLANATION]
    after = moved(replicate, _WORKER, event.status, event.at, details.cause, message)
    if after is None:
        return Step(task, ignored=f"no move from {replicate.status} to {event.status}")
    if details.exit_code is not None:
        after = replace(after, exit_code=details.exit_code)
    return Step(_swapped(task, replicate, after))


def _to_verify(task: Task, event: WorkerReported) -> Step:
    """Have the upload looked up; a callback that `finalize` would refuse is refused here."""
    callback = (event.details.callback or b"") if task.deal.has_callback else b""
    is_good = not task.deal.has_callback or task.consensus == result_hash(task.id, Hash32(keccak(callback)))
    if not is_good:
        cause = "the callback is not the one that was agreed on"
        return Step(_move(task, event.worker, Mover.POOL, S.RESULT_UPLOAD_FAILED, event.at, cause))
    link = event.details.result_link or ""
    replicate = task.replicate_of(event.worker)
    verify = VerifyUpload(
        task_id=task.id,
        worker=event.worker,
        link=link,
        callback=callback,
        attempt=replicate.uploads if replicate else 1,
    )
    return Step(task, (verify,))


# Uploads ---------------------------------------------------------------------------------------------


def _upload_verified(task: Task, event: UploadVerified) -> Step:
    if task.uploaded is not None:
        return Step(task, ignored="the result is in the repository already")
    replicate = task.replicate_of(event.worker)
    if task.phase is not Phase.REVEALING or replicate not in task.winners or not replicate.revealed:
        return Step(task, ignored="not an upload of this consensus")
    return Step(replace(task, uploaded=Uploaded(link=event.link, callback=event.callback)))


def _upload_missing(task: Task, worker: WorkerAddress, reason: str, now: Timestamp) -> Step:
    replicate = task.replicate_of(worker)
    if replicate is None or replicate.is_finished or replicate.reached is not S.RESULT_UPLOADED:
        return Step(task, ignored="no upload of this worker is awaited")
    after = _move(task, worker, Mover.POOL, S.RESULT_UPLOAD_FAILED, now, reason)
    if replicate.is_lost:
        after = _move(after, worker, Mover.POOL, S.WORKER_LOST, now)
    return Step(after)


def _awaited_uploaders(task: Task) -> list[Replicate]:
    """Who was asked for the result and has not said that it is there: one, or another one that began late."""
    if task.phase is not Phase.REVEALING or task.uploaded is not None:
        return []
    return [r for r in task.replicates if r.is_asked and r.reached is not S.RESULT_UPLOADED]


def _next_uploader(task: Task) -> Replicate | None:
    """Whom to ask for the result next: who has not been asked yet, else who may soonest be asked again."""
    if task.phase is not Phase.REVEALING or task.uploaded is not None or Deadline.FINAL in task.passed:
        return None
    for replicate in task.replicates:
        if replicate.is_asked:
            return None
    able = [r for r in task.winners if r.revealed and r.can_upload]
    if len(able) < 2:
        return able[0] if able else None
    return min(able, key=lambda r: (r.failed_uploads > 0, _may_upload_from(r)), default=None)


def _may_upload_from(replicate: Replicate) -> Timestamp:
    failures = replicate.failed_uploads
    if failures == 0:
        return replicate.since
    wait = min(UPLOAD_RETRY_SECONDS * 2 ** min(failures - 1, 8), MAX_UPLOAD_RETRY_SECONDS)
    return Timestamp(replicate.since + wait)


# Wishes ----------------------------------------------------------------------------------------------


def _pursue(step: Step, now: Timestamp) -> Step:
    """Ask for what the facts now call for and nobody has asked for yet: an upload, a transaction."""
    task, effects, ignored = step
    if task.is_ended:
        return step
    uploader = _next_uploader(task) if task.phase is _REVEALING else None
    if uploader is not None and (uploader.failed_uploads == 0 or now >= _may_upload_from(uploader)):
        task = _move(task, uploader.worker, Mover.POOL, S.RESULT_UPLOAD_REQUESTED, now)
        effects = (
            *effects,
            TellWorkerUpload(worker=uploader.worker, task_id=task.id, attempt=uploader.failed_uploads + 1),
        )
    wanted = _wanted(task, now)
    if task.setback is not None and task.setback.submission is not wanted:
        task = replace(task, setback=None)
    if wanted is None or _is_awaited(task, wanted):
        return step if task is step.task else Step(task, effects, ignored)
    failures = 0
    if task.setback is not None:
        if task.setback.retry_at is None or now < task.setback.retry_at:
            return Step(task, effects, ignored)
        failures = task.setback.failures
    attempt = task.submitted + 1
    submit = Submit(
        task_id=task.id,
        deal_id=task.deal.deal_id,
        index=task.index,
        submission=wanted,
        attempt=attempt,
        results=task.uploaded.link if task.uploaded and wanted is Submission.FINALIZE else "",
        callback=task.uploaded.callback if task.uploaded and wanted is Submission.FINALIZE else b"",
    )
    in_flight = InFlight(submission=wanted, attempt=attempt)
    task = replace(task, in_flight=in_flight, setback=None, submitted=attempt, failures=failures)
    return Step(task, (*effects, submit), ignored)


def _wanted(task: Task, now: Timestamp) -> Submission | None:
    """The transaction that would move the task on, if any (contract: what each call requires).

    Once nobody can contribute any more, neither `initialize` nor `reopen` would help: the claim is next.
    """
    if now >= task.final_deadline or _FINAL in task.passed:
        return Submission.INITIALIZE_AND_CLAIM if task.phase is Phase.RECEIVED else Submission.CLAIM
    if task.phase is _ACTIVE or task.is_ended:
        return None
    is_contributable = now < task.contribution_deadline and _CONTRIBUTION not in task.passed
    if task.phase is _RECEIVED:
        return Submission.INITIALIZE if is_contributable else None
    winners = task.winners
    revealed = sum([r.revealed for r in winners])
    if revealed == 0:
        return Submission.REOPEN if is_contributable and task.has_passed(_REVEAL, now) else None
    if task.uploaded is not None and (revealed == len(winners) or task.has_passed(_REVEAL, now)):
        return Submission.FINALIZE
    return None


def is_wanted(task: Task, submit: Submit, now: Timestamp) -> bool:
    """Whether a transaction that was asked for is still the one in flight, and would still help."""
    if task.in_flight != InFlight(submission=submit.submission, attempt=submit.attempt):
        return False
    wanted = _wanted(task, now)
    return wanted is not None and _is_awaited(task, wanted)


def _is_awaited(task: Task, wanted: Submission) -> bool:
    """Whether the transaction in flight is the wanted one, or does the same on its way."""
    if task.in_flight is None:
        return False
    flying = task.in_flight.submission
    return flying is wanted or (flying is Submission.INITIALIZE_AND_CLAIM and wanted is Submission.CLAIM)


def _submission_failed(task: Task, event: SubmissionFailed, now: Timestamp) -> Step:
    in_flight = task.in_flight
    if in_flight is None or in_flight.submission is not event.submission:
        return Step(task, ignored=f"{event.submission} is not in flight")
    if event.attempt is not None and event.attempt != in_flight.attempt:
        return Step(task, ignored=f"attempt {in_flight.attempt} is in flight, not {event.attempt}")
    failures = task.failures + 1
    retry_at = Timestamp(now + min(2**failures, MAX_RETRY_SECONDS)) if failures < MAX_TRIES else None
    setback = Setback(submission=event.submission, failures=failures, retry_at=retry_at, reason=event.reason)
    return Step(replace(task, in_flight=None, setback=setback))


def _deadlines(task: Task) -> tuple[tuple[Deadline, Timestamp], ...]:
    """The deadlines that matter in the task's phase."""
    final = (_FINAL, task.final_deadline)
    if task.phase is _ACTIVE:
        return final, (_CONTRIBUTION, task.contribution_deadline)
    if task.phase is _REVEALING and task.reveal_deadline is not None:
        return final, (_REVEAL, task.reveal_deadline)
    return (final,)


def _unpassed(task: Task, now: Timestamp) -> list[Deadline]:
    if task.is_ended:
        return []
    return [d for d, at in _deadlines(task) if d not in task.passed and now >= at]


# Replicates ------------------------------------------------------------------------------------------


def _abort(task: Task, replicates: Iterable[Replicate], cause: AbortCause) -> list[Effect]:
    return [TellWorkerAbort(worker=r.worker, task_id=task.id, cause=cause) for r in replicates]


def _dismiss(
    task: Task,
    cause: AbortCause,
    now: Timestamp,
    *,
    spare: Iterable[Replicate] = (),
    reason: str | None = None,
) -> tuple[Task, list[Effect]]:
    """Tell all others to stop; those from whom no answer is legal any more are closed at once."""
    dismissed = [r for r in task.replicates if not r.is_finished and r not in spare]
    aborts = _abort(task, dismissed, cause)
    for r in dismissed:
        if not r.may_report(S.ABORTED_ON_CONSENSUS_REACHED):
            task = _close(task, r.worker, None, now, reason)
    return task, aborts


def _swapped(task: Task, before: Replicate, after: Replicate) -> Task:
    """The task with one replicate in the place of another."""
    replicates = task.replicates
    if len(replicates) == 1:
        return replace(task, replicates=(after,))
    return replace(task, replicates=tuple([after if r is before else r for r in replicates]))


def _edit(task: Task, worker: WorkerAddress, **changes: object) -> Task:
    replicate = task.replicate_of(worker)
    return task if replicate is None else _swapped(task, replicate, replace(replicate, **changes))


def _move(
    task: Task,
    worker: WorkerAddress,
    mover: Mover,
    status: ReplicateStatus,
    now: Timestamp,
    cause: str | None = None,
    message: str | None = None,
) -> Task:
    """The task after one legal move of the worker's replicate; the same task when the move is not legal."""
    replicate = task.replicate_of(worker)
    after = None if replicate is None else moved(replicate, mover, status, now, cause, message)
    return task if replicate is None or after is None else _swapped(task, replicate, after)


def _close(
    task: Task,
    worker: WorkerAddress,
    verdict: ReplicateStatus | None,
    now: Timestamp,
    cause: str | None = None,
) -> Task:
    """End a replicate as FAILED, first noting the verdict that explains it."""
    if verdict is not None:
        task = _move(task, worker, Mover.POOL, verdict, now, cause)
    return _move(task, worker, Mover.POOL, S.FAILED, now, cause)
