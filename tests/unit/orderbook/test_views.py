"""Views that are found as far as they are read: always what a look at every order gives."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from random import Random

import pytest

from offers import APP, address, pool, request
from poolwright.orderbook.listing import Kind, Listing, place_of
from poolwright.orderbook.query import ANYBODY, Query, exactly, usable_by
from poolwright.orderbook.shelf import Shelf
from poolwright.orderbook.views import is_told_by_shape
from poolwright.poco.tags import TDX, TEE

FRIEND = address("friend")
POOL_QUERIES = (
    Query(kind=Kind.WORKERPOOL, workerpool=ANYBODY),
    Query(kind=Kind.WORKERPOOL, workerpool=ANYBODY, category=1),
    Query(kind=Kind.WORKERPOOL, workerpool=ANYBODY, requester=usable_by(FRIEND), min_volume=5),
    Query(kind=Kind.WORKERPOOL, workerpool=ANYBODY, requester=exactly(FRIEND), min_trust=2),
    Query(kind=Kind.WORKERPOOL, workerpool=ANYBODY, min_tag=TEE, min_volume=3),
    Query(kind=Kind.WORKERPOOL, workerpool=usable_by(address("pool 1")), max_tag=TEE | TDX),
)
REQUEST_QUERIES = (
    Query(kind=Kind.REQUEST, app=exactly(APP), requester=ANYBODY),
    Query(kind=Kind.REQUEST, app=ANYBODY, dataset=ANYBODY, requester=ANYBODY, max_trust=1, min_volume=2),
    Query(kind=Kind.REQUEST, app=ANYBODY, requester=ANYBODY, beneficiary=FRIEND),
)


def some_pool(draw: Random, at: int) -> Listing:
    return pool(
        at=at,
        workerpool=address(f"pool {draw.randrange(3)}"),
        workerpoolprice=draw.randrange(4),
        category=draw.randrange(2),
        trust=draw.choice((0, 3)),
        tag=draw.choice((0, TEE | TDX)),
        requesterrestrict=draw.choice((address("nobody"), FRIEND)),
        volume=draw.choice((1, 2, 4, 5, 7, 9)),
    )


def some_request(draw: Random, at: int) -> Listing:
    return request(
        at=at,
        app=draw.choice((APP, address("another app"))),
        requester=draw.choice((FRIEND, address("stranger"))),
        beneficiary=draw.choice((FRIEND, address("stranger"))),
        workerpoolmaxprice=draw.randrange(4),
        trust=draw.randrange(3),
        volume=draw.choice((1, 2, 4)),
    )


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("some", "queries"),
    [(some_pool, POOL_QUERIES), (some_request, REQUEST_QUERIES)],
    ids=["pools", "requests"],
)
def test_pages_are_those_of_a_look_at_every_order(some, queries, seed: int) -> None:  # type: ignore[no-untyped-def]
    draw, numbers = Random(seed), count()
    orders, there = Shelf(max_views=4, max_viewed=60, small=0, first_step=3), []
    for _ in range(300):
        what = draw.random()
        if what < 0.5 or not there:
            there.append(some(draw, next(numbers)))
            orders.add(there[-1])
        elif what < 0.75:
            orders.remove(there.pop(draw.randrange(len(there))))
        else:
            query = draw.choice(queries)
            wanted = sorted((one for one in there if query.admits(one)), key=place_of)
            if draw.random() < 0.5:
                skip = draw.randrange(12)
                page, expected = orders.page(query, skip=skip, count=5), wanted[skip : skip + 5]
            else:
                after = place_of(draw.choice(there))  # any order, whether the query wants it or not
                behind = [one for one in wanted if place_of(one) > after]
                page, expected = orders.page(query, after=after, count=5), behind[:5]
            assert (page.listings, page.count) == (expected, len(wanted))
    for query in queries:
        assert list(orders.answer(query)) == sorted((one for one in there if query.admits(one)), key=place_of)


def test_the_first_page_of_a_new_filter_looks_at_no_more_orders_than_it_needs() -> None:
    orders, looked = Shelf(first_step=3), []
    for number in range(3_000):
        orders.add(pool(at=number, category=number % 2))

    class Watched(Query):
        def admits(self, listing: Listing) -> bool:
            looked.append(listing)
            return super().admits(listing)

        def admits_terms(self, terms):  # type: ignore[no-untyped-def]
            looked.append(terms)
            return super().admits_terms(terms)

    page = orders.page(Watched(kind=Kind.WORKERPOOL, workerpool=ANYBODY, category=1))

    assert (len(page.listings), page.count) == (20, 1_500)
    assert len(looked) <= 4, "two shapes, each asked for the count and for the page"


def test_what_shapes_do_not_tell_is_searched_in_a_short_list() -> None:
    assert is_told_by_shape(Query(kind=Kind.WORKERPOOL, workerpool=ANYBODY))
    assert is_told_by_shape(Query(kind=Kind.REQUEST, app=exactly(APP)))
    assert not is_told_by_shape(Query(kind=Kind.WORKERPOOL, workerpool=exactly(FRIEND)))
    assert not is_told_by_shape(Query(kind=Kind.REQUEST, app=ANYBODY, signer=FRIEND))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("some", "queries"),
    [(some_pool, POOL_QUERIES), (some_request, REQUEST_QUERIES)],
    ids=["workerpoolorders", "requestorders"],
)
def test_a_shelf_that_is_filled_at_once_is_as_one_filled_order_by_order(
    seed: int, some: Callable[[Random, int], Listing], queries: tuple[Query, ...]
) -> None:
    draw = Random(seed)
    listings = [some(draw, at) for at in range(200)]
    at_once, one_by_one = Shelf(), Shelf()

    at_once.fill(listings)
    for listing in listings:
        one_by_one.add(listing)
    for gone in draw.sample(listings, 60):
        at_once.remove(gone)
        one_by_one.remove(gone)
    late = some(draw, 999)
    for shelf in (at_once, one_by_one):
        shelf.add(late)

    assert at_once.restrictions == one_by_one.restrictions
    assert at_once.new_restrictions == one_by_one.new_restrictions
    for query in queries:
        found, wanted = at_once.page(query, count=500), one_by_one.page(query, count=500)
        assert (found.listings, found.count) == (wanted.listings, wanted.count)
    for listing in listings:
        assert list(at_once.of_signer(listing.signer)) == list(one_by_one.of_signer(listing.signer))
