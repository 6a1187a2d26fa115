"""One task: from the deal that bought it to its last log on the chain.

The phase is the chain's word and moves only on a confirmed log:

    RECEIVED ──TaskInitialize──► ACTIVE ──TaskConsensus──► REVEALING ──TaskFinalize──► COMPLETED
                                   ▲                          │
                                   └──────TaskReopen──────────┘    ACTIVE or REVEALING ──TaskClaimed──► FAILED

`step(task, event)` is pure and total. Each event first changes the facts; then `_pursue` derives from the
facts what is wanted now (a transaction, an upload) and asks for it, unless it is asked for already. So a wish
can neither be forgotten nor doubled, whatever the order of events. A new worker is not chosen here: the pool,
which knows the workers, asks `needs_worker` and calls `assign`.

Deadlines, with t the category's work clock: contributions before start + 7t, reveals before consensus + 2t,
everything before start + 10t; then anybody may claim. Source: contract IexecPoco2, reference `poco.md` 7.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, NamedTuple, assert_never

from poolwright.poco.consensus import more_needed
from poolwright.poco.deadlines import contribution_deadline, final_deadline
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
from poolwright.wire.statuses import UNCOMPLETABLE, Mover, ReplicateStatus, is_legal

S = ReplicateStatus

UPLOAD_SILENCE_SECONDS: Final = 120
"""A worker that was asked to upload and is silent for longer is passed over (reference 3.1, two minutes)."""
MAX_ATTEMPTS: Final = 8
"""Times that one transaction is tried; then the task waits for its deadline, and the operator is told."""


class Phase(StrEnum):
    """The task's state on the chain; RECEIVED is what the contract calls UNSET."""

    RECEIVED = "RECEIVED"
    ACTIVE = "ACTIVE"
    REVEALING = "REVEALING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


ENDED: Final = frozenset({Phase.COMPLETED, Phase.FAILED})

PHASE_MOVES: Final[dict[tuple[Phase, type[TaskEvent]], Phase]] = {
    (Phase.RECEIVED, ChainTaskInitialized): Phase.ACTIVE,  # initialize, by anybody
    (Phase.ACTIVE, ChainTaskConsensusReached): Phase.REVEALING,  # the contribution that convinced
    (Phase.REVEALING, ChainTaskReopened): Phase.ACTIVE,  # nobody revealed in time
    (Phase.REVEALING, ChainTaskFinalized): Phase.COMPLETED,  # closed and paid
    (Phase.ACTIVE, ChainTaskClaimed): Phase.FAILED,  # past the final deadline
    (Phase.REVEALING, ChainTaskClaimed): Phase.FAILED,  # past the final deadline
}
"""Every legal move of the phase; any other pair changes nothing."""


class Deadline(StrEnum):
    """The three deadlines of the contract."""

    CONTRIBUTION = "CONTRIBUTION"
    REVEAL = "REVEAL"
    FINAL = "FINAL"


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
    """A transaction failed, the `attempt`th time; tried again from `retry_at` on (None: no more)."""

    submission: Submission
    attempt: int
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
        return tuple(r for r in self.replicates if r.result_hash == self.consensus)

    def replicate_of(self, worker: WorkerAddress) -> Replicate | None:
        return next((r for r in self.replicates if r.worker == worker), None)


class Step(NamedTuple):
    """The task after an event, what to do about it, and, when nothing changed, why not."""

    task: Task
    effects: tuple[Effect, ...] = ()
    ignored: str | None = None


def opened(task_id: TaskId, index: int, deal: DealTerms, now: Timestamp) -> Step:
    """A task that a deal has just bought: first of all the chain must know it."""
    return _pursue(Step(Task(id=task_id, index=index, deal=deal)), now)


def step(task: Task, event: TaskEvent) -> Step:
    """Advance one task by one event. Total: what does not apply leaves the task as it is and says why."""
    if isinstance(event, WorkerReported):
        return _pursue(_reported(task, event), event.at)
    if task.is_ended:
        return Step(task, ignored=f"the task has ended: {task.phase}")
    match event:
        case ChainTaskInitialized():
            now_active = replace(task, phase=Phase.ACTIVE, in_flight=None, setback=None)
            result = _on_phase(task, event, now_active)
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
        case ChainTaskClaimed():
            result = _claimed(task, event)
        case UploadVerified(link=link, callback=callback):
            if task.uploaded is not None:
                return Step(task, ignored="the result is in the repository already")
            result = Step(replace(task, uploaded=Uploaded(link=link, callback=callback)))
        case UploadMissing(worker=worker, reason=reason):
            result = Step(_close(task, worker, S.RESULT_UPLOAD_FAILED, event.at, reason))
        case SubmissionFailed():
            result = _submission_failed(task, event)
        case _:
            assert_never(event)
    return result if result.ignored else _pursue(result, event.at)


def tick(task: Task, now: Timestamp) -> Step:
    """Act on every deadline that has passed by `now` (chain time)."""
    effects: list[Effect] = []
    for deadline in _unpassed(task, now):
        task = replace(task, passed=task.passed | {deadline})
        match deadline:
            case Deadline.CONTRIBUTION:
                expected = [r for r in task.replicates if r.is_expected]
                effects += _abort(task, expected, AbortCause.CONTRIBUTION_TIMEOUT)
            case Deadline.REVEAL:
                for late in task.winners:
                    if not late.revealed:
                        task = _close(task, late.worker, S.REVEAL_TIMEOUT, now)
            case Deadline.FINAL:
                pass  # what is wanted from now on is the claim
            case _:
                assert_never(deadline)
    silent = _silent_uploader(task, now)
    if silent is not None:
        asked = silent.reached is S.RESULT_UPLOAD_REQUESTED
        verdict = S.RESULT_UPLOAD_REQUEST_FAILED if asked else S.RESULT_UPLOAD_FAILED
        task = _close(task, silent.worker, verdict, now)
    return _pursue(Step(task, tuple(effects)), now)


def next_deadline(task: Task) -> Timestamp | None:
    """When `tick` has something to do, in chain time; None when only an event can move the task."""
    if task.is_ended:
        return None
    due = [at for deadline, at in _deadlines(task).items() if deadline not in task.passed]
    if task.setback is not None and task.setback.retry_at is not None and task.in_flight is None:
        due.append(task.setback.retry_at)
    uploader = _uploader(task)
    if uploader is not None and task.uploaded is None and uploader.reached is not S.RESULT_UPLOADED:
        due.append(Timestamp(uploader.since + UPLOAD_SILENCE_SECONDS))
    return min(due, default=None)


def needs_worker(task: Task, now: Timestamp) -> bool:
    """Whether one more contribution is needed, counting those still expected (contract: consensus)."""
    if task.phase is not Phase.ACTIVE or now >= task.contribution_deadline:
        return False
    groups: dict[Hash32, int] = {}
    for replicate in task.replicates:
        if replicate.result_hash is not None and not replicate.rejected:
            groups[replicate.result_hash] = groups.get(replicate.result_hash, 1) * replicate.weight
    expected = [replicate.weight for replicate in task.replicates if replicate.is_expected]
    return more_needed(groups, expected, task.deal.trust)


def assign(task: Task, worker: WorkerAddress, weight: int, now: Timestamp) -> Step:
    """Give the task to a worker that has not taken part in it."""
    start = TellWorkerStart(
        worker=worker,
        task_id=task.id,
        deal_id=task.deal.deal_id,
        index=task.index,
        block=task.facts[-1].ref.block,
    )
    return Step(replace(task, replicates=(*task.replicates, created(worker, weight, now))), (start,))


def lose_worker(task: Task, worker: WorkerAddress, now: Timestamp) -> Step:
    """Nothing was heard of the worker for too long; its place goes to another one."""
    lost = _move(task, worker, Mover.POOL, S.WORKER_LOST, now)
    if lost is task:
        return Step(task, ignored="no replicate that could be lost")
    return _pursue(Step(lost), now)


def recover_worker(task: Task, worker: WorkerAddress, now: Timestamp, *, remembers: bool) -> Step:
    """The worker is back. With its journal intact it goes on by itself; without, its attempt has failed."""
    replicate = task.replicate_of(worker)
    if replicate is None or replicate.is_finished:
        return Step(task, ignored="no replicate to recover")
    if not remembers:
        closed = _close(task, worker, None, now, "the worker came back without its journal")
        return _pursue(Step(closed), now)
    if not replicate.is_lost:
        return Step(task, ignored="the replicate was not lost")
    recovered = _move(task, worker, Mover.POOL, S.RECOVERING, now)
    return _pursue(Step(recovered), now)


# Facts of the chain ----------------------------------------------------------------------------------


def _on_phase(before: Task, event: TaskEvent, after: Task, *effects: Effect) -> Step:
    """Accept `after` when the event may move the phase so; note the fact."""
    if PHASE_MOVES.get((before.phase, type(event))) is not after.phase:
        return Step(before, ignored=f"{type(event).__name__} does not apply in phase {before.phase}")
    return Step(_noted(after, event), effects)


def _noted(task: Task, event: TaskEvent, worker: WorkerAddress | None = None) -> Task:
    ref: ChainRef = event.ref  # type: ignore[union-attr]  # only chain facts are noted
    name = type(event).__name__.removeprefix("Chain")
    return replace(task, facts=(*task.facts, ChainFact(name=name, at=event.at, ref=ref, worker=worker)))


def _contributed(task: Task, event: ChainTaskContributed) -> Step:
    replicate = task.replicate_of(event.worker)
    if replicate is not None and replicate.result_hash is not None:
        return Step(task, ignored="this worker's contribution is known")
    if replicate is None:  # authorized by us in a life that this store does not remember
        task = replace(task, replicates=(*task.replicates, created(event.worker, event.weight, event.at)))
    task = _move(task, event.worker, Mover.CHAIN, S.CONTRIBUTED, event.at)
    task = _edit(task, event.worker, result_hash=event.result_hash, weight=event.weight)
    return Step(_noted(task, event, event.worker))


def _consensus_reached(task: Task, event: ChainTaskConsensusReached) -> Step:
    after = replace(
        task,
        phase=Phase.REVEALING,
        consensus=event.consensus,
        reveal_deadline=event.reveal_deadline,
    )
    winners = [r for r in after.winners if not r.rejected]
    others = [r for r in after.replicates if r not in winners and not r.is_finished]
    reveals = [
        TellWorkerReveal(
            worker=r.worker, task_id=task.id, block=event.ref.block, deadline=event.reveal_deadline
        )
        for r in winners
    ]
    return _on_phase(task, event, after, *reveals, *_abort(task, others, AbortCause.CONSENSUS_REACHED))


def _revealed(task: Task, event: ChainTaskRevealed) -> Step:
    replicate = task.replicate_of(event.worker)
    if task.phase is not Phase.REVEALING or replicate is None or replicate.revealed:
        return Step(task, ignored="not a reveal that is still to come")
    task = _move(task, event.worker, Mover.CHAIN, S.REVEALED, event.at)
    return Step(_noted(_edit(task, event.worker, revealed=True), event, event.worker))


def _reopened(task: Task, event: ChainTaskReopened) -> Step:
    after = replace(
        task,
        phase=Phase.ACTIVE,
        consensus=None,
        reveal_deadline=None,
        uploaded=None,
        in_flight=None,
        setback=None,
        passed=task.passed - {Deadline.REVEAL},
    )
    for loser in task.winners:
        after = _edit(_close(after, loser.worker, S.REVEAL_TIMEOUT, event.at), loser.worker, rejected=True)
    return _on_phase(task, event, after)


def _finalized(task: Task, event: ChainTaskFinalized) -> Step:
    after = replace(task, phase=Phase.COMPLETED, in_flight=None, setback=None, results=event.results)
    done = [
        TellWorkerComplete(worker=r.worker, task_id=task.id)
        for r in task.winners
        if r.revealed and not r.is_finished
    ]
    return _on_phase(task, event, after, *done)


def _claimed(task: Task, event: ChainTaskClaimed) -> Step:
    after = replace(task, phase=Phase.FAILED, in_flight=None, setback=None)
    unfinished = [r for r in task.replicates if not r.is_finished]
    for replicate in unfinished:
        if not is_legal(Mover.WORKER, replicate.status, S.ABORTED_ON_CONTRIBUTION_TIMEOUT):
            after = _close(after, replicate.worker, None, event.at, "the task was claimed")
    return _on_phase(task, event, after, *_abort(task, unfinished, AbortCause.CONTRIBUTION_TIMEOUT))


# Reports of workers ----------------------------------------------------------------------------------


def _reported(task: Task, event: WorkerReported) -> Step:
    """Believe what a worker alone can know; leave to the chain what the chain says."""
    if event.status in (S.CONTRIBUTED, S.REVEALED):
        return Step(task, ignored="the chain's log decides this, not a report")
    replicate = task.replicate_of(event.worker)
    if replicate is None:
        return Step(task, ignored="this worker has no replicate of the task")
    after = _move(task, event.worker, Mover.WORKER, event.status, event.at, event.details.cause)
    if after is task:
        return Step(task, ignored=f"no move from {replicate.status} to {event.status}")
    if event.status in UNCOMPLETABLE:
        after = _close(after, event.worker, None, event.at)
    link = event.details.result_link
    if event.status is S.RESULT_UPLOADED and task.uploaded is None:
        callback = event.details.callback or b""
        verify = VerifyUpload(task_id=task.id, worker=event.worker, link=link or "", callback=callback)
        return Step(after, (verify,))
    return Step(after)


# Wishes ----------------------------------------------------------------------------------------------


def _pursue(step: Step, now: Timestamp) -> Step:
    """Ask for what the facts now call for and nobody has asked for yet: an upload, a transaction."""
    task, effects, ignored = step
    if task.is_ended:
        return step
    candidate = _upload_candidate(task)
    if candidate is not None:
        task = _move(task, candidate.worker, Mover.POOL, S.RESULT_UPLOAD_REQUESTED, now)
        effects = (*effects, TellWorkerUpload(worker=candidate.worker, task_id=task.id))
    wanted = _wanted(task, now)
    if wanted is None or (task.in_flight is not None and task.in_flight.submission is wanted):
        return Step(task, effects, ignored)
    attempt = 1
    if task.setback is not None and task.setback.submission is wanted:
        if task.setback.retry_at is None or now < task.setback.retry_at:
            return Step(task, effects, ignored)
        attempt = task.setback.attempt + 1
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
    return Step(replace(task, in_flight=in_flight, setback=None), (*effects, submit), ignored)


def _wanted(task: Task, now: Timestamp) -> Submission | None:
    """The transaction that would move the task on, if any (contract: what each call requires)."""
    if now >= task.final_deadline:
        return Submission.INITIALIZE_AND_CLAIM if task.phase is Phase.RECEIVED else Submission.CLAIM
    if task.phase is Phase.RECEIVED:
        return Submission.INITIALIZE
    if task.phase is not Phase.REVEALING or task.reveal_deadline is None:
        return None
    winners = [r for r in task.winners if not r.rejected]
    revealed = sum(r.revealed for r in winners)
    is_late = now >= task.reveal_deadline
    if revealed == 0:
        return Submission.REOPEN if is_late else None
    if task.uploaded is not None and (is_late or revealed == len(winners)):
        return Submission.FINALIZE
    return None


def _submission_failed(task: Task, event: SubmissionFailed) -> Step:
    in_flight = task.in_flight
    if in_flight is None or in_flight.submission is not event.submission:
        return Step(task, ignored=f"{event.submission} is not in flight")
    attempt = in_flight.attempt
    retry_at = Timestamp(event.at + min(2**attempt, 300)) if attempt < MAX_ATTEMPTS else None
    setback = Setback(submission=event.submission, attempt=attempt, retry_at=retry_at, reason=event.reason)
    return Step(replace(task, in_flight=None, setback=setback))


def _uploader(task: Task) -> Replicate | None:
    """The replicate that is to bring the result, if one has been asked."""
    asked = (S.RESULT_UPLOAD_REQUESTED, S.RESULT_UPLOADING, S.RESULT_UPLOADED)
    return next(
        (r for r in task.replicates if r.reached in asked and not r.is_lost and not r.is_finished), None
    )


def _upload_candidate(task: Task) -> Replicate | None:
    """Whom to ask for the result now: the first that has revealed and can answer."""
    if task.phase is not Phase.REVEALING or task.uploaded is not None or _uploader(task) is not None:
        return None
    return next((r for r in task.winners if r.revealed and r.can_upload), None)


def _silent_uploader(task: Task, now: Timestamp) -> Replicate | None:
    uploader = _uploader(task)
    if uploader is None or task.uploaded is not None or uploader.reached is S.RESULT_UPLOADED:
        return None
    return uploader if now >= uploader.since + UPLOAD_SILENCE_SECONDS else None


def _deadlines(task: Task) -> dict[Deadline, Timestamp]:
    """The deadlines that matter in the task's phase."""
    deadlines = {Deadline.FINAL: task.final_deadline}
    if task.phase is Phase.ACTIVE:
        deadlines[Deadline.CONTRIBUTION] = task.contribution_deadline
    if task.phase is Phase.REVEALING and task.reveal_deadline is not None:
        deadlines[Deadline.REVEAL] = task.reveal_deadline
    return deadlines


def _unpassed(task: Task, now: Timestamp) -> list[Deadline]:
    if task.is_ended:
        return []
    return [d for d, at in _deadlines(task).items() if d not in task.passed and now >= at]


# Replicates ------------------------------------------------------------------------------------------


def _abort(task: Task, replicates: Iterable[Replicate], cause: AbortCause) -> list[Effect]:
    return [TellWorkerAbort(worker=r.worker, task_id=task.id, cause=cause) for r in replicates]


def _edit(task: Task, worker: WorkerAddress, **changes: object) -> Task:
    edited = tuple(
        replace(r, **changes) if r.worker == worker else r  # type: ignore[arg-type]  # dataclasses.replace
        for r in task.replicates
    )
    return replace(task, replicates=edited)


def _move(
    task: Task,
    worker: WorkerAddress,
    mover: Mover,
    status: ReplicateStatus,
    now: Timestamp,
    cause: str | None = None,
) -> Task:
    """The task after one legal move of the worker's replicate; the same task when the move is not legal."""
    replicate = task.replicate_of(worker)
    after = None if replicate is None else moved(replicate, mover, status, now, cause)
    if after is None:
        return task
    others = tuple(after if r.worker == worker else r for r in task.replicates)
    return replace(task, replicates=others)


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
