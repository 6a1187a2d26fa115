"""The PostgreSQL store: one leader writes, and what it writes is refused when it leads no more (see lease).

Commits are gathered as in SQLite and written by one statement per group, so a group is one transaction and
one round trip. Because this process is the only writer, it knows the last ids and which effects wait; it
decides each commit itself (`postgresql_rows`) and sends only rows. What the server has to say is whether the
term is still ours.

A connection that breaks leaves a group in doubt. The writer makes a new one and asks how many groups this
term has written, behind whatever the old connection may still be doing; then it goes on, or sends the group
again. So a server that is restarted within the lease costs a pause and no error. Longer, and this process has
lost its lease: it ends, since nobody can tell it that it still leads.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, Self, TypeVar

import psycopg

from poolwright.poco.errors import InvariantBroken
from poolwright.store.group import Change, GroupWriter
from poolwright.store.lease import LEASE_SECONDS, RENEW_SECONDS, LeadershipLost, Term
from poolwright.store.outbox import Outbox
from poolwright.store.packing import packed
from poolwright.store.port import Commit, Committed, EffectId, EventId, Snapshot
from poolwright.store.postgresql_reads import PostgresReads
from poolwright.store.postgresql_rows import Plan
from poolwright.store.postgresql_server import (
    TERM_OVER,
    UNFIT,
    Connection,
    connect,
    cut,
    explain,
    is_cut,
    is_unfit,
    name_of,
)
from poolwright.store.sql import queries

T = TypeVar("T")

LOOK_SECONDS: Final = 0.2
"""How often it is looked whether the lease still runs, and how soon a broken connection is made again."""
VERDICT_SECONDS: Final = 1.0
"""How long the store may be asked about a lease that has run out here, in waking time: a process that was
paused goes on if it has no successor, and else hears who that is."""


class PostgresStore(PostgresReads):
    """A store that this process writes while its term lasts. See Store.

    Every `commit` raises LeadershipLost once it is over.
    """

    def __init__(self, url: str, term: Term, lease_seconds: float) -> None:
        super().__init__(url)
        self._lease_seconds = lease_seconds
        self._writer = _Writer(url, term, lease_seconds)

    @classmethod
    async def lead(cls, url: str, term: Term, lease_seconds: float = LEASE_SECONDS) -> Self:
        """Open the store for writing, in the term that a Candidate took.

        Raises LeadershipLost when it is over already, Unavailable when the server does not answer.
        """
        store = cls(url, term, lease_seconds)
        await asyncio.to_thread(store._writer.prepare)
        store._writer.start()
        return store

    async def commit(self, commit: Commit) -> Committed:
        committed: Committed = await self._writer.write(commit)
        return committed

    async def snapshot(self, body: bytes, upto: EventId) -> None:
        await self._writer.write(Snapshot(upto=upto, body=await asyncio.to_thread(packed, body)))

    async def watch(self) -> None:
        """Run until the lease is lost, and raise LeadershipLost then; else for ever."""
        overdue = 0.0
        while self._writer.lost is None:
            await asyncio.sleep(LOOK_SECONDS)
            silence = time.monotonic() - self._writer.held_since
            overdue = overdue + LOOK_SECONDS if silence > self._lease_seconds else 0.0
            if overdue > VERDICT_SECONDS:
                self._writer.lose(f"no answer of the store for {silence:.1f} s")
        raise self._writer.lost.with_traceback(None)

    async def close(self) -> None:
        """Finish what was accepted, and let go of the lease so that another leads at once."""
        closing = asyncio.ensure_future(self._writer.close())
        await asyncio.wait({closing}, timeout=self._lease_seconds)
        if not closing.done():
            self._writer.lose("no answer of the store while it was being closed")
        await closing
        await super().close()


class _Unfit(Exception):
    """The server refuses the values of a group; it is as before."""


class _Writer(GroupWriter):
    """The thread that writes in a term, and keeps its lease."""

    def __init__(self, url: str, term: Term, lease_seconds: float) -> None:
        self._store = name_of(url)
        self._lease_seconds = lease_seconds
        super().__init__(self._store, idle_seconds=RENEW_SECONDS)
        self._url = url
        self._term = term
        self._queries = {name: text.encode() for name, text in queries("postgresql").items()}
        self._connection: Connection | None = None
        self._groups = 0
        """Groups written in this term, the one that is being written included."""
        self._last_event = 0
        self._outbox: Outbox | None = None
        """None when what is known here may differ from what is written."""
        self._verdict = threading.Lock()
        self.held_since = time.monotonic()
        """When the last extension of the lease that succeeded was asked for."""
        self.lost: LeadershipLost | None = None

    def prepare(self) -> None:
        """Read what this term begins with. Raises LeadershipLost, Unavailable."""
        try:
            self._patiently(self._hold)
            self._outbox = self._patiently(self._read_outbox)
        except psycopg.Error as problem:
            raise explain(problem, self._store) from problem

    def lose(self, got: str) -> LeadershipLost:
        """The lease is not ours any more: nothing is written from now on, whoever notices first."""
        with self._verdict:
            if self.lost is None:
                self.lost = LeadershipLost(self._store, self._term, got, self._lease_seconds)
                if self._connection is not None:
                    cut(self._connection)
            return LeadershipLost(self._store, self._term, self.lost.got, self._lease_seconds)

    def write_group(self, changes: Sequence[Change]) -> Sequence[object]:
        try:  # an exception for each: a traceback is not shared
            return self._write_together(changes)
        except _Unfit as unfit:
            if len(changes) == 1:
                return [InvariantBroken("store: a row is not valid", code="store-refused", got=str(unfit))]
            return [answer for change in changes for answer in self.write_group([change])]
        except LeadershipLost as problem:
            return [self.lose(problem.got) for _ in changes]
        except psycopg.Error as problem:
            return [explain(problem, self._store) for _ in changes]
        except Exception as problem:  # noqa: BLE001  a bug of ours must not leave callers waiting for ever
            return [
                InvariantBroken(f"store {self._store}: {problem!r}", code="store-writer") for _ in changes
            ]

    def idle(self) -> None:
        if self.lost is None:
            with contextlib.suppress(LeadershipLost, psycopg.Error):  # `watch` tells it, or the next commit
                self._patiently(self._hold)

    def end(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):  # then the lease runs out by itself
                if self.lost is None:
                    self._connection.execute(self._queries["let_go"], (self._term,))
                self._connection.close()

    def _write_together(self, changes: Sequence[Change]) -> Sequence[object]:
        """One transaction for all. Raises psycopg.Error, _Unfit when it did not happen, LeadershipLost."""
        outbox = self._outbox or self._patiently(self._read_outbox)
        self._outbox = None
        plan = Plan(self._last_event, outbox)
        answers = [plan.take(change) for change in changes]
        self._groups += 1
        values = (self._term, self._groups, self._lease_seconds, *plan.columns())
        try:
            self._patiently(lambda connection, is_again: self._write(connection, is_again, values))
        except (psycopg.Error, *UNFIT) as problem:
            self._groups -= 1
            if is_unfit(problem):
                raise _Unfit(str(problem)) from problem
            raise
        self._last_event, self._outbox = plan.last_event, outbox
        return answers

    def _patiently(self, ask: Callable[[Connection, bool], T]) -> T:
        """Ask the server, over as many connections as it takes while the lease lasts.

        `ask` is told whether it was asked before, with a result that is not known. Raises psycopg.Error when
        the server refuses, LeadershipLost.
        """
        is_again = False
        while self.lost is None:
            asked_at = time.monotonic()
            try:
                answer = ask(self._connected(), is_again)
            except psycopg.Error as problem:
                if problem.sqlstate == TERM_OVER:
                    raise self.lose(self._successor()) from problem
                if not is_cut(problem):
                    raise
                self._connection = None
                is_again = True
                if asked_at - self.held_since > self._lease_seconds:
                    raise self.lose(str(explain(problem, self._store))) from problem
                time.sleep(LOOK_SECONDS)
            else:
                self.held_since = asked_at
                return answer
        raise self.lose(self.lost.got)

    def _write(self, connection: Connection, is_again: bool, values: Sequence[object]) -> None:
        if is_again and self._is_written(connection):
            self._hold(connection, is_again)
        else:
            connection.execute(self._queries["write_group"], values)

    def _is_written(self, connection: Connection) -> bool:
        """Whether the group in doubt is; waits for the transaction that may still be writing it."""
        row = connection.execute(self._queries["groups_written"], (self._term,)).fetchone()
        if row is None:
            raise self.lose(self._successor())
        return int(row[0]) == self._groups

    def _hold(self, connection: Connection, is_again: bool) -> None:
        connection.execute(self._queries["hold_lease"], (self._term, self._groups, self._lease_seconds))

    def _read_outbox(self, connection: Connection, is_again: bool) -> Outbox:
        """What is written: the last ids, and the effects that wait."""
        self._last_event = _number(connection, self._queries["last_event_id"])
        outbox = Outbox(_number(connection, self._queries["last_effect_id"]))
        rows = connection.execute(self._queries["outbox"], binary=True)
        for effect_id, lane, key, body in rows:
            outbox.restore(EffectId(effect_id), lane, key, body)
        self._hold(connection, is_again)
        return outbox

    def _successor(self) -> str:
        """Who leads instead, for the message."""
        with contextlib.suppress(psycopg.Error):
            row = self._connected().execute(self._queries["leader"]).fetchone()
            if row is not None:
                return f"{row[1]} leads in term {row[0]}"
        return "another one leads"

    def _connected(self) -> Connection:
        if self._connection is None:
            connection = connect(self._url, role=f"leader of term {self._term}")
            if _text(connection, b"SHOW synchronous_commit") == "off":  # a commit that returned is to be kept
                connection.execute("SET synchronous_commit = on")
            self._connection = connection
        return self._connection


def _number(connection: Connection, query: bytes) -> int:
    row = connection.execute(query).fetchone()
    return 0 if row is None else int(row[0])


def _text(connection: Connection, query: bytes) -> str:
    row = connection.execute(query).fetchone()
    return "" if row is None else str(row[0])
