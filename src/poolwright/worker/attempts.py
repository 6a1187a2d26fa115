"""All attempts of one worker: the worker's mind.

`step` routes an event to its attempt. An attempt is forgotten once its task is purged; what came of it stands
in the event log. How many containers run side by side is bounded by the hands that run them; the scheduler
hands out no more than the worker offers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, assert_never

from poolwright.poco.types import TaskId
from poolwright.wire.messages import Abort, Complete, Details, Reveal, Start, Upload
from poolwright.wire.statuses import ReplicateStatus
from poolwright.worker import attempt as attempt_
from poolwright.worker.attempt import Attempt, Stage
from poolwright.worker.effects import Effect, Purge, Report
from poolwright.worker.events import Event, SchedulerInstructed


@dataclass(slots=True, kw_only=True)
class Attempts:
    """State of the worker; changed only by `step`, which swaps one frozen entry."""

    by_task: dict[TaskId, Attempt] = field(default_factory=dict)


class Step(NamedTuple):
    """What to do after an event, and, when it changed nothing, why not."""

    effects: tuple[Effect, ...] = ()
    ignored: str | None = None


def step(attempts: Attempts, event: Event) -> Step:
    """Tell the worker one fact. Total: what does not apply changes nothing and says why."""
    known = attempts.by_task.get(event.task_id)
    if known is None:
        return _unknown_task(attempts, event)
    result = attempt_.step(known, event)
    if result.attempt.stage is Stage.PURGED:
        del attempts.by_task[event.task_id]
    else:
        attempts.by_task[event.task_id] = result.attempt
    return Step(result.effects, result.ignored)


def is_wanted(attempts: Attempts, effect: Effect) -> bool:
    """Whether an effect that waited, or that a crash interrupted, is still to be done.

    Work on a task that is purged, or being purged, is not: a container would run for nobody, and what was
    contributed could never be revealed, its result being gone. (A transaction that was sent already is in the
    sender's journal, which sees it through.) Reports are owed all the same, and so is the purge.
    """
    if isinstance(effect, Report | Purge):
        return True
    attempt = attempts.by_task.get(effect.task_id)
    return attempt is not None and attempt.stage is not Stage.PURGING


def _unknown_task(attempts: Attempts, event: Event) -> Step:
    if isinstance(event, attempt_.LEAVES_TRACES):
        return Step((Purge(task_id=event.task_id),))  # it ended after the purge
    if not isinstance(event, SchedulerInstructed):
        return Step(ignored="the task was purged")
    match event.instruction:
        case Start() as start:
            begun = attempt_.begun(start)
            attempts.by_task[event.task_id] = begun.attempt
            return Step(begun.effects)
        case Complete():
            answer = _answer(event, ReplicateStatus.COMPLETED)
        case Abort(cause=cause):
            answer = _answer(event, attempt_.ABORTED_ON[cause])
        case Reveal():
            answer = _answer(event, ReplicateStatus.CANT_REVEAL)
        case Upload():
            answer = _answer(event, ReplicateStatus.RESULT_UPLOAD_FAILED)
        case _:
            assert_never(event.instruction)
    return Step((answer,))


def _answer(event: SchedulerInstructed, status: ReplicateStatus) -> Report:
    """What to say about a task of which nothing is kept, so that the scheduler does not wait in vain.

    No count of reports is kept either; one per status and task tells them apart, below those of an attempt.
    """
    number = -1 - list(ReplicateStatus).index(status)
    details = Details(message="this worker keeps nothing of the task")
    return Report(task_id=event.task_id, status=status, number=number, details=details)
