"""Questions to a SQLite store, asked on a connection and a thread of their own."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Self

from poolwright.poco.errors import Unavailable
from poolwright.poco.types import Hash32, TaskId, Timestamp
from poolwright.store.port import (
    FIRST_EVENT,
    EffectId,
    EventId,
    LoggedEffect,
    LoggedEvent,
    Snapshot,
    Story,
)
from poolwright.store.sqlite_file import explained, open_for_reading, queries

PAGE: Final = 1_000
"""Events that `replay` fetches at once."""


class SqliteReads:
    """A read-only view of a store; it may live in another process than the writer. See StoreReads."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._reading = connection
        self._queries = queries()
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"read-{path.name}")
        self._is_closed = False

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Open for reading only. Raises InputError when there is no store, or one of another version."""
        return cls(path, await asyncio.to_thread(open_for_reading, path))

    async def replay(self, after: EventId = FIRST_EVENT) -> AsyncIterator[LoggedEvent]:
        while rows := await self._ask("replay", after, PAGE):
            for row in rows:
                yield _event(row)
            after = rows[-1][0]

    async def last_event_id(self) -> EventId:
        return EventId((await self._ask("last_event_id"))[0][0])

    async def pending(self, lane: str | None = None) -> tuple[LoggedEffect, ...]:
        rows = await (self._ask("pending") if lane is None else self._ask("pending_in_lane", lane))
        return tuple(map(_effect, rows))

    async def mark(self, name: str) -> bytes | None:
        return _only(await self._ask("mark", name))

    async def record(self, kind: str, key: str) -> bytes | None:
        return _only(await self._ask("record", kind, key))

    async def records(self, kind: str) -> dict[str, bytes]:
        return dict(await self._ask("records", kind))

    async def latest_snapshot(self, before: EventId | None = None) -> Snapshot | None:
        rows = await self._ask("latest_snapshot", before)
        return Snapshot(upto=EventId(rows[0][0]), body=rows[0][1]) if rows else None

    async def story(self, task_id: TaskId) -> Story:
        events = await self._ask("story_events", bytes(task_id))
        effects = await self._ask("story_effects", bytes(task_id))
        return Story(task_id=task_id, events=tuple(map(_event, events)), effects=tuple(map(_effect, effects)))

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


def _only(rows: list[Any]) -> bytes | None:
    return rows[0][0] if rows else None


def _task(raw: bytes | None) -> TaskId | None:
    return None if raw is None else TaskId(Hash32(raw))


def _event(row: Any) -> LoggedEvent:
    event_id, kind, task_id, at, body = row
    return LoggedEvent(id=EventId(event_id), kind=kind, at=Timestamp(at), body=body, task_id=_task(task_id))


def _effect(row: Any) -> LoggedEffect:
    effect_id, lane, key, kind, task_id, cause, is_done, body = row
    return LoggedEffect(
        id=EffectId(effect_id),
        lane=lane,
        key=key,
        kind=kind,
        body=body,
        task_id=_task(task_id),
        cause=None if cause is None else EventId(cause),
        is_done=bool(is_done),
    )
