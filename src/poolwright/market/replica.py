"""A chain's book as this process has it, and the number of the change that made it so.

Every process of a market makes the same steps in the order of their numbers; a step that was decided here and
one that was read from the database go the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from poolwright.market.rows import NEVER_READ, Commit, OrderRow, OwnerRow, StakeRow
from poolwright.market.steps import News, Step
from poolwright.market.storage import Snapshot
from poolwright.orderbook.book import (
    Book,
    Change,
    Fact,
    OrderClosed,
    OrderConsumed,
    OrderReread,
    ResourceOwned,
    StakeRead,
)
from poolwright.orderbook.book import News as BookNews
from poolwright.orderbook.invariants import check_book
from poolwright.orderbook.render import render
from poolwright.poco.types import Address, BlockNumber, BlockStamp, OrderHash

Key: TypeAlias = tuple[str, bytes]
"""What is asked of the chain: ("stake", wallet), ("owner", resource) or ("consumed", order hash)."""


class Replica:
    """The book and what belongs to it. `number` is that of the last change in it."""

    def __init__(self, *, checks_invariants: bool = False) -> None:
        self.book = Book()
        self.number = 0
        self.cursor: BlockStamp | None = None
        self.stake_read_at: dict[Address, BlockNumber] = {}
        self.owner_read_at: dict[Address, BlockNumber] = {}
        self.ahead: dict[Key, BlockNumber] = {}
        """What was read above the cursor, by its block, which may be of a branch that loses."""
        self.newest_time = 0
        """When the last order was published, milliseconds since 1970."""
        self.rewinds = 0
        """How often the chain was reorganised or the book loaded: what was read before may not hold."""
        self._checks: Final = checks_invariants

    @classmethod
    def loaded(cls, snapshot: Snapshot, *, checks_invariants: bool = False) -> tuple[Replica, list[Change]]:
        """Fill a replica from storage; tell which orders are not as they were stored."""
        replica = cls(checks_invariants=checks_invariants)
        facts: list[Fact] = []
        for stake in snapshot.stakes:
            facts.append(StakeRead(wallet=stake.wallet, stake=stake.stake))
            replica.stake_read_at[stake.wallet] = stake.read_at
        for owner in snapshot.owners:
            facts.append(ResourceOwned(resource=owner.resource, owner=owner.owner))
            replica.owner_read_at[owner.resource] = owner.read_at
        changes = replica.book.restore(snapshot.listings, facts)
        replica.number, replica.cursor = snapshot.number, snapshot.cursor
        taken = NEVER_READ if snapshot.cursor is None else snapshot.cursor.number
        replica.ahead = {
            key: at
            for key, at in (
                *((("consumed", name), at) for name, at in snapshot.ahead.items()),
                *((("stake", wallet), at) for wallet, at in replica.stake_read_at.items()),
                *((("owner", resource), at) for resource, at in replica.owner_read_at.items()),
            )
            if at > taken
        }
        replica.newest_time = max((each.published for each in snapshot.listings), default=0)
        replica._check()
        return replica, changes

    def take(self, other: Replica) -> None:
        """Become the other one; who holds a part of the old book finds it changed."""
        for shelf in self.book.shelves.values():
            shelf.version += 1
        self.book, self.number, self.cursor = other.book, other.number, other.cursor
        self.stake_read_at, self.owner_read_at = other.stake_read_at, other.owner_read_at
        self.ahead = other.ahead
        self.newest_time = max(self.newest_time, other.newest_time)
        self.rewinds += 1

    def make(self, step: Step) -> list[Change]:
        """Make one step; its number is for the caller to set."""
        for fact, at in step.facts:
            if isinstance(fact, StakeRead):
                self.stake_read_at[fact.wallet] = at
            elif isinstance(fact, ResourceOwned):
                self.owner_read_at[fact.resource] = at
        facts = [fact for fact, _ in step.facts]
        if step.listing is None:
            changes = self.book.apply(facts)
        else:
            self.newest_time = max(self.newest_time, step.listing.published)
            changes = self.book.publish(step.listing, facts)
        if step.cursor is not None:
            self.cursor = step.cursor
        self._note_ahead(step)
        self.rewinds += step.is_rewind
        self._check()
        return changes

    def add_rows(self, step: Step, changes: Sequence[Change], commit: Commit) -> None:
        """What a step that was made here changes in the tables."""
        for fact, at in step.facts:
            if isinstance(fact, StakeRead):
                commit.stakes[fact.wallet] = StakeRow(wallet=fact.wallet, stake=fact.stake, read_at=at)
            elif isinstance(fact, ResourceOwned):
                commit.owners[fact.resource] = OwnerRow(resource=fact.resource, owner=fact.owner, read_at=at)
        read_at = _read_at(step)
        for change in changes:
            listing = change.listing
            if change.status is None:
                commit.drop(listing.hash)
                continue
            known = commit.orders.get(listing.hash)
            commit.keep(
                OrderRow(
                    listing=listing,
                    status=change.status,
                    remaining=listing.remaining,
                    blocks=listing.blocks if listing.hash in self.book else 0,
                    read_at=max(
                        read_at.get(listing.hash, BlockNumber(0)),
                        known.read_at if known is not None else BlockNumber(0),
                    ),
                )
            )
        if step.cursor is not None:
            commit.cursor = step.cursor

    def _note_ahead(self, step: Step) -> None:
        """Who moves the cursor on has read again what it passes."""
        taken = NEVER_READ if self.cursor is None else self.cursor.number
        if step.cursor is not None and self.ahead:
            self.ahead = {key: at for key, at in self.ahead.items() if at > taken}
        read: list[tuple[Key, BlockNumber]] = [
            (("consumed", name), at) for name, at in _read_at(step).items()
        ]
        for fact, at in step.facts:
            if isinstance(fact, StakeRead):
                read.append((("stake", fact.wallet), at))
            elif isinstance(fact, ResourceOwned):
                read.append((("owner", fact.resource), at))
        for key, at in read:
            if at > taken:
                self.ahead[key] = at
            else:
                self.ahead.pop(key, None)

    def _check(self) -> None:
        if self._checks:
            check_book(self.book)


def news_of(changes: Sequence[Change]) -> list[News]:
    """What the rest of the world hears of these changes (reference 4.10)."""
    news: list[News] = []
    for change in changes:
        if change.news is BookNews.SILENT:
            continue
        listing = change.listing
        is_gone = change.news is BookNews.UNPUBLISHED
        text = f'"{listing.hash}"' if is_gone else render(listing, chain_id="").decode()
        news.append(News(topic="orders", name=f"{listing.kind.value}_{change.news.value}", text=text))
    return news


def _read_at(step: Step) -> dict[OrderHash, BlockNumber]:
    """By order, the block at which the step's `remaining` was found."""
    found: dict[OrderHash, BlockNumber] = {}
    if step.listing is not None:
        found[step.listing.hash] = step.read_at
    for fact, at in step.facts:
        match fact:
            case OrderConsumed(order_hash=name) | OrderClosed(order_hash=name):
                found[name] = at
            case OrderReread(listing=listing):
                found[listing.hash] = at
            case _:
                pass
    return found
