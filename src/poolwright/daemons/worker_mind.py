"""The worker's mind as the runner drives it: how it steps, and how its state becomes a snapshot."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from poolwright.daemons.mind import Step
from poolwright.poco.errors import InvariantBroken
from poolwright.poco.types import Timestamp
from poolwright.wire import codec
from poolwright.worker import attempts, effects, events
from poolwright.worker.attempt import Attempt
from poolwright.worker.attempts import Attempts


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptsSnapshot:
    """The attempts of a worker."""

    attempts: tuple[Attempt, ...]


class WorkerMind:
    """A worker's attempts. It has no deadlines of its own: the scheduler tells it when to stop."""

    name = "worker"
    event_type: object = events.Event
    effect_type: object = effects.Effect

    def initial(self) -> Attempts:
        return Attempts()

    def step(self, state: Attempts, event: events.Event) -> Step[Attempts, effects.Effect]:
        result = attempts.step(state, event)
        return Step(state, result.effects, result.ignored)

    def is_wanted(self, state: Attempts, effect: effects.Effect) -> bool:
        return attempts.is_wanted(state, effect)

    def next_deadline(self, state: Attempts) -> Timestamp | None:
        return None

    def tick(self, at: Timestamp) -> events.Event:
        raise InvariantBroken("a worker's mind has no deadline to act on")

    def save(self, state: Attempts) -> Iterable[bytes]:
        return codec.encode_in_parts(AttemptsSnapshot(attempts=tuple(state.by_task.values())))

    def load(self, body: bytes) -> Attempts:
        snapshot = codec.decode(AttemptsSnapshot, body)
        return Attempts(by_task={attempt.task_id: attempt for attempt in snapshot.attempts})
