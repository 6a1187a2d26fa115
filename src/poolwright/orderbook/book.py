"""The order book of one chain: what is published, what of it is open, and what the chain does to it.

Store facts, derive the rest. The facts are: the published orders and what remains of each, who owns a
resource, what stake a wallet has. Whether an order is open follows from them (`Block` says why not):

    OWNER      the resource belongs to the signer, or the order is dead until it does again
    PARTNER    a request has an open app order, and dataset order if it names one, that could serve it; an
               order restricted to a group serves whom the chain was heard to count as a member
    STAKE      the wallet's orders are covered from the oldest to the newest as far as its stake goes; an
               order that does not fit is dead until stake comes back, smaller ones behind it may fit

    nothing remains                 the order leaves: FILLED, or CANCELED if the signer closed it
    the publisher's end is over     the order leaves: DEAD
    unpublished                     the order leaves and no trace of it is kept
    the chain is reorganised        what deals took comes back, and an order that had left with it

Changes come in batches, one per block or more; what is open is settled once at the end of a batch, because
inside a block an order's volume and its wallet's stake fall one after the other.

The book changes in place: a million orders are not copied for one event. It does no I/O, has no clock, and
the same calls give the same book.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, TypeAlias

from poolwright.orderbook.groups import Membership, Memberships, Pair, UsedMemberships
from poolwright.orderbook.listing import Block, Kind, Listing, Status, Terms, serves
from poolwright.orderbook.shelf import Shelf
from poolwright.poco.errors import InputError, InvariantBroken
from poolwright.poco.types import Address, NRlc, OrderHash

_OWNER: Final = int(Block.OWNER)
_STAKE: Final = int(Block.STAKE)
_PARTNER: Final = int(Block.PARTNER)
_NOT_STAKE: Final = _OWNER | _PARTNER
"""Plain integers: flags of an enum cost a microsecond per operation."""


# --- facts in -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class StakeRead:
    """The wallet's free stake, in nRLC."""

    wallet: Address
    stake: NRlc


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceOwned:
    """The app, dataset or workerpool belongs to this wallet."""

    resource: Address
    owner: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipRead:
    """What the restriction `group` answers about the account (ERC-734)."""

    group: Address
    account: Address
    membership: Membership


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderConsumed:
    """Deals took so many tasks of the order, all in all."""

    order_hash: OrderHash
    consumed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderClosed:
    """The signer cancelled the order on the chain."""

    order_hash: OrderHash


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderUnpublished:
    """The signer took the order off this market."""

    order_hash: OrderHash


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderReread:
    """Deals or a closure of the order vanished with their blocks: so much remains of it now."""

    listing: Listing


@dataclass(frozen=True, slots=True, kw_only=True)
class TimePassed:
    """It is this many milliseconds since 1970."""

    now: int


Fact: TypeAlias = (
    StakeRead
    | ResourceOwned
    | MembershipRead
    | OrderConsumed
    | OrderClosed
    | OrderUnpublished
    | OrderReread
    | TimePassed
)


# --- changes out --------------------------------------------------------------------------------------------


class News(Enum):
    """What the rest of the world hears of an order (reference 4.10)."""

    PUBLISHED = "published"
    """It is open now and was not."""
    UPDATED = "updated"
    """It is still open, with less remaining."""
    UNPUBLISHED = "unpublished"
    """It is not open any more."""
    SILENT = "silent"
    """It was not open and is not; another reason, or less remaining."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One order after a batch. `status` is None when its signer unpublished it."""

    listing: Listing
    news: News
    status: Status | None


class BookRefusal(InputError):
    """The book does not take this order; its text is the reference's."""


class NoPartner(BookRefusal):
    """No open app or dataset order serves the request, unless one of the memberships in `unread` holds."""

    unread: tuple[Pair, ...] = ()


class _Wallet:
    """The orders of one signer that his stake must cover."""

    __slots__ = ("need", "orders", "short", "stake")

    def __init__(self) -> None:
        self.stake = 0
        self.orders: dict[OrderHash, Listing] = {}
        self.need = 0
        """Of all orders that nothing but stake could keep closed."""
        self.short = 0
        """How many of them it does keep closed."""


class Book:
    """All published orders of one chain that may still be matched, open or dead for a while."""

    def __init__(self) -> None:
        self.shelves: Final = {kind: Shelf() for kind in Kind}
        self._listings: dict[OrderHash, Listing] = {}
        self._owners: dict[Address, Address] = {}
        self._resource_to_orders: dict[Address, dict[OrderHash, Listing]] = {}
        """Published orders by what they offer; requests are not among them."""
        self._wanted_to_requests: dict[Address, dict[OrderHash, Listing]] = {}
        """Published requests by the app and by the dataset that they want."""
        self._wallets: dict[Address, _Wallet] = {}
        self._terms: dict[Terms, Terms] = {}
        self._users: dict[int, int] = {}
        """How many listings share the terms, by their identity."""
        self._addresses: dict[Address, Address] = {}
        self._ends: list[tuple[int, OrderHash]] = []
        self._dirty_resources: set[Address] = set()
        self._dirty_requests: dict[OrderHash, Listing] = {}
        self._dirty_wallets: set[Address] = set()
        self._members = UsedMemberships()
        self._dropped: list[Pair] = []
        self._before: dict[OrderHash, tuple[Listing, bool, int]] = {}
        """What a batch touched: the listing, whether it was open, what remained."""
        self._gone: dict[OrderHash, Status | None] = {}

    # --- reading --------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._listings)

    def __contains__(self, order_hash: object) -> bool:
        return order_hash in self._listings

    def get(self, order_hash: OrderHash) -> Listing | None:
        """A published order that has something left, open or not."""
        return self._listings.get(order_hash)

    def listings(self) -> Iterator[Listing]:
        """All of them, in the order of publication to this book."""
        return iter(self._listings.values())

    def stake(self, wallet: Address) -> NRlc | None:
        """The wallet's stake as last read; None for a wallet whose orders need none."""
        found = self._wallets.get(wallet)
        return None if found is None else NRlc(found.stake)

    def need(self, wallet: Address) -> NRlc:
        """What the wallet's published orders take of its stake, in nRLC, whether they are covered or not."""
        found = self._wallets.get(wallet)
        return NRlc(0 if found is None else found.need)

    def owner(self, resource: Address) -> Address | None:
        """The resource's owner as last read; None for one without orders."""
        return self._owners.get(resource)

    def known_memberships(self) -> Mapping[Pair, Membership]:
        """What restrictions answered as last read, for the pairs that requests depend on."""
        return self._members.known

    def depends_on(self, pair: Pair) -> bool:
        """Whether a request depends on what this restriction answers about this account."""
        return self._members.is_used(pair)

    def memberships(self) -> Memberships:
        """The same, for who asks whether one order serves another."""
        return Memberships(self._members.known)

    def unknown_memberships(self) -> Iterable[Pair]:
        """Those that requests depend on and nobody has read yet, the first needed first."""
        return self._members.unknown

    def dropped_memberships(self) -> list[Pair]:
        """Those that the last batch forgot, because no request depends on them."""
        return self._dropped

    def open_of(self, kind: Kind, signer: Address, resource: Address) -> list[Listing]:
        """The signer's open orders on one resource, the newest first; of a requester all his requests."""
        shelf = self.shelves[kind]
        lists = [shelf.of_signer(signer)]
        if kind is not Kind.REQUEST:
            lists.append(shelf.of_resource(resource))
        found = [
            each
            for each in min(lists, key=len)
            if each.signer == signer and (kind is Kind.REQUEST or each.terms.resource == resource)
        ]
        return sorted(found, key=lambda each: (-each.published, each.hash))

    def next_end(self) -> int | None:
        """When the next order expires, in milliseconds since 1970."""
        while self._ends and self._ends[0][1] not in self._listings:
            heapq.heappop(self._ends)
        return self._ends[0][0] if self._ends else None

    # --- publication ----------------------------------------------------------------------------------------

    def check(
        self,
        listing: Listing,
        *,
        stake: NRlc,
        max_open: int,
        members: Mapping[Pair, Membership] | None = None,
    ) -> None:
        """Check what only the book can tell of a new order (reference 4.7, steps 3, 6, 8 and 9).

        The stake must cover the order beside all others of the wallet. `members` are the memberships that
        were read for this publication; what the book knows of others may be some blocks old and is not used.
        Raises BookRefusal; NoPartner names the memberships that could make a difference and were not read.
        """
        kind, noun = listing.kind, listing.kind.value
        known = self._listings.get(listing.hash)
        if known is not None and known.is_open:
            raise BookRefusal("order already published", code="already-published")
        if len(self.shelves[kind].of_signer(listing.signer)) >= max_open:
            raise BookRefusal(
                f"maximum of {max_open} published open {noun} has been reached for wallet {listing.signer}",
                code="too-many-orders",
            )
        self._check_stake(listing, stake, known)
        if kind is Kind.REQUEST:
            self._check_partners(listing.terms, {} if members is None else members)

    def publish(self, listing: Listing, facts: Iterable[Fact] = ()) -> list[Change]:
        """Take an order that was checked, with what was read of the chain for it; tell what changed.

        An order that is here and dead keeps its first publication time. Raises BookRefusal when it is open.
        """
        known = self._listings.get(listing.hash)
        if known is not None:
            if known.is_open:
                raise BookRefusal("order already published", code="already-published")
            listing.published = known.published
            listing.remaining = min(listing.remaining, known.remaining)
            self._remove(known, None)
        self._before[listing.hash] = (listing, False, listing.remaining)
        self._insert(listing)
        return self.apply(facts)

    def restore(self, listings: Iterable[Listing], facts: Iterable[Fact] = ()) -> list[Change]:
        """Fill an empty book with what was stored; tell which orders are not as they were stored."""
        if self._listings:
            raise InvariantBroken("a book was restored twice", expected="an empty book")
        known = list(facts)
        self._owners = {fact.resource: fact.owner for fact in known if isinstance(fact, ResourceOwned)}
        open_orders: dict[Kind, list[Listing]] = {kind: [] for kind in Kind}
        for listing in listings:
            self._enter(listing)
            self._count(listing, 1)
            if listing.is_open:
                open_orders[listing.kind].append(listing)
        for kind, found in open_orders.items():
            self.shelves[kind].fill(found)
        self._owners = {key: owner for key, owner in self._owners.items() if key in self._resource_to_orders}
        return self.apply(known)

    # --- what happens to published orders -------------------------------------------------------------------

    def apply(self, facts: Iterable[Fact]) -> list[Change]:
        """Take a batch of facts and settle what is open; tell each order that changed, once.

        Facts about orders, wallets and resources that the book does not have change nothing.
        """
        for fact in facts:
            self._take(fact)
        self._settle_requests()
        self._dropped = self._members.drop_unused()
        for wallet in self._dirty_wallets:
            self._settle_wallet(self._wallets[wallet])
        self._dirty_wallets.clear()
        return self._changes()

    def _take(self, fact: Fact) -> None:
        match fact:
            case StakeRead(wallet=wallet, stake=stake):
                found = self._wallets.get(wallet)
                if found is not None:
                    found.stake = stake
                    self._dirty_wallets.add(wallet)
            case ResourceOwned(resource=resource, owner=owner):
                self._take_owner(resource, owner)
            case MembershipRead(group=group, account=account, membership=membership):
                for order_hash in self._members.tell((group, account), membership):
                    self._dirty_requests[order_hash] = self._listings[order_hash]
            case OrderConsumed(order_hash=order_hash, consumed=consumed):
                listing = self._listings.get(order_hash)
                if listing is not None:
                    left = max(min(listing.remaining, listing.volume - consumed), 0)
                    if left != listing.remaining:
                        self._set(listing, remaining=left)
                    if not left:
                        self._remove(listing, Status.FILLED)
            case OrderClosed(order_hash=order_hash):
                listing = self._listings.get(order_hash)
                if listing is not None:
                    self._set(listing, remaining=0)
                    self._remove(listing, Status.CANCELED)
            case OrderUnpublished(order_hash=order_hash):
                listing = self._listings.get(order_hash)
                if listing is not None:
                    self._touch(listing)
                    self._remove(listing, None)
            case OrderReread(listing=listing):
                self._reread(listing)
            case TimePassed(now=now):
                self._expire(now)

    def _reread(self, listing: Listing) -> None:
        """The order as the chain has it now: what left may come back, what is here may have more left."""
        known = self._listings.get(listing.hash)
        if known is None and listing.remaining:
            self._before.setdefault(listing.hash, (listing, False, listing.remaining))
            self._insert(listing)
        elif known is not None and listing.remaining != known.remaining:
            self._set(known, remaining=listing.remaining)
            if not listing.remaining:
                self._remove(known, Status.FILLED)

    def _take_owner(self, resource: Address, owner: Address) -> None:
        orders = self._resource_to_orders.get(resource)
        if orders is None or self._owners[resource] == owner:
            return
        self._owners[resource] = owner
        for listing in orders.values():
            self._block(listing, _OWNER, listing.signer != owner)

    def _expire(self, now: int) -> None:
        while self._ends and self._ends[0][0] <= now:
            _, order_hash = heapq.heappop(self._ends)
            listing = self._listings.get(order_hash)
            if listing is not None and 0 < listing.expires <= now:
                self._touch(listing)
                self._remove(listing, Status.DEAD)

    # --- settling -------------------------------------------------------------------------------------------

    def _settle_requests(self) -> None:
        for resource in self._dirty_resources:
            self._dirty_requests.update(self._wanted_to_requests.get(resource, {}))
        self._dirty_resources.clear()
        if not self._dirty_requests:
            return
        for order_hash, request in self._dirty_requests.items():
            if order_hash in self._listings:
                groups = self.memberships()
                is_missing = self._partner_missing(request.terms, groups) is not None
                self._block(request, _PARTNER, is_missing)
                self._members.use(order_hash, _relied_on(groups, is_missing))
        self._dirty_requests.clear()

    def _partner_missing(self, request: Terms, groups: Memberships) -> Kind | None:
        """The kind of order that no open one of serves the request; None when it can be served."""
        if not self._served(Kind.APP, request.app, request, groups):
            return Kind.APP
        if request.dataset and not self._served(Kind.DATASET, request.dataset, request, groups):
            return Kind.DATASET
        return None

    def _served(self, kind: Kind, resource: Address, request: Terms, groups: Memberships) -> bool:
        refused: set[int] = set()
        for offer in self.shelves[kind].of_resource(resource):
            if id(offer.terms) in refused:
                continue  # sorted by price: with these terms it was the cheapest
            if serves(offer, request, groups):
                return True
            refused.add(id(offer.terms))
        return False

    def _settle_wallet(self, wallet: _Wallet) -> None:
        """Cover the wallet's orders from the oldest to the newest."""
        if wallet.need <= wallet.stake and not wallet.short:
            return
        left = wallet.stake
        for listing in sorted(wallet.orders.values(), key=lambda each: (each.published, each.hash)):
            if listing.blocks & _NOT_STAKE:
                self._block(listing, _STAKE, False)
                continue
            need = listing.need
            self._block(listing, _STAKE, need > left)
            if need <= left:
                left -= need

    # --- the few places where a listing changes -------------------------------------------------------------

    def _insert(self, listing: Listing) -> None:
        self._enter(listing)
        self._attach(listing)

    def _enter(self, listing: Listing) -> None:
        """Know the listing; it is counted nowhere yet, and on no shelf."""
        self._share(listing)
        self._listings[listing.hash] = listing
        terms = listing.terms
        if listing.kind is Kind.REQUEST:
            for wanted in (terms.app, terms.dataset):
                if wanted:
                    self._wanted_to_requests.setdefault(wanted, {})[listing.hash] = listing
            self._dirty_requests[listing.hash] = listing
        else:
            self._resource_to_orders.setdefault(terms.resource, {})[listing.hash] = listing
            owner = self._owners.setdefault(terms.resource, listing.signer)
            listing.blocks = listing.blocks & ~_OWNER | (0 if owner == listing.signer else _OWNER)
        if listing.expires:
            heapq.heappush(self._ends, (listing.expires, listing.hash))
        if listing.need_per_task:
            wallet = self._wallets.setdefault(listing.signer, _Wallet())
            wallet.orders[listing.hash] = listing
            self._dirty_wallets.add(listing.signer)

    def _remove(self, listing: Listing, status: Status | None) -> None:
        self._detach(listing)
        self._gone[listing.hash] = status
        del self._listings[listing.hash]
        terms = listing.terms
        if listing.kind is Kind.REQUEST:
            for wanted in (terms.app, terms.dataset):
                if wanted:
                    _drop(self._wanted_to_requests, wanted, listing.hash)
            self._members.use(listing.hash, ())
        else:
            _drop(self._resource_to_orders, terms.resource, listing.hash)
            if terms.resource not in self._resource_to_orders:
                del self._owners[terms.resource]
        wallet = self._wallets.get(listing.signer)
        if wallet is not None and wallet.orders.pop(listing.hash, None) is not None and not wallet.orders:
            del self._wallets[listing.signer]
            self._dirty_wallets.discard(listing.signer)
        self._unshare(listing)

    def _set(self, listing: Listing, *, remaining: int) -> None:
        self._touch(listing)
        self._detach(listing)
        listing.remaining = remaining
        self._attach(listing)

    def _block(self, listing: Listing, reason: int, is_blocked: bool) -> None:
        """Set or lift one reason."""
        blocks = listing.blocks | reason if is_blocked else listing.blocks & ~reason
        if blocks & _NOT_STAKE:
            blocks &= ~_STAKE  # an order that waits for something else takes no stake and lacks none
        if blocks == listing.blocks:
            return
        self._touch(listing)
        self._detach(listing)
        listing.blocks = blocks
        self._attach(listing)

    def _attach(self, listing: Listing) -> None:
        """Count the listing where its present values say."""
        self._count(listing, 1)
        if listing.is_open:
            self.shelves[listing.kind].add(listing)
            self._unsettle_partners(listing)

    def _detach(self, listing: Listing) -> None:
        """Undo `_attach`, before a value changes."""
        self._count(listing, -1)
        if listing.is_open:
            self.shelves[listing.kind].remove(listing)
            self._unsettle_partners(listing)

    def _count(self, listing: Listing, sign: int) -> None:
        """Add what the listing needs to its wallet's need, or with -1 take it away."""
        wallet = self._wallets.get(listing.signer)
        if wallet is not None and listing.hash in wallet.orders and not listing.blocks & _NOT_STAKE:
            wallet.need += sign * listing.need
            wallet.short += sign * (listing.blocks == _STAKE)
            self._dirty_wallets.add(listing.signer)

    def _unsettle_partners(self, listing: Listing) -> None:
        if listing.kind in (Kind.APP, Kind.DATASET) and listing.terms.resource in self._wanted_to_requests:
            self._dirty_resources.add(listing.terms.resource)

    def _touch(self, listing: Listing) -> None:
        self._before.setdefault(listing.hash, (listing, listing.is_open, listing.remaining))

    def _changes(self) -> list[Change]:
        changes: list[Change] = []
        for order_hash, (listing, was_open, remained) in self._before.items():
            is_here = order_hash in self._listings
            is_open = is_here and listing.is_open
            news = _NEWS[was_open, is_open]
            status = listing.status if is_here else self._gone[order_hash]
            if news is News.UPDATED and listing.remaining == remained:
                continue
            changes.append(Change(listing=listing, news=news, status=status))
        self._before.clear()
        self._gone.clear()
        return changes

    # --- sharing what is equal ------------------------------------------------------------------------------

    def _share(self, listing: Listing) -> None:
        terms = listing.terms
        if id(terms) not in self._users:  # comparing all of them takes longer
            terms = listing.terms = self._terms.setdefault(terms, terms)
        self._users[id(terms)] = self._users.get(id(terms), 0) + 1
        listing.signer = self._addresses.setdefault(listing.signer, listing.signer)

    def _unshare(self, listing: Listing) -> None:
        terms = listing.terms
        self._users[id(terms)] -= 1
        if not self._users[id(terms)]:
            del self._users[id(terms)], self._terms[terms]

    # --- checks ---------------------------------------------------------------------------------------------

    def _check_stake(self, listing: Listing, stake: NRlc, known: Listing | None) -> None:
        if not listing.need_per_task:
            return
        need = self.need(listing.signer) + listing.need
        if known is not None and not known.blocks & _NOT_STAKE:
            need -= known.need
        if need <= stake:
            return
        if listing.kind is Kind.WORKERPOOL:
            raise BookRefusal(
                "workerpool owner's stake is too low to cover required workerpool lock",
                code="stake-too-low",
            )
        raise BookRefusal(
            "requester stake is too low to cover requestorder payment, minimum stake required is "
            f"{need} nRLC",
            code="stake-too-low",
        )

    def _check_partners(self, request: Terms, members: Mapping[Pair, Membership]) -> None:
        groups = Memberships(members)
        missing = self._partner_missing(request, groups)
        if missing is None:
            return
        refusal = self._no_partner(request, missing, groups)
        refusal.unread = tuple(groups.asked)
        raise refusal

    def _no_partner(self, request: Terms, missing: Kind, groups: Memberships) -> NoPartner:
        wanted = request.request
        assert wanted is not None
        noun = missing.value.removesuffix("order")
        resource = request.app if missing is Kind.APP else request.dataset
        offers = [
            offer
            for offer in self.shelves[missing].of_resource(resource)
            if serves(offer, _without_caps(request), groups)
        ]
        if offers:
            return NoPartner(
                f"{noun}maxprice for {noun} {resource} is too low, "
                f"actual best price is {offers[0].price} nRLC",
                code="price-too-low",
            )
        is_tee = missing is Kind.APP and request.tag & 1
        return NoPartner(
            f"No {'tee enabled ' if is_tee else ''}{missing.value} published for {noun} {resource}",
            code="no-partner",
        )


_NEWS: Final = {
    (False, True): News.PUBLISHED,
    (True, True): News.UPDATED,
    (True, False): News.UNPUBLISHED,
    (False, False): News.SILENT,
}


def _relied_on(groups: Memberships, is_missing: bool) -> list[Pair]:
    """The memberships that could turn the verdict: of a request that is served, those that let it be."""
    none = (None, Membership.NO_GROUP)
    return [pair for pair, answer in groups.consulted.items() if is_missing or answer not in none]


def _without_caps(request: Terms) -> Terms:
    assert request.request is not None
    huge = NRlc(1 << 256)
    return replace(request, request=replace(request.request, appmaxprice=huge, datasetmaxprice=huge))


def _drop(index: dict[Address, dict[OrderHash, Listing]], key: Address, order_hash: OrderHash) -> None:
    orders = index[key]
    orders.pop(order_hash, None)
    if not orders:
        del index[key]
