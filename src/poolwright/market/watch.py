"""From the chain's logs to the book: what matches, closures, transfers and categories mean for orders.

    OrdersMatched       the deal is stored; of each order of it that we hold, what deals took of it
    Closed…Order        the order is canceled
    Transfer of stake   both wallets' stake, read at the block, if they have orders that need stake
    Transfer of an entry of a registry      its owner, if there are orders on it
    CreateCategory      stored

Who belongs to a group changes without a log. So with each batch those memberships are read that requests came
to depend on, and those that were read MEMBER_BLOCKS ago; so many at a time.

One process of a market watches, under its term. A batch of logs is taken with the cursor in one turn, so a
crash repeats or loses nothing. Which orders, wallets and resources a batch is about is decided in the turn,
on the newest book: another process may have published an order since the batch was read; then more is read.

Values are read at the batch's last block; a node that has forgotten the state of an old block (a catch-up
after days) is asked for the newest one instead: volume only falls, and later batches bring stakes and owners
up to date. A publication reads the newest block, which another branch may replace before the cursor is there,
so what was read above the cursor is read again when the cursor passes.

When the chain is reorganised below the cursor, the market goes back (`rewind`) and reads on.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

import structlog

from poolwright.chain.blocks import fetch_headers, newest_header
from poolwright.chain.heads import ChainReorganised, Heads
from poolwright.chain.logs import LogBatch, follow
from poolwright.chain.reads import CallReverted, HubReader, Question
from poolwright.chain.rpc import Rpc, RpcError, back_off
from poolwright.market.chain_market import ChainMarket
from poolwright.market.clerk import Decision, Wish
from poolwright.market.groups import membership_fact, membership_question
from poolwright.market.replica import Key, Replica, keys_of, pair_of, with_consumed
from poolwright.market.rewind import rewind
from poolwright.market.rows import CategoryRow, DealRow, Stale
from poolwright.market.steps import Dated, News, Step
from poolwright.market.storage import StorageFailed
from poolwright.market.turns import Deposed, Turn
from poolwright.orderbook.book import Book, OrderClosed, OrderConsumed, OrderReread, ResourceOwned, StakeRead
from poolwright.orderbook.listing import Listing, listing_of, order_of
from poolwright.orderbook.render import iso_time
from poolwright.poco import events, views
from poolwright.poco.errors import PeerError, PoolwrightError, Unavailable
from poolwright.poco.events import Log
from poolwright.poco.records import Account, Deal, Resource
from poolwright.poco.types import Address, BlockNumber, BlockStamp, Hash32, OrderHash

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
    """Follows one chain for its market while this process leads."""

    def __init__(self, market: ChainMarket, rpc: Rpc) -> None:
        self._market = market
        self._rpc = rpc
        self._hub = HubReader(rpc, market.settings.hub)
        self._heads: Heads | None = None

    @property
    def trouble(self) -> PoolwrightError | None:
        """Why the node gives no blocks at the moment; None while it does, and while another process leads."""
        return None if self._heads is None else self._heads.trouble

    async def run(self, term: int, start_block: BlockNumber) -> None:
        """Read on after the cursor, or from the hub's first block, for ever.

        Raises Deposed, StorageFailed, and ChainReorganised when the chain has nothing in common with what was
        read of it.
        """
        settings, registries = self._market.settings, self._market.registries
        addresses = (settings.hub, registries.app, registries.dataset, registries.workerpool)
        cursor = await self._begin(term, start_block)
        while True:
            try:
                async with Heads(
                    self._rpc, confirmations=settings.confirmations, poll_seconds=settings.poll_seconds
                ) as self._heads:
                    async for batch in follow(
                        self._rpc, addresses, [TOPICS], cursor, start_block, self._heads
                    ):
                        await self.take(batch, term)
            except ChainReorganised as reorganised:
                cursor = await rewind(self._market, self._rpc, term, reorganised)
            finally:
                self._heads = None

    async def _begin(self, term: int, start_block: BlockNumber) -> BlockStamp:
        """The cursor as the turn of this term sees it; at first the block before the hub's."""

        def decide(decision: Decision, _: object) -> BlockStamp | None:
            return decision.replica.cursor

        cursor = await self._market.clerk.ask(Wish(decide=decide, term=term))
        attempt = 0
        while cursor is None:
            try:
                [header] = await fetch_headers(self._rpc, [BlockNumber(max(start_block - 1, 0))])
                if header is not None:
                    await self.take(LogBatch(upto=header.stamp, logs=()), term)
                    cursor = header.stamp
                    break
            except (StorageFailed, Deposed):
                raise
            except (Unavailable, RpcError, PeerError) as problem:
                log.warning("cannot read the first block, asking again", reason=str(problem))
            attempt += 1
            await asyncio.sleep(back_off(attempt, 0.5))
        return cursor

    async def take(self, batch: LogBatch, term: int | None) -> None:
        """Make facts of a batch and have them stored with the cursor. Raises Deposed, StorageFailed."""
        found = _Found(batch, self._market)
        answers: dict[Key, tuple[Any, BlockNumber]] = {}
        deals = await self._patiently(self._read_deals, found, batch.upto)
        replica = self._market.clerk.replica
        wanted = found.wanted(replica)
        while True:
            missing = [key for key in wanted if key not in answers]
            if missing:
                answers |= await self._patiently(self._read, missing, batch.upto)

            def look(turn: Turn) -> Stale | None:
                return turn.stale(replica.taken) if found.left(replica) else None

            def decide(
                decision: Decision,
                stale: Stale | None,
                answers: dict[Key, tuple[Any, BlockNumber]] = answers,
            ) -> list[Key] | None:
                left = found.left(decision.replica)
                if left and stale is None:
                    return []  # they left while nobody looked
                gone = {name: stale.orders[name].listing for name in left if stale and name in stale.orders}
                needed = found.wanted(decision.replica, gone)
                if any(key not in answers for key in needed):
                    return needed
                decision.commit.deals += deals
                decision.commit.categories += found.categories
                facts = found.facts(decision.replica, needed, answers, gone)
                decision.make(Step(facts=facts, cursor=batch.upto), news=[_deal_news(deal) for deal in deals])
                return None

            more = await self._market.clerk.ask(Wish(decide=decide, look=look, term=term))
            if more is None:
                return
            wanted = more

    async def _patiently(self, read: Any, *what: Any) -> Any:
        attempt = 0
        while True:
            try:
                return await read(*what)
            except (Unavailable, RpcError, PeerError) as problem:
                attempt += 1
                log.warning("cannot read what logs are about, asking again", reason=str(problem))
                await asyncio.sleep(back_off(attempt, 0.5))
                if self._heads is not None:
                    self._heads.check()

    async def _read_deals(self, found: _Found, upto: BlockStamp) -> list[DealRow]:
        if not found.matches:
            return []
        hub = self._market.settings.hub
        questions = [
            _ask(hub, views.view_deal(match.deal_id), views.decode_deal, "viewDeal")
            for match, _ in found.matches
        ]
        deals, _ = await self._ask(questions, upto)
        return [
            _deal_row(self._market.chain_id, deal, match, entry)
            for deal, (match, entry) in zip(deals, found.matches, strict=True)
        ]

    async def _read(self, keys: list[Key], upto: BlockStamp) -> dict[Key, tuple[Any, BlockNumber]]:
        of_hub = [key for key in keys if key[0] in ("stake", "consumed")]
        answers, at = await self._ask([_question(self._market.settings.hub, *key) for key in of_hub], upto)
        found = {key: (answer, at.number) for key, answer in zip(of_hub, answers, strict=True)}
        found |= await self._read_members([key for key in keys if key[0] == "member"], upto)
        return found | await self._read_owners([key for key in keys if key[0] == "owner"], upto)

    async def _read_members(self, keys: list[Key], upto: BlockStamp) -> dict[Key, tuple[Any, BlockNumber]]:
        """What restrictions answer; None for one that answers nothing."""
        if not keys:
            return {}
        questions = [membership_question(pair_of(name)) for _, name in keys]
        answers, at = await self._at_or_newest(self._hub.ask_each, questions, upto)
        return {key: (answer, at.number) for key, answer in zip(keys, answers, strict=True)}

    async def _read_owners(self, keys: list[Key], upto: BlockStamp) -> dict[Key, tuple[Any, BlockNumber]]:
        """Owners of resources; nobody for one that this branch of the chain does not have yet."""
        questions = [_ask(Address(name), views.owner(), views.decode_address, "owner") for _, name in keys]
        try:
            answers, at = await self._ask(questions, upto)
        except (CallReverted, PeerError):
            if len(keys) == 1:
                return {keys[0]: (Address.zero(), upto.number)}
            half = len(keys) // 2
            return await self._read_owners(keys[:half], upto) | await self._read_owners(keys[half:], upto)
        return {key: (answer, at.number) for key, answer in zip(keys, answers, strict=True)}

    async def _ask(self, questions: list[Question[Any]], upto: BlockStamp) -> tuple[list[Any], BlockStamp]:
        return await self._at_or_newest(self._hub.ask_all, questions, upto)

    async def _at_or_newest(
        self,
        ask: Callable[[list[Question[Any]], BlockStamp], Awaitable[list[Any]]],
        questions: list[Question[Any]],
        upto: BlockStamp,
    ) -> tuple[list[Any], BlockStamp]:
        try:
            return await ask(questions, upto), upto
        except Unavailable as problem:
            if problem.code != "block-missing":
                raise
        newest = (await newest_header(self._rpc)).stamp
        if newest.number < upto.number:
            raise Unavailable("the node is behind the logs that it gave", code="node-lags")
        return await ask(questions, newest), newest


class _Found:
    """What a batch of logs says, before the chain is asked about it."""

    def __init__(self, batch: LogBatch, market: ChainMarket) -> None:
        self.matches: list[tuple[events.OrdersMatched, Log]] = []
        self.categories: list[CategoryRow] = []
        self._hub = market.settings.hub
        self._upto = batch.upto.number
        self._direct: list[Dated] = []
        """Facts that the logs themselves tell."""
        self._wallets: dict[Address, None] = {}
        self._orders: dict[OrderHash, None] = {}
        for entry in batch.logs:
            self._add(entry)

    def left(self, replica: Replica) -> list[OrderHash]:
        """Orders that left the book by what was read ahead, up to this batch's end: on a branch that may be
        lost."""
        names = (
            OrderHash(Hash32(name))
            for (what, name), at in replica.ahead.items()
            if what == "consumed" and at <= self._upto
        )
        return [name for name in names if name not in replica.book]

    def wanted(self, replica: Replica, gone: Mapping[OrderHash, Listing] = MappingProxyType({})) -> list[Key]:
        """What must be read for the orders, wallets and resources that the book holds, and for orders that
        may come back to it."""
        keys: dict[Key, None] = {("stake", wallet): None for wallet in self._wallets}
        keys |= {("consumed", name): None for name in self._orders}
        keys |= {key: None for key, at in replica.ahead.items() if at <= self._upto}
        keys |= dict.fromkeys(replica.members_due(self._upto))
        returning = {key: None for listing in gone.values() for key in keys_of(listing)}
        return [*returning, *(key for key in keys if key not in returning and _is_held(replica.book, *key))]

    def facts(
        self,
        replica: Replica,
        keys: Iterable[Key],
        answers: dict[Key, tuple[Any, BlockNumber]],
        gone: Mapping[OrderHash, Listing],
    ) -> tuple[Dated, ...]:
        """What is new for the book; what was read at an older block than what is known is left out."""
        facts: list[Dated] = []
        for listing in gone.values():
            answer, at = answers["consumed", listing.hash]
            facts.append((OrderReread(listing=with_consumed(listing, answer)), at))
        for fact, at in self._direct:
            if isinstance(fact, ResourceOwned):
                is_old = at < replica.owner_read_at.get(fact.resource, 0)
                if is_old or replica.book.owner(fact.resource) is None:
                    continue
            elif isinstance(fact, OrderClosed) and fact.order_hash not in replica.book:
                continue
            facts.append((fact, at))
        for what, name in keys:
            answer, at = answers[what, name]
            match what:
                case "consumed" if name in gone:
                    pass
                case "consumed":
                    facts.append((_order_fact(replica, OrderHash(Hash32(name)), answer), at))
                case "owner" if at >= replica.owner_read_at.get(Address(name), 0):
                    facts.append((ResourceOwned(resource=Address(name), owner=answer), at))
                case "stake" if at >= replica.stake_read_at.get(Address(name), 0):
                    account: Account = answer
                    facts.append((StakeRead(wallet=Address(name), stake=account.stake), at))
                case "member" if at >= replica.member_read_at.get(pair_of(name), 0):
                    facts.append((membership_fact(pair_of(name), answer), at))
                case _:
                    pass
        return tuple(facts)

    def _add(self, entry: Log) -> None:
        """Take one log; a log that is none of these events is left."""
        try:
            event = events.decode_log(entry)
        except PeerError as problem:
            log.warning("unreadable log left out", reason=str(problem))
            return
        number = entry.block.number
        is_hub = entry.address == self._hub
        match event:
            case events.EntryTransfer(target=owner, entry=resource) if not is_hub:
                self._direct.append((ResourceOwned(resource=resource, owner=owner), number))
            case events.Transfer(source=source, target=target) if is_hub:
                self._wallets[source] = self._wallets[target] = None
            case events.OrdersMatched() if is_hub:
                self.matches.append((event, entry))
                for name in (
                    event.app_hash,
                    event.dataset_hash,
                    event.workerpool_hash,
                    event.request_hash,
                ):
                    self._orders[name] = None
            case events.CreateCategory() if is_hub:
                self.categories.append(_category_row(event, entry))
            case (
                events.ClosedAppOrder(order_hash=name)
                | events.ClosedDatasetOrder(order_hash=name)
                | events.ClosedWorkerpoolOrder(order_hash=name)
                | events.ClosedRequestOrder(order_hash=name)
            ) if is_hub:
                self._direct.append((OrderClosed(order_hash=name), number))
            case _:
                pass


def _is_held(book: Book, what: str, name: bytes) -> bool:
    match what:
        case "consumed":
            return OrderHash(Hash32(name)) in book
        case "stake":
            return book.stake(Address(name)) is not None
        case "member":
            return book.depends_on(pair_of(name))
        case _:
            return book.owner(Address(name)) is not None


def _order_fact(replica: Replica, name: OrderHash, consumed: int) -> OrderConsumed | OrderReread:
    """Volume only falls, except for an order that was read on a branch that may be lost."""
    listing = replica.book.get(name)
    if listing is None or ("consumed", name) not in replica.ahead:
        return OrderConsumed(order_hash=name, consumed=consumed)
    return OrderReread(
        listing=listing_of(
            order_of(listing),
            name,
            signer=listing.signer,
            remaining=max(listing.volume - consumed, 0),
            published=listing.published,
            expires=listing.expires,
        )
    )


def _question(hub: Address, what: str, name: bytes) -> Question[Any]:
    if what == "stake":
        return _ask(hub, views.view_account(Address(name)), views.decode_account, "viewAccount")
    return _ask(hub, views.view_consumed(OrderHash(Hash32(name))), views.decode_uint, "viewConsumed")


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
    return CategoryRow(
        category=event.category,
        timeref=event.timeref,
        block_number=entry.block.number,
        document=json.dumps(document),
    )


def _deal_news(deal: DealRow) -> News:
    document = {name: value for name, value in json.loads(deal.document).items() if name != "chainId"}
    return News(topic="deals", name="deal_created", text=json.dumps(document))


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
