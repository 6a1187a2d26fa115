"""Questions to a PostgreSQL store, asked on a connection and a thread of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Self

import psycopg

from poolwright.poco.errors import InputError, Unavailable
from poolwright.store.postgresql_server import (
    STATEMENT_SECONDS,
    Connection,
    check_version,
    connect,
    cut,
    explain,
    is_cut,
    name_of,
)
from poolwright.store.sql import SqlReads, migrations, queries

ANSWER_SECONDS: Final = STATEMENT_SECONDS + 5.0
"""How long a question may take, the making of a new connection included."""


class PostgresReads(SqlReads):
    """A view of a store that writes nothing, from any process."""

    def __init__(self, url: str) -> None:
        self.name: Final = name_of(url)
        self._url = url
        self._queries = {name: text.encode() for name, text in queries("postgresql").items()}
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-postgresql")
        self._reading: Connection | None = None
        self._is_closed = False

    @classmethod
    async def open(cls, url: str) -> Self:
        """Open for reading only. Raises InputError when there is no store, or one of another version."""
        reads = cls(url)
        try:
            await asyncio.get_running_loop().run_in_executor(reads._reader, reads._connected)
        except psycopg.errors.UndefinedTable as problem:
            raise InputError(
                f"no store at {reads.name}",
                code="no-store",
                next_step="give the URL with which the scheduler runs",
            ) from problem
        except psycopg.Error as problem:
            raise explain(problem, reads.name) from problem
        return reads

    async def close(self) -> None:
        """Let go of the connection. Closing twice is harmless."""
        if not self._is_closed:
            self._is_closed = True
            if self._reading is not None:
                cut(self._reading)  # whoever still waits for a server that is silent waits no longer
            await asyncio.to_thread(self._reader.shutdown)
            if self._reading is not None:
                self._reading.close()

    async def _ask(self, name: str, *values: object) -> list[Any]:
        self._check_open()
        asked = asyncio.get_running_loop().run_in_executor(self._reader, self._fetch, name, values)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await asyncio.shield(asked)
        except TimeoutError as problem:
            raise Unavailable(
                f"store {self.name} does not answer",
                code="store-away",
                expected=f"an answer within {ANSWER_SECONDS:g} s",
                next_step="look at its server",
            ) from problem

    def _fetch(self, name: str, values: Sequence[Any]) -> list[Any]:
        """Ask; a connection that broke meanwhile (the server was restarted) is made again, once."""
        try:
            try:
                return self._select(name, values)
            except psycopg.Error as problem:
                if not is_cut(problem):
                    raise
                self._reading = None
                return self._select(name, values)
        except psycopg.Error as problem:
            raise explain(problem, self.name) from problem

    def _select(self, name: str, values: Sequence[Any]) -> list[Any]:
        return self._connected().execute(self._queries[name], values, binary=True).fetchall()

    def _connected(self) -> Connection:
        if self._reading is None:
            connection = connect(self._url, role="reader")
            check_version(connection, self.name, len(migrations("postgresql")), exactly=True)
            self._reading = connection
        return self._reading

    def _check_open(self) -> None:
        if self._is_closed:
            raise Unavailable(f"store {self.name} is closed", code="store-closed")
