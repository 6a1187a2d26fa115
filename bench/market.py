"""The marketplace: pages per second over loopback, publications, a million orders, the watcher's catch-up.

Floors, measured in the same minute: for pages a server of the same kind that sends the same bytes without a
book; for publications the two signature recoveries that each one needs; for memory the signed orders as text;
for the watcher the decoding of its logs.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import multiprocessing.connection
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from itertools import islice
from random import Random
from typing import Any, Final, NamedTuple

import uvloop

from bench.harness import Figure, bench, best_rates
from poolwright.chain.logs import LogBatch
from poolwright.chain.rpc import Request, Rpc
from poolwright.market.app import Marketplace, create_app
from poolwright.market.chain_market import ChainMarket, Registries
from poolwright.market.clerk import Clerk
from poolwright.market.config import ChainSettings, MarketConfig
from poolwright.market.feed import Feed
from poolwright.market.reading import NewestReads
from poolwright.market.rows import Commit, OrderRow, StakeRow, pack_order
from poolwright.market.storage import Storage
from poolwright.market.turns import Turn
from poolwright.market.watch import Watcher
from poolwright.orderbook.book import StakeRead
from poolwright.orderbook.listing import MAX_SAFE, Kind, Listing, Terms
from poolwright.orderbook.query import ANYBODY, Query
from poolwright.orderbook.shelf import Shelf
from poolwright.poco import abi, events, views
from poolwright.poco.events import Log, encode_event
from poolwright.poco.orders import Domain
from poolwright.poco.tags import NO_TAG
from poolwright.poco.types import (
    Address,
    BlockHash,
    BlockNumber,
    BlockStamp,
    Hash32,
    NRlc,
    OrderHash,
    Timestamp,
    TxHash,
)
from poolwright.serving.patience import patient_protocol

CHAIN_ID: Final = 31337
HUB: Final = Address(b"\x3e" * 20)
DOMAIN: Final = Domain(chain_id=CHAIN_ID, hub=HUB)
NOBODY: Final = Address.zero()
OPEN_ORDERS: Final = 100_000
MILLION: Final = 1_000_000
STORED_AT_ONCE: Final = 10_000
CONNECTIONS: Final = 32
SECONDS: Final = 4.0
PUBLICATIONS: Final = 1_500
LOGS: Final = 20_000
STAMP: Final = BlockStamp(BlockNumber(9), BlockHash(Hash32(b"\x09" * 32)), Timestamp(1_700_000_000))


def some_pools() -> list[tuple[Address, Address]]:
    """2,000 pools and their owners."""
    draw = Random(7)
    return [(Address(draw.randbytes(20)), Address(draw.randbytes(20))) for _ in range(2000)]


def rich_owners() -> list[StakeRead]:
    """Their owners' stake, which covers anything."""
    return [StakeRead(wallet=owner, stake=NRlc(1 << 60)) for _, owner in some_pools()]


def some_listings(count: int, seed: int = 1) -> Iterator[Listing]:
    """Workerpool orders of 2,000 pools in five categories."""
    draw, pools = Random(seed), some_pools()
    for number in range(count):
        pool, owner = pools[draw.randrange(len(pools))]
        terms = Terms(
            kind=Kind.WORKERPOOL,
            app=NOBODY,
            dataset=NOBODY,
            workerpool=pool,
            requester=NOBODY,
            tag=NO_TAG,
            category=draw.randrange(5),
            trust=draw.randrange(2),
        )
        yield Listing(
            hash=OrderHash(Hash32(draw.randbytes(32))),
            terms=terms,
            signer=owner,
            price=draw.randrange(10**9),
            volume=10,
            remaining=10,
            published=1_700_000_000_000 + number,
            secret=draw.randbytes(97),
        )


class _FakeNode(Rpc):
    """A node in memory that answers what a publication asks: a pool of the signer's, with stake."""

    def __init__(self, owner: Address) -> None:
        super().__init__("http://127.0.0.1:1")
        self._block = {
            "number": "0x9",
            "hash": str(STAMP.hash),
            "timestamp": hex(STAMP.timestamp),
            "parentHash": str(STAMP.hash),
            "gasLimit": "0x1c9c380",
        }
        answers = {
            views.is_registered(NOBODY)[:4]: abi.encode(["bool"], [True]),
            views.owner()[:4]: abi.encode(["address"], [owner]),
            views.view_consumed(OrderHash(Hash32.zero()))[:4]: abi.encode(["uint256"], [0]),
            views.view_account(owner)[:4]: abi.encode(["uint256", "uint256"], [1 << 60, 0]),
        }
        self._answers = {f"0x{call.hex()}": f"0x{answer.hex()}" for call, answer in answers.items()}

    async def call(self, method: str, *params: Any) -> Any:
        return self._block

    async def batch_outcomes(self, requests: Any) -> Any:
        wanted: list[Request] = list(requests)
        return [
            self._answers[params[0]["data"][:10]] if method == "eth_call" else "0x"  # type: ignore[index, call-overload]  # no code
            for method, params in wanted
        ]


async def _no_contract(wallet: Address, digest: Hash32, signature: bytes) -> bool:
    return False


def some_market(storage: Storage, owner: Address) -> ChainMarket:
    settings = ChainSettings(name="DEV", chain_id=CHAIN_ID, hub=HUB, node_urls=("http://127.0.0.1:1",))
    storage.begin_chain(CHAIN_ID, HUB, BlockNumber(0))
    return ChainMarket(
        settings,
        domain=DOMAIN,
        registries=Registries(app=NOBODY, dataset=NOBODY, workerpool=NOBODY),
        reads=NewestReads(_FakeNode(owner)),
        storage=storage,
        clerk=Clerk(CHAIN_ID, storage, Feed()),
        max_open_orders=10**9,
    )


# --- pages --------------------------------------------------------------------------------------------------


def _serve_pages(count: int, pipe: multiprocessing.connection.Connection) -> None:
    """A market process with a filled book, its port told through the pipe; `/floor` sends a page's bytes."""
    import socket

    import uvicorn

    with tempfile.TemporaryDirectory() as folder:
        storage = Storage.open(f"sqlite:///{folder}/market.db")
        market = some_market(storage, NOBODY)
        market.book.restore(some_listings(count), rich_owners())
        config = MarketConfig(chains=(market.settings,), rate_limit=0)
        app = create_app(Marketplace(config=config, markets={CHAIN_ID: market}, feed=Feed()))
        body = bytes(17_000)
        start = {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")],
        }

        async def both(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] != "/floor":
                await app(scope, receive, send)
                return
            await send(start)
            await send({"type": "http.response.body", "body": body})

        listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        server = uvicorn.Server(
            uvicorn.Config(
                both,
                http=patient_protocol(config.stall_seconds),
                loop="uvloop",
                lifespan="off",
                access_log=False,
                log_level="error",
            )
        )
        pipe.send(listener.getsockname()[1])
        uvloop.run(server.serve(sockets=[listener]))


async def _load(port: int, paths: list[str], seconds: float, *, rate: float = 0.0) -> list[float]:
    """Ask over keep-alive connections, as fast as answers come or at a rate; seconds of each answer."""
    times: list[float] = []
    ends = time.perf_counter() + seconds

    async def one(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        draw, due = Random(number), time.perf_counter()
        while time.perf_counter() < ends:
            if rate:
                due += CONNECTIONS / rate
                await asyncio.sleep(max(due - time.perf_counter(), 0))
            started = time.perf_counter()
            writer.write(f"GET {draw.choice(paths)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
            if not head.startswith(b"http/1.1 200"):
                raise AssertionError(head)
            times.append(time.perf_counter() - started)
        writer.close()

    await asyncio.gather(*(one(number) for number in range(CONNECTIONS)))
    return times


PAGES: Final = [
    f"/workerpoolorders?chainId={CHAIN_ID}&category={category}&pageIndex={page}&pageSize=20&isAppStrict=false"
    for category in range(5)
    for page in range(40)
]


@bench("market.pages")
def pages() -> Iterator[Figure]:
    """Pages of 20 out of 100,000 open orders, asked by another process on loopback."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve_pages, args=(OPEN_ORDERS, theirs), daemon=True)
    process.start()
    try:
        if not ours.poll(300):
            raise AssertionError("the market did not start")
        port = ours.recv()
        time.sleep(1)
        uvloop.run(_load(port, PAGES, 1.0))
        floor = len(uvloop.run(_load(port, ["/floor"], SECONDS))) / SECONDS
        rate = len(uvloop.run(_load(port, PAGES, SECONDS))) / SECONDS
        times = sorted(uvloop.run(_load(port, PAGES, SECONDS, rate=rate / 2)))
        bare = sorted(uvloop.run(_load(port, ["/floor"], SECONDS, rate=rate / 2)))
    finally:
        process.kill()
        process.join()
    yield Figure(
        name="market.pages",
        value=rate,
        unit="1/s",
        floor=floor,
        goal="over 3,000/s",
        is_met=rate > 3_000,
    )
    slow, slow_bare = (each[int(len(each) * 0.99)] * 1000 for each in (times, bare))
    yield Figure(
        name="market.page_p99_half_load",
        value=slow,
        unit="ms",
        floor=slow_bare,
        goal="under 20 ms",
        is_met=slow < 20,
    )


# --- a million orders ---------------------------------------------------------------------------------------


class Held(NamedTuple):
    """What holding many orders costs."""

    megabytes: float
    first_page_us: float
    """The first page of a filter that nobody asked for yet."""
    page_us: float


def _store(count: int, url: str) -> None:
    """A market's database with so many open orders, written as a market writes."""
    storage = Storage.open(url)
    storage.begin_chain(CHAIN_ID, HUB, BlockNumber(0))
    listings = some_listings(count)
    stakes = {
        each.wallet: StakeRow(wallet=each.wallet, stake=each.stake, read_at=STAMP.number)
        for each in rich_owners()
    }
    while some := list(islice(listings, STORED_AT_ONCE)):
        commit = Commit(chain_id=CHAIN_ID, stakes=stakes)
        for each in some:
            commit.keep(OrderRow(listing=each, status=each.status, remaining=each.remaining, blocks=0))
        Turn.begin(storage, CHAIN_ID, after=MAX_SAFE).write(commit)
        stakes = {}
    storage.close()


def _hold(url: str, pipe: multiprocessing.connection.Connection) -> None:
    """Load a market's book from its database, as at a start, and tell what it costs."""
    storage = Storage.open(url)
    clerk = Clerk(CHAIN_ID, storage, Feed())
    uvloop.run(clerk.start())
    shelf = clerk.replica.book.shelves[Kind.WORKERPOOL]
    firsts = []
    for category in range(5):
        for trust in range(2):
            new = Query(kind=Kind.WORKERPOOL, workerpool=ANYBODY, category=category, min_trust=trust)
            started = time.process_time()
            if len(shelf.page(new).listings) != 20:
                raise AssertionError("a page is not full")
            firsts.append(time.process_time() - started)
    query = Query(kind=Kind.WORKERPOOL, workerpool=ANYBODY, category=2)
    rates = best_rates({"page": partial(_ask_pages, shelf, query)}, count=2000)
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    pipe.send(Held(megabytes, statistics.median(firsts) * 1e6, 1e6 / rates["page"]))


def _ask_pages(shelf: Shelf, query: Query, count: int) -> None:
    for number in range(count):
        shelf.page(query, skip=number % 100 * 20)


def _held(count: int) -> Held:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/market.db"
        _store(count, url)
        process = context.Process(target=_hold, args=(url, theirs), daemon=True)
        process.start()
        try:
            if not ours.poll(900):
                raise AssertionError("the book was not filled in time")
            found: Held = ours.recv()
            return found
        finally:
            process.kill()
            process.join()


@bench("market.million")
def million() -> Iterator[Figure]:
    """A market process that was started with 1,000,000 open orders: its memory at most, and the look-up of
    pages beside those out of 100,000, by its own time."""
    text = sum(len(pack_order(each)) for each in some_listings(1000)) * 1000 / 1e6
    few, many = _held(OPEN_ORDERS), _held(MILLION)
    yield Figure(
        name="market.million_memory",
        value=many.megabytes,
        unit="MB",
        floor=text,
        goal="under 1,000 MB",
        is_met=many.megabytes < 1000,
    )
    for name, of_many, of_few in (
        ("market.million_page", many.page_us, few.page_us),
        ("market.million_first_page", many.first_page_us, few.first_page_us),
    ):
        yield Figure(
            name=name,
            value=of_many,
            unit="us",
            floor=of_few,
            goal="within 2x of 100,000 orders",
            is_met=of_many < 2 * of_few,
        )


# --- the watcher --------------------------------------------------------------------------------------------


@bench("market.watcher")
def watcher() -> Iterator[Figure]:
    """Logs from values to the stored cursor: transfers among wallets without orders; own time as above."""
    draw = Random(2)
    transfer = events.Transfer(
        source=Address(draw.randbytes(20)), target=Address(draw.randbytes(20)), value=NRlc(5)
    )
    topics, payload = encode_event(transfer)
    logs = tuple(
        Log(
            address=HUB,
            topics=topics,
            data=payload,
            block=STAMP,
            tx_hash=TxHash(Hash32.zero()),
            log_index=number,
        )
        for number in range(LOGS)
    )

    async def catch_up(market: ChainMarket) -> float:
        watcher = Watcher(market, _FakeNode(NOBODY))
        await market.clerk.start()
        started = time.process_time()
        for at in range(0, LOGS, 1000):
            await watcher.take(LogBatch(upto=STAMP, logs=logs[at : at + 1000]), None)
        seconds = time.process_time() - started
        await market.clerk.close()
        return seconds

    with tempfile.TemporaryDirectory() as folder:
        storage = Storage.open(f"sqlite:///{folder}/market.db")
        seconds = uvloop.run(catch_up(some_market(storage, NOBODY)))
        storage.close()
    started = time.process_time()
    for entry in logs:
        events.decode_log(entry)
    floor = LOGS / (time.process_time() - started)
    rate = LOGS / seconds
    yield Figure(
        name="market.watcher",
        value=rate,
        unit="logs/s",
        floor=floor,
        goal="over 5,000/s",
        is_met=rate > 5_000,
    )
