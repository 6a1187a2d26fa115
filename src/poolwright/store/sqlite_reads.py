"""Questions to a SQLite store, asked on a connection and a thread of their own."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

from poolwright.poco.errors import Unavailable
from poolwright.store.sql import SqlReads, queries
from poolwright.store.sqlite_file import explained, open_for_reading


class SqliteReads(SqlReads):
    """A read-only view of a store; it may live in another process than the writer."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._reading = connection
        self._queries = queries("sqlite")
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"read-{path.name}")
        self._is_closed = False

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Open for reading only. Raises InputError when there is no store, or one of another version."""
        return cls(path, await asyncio.to_thread(open_for_reading, path))

    async def close(self) -> None:
        """Let go of the file. Closing twice is harmless."""
        if not self._is_closed:
            self._is_closed = True
            await asyncio.to_thread(self._reader.shutdown)
            self._reading.close()

    async def _ask(self, name: str, *values: object) -> list[Any]:
        self._check_open()
        return await asyncio.get_running_loop().run_in_executor(self._reader, self._fetch, name, values)

    def _fetch(self, name: str, values: Sequence[Any]) -> list[Any]:
        with explained(self.path):
            return self._reading.execute(self._queries[name], values).fetchall()

    def _check_open(self) -> None:
        if self._is_closed:
            raise Unavailable(f"store {self.path} is closed", code="store-closed")
