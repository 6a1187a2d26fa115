"""The marketplace as a process: settings, database, chains, port, signals.

A chain that does not answer at the start is waited for; a chain that is another one than was said ends the
process with exit code 2, as does a port that is taken. A watcher that cannot go on (a chain that has nothing
in common any more with what was read of it) ends the process with exit code 1; what runs it starts it again,
and it goes on from what is stored. A database that does not answer is waited for: pages are served on, what
would change something gets 503.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog
import uvicorn

from poolwright.chain.blocks import check_chain, newest_header
from poolwright.chain.reads import HubReader
from poolwright.chain.rpc import Rpc, RpcError, back_off
from poolwright.market.app import Marketplace, create_app
from poolwright.market.chain_market import ChainMarket, Registries
from poolwright.market.challenges import HeldChallenges, StoredChallenges
from poolwright.market.clerk import Clerk
from poolwright.market.config import ChainSettings, MarketConfig
from poolwright.market.feed import Feed
from poolwright.market.lead import Lead
from poolwright.market.login import Logins
from poolwright.market.reading import NewestReads
from poolwright.market.sockets import with_sockets
from poolwright.market.storage import ChainStart, Storage
from poolwright.market.wakeups import WakeUps
from poolwright.market.watch import Watcher, creation_block
from poolwright.poco.errors import PeerError, Unavailable
from poolwright.poco.types import BlockNumber
from poolwright.serving.http import listen, serve, url_of
from poolwright.serving.logs import log_json
from poolwright.serving.patience import patient_protocol

log: structlog.stdlib.BoundLogger = structlog.get_logger()

SHUTDOWN_SECONDS = 5
MAX_CONNECTIONS = 4000
NODE_SECONDS = 5.0
COLLECTED_AFTER = (20_000, 20, 20)
"""Objects until the collector of cycles looks at the young, and how many looks until it looks at older ones:
what requests leave behind has few cycles, and what stays is the book."""
FOLLOW_SECONDS = 0.5
"""How often other processes' changes are looked for without a wake-up."""


@dataclass(slots=True, kw_only=True)
class _Chain:
    market: ChainMarket
    watcher: Watcher
    lead: Lead


class Running:
    """A market that serves, from `serving`."""

    def __init__(self, url: str, marketplace: Marketplace, server: uvicorn.Server) -> None:
        self.url = url
        self.marketplace = marketplace
        self._server = server

    def stop(self) -> None:
        """Let running requests end, then stop."""
        self._server.should_exit = True


def run(config: MarketConfig) -> None:
    """Serve until SIGTERM or SIGINT. Raises InputError when it cannot start, others when it must end."""
    log_json()
    import uvloop

    uvloop.run(_run(config))


async def _run(config: MarketConfig) -> None:
    async with serving(config):
        pass


@asynccontextmanager
async def serving(config: MarketConfig) -> AsyncIterator[Running]:
    """Serve; when the block ends, wait until the market ends. Raises what ended a watcher."""
    listener = listen(config.host, config.port, setting="POOLWRIGHT_MARKET_HOST and PORT")
    async with AsyncExitStack() as stack:
        stack.callback(listener.close)
        storage = Storage.open(config.database_url)
        stack.callback(storage.close)
        feed = Feed()
        chains = [await _open_chain(each, config, storage, feed, stack) for each in config.chains]
        gc.collect()
        gc.freeze()  # the loaded book is not garbage; collections need not look at it again
        gc.set_threshold(*COLLECTED_AFTER)
        marketplace = Marketplace(
            config=config,
            markets={each.market.chain_id: each.market for each in chains},
            feed=feed,
            logins=Logins(StoredChallenges(storage) if storage.is_shared else HeldChallenges()),
            troubles=lambda: _troubles(chains),
        )
        clerks = {each.market.chain_id: each.market.clerk for each in chains}
        loop = asyncio.get_running_loop()

        def hear(chain_id: int, number: int) -> None:
            loop.call_soon_threadsafe(_wake, clerks, chain_id, number)

        stack.enter_context(WakeUps(storage, hear))
        server = uvicorn.Server(
            uvicorn.Config(
                with_sockets(create_app(marketplace), marketplace),
                http=patient_protocol(config.stall_seconds),
                ws="websockets-sansio",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                limit_concurrency=MAX_CONNECTIONS,
                timeout_graceful_shutdown=SHUTDOWN_SECONDS,
            )
        )
        running = Running(url_of(listener), marketplace, server)
        tasks = [asyncio.create_task(each.lead.run(), name="lead") for each in chains]
        if storage.is_shared:
            tasks.append(asyncio.create_task(_look(list(clerks.values())), name="follow"))
        served = asyncio.create_task(serve(server, listener), name="server")
        log.info(
            "listening",
            url=running.url,
            chains=[each.market.chain_id for each in chains],
            orders=sum(len(each.market.book) for each in chains),
            pid=os.getpid(),
        )
        try:
            yield running
            await asyncio.wait([served, *tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            running.stop()
            feed.close()
            await served
            for task in tasks:
                if not task.done():
                    task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            log.info("stopped")
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome


async def _open_chain(
    settings: ChainSettings, config: MarketConfig, storage: Storage, feed: Feed, stack: AsyncExitStack
) -> _Chain:
    rpc = await stack.enter_async_context(Rpc(settings.node_urls, timeout_seconds=NODE_SECONDS))
    attempt = 0
    while True:
        try:
            market, start = await _ask_chain(settings, config, storage, feed, rpc)
            break
        except (Unavailable, RpcError, PeerError) as problem:
            attempt += 1
            log.warning("waiting for the chain", chain=settings.name, reason=str(problem))
            await asyncio.sleep(back_off(attempt, 0.5))
    stack.push_async_callback(market.clerk.close)
    await market.clerk.start()
    watcher = Watcher(market, rpc)
    return _Chain(market=market, watcher=watcher, lead=Lead(market, watcher, start.start_block))


async def _ask_chain(
    settings: ChainSettings, config: MarketConfig, storage: Storage, feed: Feed, rpc: Rpc
) -> tuple[ChainMarket, ChainStart]:
    await check_chain(rpc, settings.chain_id, settings.hub)
    reader = HubReader(rpc, settings.hub)
    domain, contracts = await reader.domain(), await reader.contracts()
    start = storage.begin_chain(settings.chain_id, settings.hub, None)
    if start is None:
        first = settings.start_block
        if first is None:
            first = await creation_block(rpc, settings.hub, (await newest_header(rpc)).number)
        start = storage.begin_chain(settings.chain_id, settings.hub, BlockNumber(first))
    assert start is not None
    market = ChainMarket(
        settings,
        domain=domain,
        registries=Registries(
            app=contracts.app_registry,
            dataset=contracts.dataset_registry,
            workerpool=contracts.workerpool_registry,
        ),
        reads=NewestReads(rpc),
        storage=storage,
        clerk=Clerk(settings.chain_id, storage, feed, checks_invariants=config.checks_invariants),
        max_open_orders=config.max_open_orders,
    )
    return market, start


async def _look(clerks: Sequence[Clerk]) -> None:
    """Read on now and then, in case that a wake-up was lost."""
    while True:
        await asyncio.sleep(FOLLOW_SECONDS)
        for clerk in clerks:
            clerk.wake()


def _wake(clerks: Mapping[int, Clerk], chain_id: int, number: int) -> None:
    clerk = clerks.get(chain_id)
    if clerk is not None:
        clerk.wake(number)


def _troubles(chains: Sequence[_Chain]) -> dict[int, str]:
    found: dict[int, str] = {}
    for each in chains:
        trouble = each.watcher.trouble or each.market.clerk.trouble
        if trouble is not None:
            found[each.market.chain_id] = str(trouble)
    return found
