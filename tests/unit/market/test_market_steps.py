"""Steps as text and back: what one process decided is what the others make of it."""

from __future__ import annotations

import pytest

from factories import address, hash32
from offers import app, dataset, pool, request
from poolwright.market.rows import ChangeRow
from poolwright.market.steps import Dated, News, Step, read_change, write_change
from poolwright.orderbook.book import (
    MembershipRead,
    OrderClosed,
    OrderConsumed,
    OrderReread,
    OrderUnpublished,
    ResourceOwned,
    StakeRead,
    TimePassed,
)
from poolwright.orderbook.groups import Membership
from poolwright.orderbook.listing import Listing, order_of
from poolwright.poco.types import (
    BlockHash,
    BlockNumber,
    BlockStamp,
    NRlc,
    OrderHash,
    Timestamp,
)

ORDER = OrderHash(hash32("order"))
CURSOR = BlockStamp(BlockNumber(7), BlockHash(hash32("block 7")), Timestamp(1_700_000_000))
FACTS: tuple[Dated, ...] = (
    (StakeRead(wallet=address("w"), stake=NRlc(2**62)), BlockNumber(3)),
    (ResourceOwned(resource=address("pool"), owner=address("w")), BlockNumber(4)),
    (
        MembershipRead(group=address("g"), account=address("w"), membership=Membership.MEMBER),
        BlockNumber(4),
    ),
    (OrderConsumed(order_hash=ORDER, consumed=2), BlockNumber(5)),
    (OrderClosed(order_hash=ORDER), BlockNumber(6)),
    (OrderUnpublished(order_hash=ORDER), BlockNumber(0)),
    (TimePassed(now=1_700_000_000_000), BlockNumber(0)),
)
NEWS = [
    News(topic="orders", name="n", text='{"é":"\\"quoted\\""}'),
    News(topic="deals", name="d", text='"1"'),
]


def values(listing: Listing) -> tuple[object, ...]:
    return (
        order_of(listing),
        listing.hash,
        listing.signer,
        listing.remaining,
        listing.published,
        listing.expires,
    )


def test_facts_and_cursor_come_back() -> None:
    step = Step(facts=FACTS, cursor=CURSOR, is_rewind=True)

    assert read_change(write_change(step, NEWS, 41)) == (step, NEWS)


@pytest.mark.parametrize("make", [app, dataset, pool, request])
def test_an_order_comes_back_as_it_was_accepted(make: object) -> None:
    assert callable(make)
    listing = make(volume=5, remaining=3, expires=1_800_000_000_000, signer=address("signer"))

    step, _ = read_change(write_change(Step(listing=listing, read_at=BlockNumber(9)), [], 0))

    assert step.listing is not None
    assert values(step.listing) == values(listing)
    assert step.read_at == 9


def test_an_order_that_is_read_again_comes_back() -> None:
    listing = pool(volume=5, remaining=3)

    step, _ = read_change(write_change(Step(facts=((OrderReread(listing=listing), BlockNumber(9)),)), [], 0))

    [(fact, at)] = step.facts
    assert isinstance(fact, OrderReread)
    assert (values(fact.listing), at) == (values(listing), 9)


@pytest.mark.parametrize(("pieces", "first", "number"), [(0, 42, 42), (1, 42, 42), (2, 42, 43)])
def test_each_piece_of_news_has_a_number_and_no_news_take_one(pieces: int, first: int, number: int) -> None:
    row = write_change(Step(), NEWS[:pieces], 41)

    assert (row.first, row.number) == (first, number)


def test_a_fact_of_a_later_version_is_refused() -> None:
    row = ChangeRow(first=1, number=1, body='{"facts":[["price",1,0]],"news":[]}')

    with pytest.raises(ValueError, match="not a fact of this version"):
        read_change(row)
