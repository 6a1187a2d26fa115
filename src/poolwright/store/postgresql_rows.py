"""The rows of a group of commits, as they are decided here and as they travel to PostgreSQL: by column."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

from poolwright.poco.errors import InvariantBroken
from poolwright.store.group import Change
from poolwright.store.outbox import Outbox
from poolwright.store.port import Commit, Committed, EffectId, EventId, Snapshot

# Object ids of types in every PostgreSQL (pg_type.dat).
_INT8, _TEXT, _BYTEA = 20, 25, 17
_INT8_ARRAY, _TEXT_ARRAY, _BYTEA_ARRAY = 1016, 1009, 1001


class Int8s(list[int]):
    """A column of integers on its way to the server."""


class Texts(list[str]):
    """A column of texts."""


class Blobs(list[bytes]):
    """A column of bytes."""


class Plan:
    """The rows of a group as they gather. `take` gives each change its answer."""

    def __init__(self, last_event: int, outbox: Outbox) -> None:
        self.last_event = last_event
        self._outbox = outbox
        self._event_ids, self._event_kinds, self._event_tasks = Int8s(), Texts(), Blobs()
        self._event_ats, self._event_bodies = Int8s(), Blobs()
        self._effect_ids, self._effect_lanes, self._effect_keys = Int8s(), Texts(), Texts()
        self._effect_kinds, self._effect_tasks = Texts(), Blobs()
        self._effect_causes, self._effect_bodies = Int8s(), Blobs()
        self._done_ids = Int8s()
        self._marks: dict[str, bytes] = {}
        self._records: dict[tuple[str, str], bytes | None] = {}
        self._snapshots: dict[int, bytes] = {}

    def take(self, change: Change) -> object:
        """Add a change's rows; the answer counts when they are written."""
        if isinstance(change, Snapshot):
            self._snapshots[change.upto] = change.body
            return None
        try:
            self._outbox.check(change)
        except InvariantBroken as problem:
            return problem
        return self._take_commit(change)

    def columns(self) -> tuple[Int8s | Texts | Blobs, ...]:
        """What `write_group` takes after the lease's part; of one mark or record the last value counts."""
        kept = {place: body for place, body in self._records.items() if body is not None}
        gone = [place for place, body in self._records.items() if body is None]
        return (
            *(self._event_ids, self._event_kinds, self._event_tasks, self._event_ats, self._event_bodies),
            *(self._effect_ids, self._effect_lanes, self._effect_keys, self._effect_kinds),
            *(self._effect_tasks, self._effect_causes, self._effect_bodies),
            self._done_ids,
            *(Texts(self._marks), Blobs(self._marks.values())),
            *(Texts(kind for kind, _ in gone), Texts(key for _, key in gone)),
            *(Texts(kind for kind, _ in kept), Texts(key for _, key in kept), Blobs(kept.values())),
            *(Int8s(self._snapshots), Blobs(self._snapshots.values())),
        )

    def _take_commit(self, commit: Commit) -> Committed:
        event_ids = self._take_events(commit)
        for effect_id in commit.done:
            self._outbox.end(effect_id)
            self._done_ids.append(effect_id)
        for lane, upto in commit.done_through.items():
            self._done_ids.extend(self._outbox.end_through(lane, upto))
        # After `done`: what ends here may be asked for again here.
        effects = [self._take_effect(commit, place, event_ids) for place in range(len(commit.effects))]
        self._marks.update(commit.marks)
        self._records.update(commit.records)
        return Committed(
            event_ids=event_ids,
            effect_ids=tuple(effect_id for effect_id, _ in effects),
            is_new=tuple(is_new for _, is_new in effects),
        )

    def _take_events(self, commit: Commit) -> tuple[EventId, ...]:
        first = self.last_event + 1
        self.last_event += len(commit.events)
        for event_id, row in enumerate(commit.events, first):
            self._event_ids.append(event_id)
            self._event_kinds.append(row.kind)
            self._event_tasks.append(row.task_id or b"")
            self._event_ats.append(row.at)
            self._event_bodies.append(row.body)
        return tuple(map(EventId, range(first, self.last_event + 1)))

    def _take_effect(
        self, commit: Commit, place: int, event_ids: tuple[EventId, ...]
    ) -> tuple[EffectId, bool]:
        row = commit.effects[place]
        effect_id, is_new = self._outbox.add(row)
        if is_new:
            self._effect_ids.append(effect_id)
            self._effect_lanes.append(row.lane)
            self._effect_keys.append(row.key)
            self._effect_kinds.append(row.kind)
            self._effect_tasks.append(row.task_id or b"")
            self._effect_causes.append(0 if row.cause is None else event_ids[row.cause])
            self._effect_bodies.append(row.body)
        return effect_id, is_new


def register_columns(connection: psycopg.Connection[Any]) -> None:
    """Teach a connection how columns travel."""
    for cls, dumper in ((Int8s, _Int8sDumper), (Texts, _TextsDumper), (Blobs, _BlobsDumper)):
        connection.adapters.register_dumper(cls, dumper)


def _array(element_type: int, items: Sequence[bytes]) -> bytes:
    """A one-dimensional array in the server's binary form.

    Written here because its element type is then always the same: with lists the driver would choose the
    narrowest integer, and the statement be prepared anew for each combination.
    """
    if not items:
        return struct.pack("!iiI", 0, 0, element_type)
    head = struct.pack("!iiIii", 1, 0, element_type, len(items), 1)
    length = struct.Struct("!i").pack
    return head + b"".join([part for item in items for part in (length(len(item)), item)])


class _Int8sDumper(Dumper):
    oid = _INT8_ARRAY
    format = Format.BINARY

    def dump(self, obj: Sequence[int]) -> bytes:
        pack = struct.Struct("!q").pack
        return _array(_INT8, [pack(number) for number in obj])


class _TextsDumper(Dumper):
    oid = _TEXT_ARRAY
    format = Format.BINARY

    def dump(self, obj: Sequence[str]) -> bytes:
        return _array(_TEXT, [text.encode() for text in obj])


class _BlobsDumper(Dumper):
    oid = _BYTEA_ARRAY
    format = Format.BINARY

    def dump(self, obj: Sequence[bytes]) -> bytes:
        return _array(_BYTEA, obj)
