"""The promises of the store port, asked of the twin in memory, of SQLite and of PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from poolwright.poco.errors import InvariantBroken, Unavailable
from poolwright.poco.types import Hash32, TaskId, Timestamp
from poolwright.store.port import Commit, EffectId, EffectRow, EventId, EventRow, Store

if TYPE_CHECKING:
    from conftest import Shelf

TASK = TaskId(Hash32(b"\x01" * 32))
OTHER = TaskId(Hash32(b"\x02" * 32))
NOW = Timestamp(1_700_000_000)


def event(kind: str = "Tick", task_id: TaskId | None = None, body: bytes = b"{}") -> EventRow:
    return EventRow(kind=kind, at=NOW, body=body, task_id=task_id)


def effect(key: str, lane: str = "chain", body: bytes = b"{}", cause: int | None = None) -> EffectRow:
    return EffectRow(lane=lane, key=key, body=body, kind="Submit", task_id=TASK, cause=cause)


async def kinds(store: Store, after: int = 0) -> list[str]:
    return [logged.kind async for logged in store.replay(EventId(after))]


async def pending_keys(store: Store, lane: str | None = None) -> list[str]:
    return [waiting.key for waiting in await store.pending(lane)]


async def test_events_and_effects_come_back_as_they_were_after_reopening(shelf: Shelf) -> None:
    committed = await shelf.store.commit(
        Commit(events=[event("Made", TASK, b"\x00\xff"), event()], effects=[effect("a", cause=0)])
    )
    store = await shelf.reopen()
    first, second = [logged async for logged in store.replay()]
    assert (first.id, first.kind, first.at, first.body, first.task_id) == (
        committed.event_ids[0],
        "Made",
        NOW,
        b"\x00\xff",
        TASK,
    )
    assert (second.id, second.task_id) == (committed.event_ids[1], None)
    (waiting,) = await store.pending()
    assert (waiting.id, waiting.lane, waiting.key) == (committed.effect_ids[0], "chain", "a")
    assert (waiting.cause, waiting.task_id, waiting.is_done) == (first.id, TASK, False)


async def test_ids_ascend_and_are_never_used_twice(shelf: Shelf) -> None:
    one = await shelf.store.commit(Commit(events=[event()], effects=[effect("a", "worker:1")]))
    two = await shelf.store.commit(Commit(events=[event()], effects=[effect("b", "worker:2")]))
    store = await shelf.reopen()
    three = await store.commit(Commit(events=[event()], effects=[effect("c", "worker:1")]))
    assert one.event_ids < two.event_ids < three.event_ids
    assert one.effect_ids < two.effect_ids < three.effect_ids


async def test_replay_goes_on_after_any_event(store: Store) -> None:
    committed = await store.commit(Commit(events=[event(kind) for kind in "abcde"]))
    assert await kinds(store) == list("abcde")
    assert await kinds(store, committed.event_ids[2]) == ["d", "e"]
    assert await kinds(store, committed.event_ids[4]) == []
    assert await store.last_event_id() == committed.event_ids[4]


async def test_a_log_longer_than_one_page_replays_whole_and_in_order(store: Store) -> None:
    names = [f"k{n}" for n in range(2_500)]
    await store.commit(Commit(events=[event(name) for name in names]))
    assert await kinds(store) == names


async def test_an_effect_is_pending_until_it_is_done(store: Store) -> None:
    committed = await store.commit(Commit(effects=[effect("a"), effect("b"), effect("c", "worker:1")]))
    await store.commit(Commit(events=[event("Mined")], done=[committed.effect_ids[0]]))
    assert await pending_keys(store) == ["b", "c"]
    assert await pending_keys(store, "chain") == ["b"]
    assert await pending_keys(store, "nobody") == []


async def test_a_second_outcome_of_one_effect_is_refused_with_all_that_came_with_it(store: Store) -> None:
    committed = await store.commit(Commit(effects=[effect("a")]))
    outcome = Commit(events=[event("Mined")], marks={"cursor": b"1"}, done=committed.effect_ids)
    await store.commit(outcome)
    with pytest.raises(InvariantBroken) as caught:
        await store.commit(outcome)
    assert caught.value.code == "effect-done"
    assert await kinds(store) == ["Mined"]


@pytest.mark.parametrize("done", [[EffectId(99)], [EffectId(1), EffectId(1)]])
async def test_an_unknown_or_repeated_outcome_is_refused(store: Store, done: list[EffectId]) -> None:
    await store.commit(Commit(effects=[effect("a")]))
    with pytest.raises(InvariantBroken):
        await store.commit(Commit(events=[event()], done=done))
    assert await kinds(store) == []
    assert await pending_keys(store) == ["a"]


async def test_messages_are_confirmed_in_bulk_and_again_without_harm(store: Store) -> None:
    ids = (
        await store.commit(Commit(effects=[effect(str(n), f"worker:{n % 2}") for n in range(6)]))
    ).effect_ids
    for _ in range(2):
        await store.commit(Commit(done_through={"worker:0": ids[2], "worker:1": ids[0]}))
        assert await pending_keys(store) == ["1", "3", "4", "5"]


async def test_the_same_effect_is_not_stored_again_while_it_is_pending(store: Store) -> None:
    first = await store.commit(Commit(effects=[effect("a")]))
    again = await store.commit(Commit(effects=[effect("b"), effect("a"), effect("c"), effect("c")]))
    assert again.effect_ids[1] == first.effect_ids[0]
    assert again.effect_ids[3] == again.effect_ids[2]
    assert again.is_new == (True, False, True, False)
    assert await pending_keys(store) == ["a", "b", "c"]


async def test_another_lane_key_or_body_is_another_effect(store: Store) -> None:
    rows = [effect("a"), effect("a", lane="elsewhere"), effect("b"), effect("a", body=b"other")]
    committed = await store.commit(Commit(effects=rows))
    assert all(committed.is_new)
    assert len(await store.pending()) == 4


async def test_an_effect_that_is_done_can_be_asked_for_again(store: Store) -> None:
    first = await store.commit(Commit(effects=[effect("a")]))
    await store.commit(Commit(done=first.effect_ids))
    again = await store.commit(Commit(effects=[effect("a")]))
    assert again.is_new == (True,)
    assert again.effect_ids > first.effect_ids
    assert await pending_keys(store) == ["a"]


async def test_one_commit_may_end_an_effect_and_ask_for_it_again(store: Store) -> None:
    first = await store.commit(Commit(effects=[effect("a"), effect("b", "worker:1")]))
    again = await store.commit(
        Commit(
            done=first.effect_ids[:1],
            done_through={"worker:1": first.effect_ids[1]},
            effects=[effect("a"), effect("b", "worker:1")],
        )
    )
    assert again.is_new == (True, True)
    assert await pending_keys(store) == ["a", "b"]


async def test_a_refused_commit_does_not_harm_those_beside_it(store: Store) -> None:
    results = await asyncio.gather(
        *[
            store.commit(Commit(events=[event(f"k{n}")], done=[] if n % 3 else [EffectId(77)]))
            for n in range(60)
        ],
        return_exceptions=True,
    )
    refused = [n for n, result in enumerate(results) if isinstance(result, InvariantBroken)]
    assert refused == list(range(0, 60, 3))
    assert sorted(await kinds(store)) == sorted(f"k{n}" for n in range(60) if n % 3)
    ids = [result.event_ids[0] for result in results if not isinstance(result, BaseException)]
    assert sorted(ids) == list(range(1, 41))


async def test_an_effect_whose_cause_is_not_in_its_commit_is_refused(store: Store) -> None:
    with pytest.raises(InvariantBroken):
        await store.commit(Commit(events=[event("a")], effects=[effect("a", cause=1)]))
    assert await kinds(store) == []
    assert await pending_keys(store) == []


async def test_marks_and_records_change_with_the_events(shelf: Shelf) -> None:
    await shelf.store.commit(
        Commit(
            events=[event()],
            marks={"chain": b"7"},
            records={("tx", "b"): b"2", ("tx", "a"): b"1", ("session", "a"): b"s"},
        )
    )
    await shelf.store.commit(Commit(marks={"chain": b"8"}, records={("tx", "a"): None, ("tx", "b"): b"3"}))
    store = await shelf.reopen()
    assert await store.mark("chain") == b"8"
    assert await store.mark("nowhere") is None
    assert await store.record("tx", "a") is None
    assert await store.records("tx") == {"b": b"3"}
    assert await store.record("session", "a") == b"s"


async def test_records_come_in_the_order_of_their_keys(store: Store) -> None:
    await store.commit(Commit(records={("k", key): b"" for key in "cab"}))
    assert list(await store.records("k")) == ["a", "b", "c"]


async def test_the_last_two_snapshots_stay(shelf: Shelf) -> None:
    assert await shelf.store.latest_snapshot() is None
    for upto in (1, 5, 9):
        await shelf.store.snapshot(b"state %d" % upto, EventId(upto))
    store = await shelf.reopen()
    newest = await store.latest_snapshot()
    assert newest is not None
    assert (newest.upto, newest.body) == (9, b"state 9")
    older = await store.latest_snapshot(before=newest.upto)
    assert older is not None
    assert older.upto == 5
    assert await store.latest_snapshot(before=older.upto) is None


async def test_a_story_holds_the_events_of_a_task_and_the_causes_of_its_effects(store: Store) -> None:
    committed = await store.commit(
        Commit(
            events=[event("DealSeen"), event("Made", TASK), event("Made", OTHER), event("Tick")],
            effects=[effect("a", cause=0), effect("b", cause=1)],
        )
    )
    await store.commit(Commit(events=[event("Mined", TASK)], done=[committed.effect_ids[0]]))
    story = await store.story(TASK)
    assert [logged.kind for logged in story.events] == ["DealSeen", "Made", "Mined"]
    assert [(told.key, told.is_done, told.cause) for told in story.effects] == [
        ("a", True, committed.event_ids[0]),
        ("b", False, committed.event_ids[1]),
    ]
    assert (await store.story(OTHER)).effects == ()


async def test_commits_of_many_callers_all_arrive_and_keep_the_order_of_each(store: Store) -> None:
    async def caller(name: int) -> None:
        for turn in range(20):
            await store.commit(Commit(events=[event(f"{name}.{turn}")]))

    await asyncio.gather(*[caller(name) for name in range(100)])
    seen = await kinds(store)
    assert len(seen) == 2_000
    for name in (0, 42, 99):
        assert [kind for kind in seen if kind.startswith(f"{name}.")] == [
            f"{name}.{turn}" for turn in range(20)
        ]


async def test_a_cancelled_caller_does_not_disturb_the_next(store: Store) -> None:
    aio_task = asyncio.create_task(store.commit(Commit(events=[event("first")])))
    await asyncio.sleep(0)
    aio_task.cancel()
    await asyncio.gather(aio_task, return_exceptions=True)
    await store.commit(Commit(events=[event("second")]))
    assert (await kinds(store))[-1] == "second"


async def test_an_empty_commit_is_fine(store: Store) -> None:
    committed = await store.commit(Commit())
    assert committed.event_ids == ()


async def test_a_closed_store_says_so(shelf: Shelf) -> None:
    await shelf.store.close()
    await shelf.store.close()
    for call in (shelf.store.commit(Commit()), shelf.store.snapshot(b"", EventId(0)), shelf.store.mark("m")):
        with pytest.raises(Unavailable, match="closed"):
            await call
    await shelf.reopen()
