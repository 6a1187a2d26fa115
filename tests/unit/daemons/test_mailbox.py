"""Letters of a mailbox: in order, until confirmed, to the newest reader only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from poolwright.daemons.mailbox import Mailbox, Mailboxes
from poolwright.store.memory import MemoryStore
from poolwright.store.port import Commit, EffectId, EffectRow

LANE = "worker:alice"


async def take(letters: AsyncIterator[tuple[EffectId, str]], count: int) -> list[str]:
    async with asyncio.timeout(5):
        return [(await anext(letters))[1] for _ in range(count)]


async def written(*texts: str, lane: str = LANE) -> tuple[MemoryStore, Mailbox[str]]:
    """A store whose outbox holds these letters, and their mailbox."""
    store = MemoryStore()
    rows = [EffectRow(lane=lane, key=text, body=text.encode()) for text in texts]
    committed = await store.commit(Commit(effects=rows))
    mailbox: Mailbox[str] = Mailbox(store, lane)
    for number, text in zip(committed.effect_ids, texts, strict=True):
        mailbox.post(number, text)
    return store, mailbox


async def pending(store: MemoryStore) -> list[str]:
    return [effect.key for effect in await store.pending(LANE)]


async def test_reader_gets_what_is_there_and_then_what_comes_in_order() -> None:
    _, mailbox = await written("a", "b")
    letters = mailbox.letters()

    assert await take(letters, 2) == ["a", "b"]
    coming = asyncio.create_task(take(letters, 2))
    await asyncio.sleep(0)
    mailbox.post(EffectId(10), "c")
    mailbox.post(EffectId(12), "d")
    assert await coming == ["c", "d"]


async def test_confirmed_letters_are_forgotten_durably_and_not_sent_to_the_next_reader() -> None:
    store, mailbox = await written("a", "b", "c")

    await mailbox.confirm(2)

    assert await pending(store) == ["c"]
    assert await take(mailbox.letters(), 1) == ["c"]
    assert len(mailbox) == 1


async def test_confirming_twice_or_a_number_below_changes_nothing() -> None:
    store, mailbox = await written("a", "b")

    for upto in (1, 1, 0, -7):
        await mailbox.confirm(upto)

    assert await pending(store) == ["b"]


async def test_confirming_a_number_beyond_all_letters_confirms_those_there_are() -> None:
    store, mailbox = await written("a", "b")
    later = await store.commit(Commit(effects=[EffectRow(lane=LANE, key="c", body=b"c")]))

    await mailbox.confirm(2**53)

    assert await pending(store) == ["c"]  # committed, not yet posted: nobody can have received it
    mailbox.post(later.effect_ids[0], "c")
    assert await take(mailbox.letters(), 1) == ["c"]


async def test_new_reader_gets_all_that_is_not_confirmed_and_ends_the_reader_before() -> None:
    _, mailbox = await written("a", "b")
    first = mailbox.letters()
    assert await take(first, 2) == ["a", "b"]
    waiting = asyncio.create_task(take(first, 1))
    await asyncio.sleep(0)

    second = mailbox.letters()

    assert await take(second, 2) == ["a", "b"]
    [ended] = await asyncio.gather(waiting, return_exceptions=True)
    assert isinstance(ended, StopAsyncIteration | RuntimeError)
    mailbox.post(EffectId(10), "c")
    assert await take(second, 1) == ["c"]


async def test_letter_confirmed_while_another_is_sent_is_not_lost_to_the_order() -> None:
    _, mailbox = await written("a", "b", "c")
    letters = mailbox.letters()

    assert await take(letters, 1) == ["a"]
    await mailbox.confirm(1)
    assert await take(letters, 2) == ["b", "c"]


async def test_each_lane_has_one_mailbox_of_its_own() -> None:
    mailboxes: Mailboxes[str] = Mailboxes(MemoryStore())

    mailboxes.of("worker:alice").post(EffectId(1), "a")

    assert len(mailboxes.of("worker:alice")) == 1
    assert len(mailboxes.of("worker:bob")) == 0
