"""What one asks an order book: which orders, from where on, how many.

Every filter of reference 4.3 works for every kind that has it. A party is asked for by the set of addresses
that its place may hold:

    nothing said         {zero}            only orders without that restriction
    an address           {zero, address}   orders that this party may use
    an address, strict   {address}         orders for this party alone
    "any"                None              no condition
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from poolwright.orderbook.listing import Kind, Listing, Terms
from poolwright.poco.tags import Tag
from poolwright.poco.types import Address

Parties: TypeAlias = frozenset[Address] | None

NOBODY: Final = Address.zero()
UNRESTRICTED: Final[Parties] = frozenset({NOBODY})
ANYBODY: Final[Parties] = None
ALL_TAGS: Final = Tag((1 << 256) - 1)


def usable_by(party: Address) -> Parties:
    """Orders that this party may use."""
    return frozenset({NOBODY, party})


def exactly(party: Address) -> Parties:
    """Orders of, or for, this party alone."""
    return frozenset({party})


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which open orders of one kind. Prices sort them; nothing here asks for a price."""

    kind: Kind
    app: Parties = UNRESTRICTED
    dataset: Parties = UNRESTRICTED
    workerpool: Parties = UNRESTRICTED
    requester: Parties = UNRESTRICTED
    beneficiary: Address | None = None
    signer: Address | None = None
    """Owner of the resource at publication; a request's requester."""
    category: int | None = None
    min_trust: int = 0
    """Asked of workerpool orders: they offer at least this."""
    max_trust: int | None = None
    """Asked of requests: they want at most this."""
    min_tag: Tag = Tag(0)  # noqa: RUF009  an immutable value
    """All of these flags are set."""
    max_tag: Tag = ALL_TAGS
    """None but these flags is set."""
    min_volume: int = 1
    """Tasks left."""
    bulk_only: bool = False

    @property
    def resource(self) -> Address | None:
        """The one resource that is asked for, if it is one."""
        match self.kind:
            case Kind.DATASET:
                parties = self.dataset
            case Kind.WORKERPOOL:
                parties = self.workerpool
            case _:
                parties = self.app
        return next(iter(parties)) if parties is not None and len(parties) == 1 else None

    @property
    def tells_listings_apart(self) -> bool:
        """Whether the terms alone do not decide."""
        return self.min_volume > 1 or self.bulk_only

    def admits_terms(self, terms: Terms) -> bool:
        """Whether orders on these terms are wanted, as far as the terms tell."""
        for wanted, party in (
            (self.app, terms.app),
            (self.dataset, terms.dataset),
            (self.workerpool, terms.workerpool),
            (self.requester, terms.requester),
        ):
            if wanted is not None and party not in wanted:
                return False
        if self.category is not None and terms.category != self.category:
            return False
        if self.beneficiary is not None and (
            terms.request is None or terms.request.beneficiary != self.beneficiary
        ):
            return False
        if terms.trust < self.min_trust or (self.max_trust is not None and terms.trust > self.max_trust):
            return False
        return not self.min_tag & ~terms.tag and not terms.tag & ~self.max_tag

    def admits(self, listing: Listing) -> bool:
        """Whether this order is wanted."""
        return (
            (self.signer is None or listing.signer == self.signer)
            and listing.remaining >= self.min_volume
            and (not self.bulk_only or listing.is_bulk)
            and self.admits_terms(listing.terms)
        )
