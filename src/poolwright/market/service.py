"""The marketplace as a process: settings, database, chains, port, signals.

A chain that does not answer at the start is waited for; a chain that is another one than was said ends the
process with exit code 2, as does a port that is taken. A watcher that cannot go on (a reorganisation below
the confirmed depth, a database that refuses) ends the process with exit code 1; what runs it starts it again,
and it goes on from what is stored.
"""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog
import uvicorn

from poolwright.chain.blocks import check_chain, newest_header
from poolwright.chain.heads import Heads
from poolwright.chain.reads import HubReader
from poolwright.chain.rpc import Rpc, RpcError, back_off
from poolwright.market.app import Marketplace, create_app
from poolwright.market.chain_market import ChainMarket, Registries
from poolwright.market.config import ChainSettings, MarketConfig
from poolwright.market.feed import Feed
from poolwright.market.reading import NewestReads
from poolwright.market.sockets import with_sockets
from poolwright.market.storage import ChainStart, Storage
from poolwright.market.watch import Watcher, creation_block
from poolwright.poco.errors import PeerError, PoolwrightError, Unavailable
from poolwright.poco.types import BlockNumber
from poolwright.serving.http import listen, serve, url_of
from poolwright.serving.logs import log_json
from poolwright.serving.patience import patient_protocol

log: structlog.stdlib.BoundLogger = structlog.get_logger()

SHUTDOWN_SECONDS = 5
MAX_CONNECTIONS = 4000
NODE_SECONDS = 5.0


@dataclass(slots=True, kw_only=True)
class _Chain:
    market: ChainMarket
    watcher: Watcher
    heads: Heads
    start: ChainStart


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
        feed = Feed(first=int(time.time() * 1000))
        chains = [await _open_chain(each, config, storage, feed, stack) for each in config.chains]
        gc.collect()
        gc.freeze()  # the loaded book is not garbage; collections need not look at it again
        marketplace = Marketplace(
            config=config,
            markets={each.market.chain_id: each.market for each in chains},
            feed=feed,
            troubles=lambda: _troubles(chains),
        )
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
        tasks = [asyncio.create_task(each.watcher.run(each.start), name="watcher") for each in chains]
        tasks += [asyncio.create_task(_expire(each.market), name="expiry") for each in chains]
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
    await asyncio.to_thread(market.start)
    heads = await stack.enter_async_context(
        Heads(rpc, confirmations=settings.confirmations, poll_seconds=settings.poll_seconds)
    )
    return _Chain(market=market, watcher=Watcher(market, rpc, heads), heads=heads, start=start)


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
        feed=feed,
        max_open_orders=config.max_open_orders,
        checks_invariants=config.checks_invariants,
    )
    return market, start


async def _expire(market: ChainMarket) -> None:
    """Wake at the next order's end, and look for a nearer one each second."""
    while True:
        end = market.book.next_end()
        wait = 1.0 if end is None else min(max(end / 1000 - time.time(), 0.01), 1.0)
        await asyncio.sleep(wait)
        if end is not None and end / 1000 <= time.time():
            await market.expire()


def _troubles(chains: list[_Chain]) -> dict[int, str]:
    found: dict[int, str] = {}
    for each in chains:
        trouble: PoolwrightError | None = each.heads.trouble
        if trouble is not None:
            found[each.market.chain_id] = str(trouble)
    return found
