"""One chain's market: its book, what is read of the chain for it, and how changes become durable.

Every change takes the same way: decide on the book (at once, in this process), queue what must be stored,
wait until the database has it, then answer and tell the news. The queue keeps the order of the decisions,
so the stored rows are the book's states in the book's order, and what got a 200 survives any crash.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

from poolwright.chain.reads import Question
from poolwright.market.config import ChainSettings
from poolwright.market.errors import forbidden, not_found
from poolwright.market.feed import Feed
from poolwright.market.reading import NO_ANSWER, NewestReads
from poolwright.market.rows import CategoryRow, Commit, DealRow, OrderRow, OwnerRow, StakeRow
from poolwright.market.storage import Storage, StorageFailed
from poolwright.orderbook.book import (
    Book,
    Change,
    Fact,
    News,
    OrderUnpublished,
    ResourceOwned,
    StakeRead,
    TimePassed,
)
from poolwright.orderbook.invariants import check_book
from poolwright.orderbook.listing import Kind, Listing, Status, kind_of, listing_of, resource_of
from poolwright.orderbook.render import render
from poolwright.poco import calls
from poolwright.poco.errors import InputError, PeerError
from poolwright.poco.orders import Domain, Order, RequestOrder, order_hash
from poolwright.poco.signatures import recover
from poolwright.poco.types import Address, BlockNumber, BlockStamp, Hash32, NRlc, OrderHash


@dataclass(frozen=True, slots=True, kw_only=True)
class Registries:
    """The contracts that say what exists."""

    app: Address
    dataset: Address
    workerpool: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What was read for a publication, at one block."""

    block: BlockStamp
    owner: Address
    consumed: int
    stake: NRlc
    signed: bool


class ChainMarket:
    """The market of one chain. `start` fills its book from storage."""

    def __init__(
        self,
        settings: ChainSettings,
        *,
        domain: Domain,
        registries: Registries,
        reads: NewestReads,
        storage: Storage,
        feed: Feed,
        max_open_orders: int,
        checks_invariants: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings: Final = settings
        self.domain: Final = domain
        self.registries: Final = registries
        self.book: Final = Book()
        self.storage: Final = storage
        self.cursor: BlockStamp | None = None
        self._reads = reads
        self._feed = feed
        self._max_open = max_open_orders
        self._checks = checks_invariants
        self._clock = clock
        self._stake_read_at: dict[Address, BlockNumber] = {}
        self._owner_read_at: dict[Address, BlockNumber] = {}
        self._newest_time = 0
        self.watched: int = 0
        """Last block whose logs the watcher has begun to take; what is read before it is too old."""

    @property
    def chain_id(self) -> int:
        return self.settings.chain_id

    def start(self) -> None:
        """Fill the book from storage. Blocks; called before the market serves."""
        facts: list[Fact] = []
        for stake in self.storage.stakes(self.chain_id):
            facts.append(StakeRead(wallet=stake.wallet, stake=stake.stake))
            self._stake_read_at[stake.wallet] = stake.read_at
        for owner in self.storage.owners(self.chain_id):
            facts.append(ResourceOwned(resource=owner.resource, owner=owner.owner))
            self._owner_read_at[owner.resource] = owner.read_at
        changes = self.book.restore(self.storage.load(self.chain_id), facts)
        if changes:
            self.storage.submit(self._commit_of(changes)).result()
        if self._checks:
            check_book(self.book)

    # --- publication ----------------------------------------------------------------------------------------

    async def publish(self, order: Order, wallet: Address, *, expires: int = 0) -> Listing:
        """Take an order of an authorized wallet; returns when it is stored.

        The checks are those of reference 4.7, in its order. `expires` is milliseconds since 1970; 0 is never.
        Raises InputError, Unavailable.
        """
        kind = kind_of(order)
        name = order_hash(order, self.domain)
        first_published = await self._check_unknown(kind, name)
        read = await self._read_for(order, name, wallet)
        while read.block.number < self.watched:  # a log of a later block may have been about this order
            read = await self._read_for(order, name, wallet)
        if read.owner != wallet:
            raise forbidden(f"only order signer {read.owner} can publish an order")
        if not read.signed:
            raise forbidden("invalid sign")
        now = self.now()
        if expires and expires <= now:
            raise forbidden("expiresAt is over")
        remaining = order.volume - read.consumed
        listing = listing_of(
            order,
            name,
            signer=wallet,
            remaining=max(remaining, 0),
            published=first_published or now,
            expires=expires,
        )
        self._check_limit(listing)
        if remaining <= 0:
            raise forbidden("order already consumed")
        self.book.check(listing, stake=read.stake, max_open=self._max_open)
        commit = Commit(chain_id=self.chain_id)
        facts = self._facts_read(listing, read, commit)
        changes = self.book.publish(listing, facts)
        try:
            await self._settle(changes, commit)
        except StorageFailed:
            self.book.apply([OrderUnpublished(order_hash=name)])
            raise
        return listing

    async def _check_unknown(self, kind: Kind, name: OrderHash) -> int | None:
        """When the order was first published, if it was and is dead; None for a new one."""
        known = self.book.get(name)
        if known is not None and known.is_open:
            raise forbidden("order already published")
        if known is None:
            row = await asyncio.to_thread(self.storage.order, self.chain_id, kind, name)
            if row is not None and row.status is not Status.DEAD:
                raise forbidden("order already published")
            return None if row is None else row.listing.published
        return known.published

    def _check_limit(self, listing: Listing) -> None:
        """Before the volume, as the reference; the book checks it again with the rest."""
        kind = listing.kind
        if len(self.book.shelves[kind].of_signer(listing.signer)) >= self._max_open:
            raise forbidden(
                f"maximum of {self._max_open} published open {kind.value} has been reached for wallet "
                f"{listing.signer}"
            )

    async def _read_for(self, order: Order, name: OrderHash, wallet: Address) -> Published:
        """Ask the chain everything about an order in one exchange; check what exists and who signed."""
        kind, hub = kind_of(order), self.settings.hub
        resource = resource_of(order)
        signer = order.requester if isinstance(order, RequestOrder) else wallet
        questions: list[Question[Any]] = [
            _question(hub, calls.view_consumed(name), calls.decode_uint, "viewConsumed"),
            _question(hub, calls.view_account(signer), calls.decode_account, "viewAccount"),
        ]
        if kind is not Kind.REQUEST:
            registry = getattr(self.registries, kind.value.removesuffix("order"))
            questions += [
                _question(registry, calls.is_registered(resource), calls.decode_bool, "isRegistered"),
                _question(resource, calls.owner(), calls.decode_address, "owner"),
            ]
        by_key = _recovered(name, order.sign)
        if by_key != signer:  # a contract's signature, a presigned order, or no signature
            questions.append(
                _question(
                    hub,
                    calls.verify_presignature_or_signature(signer, name, order.sign),
                    calls.decode_bool,
                    "verifyPresignatureOrSignature",
                )
            )
        block, answers = await self._reads.ask(questions)
        consumed, account, *rest = answers
        owner = signer
        if kind is not Kind.REQUEST:
            is_registered, owner, *rest = rest
            if is_registered is not True or owner is NO_ANSWER:
                raise forbidden(f"{kind.value.removesuffix('order').capitalize()} not deployed")
        return Published(
            block=block,
            owner=owner,
            consumed=consumed,
            stake=account.stake,
            signed=by_key == signer or rest[0] is True,
        )

    def _facts_read(self, listing: Listing, read: Published, commit: Commit) -> list[Fact]:
        """What the reads for a publication mean for the whole book."""
        facts: list[Fact] = []
        at = read.block.number
        if listing.need_per_task and at >= self._stake_read_at.get(listing.signer, 0):
            self._stake_read_at[listing.signer] = at
            facts.append(StakeRead(wallet=listing.signer, stake=read.stake))
            commit.stakes.append(StakeRow(wallet=listing.signer, stake=read.stake, read_at=at))
        elif listing.need_per_task:
            stake = self.book.stake(listing.signer)
            facts.append(StakeRead(wallet=listing.signer, stake=read.stake if stake is None else stake))
        resource = listing.terms.resource
        if listing.kind is not Kind.REQUEST and at >= self._owner_read_at.get(resource, 0):
            self._owner_read_at[resource] = at
            facts.append(ResourceOwned(resource=resource, owner=read.owner))
            commit.owners.append(OwnerRow(resource=resource, owner=read.owner, read_at=at))
        return facts

    # --- unpublication --------------------------------------------------------------------------------------

    async def unpublish(self, kind: Kind, name: OrderHash, wallet: Address) -> list[OrderHash]:
        """Take one open order of the wallet off the market. Raises MarketRefusal (reference 4.8)."""
        listing = self.book.get(name)
        if listing is None or listing.kind is not kind or not listing.is_open:
            raise forbidden(f"{kind.value} with orderHash {name} is not published")
        if listing.signer != wallet:
            raise forbidden(f"only order signer {listing.signer} can unpublish an order")
        return await self._unpublish([listing])

    async def unpublish_of(
        self, kind: Kind, resource: Address, wallet: Address, *, only_last: bool
    ) -> list[OrderHash]:
        """Take the wallet's last open order on a resource off the market, or all of them, newest first."""
        found = self.book.open_of(kind, wallet, resource)
        if kind is Kind.REQUEST:
            found = [] if resource != wallet else found
        if not found:
            noun = "requester" if kind is Kind.REQUEST else kind.value.removesuffix("order")
            raise forbidden(f"no open {kind.value} published by signer {wallet} for {noun} {resource}")
        return await self._unpublish(found[:1] if only_last else found)

    async def _unpublish(self, listings: Sequence[Listing]) -> list[OrderHash]:
        names = [listing.hash for listing in listings]
        changes = self.book.apply([OrderUnpublished(order_hash=name) for name in names])
        try:
            await self._settle(changes, Commit(chain_id=self.chain_id))
        except StorageFailed:
            for listing in listings:
                self.book.publish(listing)
            raise
        return names

    # --- what the chain and the clock do --------------------------------------------------------------------

    async def take(
        self,
        facts: Sequence[tuple[Fact, BlockNumber]],
        *,
        upto: BlockStamp,
        deals: Sequence[DealRow] = (),
        categories: Sequence[CategoryRow] = (),
    ) -> None:
        """Take what a batch of logs up to a block means, with the block at which each fact was read.

        Returns when all of it and the cursor are stored. A fact read at an older block than what is known
        already is left out.
        """
        commit = Commit(chain_id=self.chain_id, cursor=upto, deals=list(deals), categories=list(categories))
        fresh: list[Fact] = []
        for fact, at in facts:
            if isinstance(fact, StakeRead):
                if at < self._stake_read_at.get(fact.wallet, 0) or self.book.stake(fact.wallet) is None:
                    continue
                self._stake_read_at[fact.wallet] = at
                commit.stakes.append(StakeRow(wallet=fact.wallet, stake=fact.stake, read_at=at))
            elif isinstance(fact, ResourceOwned):
                if at < self._owner_read_at.get(fact.resource, 0) or self.book.owner(fact.resource) is None:
                    continue
                self._owner_read_at[fact.resource] = at
                commit.owners.append(OwnerRow(resource=fact.resource, owner=fact.owner, read_at=at))
            fresh.append(fact)
        await self._settle(self.book.apply(fresh), commit)
        self.cursor = upto
        for deal in deals:
            self._feed.tell(self.chain_id, "deals", "deal_created", deal.document)

    async def expire(self) -> None:
        """Let orders die whose publishers' end is over."""
        changes = self.book.apply([TimePassed(now=self.now())])
        if changes:
            await self._settle(changes, Commit(chain_id=self.chain_id))

    def now(self) -> int:
        """Milliseconds since 1970; never the same twice, so that "the last published" is one order."""
        self._newest_time = max(int(self._clock() * 1000), self._newest_time + 1)
        return self._newest_time

    # --- durable, then told ---------------------------------------------------------------------------------

    async def _settle(self, changes: Sequence[Change], commit: Commit) -> None:
        if self._checks:
            check_book(self.book)
        news = [self._news(change) for change in changes if change.news is not News.SILENT]
        await _durable(self.storage.submit(self._commit_of(changes, commit)))
        for name, text in news:
            self._feed.tell(self.chain_id, "orders", name, text)

    def _commit_of(self, changes: Sequence[Change], commit: Commit | None = None) -> Commit:
        commit = commit or Commit(chain_id=self.chain_id)
        for change in changes:
            listing = change.listing
            if change.status is None:
                commit.unpublished.append(listing.hash)
            else:
                commit.orders.append(
                    OrderRow(
                        listing=listing,
                        status=change.status,
                        remaining=listing.remaining,
                        blocks=listing.blocks if listing.hash in self.book else 0,
                    )
                )
        return commit

    def _news(self, change: Change) -> tuple[str, str]:
        listing = change.listing
        name = f"{listing.kind.value}_{change.news.value}"
        if change.news is News.UNPUBLISHED:
            return name, f'"{listing.hash}"'
        return name, render(listing, chain_id="").decode()

    # --- reading --------------------------------------------------------------------------------------------

    async def order(self, kind: Kind, name: OrderHash, chain_text: str) -> bytes:
        """The document of one order in whatever status. Raises MarketRefusal (404)."""
        listing, status = self.book.get(name), None
        if listing is None or listing.kind is not kind:
            row = await asyncio.to_thread(self.storage.order, self.chain_id, kind, name)
            if row is None:
                raise not_found(kind.value)
            listing, status = row.listing, row.status
        return render(listing, chain_id=f'"{chain_text}"', status=status, is_item=False)


async def _durable(stored: Future[None]) -> None:
    await asyncio.shield(asyncio.wrap_future(stored))


def _question(to: Address, call: bytes, read: Callable[[bytes], Any], what: str) -> Question[Any]:
    return Question(to=to, call=call, read=read, what=what)


def _recovered(digest: Hash32, sign: bytes) -> Address | None:
    try:
        return recover(digest, sign)
    except (PeerError, InputError):
        return None
