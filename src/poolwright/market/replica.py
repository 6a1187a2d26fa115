"""A chain's book as this process has it, and the number of the change that made it so.

Every process of a market makes the same steps in the order of their numbers; a step that was decided here and
one that was read from the database go the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Final, TypeAlias

from poolwright.market.rows import NEVER_READ, Commit, MemberRow, OrderRow, OwnerRow, StakeRow
from poolwright.market.steps import News, Step
from poolwright.market.storage import Snapshot
from poolwright.orderbook.book import (
    Book,
    Change,
    Fact,
    MembershipRead,
    OrderClosed,
    OrderConsumed,
    OrderReread,
    ResourceOwned,
    StakeRead,
)
from poolwright.orderbook.book import News as BookNews
from poolwright.orderbook.groups import Pair
from poolwright.orderbook.invariants import check_book
from poolwright.orderbook.listing import Kind, Listing
from poolwright.orderbook.render import render
from poolwright.poco.types import Address, BlockNumber, BlockStamp, OrderHash

Key: TypeAlias = tuple[str, bytes]
"""What is asked of the chain: ("stake", wallet), ("owner", resource), ("consumed", order hash) or ("member",
restriction and account, one behind the other)."""
MEMBER_BLOCKS: Final = 64
"""Memberships change without a log that the market could follow; each is read again after so many blocks."""
MOST_MEMBERS: Final = 256
"""Memberships that are read again at a time, and others that are read for the first time."""


class Replica:
    """The book and what belongs to it. `number` is that of the last change in it."""

    def __init__(self, *, checks_invariants: bool = False) -> None:
        self.book = Book()
        self.number = 0
        self.cursor: BlockStamp | None = None
        self.stake_read_at: dict[Address, BlockNumber] = {}
        self.owner_read_at: dict[Address, BlockNumber] = {}
        self.member_read_at: dict[Pair, BlockNumber] = {}
        """What was read longest ago stands first."""
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
        for member in sorted(snapshot.members, key=lambda each: (each.read_at, each.pair)):
            facts.append(_fact_of(member))
            replica.member_read_at[member.pair] = member.read_at
        changes = replica.book.restore(snapshot.listings, facts)
        replica._forget_members()
        replica.number, replica.cursor = snapshot.number, snapshot.cursor
        taken = NEVER_READ if snapshot.cursor is None else snapshot.cursor.number
        replica.ahead = {
            key: at
            for key, at in (
                *((("consumed", name), at) for name, at in snapshot.ahead.items()),
                *((("stake", wallet), at) for wallet, at in replica.stake_read_at.items()),
                *((("owner", resource), at) for resource, at in replica.owner_read_at.items()),
                *((member_key(pair), at) for pair, at in replica.member_read_at.items()),
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
        self.member_read_at, self.ahead = other.member_read_at, other.ahead
        self.newest_time = max(self.newest_time, other.newest_time)
        self.rewinds += 1

    def make(self, step: Step) -> list[Change]:
        """Make one step; its number is for the caller to set."""
        for fact, at in step.facts:
            if isinstance(fact, StakeRead):
                self.stake_read_at[fact.wallet] = at
            elif isinstance(fact, ResourceOwned):
                self.owner_read_at[fact.resource] = at
            elif isinstance(fact, MembershipRead):
                pair = (fact.group, fact.account)
                self.member_read_at.pop(pair, None)  # to the end of the line
                self.member_read_at[pair] = at
        facts = [fact for fact, _ in step.facts]
        if step.listing is None:
            changes = self.book.apply(facts)
        else:
            self.newest_time = max(self.newest_time, step.listing.published)
            changes = self.book.publish(step.listing, facts)
        self._forget_members()
        if step.cursor is not None:
            self.cursor = step.cursor
        self._note_ahead(step)
        self.rewinds += step.is_rewind
        self._check()
        return changes

    @property
    def taken(self) -> BlockNumber:
        """The block up to which the chain is taken."""
        return NEVER_READ if self.cursor is None else self.cursor.number

    def members_due(self, upto: BlockNumber) -> list[Key]:
        """The memberships that are to be read at this block."""
        due = list(islice(self.book.unknown_memberships(), MOST_MEMBERS))
        for pair, at in islice(self.member_read_at.items(), MOST_MEMBERS):
            if at + MEMBER_BLOCKS > upto:
                break
            due.append(pair)
        return [member_key(pair) for pair in due]

    def _forget_members(self) -> None:
        for pair in self.book.dropped_memberships():
            self.member_read_at.pop(pair, None)

    def add_rows(self, step: Step, changes: Sequence[Change], commit: Commit) -> None:
        """What a step that was made here changes in the tables."""
        for fact, at in step.facts:
            if isinstance(fact, StakeRead):
                commit.stakes[fact.wallet] = StakeRow(wallet=fact.wallet, stake=fact.stake, read_at=at)
            elif isinstance(fact, ResourceOwned):
                commit.owners[fact.resource] = OwnerRow(resource=fact.resource, owner=fact.owner, read_at=at)
            elif isinstance(fact, MembershipRead):
                pair = (fact.group, fact.account)
                commit.members[pair] = MemberRow(pair=pair, membership=fact.membership, read_at=at)
            elif isinstance(fact, OrderReread):
                commit.reread[fact.listing.hash] = at
        commit.members |= dict.fromkeys(self.book.dropped_memberships())
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
        taken = self.taken
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
            elif isinstance(fact, MembershipRead):
                read.append((member_key((fact.group, fact.account)), at))
        for key, at in read:
            if at > taken:
                self.ahead[key] = at
            else:
                self.ahead.pop(key, None)

    def _check(self) -> None:
        if self._checks:
            check_book(self.book)


def keys_of(listing: Listing) -> list[Key]:
    """What must be known of the chain for an order to be in the book."""
    keys: list[Key] = [("consumed", listing.hash)]
    if listing.need_per_task:
        keys.append(("stake", listing.signer))
    if listing.kind is not Kind.REQUEST:
        keys.append(("owner", listing.terms.resource))
    return keys


def with_consumed(listing: Listing, consumed: int) -> Listing:
    """An order out of the tables, with what the chain has left of it now."""
    listing.remaining = max(listing.volume - consumed, 0)
    listing.blocks = 0
    return listing


def member_key(pair: Pair) -> Key:
    """The key under which a membership is asked for."""
    return ("member", b"".join(pair))


def pair_of(name: bytes) -> Pair:
    """The restriction and the account of such a key."""
    return Address(name[:20]), Address(name[20:])


def _fact_of(row: MemberRow) -> MembershipRead:
    group, account = row.pair
    return MembershipRead(group=group, account=account, membership=row.membership)


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
