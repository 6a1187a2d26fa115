"""Every filter of the order-book routes admits what it says and nothing else, by scan and by view."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from offers import (
    APP,
    DATASET,
    NOBODY,
    OWNER,
    POOL,
    REQUESTER,
    address,
    app,
    book_of,
    dataset,
    pool,
    request,
)
from poolwright.orderbook.book import Book, OrderClosed, OrderConsumed
from poolwright.orderbook.chunks import SortedListings
from poolwright.orderbook.listing import MAX_SAFE, Kind, Listing, entry_of, order_of, place_of
from poolwright.orderbook.query import ANYBODY, Query, exactly, usable_by
from poolwright.orderbook.shelf import SMALL, Shelf
from poolwright.poco.orders import order_hash
from poolwright.poco.tags import GPU, TDX, TEE, Tag
from poolwright.poco.types import NRlc

FRIEND, STRANGER = address("friend"), address("stranger")


def asked(book: Book, query: Query) -> list[Listing]:
    """The answer, the same from a scan, from a fresh view and from a view that lived through changes."""
    scanned = list(book.shelves[query.kind].answer(query))
    open_ones = list(book.shelves[query.kind].all())
    viewing = Shelf(small=-1)  # so that even this little book makes views
    for each in open_ones:
        viewing.add(each)
    viewed = list(viewing.answer(query))
    extra = [replaced(each) for each in open_ones]
    for each in extra:
        viewing.add(each)
    for each in extra:
        viewing.remove(each)
    lived = list(viewing.answer(query))
    assert scanned == viewed == lived
    return scanned


def replaced(each: Listing) -> Listing:
    """The same order with another salt."""
    order = order_of(each)
    kind = {Kind.APP: app, Kind.DATASET: dataset, Kind.WORKERPOOL: pool, Kind.REQUEST: request}[each.kind]
    values = {each.name: getattr(order, each.name) for each in fields(order) if each.name != "salt"}
    return kind(at=-1, signer=each.signer, **values)


@pytest.mark.parametrize(
    ("party", "wanted", "admitted"),
    [
        ("requester", exactly(NOBODY), ["open"]),
        ("requester", usable_by(FRIEND), ["open", "friend"]),
        ("requester", exactly(FRIEND), ["friend"]),
        ("requester", ANYBODY, ["open", "friend", "stranger"]),
    ],
)
@pytest.mark.parametrize(
    ("make", "kind", "own", "places"),
    [
        (app, Kind.APP, {"app": exactly(APP)}, ("dataset", "workerpool", "requester")),
        (dataset, Kind.DATASET, {"dataset": exactly(DATASET)}, ("app", "workerpool", "requester")),
        (pool, Kind.WORKERPOOL, {"workerpool": exactly(POOL)}, ("app", "dataset", "requester")),
    ],
)
def test_each_of_the_nine_restrictions_is_filtered(
    make: Any,
    kind: Kind,
    own: dict[str, Any],
    places: tuple[str, ...],
    party: str,
    wanted: Any,
    admitted: Any,
) -> None:
    for place in places:
        offers = {
            "open": make(at=1),
            "friend": make(at=2, **{f"{place}restrict": FRIEND}),
            "stranger": make(at=3, **{f"{place}restrict": STRANGER}),
        }
        book = book_of(*offers.values())

        found = asked(book, Query(kind=kind, **own | {place: wanted}))

        assert found == [offers[name] for name in admitted]


@pytest.mark.parametrize(
    ("conditions", "admitted"),
    [
        ({}, ["plain", "gpu", "tee", "both"]),
        ({"min_tag": TEE}, ["tee", "both"]),
        ({"min_tag": TEE | GPU}, ["both"]),
        ({"max_tag": Tag(0)}, ["plain"]),
        ({"max_tag": GPU}, ["plain", "gpu"]),
        ({"min_tag": TEE, "max_tag": TEE | TDX}, ["tee"]),
        ({"category": 1}, ["gpu"]),
        ({"min_trust": 3}, ["both"]),
        ({"min_volume": 5}, ["tee"]),
        ({"signer": FRIEND}, ["both"]),
        ({"workerpool": exactly(address("far")), "signer": FRIEND}, []),
    ],
)
def test_pools_are_filtered_by_tag_category_trust_volume_and_owner(
    conditions: dict[str, Any], admitted: list[str]
) -> None:
    offers = {
        "plain": pool(at=1),
        "gpu": pool(at=2, tag=GPU, category=1),
        "tee": pool(at=3, tag=TEE, volume=5),
        "both": pool(at=4, tag=TEE | GPU, trust=3, signer=FRIEND, workerpool=address("its pool")),
    }

    found = asked(
        book_of(*offers.values()), Query(kind=Kind.WORKERPOOL, **{"workerpool": ANYBODY} | conditions)
    )

    assert found == [offers[name] for name in admitted]


@pytest.mark.parametrize(
    ("conditions", "admitted"),
    [
        ({}, ["any pool"]),
        ({"workerpool": usable_by(POOL)}, ["any pool", "our pool"]),
        ({"workerpool": exactly(POOL)}, ["our pool"]),
        ({"workerpool": ANYBODY}, ["any pool", "our pool", "their pool"]),
        ({"workerpool": ANYBODY, "max_trust": 0}, ["any pool", "their pool"]),
        ({"workerpool": ANYBODY, "dataset": exactly(DATASET)}, ["their pool"]),
        ({"workerpool": ANYBODY, "beneficiary": FRIEND}, ["our pool"]),
        ({"workerpool": ANYBODY, "signer": REQUESTER}, ["any pool", "our pool"]),
        ({"workerpool": ANYBODY, "requester": exactly(FRIEND)}, ["their pool"]),
    ],
)
def test_requests_are_filtered_by_their_parties_and_trust(
    conditions: dict[str, Any], admitted: list[str]
) -> None:
    wishes = {
        "any pool": request(at=1),
        "our pool": request(at=2, workerpool=POOL, trust=2, beneficiary=FRIEND),
        "their pool": request(at=3, workerpool=STRANGER, dataset=DATASET, signer=FRIEND),
    }
    everybody = {"app": exactly(APP), "dataset": ANYBODY, "requester": ANYBODY}

    found = asked(
        book_of(app(), dataset(), *wishes.values()), Query(kind=Kind.REQUEST, **everybody | conditions)
    )

    assert found == [wishes[name] for name in admitted]


def test_bulk_datasets_are_free_and_practically_endless() -> None:
    bulk = dataset(volume=MAX_SAFE - 1)
    book = book_of(bulk, dataset(volume=MAX_SAFE - 2), dataset(volume=MAX_SAFE, datasetprice=NRlc(1)))

    assert asked(book, Query(kind=Kind.DATASET, dataset=exactly(DATASET), bulk_only=True)) == [bulk]


def test_a_view_forgets_an_order_that_falls_below_the_wanted_volume() -> None:
    offer, query = pool(volume=5), Query(kind=Kind.WORKERPOOL, workerpool=ANYBODY, min_volume=3)
    book = book_of(offer, *(pool() for _ in range(SMALL + 1)))
    assert book.shelves[Kind.WORKERPOOL].page(query).count == 1

    book.apply([OrderConsumed(order_hash=offer.hash, consumed=3)])

    assert book.shelves[Kind.WORKERPOOL].page(query).count == 0


def test_pages_by_number_and_by_cursor_show_every_order_once() -> None:
    offers = [pool(at=number) for number in range(95)]
    orders = book_of(*offers).shelves[Kind.WORKERPOOL]
    query = Query(kind=Kind.WORKERPOOL, workerpool=exactly(POOL))

    by_number = [each for skip in range(0, 100, 20) for each in orders.page(query, skip=skip).listings]
    by_cursor: list[Listing] = []
    while page := orders.page(query, after=place_of(by_cursor[-1]) if by_cursor else None).listings:
        by_cursor += page

    assert by_number == by_cursor == offers
    assert orders.page(query).count == 95


def test_a_cursor_goes_on_behind_an_order_that_is_gone() -> None:
    offers = [pool(at=number) for number in range(5)]
    book = book_of(*offers)
    book.apply([OrderClosed(order_hash=offers[1].hash)])

    page = book.shelves[Kind.WORKERPOOL].page(
        Query(kind=Kind.WORKERPOOL, workerpool=ANYBODY), after=place_of(offers[1])
    )

    assert page.listings == offers[2:]


def test_rarely_asked_views_are_forgotten_and_answers_stay_right() -> None:
    orders = Shelf(max_views=2, max_viewed=150)
    offers = [pool(at=number, category=number % 3) for number in range(200)]
    for offer in offers:
        orders.add(offer)

    for category in (0, 1, 2, 0, 1, 2):
        query = Query(kind=Kind.WORKERPOOL, workerpool=ANYBODY, category=category)
        assert list(orders.answer(query)) == offers[category::3]
    orders.remove(offers[0])

    assert orders.page(Query(kind=Kind.WORKERPOOL, workerpool=ANYBODY, category=0)).count == 66


def test_a_sorted_list_splits_and_empties_without_losing_its_order() -> None:
    offers = [pool(at=number * 7919 % 3000) for number in range(3000)]
    orders = SortedListings()
    for offer in offers:
        orders.add(entry_of(offer))
    ordered = sorted(offers, key=place_of)
    assert list(orders) == ordered
    assert orders.slice(1500, 3) == ordered[1500:1503]

    for offer in offers[:2990]:
        orders.remove(place_of(offer))
    with pytest.raises(KeyError):
        orders.remove(place_of(offers[0]))

    assert list(orders) == sorted(offers[2990:], key=place_of)
    assert orders.slice(10, 5) == []


@pytest.mark.parametrize("offer", [app(), dataset(), pool(trust=2), request(params='{"iexec_args":"é"}')])
def test_the_signed_order_comes_out_as_it_went_in(offer: Listing) -> None:
    from offers import DOMAIN

    assert order_hash(order_of(offer), DOMAIN) == offer.hash
    assert offer.signer in (OWNER, REQUESTER)
