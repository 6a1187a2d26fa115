"""Writing: one turn at a time per chain, among all processes.

A turn locks the chain's row in `cursors`, reads what others changed since, and writes its own changes with
the numbers that follow; the lock is let go by the commit. So the order of the numbers is the order of the
commits, a reader that has seen a number has seen all before it, and whoever decides in a turn decides on the
newest state. Who follows the chain does it under a term: a turn that sees another term in the row is not the
leader's any more and writes nothing (`Deposed`).

    begin()      lock, read the changes that this process does not have yet
    write()      one transaction for everything; the other processes are woken (NOTIFY) when it is committed
    abandon()    nothing was decided
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Connection, Row, Table, bindparam, case, delete, func, select, update
from sqlalchemy.exc import SQLAlchemyError

from poolwright.market.rows import (
    PARTY_COLUMNS,
    ChangeRow,
    Commit,
    DealRow,
    OrderRow,
    Stale,
    pack_order,
)
from poolwright.market.schema import (
    CATEGORIES,
    CHANGES,
    CURSORS,
    DEALS,
    MEMBERS,
    ORDERS,
    OWNERS,
    PASSED,
    STAKES,
)
from poolwright.market.storage import (
    KEPT_CHANGES,
    Known,
    Storage,
    changes_after,
    known_orders,
    listing_of_row,
    storage_failed,
)
from poolwright.orderbook.listing import Status
from poolwright.poco.errors import Unavailable
from poolwright.poco.types import Address, BlockNumber, OrderHash

CHANNEL: Final = "poolwright_market"
KEPT_BLOCKS: Final = 1_000
"""Blocks that were passed, beside the first: how far a reorganisation can be followed in small steps."""
PRUNED_EVERY: Final = 1_000
"""Numbers of changes."""
UNFIT: Final = (OverflowError, ValueError)
"""What drivers raise for values that cannot even be brought into the database's form."""


class Deposed(Unavailable):
    """Another process follows the chain now; what this one wanted to write for it is void."""


class Turn:
    """The right to change one chain, from `begin` until `write` or `abandon`. Calls block."""

    def __init__(
        self,
        storage: Storage,
        connection: Connection,
        row: Row[Any],
        changes: list[ChangeRow],
        known: dict[OrderHash, Known],
    ) -> None:
        self._storage = storage
        self._connection = connection
        self._chain_id: int = row.chain_id
        self.number: Final[int] = row.number
        """Of the last change."""
        self.term: Final[int] = row.term
        self.changes: Final = changes
        """What came after the number that this process was at."""
        self.known: Final = known

    @classmethod
    def begin(cls, storage: Storage, chain_id: int, *, after: int, names: Iterable[OrderHash] = ()) -> Turn:
        """Wait for the lock and take it; look up these orders. Raises StorageFailed."""
        try:
            connection = storage.connect()
            try:
                row = connection.execute(
                    select(CURSORS).where(CURSORS.c.chain_id == chain_id).with_for_update()
                ).one()
                changes = []
                if row.number > after:
                    changes = changes_after(connection, chain_id, after, KEPT_CHANGES)
                known = known_orders(connection, chain_id, list(names))
            except BaseException:
                connection.close()
                raise
        except SQLAlchemyError as problem:
            raise storage_failed("lock a chain in", problem) from problem
        return cls(storage, connection, row, changes, known)

    def abandon(self) -> None:
        """Let go of the lock; nothing is written."""
        self._connection.close()

    def stale(self, above: BlockNumber) -> Stale:
        """What was found on the chain above this block. Raises StorageFailed."""
        try:
            return _stale(self._connection, self._chain_id, above)
        except SQLAlchemyError as problem:
            raise storage_failed("read", problem) from problem

    def write(self, commit: Commit) -> None:
        """Store everything and let go of the lock.

        Raises StorageFailed: with code `storage-failed` nothing of it is stored, with `storage-unknown` the
        database was lost while it committed, and only its tables tell what became of it.
        """
        try:
            try:
                self._store(commit)
            except (SQLAlchemyError, *UNFIT) as problem:
                raise storage_failed("write to", problem) from problem
            try:
                self._connection.commit()
            except SQLAlchemyError as problem:
                failure = storage_failed("commit to", problem)
                failure.code = "storage-unknown"
                raise failure from problem
        finally:
            self._connection.close()

    def _store(self, commit: Commit) -> None:
        chain_id = self._chain_id
        if commit.rolled_back_to is not None:
            self._roll_back(commit.rolled_back_to)
        if commit.unpublished:
            self._connection.execute(
                delete(ORDERS).where(
                    ORDERS.c.chain_id == chain_id, ORDERS.c.order_hash.in_(commit.unpublished)
                )
            )
        self._upsert(ORDERS, [_order_values(row) for row in commit.orders.values()])
        self._note_reread(commit)
        self._upsert(
            STAKES,
            [
                {"wallet": row.wallet, "stake": row.stake, "read_at": row.read_at}
                for row in commit.stakes.values()
            ],
        )
        self._upsert(
            OWNERS,
            [
                {"resource": row.resource, "owner": row.owner, "read_at": row.read_at}
                for row in commit.owners.values()
            ],
        )
        self._store_members(commit)
        self._upsert(DEALS, [_deal_values(row) for row in commit.deals])
        self._upsert(
            CATEGORIES,
            [
                {
                    "category": row.category,
                    "timeref": row.timeref,
                    "block_number": row.block_number,
                    "document": row.document,
                }
                for row in commit.categories
            ],
        )
        self._upsert(
            CHANGES, [{"number": row.number, "first": row.first, "body": row.body} for row in commit.changes]
        )
        self._advance(commit)

    def _note_reread(self, commit: Commit) -> None:
        if commit.reread:
            self._connection.execute(
                update(ORDERS)
                .where(
                    ORDERS.c.chain_id == self._chain_id,
                    ORDERS.c.order_hash == bindparam("of_order"),
                    ORDERS.c.read_at < bindparam("at"),
                )
                .values(read_at=bindparam("at")),
                [{"of_order": name, "at": at} for name, at in commit.reread.items()],
            )

    def _store_members(self, commit: Commit) -> None:
        self._upsert(
            MEMBERS,
            [
                {
                    "restriction": row.pair[0],
                    "account": row.pair[1],
                    "membership": int(row.membership),
                    "read_at": row.read_at,
                }
                for row in commit.members.values()
                if row is not None
            ],
        )
        unused = [pair for pair, row in commit.members.items() if row is None]
        if unused:
            self._connection.execute(
                delete(MEMBERS).where(
                    MEMBERS.c.chain_id == self._chain_id,
                    MEMBERS.c.restriction == bindparam("of_group"),
                    MEMBERS.c.account == bindparam("of_account"),
                ),
                [{"of_group": group, "of_account": account} for group, account in unused],
            )

    def _advance(self, commit: Commit) -> None:
        """The chain's row, and what follows from its numbers."""
        number = commit.changes[-1].number if commit.changes else self.number
        values: dict[str, Any] = {"number": number}
        if commit.cursor is not None:
            passed = {
                "block_number": commit.cursor.number,
                "block_hash": commit.cursor.hash,
                "block_time": commit.cursor.timestamp,
            }
            values |= passed
            self._upsert(PASSED, [passed])
        self._connection.execute(update(CURSORS).where(CURSORS.c.chain_id == self._chain_id).values(values))
        if number // PRUNED_EVERY != self.number // PRUNED_EVERY:
            self._prune(number)
        if self._storage.is_shared:
            self._connection.execute(select(func.pg_notify(CHANNEL, f"{self._chain_id} {number}")))

    def _prune(self, number: int) -> None:
        self._connection.execute(
            delete(CHANGES).where(
                CHANGES.c.chain_id == self._chain_id, CHANGES.c.number <= number - KEPT_CHANGES
            )
        )
        ours = PASSED.c.chain_id == self._chain_id
        first = select(func.min(PASSED.c.block_number)).where(ours).scalar_subquery()
        oldest = (
            select(PASSED.c.block_number)
            .where(ours)
            .order_by(PASSED.c.block_number.desc())
            .offset(KEPT_BLOCKS)
            .limit(1)
            .scalar_subquery()
        )
        self._connection.execute(
            delete(PASSED).where(ours, PASSED.c.block_number > first, PASSED.c.block_number <= oldest)
        )

    def _roll_back(self, fork: BlockNumber) -> None:
        for table in (DEALS, CATEGORIES, PASSED):
            self._connection.execute(
                delete(table).where(table.c.chain_id == self._chain_id, table.c.block_number > fork)
            )

    def _upsert(self, table: Table, values: list[dict[str, Any]]) -> None:
        if not values:
            return
        self._connection.execute(
            _upsert_into(self._storage.insert, table),
            [{"chain_id": self._chain_id, **each} for each in values],
        )


@lru_cache(maxsize=64)
def _upsert_into(insert: Any, table: Table) -> Any:
    """The statement, made once: making it takes longer than SQLite takes for a row."""
    keys = [column.name for column in table.primary_key]
    statement = insert(table)
    new = {column.name: statement.excluded[column.name] for column in table.c if column.name not in keys}
    if table is ORDERS:  # an order that changes for another reason was not read anew
        new["read_at"] = case((new["read_at"] > ORDERS.c.read_at, new["read_at"]), else_=ORDERS.c.read_at)
    return statement.on_conflict_do_update(index_elements=keys, set_=new)


def _stale(connection: Connection, chain_id: int, above: BlockNumber) -> Stale:
    orders = select(ORDERS).where(
        ORDERS.c.chain_id == chain_id,
        ORDERS.c.read_at > above,
        (ORDERS.c.status != Status.DEAD.value) | (ORDERS.c.blocks != 0),
    )
    rows = [
        OrderRow(
            listing=listing_of_row(row),
            status=Status(row.status),
            remaining=row.remaining,
            blocks=row.blocks,
            read_at=row.read_at,
        )
        for row in connection.execute(orders)
    ]
    wallets = select(STAKES.c.wallet).where(STAKES.c.chain_id == chain_id, STAKES.c.read_at > above)
    resources = select(OWNERS.c.resource).where(OWNERS.c.chain_id == chain_id, OWNERS.c.read_at > above)
    members = select(MEMBERS).where(MEMBERS.c.chain_id == chain_id, MEMBERS.c.read_at > above)
    deals = (
        select(DEALS.c.document)
        .where(DEALS.c.chain_id == chain_id, DEALS.c.block_number > above)
        .order_by(DEALS.c.block_number, DEALS.c.deal_id)
    )
    return Stale(
        orders={row.listing.hash: row for row in rows},
        wallets=frozenset(Address(row.wallet) for row in connection.execute(wallets)),
        resources=frozenset(Address(row.resource) for row in connection.execute(resources)),
        members=frozenset(
            (Address(row.restriction), Address(row.account)) for row in connection.execute(members)
        ),
        deals=tuple(row.document for row in connection.execute(deals)),
    )


def _order_values(row: OrderRow) -> dict[str, Any]:
    listing = row.listing
    return {
        "order_hash": listing.hash,
        "kind": listing.kind.value,
        "signer": listing.signer,
        "document": pack_order(listing),
        "remaining": row.remaining,
        "status": row.status.value,
        "blocks": row.blocks,
        "published": listing.published,
        "expires": listing.expires,
        "read_at": row.read_at,
    }


def _deal_values(row: DealRow) -> dict[str, Any]:
    return {
        "deal_id": row.deal_id,
        "block_number": row.block_number,
        "category": row.category,
        "document": row.document,
    } | {name: row.parties[name] for name in PARTY_COLUMNS}
