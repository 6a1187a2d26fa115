"""The best match of a request, beside the matching rules themselves; and what an order looks like outside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from random import Random

import pytest

from offers import APP, DATASET, NOBODY, POOL, REQUESTER, START, address, app, book_of, dataset, pool, request
from poolwright.orderbook.book import Book, BookRefusal, OrderUnpublished
from poolwright.orderbook.groups import Groups, Pair
from poolwright.orderbook.listing import Kind, Listing, Status, order_of, place_of
from poolwright.orderbook.match import BestMatch, best_match
from poolwright.orderbook.render import iso_time, render, render_page
from poolwright.poco.matching import MatchRejected, Orders, check_restrictions, check_terms
from poolwright.poco.orders import NULL_DATASETORDER, AppOrder, DatasetOrder, RequestOrder, WorkerpoolOrder
from poolwright.poco.tags import GPU, TEE, Tag
from poolwright.poco.types import Address, NRlc


def test_the_cheapest_then_oldest_compatible_orders_are_chosen() -> None:
    wish = request(appmaxprice=NRlc(9), workerpoolmaxprice=NRlc(9), volume=7)
    best_app, best_pool = app(appprice=NRlc(1), at=3), pool(workerpoolprice=NRlc(2), at=1, volume=5)
    book = book_of(
        app(appprice=NRlc(2)),
        best_app,
        pool(workerpoolprice=NRlc(2), at=2),
        best_pool,
        pool(workerpoolprice=NRlc(1), category=1),
        wish,
    )

    found = best_match(book, wish)

    assert found is not None
    assert (found.app, found.workerpool, found.dataset) == (best_app, best_pool, None)
    assert (found.price, found.volume) == (3, 1)


def test_a_dearer_app_order_is_taken_when_the_cheap_one_admits_no_pool() -> None:
    cheap = app(workerpoolrestrict=address("no such pool"))
    dear = app(appprice=NRlc(5))
    book = book_of(cheap, dear, pool())

    found = best_match(book, request(appmaxprice=NRlc(5)))

    assert found is not None
    assert found.app is dear


def test_without_a_compatible_pool_there_is_no_match() -> None:
    assert best_match(book_of(app(), pool(workerpoolprice=NRlc(1))), request()) is None


GROUP = address("a group")


def test_what_is_not_known_of_a_group_is_asked_and_counts_as_no() -> None:
    book, wish = book_of(app(requesterrestrict=GROUP), pool(apprestrict=GROUP)), request()
    ignorant = Groups({GROUP})

    assert best_match(book, wish, groups=ignorant) is None
    assert list(ignorant.asked) == [(GROUP, REQUESTER)]
    half = Groups({GROUP}, {(GROUP, REQUESTER): True})
    assert best_match(book, wish, groups=half) is None
    assert list(half.asked) == [(GROUP, APP)]
    whole = Groups({GROUP}, {(GROUP, REQUESTER): True, (GROUP, APP): True})
    assert best_match(book, wish, groups=whole) is not None
    assert best_match(book, wish) is None  # an account like any other, as far as nobody says so


def test_a_question_that_would_look_at_too_much_is_refused() -> None:
    unusable = [pool(requesterrestrict=address(str(number))) for number in range(4)]

    with pytest.raises(BookRefusal, match="too many orders to look through; ask for one workerpool"):
        best_match(book_of(app(), *unusable), request(), most_looked=3)


def test_a_shelf_tells_whom_its_orders_restrict_themselves_to() -> None:
    first, second = app(requesterrestrict=GROUP), app(requesterrestrict=GROUP, datasetrestrict=DATASET)
    book = book_of(app(), first, second, request(workerpool=POOL))
    shelf = book.shelves[Kind.APP]
    assert shelf.restrictions == {GROUP: 2, DATASET: 1}
    assert shelf.new_restrictions.keys() == {GROUP, DATASET}
    assert book.shelves[Kind.REQUEST].restrictions == {POOL: 1}

    book.apply([OrderUnpublished(order_hash=second.hash)])

    assert (shelf.restrictions, shelf.new_restrictions.keys()) == ({GROUP: 1}, {GROUP})


@pytest.mark.parametrize("seed", range(60))
def test_the_best_match_is_the_first_that_the_rules_of_the_hub_allow(seed: int) -> None:
    draw = Random(seed)

    def some(*choices: object) -> object:
        return draw.choice(choices)

    def restrictions(*parties: tuple[str, object]) -> dict[str, object]:
        choices = (NOBODY, NOBODY, address("else"), GROUP)
        return {f"{name}restrict": some(party, *choices) for name, party in parties}

    of_app, of_data, of_pool = ("app", APP), ("dataset", DATASET), ("workerpool", POOL)
    of_requester = ("requester", REQUESTER)
    tags = (Tag(0), Tag(0), TEE, GPU)
    apps = [
        app(appprice=NRlc(draw.randrange(3)), tag=some(*tags), **restrictions(of_data, of_pool, of_requester))
        for _ in range(5)
    ]
    datasets = [
        dataset(
            datasetprice=NRlc(draw.randrange(3)),
            tag=some(*tags),
            **restrictions(of_app, of_pool, of_requester),
        )
        for _ in range(5)
    ]
    pools = [
        pool(
            workerpool=some(POOL, address("pool 2")),
            workerpoolprice=NRlc(draw.randrange(3)),
            category=some(0, 0, 1),
            trust=some(0, 1, 5),
            tag=some(Tag(0), TEE | GPU, TEE),
            **restrictions(of_app, of_data, of_requester),
        )
        for _ in range(8)
    ]
    wish = request(
        dataset=some(NOBODY, DATASET),
        workerpool=some(NOBODY, POOL, GROUP),
        appmaxprice=NRlc(2),
        datasetmaxprice=NRlc(1),
        workerpoolmaxprice=NRlc(2),
        tag=some(*tags),
        trust=some(0, 1),
    )
    book = book_of(*apps, *datasets, *pools)
    accounts = (NOBODY, APP, DATASET, POOL, address("pool 2"), REQUESTER)
    members = {account: draw.random() < 0.5 for account in accounts}

    found = _answered(book, wish, members)

    nothing: list[Listing | None] = [None]
    allowed = [
        combination
        for combination in product(apps, datasets if wish.terms.dataset else nothing, pools)
        if _hub_allows(*combination, wish, members)
    ]
    best = min(allowed, key=_rank, default=None)
    assert (None if found is None else (found.app, found.dataset, found.workerpool)) == best


def _rank(combination: tuple[Listing, Listing | None, Listing]) -> object:
    chosen_app, data, chosen_pool = combination
    price = chosen_app.price + chosen_pool.price + (data.price if data else 0)
    return price, place_of(chosen_pool), place_of(chosen_app), place_of(data) if data else ()


def _answered(book: Book, wish: Listing, members: Mapping[Address, bool]) -> BestMatch | None:
    """Ask the book until nothing is left that it would have to know of the group."""
    known: dict[Pair, bool] = {}
    while True:
        groups = Groups({GROUP}, known)
        found = best_match(book, wish, groups=groups)
        if not groups.asked:
            return found
        assert not known.keys() & groups.asked.keys()
        known |= {(group, account): members.get(account, False) for group, account in groups.asked}


@dataclass
class _Chain:
    members: Mapping[Address, bool]

    def is_member(self, group: Address, account: Address) -> bool:
        return group == GROUP and self.members[account]


def _hub_allows(
    chosen_app: Listing,
    data: Listing | None,
    chosen_pool: Listing,
    wish: Listing,
    members: Mapping[Address, bool],
) -> bool:
    first, third, fourth = order_of(chosen_app), order_of(chosen_pool), order_of(wish)
    second = order_of(data) if data else NULL_DATASETORDER
    assert isinstance(first, AppOrder)
    assert isinstance(second, DatasetOrder)
    assert isinstance(third, WorkerpoolOrder)
    assert isinstance(fourth, RequestOrder)
    orders = Orders(app=first, dataset=second, workerpool=third, request=fourth)
    try:
        check_terms(orders, 5)
        check_restrictions(orders, _Chain(members))  # type: ignore[arg-type]  # asks for members only
    except MatchRejected:
        return False
    return True


def test_an_order_outside_has_the_reference_s_members_and_its_own_numbers() -> None:
    offer = pool(workerpoolprice=NRlc(5), volume=9, remaining=4, category=2, trust=1, tag=TEE, at=678)

    document = json.loads(render(offer, chain_id="134"))

    order = order_of(offer).to_json()
    assert document.pop("order") == {
        name: int(value) if name in ("workerpoolprice", "volume", "category", "trust") else value
        for name, value in order.items()
    }
    assert document == {
        "orderHash": str(offer.hash),
        "chainId": 134,
        "remaining": 4,
        "status": "open",
        "publicationTimestamp": "2023-11-14T22:13:20.678Z",
        "signer": str(offer.signer),
    }


@pytest.mark.parametrize(
    ("make", "kind"), [(app, Kind.APP), (dataset, Kind.DATASET), (request, Kind.REQUEST)]
)
def test_every_kind_renders_the_order_that_was_signed(make: object, kind: Kind) -> None:
    offer: Listing = make(sign=b"\x01" * 65)  # type: ignore[operator]  # one of the builders

    [document] = json.loads(render_page([offer], 1))

    assert {name: str(value) for name, value in document["order"].items()} == order_of(offer).to_json()
    assert ("bulk" in document) == (kind is Kind.DATASET)


def test_a_single_order_has_the_chain_as_text_and_may_be_canceled() -> None:
    document = json.loads(render(dataset(), chain_id='"1"', status=Status.CANCELED, is_item=False))

    assert (document["chainId"], document["status"], "bulk" in document) == ("1", "canceled", False)


@pytest.mark.parametrize("moment", [0, 951782400000, 1709164799999, START, 4102444800000])
def test_moments_are_written_as_iso_8601(moment: int) -> None:
    expected = datetime.fromtimestamp(moment // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")

    assert iso_time(moment) == f"{expected}.{moment % 1000:03}Z"
