"""From the chain's logs to the book: what matches, closures, transfers and categories mean for orders.

    OrdersMatched       the deal is stored; of each order of it that we hold, what deals took of it
    Closed…Order        the order is canceled
    Transfer of stake   both wallets' stake, read at the block, if they have orders that need stake
    Transfer of an entry of a registry      its owner, if there are orders on it
    CreateCategory      stored

A batch of logs is taken with the cursor in one commit, so a crash repeats or loses nothing. Values are read
at the batch's last block; a node that has forgotten the state of an old block (a catch-up after days) is
asked for the newest one instead: volume only falls, and later batches bring stakes and owners up to date.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import structlog

from poolwright.chain.blocks import newest_header
from poolwright.chain.heads import Heads
from poolwright.chain.logs import LogBatch, follow
from poolwright.chain.reads import HubReader, Question
from poolwright.chain.rpc import Rpc, RpcError, back_off
from poolwright.market.chain_market import ChainMarket
from poolwright.market.rows import CategoryRow, DealRow
from poolwright.market.storage import ChainStart
from poolwright.orderbook.book import Fact, OrderClosed, OrderConsumed, ResourceOwned, StakeRead
from poolwright.orderbook.render import iso_time
from poolwright.poco import calls, events
from poolwright.poco.errors import PeerError, Unavailable
from poolwright.poco.events import Log
from poolwright.poco.records import Account, Deal, Resource
from poolwright.poco.types import Address, BlockNumber, BlockStamp, OrderHash

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_CLOSED: Final = (
    events.ClosedAppOrder,
    events.ClosedDatasetOrder,
    events.ClosedWorkerpoolOrder,
    events.ClosedRequestOrder,
)
TOPICS: Final = tuple(
    events.TOPICS[kind] for kind in (events.OrdersMatched, *_CLOSED, events.Transfer, events.CreateCategory)
)


class Watcher:
    """Follows one chain for its market, for ever."""

    def __init__(self, market: ChainMarket, rpc: Rpc, heads: Heads) -> None:
        self._market = market
        self._rpc = rpc
        self._heads = heads
        self._hub = HubReader(rpc, market.settings.hub)
        self.logs_seen = 0
        self.head: BlockStamp | None = None

    async def run(self, start: ChainStart) -> None:
        """Read on after the cursor, or from the hub's first block. Raises ChainReorganised, StorageFailed."""
        registries = self._market.registries
        addresses = (
            self._market.settings.hub,
            registries.app,
            registries.dataset,
            registries.workerpool,
        )
        self._market.cursor = start.cursor
        async for batch in follow(
            self._rpc, addresses, [TOPICS], start.cursor, start.start_block, self._heads
        ):
            await self.take(batch)

    async def take(self, batch: LogBatch) -> None:
        """Make facts of a batch and hand them to the market, which stores them with the cursor."""
        self.head = self._heads.current
        self._market.watched = batch.upto.number
        found = _Found()
        for entry in batch.logs:
            found.add(entry, self._market)
        attempt = 0
        while True:
            try:
                facts, deals = await self._read(found, batch.upto)
                break
            except (Unavailable, RpcError, PeerError) as problem:
                attempt += 1
                log.warning("cannot read what logs are about, asking again", reason=str(problem))
                await asyncio.sleep(back_off(attempt, 0.5))
        await self._market.take(facts, upto=batch.upto, deals=deals, categories=found.categories)
        self.logs_seen += len(batch.logs)

    async def _read(
        self, found: _Found, upto: BlockStamp
    ) -> tuple[list[tuple[Fact, BlockNumber]], list[DealRow]]:
        hub = self._market.settings.hub
        questions: list[Question[Any]] = [
            _ask(hub, calls.view_deal(match.deal_id), calls.decode_deal, "viewDeal")
            for match, _ in found.matches
        ]
        wallets, orders = list(found.wallets), list(found.orders)
        questions += [
            _ask(hub, calls.view_account(each), calls.decode_account, "viewAccount") for each in wallets
        ]
        questions += [
            _ask(hub, calls.view_consumed(each), calls.decode_uint, "viewConsumed") for each in orders
        ]
        at = upto
        answers: list[Any] = []
        if questions:
            answers, at = await self._ask(questions, upto)
        deals = answers[: len(found.matches)]
        accounts: list[Account] = answers[len(deals) : len(deals) + len(wallets)]
        consumed: list[int] = answers[len(deals) + len(wallets) :]
        facts: list[tuple[Fact, BlockNumber]] = list(found.facts)
        facts += [
            (StakeRead(wallet=wallet, stake=account.stake), at.number)
            for wallet, account in zip(wallets, accounts, strict=True)
        ]
        facts += [
            (OrderConsumed(order_hash=name, consumed=count), at.number)
            for name, count in zip(orders, consumed, strict=True)
        ]
        rows = [
            _deal_row(self._market.chain_id, deal, match, entry)
            for deal, (match, entry) in zip(deals, found.matches, strict=True)
        ]
        return facts, rows

    async def _ask(self, questions: list[Question[Any]], upto: BlockStamp) -> tuple[list[Any], BlockStamp]:
        try:
            return await self._hub.ask_all(questions, upto), upto
        except Unavailable as problem:
            if problem.code != "block-missing":
                raise
        newest = (await newest_header(self._rpc)).stamp
        if newest.number < upto.number:
            raise Unavailable("the node is behind the logs that it gave", code="node-lags")
        return await self._hub.ask_all(questions, newest), newest


class _Found:
    """What a batch of logs says, before the chain is asked about it."""

    def __init__(self) -> None:
        self.facts: list[tuple[Fact, BlockNumber]] = []
        self.matches: list[tuple[events.OrdersMatched, Log]] = []
        self.orders: dict[OrderHash, None] = {}
        self.wallets: dict[Address, None] = {}
        self.categories: list[CategoryRow] = []

    def add(self, entry: Log, market: ChainMarket) -> None:
        """Take one log; a log that is none of these events is left."""
        try:
            event = events.decode_log(entry)
        except PeerError as problem:
            log.warning("unreadable log left out", reason=str(problem))
            return
        number = entry.block.number
        is_hub = entry.address == market.settings.hub
        match event:
            case events.EntryTransfer(target=owner, entry=resource) if not is_hub:
                if market.book.owner(resource) is not None:
                    self.facts.append((ResourceOwned(resource=resource, owner=owner), number))
            case events.Transfer(source=source, target=target) if is_hub:
                for wallet in (source, target):
                    if market.book.stake(wallet) is not None:
                        self.wallets[wallet] = None
            case events.OrdersMatched() if is_hub:
                self.matches.append((event, entry))
                for name in (
                    event.app_hash,
                    event.dataset_hash,
                    event.workerpool_hash,
                    event.request_hash,
                ):
                    if name in market.book:
                        self.orders[name] = None
            case events.CreateCategory() if is_hub:
                self.categories.append(_category_row(event, entry))
            case (
                events.ClosedAppOrder(order_hash=name)
                | events.ClosedDatasetOrder(order_hash=name)
                | events.ClosedWorkerpoolOrder(order_hash=name)
                | events.ClosedRequestOrder(order_hash=name)
            ) if is_hub:
                self.facts.append((OrderClosed(order_hash=name), number))
            case _:
                pass


def _ask(to: Address, call: bytes, read: Any, what: str) -> Question[Any]:
    return Question(to=to, call=call, read=read, what=what)


def _category_row(event: events.CreateCategory, entry: Log) -> CategoryRow:
    document = {
        "catid": event.category,
        "name": event.name,
        "description": event.description,
        "workClockTimeRef": event.timeref,
        "transactionHash": str(entry.tx_hash),
        "blockNumber": entry.block.number,
        "blockTimestamp": iso_time(entry.block.timestamp * 1000),
    }
    return CategoryRow(category=event.category, timeref=event.timeref, document=json.dumps(document))


def _deal_row(chain_id: int, deal: Deal, match: events.OrdersMatched, entry: Log) -> DealRow:
    def shown(resource: Resource) -> dict[str, object]:
        return {"pointer": str(resource.pointer), "owner": str(resource.owner), "price": resource.price}

    document = {
        "dealid": str(match.deal_id),
        "chainId": chain_id,
        "app": shown(deal.app),
        "dataset": shown(deal.dataset),
        "workerpool": shown(deal.workerpool),
        "appHash": str(match.app_hash),
        "datasetHash": str(match.dataset_hash),
        "workerpoolHash": str(match.workerpool_hash),
        "requestHash": str(match.request_hash),
        "requester": str(deal.requester),
        "beneficiary": str(deal.beneficiary),
        "callback": str(deal.callback),
        "params": deal.params,
        "volume": match.volume,
        "category": deal.category,
        "tag": str(deal.tag),
        "trust": deal.trust,
        "startTime": deal.start_time,
        "botFirst": deal.bot_first,
        "botSize": deal.bot_size,
        "schedulerRewardRatio": deal.scheduler_reward_ratio,
        "workerStake": deal.worker_stake,
        "blockNumber": entry.block.number,
        "blockTimestamp": iso_time(entry.block.timestamp * 1000),
        "transactionHash": str(entry.tx_hash),
    }
    return DealRow(
        deal_id=match.deal_id,
        block_number=entry.block.number,
        category=deal.category,
        parties={
            "requester": deal.requester,
            "beneficiary": deal.beneficiary,
            "app": deal.app.pointer,
            "dataset": deal.dataset.pointer,
            "workerpool": deal.workerpool.pointer,
            "app_owner": deal.app.owner,
            "dataset_owner": deal.dataset.owner,
            "workerpool_owner": deal.workerpool.owner,
            "apporder_hash": match.app_hash,
            "datasetorder_hash": match.dataset_hash,
            "workerpoolorder_hash": match.workerpool_hash,
            "requestorder_hash": match.request_hash,
        },
        document=json.dumps(document),
    )


async def creation_block(rpc: Rpc, hub: Address, newest: BlockNumber) -> BlockNumber:
    """The block in which the hub was created, by bisection over its code.

    A node without old state cannot tell; then every block is read from the first on, which costs time only.
    """
    low, high = 0, int(newest)
    while low < high:
        middle = (low + high) // 2
        try:
            code = await rpc.call("eth_getCode", str(hub), hex(middle))
        except RpcError as refusal:
            log.warning("the node keeps no old state; reading from block 0", reason=str(refusal))
            return BlockNumber(0)
        if code in (None, "0x", "0x0"):
            low = middle + 1
        else:
            high = middle
    return BlockNumber(low)
