"""`poolwright scheduler run`: the mind of one workerpool with its hands, doors and watch of the chain."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

import aiohttp
import structlog

from poolwright import __version__
from poolwright.chain.blocks import check_chain
from poolwright.chain.heads import Heads
from poolwright.chain.logs import follow
from poolwright.chain.reads import HubReader
from poolwright.chain.rpc import Rpc
from poolwright.chain.sender import TxSender
from poolwright.chain.wallet import Wallet
from poolwright.daemons.chain_clock import HeadsClock, LogsClock
from poolwright.daemons.chain_watch import CURSOR_MARK, TOPICS, ChainWatch, was_told
from poolwright.daemons.config import SchedulerConfig
from poolwright.daemons.doors import Doors, http_server, serve_beside
from poolwright.daemons.health import ChainProgress
from poolwright.daemons.home import (
    at_home,
    open_wallet,
    own_secret,
    poll_seconds,
    transaction_sender,
)
from poolwright.daemons.mailbox import Mailboxes
from poolwright.daemons.metrics import MeteredTxJournal
from poolwright.daemons.operator_api import OperatorApi
from poolwright.daemons.runner import MIND_STOPPED, Runner
from poolwright.daemons.scheduler_api import SchedulerApi
from poolwright.daemons.scheduler_hands import LANES, SchedulerHands, instruction_of
from poolwright.daemons.scheduler_metrics import SchedulerMetrics, Sights
from poolwright.daemons.scheduler_mind import SchedulerMind
from poolwright.daemons.sessions import Sessions
from poolwright.daemons.standby import Standby
from poolwright.daemons.together import first_of
from poolwright.poco.errors import InputError, Unavailable
from poolwright.poco.types import BlockStamp, Hash32, Timestamp
from poolwright.scheduler.effects import Effect, TellWorker
from poolwright.scheduler.events import ChainDealMatched, OperatorSetRules, PoolEvent
from poolwright.scheduler.pool import Pool
from poolwright.serving.garbage import keep_what_is_loaded
from poolwright.serving.http import listen, url_of
from poolwright.serving.logs import log_json
from poolwright.store.port import Store
from poolwright.wire import codec

if TYPE_CHECKING:
    from poolwright.daemons.restore import Past
    from poolwright.store.postgresql import PostgresStore

log = structlog.get_logger(__name__)

LEDGER_MARK: Final = "ledger"
KEY_MARK: Final = "login-key"
IDLE_BLOCKS: Final = 50
"""Blocks without anything for us after which the place in the chain is stored all the same."""


def run(config: SchedulerConfig) -> None:
    """Run until SIGTERM or SIGINT. Raises InputError when the configuration does not fit the chain."""
    log_json()
    asyncio.run(_run(config))


async def _run(config: SchedulerConfig) -> None:
    listener = listen(config.host, config.port, setting="IEXEC_CORE_HOST and IEXEC_CORE_PORT")
    async with AsyncExitStack() as stack:
        stack.callback(listener.close)
        wallet = await open_wallet(config.wallet, os.environ)
        rpc = await stack.enter_async_context(Rpc(config.chain.rpc_urls, chain_id=config.chain.chain_id))
        await check_chain(rpc, config.chain.chain_id, config.chain.hub)
        hub = HubReader(rpc, config.chain.hub)
        await _check_owner(hub, config, wallet)
        standby = Standby()
        doors = Doors(standby.app())
        log.info("listening", url=url_of(listener), workerpool=str(config.workerpool), pid=os.getpid())
        holder = f"{socket.gethostname()} at {url_of(listener)} (process {os.getpid()})"
        leading = _lead(config, stack, wallet, rpc, hub, standby, doors, holder)
        await serve_beside(http_server(doors), listener, leading)
        log.info("stopped")


async def _lead(
    config: SchedulerConfig,
    stack: AsyncExitStack,
    wallet: Wallet,
    rpc: Rpc,
    hub: HubReader,
    standby: Standby,
    doors: Doors,
    holder: str,
) -> None:
    """Be the pool's scheduler, once the store is ours to write; what is opened is the stack's to close.

    Raises LeadershipLost when another one may lead.
    """
    identity = (config.chain, config.workerpool, wallet.address)
    mind = SchedulerMind(check_invariants=config.check_invariants)
    shared: PostgresStore | None = None
    known: Past[Pool] | None = None
    if config.store_url is not None:
        from poolwright.daemons.shared_store import at_server

        shared, known = await at_server(stack, config.store_url, holder, standby, mind, *identity)
    store = shared or await at_home(stack, config.folder, *identity)
    heads = await stack.enter_async_context(
        Heads(rpc, confirmations=config.chain.confirmations, poll_seconds=poll_seconds(config.chain))
    )
    await heads.beyond(None)
    hub.keep_up_with(lambda: heads.current)
    cursor = await _cursor(store)
    metrics, progress = SchedulerMetrics(), ChainProgress(cursor)
    clock = LogsClock(cursor.timestamp if cursor else Timestamp(0))
    sender = await transaction_sender(
        stack, rpc, wallet, heads, MeteredTxJournal(store, metrics), config.chain, config.fees
    )
    http = await stack.enter_async_context(aiohttp.ClientSession())
    mailboxes: Mailboxes[TellWorker] = Mailboxes(store)
    hands = SchedulerHands(
        hub=hub,
        hub_address=config.chain.hub,
        sender=sender,
        mailboxes=mailboxes,
        http=http,
        results_url=config.results_url,
        chain_now=clock.now,
        head_now=HeadsClock(heads).now,
        confirmed=lambda: heads.current,
        is_wanted=lambda effect: mind.is_wanted(runner.state, effect),
    )
    runner: Runner[Pool, PoolEvent, Effect] = Runner(
        mind=mind, hands=hands, store=store, clock=clock, lanes=LANES, observer=metrics
    )
    await runner.start(known)
    stack.push_async_callback(runner.stop)
    keep_what_is_loaded()
    if runner.state.rules != config.rules:
        await runner.put(OperatorSetRules(at=clock.now(), rules=config.rules))
    sessions = Sessions(
        store=store,
        mailboxes=mailboxes,
        inbox=runner,
        pool=lambda: runner.state,
        hub=hub,
        ledger=Hash32(await own_secret(store, LEDGER_MARK)),
        results_url=config.results_url,
        silence_seconds=config.silence_seconds,
        chain_now=clock.now,
        instruction_of=lambda effect: instruction_of(
            effect, wallet, contribute_and_finalize=config.contribute_and_finalize
        ),
        dispatched=metrics.dispatched,
    )
    sessions.expect(runner.state.workers)
    token_key = await own_secret(store, KEY_MARK)
    api = SchedulerApi(
        pool=lambda: runner.state,
        store=store,
        sessions=sessions,
        token_key=token_key,
        chain_id=config.chain.chain_id,
        workerpool=config.workerpool,
        operator=OperatorApi(
            pool=lambda: runner.state,
            tell=runner.put,
            chain_now=clock.now,
            token_key=token_key,
            owner=wallet.address,
        ),
        metrics=metrics.text,
        health=lambda: _health(config, wallet, rpc, heads, runner, sessions, metrics, progress, sender),
    )
    watch = ChainWatch(
        hub,
        config.workerpool,
        lambda task_id: runner.state.tasks.get(task_id),
        lambda task_id: was_told(store, task_id),
        owner=wallet.address,
        head=lambda: heads.current,
    )
    metrics.look_at(
        Sights(
            pool=lambda: runner.state,
            sessions=sessions,
            in_flight=lambda: runner.in_flight,
            waiting=lambda: runner.waiting,
            stopped=lambda: len(runner.stopped_tasks),
            transactions=lambda: len(sender.in_flight),
            money=lambda: (watch.earned, watch.seized),
            fees_held=lambda: bool(sender.budget.held(clock.now())),
            head=lambda: heads.current,
            followed=lambda: progress.followed,
        )
    )
    doors.behind = api.app()
    try:
        await first_of(
            *([] if shared is None else [shared.watch()]),
            _follow_chain(config, rpc, heads, cursor, clock, runner, watch, metrics, progress),
            sessions.watch_silence(),
            metrics.watch_loop(),
            runner.wait(),
        )
    except Unavailable as problem:
        if problem.code == MIND_STOPPED:
            await runner.wait()  # what has ended it says more than that it accepts nothing
        raise


async def _check_owner(hub: HubReader, config: SchedulerConfig, wallet: Wallet) -> None:
    owner = await hub.workerpool_owner(config.workerpool)
    if owner != wallet.address:
        raise InputError(
            f"workerpool {config.workerpool} does not belong to this wallet",
            code="not-the-owner",
            expected=f"the wallet of its owner {owner}",
            got=str(wallet.address),
            next_step="set POOL_ADDRESS or IEXEC_CORE_WALLET_PATH to the pair that belongs together",
        )


async def _follow_chain(
    config: SchedulerConfig,
    rpc: Rpc,
    heads: Heads,
    cursor: BlockStamp | None,
    clock: LogsClock,
    runner: Runner[Pool, PoolEvent, Effect],
    watch: ChainWatch,
    metrics: SchedulerMetrics,
    progress: ChainProgress,
) -> None:
    """Turn logs into facts, for ever, and let time pass with them. Raises ChainReorganised."""
    stored = cursor.number if cursor else config.start_block - 1
    batches = follow(rpc, config.chain.hub, [TOPICS], cursor, config.start_block, heads)
    async for batch in batches:
        facts = await watch.facts(batch)
        deals = [fact for fact in facts if isinstance(fact, ChainDealMatched)]
        new_deals = [deal for deal in deals if deal.terms.deal_id not in runner.state.deals]
        if facts or batch.upto.number - stored >= IDLE_BLOCKS:
            await runner.put(*facts, marks={CURSOR_MARK: codec.encode(batch.upto)})
            stored = batch.upto.number
        for deal in new_deals:
            metrics.deal_taken(deal.at)
        progress.took(batch.upto)
        await clock.advance(batch.upto.timestamp)


async def _cursor(store: Store) -> BlockStamp | None:
    """The block up to which the chain's logs are in the store."""
    mark = await store.mark(CURSOR_MARK)
    return None if mark is None else codec.decode(BlockStamp, mark)


def _health(
    config: SchedulerConfig,
    wallet: Wallet,
    rpc: Rpc,
    heads: Heads,
    runner: Runner[Pool, PoolEvent, Effect],
    sessions: Sessions,
    metrics: SchedulerMetrics,
    progress: ChainProgress,
    sender: TxSender,
) -> dict[str, object]:
    """What works; `status` is "ok", or "degraded": chain, store, fees or gas price are in trouble."""
    head = heads.current
    now = Timestamp(0) if head is None else head.timestamp
    troubles = [
        heads.trouble,
        progress.trouble(head, time.monotonic()),
        metrics.store_trouble,
        "fees are held back" if sender.budget.held(now) else None,
        sender.price_trouble or None,
    ]
    told = [str(trouble) for trouble in troubles if trouble is not None]
    return {
        "status": "degraded" if told else "ok",
        "role": "leader",
        "trouble": "; ".join(told) or None,
        "version": __version__,
        "workerpool": str(config.workerpool),
        "wallet": str(wallet.address),
        "fees": sender.budget.report(now),
        "endpoints": {host: why or "ok" for host, why in rpc.endpoints.items()},
        "block": None if head is None else head.number,
        "chainTime": None if head is None else head.timestamp,
        "workersConnected": [str(worker) for worker in sessions.connected],
        "tasks": len(runner.state.tasks),
        "stoppedTasks": {str(task): why for task, why in runner.stopped_tasks.items()},
        "waiting": runner.waiting,
        "inFlight": dict(runner.in_flight),
    }
