"""The best match of a request, beside the matching rules themselves; and what an order looks like outside."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import product
from random import Random

import pytest

from offers import APP, DATASET, NOBODY, POOL, REQUESTER, START, address, app, book_of, dataset, pool, request
from poolwright.orderbook.listing import Kind, Listing, Status, order_of, place_of
from poolwright.orderbook.match import best_match
from poolwright.orderbook.render import iso_time, render, render_page
from poolwright.poco.matching import MatchRejected, Orders, check_restrictions, check_terms
from poolwright.poco.orders import NULL_DATASETORDER, AppOrder, DatasetOrder, RequestOrder, WorkerpoolOrder
from poolwright.poco.tags import GPU, TEE, Tag
from poolwright.poco.types import NRlc


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


@pytest.mark.parametrize("seed", range(25))
def test_the_best_match_is_the_first_that_the_rules_of_the_hub_allow(seed: int) -> None:
    draw = Random(seed)

    def some(*choices: object) -> object:
        return draw.choice(choices)

    def restrictions(*parties: tuple[str, object]) -> dict[str, object]:
        return {f"{name}restrict": some(NOBODY, NOBODY, party, address("else")) for name, party in parties}

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
        workerpool=some(NOBODY, POOL),
        appmaxprice=NRlc(2),
        datasetmaxprice=NRlc(1),
        workerpoolmaxprice=NRlc(2),
        tag=some(*tags),
        trust=some(0, 1),
    )
    book = book_of(*apps, *datasets, *pools)

    found = best_match(book, wish)

    nothing: list[Listing | None] = [None]
    allowed = [
        combination
        for combination in product(apps, datasets if wish.terms.dataset else nothing, pools)
        if _hub_allows(*combination, wish)
    ]
    best = min(allowed, key=_rank, default=None)
    assert (None if found is None else (found.app, found.dataset, found.workerpool)) == best


def _rank(combination: tuple[Listing, Listing | None, Listing]) -> object:
    chosen_app, data, chosen_pool = combination
    price = chosen_app.price + chosen_pool.price + (data.price if data else 0)
    return price, place_of(chosen_pool), place_of(chosen_app), place_of(data) if data else ()


class _NoGroups:
    def is_member(self, group: object, account: object) -> bool:
        return False


def _hub_allows(chosen_app: Listing, data: Listing | None, chosen_pool: Listing, wish: Listing) -> bool:
    first, third, fourth = order_of(chosen_app), order_of(chosen_pool), order_of(wish)
    second = order_of(data) if data else NULL_DATASETORDER
    assert isinstance(first, AppOrder)
    assert isinstance(second, DatasetOrder)
    assert isinstance(third, WorkerpoolOrder)
    assert isinstance(fourth, RequestOrder)
    orders = Orders(app=first, dataset=second, workerpool=third, request=fourth)
    try:
        check_terms(orders, 5)
        check_restrictions(orders, _NoGroups())  # type: ignore[arg-type]  # asks for members only
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
