"""Orders as the market's tables hold them, and back."""

from __future__ import annotations

import json

import pytest

from factories import address
from offers import app, dataset, pool, request
from poolwright.market.rows import KnownTerms, listing_from, pack_order
from poolwright.orderbook.listing import Listing, order_of
from poolwright.poco.types import NRlc

ALL_KINDS = [app(), dataset(), pool(), request(params='{"iexec_args":"é \\" "}')]


def read_back(listing: Listing, document: str, known: KnownTerms | None = None) -> Listing:
    return listing_from(
        listing.kind,
        bytes(listing.hash),
        document=document,
        signer=bytes(listing.signer),
        remaining=3,
        published=5,
        blocks=2,
        expires=7,
        known=known,
    )


@pytest.mark.parametrize("listing", ALL_KINDS, ids=lambda each: each.kind.value)
def test_an_order_comes_back_as_it_was_stored(listing: Listing) -> None:
    again = read_back(listing, pack_order(listing))

    assert order_of(again) == order_of(listing)
    assert (again.hash, again.signer) == (listing.hash, listing.signer)
    assert (again.remaining, again.published, again.blocks, again.expires) == (3, 5, 2, 7)


@pytest.mark.parametrize("listing", ALL_KINDS, ids=lambda each: each.kind.value)
def test_the_text_of_earlier_versions_is_read(listing: Listing) -> None:
    members = json.loads(pack_order(listing))
    lower = {
        name: value.lower() if isinstance(value, str) and name != "params" else value
        for name, value in reversed(members.items())
    }

    assert order_of(read_back(listing, json.dumps(lower))) == order_of(listing)


def test_orders_on_the_same_terms_share_them() -> None:
    known: KnownTerms = {}
    one, other, foreign = pool(), pool(workerpoolprice=NRlc(9), volume=8), pool(apprestrict=address("an app"))
    read = [read_back(each, pack_order(each), known) for each in (one, other, foreign)]

    assert read[0].terms is read[1].terms
    assert read[0].terms is not read[2].terms
    assert [order_of(each) for each in read] == [order_of(each) for each in (one, other, foreign)]
