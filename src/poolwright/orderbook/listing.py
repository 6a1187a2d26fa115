"""An order as the book holds it: one small object, shared terms, and its place in the sort order.

A million orders must fit in one gigabyte, so what many orders have in common (resource, restrictions, tag,
category, trust) is one shared `Terms`, and what nobody searches by (salt, signature) is one byte string.

    price, then time, then hash      apps, datasets and workerpools: the cheapest first
    -price, then time, then hash     requests: who pays most for the pool comes first
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntFlag
from typing import Final, TypeAlias

from poolwright.orderbook.groups import NO_GROUPS, Groups
from poolwright.poco import rewards
from poolwright.poco.orders import AppOrder, DatasetOrder, Order, RequestOrder, WorkerpoolOrder
from poolwright.poco.tags import TEE, Tag
from poolwright.poco.types import Address, Hash32, NRlc, OrderHash

MAX_SAFE: Final = 9007199254740991
"""Largest number of an order's JSON, 2^53-1."""


class Kind(Enum):
    """The four kinds of orders, named as in the routes."""

    APP = "apporder"
    DATASET = "datasetorder"
    WORKERPOOL = "workerpoolorder"
    REQUEST = "requestorder"


class Status(Enum):
    """What became of a published order (reference 4.4)."""

    OPEN = "open"
    FILLED = "filled"
    CANCELED = "canceled"
    DEAD = "dead"


class Block(IntFlag):
    """Why an order that has volume left is not open; it comes back when the last reason is gone."""

    NONE = 0
    OWNER = 1
    """The resource belongs to somebody else than the signer."""
    STAKE = 2
    """The signer's stake does not cover it beside the older orders."""
    PARTNER = 4
    """A request without an open app or dataset order that could serve it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Everything of an order that filters ask for and that many orders share.

    The four parties stand in the same four places for every kind: the order's own resource by its address,
    the others by the order's restriction (zero: anybody). Only in a request is a zero dataset "none".
    """

    kind: Kind
    app: Address
    dataset: Address
    workerpool: Address
    requester: Address
    tag: Tag
    category: int = 0
    trust: int = 0
    request: RequestTerms | None = None
    text: list[bytes] = field(default_factory=list, compare=False, repr=False)
    """The rendered JSON, once somebody asked for it."""

    @property
    def resource(self) -> Address:
        """What the order is about: the app, dataset or workerpool; a request's app."""
        match self.kind:
            case Kind.DATASET:
                return self.dataset
            case Kind.WORKERPOOL:
                return self.workerpool
            case _:
                return self.app


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTerms:
    """What only a request says. The caps are nRLC per task."""

    appmaxprice: NRlc
    datasetmaxprice: NRlc
    beneficiary: Address
    callback: Address
    params: str


class Listing:
    """One published order. Only its book changes it."""

    __slots__ = (
        "blocks",
        "expires",
        "hash",
        "price",
        "published",
        "remaining",
        "secret",
        "signer",
        "terms",
        "volume",
    )

    def __init__(
        self,
        *,
        hash: OrderHash,
        terms: Terms,
        signer: Address,
        price: int,
        volume: int,
        remaining: int,
        published: int,
        secret: bytes,
        blocks: Block = Block.NONE,
        expires: int = 0,
    ) -> None:
        self.hash = hash
        self.terms = terms
        self.signer = signer
        self.price = price
        """nRLC per task; a request's cap for the workerpool."""
        self.volume = volume
        self.remaining = remaining
        """Tasks."""
        self.published = published
        """Milliseconds since 1970, UTC."""
        self.secret = secret
        """Salt and signature."""
        self.blocks = int(blocks)
        self.expires = expires
        """Milliseconds since 1970; 0 for never."""

    @property
    def kind(self) -> Kind:
        return self.terms.kind

    @property
    def is_open(self) -> bool:
        return not self.blocks and self.remaining > 0

    @property
    def status(self) -> Status:
        """OPEN, FILLED or DEAD; who cancels an order says so himself."""
        if self.remaining == 0:
            return Status.FILLED
        return Status.DEAD if self.blocks else Status.OPEN

    @property
    def need_per_task(self) -> int:
        """nRLC of stake that one task of this order takes from its signer."""
        if self.terms.request is not None:
            return self.terms.request.appmaxprice + self.terms.request.datasetmaxprice + self.price
        return rewards.pool_stake(NRlc(self.price)) if self.terms.kind is Kind.WORKERPOOL else 0

    @property
    def need(self) -> int:
        """nRLC of stake that all that remains of this order takes from its signer."""
        return self.need_per_task * self.remaining

    @property
    def is_bulk(self) -> bool:
        """A dataset order that may serve any number of runs for nothing (reference 3.7)."""
        return self.price == 0 and self.volume >= MAX_SAFE - 1


Place: TypeAlias = tuple[int, int, bytes]
"""Where an order stands among those of its kind: price (a request's negated), time, hash."""
Entry: TypeAlias = tuple[int, int, bytes, Listing]


def place_of(listing: Listing) -> Place:
    """The order's place in the sort order of its kind."""
    price = -listing.price if listing.terms.kind is Kind.REQUEST else listing.price
    return price, listing.published, listing.hash


def entry_of(listing: Listing) -> Entry:
    """What sorted indexes hold; the hash is unique, so listings are never compared."""
    return (*place_of(listing), listing)


ORDER_OF: Final[Mapping[Kind, type[Order]]] = {
    Kind.APP: AppOrder,
    Kind.DATASET: DatasetOrder,
    Kind.WORKERPOOL: WorkerpoolOrder,
    Kind.REQUEST: RequestOrder,
}


PRICE_NAME: Final[Mapping[Kind, str]] = {
    Kind.APP: "appprice",
    Kind.DATASET: "datasetprice",
    Kind.WORKERPOOL: "workerpoolprice",
    Kind.REQUEST: "workerpoolmaxprice",
}
"""The member of each kind's order that is its `price` here."""


def kind_of(order: Order) -> Kind:
    return Kind(order.KIND)


def resource_of(order: Order) -> Address:
    """What the order is about: the app, dataset or workerpool; a request's app."""
    match order:
        case DatasetOrder():
            return order.dataset
        case WorkerpoolOrder():
            return order.workerpool
        case _:
            return order.app


def terms_of(order: Order) -> Terms:
    """What of the order is shared and searched by."""
    match order:
        case AppOrder():
            return Terms(
                kind=Kind.APP,
                app=order.app,
                dataset=order.datasetrestrict,
                workerpool=order.workerpoolrestrict,
                requester=order.requesterrestrict,
                tag=order.tag,
            )
        case DatasetOrder():
            return Terms(
                kind=Kind.DATASET,
                app=order.apprestrict,
                dataset=order.dataset,
                workerpool=order.workerpoolrestrict,
                requester=order.requesterrestrict,
                tag=order.tag,
            )
        case WorkerpoolOrder():
            return Terms(
                kind=Kind.WORKERPOOL,
                app=order.apprestrict,
                dataset=order.datasetrestrict,
                workerpool=order.workerpool,
                requester=order.requesterrestrict,
                tag=order.tag,
                category=order.category,
                trust=order.trust,
            )
        case RequestOrder():
            return Terms(
                kind=Kind.REQUEST,
                app=order.app,
                dataset=order.dataset,
                workerpool=order.workerpool,
                requester=order.requester,
                tag=order.tag,
                category=order.category,
                trust=order.trust,
                request=RequestTerms(
                    appmaxprice=order.appmaxprice,
                    datasetmaxprice=order.datasetmaxprice,
                    beneficiary=order.beneficiary,
                    callback=order.callback,
                    params=order.params,
                ),
            )


def price_of(order: Order) -> NRlc:
    """The price that orders of this kind are sorted by, per task."""
    match order:
        case AppOrder():
            return order.appprice
        case DatasetOrder():
            return order.datasetprice
        case WorkerpoolOrder():
            return order.workerpoolprice
        case RequestOrder():
            return order.workerpoolmaxprice


def listing_of(
    order: Order,
    order_hash: OrderHash,
    *,
    signer: Address,
    remaining: int,
    published: int,
    blocks: Block = Block.NONE,
    expires: int = 0,
) -> Listing:
    """The order as a book takes it. Times are milliseconds since 1970."""
    return Listing(
        hash=order_hash,
        terms=terms_of(order),
        signer=signer,
        price=price_of(order),
        volume=order.volume,
        remaining=remaining,
        published=published,
        secret=order.salt + order.sign,
        blocks=blocks,
        expires=expires,
    )


def order_of(listing: Listing) -> Order:
    """The signed order again, as it was published."""
    terms, price = listing.terms, NRlc(listing.price)
    salt, sign = Hash32(listing.secret[:32]), bytes(listing.secret[32:])
    match terms.kind:
        case Kind.APP:
            return AppOrder(
                app=terms.app,
                appprice=price,
                volume=listing.volume,
                tag=terms.tag,
                datasetrestrict=terms.dataset,
                workerpoolrestrict=terms.workerpool,
                requesterrestrict=terms.requester,
                salt=salt,
                sign=sign,
            )
        case Kind.DATASET:
            return DatasetOrder(
                dataset=terms.dataset,
                datasetprice=price,
                volume=listing.volume,
                tag=terms.tag,
                apprestrict=terms.app,
                workerpoolrestrict=terms.workerpool,
                requesterrestrict=terms.requester,
                salt=salt,
                sign=sign,
            )
        case Kind.WORKERPOOL:
            return WorkerpoolOrder(
                workerpool=terms.workerpool,
                workerpoolprice=price,
                volume=listing.volume,
                tag=terms.tag,
                category=terms.category,
                trust=terms.trust,
                apprestrict=terms.app,
                datasetrestrict=terms.dataset,
                requesterrestrict=terms.requester,
                salt=salt,
                sign=sign,
            )
        case Kind.REQUEST:
            assert terms.request is not None
            return RequestOrder(
                app=terms.app,
                appmaxprice=terms.request.appmaxprice,
                dataset=terms.dataset,
                datasetmaxprice=terms.request.datasetmaxprice,
                workerpool=terms.workerpool,
                workerpoolmaxprice=price,
                requester=terms.requester,
                volume=listing.volume,
                tag=terms.tag,
                category=terms.category,
                trust=terms.trust,
                beneficiary=terms.request.beneficiary,
                callback=terms.request.callback,
                params=terms.request.params,
                salt=salt,
                sign=sign,
            )


def restrictions_of(terms: Terms) -> tuple[Address, ...]:
    """The restrictions that are set: who may use the order, or of a request, where it may run."""
    match terms.kind:
        case Kind.APP:
            places = (terms.dataset, terms.workerpool, terms.requester)
        case Kind.DATASET:
            places = (terms.app, terms.workerpool, terms.requester)
        case Kind.WORKERPOOL:
            places = (terms.app, terms.dataset, terms.requester)
        case Kind.REQUEST:
            return (terms.workerpool,) if terms.workerpool else ()
    return tuple(place for place in places if place)


def serves(offer: Listing, request: Terms, groups: Groups = NO_GROUPS) -> bool:
    """Whether an app or dataset order may serve a request, as far as the two of them can tell.

    The price within the request's cap, restrictions that admit the request's parties, an enclave where the
    request demands one of the app. A request for any workerpool fits an order for one workerpool.
    """
    wanted = request.request
    assert wanted is not None
    terms = offer.terms
    if terms.kind is Kind.APP:
        if offer.price > wanted.appmaxprice or terms.app != request.app:
            return False
        if request.tag & TEE and not terms.tag & TEE:
            return False
        if not groups.admits(terms.dataset, request.dataset):
            return False
    else:
        if offer.price > wanted.datasetmaxprice or terms.dataset != request.dataset:
            return False
        if not groups.admits(terms.app, request.app):
            return False
    return groups.admits(terms.requester, request.requester) and groups.overlap(
        terms.workerpool, request.workerpool
    )
