"""The market's memory: one schema on SQLite (a file, the default) or PostgreSQL (by URL), by SQLAlchemy Core.

One writer thread takes commits from a queue and stores as many as wait in one transaction: what was asked
first is stored first, and `commit` returns when the database has it safely (SQLite with synchronous=FULL).
Reads run in threads beside it. There is one commit for everything that belongs together, so the chain's
cursor never runs ahead of what was made of its logs.

One market process works on one database: each holds its book in memory, and two would not see each other's
orders. A second one is refused at its start (an advisory lock of PostgreSQL, a lock file beside SQLite's).
"""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import alembic.command
import alembic.config
from sqlalchemy import Connection, Engine, Table, create_engine, delete, event, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Row, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from poolwright.market.rows import (
    PARTY_COLUMNS,
    Commit,
    DealQuery,
    DealRow,
    OrderRow,
    OwnerRow,
    StakeRow,
    listing_from,
    pack_order,
)
from poolwright.market.schema import CATEGORIES, CURSORS, DEALS, ORDERS, OWNERS, STAKES
from poolwright.orderbook.listing import Kind, Listing, Status
from poolwright.poco.errors import InputError, Unavailable
from poolwright.poco.types import (
    Address,
    BlockHash,
    BlockNumber,
    BlockStamp,
    Hash32,
    NRlc,
    OrderHash,
    Timestamp,
)

ADVISORY_LOCK: Final = 0x706F6F6C6D61726B
"""Of a PostgreSQL database that a market works on."""
MOST_AT_ONCE: Final = 500
"""Commits in one transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainStart:
    """Where a chain's reading starts: after the cursor, or at the hub's first block."""

    start_block: BlockNumber
    cursor: BlockStamp | None


class StorageFailed(Unavailable):
    """The database refuses; look at its disk, its log and the URL."""


class Storage:
    """An open database of the market. `open` makes and upgrades its tables."""

    def __init__(self, engine: Engine, hold: ExitStack) -> None:
        self._engine = engine
        self._hold = hold
        self._insert: Any = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert
        self._queue: queue.SimpleQueue[tuple[Commit, Future[None]] | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write_all, name="market-writer", daemon=True)
        self._writer.start()

    @classmethod
    def open(cls, url: str) -> Storage:
        """Open the database at an SQLAlchemy URL; its tables are made or upgraded.

        Raises InputError for a URL that is none, StorageFailed when the database cannot be had.
        """
        try:
            parsed = make_url(url)
        except ArgumentError as problem:
            raise _bad_url(url) from problem
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.get_backend_name() not in ("sqlite", "postgresql"):
            raise _bad_url(url)
        if parsed.get_backend_name() == "sqlite" and parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(parsed, pool_pre_ping=True)
        with ExitStack() as opening:
            opening.callback(engine.dispose)
            if engine.dialect.name == "sqlite":
                event.listen(engine, "connect", _set_up_sqlite)
                if parsed.database:
                    opening.enter_context(_file_held(Path(f"{parsed.database}.lock")))
            try:
                if engine.dialect.name == "postgresql":
                    opening.enter_context(_database_held(engine))
                with engine.begin() as connection:
                    _migrate(connection)
            except SQLAlchemyError as problem:
                raise _failed("open", problem) from problem
            return cls(engine, opening.pop_all())

    def close(self) -> None:
        """Store what waits and close."""
        self._queue.put(None)
        self._writer.join()
        self._hold.close()

    # --- writing --------------------------------------------------------------------------------------------

    def submit(self, commit: Commit) -> Future[None]:
        """Queue a commit; the future is done when it is stored. Raises StorageFailed through it."""
        done: Future[None] = Future()
        self._queue.put((commit, done))
        return done

    async def commit(self, commit: Commit) -> None:
        """Store and return when it is safe. Raises StorageFailed; then nothing of it is stored."""
        await asyncio.shield(asyncio.wrap_future(self.submit(commit)))

    def _write_all(self) -> None:
        while True:
            entries = [self._queue.get()]
            while len(entries) < MOST_AT_ONCE and entries[-1] is not None and not self._queue.empty():
                entries.append(self._queue.get())
            work = [entry for entry in entries if entry is not None]
            if work and not self._write(work) and len(work) > 1:
                for one in work:  # one bad commit must not fail its neighbours
                    self._write([one], is_last=True)
            if entries[-1] is None:
                return

    def _write(self, work: Sequence[tuple[Commit, Future[None]]], *, is_last: bool = False) -> bool:
        try:
            with self._engine.begin() as connection:
                for commit in _merged([commit for commit, _ in work]):
                    self._store(connection, commit)
        except Exception as problem:  # whatever it is, the thread goes on and the one who asked hears of it
            if len(work) == 1 or is_last:
                for _, done in work:
                    done.set_exception(_failed("write to", problem))
            return False
        for _, done in work:
            done.set_result(None)
        return True

    def _store(self, connection: Connection, commit: Commit) -> None:
        chain = {"chain_id": commit.chain_id}
        if commit.unpublished:
            connection.execute(
                delete(ORDERS).where(
                    ORDERS.c.chain_id == commit.chain_id, ORDERS.c.order_hash.in_(commit.unpublished)
                )
            )
        self._upsert(connection, ORDERS, [chain | _order_values(row) for row in commit.orders])
        self._upsert(
            connection,
            STAKES,
            [
                chain | {"wallet": row.wallet, "stake": row.stake, "read_at": row.read_at}
                for row in commit.stakes
            ],
        )
        self._upsert(
            connection,
            OWNERS,
            [
                chain | {"resource": row.resource, "owner": row.owner, "read_at": row.read_at}
                for row in commit.owners
            ],
        )
        self._upsert(connection, DEALS, [chain | _deal_values(row) for row in commit.deals])
        self._upsert(
            connection,
            CATEGORIES,
            [
                chain | {"category": row.category, "timeref": row.timeref, "document": row.document}
                for row in commit.categories
            ],
        )
        if commit.cursor is not None:
            connection.execute(
                update(CURSORS)
                .where(CURSORS.c.chain_id == commit.chain_id)
                .values(
                    block_number=commit.cursor.number,
                    block_hash=commit.cursor.hash,
                    block_time=commit.cursor.timestamp,
                )
            )

    def _upsert(self, connection: Connection, table: Table, values: list[dict[str, Any]]) -> None:
        if not values:
            return
        keys = [column.name for column in table.primary_key]
        statement = self._insert(table)
        statement = statement.on_conflict_do_update(
            index_elements=keys,
            set_={
                column.name: statement.excluded[column.name] for column in table.c if column.name not in keys
            },
        )
        connection.execute(statement, values)

    # --- reading --------------------------------------------------------------------------------------------

    def begin_chain(self, chain_id: int, hub: Address, start_block: BlockNumber | None) -> ChainStart | None:
        """Where to read a chain from; None when it is not known yet and `start_block` is not given.

        Raises InputError when the stored rows of this chain are of another hub.
        """
        with self._reading("read") as connection:
            row = connection.execute(select(CURSORS).where(CURSORS.c.chain_id == chain_id)).first()
            if row is None:
                if start_block is None:
                    return None
                connection.execute(
                    insert(CURSORS).values(chain_id=chain_id, hub=hub, start_block=start_block)
                )
                connection.commit()
                return ChainStart(start_block=start_block, cursor=None)
        if bytes(row.hub) != hub:
            raise InputError(
                f"the database holds chain {chain_id} of another hub",
                code="other-hub",
                expected=str(Address(row.hub)),
                got=str(hub),
                next_step="correct the hub's address, or use another database",
            )
        cursor = None
        if row.block_number is not None:
            cursor = BlockStamp(
                BlockNumber(row.block_number),
                BlockHash(Hash32(row.block_hash)),
                Timestamp(row.block_time),
            )
        return ChainStart(start_block=BlockNumber(row.start_block), cursor=cursor)

    def load(self, chain_id: int) -> Iterator[Listing]:
        """Every order of a chain that is open or may come back, in the order of publication."""
        query = (
            select(ORDERS)
            .where(
                ORDERS.c.chain_id == chain_id,
                (ORDERS.c.status == Status.OPEN.value)
                | ((ORDERS.c.status == Status.DEAD.value) & (ORDERS.c.blocks != 0)),
            )
            .order_by(ORDERS.c.published, ORDERS.c.order_hash)
        )
        with self._reading("read") as connection:
            for row in connection.execution_options(yield_per=2000).execute(query):
                yield _listing(row)

    def stakes(self, chain_id: int) -> list[StakeRow]:
        """Stakes as last read."""
        with self._reading("read") as connection:
            rows = connection.execute(select(STAKES).where(STAKES.c.chain_id == chain_id))
            return [
                StakeRow(wallet=Address(row.wallet), stake=NRlc(row.stake), read_at=BlockNumber(row.read_at))
                for row in rows
            ]

    def owners(self, chain_id: int) -> list[OwnerRow]:
        """Owners as last read."""
        with self._reading("read") as connection:
            rows = connection.execute(select(OWNERS).where(OWNERS.c.chain_id == chain_id))
            return [
                OwnerRow(
                    resource=Address(row.resource),
                    owner=Address(row.owner),
                    read_at=BlockNumber(row.read_at),
                )
                for row in rows
            ]

    def order(self, chain_id: int, kind: Kind, order_hash: OrderHash) -> OrderRow | None:
        """One published order in whatever status."""
        query = select(ORDERS).where(
            ORDERS.c.chain_id == chain_id, ORDERS.c.order_hash == order_hash, ORDERS.c.kind == kind.value
        )
        with self._reading("read") as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        return OrderRow(
            listing=_listing(row), status=Status(row.status), remaining=row.remaining, blocks=row.blocks
        )

    def deals(self, chain_id: int, query: DealQuery, *, skip: int, count: int) -> tuple[list[str], int]:
        """Documents of some deals, the newest first, and how many there are."""
        conditions = [DEALS.c.chain_id == chain_id]
        conditions += [DEALS.c[name] == value for name, value in query.parties.items()]
        if query.category is not None:
            conditions.append(DEALS.c.category == query.category)
        page = (
            select(DEALS.c.document)
            .where(*conditions)
            .order_by(DEALS.c.block_number.desc(), DEALS.c.deal_id)
            .limit(count)
            .offset(skip)
        )
        with self._reading("read") as connection:
            total = connection.execute(
                select(func.count()).select_from(DEALS).where(*conditions)
            ).scalar_one()
            return [row.document for row in connection.execute(page)], total

    def deal(self, chain_id: int, deal_id: Hash32) -> str | None:
        """The document of one deal."""
        query = select(DEALS.c.document).where(DEALS.c.chain_id == chain_id, DEALS.c.deal_id == deal_id)
        with self._reading("read") as connection:
            return connection.execute(query).scalar_one_or_none()

    def categories(
        self, chain_id: int, *, least: int, most: int | None, skip: int, count: int
    ) -> tuple[list[str], int]:
        """Documents of the categories with a work clock in these bounds, and how many there are."""
        conditions = [CATEGORIES.c.chain_id == chain_id, CATEGORIES.c.timeref >= least]
        if most is not None:
            conditions.append(CATEGORIES.c.timeref <= most)
        page = (
            select(CATEGORIES.c.document)
            .where(*conditions)
            .order_by(CATEGORIES.c.timeref, CATEGORIES.c.category)
            .limit(count)
            .offset(skip)
        )
        total = select(func.count()).select_from(CATEGORIES).where(*conditions)
        with self._reading("read") as connection:
            count_all = connection.execute(total).scalar_one()
            return [row.document for row in connection.execute(page)], count_all

    def category(self, chain_id: int, category: int) -> str | None:
        """The document of one category."""
        query = select(CATEGORIES.c.document).where(
            CATEGORIES.c.chain_id == chain_id, CATEGORIES.c.category == category
        )
        with self._reading("read") as connection:
            return connection.execute(query).scalar_one_or_none()

    def _reading(self, what: str) -> _Reading:
        return _Reading(self._engine, what)


class _Reading:
    """A connection for a read, with the database's errors as ours."""

    def __init__(self, engine: Engine, what: str) -> None:
        self._engine = engine
        self._what = what

    def __enter__(self) -> Connection:
        try:
            self._connection = self._engine.connect()
        except SQLAlchemyError as problem:
            raise _failed(self._what, problem) from problem
        return self._connection

    def __exit__(self, kind: object, problem: BaseException | None, trace: object) -> None:
        self._connection.close()
        if isinstance(problem, DBAPIError):
            raise _failed(self._what, problem) from problem


@contextmanager
def _file_held(lock: Path) -> Iterator[None]:
    """Hold a lock file; the system lets go of it when the process ends, however it ends."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise _in_use(str(lock)) from None
        yield


@contextmanager
def _database_held(engine: Engine) -> Iterator[None]:
    """Hold PostgreSQL's advisory lock on a connection of its own; the server lets go when that ends."""
    with engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        if not connection.execute(select(func.pg_try_advisory_lock(ADVISORY_LOCK))).scalar_one():
            raise _in_use("the advisory lock of the market")
        yield


def _in_use(what: str) -> InputError:
    return InputError(
        "another market process works on this database",
        code="database-in-use",
        expected="one process per database",
        got=f"{what} is held",
        next_step="stop the other one, or give this one a database of its own",
    )


def _merged(commits: Sequence[Commit]) -> list[Commit]:
    """The same in fewer statements: neighbours of one chain together, of one row the last state alone."""
    merged: list[Commit] = []
    for chain_id, group in itertools.groupby(commits, key=lambda each: each.chain_id):
        whole = Commit(chain_id=chain_id)
        orders: dict[OrderHash, OrderRow] = {}
        for commit in group:
            for order_hash in commit.unpublished:
                orders.pop(order_hash, None)
            orders.update((row.listing.hash, row) for row in commit.orders)
            whole.unpublished += commit.unpublished
            whole.stakes += commit.stakes
            whole.owners += commit.owners
            whole.deals += commit.deals
            whole.categories += commit.categories
            whole.cursor = commit.cursor or whole.cursor
        whole.orders = list(orders.values())
        whole.stakes = list({row.wallet: row for row in whole.stakes}.values())
        whole.owners = list({row.resource: row for row in whole.owners}.values())
        merged.append(whole)
    return merged


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
    }


def _deal_values(row: DealRow) -> dict[str, Any]:
    return {
        "deal_id": row.deal_id,
        "block_number": row.block_number,
        "category": row.category,
        "document": row.document,
    } | {name: row.parties[name] for name in PARTY_COLUMNS}


def _listing(row: Row[Any]) -> Listing:
    return listing_from(
        Kind(row.kind),
        row.order_hash,
        document=row.document,
        signer=row.signer,
        remaining=row.remaining,
        published=row.published,
        blocks=row.blocks,
        expires=row.expires,
    )


def _set_up_sqlite(connection: Any, _: object) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000"):
        connection.execute(f"PRAGMA {pragma}")


def _migrate(connection: Connection) -> None:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    alembic.command.upgrade(config, "head")


def _failed(what: str, problem: Exception) -> StorageFailed:
    reason = str(getattr(problem, "orig", None) or problem).splitlines()[0][:200]
    return StorageFailed(
        f"cannot {what} the market's database",
        code="storage-failed",
        got=reason,
        next_step="look at the database and at POOLWRIGHT_MARKET_DATABASE_URL",
    )


def _bad_url(url: str) -> InputError:
    return InputError(
        "not a URL of a database",
        code="bad-database-url",
        expected="sqlite:///path/to/market.db or postgresql://user@host/name",
        got=repr(url.partition("@")[2] or url)[:100],
        next_step="correct POOLWRIGHT_MARKET_DATABASE_URL",
    )
