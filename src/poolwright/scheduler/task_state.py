"""What is known of one task, and how its parts are changed.

A task is a value: each change makes a new one that shares what is the same. `task` says what events do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from poolwright.poco.deadlines import contribution_deadline, final_deadline
from poolwright.poco.frozen import replace
from poolwright.poco.types import Hash32, TaskId, Timestamp, WorkerAddress
from poolwright.scheduler.effects import Effect, Submission, TellWorkerAbort
from poolwright.scheduler.events import ChainRef, DealTerms
from poolwright.scheduler.replicate import Replicate, moved
from poolwright.wire.messages import AbortCause
from poolwright.wire.statuses import Mover, ReplicateStatus

S = ReplicateStatus


class Phase(StrEnum):
    """The task's state on the chain; RECEIVED is what the contract calls UNSET."""

    RECEIVED = "RECEIVED"
    ACTIVE = "ACTIVE"
    REVEALING = "REVEALING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


ENDED: Final = frozenset({Phase.COMPLETED, Phase.FAILED})


class Deadline(StrEnum):
    """The three deadlines of the contract."""

    CONTRIBUTION = "CONTRIBUTION"
    REVEAL = "REVEAL"
    FINAL = "FINAL"


# Looked at for each event: by these names, as finding a member in its class takes five times as long.
WORKER: Final = Mover.WORKER
COMPUTING: Final = S.COMPUTING
RECEIVED: Final = Phase.RECEIVED
ACTIVE: Final = Phase.ACTIVE
REVEALING: Final = Phase.REVEALING
CONTRIBUTION: Final = Deadline.CONTRIBUTION
REVEAL: Final = Deadline.REVEAL
FINAL: Final = Deadline.FINAL


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
    is_over: bool = False
    """The chain has ended it, and the log of that is still to be read: nobody is to begin with it."""
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
        return deadline in self.passed or any(d is deadline and now >= at for d, at in deadlines_of(self))

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


def deadlines_of(task: Task) -> tuple[tuple[Deadline, Timestamp], ...]:
    """The deadlines that matter in the task's phase."""
    final = (FINAL, task.final_deadline)
    if task.phase is ACTIVE:
        return final, (CONTRIBUTION, task.contribution_deadline)
    if task.phase is REVEALING and task.reveal_deadline is not None:
        return final, (REVEAL, task.reveal_deadline)
    return (final,)


def unpassed(task: Task, now: Timestamp) -> list[Deadline]:
    if task.is_ended:
        return []
    return [d for d, at in deadlines_of(task) if d not in task.passed and now >= at]


# Replicates ------------------------------------------------------------------------------------------


def abort(task: Task, replicates: Iterable[Replicate], cause: AbortCause) -> list[Effect]:
    return [TellWorkerAbort(worker=r.worker, task_id=task.id, cause=cause) for r in replicates]


def dismiss(
    task: Task,
    cause: AbortCause,
    now: Timestamp,
    *,
    spare: Iterable[Replicate] = (),
    reason: str | None = None,
) -> tuple[Task, list[Effect]]:
    """Tell all others to stop; those from whom no answer is legal any more are closed at once."""
    dismissed = [r for r in task.replicates if not r.is_finished and r not in spare]
    aborts = abort(task, dismissed, cause)
    for r in dismissed:
        if not r.may_report(S.ABORTED_ON_CONSENSUS_REACHED):
            task = close(task, r.worker, None, now, reason)
    return task, aborts


def swapped(task: Task, before: Replicate, after: Replicate) -> Task:
    """The task with one replicate in the place of another."""
    replicates = task.replicates
    if len(replicates) == 1:
        return replace(task, replicates=(after,))
    return replace(task, replicates=tuple([after if r is before else r for r in replicates]))


def edit(task: Task, worker: WorkerAddress, **changes: object) -> Task:
    replicate = task.replicate_of(worker)
    return task if replicate is None else swapped(task, replicate, replace(replicate, **changes))


def move(
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
    return task if replicate is None or after is None else swapped(task, replicate, after)


def close(
    task: Task,
    worker: WorkerAddress,
    verdict: ReplicateStatus | None,
    now: Timestamp,
    cause: str | None = None,
) -> Task:
    """End a replicate as FAILED, first noting the verdict that explains it."""
    if verdict is not None:
        task = move(task, worker, Mover.POOL, verdict, now, cause)
    return move(task, worker, Mover.POOL, S.FAILED, now, cause)
