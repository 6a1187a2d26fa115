"""What a worker's report must be before it is kept: about a task of ours, from one who has a part in it, and
a step that its attempt can take.

The mind ignores every other report anyway; but what reaches the mind stands in the event log for good, so a
worker that talks nonsense would fill the disk as fast as it can talk. Here it is turned away before the log,
with a word for the metrics and a sentence for the operator. Most such reports are honest and late: the chain
told us first, or we have forgotten a task that ended long ago.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from poolwright.scheduler.events import WorkerReported
from poolwright.scheduler.pool import Pool
from poolwright.scheduler.task import Phase
from poolwright.wire.statuses import ABORTED, ReplicateStatus

MAX_LIFE: Final = 300
"""Statuses in the life of one attempt; a long one with hourly uploads that fail has some sixty."""

_CHAIN_DECIDES: Final = frozenset({ReplicateStatus.CONTRIBUTED, ReplicateStatus.REVEALED})


class Reason(StrEnum):
    """Why a report is not kept."""

    UNKNOWN_TASK = "unknown-task"
    NOT_ASSIGNED = "not-assigned"
    CHAIN_DECIDES = "chain-decides"
    IMPOSSIBLE_MOVE = "impossible-move"
    ENDLESS_ATTEMPT = "endless-attempt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Objection:
    """Why a report is not kept, for programs and for people."""

    reason: Reason
    message: str


def objection(pool: Pool, report: WorkerReported) -> Objection | None:
    """What speaks against keeping a report; None when the mind should hear it. Total."""
    task = pool.tasks.get(report.task_id)
    if task is None:
        return _objection(Reason.UNKNOWN_TASK, f"task {report.task_id} is not one that this pool keeps")
    replicate = task.replicate_of(report.worker)
    if replicate is None:
        return _objection(Reason.NOT_ASSIGNED, f"task {task.id} was never given to worker {report.worker}")
    if report.status in _CHAIN_DECIDES:
        return _objection(Reason.CHAIN_DECIDES, f"{report.status} is believed when the chain's log says so")
    if len(replicate.life) >= MAX_LIFE:
        return _objection(
            Reason.ENDLESS_ATTEMPT,
            f"the attempt at {task.id}: expected at most {MAX_LIFE} statuses, got {report.status} after them",
        )
    if replicate.is_lost:
        return None  # the mind hears first that the worker is back
    if report.status is ReplicateStatus.COMPLETED and task.phase is not Phase.COMPLETED:
        return _objection(Reason.IMPOSSIBLE_MOVE, f"task {task.id} is {task.phase}, not finalized")
    has_stopped = task.is_ended and report.status in ABORTED and not replicate.is_finished
    if not has_stopped and not replicate.may_report(report.status):
        return _objection(
            Reason.IMPOSSIBLE_MOVE, f"task {task.id}: no move from {replicate.status} to {report.status}"
        )
    return None


def _objection(reason: Reason, message: str) -> Objection:
    return Objection(reason=reason, message=message)
