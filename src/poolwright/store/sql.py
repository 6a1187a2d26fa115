"""What the stores on SQL have in common: their scripts, statements and questions."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from importlib import resources
from typing import Any, Final, Literal

from poolwright.poco.types import Hash32, TaskId, Timestamp
from poolwright.store.packing import unpacked
from poolwright.store.port import (
    FIRST_EVENT,
    EffectId,
    EventId,
    LoggedEffect,
    LoggedEvent,
    Snapshot,
    Story,
)

Engine = Literal["sqlite", "postgresql"]

PAGE: Final = 1_000
"""Events that `replay` fetches at once."""

_FILES: Final = resources.files("poolwright.store")


def queries(engine: Engine) -> dict[str, str]:
    """The statements of an engine's .sql file, by name."""
    found: dict[str, str] = {}
    for part in _FILES.joinpath(f"{engine}_queries.sql").read_text("utf-8").split("-- name: ")[1:]:
        name, _, statement = part.partition("\n")
        found[name.strip()] = statement.strip()
    return found


def migrations(engine: Engine) -> list[str]:
    """SQL scripts in order; script n, counted from 1, brings a store of version n - 1 to version n."""
    folder = _FILES.joinpath("migrations", engine)
    return [
        entry.read_text("utf-8")
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".sql")
    ]


class SqlReads(ABC):
    """The questions of StoreReads as statements; an engine says how one is asked."""

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
        if not rows:
            return None
        [(upto, stored)] = rows
        return Snapshot(upto=EventId(upto), body=await asyncio.to_thread(unpacked, bytes(stored)))

    async def story(self, task_id: TaskId) -> Story:
        events = await self._ask("story_events", bytes(task_id))
        effects = await self._ask("story_effects", bytes(task_id))
        return Story(task_id=task_id, events=tuple(map(_event, events)), effects=tuple(map(_effect, effects)))

    @abstractmethod
    async def _ask(self, name: str, *values: object) -> list[Any]:
        """The rows of the statement `name`."""


def _only(rows: list[Any]) -> bytes | None:
    return rows[0][0] if rows else None


def _event(row: Any) -> LoggedEvent:
    """The event of a row of `replay` or `story_events`."""
    event_id, kind, task_id, at, body = row
    return LoggedEvent(id=EventId(event_id), kind=kind, at=Timestamp(at), body=body, task_id=_task(task_id))


def _effect(row: Any) -> LoggedEffect:
    """The effect of a row of `pending` or `story_effects`."""
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


def _task(raw: bytes | None) -> TaskId | None:
    return None if raw is None else TaskId(Hash32(raw))
