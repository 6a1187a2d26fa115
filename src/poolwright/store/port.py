"""What a mind's store promises: an event log, an outbox and small tables that change in one transaction.

    events    append-only log; the ids ascend in the order of commit
    effects   outbox: what is to be done, by lane, until it is marked done; kept afterwards for the story
    marks     named places: how far a chain log or a peer's messages have been taken in
    records   small keyed rows beside the log: transactions on their way, sessions
    snapshots the last two states, each with the event it contains

Rules that every implementation keeps, tested on each by the same suite in `tests/adapters/store`:

- A `Commit` happens wholly or not at all. When `commit` returns, it survives `kill -9` and loss of power.
- Commits of several callers may share one transaction; one that is refused does not harm its neighbours.
- Effect ids ascend over all lanes and are never used twice, so within a lane the id is a sequence number;
  numbers may be missing.
- The same effect (lane, key and body) is not stored a second time while it is pending: `Committed` gives the
  id of the first one, and `is_new` says which. Once it is done, even by the same commit, it may be asked
  for again.
- An effect is marked done once. Marking it a second time, or one that does not exist, raises
  InvariantBroken, so the outcome of an effect cannot be recorded twice. `done_through` is the bulk form for
  messages, where a repeated confirmation is harmless.
- Cancelling a `commit` does not take it back; it may still happen.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NewType, Protocol

from poolwright.poco.types import TaskId, Timestamp

EventId = NewType("EventId", int)
EffectId = NewType("EffectId", int)

FIRST_EVENT = EventId(0)
"""The place before the first event: `replay` after it gives everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """One event to append. `kind` is its class name, `at` the chain time it carries."""

    kind: str
    at: Timestamp
    body: bytes
    task_id: TaskId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectRow:
    """One effect to be done.

    `key` is its identity within its lane; `cause` counts the events of the same commit from 0.
    """

    lane: str
    key: str
    body: bytes
    kind: str = ""
    task_id: TaskId | None = None
    cause: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """What changes together. A record with value None is deleted.

    `done` are effects whose outcome this is; `done_through` marks everything in a lane up to an id.
    """

    events: Sequence[EventRow] = ()
    effects: Sequence[EffectRow] = ()
    done: Sequence[EffectId] = ()
    done_through: Mapping[str, EffectId] = field(default_factory=dict)
    marks: Mapping[str, bytes] = field(default_factory=dict)
    records: Mapping[tuple[str, str], bytes | None] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Rows that it writes."""
        return (
            len(self.events)
            + len(self.effects)
            + len(self.done)
            + len(self.done_through)
            + len(self.marks)
            + len(self.records)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """The ids given, in the order of the commit's rows; `is_new` is false for an effect already pending."""

    event_ids: tuple[EventId, ...]
    effect_ids: tuple[EffectId, ...]
    is_new: tuple[bool, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedEvent:
    """An event as it stands in the log."""

    id: EventId
    kind: str
    at: Timestamp
    body: bytes
    task_id: TaskId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedEffect:
    """An effect as it stands in the outbox; `cause` is the event whose step asked for it."""

    id: EffectId
    lane: str
    key: str
    kind: str
    body: bytes
    task_id: TaskId | None
    cause: EventId | None
    is_done: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """The life of one task: its events, the events that caused its effects, and the effects, in order."""

    task_id: TaskId
    events: tuple[LoggedEvent, ...]
    effects: tuple[LoggedEffect, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A state, and the last event it contains."""

    upto: EventId
    body: bytes


class StoreReads(Protocol):
    """What can be asked of a store; a reader sees whole commits only.

    All raise Unavailable when the store does not answer and InputError when its file is damaged.
    """

    def replay(self, after: EventId = FIRST_EVENT) -> AsyncIterator[LoggedEvent]:
        """The events after `after`, in order; those committed meanwhile may be missing."""
        ...

    async def last_event_id(self) -> EventId:
        """The newest event, or FIRST_EVENT."""
        ...

    async def pending(self, lane: str | None = None) -> tuple[LoggedEffect, ...]:
        """Effects not done yet, of one lane or all, oldest first."""
        ...

    async def mark(self, name: str) -> bytes | None: ...

    async def record(self, kind: str, key: str) -> bytes | None: ...

    async def records(self, kind: str) -> dict[str, bytes]:
        """All records of a kind, by key, in the order of the keys."""
        ...

    async def latest_snapshot(self, before: EventId | None = None) -> Snapshot | None:
        """The newest snapshot, or the newest that ends before the event `before`."""
        ...

    async def story(self, task_id: TaskId) -> Story: ...


class Store(StoreReads, Protocol):
    """A store with its one writer."""

    async def commit(self, commit: Commit) -> Committed:
        """Make the change durable.

        Waits while many commits are waiting. Raises InvariantBroken when the change contradicts the store,
        Unavailable when the disk refuses it (full, failing); then nothing of it happened.
        """
        ...

    async def snapshot(self, body: bytes, upto: EventId) -> None:
        """Keep a state that contains all events up to `upto`; only the last two snapshots stay."""
        ...

    async def close(self) -> None:
        """Finish what was accepted and let go of the file. Closing twice is harmless."""
        ...
