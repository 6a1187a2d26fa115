"""A tiny mind for the tests of the runner: asked to ring bells, it has them rung, once each.

`World` is what outlives every crash: which bells have rung. `Mortal` wraps a store and kills the process, as
far as the runner can tell, just before or just after a chosen commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from poolwright.daemons.mind import Step
from poolwright.poco.errors import InvariantBroken, PoolwrightError
from poolwright.poco.types import Hash32, TaskId, Timestamp
from poolwright.store.memory import MemoryStore
from poolwright.store.port import Commit, Committed, EffectId
from poolwright.wire import codec


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Somebody wants the bell `name` to ring; `remind` seconds later it is asked about again."""

    at: Timestamp
    name: str
    task_id: TaskId | None = None
    remind: int | None = None
    breaks: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rang:
    at: Timestamp
    name: str
    task_id: TaskId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Silent:
    at: Timestamp
    name: str
    reason: str
    task_id: TaskId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    at: Timestamp


BellEvent = Asked | Rang | Silent | Tick


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    name: str
    task_id: TaskId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tell:
    name: str


BellEffect = Ring | Tell


@dataclass(frozen=True, slots=True, kw_only=True)
class Tower:
    """Outcomes by bell, reminders by bell, and the reminders that fired."""

    rang: dict[str, int] = field(default_factory=dict)
    silent: dict[str, str] = field(default_factory=dict)
    reminders: dict[str, Timestamp] = field(default_factory=dict)
    reminded: tuple[str, ...] = ()
    ticks: int = 0


class BellMind:
    name = "bells"
    event_type = BellEvent
    effect_type = BellEffect

    def initial(self) -> Tower:
        return Tower()

    def step(self, state: Tower, event: BellEvent) -> Step[Tower, BellEffect]:
        match event:
            case Asked(name=name, breaks=True):
                raise InvariantBroken(f"bell {name} is cracked")
            case Asked(at=at, name=name, task_id=task_id, remind=remind):
                if remind is not None:
                    reminders = state.reminders | {name: Timestamp(at + remind)}
                    return Step(_with(state, reminders=reminders))
                effect = Tell(name=name) if name.startswith("tell") else Ring(name=name, task_id=task_id)
                return Step(state, (effect,))
            case Rang(name=name):
                return Step(_with(state, rang=state.rang | {name: state.rang.get(name, 0) + 1}))
            case Silent(name=name, reason=reason):
                return Step(_with(state, silent=state.silent | {name: reason}))
            case Tick(at=at):
                due = tuple(name for name, when in state.reminders.items() if when <= at)
                left = {name: when for name, when in state.reminders.items() if when > at}
                reminded = state.reminded + due
                return Step(
                    _with(state, reminders=left, reminded=reminded, ticks=state.ticks + 1),
                    ignored=None if due else "too early",
                )

    def is_wanted(self, state: Tower, effect: BellEffect) -> bool:
        return not (effect.name.startswith("once") and effect.name in state.rang)

    def next_deadline(self, state: Tower) -> Timestamp | None:
        return min(state.reminders.values(), default=None)

    def tick(self, at: Timestamp) -> Tick:
        return Tick(at=at)

    def save(self, state: Tower) -> Iterable[bytes]:
        return codec.encode_in_parts(state)

    def load(self, body: bytes) -> Tower:
        return codec.decode(Tower, body)


def _with(
    state: Tower,
    *,
    rang: dict[str, int] | None = None,
    silent: dict[str, str] | None = None,
    reminders: dict[str, Timestamp] | None = None,
    reminded: tuple[str, ...] | None = None,
    ticks: int | None = None,
) -> Tower:
    return Tower(
        rang=state.rang if rang is None else rang,
        silent=state.silent if silent is None else silent,
        reminders=state.reminders if reminders is None else reminders,
        reminded=state.reminded if reminded is None else reminded,
        ticks=state.ticks if ticks is None else ticks,
    )


class Killed(BaseException):
    """The process is gone from here on."""


@dataclass
class World:
    """What outlives the process."""

    rung: list[str] = field(default_factory=list)


class BellHands:
    """Rings in `world`. `before` and `after` run around the deed, to fail, wait or die there."""

    def __init__(
        self,
        world: World,
        *,
        before: Callable[[Ring], object] = lambda _: None,
        after: Callable[[Ring], object] = lambda _: None,
    ) -> None:
        self.world = world
        self.posted: list[tuple[EffectId, str]] = []
        self.active = 0
        self.most_active = 0
        self._before = before
        self._after = after

    def lane_of(self, effect: BellEffect) -> str:
        return "tower" if isinstance(effect, Ring) else f"people:{effect.name}"

    def key_of(self, effect: BellEffect) -> str:
        return effect.name

    def post(self, effect: BellEffect, number: EffectId) -> None:
        self.posted.append((number, effect.name))

    async def carry_out(self, effect: BellEffect, effect_id: EffectId) -> Sequence[BellEvent]:
        assert isinstance(effect, Ring)
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        try:
            await asyncio.sleep(0)
            self._before(effect)
            if effect.name not in self.world.rung:  # hands look first
                self.world.rung.append(effect.name)
            self._after(effect)
            return [Rang(at=Timestamp(1), name=effect.name, task_id=effect.task_id)]
        finally:
            self.active -= 1

    def gave_up(self, effect: BellEffect, error: PoolwrightError) -> Sequence[BellEvent]:
        task_id = effect.task_id if isinstance(effect, Ring) else None
        return [Silent(at=Timestamp(1), name=effect.name, reason=error.code, task_id=task_id)]


class ManualClock:
    """Chain time that moves when a test says so."""

    def __init__(self, now: int = 0) -> None:
        self._now = Timestamp(now)
        self._moved = asyncio.Event()

    def now(self) -> Timestamp:
        return self._now

    def move_to(self, now: int) -> None:
        self._now = Timestamp(now)
        self._moved.set()
        self._moved = asyncio.Event()

    async def wait_until(self, at: Timestamp) -> None:
        while self._now < at:
            await self._moved.wait()


class Mortal(MemoryStore):
    """A store in memory whose process dies at a commit; `reopen` is the next life."""

    def __init__(self, *, dies_before: int = -1, dies_after: int = -1) -> None:
        super().__init__()
        self.commits: list[Commit] = []
        self._dies_before = dies_before
        self._dies_after = dies_after

    async def commit(self, commit: Commit) -> Committed:
        number = len(self.commits)
        self.commits.append(commit)
        if number == self._dies_before:
            raise Killed
        committed = await super().commit(commit)
        if number == self._dies_after:
            raise Killed
        return committed


def task(number: int) -> TaskId:
    return TaskId(Hash32(number.to_bytes(32, "big")))
