"""The store's twin in memory: the same promises, except that it ends with the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

from poolwright.poco.errors import Unavailable
from poolwright.poco.types import TaskId
from poolwright.store.outbox import Outbox
from poolwright.store.port import (
    FIRST_EVENT,
    Commit,
    Committed,
    EffectId,
    EffectRow,
    EventId,
    LoggedEffect,
    LoggedEvent,
    Snapshot,
    Story,
)


class MemoryStore:
    """A store for tests and simulations. See Store.

    `reopen` gives a second life on the same content, as opening a file again does.
    """

    def __init__(self) -> None:
        self._events: list[LoggedEvent] = []
        self._effects: dict[EffectId, LoggedEffect] = {}
        self._outbox = Outbox()
        self._marks: dict[str, bytes] = {}
        self._records: dict[tuple[str, str], bytes] = {}
        self._snapshots: list[Snapshot] = []
        self._is_closed = False

    def reopen(self) -> MemoryStore:
        """The same content in another store object; the old one is closed, however it was left."""
        self._is_closed = True
        heir = MemoryStore()
        heir.__dict__.update(self.__dict__, _is_closed=False)
        return heir

    async def commit(self, commit: Commit) -> Committed:
        await self._turn()
        self._outbox.check(commit)
        event_ids = tuple(self._append_event(commit, index) for index in range(len(commit.events)))
        for effect_id in commit.done:
            self._outbox.end(effect_id)
            self._mark_done(effect_id)
        for lane, upto in commit.done_through.items():
            for effect_id in self._outbox.end_through(lane, upto):
                self._mark_done(effect_id)
        # After `done`: what ends here may be asked for again here.
        effects = [self._append_effect(row, event_ids) for row in commit.effects]
        self._marks.update(commit.marks)
        for place, body in commit.records.items():
            if body is None:
                self._records.pop(place, None)
            else:
                self._records[place] = body
        return Committed(
            event_ids=event_ids,
            effect_ids=tuple(effect_id for effect_id, _ in effects),
            is_new=tuple(is_new for _, is_new in effects),
        )

    async def snapshot(self, body: bytes, upto: EventId) -> None:
        await self._turn()
        kept = [snapshot for snapshot in self._snapshots if snapshot.upto != upto]
        kept.append(Snapshot(upto=upto, body=body))
        self._snapshots = sorted(kept, key=lambda snapshot: snapshot.upto)[-2:]

    async def close(self) -> None:
        self._is_closed = True

    async def replay(self, after: EventId = FIRST_EVENT) -> AsyncIterator[LoggedEvent]:
        await self._turn()
        for event in self._events[after:]:  # ids count from 1 without a gap
            yield event

    async def last_event_id(self) -> EventId:
        await self._turn()
        return EventId(len(self._events))

    async def pending(self, lane: str | None = None) -> tuple[LoggedEffect, ...]:
        await self._turn()
        waiting = self._outbox if lane is None else self._outbox.of_lane(lane)
        return tuple(self._effects[effect_id] for effect_id in waiting)

    async def mark(self, name: str) -> bytes | None:
        await self._turn()
        return self._marks.get(name)

    async def record(self, kind: str, key: str) -> bytes | None:
        await self._turn()
        return self._records.get((kind, key))

    async def records(self, kind: str) -> dict[str, bytes]:
        await self._turn()
        return {key: body for (of_kind, key), body in sorted(self._records.items()) if of_kind == kind}

    async def latest_snapshot(self, before: EventId | None = None) -> Snapshot | None:
        await self._turn()
        fitting = [s for s in self._snapshots if before is None or s.upto < before]
        return fitting[-1] if fitting else None

    async def story(self, task_id: TaskId) -> Story:
        await self._turn()
        effects = tuple(effect for effect in self._effects.values() if effect.task_id == task_id)
        causes = {effect.cause for effect in effects}
        events = tuple(e for e in self._events if e.task_id == task_id or e.id in causes)
        return Story(task_id=task_id, events=events, effects=effects)

    async def _turn(self) -> None:
        """Let others run, as a real store does."""
        await asyncio.sleep(0)
        if self._is_closed:
            raise Unavailable("store in memory is closed", code="store-closed")

    def _append_event(self, commit: Commit, index: int) -> EventId:
        row = commit.events[index]
        event_id = EventId(len(self._events) + 1)
        self._events.append(
            LoggedEvent(id=event_id, kind=row.kind, at=row.at, body=row.body, task_id=row.task_id)
        )
        return event_id

    def _append_effect(self, row: EffectRow, event_ids: tuple[EventId, ...]) -> tuple[EffectId, bool]:
        effect_id, is_new = self._outbox.add(row)
        if not is_new:
            return effect_id, False
        self._effects[effect_id] = LoggedEffect(
            id=effect_id,
            lane=row.lane,
            key=row.key,
            kind=row.kind,
            body=row.body,
            task_id=row.task_id,
            cause=None if row.cause is None else event_ids[row.cause],
            is_done=False,
        )
        return effect_id, True

    def _mark_done(self, effect_id: EffectId) -> None:
        self._effects[effect_id] = replace(self._effects[effect_id], is_done=True)
