"""The two minds in the form that the runner drives: how each steps, and how its state becomes a snapshot."""

from __future__ import annotations

from dataclasses import dataclass

from poolwright.daemons.mind import Step
from poolwright.poco.errors import InvariantBroken
from poolwright.poco.types import Timestamp
from poolwright.scheduler import effects as scheduler_effects
from poolwright.scheduler import events as scheduler_events
from poolwright.scheduler import invariants, pool
from poolwright.scheduler.pool import Pool, Worker
from poolwright.scheduler.task import Task
from poolwright.wire import codec
from poolwright.worker import attempts
from poolwright.worker import effects as worker_effects
from poolwright.worker import events as worker_events
from poolwright.worker.attempt import Attempt
from poolwright.worker.attempts import Attempts


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSnapshot:
    """The facts of a pool; its indexes are derived again."""

    now: Timestamp
    tasks: tuple[Task, ...]
    workers: tuple[Worker, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptsSnapshot:
    """The attempts of a worker."""

    attempts: tuple[Attempt, ...]


class SchedulerMind:
    """The pool. With `check_invariants` every rule is checked after every step: for tests, slow for life."""

    name = "scheduler"
    event_type: object = scheduler_events.PoolEvent
    effect_type: object = scheduler_effects.Effect

    def __init__(self, *, check_invariants: bool = False) -> None:
        self._check_invariants = check_invariants

    def initial(self) -> Pool:
        return Pool()

    def step(self, state: Pool, event: scheduler_events.PoolEvent) -> Step[Pool, scheduler_effects.Effect]:
        result = pool.step(state, event)
        if self._check_invariants:
            invariants.check(state)
        return Step(state, result.effects, result.ignored)

    def next_deadline(self, state: Pool) -> Timestamp | None:
        return pool.next_deadline(state)

    def tick(self, at: Timestamp) -> scheduler_events.PoolEvent:
        return scheduler_events.Tick(at=at)

    def save(self, state: Pool) -> bytes:
        snapshot = PoolSnapshot(
            now=state.now, tasks=tuple(state.tasks.values()), workers=tuple(state.workers.values())
        )
        return codec.encode(snapshot)

    def load(self, body: bytes) -> Pool:
        snapshot = codec.decode(PoolSnapshot, body)
        return pool.restored(snapshot.now, list(snapshot.tasks), list(snapshot.workers))


class WorkerMind:
    """A worker's attempts. It has no deadlines of its own: the scheduler tells it when to stop."""

    name = "worker"
    event_type: object = worker_events.Event
    effect_type: object = worker_effects.Effect

    def initial(self) -> Attempts:
        return Attempts()

    def step(self, state: Attempts, event: worker_events.Event) -> Step[Attempts, worker_effects.Effect]:
        result = attempts.step(state, event)
        return Step(state, result.effects, result.ignored)

    def next_deadline(self, state: Attempts) -> Timestamp | None:
        return None

    def tick(self, at: Timestamp) -> worker_events.Event:
        raise InvariantBroken("a worker's mind has no deadline to act on")

    def save(self, state: Attempts) -> bytes:
        return codec.encode(AttemptsSnapshot(attempts=tuple(state.by_task.values())))

    def load(self, body: bytes) -> Attempts:
        snapshot = codec.decode(AttemptsSnapshot, body)
        return Attempts(by_task={attempt.task_id: attempt for attempt in snapshot.attempts})
