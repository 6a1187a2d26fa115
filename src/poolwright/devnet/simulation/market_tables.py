"""What the market's database keeps, in memory: as `market.turns` writes and `market.storage` reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from poolwright.market.rows import (
    NEVER_READ,
    Commit,
    DealRow,
    MemberRow,
    OrderRow,
    OwnerRow,
    StakeRow,
    Stale,
    listing_from,
    pack_order,
)
from poolwright.market.storage import Known, Snapshot
from poolwright.orderbook.groups import Pair
from poolwright.orderbook.listing import Kind, Listing, Status
from poolwright.poco.types import Address, BlockNumber, BlockStamp, DealId, OrderHash


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredOrder:
    """A row of the table of orders."""

    kind: Kind
    document: str
    signer: Address
    published: int
    expires: int
    status: Status
    remaining: int
    blocks: int
    read_at: BlockNumber


class MarketTables:
    """The tables of one chain. A commit is written whole or, when the process dies before, not at all."""

    def __init__(self) -> None:
        self.orders: dict[OrderHash, StoredOrder] = {}
        self.cursor: BlockStamp | None = None
        self._number = 0
        self._stakes: dict[Address, StakeRow] = {}
        self._owners: dict[Address, OwnerRow] = {}
        self._members: dict[Pair, MemberRow] = {}
        self._deals: dict[DealId, DealRow] = {}
        self._passed: dict[BlockNumber, BlockStamp] = {}

    def write(self, commit: Commit) -> None:
        """As `Turn.write`."""
        if commit.rolled_back_to is not None:
            fork = commit.rolled_back_to
            self._deals = {key: row for key, row in self._deals.items() if row.block_number <= fork}
            self._passed = {number: stamp for number, stamp in self._passed.items() if number <= fork}
        for name in commit.unpublished:
            self.orders.pop(name, None)
        for name, row in commit.orders.items():
            self.orders[name] = self._stored(name, row)
        for name, at in commit.reread.items():
            stored = self.orders.get(name)
            if stored is not None and stored.read_at < at:
                self.orders[name] = replace(stored, read_at=at)
        self._stakes |= commit.stakes
        self._owners |= commit.owners
        for pair, member in commit.members.items():
            if member is None:
                self._members.pop(pair, None)
            else:
                self._members[pair] = member
        self._deals |= {row.deal_id: row for row in commit.deals}
        self._number = commit.changes[-1].number
        if commit.cursor is not None:
            self.cursor = commit.cursor
            self._passed[commit.cursor.number] = commit.cursor

    def _stored(self, name: OrderHash, row: OrderRow) -> StoredOrder:
        known, listing = self.orders.get(name), row.listing
        return StoredOrder(
            kind=listing.kind,
            document=pack_order(listing),
            signer=listing.signer,
            published=listing.published,
            expires=listing.expires,
            status=row.status,
            remaining=row.remaining,
            blocks=row.blocks,
            read_at=max(row.read_at, NEVER_READ if known is None else known.read_at),
        )

    # --- reading --------------------------------------------------------------------------------------------

    def passed(self, chain_id: int) -> list[BlockStamp]:
        """As `Storage.passed`: the newest first."""
        return [self._passed[number] for number in sorted(self._passed, reverse=True)]

    def known(self, chain_id: int, names: Sequence[OrderHash]) -> dict[OrderHash, Known]:
        """As `Storage.known`."""
        rows = {name: self.orders[name] for name in names if name in self.orders}
        return {name: Known(status=row.status, published=row.published) for name, row in rows.items()}

    def stale(self, above: BlockNumber) -> Stale:
        """As `Turn.stale`."""
        orders = {
            name: OrderRow(
                listing=_listing(name, row),
                status=row.status,
                remaining=row.remaining,
                blocks=row.blocks,
                read_at=row.read_at,
            )
            for name, row in self.orders.items()
            if row.read_at > above and (row.status is not Status.DEAD or row.blocks)
        }
        gone = [row for row in self._deals.values() if row.block_number > above]
        return Stale(
            orders=orders,
            wallets=frozenset(key for key, stake in self._stakes.items() if stake.read_at > above),
            resources=frozenset(key for key, owner in self._owners.items() if owner.read_at > above),
            members=frozenset(key for key, member in self._members.items() if member.read_at > above),
            deals=tuple(
                row.document for row in sorted(gone, key=lambda row: (row.block_number, row.deal_id))
            ),
        )

    def snapshot(self) -> Snapshot:
        """As `Storage.snapshot`, without the changes for other processes."""
        open_orders = [
            (name, row)
            for name, row in self.orders.items()
            if row.status is Status.OPEN or (row.status is Status.DEAD and row.blocks)
        ]
        open_orders.sort(key=lambda each: (each[1].published, each[0]))
        taken = NEVER_READ if self.cursor is None else self.cursor.number
        return Snapshot(
            number=self._number,
            cursor=self.cursor,
            stakes=list(self._stakes.values()),
            owners=list(self._owners.values()),
            members=list(self._members.values()),
            listings=[_listing(name, row) for name, row in open_orders],
            ahead={
                name: row.read_at
                for name, row in self.orders.items()
                if row.read_at > taken and (row.status is not Status.DEAD or row.blocks)
            },
            changes=[],
        )


def _listing(name: OrderHash, row: StoredOrder) -> Listing:
    return listing_from(
        row.kind,
        name,
        document=row.document,
        signer=row.signer,
        remaining=row.remaining,
        published=row.published,
        blocks=row.blocks,
        expires=row.expires,
    )
