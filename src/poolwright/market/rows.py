"""What the market keeps: values that its storage writes and reads, and how orders become text and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, TypeAlias

from poolwright.orderbook.groups import Membership, Pair
from poolwright.orderbook.listing import ORDER_OF, PRICE_NAME, Kind, Listing, Status, Terms, terms_of
from poolwright.orderbook.render import render_order
from poolwright.poco.types import Address, BlockNumber, BlockStamp, DealId, Hash32, NRlc, OrderHash

NEVER_READ: Final = BlockNumber(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRow:
    """A published order with its status; `blocks` says why a dead one may come back."""

    listing: Listing
    status: Status
    remaining: int
    blocks: int
    read_at: BlockNumber = NEVER_READ
    """Block at which `remaining` was found on the chain; a stored later one stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StakeRow:
    """A wallet's free stake, as read at a block."""

    wallet: Address
    stake: NRlc
    read_at: BlockNumber


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerRow:
    """A resource's owner, as read at a block."""

    resource: Address
    owner: Address
    read_at: BlockNumber


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberRow:
    """What a restriction answered about an account, as read at a block."""

    pair: Pair
    membership: Membership
    read_at: BlockNumber


@dataclass(frozen=True, slots=True, kw_only=True)
class DealRow:
    """A deal: what it is searched by, and its public JSON."""

    deal_id: DealId
    block_number: BlockNumber
    category: int
    parties: Mapping[str, bytes]
    """By the names of the columns: addresses of parties and owners, hashes of orders."""
    document: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryRow:
    """A category: its id, its work clock in seconds, and its public JSON."""

    category: int
    timeref: int
    block_number: BlockNumber
    document: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeRow:
    """One change of a chain's book, as the other processes read it; `steps` reads and writes the body."""

    first: int
    number: int
    body: str


@dataclass(slots=True, kw_only=True)
class Commit:
    """What is stored together or not at all; of one row the last state alone."""

    chain_id: int
    rolled_back_to: BlockNumber | None = None
    """Deals, categories and passed blocks above it go, before anything else."""
    orders: dict[OrderHash, OrderRow] = field(default_factory=dict)
    unpublished: set[OrderHash] = field(default_factory=set)
    """These go before `orders` are written."""
    reread: dict[OrderHash, BlockNumber] = field(default_factory=dict)
    """Orders that were found on the chain at this block, also where nothing else of them changed."""
    stakes: dict[Address, StakeRow] = field(default_factory=dict)
    owners: dict[Address, OwnerRow] = field(default_factory=dict)
    members: dict[Pair, MemberRow | None] = field(default_factory=dict)
    """None for one that no request depends on any more."""
    deals: list[DealRow] = field(default_factory=list)
    categories: list[CategoryRow] = field(default_factory=list)
    cursor: BlockStamp | None = None
    changes: list[ChangeRow] = field(default_factory=list)

    def keep(self, row: OrderRow) -> None:
        """Write an order's present state."""
        self.orders[row.listing.hash] = row

    def drop(self, order_hash: OrderHash) -> None:
        """Keep no trace of an order."""
        self.orders.pop(order_hash, None)
        self.unpublished.add(order_hash)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stale:
    """What was found on the chain above a block that a reorganisation begins at, and must be read again."""

    orders: Mapping[OrderHash, OrderRow]
    wallets: frozenset[Address]
    resources: frozenset[Address]
    members: frozenset[Pair]
    deals: tuple[str, ...]
    """Documents of the deals that vanish."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DealQuery:
    """Which deals; `parties` by the names of the columns, all must hold."""

    parties: Mapping[str, bytes]
    category: int | None = None


PARTY_COLUMNS: Final = (
    "requester",
    "beneficiary",
    "app",
    "dataset",
    "workerpool",
    "app_owner",
    "dataset_owner",
    "workerpool_owner",
    "apporder_hash",
    "datasetorder_hash",
    "workerpoolorder_hash",
    "requestorder_hash",
)


def pack_order(listing: Listing) -> str:
    """The signed order as text."""
    return render_order(listing).decode()


_OWN: Final = (*PRICE_NAME.values(), "volume", "salt", "sign")
_SHARED: Final = {
    kind: tuple(each.name for each in fields(order_type) if each.name not in _OWN)
    for kind, order_type in ORDER_OF.items()
}
"""The members of each kind's order that are in its terms."""
KnownTerms: TypeAlias = dict[tuple[Any, ...], Terms]


def listing_from(
    kind: Kind,
    order_hash: bytes,
    *,
    document: str,
    signer: bytes,
    remaining: int,
    published: int,
    blocks: int,
    expires: int,
    known: KnownTerms | None = None,
) -> Listing:
    """A stored order, of the text that `pack_order` made, as the book takes it.

    Who reads many hands on `known`: terms that many of them share are read and held once.
    """
    members = json.loads(document)
    key = (kind, *[members[name] for name in _SHARED[kind]])
    terms = None if known is None else known.get(key)
    if terms is None:
        terms = terms_of(ORDER_OF[kind].from_json(members))
        if known is not None:
            known[key] = terms
    listing = Listing(
        hash=OrderHash(Hash32(order_hash)),
        terms=terms,
        signer=Address(signer),
        price=members[PRICE_NAME[kind]],
        volume=members["volume"],
        remaining=remaining,
        published=published,
        secret=bytes.fromhex(members["salt"][2:] + members["sign"][2:]),
        expires=expires,
    )
    listing.blocks = blocks
    return listing
