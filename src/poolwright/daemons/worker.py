"""`poolwright worker run`: one worker's mind with its hands and its link to the scheduler."""

from __future__ import annotations

import asyncio
import os
import platform
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

import aiohttp
import structlog

from poolwright import __version__
from poolwright.chain.blocks import check_chain
from poolwright.chain.heads import Heads
from poolwright.chain.reads import HubReader
from poolwright.chain.rpc import Rpc
from poolwright.chain.wallet import Wallet
from poolwright.compute.docker import DockerEngine
from poolwright.compute.port import GIB, Engine
from poolwright.daemons.chain_clock import HeadsClock
from poolwright.daemons.config import WorkerConfig
from poolwright.daemons.engine_watch import EngineWatch
from poolwright.daemons.home import at_home, open_wallet, own_secret, poll_seconds, transaction_sender
from poolwright.daemons.mailbox import Mailbox
from poolwright.daemons.runner import Runner
from poolwright.daemons.scheduler_link import LogQueue, SchedulerLink
from poolwright.daemons.together import Latest, first_of
from poolwright.daemons.tx_journal import StoreTxJournal
from poolwright.daemons.worker_hands import SCHEDULER_LANE, WorkerHands, lanes_of
from poolwright.daemons.worker_mind import WorkerMind
from poolwright.poco.errors import InputError
from poolwright.poco.types import Hash32
from poolwright.serving.http import listen, url_of
from poolwright.serving.logs import log_json
from poolwright.wire.messages import Capacity
from poolwright.worker.attempts import Attempts
from poolwright.worker.effects import Effect, Report
from poolwright.worker.events import Event

if TYPE_CHECKING:
    from poolwright.daemons.worker_metrics import Shown

log = structlog.get_logger(__name__)

JOURNAL_MARK: Final = "journal"
MAX_WAITING_LOGS: Final = 64


def run(config: WorkerConfig) -> None:
    """Run until SIGTERM or SIGINT. Raises InputError when the configuration does not fit the chain."""
    log_json()
    asyncio.run(_run(config))


async def _run(config: WorkerConfig) -> None:
    stop = asyncio.Event()
    for caught in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(caught, stop.set)
    if config.port is None:
        await work(config, stop, container_engine)
        return
    from poolwright.daemons.doors import http_server, serve_beside
    from poolwright.daemons.worker_metrics import Shown

    listener = listen(config.host, config.port, setting="IEXEC_WORKER_HOST and IEXEC_WORKER_PORT")
    with listener:
        log.info("listening", url=url_of(listener))
        shown = Shown()
        await serve_beside(http_server(shown.app), listener, work(config, stop, container_engine, shown))


def container_engine(config: WorkerConfig, wallet: Wallet) -> Engine:
    """The container engine of this machine, for this worker."""
    return DockerEngine(
        worker_name=config.name,
        worker=wallet.address,
        network=config.network_id,
        host=config.docker_host,
    )


async def work(
    config: WorkerConfig,
    stop: asyncio.Event,
    engine_of: Callable[[WorkerConfig, Wallet], Engine],
    shown: Shown | None = None,
) -> None:
    """Be a worker until `stop`, and show how it does. Raises InputError when it does not fit the chain."""
    async with AsyncExitStack() as stack:
        wallet = await open_wallet(config.wallet, os.environ)
        rpc = await stack.enter_async_context(Rpc(config.chain.rpc_urls, chain_id=config.chain.chain_id))
        await check_chain(rpc, config.chain.chain_id, config.chain.hub)
        hub = HubReader(rpc, config.chain.hub)
        await _check_money(hub, config, wallet)
        store = await at_home(stack, config.folder, config.chain, config.workerpool, wallet.address)
        engine = engine_of(config, wallet)
        stack.push_async_callback(engine.close)
        heads = await stack.enter_async_context(
            Heads(rpc, confirmations=config.chain.confirmations, poll_seconds=poll_seconds(config.chain))
        )
        await heads.beyond(None)
        hub.keep_up_with(lambda: heads.current)
        clock = HeadsClock(heads)
        journal = StoreTxJournal(store) if shown is None else shown.journal(store)
        sender = await transaction_sender(stack, rpc, wallet, heads, journal, config.chain)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        mailbox: Mailbox[Report] = Mailbox(store, SCHEDULER_LANE)
        results_url: Latest[str] = Latest()
        logs: LogQueue = asyncio.Queue(MAX_WAITING_LOGS)
        mind = WorkerMind()
        engine_watch = EngineWatch(engine, lambda: _sweep(engine, runner.state))
        hands = WorkerHands(
            config=config,
            wallet=wallet,
            hub=hub,
            heads=heads,
            sender=sender,
            journal=journal,
            engine=engine,
            engine_watch=engine_watch,
            is_wanted=lambda effect: mind.is_wanted(runner.state, effect),
            http=http,
            mailbox=mailbox,
            results_url=results_url,
            logs=logs,
            reported=None if shown is None else shown.metrics.reported,
        )
        runner: Runner[Attempts, Event, Effect] = Runner(
            mind=mind,
            hands=hands,
            store=store,
            clock=clock,
            lanes=lanes_of(config),
            observer=None if shown is None else shown.metrics,
        )
        await runner.start()
        stack.push_async_callback(runner.stop)
        await engine_watch.look()
        link = SchedulerLink(
            core_urls=config.core_urls,
            http=http,
            wallet=wallet,
            chain_id=config.chain.chain_id,
            workerpool=config.workerpool,
            capacity=_capacity(config),
            journal=Hash32(await own_secret(store, JOURNAL_MARK)),
            store=store,
            inbox=runner,
            mailbox=mailbox,
            chain_now=clock.now,
            results_url=results_url,
            logs=logs,
        )
        log.info("worker starts", wallet=str(wallet.address), slots=config.slots, pid=os.getpid())
        is_idle = not runner.state.by_task and not mailbox
        connected = _connected(link, engine_watch, at_once=not is_idle)
        showing = (
            ()
            if shown is None
            else shown.of(config, wallet, rpc, heads, sender, hands, runner, link, engine_watch)
        )
        # Returns when told to stop; raises what ends the worker otherwise.
        await first_of(stop.wait(), connected, runner.wait(), _watch(heads), engine_watch.watch(), *showing)
        log.info("stopped")


async def _connected(link: SchedulerLink, engine_watch: EngineWatch, *, at_once: bool) -> None:
    """Be the scheduler's worker, for ever; one that could do nothing without an engine waits for it first."""
    if not at_once:
        await engine_watch.answered()
    await link.run()


async def _watch(heads: Heads) -> None:
    """Follow the heads for ever. Raises ChainReorganised."""
    async for _ in heads:
        pass


async def _check_money(hub: HubReader, config: WorkerConfig, wallet: Wallet) -> None:
    """A worker without gas can do nothing; one without stake only what is free. Say so before it starts."""
    balance = await hub.ether(wallet.address)
    if balance == 0 and config.chain.gas.cap > 0:
        raise InputError(
            f"worker wallet {wallet.address} cannot pay for gas",
            code="out-of-gas",
            expected="some ETH: a task takes about 500,000 gas",
            got="0 wei",
            next_step="send ETH to this wallet",
        )
    account = await hub.account(wallet.address)
    if account.stake + account.locked == 0:
        log.warning(
            "worker has no stake: it can only take tasks of workerpools that demand none",
            wallet=str(wallet.address),
            next_step="deposit RLC into the hub's account of this wallet",
        )


async def _sweep(engine: Engine, attempts: Attempts) -> None:
    """Remove containers of tasks that this worker no longer knows."""
    removed = await engine.sweep(tuple(attempts.by_task))
    if removed:
        log.info("containers of forgotten tasks removed", tasks=[str(task) for task in removed])


def _capacity(config: WorkerConfig) -> Capacity:
    return Capacity(
        name=config.name,
        version=__version__,
        slots=config.slots,
        cpus=os.cpu_count() or 1,
        memory_gib=_memory_bytes() // GIB,
        gpu=config.gpu,
    )


def _memory_bytes() -> int:
    if platform.system() != "Linux":
        return 0
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
