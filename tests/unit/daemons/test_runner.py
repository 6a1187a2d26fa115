"""The runner: what it makes durable, what it lets go, what it does when something dies or misbehaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import pytest
from bells import (
    Asked,
    BellEffect,
    BellEvent,
    BellHands,
    BellMind,
    Killed,
    ManualClock,
    Mortal,
    Rang,
    Ring,
    Tower,
    World,
    task,
)
from structlog.testing import capture_logs

from poolwright.daemons.lanes import Retries
from poolwright.daemons.mind import Observer, Step
from poolwright.daemons.restore import restore
from poolwright.daemons.runner import Limits, Runner
from poolwright.poco.errors import InputError, InvariantBroken, PoolwrightError, Unavailable
from poolwright.poco.types import Timestamp
from poolwright.store.memory import MemoryStore
from poolwright.store.port import Commit, Committed, EventId, EventRow, Store

BellRunner = Runner[Tower, BellEvent, BellEffect]
NOW = Timestamp(0)
EAGER = Retries(attempts=3, first_pause=0.0)


def make(
    store: Store,
    hands: BellHands | None = None,
    *,
    clock: ManualClock | None = None,
    limits: Limits | None = None,
    observer: Observer | None = None,
    width: int = 4,
    mind: BellMind | None = None,
) -> BellRunner:
    return Runner(
        mind or BellMind(),
        hands or BellHands(World()),
        store,
        clock or ManualClock(),
        lanes={"tower": width},
        limits=limits or Limits(retries=EAGER),
        observer=observer,
    )


def asked(name: str, **more: object) -> Asked:
    return Asked(at=NOW, name=name, **more)  # type: ignore[arg-type]  # the fields are checked when it is made


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # any state of the runner may be awaited
            await asyncio.sleep(0)


async def settled(store: Store) -> None:
    async with asyncio.timeout(20):
        while await store.pending():
            pass


async def kinds(store: Store) -> list[str]:
    return [row.kind async for row in store.replay()]


async def test_an_effect_is_carried_out_and_its_outcome_closes_it() -> None:
    store, world = MemoryStore(), World()
    runner = make(store, BellHands(world))
    await runner.start()
    assert await runner.put(asked("a")) == (1,)
    await until(lambda: runner.state.rang == {"a": 1})
    await runner.stop()
    assert world.rung == ["a"]
    assert await kinds(store) == ["Asked", "Rang"]
    assert await store.pending() == ()


async def test_the_outcome_and_the_done_effect_are_one_commit() -> None:
    store = Mortal()
    runner = make(store)
    await runner.start()
    await runner.put(asked("a"))
    await until(lambda: runner.state.rang == {"a": 1})
    await runner.stop()
    outcome = store.commits[1]
    assert [row.kind for row in outcome.events] == ["Rang"]
    assert outcome.done == [1]


async def test_events_that_wait_together_are_one_commit() -> None:
    store = Mortal()
    runner = make(store)
    await runner.start()
    ids = await asyncio.gather(*[runner.put(asked(f"tell {n}")) for n in range(100)])
    await runner.stop()
    assert sorted(event_id for (event_id,) in ids) == list(range(1, 101))
    assert len(store.commits) < 5
    assert sum(len(commit.events) for commit in store.commits) == 100


async def test_a_put_of_several_events_with_its_mark_is_never_parted() -> None:
    store = Mortal(dies_before=1)
    runner = make(store, limits=Limits(batch=3))
    await runner.start()
    await runner.put(
        *[asked(f"tell {n}") for n in range(5)], marks={"cursor": b"5"}, records={("k", "a"): b"1"}
    )
    with pytest.raises(Unavailable):
        await runner.put(asked("tell x"), marks={"cursor": b"6"})
    later = store.reopen()
    assert len(await kinds(later)) == 5
    assert await later.mark("cursor") == b"5"
    assert await later.record("k", "a") == b"1"


async def test_marks_without_events_are_kept() -> None:
    store = MemoryStore()
    runner = make(store)
    await runner.start()
    assert await runner.put(marks={"cursor": b"9"}) == ()
    assert await store.mark("cursor") == b"9"
    await runner.stop()


async def test_nothing_is_let_go_before_it_is_durable() -> None:
    world = World()
    runner = make(Mortal(dies_before=0), BellHands(world))
    await runner.start()
    with pytest.raises(Unavailable, match="accepts nothing more"):
        await runner.put(asked("a"))
    with pytest.raises(Killed):
        await runner.wait()
    assert world.rung == []


async def test_killed_after_the_commit_the_effect_is_carried_out_in_the_next_life() -> None:
    store, world = Mortal(dies_after=0), World()
    first = make(store, BellHands(world))
    await first.start()
    with pytest.raises(Unavailable):
        await first.put(asked("a"))
    await first.abort()
    assert world.rung == []
    await check_next_life(store, world)


def die(_: Ring) -> None:
    raise Killed


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_killed_around_the_deed_it_is_done_once_and_recorded_once(moment: str) -> None:
    store, world = Mortal(), World()
    first = make(store, BellHands(world, before=die) if moment == "before" else BellHands(world, after=die))
    await first.start()
    await first.put(asked("a"))
    await until(lambda: first.in_flight == {"tower": 0})
    await first.abort()
    assert world.rung == ([] if moment == "before" else ["a"])
    await check_next_life(store, world)


@pytest.mark.parametrize("mortal", [Mortal(dies_before=1), Mortal(dies_after=1)], ids=["before", "after"])
async def test_killed_around_the_record_of_the_outcome_it_is_recorded_once(mortal: Mortal) -> None:
    world = World()
    first = make(mortal, BellHands(world))
    await first.start()
    await first.put(asked("a"))
    with pytest.raises(Killed):
        await first.wait()
    await first.abort()
    await check_next_life(mortal, world)


async def check_next_life(store: MemoryStore, world: World) -> None:
    """After a restart the bell `a` has rung once, and the log says so once."""
    later = store.reopen()
    runner = make(later, BellHands(world))
    await runner.start()
    await until(lambda: runner.state.rang == {"a": 1})
    await runner.stop()
    assert world.rung == ["a"]
    assert await kinds(later) == ["Asked", "Rang"]
    assert await later.pending() == ()


async def test_replay_equals_live_with_and_without_snapshots() -> None:
    store = MemoryStore()
    runner = make(store, limits=Limits(snapshot_every=3, batch=2))
    await runner.start()
    for n in range(10):
        await runner.put(asked(str(n)), asked(f"later {n}", remind=50 + n))
    await until(lambda: len(runner.state.rang) == 10)
    await runner.stop()
    past = await restore(BellMind(), store)
    assert past.state == runner.state
    assert past.snapshot_upto == 30
    snapshotless = MemoryStore()
    async for row in store.replay():
        again = EventRow(kind=row.kind, at=row.at, body=row.body, task_id=row.task_id)
        await snapshotless.commit(Commit(events=[again]))
    assert (await restore(BellMind(), snapshotless)).state == runner.state


async def test_events_are_taken_while_a_snapshot_is_written() -> None:
    class LetterByLetter(BellMind):
        def save(self, state: Tower) -> Iterable[bytes]:
            whole = b"".join(super().save(state))
            return (whole[place : place + 1] for place in range(len(whole)))

    store = MemoryStore()
    runner = make(store, mind=LetterByLetter(), limits=Limits(snapshot_every=2))
    await runner.start()
    await runner.put(asked("tell a"), asked("tell b"))  # these two make a snapshot due
    await runner.put(asked("tell c"))
    assert await store.latest_snapshot() is None
    async with asyncio.timeout(20):
        while (snapshot := await store.latest_snapshot()) is None:
            pass
    assert snapshot.upto == 2
    assert (await restore(BellMind(), store)).state == runner.state
    await runner.stop()


async def test_snapshots_come_no_faster_than_the_log_grows() -> None:
    class Verbose(BellMind):
        def save(self, state: Tower) -> Iterable[bytes]:
            return (*super().save(state), b" " * 100_000)

    store = MemoryStore()
    runner = make(store, mind=Verbose(), limits=Limits(snapshot_every=1))
    await runner.start()
    for n in range(20):
        await runner.put(asked(f"tell {n}"))
        await asyncio.sleep(0)
    snapshot = await store.latest_snapshot()
    assert snapshot is not None
    assert snapshot.upto == 1
    await runner.stop()


async def test_a_snapshot_of_another_form_is_passed_over() -> None:
    store = MemoryStore()
    runner = make(store)
    await runner.start()
    await runner.put(asked("a", remind=5))
    await runner.stop()
    await store.snapshot(b'{"bells": []}', EventId(1))
    past = await restore(BellMind(), store)
    assert past.state == runner.state
    assert past.snapshot_upto == 0


async def test_a_deadline_fires_once_at_its_time() -> None:
    store, clock = MemoryStore(), ManualClock()
    runner = make(store, clock=clock)
    await runner.start()
    await runner.put(asked("a", remind=60))
    clock.move_to(59)
    await asyncio.sleep(0.01)
    assert runner.state.ticks == 0
    clock.move_to(60)
    await until(lambda: runner.state.reminded == ("a",))
    clock.move_to(500)
    await asyncio.sleep(0.01)
    await runner.stop()
    assert runner.state.ticks == 1


async def test_an_earlier_deadline_moves_the_alarm_forward() -> None:
    clock = ManualClock()
    runner = make(MemoryStore(), clock=clock)
    await runner.start()
    await runner.put(asked("late", remind=60))
    await runner.put(asked("early", remind=30))
    clock.move_to(30)
    await until(lambda: runner.state.reminded == ("early",))
    clock.move_to(60)
    await until(lambda: runner.state.reminded == ("early", "late"))
    await runner.stop()


async def test_a_deadline_missed_while_down_fires_after_the_restart() -> None:
    store = MemoryStore()
    runner = make(store)
    await runner.start()
    await runner.put(asked("a", remind=60))
    await runner.abort()
    again = make(store.reopen(), clock=ManualClock(1_000))
    await again.start()
    await until(lambda: again.state.reminded == ("a",))
    await again.stop()


async def test_a_mind_that_keeps_naming_a_passed_deadline_is_ticked_once_a_second_only() -> None:
    class Forgetful(BellMind):
        def next_deadline(self, state: Tower) -> Timestamp | None:
            return Timestamp(10)

    clock = ManualClock(10)
    runner: BellRunner = Runner(Forgetful(), BellHands(World()), MemoryStore(), clock, lanes={"tower": 1})
    await runner.start()
    await asyncio.sleep(0.02)
    assert runner.state.ticks == 1
    clock.move_to(11)
    await until(lambda: runner.state.ticks == 2)
    await runner.stop()


async def test_a_putter_waits_while_too_much_waits() -> None:
    gate = asyncio.Event()

    class Slow(MemoryStore):
        async def commit(self, commit: Commit) -> Committed:
            await gate.wait()
            return await super().commit(commit)

    store = Slow()
    runner = make(store, limits=Limits(waiting=5, batch=1))
    await runner.start()
    putters = [asyncio.create_task(runner.put(asked(f"tell {n}"))) for n in range(20)]
    for _ in range(50):
        await asyncio.sleep(0)
    assert runner.waiting <= 5
    gate.set()
    await asyncio.gather(*putters)
    await runner.stop()
    assert len(await kinds(store)) == 20


async def test_a_lane_carries_out_no_more_than_its_width_at_a_time() -> None:
    hands = BellHands(World())
    runner = make(MemoryStore(), hands, width=3)
    await runner.start()
    await runner.put(*[asked(str(n)) for n in range(30)])
    await until(lambda: len(runner.state.rang) == 30)
    await runner.stop()
    assert hands.most_active == 3


async def test_messages_are_posted_in_order_and_again_after_a_restart_until_confirmed() -> None:
    store, hands = MemoryStore(), BellHands(World())
    runner = make(store, hands)
    await runner.start()
    for n in range(3):
        await runner.put(asked(f"tell {n}"))
    assert [name for _, name in hands.posted] == ["tell 0", "tell 1", "tell 2"]
    await runner.stop()
    later, next_hands = store.reopen(), BellHands(World())
    await later.commit(Commit(done_through={"people:tell 0": hands.posted[0][0]}))
    again = make(later, next_hands)
    await again.start()
    assert next_hands.posted == hands.posted[1:]
    await again.stop()


async def test_an_effect_that_nobody_wants_any_more_is_dropped_at_the_restart() -> None:
    store, world = MemoryStore(), World()
    first = make(store, BellHands(world, before=die))
    await first.start()
    await first.put(asked("once a"), asked("b"))
    await until(lambda: first.in_flight == {"tower": 0})
    await first.put(Rang(at=NOW, name="once a"))  # by other means
    await first.abort()
    second = make(later := store.reopen(), BellHands(world))
    await second.start()
    await until(lambda: second.state.rang == {"once a": 1, "b": 1})
    await second.stop()
    assert world.rung == ["b"]
    assert await later.pending() == ()


async def test_an_effect_is_retried_while_the_world_does_not_answer() -> None:
    failures = iter([Unavailable("tower locked"), Unavailable("tower locked")])

    def fail_twice(_: Ring) -> None:
        for failure in failures:
            raise failure

    runner = make(MemoryStore(), BellHands(World(), before=fail_twice))
    await runner.start()
    await runner.put(asked("a"))
    await until(lambda: runner.state.rang == {"a": 1})
    await runner.stop()


@pytest.mark.parametrize(
    "error", [Unavailable("locked", code="locked"), InputError("no such bell", code="gone")]
)
async def test_an_effect_that_cannot_be_done_ends_as_given_up(
    error: PoolwrightError,
) -> None:
    store = MemoryStore()

    def fail(_: Ring) -> None:
        raise error

    runner = make(store, BellHands(World(), before=fail))
    await runner.start()
    await runner.put(asked("a"))
    await until(lambda: bool(runner.state.silent))
    await runner.stop()
    assert runner.state.silent == {"a": error.code}
    assert await store.pending() == ()


async def test_a_broken_step_stops_its_task_and_no_other() -> None:
    store = MemoryStore()
    runner = make(store)
    await runner.start()
    await runner.put(asked("a", task_id=task(1)), asked("x", task_id=task(1), breaks=True))
    await runner.put(asked("b", task_id=task(2)), asked("c", task_id=task(1)))
    await until(lambda: runner.state.rang == {"b": 1} and runner.in_flight == {"tower": 0})
    await until(lambda: runner.waiting == 0)
    await runner.stop()
    assert list(runner.stopped_tasks) == [task(1)]
    assert "bell x is cracked" in runner.stopped_tasks[task(1)]
    story = [event.kind for event in (await store.story(task(1))).events]
    assert sorted(story) == ["Asked", "NotApplied:Asked", "NotApplied:Asked", "NotApplied:Rang"]
    past = await restore(BellMind(), store)
    assert past.state == runner.state
    assert past.stopped == dict(runner.stopped_tasks)


async def test_a_step_that_a_newer_version_finds_broken_stops_the_task_at_the_restart() -> None:
    class Stricter(BellMind):
        def step(self, state: Tower, event: BellEvent) -> Step[Tower, BellEffect]:
            if isinstance(event, Rang) and event.task_id == task(1):
                raise InvariantBroken("bells of task 1 do not ring")
            return super().step(state, event)

    store = MemoryStore()
    runner = make(store)
    await runner.start()
    await runner.put(asked("a", task_id=task(1)), asked("b", task_id=task(2)))
    await settled(store)
    await runner.abort()
    later = store.reopen()
    for _ in range(2):
        past = await restore(Stricter(), later)
        assert past.state.rang == {"b": 1}
        assert list(past.stopped) == [task(1)]


async def test_a_broken_step_of_no_task_stops_the_runner() -> None:
    runner = make(MemoryStore())
    await runner.start()
    with pytest.raises(Unavailable):
        await runner.put(asked("x", breaks=True))
    with pytest.raises(InvariantBroken, match="cracked"):
        await runner.wait()
    with pytest.raises(Unavailable):
        await runner.put(asked("a"))
    await runner.stop()


async def test_hands_with_a_bug_stop_the_task_and_leave_the_effect_in_the_outbox() -> None:
    def stumble(ring: Ring) -> None:
        if ring.name == "x":
            raise KeyError("clapper")

    store, world = MemoryStore(), World()
    runner = make(store, BellHands(world, before=stumble))
    await runner.start()
    await runner.put(asked("x", task_id=task(1)), asked("b", task_id=task(2)))
    await until(lambda: runner.state.rang == {"b": 1} and task(1) in runner.stopped_tasks)
    await runner.stop()
    assert [effect.kind for effect in await store.pending()] == ["Ring"]
    again = make(store.reopen(), BellHands(world))
    await again.start()
    await again.put(asked("c"))
    await until(lambda: again.state.rang == {"b": 1, "c": 1})
    await again.stop()
    assert "x" not in world.rung


async def test_hands_with_a_bug_outside_any_task_stop_the_runner() -> None:
    def stumble(_: Ring) -> None:
        raise KeyError("clapper")

    runner = make(MemoryStore(), BellHands(World(), before=stumble))
    await runner.start()
    await runner.put(asked("x"))
    with pytest.raises(InvariantBroken, match="KeyError"):
        await runner.wait()


async def test_a_store_that_refuses_for_a_while_loses_nothing() -> None:
    class FullForAWhile(MemoryStore):
        refusals = 3

        async def commit(self, commit: Commit) -> Committed:
            if self.refusals:
                self.refusals -= 1
                raise Unavailable("the disk is full")
            return await super().commit(commit)

    store = FullForAWhile()
    runner = make(store)
    await runner.start()
    await runner.put(asked("a"))
    await until(lambda: runner.state.rang == {"a": 1})
    await runner.stop()
    assert await kinds(store) == ["Asked", "Rang"]


async def test_a_store_that_refuses_for_good_stops_the_runner() -> None:
    class Full(MemoryStore):
        async def commit(self, commit: Commit) -> Committed:
            raise Unavailable("the disk is full")

    runner = make(Full(), limits=Limits(commit_attempts=2, retries=EAGER))
    await runner.start()
    with pytest.raises(Unavailable, match="accepts nothing more"):
        await runner.put(asked("a"))
    with pytest.raises(Unavailable, match="disk is full"):
        await runner.wait()


async def test_a_cancelled_putter_leaves_the_runner_in_order() -> None:
    store = MemoryStore()
    runner = make(store)
    await runner.start()
    putter = asyncio.create_task(runner.put(asked("tell a")))
    await asyncio.sleep(0)
    putter.cancel()
    await asyncio.gather(putter, return_exceptions=True)
    await runner.put(asked("tell b"))
    await runner.stop()
    assert len(await kinds(store)) == 2


async def test_stopping_finishes_what_was_accepted_and_refuses_the_rest() -> None:
    store = MemoryStore()
    runner = make(store)
    await runner.start()
    putters = [asyncio.create_task(runner.put(asked(f"tell {n}"))) for n in range(10)]
    await asyncio.sleep(0)
    await runner.stop()
    await asyncio.gather(*putters)
    assert len(await kinds(store)) == 10
    with pytest.raises(Unavailable):
        await runner.put(asked("late"))
    snapshot = await store.latest_snapshot()
    assert snapshot is not None
    assert snapshot.upto == 10
    await runner.stop()


async def test_each_step_is_one_structured_line() -> None:
    with capture_logs() as lines:
        runner = make(MemoryStore())
        await runner.start()
        await runner.put(asked("a", task_id=task(1)))
        await until(lambda: runner.state.rang == {"a": 1})
        await runner.stop()
    steps = [line for line in lines if line["event"] == "step"]
    assert [(line["kind"], line.get("effects"), line["event_id"]) for line in steps] == [
        ("Asked", ("Ring",), 1),
        ("Rang", None, 2),
    ]
    assert steps[0]["task"] == str(task(1))


async def test_an_observer_sees_steps_commits_and_outcomes() -> None:
    seen: list[object] = []

    class Watching(Observer):
        def stepped(self, event_kind: str, *, effects: int, is_ignored: bool) -> None:
            seen.append((event_kind, effects, is_ignored))

        def committed(self, *, events: int, seconds: float) -> None:
            seen.append(events)

        def carried_out(self, lane_kind: str, *, outcome: str, seconds: float) -> None:
            seen.append((lane_kind, outcome))

    runner = make(MemoryStore(), observer=Watching())
    await runner.start()
    await runner.put(asked("a"))
    await until(lambda: runner.state.rang == {"a": 1})
    await runner.stop()
    assert seen == [1, ("Asked", 1, False), ("tower", "done"), 1, ("Rang", 0, False)]
