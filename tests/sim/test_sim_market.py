"""The market in the simulation: orders that are published, matched, closed, reorganised away and restored."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from poolwright.devnet.simulation.faults import Faults
from poolwright.devnet.simulation.market import CHAIN_ID
from poolwright.devnet.simulation.world import Size, World, plans
from poolwright.market.rows import Commit
from poolwright.market.storage import Storage
from poolwright.market.turns import Turn
from poolwright.orderbook.book import OrderReread
from poolwright.orderbook.listing import Listing, Status, listing_of, order_of
from poolwright.poco.tags import NO_TAG
from poolwright.poco.types import BlockNumber

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


class StoredWorld(World):
    """A world whose market's commits are written to a real database as well."""

    storage: Storage

    def committed(self, commit: Commit | None) -> None:
        super().committed(commit)
        if commit is not None:
            after = self.storage.snapshot(CHAIN_ID).number
            Turn.begin(self.storage, CHAIN_ID, after=after).write(commit)


def test_the_tables_in_memory_keep_what_the_database_keeps(tmp_path: Path) -> None:
    faults = replace(
        Faults(), reorgs=0.2, dropped_txs=0.2, closed_orders=60.0, sold_apps=20.0, moved_purses=20.0
    )
    world = StoredWorld(4, faults, SIZE, plans(4, SIZE, faults))
    world.storage = Storage.open(f"sqlite:///{tmp_path}/market.db")
    world.storage.begin_chain(CHAIN_ID, world.poco.hub, BlockNumber(0))

    world.run()

    ours, theirs = world.market.tables, world.storage
    kept, stored = ours.snapshot(), theirs.snapshot(CHAIN_ID)
    assert [facts_of(each) for each in kept.listings] == [facts_of(each) for each in stored.listings]
    assert (kept.number, kept.cursor, kept.ahead) == (stored.number, stored.cursor, stored.ahead)
    assert set(kept.stakes) == set(stored.stakes)
    assert set(kept.owners) == set(stored.owners)
    assert ours.passed(CHAIN_ID) == theirs.passed(CHAIN_ID)
    turn = Turn.begin(theirs, CHAIN_ID, after=stored.number)
    for block in range(0, len(world.chain.blocks), 10):
        stale, wanted = ours.stale(BlockNumber(block)), turn.stale(BlockNumber(block))
        assert {name: each.read_at for name, each in stale.orders.items()} == {
            name: each.read_at for name, each in wanted.orders.items()
        }
        assert (stale.wallets, stale.resources, stale.deals) == (
            wanted.wallets,
            wanted.resources,
            wanted.deals,
        )
    turn.abandon()
    theirs.close()


def facts_of(listing: Listing) -> tuple[object, ...]:
    return listing.hash, listing.remaining, listing.blocks, listing.published, listing.expires
