"""The loop that runs a mind with its hands.

    put(events) ─┐                      ┌─► lanes ─► hands ─► outcome ─┐
                 ├─► step ─► one commit ┤                              │
    deadline ────┘     ▲                └─► messages ─► sessions       │
                       └───────────────────────────────────────────────┘

One turn takes all deliveries that wait, steps each event, and makes everything durable in one commit: the
events, the effects they ask for, the marks that came with them, and the effects whose outcome they are. Only
then are effects let go and the putters answered. So, wherever the process dies:

- what a putter was told is durable, is durable; what it was not told, it puts again;
- an effect that was let go stands in the outbox until its outcome does, and is then never done again;
- replaying the log from the latest snapshot gives the state that was lost.

A step that raises InvariantBroken stops its task: the event is logged as not applied (so that the story is
kept and a replay passes over it too), later events of the task likewise, and its effects are not carried out
again after a restart. Other tasks go on. A broken event of no task stops the runner, as does a store that
refuses a commit.

A snapshot of a large state takes seconds to write, so it is written beside the turns, a part at a time; and
only once the log has grown by as many bytes as the one before has: so it costs no more than the log itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Generic

import structlog

from poolwright.daemons.lanes import Lanes, Retries
from poolwright.daemons.mind import ChainClock, Effect, Event, Hands, Mind, Observer, State, task_id_of
from poolwright.daemons.restore import NOT_APPLIED, STOPPED, Past, read_stored, restore
from poolwright.daemons.turn import Delivery, Turn
from poolwright.poco.errors import InvariantBroken, Unavailable
from poolwright.poco.types import TaskId, Timestamp
from poolwright.store.port import (
    FIRST_EVENT,
    Commit,
    Committed,
    EffectId,
    EffectRow,
    EventId,
    EventRow,
    Store,
)
from poolwright.wire import codec

log = structlog.get_logger(__name__)

MIND_STOPPED: Final = "mind-stopped"
"""Code of the refusal of a `put` once the runner is stopping or has stopped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of a runner."""

    waiting: int = 1_024
    """Deliveries that may wait; a further `put` waits before it enters."""
    batch: int = 512
    """Events after which a turn takes no further delivery."""
    snapshot_every: int = 20_000
    """Events between two snapshots, at least."""
    commit_attempts: int = 12
    """Times that a commit is tried while the disk refuses, before the runner stops."""
    retries: Retries = field(default_factory=Retries)


class Runner(Generic[State, Event, Effect]):
    """One mind, its hands and its store, running. The store has no other mind.

    `lanes` says which kinds of lanes are carried out here, and how many effects of each side by side; an
    effect of any other lane is a message, for whoever holds that connection. Call `start`, then `put` from
    anywhere in the event loop, then `stop`; `wait` returns when it has ended, and raises what ended it.
    """

    def __init__(
        self,
        mind: Mind[State, Event, Effect],
        hands: Hands[Event, Effect],
        store: Store,
        clock: ChainClock,
        *,
        lanes: Mapping[str, int],
        limits: Limits | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._mind = mind
        self._hands = hands
        self._store = store
        self._clock = clock
        self._limits = limits or Limits()
        self._observer = observer or Observer()
        self._lanes: Lanes[Event, Effect] = Lanes(
            hands,
            lanes,
            retries=self._limits.retries,
            observer=self._observer,
            is_wanted=lambda effect: mind.is_wanted(self._state, effect),
            record=self._record_outcome,
            broken=self._stop_task_of,
        )
        self._state = mind.initial()
        self._last_event = FIRST_EVENT
        self._snapshot_upto = FIRST_EVENT
        self._snapshot_bytes = 0
        self._logged_bytes = 0
        """Of events since the last snapshot."""
        self._saving: asyncio.Task[None] | None = None
        self._stopped: dict[TaskId, str] = {}
        self._inbound: deque[Delivery[Event]] = deque()
        self._room = asyncio.Semaphore(self._limits.waiting)
        self._wake = asyncio.Event()
        self._alarm: asyncio.Task[None] | None = None
        self._alarm_at: Timestamp | None = None
        self._last_tick = Timestamp(-1)
        self._loop: asyncio.Task[None] | None = None
        self._is_accepting = False
        self._is_stopping = False
        self._failure: BaseException | None = None

    @property
    def state(self) -> State:
        """The state now; it contains everything durable, and what is becoming durable. Not to be changed."""
        return self._state

    @property
    def stopped_tasks(self) -> Mapping[TaskId, str]:
        """Tasks that a bug of ours has stopped, and how it showed."""
        return self._stopped

    @property
    def waiting(self) -> int:
        """Deliveries that wait for their turn."""
        return len(self._inbound)

    @property
    def in_flight(self) -> Mapping[str, int]:
        """Effects on their way, by kind of lane; messages are not counted."""
        return self._lanes.in_flight

    # --- life ---------------------------------------------------------------------------------------------

    async def start(self, known: Past[State] | None = None) -> None:
        """Restore the state, go on where the outbox stands, and begin to accept events.

        `known` is what was recalled of the store while another process wrote it. Raises InvariantBroken when
        the log cannot be read by this program.
        """
        past = await restore(self._mind, self._store, known)
        self._state, self._stopped = past.state, past.stopped
        self._last_event, self._snapshot_upto = past.last_event, past.snapshot_upto
        await self._take_up_outbox()
        self._is_accepting = True
        self._loop = asyncio.create_task(self._run(), name=f"mind-{self._mind.name}")

    async def _take_up_outbox(self) -> None:
        """Let go what the last life left unfinished, but for what nobody wants any more."""
        unwanted: list[EffectId] = []
        for effect in await self._store.pending():
            if effect.task_id in self._stopped:
                continue
            known: Effect = read_stored(self._mind.effect_type, effect.body, f"effect {effect.id}")
            if self._mind.is_wanted(self._state, known):
                self._lanes.release(effect.lane, effect.id, known)
            else:
                log.info("effect dropped", effect=effect.kind, effect_id=effect.id, task=str(effect.task_id))
                unwanted.append(effect.id)
        if unwanted:
            await self._store.commit(Commit(done=unwanted))

    async def put(
        self,
        *events: Event,
        marks: Mapping[str, bytes] | None = None,
        records: Mapping[tuple[str, str], bytes | None] | None = None,
    ) -> tuple[EventId, ...]:
        """Tell the mind facts, and keep `marks` and `records` in the same transaction; returns when durable.

        Waits while many deliveries wait. Raises Unavailable when the runner is stopping or has stopped. A
        cancelled `put` may still happen.
        """
        accepted = await self._enter(events, marks, records)
        return await asyncio.shield(accepted)

    async def wait(self) -> None:
        """Return when the runner was stopped; raise what ended it otherwise."""
        if self._loop is not None:
            await asyncio.wait({self._loop})
            if not self._loop.cancelled():
                self._loop.result()

    async def stop(self) -> None:
        """Finish what was accepted, leave unfinished effects in the outbox, keep a snapshot."""
        self._is_accepting = False
        await self._lanes.close()
        self._is_stopping = True
        self._wake.set()
        if self._loop is not None:
            await asyncio.gather(self._loop, return_exceptions=True)

    async def abort(self) -> None:
        """End at once, recording nothing more: for one that may no longer write, and in tests of crashes."""
        self._is_accepting = False
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
        await self._lanes.close()

    # --- the present --------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            while (batch := await self._next_batch()) is not None:
                await self._take_turn(batch)
            if self._saving is not None:
                await self._saving
            if self._last_event > self._snapshot_upto:
                await self._save_state()
        except Exception as problem:  # told here, because whoever awaits this may be gone
            log.critical("mind stopped", mind=self._mind.name, reason=str(problem), exc_info=problem)
            raise
        finally:
            self._is_accepting = False
            if self._alarm is not None:
                self._alarm.cancel()
            if self._saving is not None:
                self._saving.cancel()
                await asyncio.wait({self._saving})
            self._refuse_waiting()
            await self._lanes.close()

    async def _next_batch(self) -> list[Delivery[Event]] | None:
        """Wait for deliveries or a deadline. A deadline goes first; None when all is done and we stop."""
        while True:
            if self._failure is not None:
                raise self._failure
            self._wake.clear()
            batch = [self._delivery([self._mind.tick(self._clock.now())])] if self._is_tick_due() else []
            count = len(batch)
            while self._inbound and count < self._limits.batch:
                batch.append(self._inbound.popleft())
                count += len(batch[-1].events)
            if batch:
                return batch
            if self._is_stopping:
                return None
            await self._wake.wait()

    def _is_tick_due(self) -> bool:
        """Whether the mind's deadline has come; else the alarm is set for it. One tick per chain second."""
        deadline = None if self._is_stopping else self._mind.next_deadline(self._state)
        if deadline is None:
            return False
        deadline = Timestamp(max(deadline, self._last_tick + 1))
        now = self._clock.now()
        if now >= deadline:
            self._last_tick = now
            return True
        if deadline != self._alarm_at or self._alarm is None or self._alarm.done():
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm_at = deadline
            self._alarm = asyncio.create_task(self._ring_at(deadline))
        return False

    async def _ring_at(self, deadline: Timestamp) -> None:
        await self._clock.wait_until(deadline)
        self._wake.set()

    async def _take_turn(self, batch: list[Delivery[Event]]) -> None:
        turn: Turn[Effect] = Turn()
        try:
            for delivery in batch:
                for event in delivery.events:
                    self._take(event, turn)
                turn.add_company(delivery)
            started = time.monotonic()
            committed = await self._commit(turn.commit)
        except BaseException:
            self._inbound.extendleft(reversed(batch))  # to be refused with the others
            raise
        self._observer.committed(events=len(turn.events), seconds=time.monotonic() - started)
        self._let_go(turn, committed)
        self._answer(batch, committed)
        self._tell(turn, committed)
        self._logged_bytes += sum([len(row.body) for row in turn.events])
        if self._is_snapshot_due():
            self._saving = self._save_state()

    def _take(self, event: Event, turn: Turn[Effect]) -> None:
        """Step one event and add what it does to the turn."""
        task_id = task_id_of(event)
        row = EventRow(kind=type(event).__name__, at=event.at, body=codec.encode(event), task_id=task_id)
        if task_id not in self._stopped:
            try:
                step = self._mind.step(self._state, event)
            except InvariantBroken as problem:
                if task_id is None:
                    raise
                turn.records[STOPPED, str(task_id)] = self._note_stopped(task_id, problem)
        if task_id is not None and task_id in self._stopped:
            unapplied = replace(row, kind=NOT_APPLIED + row.kind)
            turn.add_event(unapplied, ignored=f"the task is stopped: {self._stopped[task_id]}")
            return
        self._state = step.state
        turn.add_event(row, effects=step.effects, ignored=step.ignored)
        for effect in step.effects:
            turn.effects.append(effect)
            turn.effect_rows.append(self._effect_row(effect, cause=len(turn.events) - 1))

    def _effect_row(self, effect: Effect, *, cause: int) -> EffectRow:
        return EffectRow(
            lane=self._hands.lane_of(effect),
            key=self._hands.key_of(effect),
            body=codec.encode(effect),
            kind=type(effect).__name__,
            task_id=task_id_of(effect),
            cause=cause,
        )

    async def _commit(self, commit: Commit) -> Committed:
        """Commit, holding out while the disk refuses: nothing may happen before it is durable."""
        attempt = 0
        while True:
            try:
                return await self._store.commit(commit)
            except Unavailable as problem:
                attempt += 1
                self._observer.commit_refused(str(problem))
                if attempt >= self._limits.commit_attempts:
                    raise
                log.error("commit refused, trying again", mind=self._mind.name, reason=str(problem))
                await asyncio.sleep(self._limits.retries.pause(attempt))

    def _let_go(self, turn: Turn[Effect], committed: Committed) -> None:
        if committed.event_ids:
            self._last_event = committed.event_ids[-1]
        for effect, row, effect_id, is_new in zip(
            turn.effects, turn.effect_rows, committed.effect_ids, committed.is_new, strict=True
        ):
            if is_new:
                self._lanes.release(row.lane, effect_id, effect)

    def _answer(self, batch: list[Delivery[Event]], committed: Committed) -> None:
        start = 0
        for delivery in batch:
            end = start + len(delivery.events)
            if not delivery.accepted.done():
                delivery.accepted.set_result(committed.event_ids[start:end])
            start = end

    def _tell(self, turn: Turn[Effect], committed: Committed) -> None:
        """One structured line per step."""
        for taken, event_id in zip(turn.taken, committed.event_ids, strict=True):
            self._observer.stepped(
                taken.kind, effects=len(taken.effects), is_ignored=taken.ignored is not None
            )
            fields: dict[str, object] = {"mind": self._mind.name, "kind": taken.kind, "event_id": event_id}
            if taken.task_id is not None:
                fields["task"] = str(taken.task_id)
            if taken.effects:
                fields["effects"] = taken.effects
            if taken.ignored is not None:
                fields["ignored"] = taken.ignored
            log.info("step", **fields)

    def _is_snapshot_due(self) -> bool:
        return (
            self._last_event - self._snapshot_upto >= self._limits.snapshot_every
            and self._logged_bytes >= self._snapshot_bytes
            and (self._saving is None or self._saving.done())
        )

    def _save_state(self) -> asyncio.Task[None]:
        """Keep a snapshot of the state as it is now, beside whatever happens meanwhile."""
        self._snapshot_upto, self._logged_bytes = self._last_event, 0
        saving = asyncio.create_task(self._keep_snapshot(self._mind.save(self._state), self._last_event))
        saving.add_done_callback(self._note_failure)
        return saving

    async def _keep_snapshot(self, parts: Iterable[bytes], upto: EventId) -> None:
        written: list[bytes] = []
        started = time.monotonic()
        for part in parts:
            written.append(part)
            if not self._is_stopping:  # as long as a part has taken, others may work
                await asyncio.sleep(time.monotonic() - started)
                started = time.monotonic()
        body = b"".join(written)
        self._snapshot_bytes = len(body)
        try:
            await self._store.snapshot(body, upto)
        except Unavailable as problem:  # the log has it all; the next one will do
            log.warning("snapshot not kept", mind=self._mind.name, reason=str(problem))

    def _note_failure(self, saving: asyncio.Task[None]) -> None:
        """What a snapshot dies of, such as a bug of ours or a new leader, ends the runner."""
        if not saving.cancelled() and saving.exception() is not None:
            self._failure = saving.exception()
            self._wake.set()

    # --- ways in ------------------------------------------------------------------------------------------

    async def _enter(
        self,
        events: Sequence[Event],
        marks: Mapping[str, bytes] | None = None,
        records: Mapping[tuple[str, str], bytes | None] | None = None,
        done: tuple[EffectId, ...] = (),
    ) -> asyncio.Future[tuple[EventId, ...]]:
        self._check_accepting()
        await self._room.acquire()
        try:
            self._check_accepting()
        except Unavailable:
            self._room.release()  # the next one that waits is refused as well
            raise
        delivery = self._delivery(events, marks, records, done)
        delivery.accepted.add_done_callback(self._make_room)
        self._inbound.append(delivery)
        self._wake.set()
        return delivery.accepted

    def _delivery(
        self,
        events: Sequence[Event],
        marks: Mapping[str, bytes] | None = None,
        records: Mapping[tuple[str, str], bytes | None] | None = None,
        done: tuple[EffectId, ...] = (),
    ) -> Delivery[Event]:
        return Delivery(
            events=events,
            accepted=asyncio.get_running_loop().create_future(),
            marks=marks or {},
            records=records or {},
            done=done,
        )

    def _make_room(self, _: asyncio.Future[tuple[EventId, ...]]) -> None:
        self._room.release()

    def _check_accepting(self) -> None:
        if not self._is_accepting:
            raise self._has_stopped()

    def _has_stopped(self) -> Unavailable:
        return Unavailable(
            f"the {self._mind.name} accepts nothing more",
            code=MIND_STOPPED,
            next_step="send it again when it runs",
        )

    def _refuse_waiting(self) -> None:
        while self._inbound:
            delivery = self._inbound.popleft()
            if not delivery.accepted.done():
                delivery.accepted.set_exception(self._has_stopped())
                delivery.accepted.exception()  # nobody may be waiting; that is not an oversight

    async def _record_outcome(self, effect_id: EffectId, events: Sequence[Event]) -> None:
        with contextlib.suppress(Unavailable):  # we are stopping; it stays in the outbox
            await self._enter(events, done=(effect_id,))

    async def _stop_task_of(self, effect: Effect, problem: InvariantBroken) -> None:
        """The hands have a bug with this effect: it stays in the outbox, its task goes no further."""
        task_id = task_id_of(effect)
        if task_id is None:
            self._failure = problem
            self._wake.set()
            return
        record = self._note_stopped(task_id, problem)
        with contextlib.suppress(Unavailable):  # we are stopping; it will show again after the restart
            await self._enter((), records={(STOPPED, str(task_id)): record})

    def _note_stopped(self, task_id: TaskId, problem: InvariantBroken) -> bytes:
        """Stop a task; the record of it is to be committed."""
        log.error("task stopped", mind=self._mind.name, task=str(task_id), exc_info=problem)
        self._stopped[task_id] = str(problem)
        return str(problem).encode()
