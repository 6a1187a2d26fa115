"""The answer to one filter, found only as far as somebody has asked for it.

What a filter asks for is the same for many orders, so the shelf keeps its orders by *shape* (below), a sorted
list for each. The answer to a filter is the merge of the shapes that it admits, and its length the sum of
theirs: neither needs a look at all orders. A view keeps the part of the merge that was asked for, up to its
*frontier*; a change before the frontier is put into the kept part, a change behind it is found when the view
is taken further.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import merge
from itertools import islice
from typing import NamedTuple

from poolwright.orderbook.chunks import SortedListings
from poolwright.orderbook.listing import Entry, Kind, Listing, Place, place_of
from poolwright.orderbook.query import Query
from poolwright.poco.tags import Tag
from poolwright.poco.types import Address


class Shape(NamedTuple):
    """All that filters tell orders of one kind apart by, but the signer and, of an offer, its resource.

    `parties` are the restrictions, of a request all its parties. `magnitude` is the bit length of what is
    left: filters for a volume look at the orders of one magnitude only.
    """

    parties: tuple[Address, ...]
    tag: Tag
    category: int
    trust: int
    magnitude: int
    is_bulk: bool


def shape_of(listing: Listing) -> Shape:
    """The shape of an order as it is now."""
    terms = listing.terms
    match terms.kind:
        case Kind.APP:
            parties: tuple[Address, ...] = (terms.dataset, terms.workerpool, terms.requester)
        case Kind.DATASET:
            parties = (terms.app, terms.workerpool, terms.requester)
        case Kind.WORKERPOOL:
            parties = (terms.app, terms.dataset, terms.requester)
        case Kind.REQUEST:
            parties = (terms.app, terms.dataset, terms.workerpool, terms.requester)
            if terms.request is not None:
                parties = (*parties, terms.request.beneficiary)
    magnitude = listing.remaining.bit_length()
    return Shape(parties, terms.tag, terms.category, terms.trust, magnitude, listing.is_bulk)


def is_told_by_shape(query: Query) -> bool:
    """Whether the shape of an order decides, with its volume at most, if the query wants it."""
    own = {Kind.APP: query.app, Kind.DATASET: query.dataset, Kind.WORKERPOOL: query.workerpool}
    return query.signer is None and own.get(query.kind) is None


def admitted(shapes: Iterable[tuple[Shape, SortedListings]], query: Query) -> list[SortedListings]:
    """The lists that together hold what the query wants; only for a query that shapes tell."""
    found = []
    for shape, listings in shapes:
        if query.bulk_only and not shape.is_bulk:
            continue
        if query.min_volume >> shape.magnitude:  # it wants more than any of them has
            continue
        if not query.admits_terms(listings.first().terms):
            continue
        if query.min_volume > 1 << (shape.magnitude - 1):  # some of them have enough
            enough = (entry for entry in listings.entries() if entry[3].remaining >= query.min_volume)
            listings = SortedListings(enough)
        found.append(listings)
    return found


def merged(lists: Iterable[SortedListings], behind: Place | None) -> Iterator[Entry]:
    """The entries of sorted lists in one order, those behind a place."""
    return merge(*(each.entries(behind) for each in lists))


class View:
    """What one filter admits: `count` orders, the first of them in `kept`.

    Args:
        kept: the first orders, or all of them.
        count: of all.
    """

    __slots__ = ("_frontier", "count", "kept")

    def __init__(self, kept: SortedListings, count: int) -> None:
        self.kept = kept
        self.count = count
        self._frontier: Place | None = _last_place(kept)

    @property
    def is_complete(self) -> bool:
        """Whether all orders are kept."""
        return len(self.kept) == self.count

    @property
    def frontier(self) -> Place | None:
        """Everything up to this place is kept; None while nothing is."""
        return self._frontier

    def extend(self, entries: Iterable[Entry], count: int) -> None:
        """Keep the next `count` of the entries behind the frontier."""
        self.kept.extend(islice(entries, count))
        self._frontier = _last_place(self.kept) or self._frontier

    def add(self, entry: Entry) -> bool:
        """An order came that the filter admits; whether it is kept."""
        is_kept = self.is_complete or self._covers(entry[:3])
        self.count += 1
        if is_kept:
            self.kept.add(entry)
            if self._frontier is None or entry[:3] > self._frontier:
                self._frontier = entry[:3]
        return is_kept

    def remove(self, place: Place) -> bool:
        """An order went that the filter admitted; whether it was kept."""
        is_kept = self._covers(place)
        self.count -= 1
        if is_kept:
            self.kept.remove(place)
        return is_kept

    def _covers(self, place: Place) -> bool:
        return self._frontier is not None and place <= self._frontier


def _last_place(listings: SortedListings) -> Place | None:
    return place_of(listings.last()) if listings else None
