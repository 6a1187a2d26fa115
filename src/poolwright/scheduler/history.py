"""A task's statuses in the words of its read API, derived from its facts (reference: scheduler-worker.md 4).

A task keeps chain facts and the lives of its replicates; the status that people and clients read is a story
told about them, and nothing decides by it:

    RECEIVED                  the deal                    AT_LEAST_ONE_REVEALED  the first reveal
    INITIALIZED               TaskInitialize              RESULT_UPLOAD_REQUESTED, RESULT_UPLOADING,
    RUNNING                   the first replicate         RESULT_UPLOADED        the replicate that uploads
    CONSENSUS_REACHED         TaskConsensus               FINALIZED, COMPLETED   TaskFinalize
    REOPENED, INITIALIZED     TaskReopen                  FINAL_DEADLINE_REACHED, FAILED  TaskClaimed

and FINALIZED, COMPLETED at once when one worker ends the task in its only transaction.

A worker's clock and a block's time may disagree by seconds; the order of the story is the order of the list,
and a date is never before the one above it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from poolwright.poco.types import Timestamp
from poolwright.scheduler.events import ChainRef
from poolwright.scheduler.task import ChainFact, Task
from poolwright.wire.statuses import ReplicateStatus

_UPLOADS: Final = (
    ReplicateStatus.RESULT_UPLOAD_REQUESTED,
    ReplicateStatus.RESULT_UPLOADING,
    ReplicateStatus.RESULT_UPLOADED,
)
_FACT_TO_STATUSES: Final = {
    "TaskInitialized": ("INITIALIZED",),
    "TaskConsensusReached": ("CONSENSUS_REACHED",),
    "TaskRevealed": ("AT_LEAST_ONE_REVEALED",),
    "TaskReopened": ("REOPENED", "INITIALIZED"),
    "TaskFinalized": ("FINALIZED", "COMPLETED"),
    "TaskContributedAndFinalized": ("FINALIZED", "COMPLETED"),
    "TaskClaimed": ("FINAL_DEADLINE_REACHED", "FAILED"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The task entered `status` at chain time `at`; `ref` is the transaction that made it so."""

    status: str
    at: Timestamp
    ref: ChainRef | None = None


def history(task: Task) -> tuple[Moment, ...]:
    """All statuses of a task, the present one last; never empty."""
    told = [Moment(status="RECEIVED", at=task.deal.start_time)]
    for moment in _moments(task):
        told.append(Moment(status=moment.status, at=max(moment.at, told[-1].at), ref=moment.ref))
    return tuple(told)


def _moments(task: Task) -> Iterator[Moment]:
    """What follows the deal, round by round; a reopened task has another round."""
    for place, fact in enumerate(task.facts):
        if fact.name == "TaskRevealed" and _is_revealed(task.facts[:place]):
            continue
        for status in _FACT_TO_STATUSES.get(fact.name, ()):
            yield Moment(status=status, at=fact.at, ref=fact.ref)
            if status == "INITIALIZED":
                yield from _running(task, fact, place)
            if status == "AT_LEAST_ONE_REVEALED":
                yield from _uploading(task, fact)


def _is_revealed(earlier: tuple[ChainFact, ...]) -> bool:
    """Whether somebody has revealed since the last consensus."""
    since = takewhile(lambda fact: fact.name != "TaskConsensusReached", reversed(earlier))
    return any(fact.name == "TaskRevealed" for fact in since)


def _running(task: Task, start: ChainFact, place: int) -> Iterator[Moment]:
    """The round's first replicate, when it has one."""
    reopenings = [fact.at for fact in task.facts[place + 1 :] if fact.name == "TaskReopened"]
    since = start.at if start.name == "TaskReopened" else Timestamp(0)
    given = [replicate.life[0].at for replicate in task.replicates]
    in_round = [at for at in given if since <= at and all(at < end for end in reopenings)]
    if in_round:
        yield Moment(status="RUNNING", at=min(in_round))


def _uploading(task: Task, revealed: ChainFact) -> Iterator[Moment]:
    """How far the upload of the result has come, by its first replicate to get there."""
    for status in _UPLOADS:
        reached = [stage.at for one in task.replicates for stage in one.life if stage.status is status]
        if reached:
            yield Moment(status=status.value, at=min(reached))
