"""The clerk on both databases: steps of several processes in one order, and what a failure leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import delete

from databases import Cluster, postgresql
from factories import address
from offers import app, pool, request
from poolwright.market.clerk import Clerk, Decision, Wish
from poolwright.market.feed import KEPT, Feed, Missed, Piece
from poolwright.market.leases import release_lease, take_lease
from poolwright.market.rows import Commit
from poolwright.market.schema import CHANGES
from poolwright.market.steps import News, Step
from poolwright.market.storage import Storage, StorageFailed
from poolwright.market.turns import Deposed, Turn
from poolwright.market.wakeups import WakeUps
from poolwright.orderbook.book import Fact, OrderUnpublished, ResourceOwned, StakeRead, TimePassed
from poolwright.orderbook.listing import Listing, place_of
from poolwright.poco.errors import InputError
from poolwright.poco.types import BlockNumber, NRlc

CHAIN = 31337
TOPICS = frozenset({"orders", "deals"})


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with postgresql() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    is_sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/m.db" if is_sqlite else request.getfixturevalue("cluster").database()
    opened = Storage.open(url)
    opened.begin_chain(CHAIN, address("hub"), BlockNumber(0))
    yield opened
    opened.close()


@pytest.fixture
def shared(cluster: Cluster) -> Iterator[Storage]:
    opened = Storage.open(cluster.database())
    opened.begin_chain(CHAIN, address("hub"), BlockNumber(0))
    yield opened
    opened.close()


class Desk:
    """A clerk with its feed, and everything that it told."""

    def __init__(self, storage: Storage) -> None:
        self.feed = Feed()
        self.told: list[Piece] = []
        self.feed.hooks.append(self.told.append)
        self.clerk = Clerk(CHAIN, storage, self.feed, checks_invariants=True)

    async def publish(self, listing: Listing, *, stake: int = 10**9) -> None:
        facts: list[tuple[Fact, BlockNumber]] = [
            (StakeRead(wallet=listing.signer, stake=NRlc(stake)), BlockNumber(1))
        ]

        def decide(decision: Decision, _: object) -> None:
            decision.replica.book.check(listing, stake=NRlc(stake), max_open=1000)
            decision.make(Step(listing=listing, read_at=BlockNumber(1), facts=tuple(facts)))

        await self.clerk.ask(Wish(decide=decide))

    async def apply(self, *facts: Fact, news: int = 0, term: int | None = None) -> None:
        def decide(decision: Decision, _: object) -> None:
            pieces = [News(topic="deals", name="deal_created", text=str(each)) for each in range(news)]
            decision.make(Step(facts=tuple((fact, BlockNumber(2)) for fact in facts)), news=pieces)

        await self.clerk.ask(Wish(decide=decide, term=term))

    async def catches_up_with(self, number: int) -> None:
        async with asyncio.timeout(20):
            while True:
                if self.clerk.replica.number >= number:
                    return
                self.clerk.wake()
                await asyncio.sleep(0.01)

    def book(self) -> dict[str, Any]:
        """The book by values that another one can be compared with."""
        return {
            str(each.hash): (place_of(each), each.remaining, each.blocks)
            for each in self.clerk.replica.book.listings()
        }


@asynccontextmanager
async def desks(storage: Storage, count: int) -> AsyncIterator[list[Desk]]:
    opened = [Desk(storage) for _ in range(count)]
    async with AsyncExitStack() as stack:
        for desk in opened:
            stack.push_async_callback(desk.clerk.close)
            await desk.clerk.start()
        yield opened


@pytest.mark.parametrize("seed", range(3))
async def test_clerks_that_change_at_once_have_one_book_and_one_story(shared: Storage, seed: int) -> None:
    draw = Random(seed)
    apps = [app(at=at, signer=address("provider")) for at in range(6)]
    pools = [pool(at=10 + at, workerpoolprice=NRlc(100), signer=address("manager")) for at in range(12)]
    requests = [request(at=30 + at, signer=address("requester")) for at in range(8)]

    async def change(desk: Desk, listings: list[Listing]) -> None:
        for listing in listings:
            try:
                await desk.publish(listing, stake=draw.randrange(200, 2000))
            except InputError:
                continue
            match draw.randrange(4):
                case 0:
                    await desk.apply(OrderUnpublished(order_hash=listing.hash))
                case 1:
                    await desk.apply(StakeRead(wallet=listing.signer, stake=NRlc(draw.randrange(300))))
                case 2:
                    await desk.apply(
                        ResourceOwned(resource=listing.terms.resource, owner=address("buyer")), news=2
                    )
                    await desk.apply(ResourceOwned(resource=listing.terms.resource, owner=listing.signer))
                case _:
                    pass

    async with desks(shared, 3) as (one, two, three):
        await asyncio.gather(
            change(one, apps), change(two, pools[:6] + requests[:4]), change(three, pools[6:] + requests[4:])
        )
        newest = shared.snapshot(CHAIN).number
        for desk in (one, two, three):
            await desk.catches_up_with(newest)

        assert one.book() == two.book() == three.book()
        assert one.told == two.told == three.told
        assert [each.number for each in one.told] == sorted({each.number for each in one.told})
        assert len(one.told) > 10
        async with desks(shared, 1) as [late]:
            assert late.book() == one.book()


async def test_a_number_that_is_seen_has_all_before_it_stored(shared: Storage) -> None:
    """Many short turns of three processes; a reader beside them never finds a gap."""
    start = shared.snapshot(CHAIN).number
    is_over = False

    async def read() -> None:
        after = start
        while not is_over:
            for row in await asyncio.to_thread(shared.changes, CHAIN, after):
                assert row.first == after + 1
                after = row.number

    async def change(desk: Desk) -> None:
        for at in range(30):
            await desk.apply(TimePassed(now=at), news=at % 3)

    async with desks(shared, 3) as opened:
        reading = asyncio.create_task(read())
        await asyncio.gather(*(change(desk) for desk in opened))
        is_over = True
        await reading


async def test_a_wish_that_cannot_be_stored_fails_alone_and_leaves_no_trace(storage: Storage) -> None:
    good = pool(at=1)
    poor = pool(at=2, workerpool=address("other pool"), workerpoolprice=NRlc(100), signer=address("whale"))
    async with desks(storage, 1) as [desk]:
        outcomes = await asyncio.gather(
            desk.publish(good),
            desk.publish(poor, stake=1 << 80),
            desk.publish(app(at=3)),
            return_exceptions=True,
        )

        assert [type(each) for each in outcomes] == [type(None), StorageFailed, type(None)]
        assert good.hash in desk.clerk.replica.book
        assert poor.hash not in desk.clerk.replica.book
        assert [each.name for each in desk.told] == ["workerpoolorder_published", "apporder_published"]
        await desk.publish(poor)
        assert len(storage.snapshot(CHAIN).listings) == 3


async def test_who_is_refused_changes_nothing(storage: Storage) -> None:
    order = pool(at=1)
    async with desks(storage, 1) as [desk]:
        outcomes = await asyncio.gather(*(desk.publish(order) for _ in range(3)), return_exceptions=True)

        assert [type(each).__name__ for each in outcomes] == ["NoneType", "BookRefusal", "BookRefusal"]
        assert len(desk.told) == 1


async def test_a_deposed_leader_writes_nothing(storage: Storage) -> None:
    async with desks(storage, 1) as [desk]:
        old = take_lease(storage, CHAIN, "old")
        assert old is not None
        await desk.apply(TimePassed(now=1), term=old)
        before = storage.snapshot(CHAIN).number
        release_lease(storage, CHAIN, old)
        new = take_lease(storage, CHAIN, "new")

        with pytest.raises(Deposed):
            await desk.apply(TimePassed(now=2), news=1, term=old)

        assert storage.snapshot(CHAIN).number == before
        await desk.apply(TimePassed(now=2), news=1, term=new)


async def test_who_stands_still_in_a_turn_loses_the_chain(shared: Storage) -> None:
    """The database ends the session of a holder that does nothing; what it then writes is refused."""
    start = shared.snapshot(CHAIN).number
    still = Turn.begin(shared, CHAIN, after=start)
    async with desks(shared, 1) as [desk]:
        await desk.publish(pool(at=1))

        with pytest.raises(StorageFailed):
            still.write(Commit(chain_id=CHAIN))
        assert len(desk.told) == 1


async def test_who_falls_behind_what_is_kept_loads_the_book(shared: Storage) -> None:
    async with desks(shared, 2) as (fast, slow):
        listening = aiter(slow.feed.listen(CHAIN, TOPICS, None))
        waiting = asyncio.ensure_future(anext(listening))
        await asyncio.sleep(0)
        for at in range(4):
            await fast.publish(pool(at=at))
        with shared.writing() as connection:
            connection.execute(delete(CHANGES).where(CHANGES.c.number <= fast.told[1].number))

        await slow.catches_up_with(fast.clerk.replica.number)

        assert slow.book() == fast.book()
        with pytest.raises(Missed):
            await waiting
        rest = aiter(slow.feed.listen(CHAIN, TOPICS, fast.told[2].number))
        assert await anext(rest) == fast.told[3]
        with pytest.raises(Missed):
            await anext(aiter(slow.feed.listen(CHAIN, TOPICS, fast.told[0].number)))


async def test_news_go_on_after_a_restart_and_at_another_process(storage: Storage) -> None:
    async with desks(storage, 1) as [desk]:
        for at in range(3):
            await desk.publish(pool(at=at))
    async with desks(storage, 1) as [again]:
        heard = aiter(again.feed.listen(CHAIN, TOPICS, desk.told[0].number))
        assert [await anext(heard), await anext(heard)] == desk.told[1:]
        await again.publish(pool(at=4))
        assert await anext(heard) == again.told[0]


async def test_who_follows_is_woken_and_again_after_the_database_was_away(cluster: Cluster) -> None:
    storage = Storage.open(cluster.database())
    storage.begin_chain(CHAIN, address("hub"), BlockNumber(0))
    loop = asyncio.get_running_loop()
    async with desks(storage, 2) as (one, two):

        def hear(chain_id: int, number: int) -> None:
            assert chain_id == CHAIN
            loop.call_soon_threadsafe(two.clerk.wake, number)

        with WakeUps(storage, hear):
            for _ in range(2):
                await tells_until_heard(one, two)
                cluster.stop()
                cluster.start()
    storage.close()


async def tells_until_heard(one: Desk, two: Desk) -> None:
    """Only wake-ups make the second one follow; the first ones may come before it listens."""
    before = two.clerk.replica.number
    async with asyncio.timeout(30):
        while True:
            with suppress(StorageFailed):
                await one.apply(TimePassed(now=1), news=1)
            await asyncio.sleep(0.2)
            if two.clerk.replica.number > before:
                return


async def test_the_database_may_go_and_come_back(cluster: Cluster) -> None:
    storage = Storage.open(cluster.database())
    storage.begin_chain(CHAIN, address("hub"), BlockNumber(0))
    async with desks(storage, 1) as [desk]:
        await desk.publish(pool(at=1))
        cluster.stop()
        with pytest.raises(StorageFailed):
            await desk.publish(pool(at=2))
        assert desk.clerk.trouble is not None
        assert len(desk.clerk.replica.book) == 1
        cluster.start()

        await desk.publish(pool(at=3))

        assert desk.clerk.trouble is None
        assert len(storage.snapshot(CHAIN).listings) == 2
    storage.close()


async def test_a_listener_that_reads_too_slowly_or_asks_for_too_much_is_told_so() -> None:
    feed = Feed()
    feed.begin(CHAIN, after=0, upto=0, pieces=())

    def tell(number: int) -> None:
        piece = Piece(number=number, chain_id=CHAIN, topic="orders", name="n", text="1")
        feed.tell(CHAIN, number, [piece])

    slow = aiter(feed.listen(CHAIN, TOPICS, None))
    first = asyncio.ensure_future(anext(slow))
    await asyncio.sleep(0)
    for number in range(1, KEPT + 3):
        tell(number)
    assert (await first).number == 1
    with pytest.raises(Missed):
        [piece async for piece in slow]
    assert (await anext(aiter(feed.listen(CHAIN, TOPICS, 2)))).number == 3
    with pytest.raises(Missed):
        await anext(aiter(feed.listen(CHAIN, TOPICS, 1)))
    ahead = asyncio.ensure_future(anext(aiter(feed.listen(CHAIN, TOPICS, KEPT + 3))))
    await asyncio.sleep(0)
    tell(KEPT + 3)
    tell(KEPT + 4)
    assert (await ahead).number == KEPT + 4
