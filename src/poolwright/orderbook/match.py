"""The best deal that the open orders make possible now.

Given a request, the cheapest compatible app, dataset and workerpool orders; of equal prices the oldest, of
equal ages the lowest hash. The rules are those of `poco.matching` (0x00 to 0x1b) without their texts, asked
of shared terms rather than of each order. Two things are not known here and are left to who fills the orders:
whether a restriction is a group contract that counts the party among its members (it is taken for an
account), and whether balances still suffice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from poolwright.orderbook.book import Book
from poolwright.orderbook.chunks import SortedListings
from poolwright.orderbook.listing import Kind, Listing, Place, Terms, place_of, serves
from poolwright.poco.matching import Release
from poolwright.poco.tags import TEE, TEE_FRAMEWORKS, Tag


@dataclass(frozen=True, slots=True, kw_only=True)
class BestMatch:
    """Four orders that fit each other; `dataset` is None when the request wants none."""

    app: Listing
    dataset: Listing | None
    workerpool: Listing
    request: Listing

    @property
    def volume(self) -> int:
        """Tasks that one deal of them would have."""
        orders = (self.app, self.dataset, self.workerpool, self.request)
        return min(order.remaining for order in orders if order is not None)

    @property
    def price(self) -> int:
        """nRLC per task."""
        return self.app.price + self.workerpool.price + (self.dataset.price if self.dataset else 0)

    @property
    def rank(self) -> tuple[int, Place, Place, Place]:
        """What the best has least of: price, then the places of pool, app and dataset order."""
        nothing: Place = (0, 0, b"")
        dataset = place_of(self.dataset) if self.dataset else nothing
        return self.price, place_of(self.workerpool), place_of(self.app), dataset


def best_match(book: Book, request: Listing, *, release: Release = Release.V6_1) -> BestMatch | None:
    """The best match of a request with the open orders of the book; None when there is none.

    The request need not be in the book: a wish is answered as a published request is.
    """
    terms = request.terms
    best: BestMatch | None = None
    for app in _cheapest_of_each(book.shelves[Kind.APP].of_resource(terms.app), terms):
        for dataset in _datasets(book, terms):
            tag = _deal_tag(app, dataset, terms, release)
            if tag & TEE and not app.terms.tag & TEE:
                continue  # 0x07
            pool = _cheapest_pool(book, request, app, dataset, tag)
            if pool is None:
                continue
            found = BestMatch(app=app, dataset=dataset, workerpool=pool, request=request)
            if best is None or found.rank < best.rank:
                best = found
    return best


def _datasets(book: Book, request: Terms) -> Iterator[Listing | None]:
    if not request.dataset:
        yield None
        return
    yield from _cheapest_of_each(book.shelves[Kind.DATASET].of_resource(request.dataset), request)


def _cheapest_of_each(offers: SortedListings, request: Terms) -> Iterator[Listing]:
    """Of each terms the first offer, if it serves the request; the others of these terms rank behind it."""
    seen: set[int] = set()
    for offer in offers:
        if id(offer.terms) not in seen:
            seen.add(id(offer.terms))
            if serves(offer, request):
                yield offer


def _deal_tag(app: Listing, dataset: Listing | None, request: Terms, release: Release) -> Tag:
    tag = app.terms.tag | request.tag
    if dataset is None:
        return tag
    stripped = release is Release.V6_2
    return tag | (TEE_FRAMEWORKS.lacks(dataset.terms.tag) if stripped else dataset.terms.tag)


def _cheapest_pool(
    book: Book, request: Listing, app: Listing, dataset: Listing | None, tag: Tag
) -> Listing | None:
    shelf, wanted = book.shelves[Kind.WORKERPOOL], request.terms
    pools = shelf.of_resource(wanted.workerpool) if wanted.workerpool else shelf.of_category(wanted.category)
    offers = [app.terms] + ([dataset.terms] if dataset else [])
    verdicts: dict[int, bool] = {}
    for pool in pools:
        if pool.price > request.price:
            return None  # 0x05; the others are dearer still
        verdict = verdicts.get(id(pool.terms))
        if verdict is None:
            verdict = verdicts[id(pool.terms)] = _pool_fits(pool.terms, wanted, offers, tag)
        if verdict:
            return pool
    return None


def _pool_fits(pool: Terms, request: Terms, offers: list[Terms], tag: Tag) -> bool:
    """Category, trust, tag and restrictions between a pool order and the others."""
    return (
        pool.category == request.category
        and pool.trust >= request.trust
        and not pool.tag.lacks(tag)
        and (not request.workerpool or request.workerpool == pool.workerpool)
        and all(not offer.workerpool or offer.workerpool == pool.workerpool for offer in offers)
        and (not pool.app or pool.app == request.app)
        and (not pool.dataset or pool.dataset == request.dataset)
        and (not pool.requester or pool.requester == request.requester)
    )
