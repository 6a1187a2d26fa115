"""The best deal that the open orders make possible now.

Given a request, the cheapest compatible app, dataset and workerpool orders; of equal prices the oldest, of
equal ages the lowest hash. The rules are those of `poco.matching` (0x00 to 0x1b) without their texts, asked
of shared terms rather than of each order. Whether balances still suffice is left to who fills the orders.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Final

from poolwright.orderbook.book import Book, BookRefusal
from poolwright.orderbook.chunks import SortedListings
from poolwright.orderbook.groups import NO_GROUPS, Groups
from poolwright.orderbook.listing import Kind, Listing, Place, Terms, place_of, serves
from poolwright.poco.matching import Release
from poolwright.poco.tags import TEE, TEE_FRAMEWORKS, Tag

MOST_LOOKED: Final = 50_000
"""Combinations of terms that one question looks at usually, a fraction of a second."""


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


def best_match(
    book: Book,
    request: Listing,
    *,
    groups: Groups = NO_GROUPS,
    release: Release = Release.V6_1,
    most_looked: int = MOST_LOOKED,
) -> BestMatch | None:
    """The best match of a request with the open orders of the book; None when there is none.

    The request need not be in the book: a wish is answered as a published request is. What of groups would
    have to be known is in `groups.asked` afterwards; while there is anything, a better match may be missing.
    Raises BookRefusal when there are more than `most_looked` combinations of terms to look at.
    """
    terms = request.terms
    apps = _cheapest_of_each(book.shelves[Kind.APP].of_resource(terms.app), terms, groups)
    datasets: list[Listing | None] = [None]
    if terms.dataset:
        shelf = book.shelves[Kind.DATASET]
        datasets = [*_cheapest_of_each(shelf.of_resource(terms.dataset), terms, groups)]
    if len(apps) * len(datasets) > most_looked:
        raise _too_wide()
    offers = sorted(product(apps, datasets), key=_price)
    pools = _cheapest_pools(book, request, groups) if offers else []
    best: BestMatch | None = None
    looked = 0
    for app, dataset in offers:
        tag = _deal_tag(app, dataset, terms, release)
        if tag & TEE and not app.terms.tag & TEE:
            continue  # 0x07
        price = _price((app, dataset))
        for pool in pools:
            if best is not None and price + pool.price > best.price:
                break  # the others are dearer still
            looked += 1
            if looked > most_looked:
                raise _too_wide()
            if _pool_fits(pool.terms, terms, app, dataset, tag, groups):
                found = BestMatch(app=app, dataset=dataset, workerpool=pool, request=request)
                if best is None or found.rank < best.rank:
                    best = found
                break
    return best


def _price(offers: tuple[Listing, Listing | None]) -> int:
    app, dataset = offers
    return app.price + (dataset.price if dataset else 0)


def _cheapest_of_each(offers: SortedListings, request: Terms, groups: Groups) -> list[Listing]:
    """Of each terms the first offer, if it serves the request; the others of these terms rank behind it."""
    seen: set[int] = set()
    found: list[Listing] = []
    for offer in offers:
        if id(offer.terms) not in seen:
            seen.add(id(offer.terms))
            if serves(offer, request, groups):
                found.append(offer)
    return found


def _cheapest_pools(book: Book, request: Listing, groups: Groups) -> list[Listing]:
    """Of each terms the first workerpool order within the request's cap, sorted (0x00, 0x02, 0x05, 0x12)."""
    shelf, wanted = book.shelves[Kind.WORKERPOOL], request.terms
    is_one_pool = wanted.workerpool and wanted.workerpool not in groups
    offers = shelf.of_resource(wanted.workerpool) if is_one_pool else shelf.of_category(wanted.category)
    seen: set[int] = set()
    found: list[Listing] = []
    for offer in offers:
        if offer.price > request.price:
            break
        terms = offer.terms
        if id(terms) not in seen:
            seen.add(id(terms))
            if terms.category == wanted.category and terms.trust >= wanted.trust:
                found.append(offer)
    return found


def _deal_tag(app: Listing, dataset: Listing | None, request: Terms, release: Release) -> Tag:
    tag = app.terms.tag | request.tag
    if dataset is None:
        return tag
    stripped = release is Release.V6_2
    return tag | (TEE_FRAMEWORKS.lacks(dataset.terms.tag) if stripped else dataset.terms.tag)


def _pool_fits(
    pool: Terms, request: Terms, app: Listing, dataset: Listing | None, tag: Tag, groups: Groups
) -> bool:
    """Tag (0x06), and what the orders restrict of each other (0x12, 0x14, 0x17, 0x19 to 0x1b)."""
    return (
        not pool.tag.lacks(tag)
        and groups.admits(request.workerpool, pool.workerpool)
        and groups.admits(app.terms.workerpool, pool.workerpool)
        and (dataset is None or groups.admits(dataset.terms.workerpool, pool.workerpool))
        and groups.admits(pool.app, request.app)
        and groups.admits(pool.dataset, request.dataset)
        and groups.admits(pool.requester, request.requester)
    )


def _too_wide() -> BookRefusal:
    return BookRefusal(
        "too many orders to look through; ask for one workerpool, or with lower caps", code="too-wide"
    )
