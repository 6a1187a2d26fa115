"""What one turn of a runner gathers: deliveries in, one commit out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic

from poolwright.daemons.mind import Effect, Event
from poolwright.poco.types import TaskId
from poolwright.store.port import Commit, EffectId, EffectRow, EventId, EventRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery(Generic[Event]):
    """Events that enter together, what changes with them, and the future of whoever waits for it.

    `done` are the effects whose outcome the events are.
    """

    events: Sequence[Event]
    accepted: asyncio.Future[tuple[EventId, ...]]
    marks: Mapping[str, bytes] = field(default_factory=dict)
    records: Mapping[tuple[str, str], bytes | None] = field(default_factory=dict)
    done: tuple[EffectId, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """One event's step, for the log line that is written when it is durable."""

    kind: str
    task_id: TaskId | None
    effects: tuple[str, ...] = ()
    ignored: str | None = None


@dataclass(slots=True)
class Turn(Generic[Effect]):
    """The rows of a commit as they gather, and beside each effect's row the effect."""

    events: list[EventRow] = field(default_factory=list)
    taken: list[Taken] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    effect_rows: list[EffectRow] = field(default_factory=list)
    done: list[EffectId] = field(default_factory=list)
    marks: dict[str, bytes] = field(default_factory=dict)
    records: dict[tuple[str, str], bytes | None] = field(default_factory=dict)

    def add_event(self, row: EventRow, *, effects: Sequence[Effect] = (), ignored: str | None = None) -> None:
        names = tuple(type(effect).__name__ for effect in effects)
        self.events.append(row)
        self.taken.append(Taken(kind=row.kind, task_id=row.task_id, effects=names, ignored=ignored))

    def add_company(self, delivery: Delivery[Event]) -> None:
        """What changes with a delivery's events; of two values for one mark or record the later stays."""
        self.done.extend(delivery.done)
        self.marks.update(delivery.marks)
        self.records.update(delivery.records)

    @property
    def commit(self) -> Commit:
        return Commit(
            events=self.events,
            effects=self.effect_rows,
            done=self.done,
            marks=self.marks,
            records=self.records,
        )
