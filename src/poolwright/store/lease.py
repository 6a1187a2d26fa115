"""Who of several schedulers leads: a lease of a few seconds in the PostgreSQL store, and its term.

The leader extends its lease with every group of commits, and once a second when there are none. When it
falls silent (killed, paused, cut off) the lease runs out by the server's clock, and whoever of the others
looks first takes it and raises the term. Every commit names its term and is refused when that is over; the
lease's row is locked meanwhile. So however late an old leader wakes, and whatever it believes, it can make
nothing durable any more, and what is not durable is neither sent to the chain nor told to a worker.

The time-out only says how long the others wait. Nothing that must be right depends on clocks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NewType, Self, TypeVar

import psycopg

from poolwright.poco.errors import PoolwrightError
from poolwright.store.postgresql_server import (
    Connection,
    connect,
    explain,
    migrate,
    name_of,
    prepare_schema,
)
from poolwright.store.sql import migrations, queries

LEASE_SECONDS: Final = 5.0
"""A leader that is silent for so long may be succeeded."""
RENEW_SECONDS: Final = 1.0
"""How often an idle leader extends its lease."""
LOCK_MILLISECONDS: Final = 2_000
"""A candidate that cannot have the lease's row for so long looks again later."""

T = TypeVar("T")

Term = NewType("Term", int)
"""How many have led before, and one: it only rises."""


class LeadershipLost(PoolwrightError):
    """Another scheduler may lead now; this one can write nothing more and ends."""

    def __init__(self, store: str, term: Term, got: str, lease_seconds: float) -> None:
        super().__init__(
            f"this scheduler leads no more (store {store}, term {term})",
            code="leadership-lost",
            expected=f"a lease that is extended within {lease_seconds:g} s",
            got=got,
            next_step="start it again: it stands by, and leads when it is its turn",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Leader:
    """Who leads, as the store says; the lease has `seconds_left` by the server's clock, or is over."""

    term: Term
    holder: str
    seconds_left: float


class Candidate:
    """One scheduler's view of the lease while it stands by. `holder` is what it would be called as leader.

    `scripts` bring the tables up to date; those of this program when None (see `store.sql.migrations`).
    """

    def __init__(self, url: str, holder: str, scripts: Sequence[str] | None = None) -> None:
        self.name: Final = name_of(url)
        self._url = url
        self._holder = holder
        self._scripts = migrations("postgresql") if scripts is None else scripts
        self._queries = queries("postgresql")
        self._connection: Connection | None = None

    @classmethod
    async def enter(cls, url: str, holder: str, scripts: Sequence[str] | None = None) -> Self:
        """Look at the store for the first time; makes its tables when it is empty.

        Raises InputError when it is no store for this program, Unavailable when it does not answer.
        """
        candidate = cls(url, holder, scripts)
        await candidate.leader()
        return candidate

    async def take(self) -> Term | None:
        """Become the leader if nobody is; the tables are brought up to date then. Raises Unavailable."""
        return await asyncio.to_thread(self._explained, self._take)

    async def leader(self) -> Leader:
        """Who leads, or led last. Raises Unavailable."""
        return await asyncio.to_thread(self._explained, self._leader)

    async def close(self) -> None:
        """Let go of the connection, not of a lease that was taken. Closing twice is harmless."""
        await asyncio.to_thread(self._drop)

    def _take(self, connection: Connection) -> Term | None:
        with connection.transaction():
            row = connection.execute(
                self._queries["take_lease"].encode(), (self._holder, LEASE_SECONDS)
            ).fetchone()
            if row is None:
                return None
            migrate(connection, self.name, self._scripts)
            return Term(int(row[0]))

    def _leader(self, connection: Connection) -> Leader:
        row = connection.execute(self._queries["leader"].encode()).fetchone()
        assert row is not None  # the table is made with its one row
        return Leader(term=Term(int(row[0])), holder=row[1], seconds_left=float(row[2]))

    def _explained(self, ask: Callable[[Connection], T]) -> T:
        """Ask the server, on a new connection where the old one is broken."""
        try:
            if self._connection is None:
                self._connection = connect(self._url, role="candidate")
                self._connection.execute(f"SET lock_timeout = '{LOCK_MILLISECONDS}ms'")
                prepare_schema(self._connection, self.name, self._scripts)
            return ask(self._connection)
        except psycopg.Error as problem:
            self._drop()
            raise explain(problem, self.name) from problem

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
