"""Wherever a runner's process dies, and however often, each bell rings once and the log says so once."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "daemons"))

from bells import (
    Asked,
    BellEffect,
    BellEvent,
    BellHands,
    BellMind,
    Killed,
    ManualClock,
    Tower,
    World,
    task,
)

from poolwright.daemons.lanes import Retries
from poolwright.daemons.restore import restore
from poolwright.daemons.runner import Limits, Runner
from poolwright.poco.errors import Unavailable
from poolwright.poco.types import Timestamp
from poolwright.store.memory import MemoryStore
from poolwright.store.port import Commit, Committed


@dataclass
class Fate:
    """Counts the moments at which a process can die, and says at which it does."""

    moments: int
    is_dead: bool = False
    passed: list[str] = field(default_factory=list)

    def pass_by(self, moment: str) -> None:
        self.passed.append(moment)
        if len(self.passed) > self.moments:
            self.is_dead = True
            raise Killed


class FatedStore(MemoryStore):
    """Dies just before, or just after, a commit or a snapshot is durable."""

    fate = Fate(sys.maxsize)

    async def commit(self, commit: Commit) -> Committed:
        self.fate.pass_by("before commit")
        committed = await super().commit(commit)
        self.fate.pass_by("after commit")
        return committed

    async def snapshot(self, body: bytes, upto: int) -> None:  # type: ignore[override]
        self.fate.pass_by("before snapshot")
        await super().snapshot(body, upto)  # type: ignore[arg-type]
        self.fate.pass_by("after snapshot")

    def next_life(self, fate: Fate) -> FatedStore:
        heir = FatedStore()
        heir.__dict__.update(self.reopen().__dict__)
        heir.fate = fate
        return heir


async def live(store: FatedStore, world: World, names: list[str], *, snapshot_every: int) -> bool:
    """One life: put what nobody was told is durable, until all is done or the process dies."""
    fate = store.fate
    hands = BellHands(
        world,
        before=lambda _: fate.pass_by("before the deed"),
        after=lambda _: fate.pass_by("after the deed"),
    )
    runner: Runner[Tower, BellEvent, BellEffect] = Runner(
        BellMind(),
        hands,
        store,
        ManualClock(),
        lanes={"tower": 2},
        limits=Limits(batch=3, snapshot_every=snapshot_every, retries=Retries(attempts=2, first_pause=0)),
    )
    await runner.start()
    try:
        # As a reader of the chain does: the mark says how many were taken in, and comes with them.
        for index in range(int(await store.mark("taken") or b"0"), len(names)):
            asked = Asked(at=Timestamp(0), name=names[index], task_id=task(index))
            await runner.put(asked, marks={"taken": b"%d" % (index + 1)})
        while await store.pending() and not fate.is_dead:  # noqa: ASYNC110  # nobody announces it
            await asyncio.sleep(0)
        await runner.stop()
    except Unavailable:
        assert fate.is_dead
    except Killed:
        pass
    await runner.abort()
    return not fate.is_dead


async def story(names: list[str], deaths: list[int], snapshot_every: int) -> None:
    store, world = FatedStore(), World()
    for moments in [*deaths, sys.maxsize]:
        store = store.next_life(Fate(moments))
        if await live(store, world, names, snapshot_every=snapshot_every):
            break
    store = store.next_life(Fate(sys.maxsize))
    assert Counter(world.rung) == Counter(set(names))
    assert await store.pending() == ()
    kinds = Counter([row.kind async for row in store.replay()])
    rings = len([effect for n in range(len(names)) for effect in (await store.story(task(n))).effects])
    assert kinds["Asked"] == len(names)
    assert kinds["Rang"] == rings  # one outcome for each effect
    past = await restore(BellMind(), store)
    assert sum(past.state.rang.values()) == rings
    assert set(past.state.rang) == set(names)


@settings(max_examples=150, deadline=None)
@given(
    names=st.lists(st.sampled_from("abcdef"), min_size=1, max_size=6),
    deaths=st.lists(st.integers(0, 24), max_size=6),
    snapshot_every=st.integers(1, 5),
)
def test_each_bell_rings_once_wherever_the_process_dies(
    names: list[str], deaths: list[int], snapshot_every: int
) -> None:
    asyncio.run(story(names, deaths, snapshot_every))


def test_death_at_every_moment_of_a_short_life() -> None:
    for moments in range(30):
        asyncio.run(story(["a", "b"], [moments], snapshot_every=1))
