"""A task's life told again from the event log: each event, what it moved, what was asked for because of it.

The log keeps events and effects, not states. So the story is found by living the task's life once more, with
the same pure steps (`scheduler.task`) that led the live one, through those events that concern it: its own,
and of the pool's those that reach into it (the deal, its workers' coming and going, deadlines). Which worker
it was given to was the pool's choice among all tasks; that stands in the log as the effect TellWorkerStart.
That the life told is the life lived is a property test (`tests/property/test_stories.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from poolwright.poco import ids
from poolwright.poco.types import Hash32, TaskId, Timestamp, WorkerAddress
from poolwright.scheduler import task as tasks
from poolwright.scheduler.effects import Effect, TellWorkerAbort, TellWorkerStart
from poolwright.scheduler.events import (
    ChainDealMatched,
    ChainRef,
    OperatorAllowedWorker,
    OperatorDrainedWorker,
    OperatorNamedOwner,
    OperatorResumedWorker,
    OperatorSetRules,
    PoolEvent,
    TaskEvent,
    Tick,
    WorkerConnected,
    WorkerReported,
    WorkerWentSilent,
)
from poolwright.scheduler.task import Task

UNKNOWN_WEIGHT = 1
"""A worker's weight is the pool's knowledge; a story does not need it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One event of the log with the effects that its step asked for about this task.

    `now` is the latest chain time that the pool knew by then.
    """

    number: int
    event: PoolEvent
    now: Timestamp
    effects: tuple[Effect, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """The task (`worker` None: its phase) or an attempt went from one status to the next."""

    worker: WorkerAddress | None
    before: str | None
    after: str
    cause: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """One event of the task's life, what it changed, or why it changed nothing."""

    number: int
    event: PoolEvent
    moves: tuple[Move, ...]
    effects: tuple[Effect, ...]
    ignored: str | None = None

    @property
    def at(self) -> Timestamp:
        return self.event.at

    @property
    def ref(self) -> ChainRef | None:
        """Where on the chain the event stands, if it is a fact of the chain."""
        ref: ChainRef | None = getattr(self.event, "ref", None)
        return ref

    @property
    def worker(self) -> WorkerAddress | None:
        """The worker that the event is about."""
        worker: WorkerAddress | None = getattr(self.event, "worker", None)
        return worker


class Retelling:
    """One task's life, told event by event; `task` is where it stands."""

    def __init__(self, task_id: TaskId) -> None:
        self._task_id = task_id
        self._journals: dict[WorkerAddress, Hash32] = {}
        self._silent: set[WorkerAddress] = set()
        self.task: Task | None = None

    def tell(self, entry: Entry) -> Chapter | None:
        """The chapter of an event; None when it does not concern the task."""
        before = self.task
        ignored = self._live(entry)
        for effect in entry.effects:
            if isinstance(effect, TellWorkerStart) and self.task is not None:
                self.task = tasks.assign(self.task, effect.worker, UNKNOWN_WEIGHT, entry.now).task
        moves = moves_between(before, self.task)
        is_ours = getattr(entry.event, "task_id", None) == self._task_id
        if not (is_ours or moves or entry.effects):
            return None
        return Chapter(
            number=entry.number, event=entry.event, moves=moves, effects=entry.effects, ignored=ignored
        )

    def _live(self, entry: Entry) -> str | None:
        """Let the event happen to the task, as `pool.step` routes it; why it changed nothing, if so."""
        event, now = entry.event, entry.now
        match event:
            case ChainDealMatched():
                self._open(event, now)
            case WorkerConnected(worker=worker, journal=journal):
                is_another = self._journals.get(worker, journal) != journal
                remembers = not is_another and not _is_told_to_stop(worker, entry.effects)
                self._journals[worker] = journal
                self._silent.discard(worker)
                self._advance(lambda task: tasks.recover_worker(task, worker, now, remembers=remembers))
            case WorkerWentSilent(worker=worker):
                self._silent.add(worker)
                self._advance(lambda task: tasks.lose_worker(task, worker, now))
            case Tick():
                due = tasks.next_deadline(self.task) if self.task else None
                if due is not None and due <= now:
                    self._advance(lambda task: tasks.tick(task, now))
            case (
                OperatorSetRules()
                | OperatorDrainedWorker()
                | OperatorResumedWorker()
                | OperatorAllowedWorker()
                | OperatorNamedOwner()
            ):
                pass  # it moves no task
            case _:
                return self._hear(event, now)
        return None

    def _open(self, event: ChainDealMatched, now: Timestamp) -> None:
        terms = event.terms
        for index in range(terms.bot_first, terms.bot_first + terms.bot_size):
            if self.task is None and ids.task_id(terms.deal_id, index) == self._task_id:
                self.task = tasks.opened(self._task_id, index, terms, now).task

    def _hear(self, event: TaskEvent, now: Timestamp) -> str | None:
        if self.task is None or event.task_id != self._task_id:
            return None if self.task else "the task is not one that this pool keeps"
        if isinstance(event, WorkerReported) and event.worker in self._silent:
            self._silent.discard(event.worker)
            self._advance(lambda task: tasks.recover_worker(task, event.worker, now, remembers=True))
        return self._advance(lambda task: tasks.step(task, event, now))

    def _advance(self, step: Callable[[Task], tasks.Step]) -> str | None:
        if self.task is None:
            return None
        result = step(self.task)
        self.task = result.task
        return result.ignored


def moves_between(before: Task | None, after: Task | None) -> tuple[Move, ...]:
    """What changed: the phase first, then each attempt's new statuses, one by one."""
    if after is None or after is before:
        return ()
    moves: list[Move] = []
    if before is None or before.phase is not after.phase:
        moves.append(Move(worker=None, before=before.phase if before else None, after=after.phase))
    for replicate in after.replicates:
        known = before.replicate_of(replicate.worker) if before else None
        told = len(known.life) if known else 0
        for number in range(told, len(replicate.life)):
            stage = replicate.life[number]
            moves.append(
                Move(
                    worker=replicate.worker,
                    before=replicate.life[number - 1].status if number else None,
                    after=stage.status,
                    cause=stage.cause,
                    message=stage.message,
                )
            )
    return tuple(moves)


def _is_told_to_stop(worker: WorkerAddress, effects: Sequence[Effect]) -> bool:
    """One that came back without its journal is told to stop; the log of before may not tell its journal."""
    return any(isinstance(effect, TellWorkerAbort) and effect.worker == worker for effect in effects)
