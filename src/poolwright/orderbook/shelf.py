"""The open orders of one kind, sorted, so that any page of any filter is found without looking at all.

Four sorts of sorted lists:

    all                      every open order
    of one resource, signer, category      made with the first such order, gone with the last
    of one shape             the same; all that filters tell orders apart by, see `views`
    views                    the answer to one filter, kept up to date while it is among the recently asked

A filter that names a resource or a signer is answered by a pass over that short list. Any other is answered
from the shapes that it admits, and found only as far as it is read: the first page of a new filter costs the
same whether the shelf holds a thousand orders or a million, as long as they are of few shapes. The answer
becomes a view, which costs a bisection per change. A view is told of changes only within its narrowest list,
so thousands of views on different resources do not slow a publication down.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final, TypeAlias, TypeVar

from poolwright.orderbook.chunks import SortedListings
from poolwright.orderbook.listing import (
    Entry,
    Kind,
    Listing,
    Place,
    Terms,
    entry_of,
    place_of,
    restrictions_of,
)
from poolwright.orderbook.query import Query
from poolwright.orderbook.views import Shape, View, admitted, is_told_by_shape, merged, shape_of
from poolwright.poco.types import Address

KeyT = TypeVar("KeyT")

SMALL: Final = 64
"""A usual `small` of a shelf."""

Key: TypeAlias = tuple[str, Address | int | None]
"""Name of a sorted list: ("resource", address), ("signer", address), ("category", number), ("all", None)."""
ALL: Final[Key] = ("all", None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some orders of an answer, and how many the whole answer has."""

    listings: list[Listing]
    count: int


class Shelf:
    """Open orders of one kind.

    Args:
        max_views: filters whose answers are kept.
        max_viewed: orders in all kept answers together; one order counts once per answer that has it.
        small: a list this short is searched each time rather than viewed.
        first_step: orders that a new view finds beyond those it is asked for; the next steps double what it
            has.
    """

    def __init__(
        self, *, max_views: int = 512, max_viewed: int = 2_000_000, small: int = SMALL, first_step: int = 256
    ) -> None:
        self._lists: dict[Key, SortedListings] = {ALL: SortedListings()}
        self._shapes: dict[Shape, SortedListings] = {}
        self._views: OrderedDict[Query, tuple[Key, View]] = OrderedDict()
        self._key_to_views: dict[Key, dict[Query, View]] = {}
        self._viewed = 0
        self._max_views = max_views
        self._max_viewed = max_viewed
        self._small = small
        self._first_step = first_step
        self.version = 0
        """Grows with every change."""
        self.restrictions: dict[Address, int] = {}
        """Who the open orders restrict themselves to, and how many do."""
        self.new_restrictions: dict[Address, None] = {}
        """Those of them that nobody has looked at yet; who looks takes them out."""

    def __len__(self) -> int:
        return len(self._lists[ALL])

    def all(self) -> SortedListings:
        """Every open order, sorted."""
        return self._lists[ALL]

    def of_resource(self, resource: Address) -> SortedListings:
        """The open orders on one resource."""
        return self._lists.get(("resource", resource), _NONE)

    def of_signer(self, signer: Address) -> SortedListings:
        """The open orders of one wallet."""
        return self._lists.get(("signer", signer), _NONE)

    def of_category(self, category: int) -> SortedListings:
        """The open orders of one category."""
        return self._lists.get(("category", category), _NONE)

    def fill(self, listings: Iterable[Listing]) -> None:
        """Put many open orders on an empty shelf: sorted once, and then dealt out to the lists."""
        self.version += 1
        entries = sorted(map(entry_of, listings))
        by_key: dict[Key, list[Entry]] = {ALL: entries}
        by_shape: dict[Shape, list[Entry]] = {}
        by_terms: dict[tuple[int, int, bool], list[Entry]] = {}
        for entry in entries:
            listing = entry[3]
            self._restrict(listing.terms)
            equal = (id(listing.terms), listing.remaining.bit_length(), listing.is_bulk)
            same_shape = by_terms.get(equal)
            if same_shape is None:  # shapes are compared once for all orders on the same terms
                same_shape = by_terms[equal] = by_shape.setdefault(shape_of(listing), [])
            same_shape.append(entry)
            for key in _keys(listing)[1:]:
                by_key.setdefault(key, []).append(entry)
        self._shapes = {shape: SortedListings(found) for shape, found in by_shape.items()}
        self._lists = {key: SortedListings(found) for key, found in by_key.items()}

    def add(self, listing: Listing) -> None:
        """Put an open order on the shelf."""
        self.version += 1
        self._restrict(listing.terms)
        entry = entry_of(listing)
        _put(self._shapes, shape_of(listing), entry)
        for key in _keys(listing):
            _put(self._lists, key, entry)
            for query, view in self._key_to_views.get(key, _NO_VIEWS).items():
                if query.admits(listing):
                    self._viewed += view.add(entry)

    def _restrict(self, terms: Terms) -> None:
        for party in restrictions_of(terms):
            count = self.restrictions[party] = self.restrictions.get(party, 0) + 1
            if count == 1:
                self.new_restrictions[party] = None

    def remove(self, listing: Listing) -> None:
        """Take an order off the shelf, with the values that it had when it was put there."""
        self.version += 1
        for party in restrictions_of(listing.terms):
            self.restrictions[party] -= 1
            if not self.restrictions[party]:
                del self.restrictions[party]
                self.new_restrictions.pop(party, None)
        place = place_of(listing)
        _take(self._shapes, shape_of(listing), place)
        for key in _keys(listing):
            _take(self._lists, key, place)
            for query, view in self._key_to_views.get(key, _NO_VIEWS).items():
                if query.admits(listing):
                    self._viewed -= view.remove(place)

    def page(self, query: Query, *, skip: int = 0, after: Place | None = None, count: int = 20) -> Page:
        """The orders that the query admits: at most `count`, after the first `skip` or behind a place."""
        view = self._view(query)
        if after is None:
            self._reach(query, view, skip + count)
            return Page(listings=view.kept.slice(skip, count), count=view.count)
        found = view.kept.after(after, count)
        if len(found) < count and not view.is_complete:  # the page goes on behind what is kept
            place = place_of(found[-1]) if found else max(after, view.frontier or after)
            rest = merged(admitted(self._shapes.items(), query), place)
            found += [entry[3] for entry in islice(rest, count - len(found))]
        return Page(listings=found, count=view.count)

    def answer(self, query: Query) -> SortedListings:
        """All orders that the query admits, sorted."""
        view = self._view(query)
        self._reach(query, view, view.count)
        return view.kept

    def _view(self, query: Query) -> View:
        kept = self._views.get(query)
        if kept is not None:
            self._views.move_to_end(query)
            return kept[1]
        key, narrowest = self._narrowest(query)
        if len(narrowest) > len(self._shapes) and is_told_by_shape(query):
            view = View(SortedListings(), sum(map(len, admitted(self._shapes.items(), query))))
        else:
            found = _filtered(narrowest, query)
            view = View(found, len(found))
        if len(narrowest) > self._small:
            self._keep(key, query, view)
        return view

    def _reach(self, query: Query, view: View, wanted: int) -> None:
        """Let a view keep at least so many orders, if there are so many."""
        missing = min(wanted, view.count) - len(view.kept)
        if missing <= 0:
            return
        step = max(missing, len(view.kept), self._first_step)
        before = len(view.kept)
        view.extend(merged(admitted(self._shapes.items(), query), view.frontier), step)
        if query in self._views:
            self._viewed += len(view.kept) - before
            self._forget()

    def _narrowest(self, query: Query) -> tuple[Key, SortedListings]:
        keys = [ALL]
        if query.resource is not None:
            keys.append(("resource", query.resource))
        if query.signer is not None:
            keys.append(("signer", query.signer))
        if query.category is not None:
            keys.append(("category", query.category))
        return min(((key, self._lists.get(key, _NONE)) for key in keys), key=lambda each: len(each[1]))

    def _keep(self, key: Key, query: Query, view: View) -> None:
        self._views[query] = (key, view)
        self._key_to_views.setdefault(key, {})[query] = view
        self._viewed += len(view.kept)
        self._forget()

    def _forget(self) -> None:
        """Drop the views that were not asked for longest, until the others fit."""
        while len(self._views) > self._max_views or (
            self._viewed > self._max_viewed and len(self._views) > 1
        ):
            old, (old_key, forgotten) = self._views.popitem(last=False)
            self._viewed -= len(forgotten.kept)
            views = self._key_to_views[old_key]
            del views[old]
            if not views:
                del self._key_to_views[old_key]


_NONE: Final = SortedListings()
"""Stands for a list that nobody made; never added to."""
_NO_VIEWS: Final[dict[Query, View]] = {}
_IN_CATEGORIES: Final = (Kind.WORKERPOOL, Kind.REQUEST)


def _keys(listing: Listing) -> tuple[Key, ...]:
    terms = listing.terms
    keys: tuple[Key, ...] = (ALL, ("resource", terms.resource), ("signer", listing.signer))
    return (*keys, ("category", terms.category)) if terms.kind in _IN_CATEGORIES else keys


def _put(lists: dict[KeyT, SortedListings], key: KeyT, entry: Entry) -> None:
    found = lists.get(key)
    if found is None:
        found = lists[key] = SortedListings()
    found.add(entry)


def _take(lists: dict[KeyT, SortedListings], key: KeyT, place: Place) -> None:
    found = lists[key]
    found.remove(place)
    if not found and key is not ALL:
        del lists[key]


def _filtered(source: SortedListings, query: Query) -> SortedListings:
    """What the query admits, still sorted. Terms are many orders' and are looked at once."""
    signer, min_volume = query.signer, query.min_volume
    is_plain = signer is None and not query.tells_listings_apart
    verdicts: dict[int, bool] = {}
    found: list[Entry] = []
    for entry in source.entries():
        terms = entry[3].terms
        verdict = verdicts.get(id(terms))
        if verdict is None:
            verdict = verdicts[id(terms)] = query.admits_terms(terms)
        if verdict and (
            is_plain
            or (
                (signer is None or entry[3].signer == signer)
                and entry[3].remaining >= min_volume
                and (not query.bulk_only or entry[3].is_bulk)
            )
        ):
            found.append(entry)
    return SortedListings(found)
