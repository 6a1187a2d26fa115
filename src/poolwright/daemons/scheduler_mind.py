"""The scheduler's mind as the runner drives it: how it steps, and how its state becomes a snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from poolwright.daemons.mind import Step
from poolwright.poco.types import Timestamp, WorkerAddress
from poolwright.scheduler import effects, events, invariants, pool
from poolwright.scheduler import task as tasks
from poolwright.scheduler.pool import Pool, Worker
from poolwright.scheduler.standing import DEFAULT_RULES, Rules
from poolwright.scheduler.task import Task
from poolwright.wire import codec


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSnapshot:
    """The facts of a pool; its indexes are derived again."""

    now: Timestamp
    tasks: tuple[Task, ...]
    workers: tuple[Worker, ...]
    rules: Rules = DEFAULT_RULES
    words: Mapping[WorkerAddress, bool] = field(default_factory=dict)
    owners: Mapping[WorkerAddress, str] = field(default_factory=dict)


class SchedulerMind:
    """The pool. With `check_invariants` every rule is checked after every step: for tests, slow for life."""

    name = "scheduler"
    event_type: object = events.PoolEvent
    effect_type: object = effects.Effect

    def __init__(self, *, check_invariants: bool = False) -> None:
        self._check_invariants = check_invariants

    def initial(self) -> Pool:
        return Pool()

    def step(self, state: Pool, event: events.PoolEvent) -> Step[Pool, effects.Effect]:
        result = pool.step(state, event)
        if self._check_invariants:
            invariants.check(state)
        return Step(state, result.effects, result.ignored)

    def is_wanted(self, state: Pool, effect: effects.Effect) -> bool:
        """Whether a transaction is still to come; it may have waited for cheap gas until it was too late.

        Everything else is: a worker sees by its own journal what has become needless.
        """
        if not isinstance(effect, effects.Submit):
            return True
        task = state.tasks.get(effect.task_id)
        return task is not None and tasks.is_wanted(task, effect, state.now)

    def next_deadline(self, state: Pool) -> Timestamp | None:
        return pool.next_deadline(state)

    def tick(self, at: Timestamp) -> events.PoolEvent:
        return events.Tick(at=at)

    def save(self, state: Pool) -> Iterable[bytes]:
        snapshot = PoolSnapshot(
            now=state.now,
            tasks=tuple(state.tasks.values()),
            workers=tuple(state.workers.values()),
            rules=state.rules,
            words=dict(state.words),
            owners=dict(state.owners),
        )
        return codec.encode_in_parts(snapshot)

    def load(self, body: bytes) -> Pool:
        snapshot = codec.decode(PoolSnapshot, body)
        return pool.restored(
            snapshot.now,
            snapshot.tasks,
            snapshot.workers,
            rules=snapshot.rules,
            words=snapshot.words,
            owners=snapshot.owners,
        )
