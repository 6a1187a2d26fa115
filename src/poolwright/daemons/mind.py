"""What the runner asks of a mind, of its hands, and of the clock.

A mind decides and touches nothing; hands touch the world and decide nothing; the runner stands between them
and the store. Events and effects about a task carry it as `task_id`; the runner finds it there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from poolwright.poco.errors import PoolwrightError
from poolwright.poco.types import TaskId, Timestamp
from poolwright.store.port import EffectId


class Timed(Protocol):
    """Anything that carries the chain time at which it became known, seconds UTC."""

    @property
    def at(self) -> Timestamp: ...


State = TypeVar("State")
Event = TypeVar("Event", bound=Timed)
Effect = TypeVar("Effect")
EventOut = TypeVar("EventOut", bound=Timed, covariant=True)
EffectIn = TypeVar("EffectIn", contravariant=True)


class Step(NamedTuple, Generic[State, Effect]):
    """What an event does: the next state, what is to be done, and, when nothing changed, why not."""

    state: State
    effects: Sequence[Effect] = ()
    ignored: str | None = None


class Mind(Protocol[State, Event, Effect]):
    """A pure state machine. It may change a state in place and return it, being its only writer.

    `step` is total and raises only InvariantBroken, and that before it changes anything.
    """

    @property
    def name(self) -> str:
        """Stands in log lines, such as "scheduler"."""
        ...

    @property
    def event_type(self) -> object:
        """The union of all events, as the codec reads them from the log."""
        ...

    @property
    def effect_type(self) -> object:
        """The union of all effects, as the codec reads them from the outbox."""
        ...

    def initial(self) -> State: ...

    def step(self, state: State, event: Event) -> Step[State, Effect]: ...

    def is_wanted(self, state: State, effect: Effect) -> bool:
        """Whether an effect is still to be done.

        Asked of what the last life left unfinished, and before each try of what waited for its turn.
        """
        ...

    def next_deadline(self, state: State) -> Timestamp | None:
        """The chain time at which `tick` has something to do; one that was acted on is not named again."""
        ...

    def tick(self, at: Timestamp) -> Event: ...

    def save(self, state: State) -> Iterable[bytes]:
        """The state as it is now as a snapshot, in parts of some milliseconds each.

        It may change before the last one is taken.
        """
        ...

    def load(self, body: bytes) -> State:
        """The state of a snapshot. Raises PeerError when it was written in another form."""
        ...


class Hands(Protocol[EventOut, EffectIn]):
    """What carries out effects. A lane is where an effect goes, "chain" or "worker:0x…".

    The part of a lane's name before the colon is its kind.
    """

    def lane_of(self, effect: EffectIn) -> str: ...

    def key_of(self, effect: EffectIn) -> str:
        """What makes the effect unique in its lane: for a transaction its task, kind and attempt."""
        ...

    def post(self, effect: EffectIn, number: EffectId) -> None:
        """Take a committed message; numbers ascend within a lane. After a restart all that are not done come.

        Whoever holds the connection marks them done, by `Commit.done_through`.
        """
        ...

    async def carry_out(self, effect: EffectIn, effect_id: EffectId) -> Sequence[EventOut]:
        """Do it, and return its outcome, which is recorded together with its being done.

        It may have been done before, by us before a crash or by anybody: hands look first, and do what the
        world already has, or can no more have, not again. Raises Unavailable to be called again after a
        pause; InputError or PeerError when it cannot be done.
        """
        ...

    def gave_up(self, effect: EffectIn, error: PoolwrightError) -> Sequence[EventOut]:
        """The outcome of an effect that could not be carried out."""
        ...


class ChainClock(Protocol):
    """Chain time, seconds UTC, as the latest confirmed block and the seconds since tell it."""

    def now(self) -> Timestamp: ...

    async def wait_until(self, at: Timestamp) -> None:
        """Return when `now()` has reached `at`."""
        ...


class Observer:
    """What a runner does, for metrics; this one looks away. Times are seconds."""

    def stepped(self, event_kind: str, *, effects: int, is_ignored: bool) -> None:
        """An event is durable."""

    def committed(self, *, events: int, seconds: float) -> None:
        """A batch took this long to become durable."""

    def commit_refused(self, reason: str) -> None:
        """The store did not take a batch; it is tried again."""

    def carried_out(self, lane_kind: str, *, outcome: str, seconds: float) -> None:
        """An effect has ended: "done", "gave up", "dropped" or "broken"."""


def task_id_of(item: object) -> TaskId | None:
    """The task that an event or effect is about."""
    task_id: TaskId | None = getattr(item, "task_id", None)
    return task_id
