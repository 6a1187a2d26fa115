"""What confirmed logs change in a task: its phase, and who has done what."""

from __future__ import annotations

from typing import Final, assert_never, get_args

from poolwright.poco.frozen import replace
from poolwright.poco.types import WorkerAddress
from poolwright.scheduler.effects import Effect, Submission, TellWorkerComplete, TellWorkerReveal
from poolwright.scheduler.events import (
    ChainTaskClaimed,
    ChainTaskConsensusReached,
    ChainTaskContributed,
    ChainTaskContributedAndFinalized,
    ChainTaskFinalized,
    ChainTaskInitialized,
    ChainTaskReopened,
    ChainTaskRevealed,
    TaskEvent,
)
from poolwright.scheduler.replicate import created, moved
from poolwright.scheduler.task_state import (
    ACTIVE,
    REVEALING,
    ChainFact,
    Deadline,
    Phase,
    S,
    Step,
    Task,
    abort,
    close,
    dismiss,
    edit,
    move,
    swapped,
)
from poolwright.wire.messages import AbortCause
from poolwright.wire.statuses import Mover

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


def learned(task: Task, event: ChainFactEvent) -> Step:
    """What a confirmed log changes; nothing the second time."""
    if _is_known(task, event):
        return Step(task, ignored="this log is known")
    match event:
        case ChainTaskInitialized():
            return _initialized(task, event)
        case ChainTaskContributed():
            return _contributed(task, event)
        case ChainTaskConsensusReached():
            return _consensus_reached(task, event)
        case ChainTaskRevealed():
            return _revealed(task, event)
        case ChainTaskReopened():
            return _reopened(task, event)
        case ChainTaskFinalized():
            return _finalized(task, event)
        case ChainTaskContributedAndFinalized():
            return _contributed_and_finalized(task, event)
        case ChainTaskClaimed():
            return _claimed(task, event)
        case _:
            assert_never(event)


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
    return _on_phase(task, event, _settled(task, Submission.INITIALIZE, phase=ACTIVE, is_over=event.is_over))


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
    return swapped(task, before, replace(after, result_hash=event.result_hash, weight=weight))


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
    return _on_phase(task, event, after, *reveals, *abort(task, task.to_stop, AbortCause.CONSENSUS_REACHED))


def _revealed(task: Task, event: ChainTaskRevealed) -> Step:
    replicate = task.replicate_of(event.worker)
    if task.phase is not REVEALING or replicate not in task.winners or replicate.revealed:
        return Step(task, ignored="not a reveal that is still to come")
    after = moved(replicate, Mover.CHAIN, S.REVEALED, event.at) or replicate
    return Step(_noted(swapped(task, replicate, replace(after, revealed=True)), event))


def _reopened(task: Task, event: ChainTaskReopened) -> Step:
    after = _settled(
        task,
        Submission.REOPEN,
        phase=ACTIVE,
        consensus=None,
        reveal_deadline=None,
        uploaded=None,
        passed=task.passed - {Deadline.REVEAL},
    )
    unfinished = [r for r in task.winners if not r.is_finished]
    for loser in task.winners:
        after = edit(close(after, loser.worker, S.REVEAL_TIMEOUT, event.at), loser.worker, rejected=True)
    return _on_phase(task, event, after, *abort(task, unfinished, AbortCause.CONSENSUS_REACHED))


def _finalized(task: Task, event: ChainTaskFinalized) -> Step:
    done = [r for r in task.winners if r.revealed and not r.is_finished]
    ended = replace(task, phase=Phase.COMPLETED, in_flight=None, setback=None, results=event.results)
    after, aborts = dismiss(ended, AbortCause.CONSENSUS_REACHED, event.at, spare=done)
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
    ended = edit(move(ended, event.worker, Mover.CHAIN, S.REVEALED, event.at), event.worker, revealed=True)
    after, aborts = dismiss(ended, AbortCause.CONSENSUS_REACHED, event.at, spare=ended.winners)
    complete = TellWorkerComplete(worker=event.worker, task_id=task.id)
    return _on_phase(task, event, after, complete, *aborts)


def _claimed(task: Task, event: ChainTaskClaimed) -> Step:
    ended = replace(task, phase=Phase.FAILED, in_flight=None, setback=None)
    after, aborts = dismiss(ended, AbortCause.CONTRIBUTION_TIMEOUT, event.at, reason="the task was claimed")
    return _on_phase(task, event, after, *aborts)


def _settled(task: Task, submission: Submission, **changes: object) -> Task:
    """The task, changed so, once the log of a transaction has come: its failures are past."""
    in_flight = None if task.in_flight and task.in_flight.submission is submission else task.in_flight
    return replace(task, in_flight=in_flight, setback=None, **changes)
