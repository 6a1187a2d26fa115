"""A mind's past: its latest snapshot, then every event since, with the effects dropped.

Effects are not derived again: those that were not finished stand in the outbox. An event that a bug of ours
stopped was logged as not applied, and a replay passes over it too; so replay equals live.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any, Final, Generic

import structlog

from poolwright.daemons.mind import Effect, Event, Mind, State
from poolwright.poco.errors import InvariantBroken, PeerError
from poolwright.poco.types import Hash32, TaskId
from poolwright.store.port import FIRST_EVENT, Commit, EventId, LoggedEvent, Store, StoreReads
from poolwright.wire import codec

log = structlog.get_logger(__name__)

STOPPED: Final = "stopped-task"
"""Kind of the records that say why a task was stopped, by task id."""
NOT_APPLIED: Final = "NotApplied:"
"""Prefix of the kind of events of stopped tasks in the log."""


@dataclass(slots=True, kw_only=True)
class Past(Generic[State]):
    """A state, the last event in it, the snapshot it began from, and why tasks were stopped."""

    state: State
    last_event: EventId = FIRST_EVENT
    snapshot_upto: EventId = FIRST_EVENT
    stopped: dict[TaskId, str]
    stopped_now: set[TaskId] = field(default_factory=set)
    """Those among `stopped` whose bug only this program sees; the store does not know it yet."""


async def restore(
    mind: Mind[State, Event, Effect], store: Store, known: Past[State] | None = None
) -> Past[State]:
    """What the store knows of a mind, `known` being what was recalled of it before.

    Raises InvariantBroken when the log cannot be read by this program.
    """
    started = time.monotonic()
    begun = FIRST_EVENT if known is None else known.last_event
    past = await recall(mind, store, known)
    if past.stopped_now:
        await store.commit(
            Commit(records={(STOPPED, str(task)): past.stopped[task].encode() for task in past.stopped_now})
        )
    log.info(
        "mind restored",
        mind=mind.name,
        snapshot=past.snapshot_upto,
        replayed=past.last_event - max(past.snapshot_upto, begun),
        seconds=round(time.monotonic() - started, 3),
    )
    return past


async def recall(
    mind: Mind[State, Event, Effect], store: StoreReads, known: Past[State] | None = None
) -> Past[State]:
    """The same without a word to the store, which another process may be writing. Raises as `restore`.

    Of a past that is known only the events since are read, and it is brought forward in place; it is whole
    whenever this is cancelled, and worthless when this raises InvariantBroken.
    """
    records = await store.records(STOPPED)
    stopped = {TaskId(Hash32.parse(key)): body.decode() for key, body in records.items()}
    if known is None:
        past = Past(state=mind.initial(), stopped=stopped)
        await _load_snapshot(mind, store, past)
    else:
        past = known
        past.stopped.update(stopped)
    async for row in store.replay(past.last_event):
        past.last_event = row.id
        if not row.kind.startswith(NOT_APPLIED) and row.task_id not in past.stopped_now:
            _replay(mind, row, past)
    return past


def read_stored(type_: object, body: bytes, what: str) -> Any:
    """A stored event or effect. Raises InvariantBroken: what was once stored must be readable for ever."""
    try:
        return codec.decode(type_, body)
    except PeerError as problem:
        raise InvariantBroken(
            f"stored {what} cannot be read",
            code="log-unreadable",
            got=str(problem),
            next_step="run the version of Poolwright that wrote it, and report this",
        ) from problem


async def _load_snapshot(mind: Mind[State, Event, Effect], store: StoreReads, past: Past[State]) -> None:
    snapshot = await store.latest_snapshot()
    while snapshot is not None:
        try:
            # On a thread, so that a standby goes on looking after the lease: a large one takes seconds.
            past.state = await asyncio.to_thread(mind.load, snapshot.body)
        except PeerError as problem:  # written by a version with another form; the log has it all
            log.warning("snapshot passed over", mind=mind.name, upto=snapshot.upto, reason=str(problem))
            snapshot = await store.latest_snapshot(before=snapshot.upto)
        else:
            past.last_event = past.snapshot_upto = snapshot.upto
            return


def _replay(mind: Mind[State, Event, Effect], row: LoggedEvent, past: Past[State]) -> None:
    event: Event = read_stored(mind.event_type, row.body, f"event {row.id}")
    try:
        past.state = mind.step(past.state, event).state
    except InvariantBroken as problem:  # this version sees a bug that the one before did not
        if row.task_id is None:
            raise
        log.error("task stopped", mind=mind.name, task=str(row.task_id), event_id=row.id, exc_info=problem)
        past.stopped[row.task_id] = str(problem)
        past.stopped_now.add(row.task_id)
