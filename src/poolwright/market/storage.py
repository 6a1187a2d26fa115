"""The market's memory: one schema on SQLite (a file, the default) or PostgreSQL (by URL), by SQLAlchemy Core.

What belongs together is written in one transaction, a turn (`turns`), so the chain's cursor never runs ahead
of what was made of its logs, and is safe when the turn has ended (SQLite with synchronous=FULL). Reads run in
threads beside it.

On PostgreSQL several processes work on one database. A SQLite file is one process's: a second one is refused
at its start by a lock file beside it.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import alembic.command
import alembic.config
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Engine,
    cast,
    create_engine,
    event,
    func,
    literal_column,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Row, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from poolwright.market.rows import (
    ChangeRow,
    DealQuery,
    KnownTerms,
    MemberRow,
    OrderRow,
    OwnerRow,
    StakeRow,
    listing_from,
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
from poolwright.orderbook.groups import Membership
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
"""Held in PostgreSQL while tables are made or upgraded: processes that start together take turns."""
KEPT_CHANGES: Final = 10_000
"""The last numbers of a chain's changes that are kept; who is further behind loads the book anew."""
LOAD_SECONDS: Final = 600
"""For one question of those that fill a book."""
MOST_AT_ONCE: Final = 500
"""Changes that a follower reads at once."""
MOST_NAMES: Final = 500
"""Orders that one query looks up."""
POSTGRESQL: Final = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "application_name": "poolwright-market",
}
"""How a connection is made where the URL does not say otherwise."""
SESSION: Final = (
    "SET lock_timeout = '5s'",
    "SET statement_timeout = '30s'",
    "SET idle_in_transaction_session_timeout = '3s'",
)
"""A process that stands still in the middle of a turn loses its session, and with it the lock on the chain,
after three seconds; one that waits for the lock for five gives up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainStart:
    """Where a chain's reading starts: after the cursor, or at the hub's first block."""

    start_block: BlockNumber
    cursor: BlockStamp | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A chain's book as stored after change `number`."""

    number: int
    cursor: BlockStamp | None
    stakes: list[StakeRow]
    owners: list[OwnerRow]
    members: list[MemberRow]
    listings: list[Listing]
    ahead: dict[OrderHash, BlockNumber]
    """Orders that were found on the chain at a block above the cursor, and that block."""
    changes: list[ChangeRow]
    """The last ones, up to `number`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is stored of a published order, whether it is in the book or not."""

    status: Status
    published: int


class StorageFailed(Unavailable):
    """The database refuses; look at its disk, its log and the URL."""


class Storage:
    """An open database of the market. `open` makes and upgrades its tables."""

    def __init__(self, engine: Engine, hold: ExitStack) -> None:
        self._engine = engine
        self._hold = hold
        self.is_shared: Final = engine.dialect.name == "postgresql"
        """Whether other processes may work on it."""
        self.insert: Final[Any] = postgresql.insert if self.is_shared else sqlite.insert
        """The INSERT that knows ON CONFLICT."""

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
        is_shared = parsed.get_backend_name() == "postgresql"
        if not is_shared and parsed.get_backend_name() != "sqlite":
            raise _bad_url(url)
        if not is_shared and parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        arguments = {name: value for name, value in POSTGRESQL.items() if name not in parsed.query}
        engine = create_engine(parsed, pool_pre_ping=is_shared, connect_args=arguments if is_shared else {})
        with ExitStack() as opening:
            opening.callback(engine.dispose)
            event.listen(engine, "connect", _set_up_postgresql if is_shared else _set_up_sqlite)
            if not is_shared and parsed.database:
                opening.enter_context(_file_held(Path(f"{parsed.database}.lock")))
            try:
                with engine.begin() as connection:
                    if is_shared:
                        for timeout in ("statement_timeout", "lock_timeout"):
                            connection.execute(text(f"SET LOCAL {timeout} = 0"))
                        connection.execute(select(func.pg_advisory_xact_lock(ADVISORY_LOCK)))
                    _migrate(connection)
                    if not is_shared:  # whoever led is gone: the file is ours alone
                        connection.execute(update(CURSORS).values(lease_until=0))
            except SQLAlchemyError as problem:
                raise storage_failed("open", problem) from problem
            return cls(engine, opening.pop_all())

    def close(self) -> None:
        """Close the connections; turns must have ended."""
        self._hold.close()

    @property
    def dsn(self) -> str:
        """The database's address as its own client library takes it. Has the password."""
        url = self._engine.url
        more = {name: str(value) for name, value in POSTGRESQL.items() if name not in url.query}
        whole = url.set(drivername=url.get_backend_name()).update_query_dict(more)
        return whole.render_as_string(hide_password=False)

    def connect(self) -> Connection:
        """A connection for one turn; who takes it closes it."""
        return self._engine.connect()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for reads, with the database's errors as ours."""
        try:
            with self._engine.connect() as connection:
                yield connection
        except SQLAlchemyError as problem:
            raise storage_failed("read", problem) from problem

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection in a transaction that is committed at the end, with the database's errors as ours."""
        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as problem:
            raise storage_failed("write to", problem) from problem

    def now(self) -> ColumnElement[int]:
        """Milliseconds since 1970 by the database's clock, which all processes share."""
        if self.is_shared:
            return cast(func.extract("epoch", func.clock_timestamp()) * 1000, BigInteger)
        return literal_column("CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)", BigInteger)

    # --- a chain's book -------------------------------------------------------------------------------------

    def begin_chain(self, chain_id: int, hub: Address, start_block: BlockNumber | None) -> ChainStart | None:
        """Where to read a chain from; None when it is not known yet and `start_block` is not given.

        Changes are numbered from the present millisecond on, so a listener of an earlier database cannot
        take these numbers for its own. Raises InputError when the stored rows are of another hub.
        """
        if start_block is not None:
            begin = self.insert(CURSORS).values(
                chain_id=chain_id,
                hub=hub,
                start_block=start_block,
                number=self.now(),
                term=0,
                leader="",
                lease_until=0,
            )
            with self.writing() as connection:
                connection.execute(begin.on_conflict_do_nothing())
        with self.reading() as connection:
            row = connection.execute(select(CURSORS).where(CURSORS.c.chain_id == chain_id)).first()
        if row is None:
            return None
        if bytes(row.hub) != hub:
            raise InputError(
                f"the database holds chain {chain_id} of another hub",
                code="other-hub",
                expected=str(Address(row.hub)),
                got=str(hub),
                next_step="correct the hub's address, or use another database",
            )
        return ChainStart(start_block=BlockNumber(row.start_block), cursor=cursor_of(row))

    def snapshot(self, chain_id: int) -> Snapshot:
        """Everything that a book is filled from, as of one moment: the orders that are open or may come back
        in the order of publication, stakes and owners as last read."""
        orders = (
            select(ORDERS)
            .where(
                ORDERS.c.chain_id == chain_id,
                (ORDERS.c.status == Status.OPEN.value)
                | ((ORDERS.c.status == Status.DEAD.value) & (ORDERS.c.blocks != 0)),
            )
            .order_by(ORDERS.c.published, ORDERS.c.order_hash)
        )
        kept = (
            select(CHANGES)
            .where(CHANGES.c.chain_id == chain_id)
            .order_by(CHANGES.c.number.desc())
            .limit(KEPT_CHANGES)
        )
        with self.reading() as connection:
            if self.is_shared:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
                connection.execute(text(f"SET LOCAL statement_timeout = '{LOAD_SECONDS}s'"))
            row = connection.execute(select(CURSORS).where(CURSORS.c.chain_id == chain_id)).one()
            changes = [change_of(each) for each in connection.execute(kept)]
            stakes = connection.execute(select(STAKES).where(STAKES.c.chain_id == chain_id)).all()
            owners = connection.execute(select(OWNERS).where(OWNERS.c.chain_id == chain_id)).all()
            members = connection.execute(select(MEMBERS).where(MEMBERS.c.chain_id == chain_id)).all()
            taken = row.block_number or 0
            left = select(ORDERS.c.order_hash, ORDERS.c.read_at).where(
                ORDERS.c.chain_id == chain_id,
                ORDERS.c.status.in_([Status.FILLED.value, Status.CANCELED.value]),
                ORDERS.c.read_at > taken,
            )
            ahead = {
                OrderHash(Hash32(each.order_hash)): BlockNumber(each.read_at)
                for each in connection.execute(left)
            }
            listings: list[Listing] = []
            known: KnownTerms = {}
            for each in connection.execution_options(yield_per=2000).execute(orders):
                listings.append(listing_of_row(each, known))
                if each.read_at > taken:
                    ahead[listings[-1].hash] = each.read_at
        return Snapshot(
            number=row.number,
            cursor=cursor_of(row),
            stakes=[
                StakeRow(wallet=Address(each.wallet), stake=NRlc(each.stake), read_at=each.read_at)
                for each in stakes
            ],
            owners=[
                OwnerRow(resource=Address(each.resource), owner=Address(each.owner), read_at=each.read_at)
                for each in owners
            ],
            members=[
                MemberRow(
                    pair=(Address(each.restriction), Address(each.account)),
                    membership=Membership(each.membership),
                    read_at=each.read_at,
                )
                for each in members
            ],
            listings=listings,
            ahead=ahead,
            changes=changes[::-1],
        )

    def changes(self, chain_id: int, after: int) -> list[ChangeRow]:
        """The next changes, at most MOST_AT_ONCE. That the first follows `after` is for the caller to see."""
        with self.reading() as connection:
            return changes_after(connection, chain_id, after)

    def passed(self, chain_id: int) -> list[BlockStamp]:
        """Blocks at which the cursor was, the newest first."""
        query = select(PASSED).where(PASSED.c.chain_id == chain_id).order_by(PASSED.c.block_number.desc())
        with self.reading() as connection:
            return [_stamp(row) for row in connection.execute(query)]

    # --- single rows and pages of them ----------------------------------------------------------------------

    def order(self, chain_id: int, kind: Kind, order_hash: OrderHash) -> OrderRow | None:
        """One published order in whatever status."""
        query = select(ORDERS).where(
            ORDERS.c.chain_id == chain_id, ORDERS.c.order_hash == order_hash, ORDERS.c.kind == kind.value
        )
        with self.reading() as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        return OrderRow(
            listing=listing_of_row(row),
            status=Status(row.status),
            remaining=row.remaining,
            blocks=row.blocks,
            read_at=row.read_at,
        )

    def known(self, chain_id: int, names: Sequence[OrderHash]) -> dict[OrderHash, Known]:
        """Those of these orders that were ever published."""
        with self.reading() as connection:
            return known_orders(connection, chain_id, names)

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
        with self.reading() as connection:
            total = connection.execute(
                select(func.count()).select_from(DEALS).where(*conditions)
            ).scalar_one()
            return [row.document for row in connection.execute(page)], total

    def deal(self, chain_id: int, deal_id: Hash32) -> str | None:
        """The document of one deal."""
        query = select(DEALS.c.document).where(DEALS.c.chain_id == chain_id, DEALS.c.deal_id == deal_id)
        with self.reading() as connection:
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
        with self.reading() as connection:
            count_all = connection.execute(total).scalar_one()
            return [row.document for row in connection.execute(page)], count_all

    def category(self, chain_id: int, category: int) -> str | None:
        """The document of one category."""
        query = select(CATEGORIES.c.document).where(
            CATEGORIES.c.chain_id == chain_id, CATEGORIES.c.category == category
        )
        with self.reading() as connection:
            return connection.execute(query).scalar_one_or_none()


def changes_after(
    connection: Connection, chain_id: int, after: int, most: int = MOST_AT_ONCE
) -> list[ChangeRow]:
    """The next changes of a chain, in their order."""
    query = (
        select(CHANGES)
        .where(CHANGES.c.chain_id == chain_id, CHANGES.c.number > after)
        .order_by(CHANGES.c.number)
        .limit(most)
    )
    return [change_of(row) for row in connection.execute(query)]


def known_orders(connection: Connection, chain_id: int, names: Sequence[OrderHash]) -> dict[OrderHash, Known]:
    """Those of these orders that are stored."""
    found: dict[OrderHash, Known] = {}
    for at in range(0, len(names), MOST_NAMES):
        query = select(ORDERS.c.order_hash, ORDERS.c.status, ORDERS.c.published).where(
            ORDERS.c.chain_id == chain_id, ORDERS.c.order_hash.in_(names[at : at + MOST_NAMES])
        )
        for row in connection.execute(query):
            found[OrderHash(row.order_hash)] = Known(status=Status(row.status), published=row.published)
    return found


def change_of(row: Row[Any]) -> ChangeRow:
    return ChangeRow(first=row.first, number=row.number, body=row.body)


def cursor_of(row: Row[Any]) -> BlockStamp | None:
    """How far a chain was taken, of its row in `cursors`."""
    return None if row.block_number is None else _stamp(row)


def listing_of_row(row: Row[Any], known: KnownTerms | None = None) -> Listing:
    """An order as the book takes it, of its row; `known` as in `listing_from`."""
    return listing_from(
        Kind(row.kind),
        row.order_hash,
        document=row.document,
        signer=row.signer,
        remaining=row.remaining,
        published=row.published,
        blocks=row.blocks,
        expires=row.expires,
        known=known,
    )


def _stamp(row: Row[Any]) -> BlockStamp:
    return BlockStamp(
        BlockNumber(row.block_number), BlockHash(Hash32(row.block_hash)), Timestamp(row.block_time)
    )


@contextmanager
def _file_held(lock: Path) -> Iterator[None]:
    """Hold a lock file; the system lets go of it when the process ends, however it ends."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise _in_use(str(lock)) from None
        yield


def _in_use(lock: str) -> InputError:
    return InputError(
        "another market process works on this database",
        code="database-in-use",
        expected="one process per SQLite file",
        got=f"{lock} is held",
        next_step="stop the other one, or let both work on one PostgreSQL database",
    )


def _set_up_postgresql(connection: Any, _: object) -> None:
    with connection.cursor() as cursor:
        for setting in SESSION:
            cursor.execute(setting)
    connection.commit()


def _set_up_sqlite(connection: Any, _: object) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000"):
        connection.execute(f"PRAGMA {pragma}")


def _migrate(connection: Connection) -> None:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    alembic.command.upgrade(config, "head")


def storage_failed(what: str, problem: Exception) -> StorageFailed:
    """The database's refusal as ours, in one line."""
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
