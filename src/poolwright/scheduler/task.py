"""One task: from the deal that bought it to its last log on the chain.

The phase is the chain's word and moves only on a confirmed log:

    RECEIVED ──TaskInitialize──► ACTIVE ──TaskConsensus──► REVEALING ──TaskFinalize──► COMPLETED
                                   ▲                          │
                                   └──────TaskReopen──────────┘    ACTIVE or REVEALING ──TaskClaimed──► FAILED

A task of trust 1 may go from ACTIVE to COMPLETED in one transaction of its worker, `contributeAndFinalize`.

`step(task, event)` is pure and total. Each event first changes the facts (logs in `task_chain`, words of
workers in `task_reports`); then `task_wishes.pursue` derives from the facts what is wanted now (a
transaction, an upload) and asks for it, unless it is asked for already. So a wish can neither be forgotten
nor doubled, whatever the order of events. A new worker is not chosen here: the pool, which knows the workers,
asks `needs_worker` and calls `assign`.

Deadlines, with t the category's work clock: contributions before start + 7t, reveals before consensus + 2t,
everything before start + 10t; then anybody may claim. Source: contract IexecPoco2, reference `poco.md` 7.
"""

from __future__ import annotations

from typing import Final, assert_never

from poolwright.poco.consensus import more_needed
from poolwright.poco.frozen import replace
from poolwright.poco.types import Hash32, TaskId, Timestamp, WorkerAddress
from poolwright.scheduler.effects import Effect, TellWorkerStart
from poolwright.scheduler.events import (
    DealTerms,
    SubmissionFailed,
    TaskEvent,
    UploadMissing,
    UploadVerified,
    WorkerReported,
)
from poolwright.scheduler.replicate import Replicate, created
from poolwright.scheduler.task_chain import PHASE_MOVES, ChainFactEvent, learned
from poolwright.scheduler.task_reports import ON_THE_WAY, reported, upload_missing, upload_verified, went_on
from poolwright.scheduler.task_state import (
    ACTIVE,
    COMPUTING,
    ENDED,
    REVEALING,
    ChainFact,
    Deadline,
    InFlight,
    Phase,
    S,
    Setback,
    Step,
    Task,
    Uploaded,
    abort,
    close,
    deadlines_of,
    move,
    swapped,
    unpassed,
)
from poolwright.scheduler.task_wishes import (
    MAX_TRIES,
    UPLOAD_RETRY_SECONDS,
    UPLOAD_SILENCE_SECONDS,
    awaited_uploaders,
    is_wanted,
    may_upload_from,
    next_uploader,
    pursue,
    submission_failed,
)
from poolwright.wire.messages import AbortCause
from poolwright.wire.statuses import Mover

__all__ = [
    "ChainFact",
    "ChainFactEvent",
    "ENDED",
    "Deadline",
    "InFlight",
    "MAX_TRIES",
    "ON_THE_WAY",
    "PHASE_MOVES",
    "Phase",
    "Setback",
    "Step",
    "Task",
    "UPLOAD_RETRY_SECONDS",
    "UPLOAD_SILENCE_SECONDS",
    "Uploaded",
    "assign",
    "is_wanted",
    "lose_worker",
    "may_end_at_once",
    "needs_worker",
    "next_deadline",
    "opened",
    "recover_worker",
    "step",
    "tick",
]

MIN_PATIENCE_SECONDS: Final = 60


def opened(task_id: TaskId, index: int, deal: DealTerms, now: Timestamp) -> Step:
    """A task that a deal has just bought: first of all the chain must know it."""
    return pursue(Step(Task(id=task_id, index=index, deal=deal)), now)


def step(task: Task, event: TaskEvent, now: Timestamp | None = None) -> Step:
    """Advance one task by one event. Total: what does not apply leaves the task as it is and says why.

    `now` is the latest chain time known, when that is later than the event: what is asked for is asked now.
    """
    if isinstance(event, WorkerReported) and event.status in ON_THE_WAY:
        return went_on(task, event)
    now = event.at if now is None else max(now, event.at)
    if isinstance(event, WorkerReported):
        result = reported(task, event)
        return result if result.ignored else pursue(result, now)
    if task.is_ended:
        return Step(task, ignored=f"the task has ended: {task.phase}")
    match event:
        case UploadVerified():
            result = upload_verified(task, event)
        case UploadMissing(worker=worker, reason=reason):
            result = upload_missing(task, worker, reason, now)
        case SubmissionFailed():
            result = submission_failed(task, event, now)
        case _:
            result = learned(task, event)
    return result if result.ignored else pursue(result, now)


def tick(task: Task, now: Timestamp) -> Step:
    """Act on every deadline that has passed by `now` (chain time)."""
    effects: list[Effect] = []
    for deadline in unpassed(task, now):
        task = replace(task, passed=task.passed | {deadline})
        match deadline:
            case Deadline.CONTRIBUTION:
                effects += abort(task, task.to_stop, AbortCause.CONTRIBUTION_TIMEOUT)
            case Deadline.REVEAL:
                late = [r for r in task.winners if not r.revealed]
                effects += abort(task, late, AbortCause.CONSENSUS_REACHED)
                for replicate in late:
                    task = close(task, replicate.worker, S.REVEAL_TIMEOUT, now)
            case Deadline.FINAL:
                pass  # what is wanted from now on is the claim
            case _:
                assert_never(deadline)
    for slow in _cover_from(task):
        if now >= slow[0]:
            task = swapped(task, slow[1], replace(slow[1], is_covered=True))
    for silent in awaited_uploaders(task):
        if now < silent.since + UPLOAD_SILENCE_SECONDS:
            continue
        is_unanswered = silent.reached is S.RESULT_UPLOAD_REQUESTED
        verdict = S.RESULT_UPLOAD_REQUEST_FAILED if is_unanswered else S.RESULT_UPLOAD_FAILED
        task = move(task, silent.worker, Mover.POOL, verdict, now, "no answer for two minutes")
    return pursue(Step(task, tuple(effects)), now)


def next_deadline(task: Task) -> Timestamp | None:
    """When `tick` has something to do, in chain time; None when only an event can move the task."""
    if task.is_ended:
        return None
    due = [at for deadline, at in deadlines_of(task) if deadline not in task.passed]
    if task.setback is not None and task.setback.retry_at is not None:
        due.append(task.setback.retry_at)
    if task.phase is ACTIVE:
        due += [at for at, _ in _cover_from(task)]
    elif task.phase is REVEALING and task.uploaded is None:
        due += [Timestamp(r.since + UPLOAD_SILENCE_SECONDS) for r in awaited_uploaders(task)]
        again = next_uploader(task)
        if again is not None:
            due.append(may_upload_from(again))
    return min(due, default=None)


def _cover_from(task: Task) -> list[tuple[Timestamp, Replicate]]:
    """From when on each replicate at work counts as slow: another worker gets its place in the forecast.

    An app may compute for one unit of the work clock, and is then ended by its worker; half a unit is enough
    for any other step. So a worker that hangs is covered with most of the seven units left. Who only computes
    for long is not: a second one would not be faster.
    """
    if task.phase is not ACTIVE:
        return []
    unit, last = task.deal.timeref, task.contribution_deadline
    found = []
    for replicate in task.replicates:
        if replicate.is_expected:
            patience = unit if replicate.reached is COMPUTING else unit // 2
            at = replicate.life[-1].at + max(patience, MIN_PATIENCE_SECONDS)
            if at < last:
                found.append((Timestamp(at), replicate))
    return found


def needs_worker(task: Task, now: Timestamp) -> bool:
    """Whether one more contribution is needed, counting those still expected (contract: consensus).

    The contract looks for consensus only right after a contribution, in that contribution's group. So a group
    that a reopen leaves heavy enough has not won: with nobody at work somebody must contribute once more.
    """
    if task.phase is not ACTIVE or task.is_over or now >= task.contribution_deadline:
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
    lost = move(task, worker, Mover.POOL, S.WORKER_LOST, now)
    if lost is task:
        return Step(task, ignored="no replicate that could be lost")
    return pursue(Step(lost), now)


def recover_worker(task: Task, worker: WorkerAddress, now: Timestamp, *, remembers: bool) -> Step:
    """The worker is back. With its journal intact it goes on by itself; without, its attempt has failed.

    One that has lost its journal is also told to stop: the order to start may still be on its way to it.
    """
    replicate = task.replicate_of(worker)
    if replicate is None or replicate.is_finished:
        return Step(task, ignored="no replicate to recover")
    if not remembers:
        closed = close(task, worker, None, now, "the worker came back without its journal")
        stop = abort(task, [replicate], AbortCause.CONTRIBUTION_TIMEOUT)
        return pursue(Step(closed, tuple(stop)), now)
    if not replicate.is_lost:
        return Step(task, ignored="the replicate was not lost")
    recovered = move(task, worker, Mover.POOL, S.RECOVERING, now)
    return pursue(Step(recovered), now)
