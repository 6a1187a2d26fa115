"""The market in the simulation: orders that are published, matched, closed, reorganised away and restored."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from poolwright.devnet.simulation.faults import Faults
from poolwright.devnet.simulation.world import Size, World, plans
from poolwright.orderbook.book import OrderReread
from poolwright.orderbook.listing import Listing, Status, listing_of, order_of
from poolwright.poco.tags import NO_TAG

SIZE = Size(workers=3, deals=8, seconds=900)


def played(seed: int, **rates: float) -> World:
    faults = replace(Faults(), **rates)
    deals = tuple(replace(deal, tag=NO_TAG) for deal in plans(seed, SIZE, faults))
    world = World(seed, faults, SIZE, deals)
    world.run()
    return world


def matched(world: World) -> int:
    """Deals that a broker found in the book."""
    txs = [tx for block in world.chain.blocks for tx in block.txs]
    return sum("of the market" in tx.key and tx.revert is None for tx in txs)


def test_deals_come_about_from_what_is_open_on_the_market() -> None:
    world = played(1)

    assert world.trade.counts["orders published"] > 10
    assert matched(world) > 0
    assert {Status.OPEN, Status.FILLED} <= world.market_checks.statuses


def test_orders_that_owners_close_sell_or_cannot_pay_leave_and_come_back() -> None:
    world = played(2, closed_orders=60.0, sold_apps=20.0, moved_purses=20.0)

    assert world.trade.counts["orders closed"] > 0
    assert world.trade.counts["apps sold"] > 0
    assert world.trade.counts["purses emptied"] > 0
    assert set(Status) == world.market_checks.statuses


def test_the_market_goes_back_with_the_chain_and_comes_back_from_its_tables() -> None:
    """Whatever is lost with a block or a process, each order has left what the chain says."""
    met: Counter[str] = Counter()
    for seed in range(3, 8):
        world = played(seed, reorgs=0.2, dropped_txs=0.2, market_crashes=30.0, crashes_at_commits=0.01)
        met.update(rewinds=world.market.rewinds, restarts=world.market.restarts, deals=matched(world))

    assert min(met.values()) > 0


def test_an_order_with_more_left_than_on_the_chain_is_found() -> None:
    world = played(1)
    name, order = next((name, order) for name, order in world.trade.published.items())
    wallet, left = world.trade.owner_of(order), order.volume - world.poco.consumed(name)
    more: Listing = listing_of(order, name, signer=wallet, remaining=left + 1, published=0)
    world.market_checks.after_commit(None)

    world.market.book.apply([OrderReread(listing=more)])

    assert order_of(more) == order
    with pytest.raises(AssertionError, match=f"the market has {left + 1} left, the chain {left} at block"):
        world.market_checks.after_commit(None)
