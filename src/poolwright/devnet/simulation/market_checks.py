"""What must hold of the market (field notes C3, I8), after each of its commits and at the end.

After each commit   all rules of the book; each order has exactly as much left as the chain says at the block
                    that the market has taken, as long as that block is one of the chain, and less only if
                    that was read above it (I8)
At each restart     the book read from the tables is the one that died (I5), see `market`
At the end          exactly the orders that have something left are on the market, with what is left of them,
                    closed exactly for the reasons that the chain gives: owner, stake, partner (I8)
"""

from __future__ import annotations

from poolwright.devnet.simulation.chain import GENESIS, Chain
from poolwright.devnet.simulation.clock import SECOND, Clock
from poolwright.devnet.simulation.market import MarketProcess
from poolwright.devnet.simulation.trade import Trade
from poolwright.market.rows import Commit
from poolwright.orderbook.invariants import check_book
from poolwright.orderbook.listing import Status
from poolwright.poco.orders import Order
from poolwright.poco.types import BlockStamp, OrderHash


class MarketChecks:
    """Watches a market; raises AssertionError or InvariantBroken with what does not hold."""

    def __init__(self, chain: Chain, clock: Clock, market: MarketProcess, trade: Trade) -> None:
        self._chain = chain
        self._clock = clock
        self._market = market
        self._trade = trade
        self.statuses: set[Status] = set()
        """What orders have become."""

    def after_commit(self, commit: Commit | None) -> None:
        """Called after what the market has written, and with None when it has started."""
        if commit is not None:
            self.statuses |= {row.status for row in commit.orders.values()}
        if commit is None or commit.orders or commit.unpublished or commit.stakes or commit.owners:
            check_book(self._market.book)
        cursor = self._market.cursor
        if cursor is None or self._chain.stamp(cursor.number).hash != cursor.hash:
            return  # it will go back
        for name, order in self._trade.published.items():
            self._check_volume(name, order, cursor)

    def _check_volume(self, name: OrderHash, order: Order, cursor: BlockStamp) -> None:
        """I8. An order that was read above the cursor may have less left, and is read again."""
        row, listing = self._market.tables.orders.get(name), self._market.book.get(name)
        if row is None or self._is_taken_off(name):
            return
        found = 0 if listing is None else listing.remaining
        remaining = order.volume - (self._chain.at(("consumed", name), cursor.number) or 0)
        if found > remaining or (found < remaining and row.read_at <= cursor.number):
            raise AssertionError(
                f"{order.KIND} {name}: the market has {found} left, "
                f"the chain {remaining} at block {cursor.number}"
            )

    def at_the_end(self) -> None:
        """When nothing is under way."""
        poco, book = self._chain.poco, self._market.book
        check_book(book)
        for name, order in self._trade.published.items():
            remaining, listing = order.volume - poco.consumed(name), book.get(name)
            found = 0 if listing is None else listing.remaining
            if found != (0 if self._is_taken_off(name) else remaining):
                raise AssertionError(
                    f"{order.KIND} {name}: the market has {found} left, the chain {remaining}"
                )
        for listing in book.listings():
            stake, owner = book.stake(listing.signer), book.owner(listing.terms.resource)
            if stake is not None and stake != poco.account(listing.signer).stake:
                raise AssertionError(f"{listing.signer}: the market takes its stake for {stake} nRLC")
            if owner is not None and owner != poco.owner_of(listing.terms.resource):
                raise AssertionError(f"{listing.terms.resource}: the market takes {owner} for its owner")

    def _is_taken_off(self, name: OrderHash) -> bool:
        """Whether its publisher took it off the market, or its end is over."""
        row = self._market.tables.orders.get(name)
        if row is None:
            return name in self._trade.unpublished
        now = GENESIS * SECOND + self._clock.now
        return row.status is Status.DEAD and not row.blocks and 0 < row.expires <= now
