"""A mind with its durable disk, as `daemons.runner` drives it: step, commit, let go; die anywhere; restore.

A commit is one moment of the simulation: all of it is durable or nothing is. Between any two moments the
process may be killed, and then everything is lost but the disk. What it does next it reads from there: the
latest snapshot, the events since, the effects that have no outcome.

Hands are generators: each `yield` is a wait, during which the process may die.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic

from poolwright.daemons.lanes import LOOK_SECONDS, Retries
from poolwright.daemons.mind import Effect, Event, Mind, State
from poolwright.devnet.simulation.chain import Node, Tx
from poolwright.devnet.simulation.clock import SECOND, Action, Clock
from poolwright.devnet.simulation.faults import Chance
from poolwright.devnet.simulation.sender import Wait
from poolwright.devnet.simulation.story import Story
from poolwright.poco.errors import InvariantBroken, PoolwrightError, Unavailable
from poolwright.poco.types import Hash32, Timestamp

RETRIES: Final = Retries()
SNAPSHOT_EVERY: Final = 300
"""Fewest events between two snapshots; few, so that restores read both."""
SNAPSHOT_BYTES: Final = 400
"""Of the last snapshot, per event until the next one: a big state is not written down all the time."""

Work = Generator[Wait, None, Sequence[Event]]


class Died(Exception):  # no error: the process is gone, and what it was doing with it
    """The process was killed here."""


@dataclass(slots=True, kw_only=True)
class Disk(Generic[Event, Effect]):
    """What survives a crash: the event log, the outbox, marks, the transaction journal, a snapshot."""

    name: Hash32
    events: list[Event] = field(default_factory=list)
    pending: dict[int, tuple[str, Effect]] = field(default_factory=dict)
    twins: dict[tuple[str, Effect], int] = field(default_factory=dict)
    last_effect: int = 0
    marks: dict[str, tuple[Hash32, int]] = field(default_factory=dict)
    cursor: int = 0
    journal: dict[str, Tx] = field(default_factory=dict)
    snapshot: bytes | None = None
    snapshot_upto: int = 0
    """How many events are in it."""
    snapshot_due: int = SNAPSHOT_EVERY
    """At how many events the next one is written."""

    def add(self, lane: str, effect: Effect) -> int | None:
        """Put an effect into the outbox; None when the same one is pending there."""
        if (lane, effect) in self.twins:
            return None
        self.last_effect += 1
        self.twins[lane, effect] = self.last_effect
        self.pending[self.last_effect] = (lane, effect)
        return self.last_effect

    def finish(self, effect_id: int) -> None:
        lane, effect = self.pending.pop(effect_id)
        del self.twins[lane, effect]


class Process(Generic[State, Event, Effect]):
    """One mind, running or dead. Subclasses are its hands."""

    def __init__(
        self,
        name: str,
        mind: Mind[State, Event, Effect],
        disk: Disk[Event, Effect],
        *,
        clock: Clock,
        node: Node,
        chance: Chance,
        story: Story,
    ) -> None:
        self.name = name
        self.disk = disk
        self.node = node
        self.chance = chance
        self.is_up = False
        self.is_gone = False
        """Left for good."""
        self.restarts = 0
        self.full_until = 0
        """Until when its disk has no room."""
        self._mind = mind
        self._clock = clock
        self._story = story
        self._state: State | None = None
        self._is_whole = True
        """Whether the state in memory is what the disk says, so that a restore can be compared with it."""
        self._life = 0
        self._last_tick = Timestamp(-1)
        self._queues: dict[str, deque[tuple[int, Effect]]] = {}
        self._active: dict[str, int] = {}

    # --- what subclasses say ------------------------------------------------------------------------------

    def lane_of(self, effect: Effect) -> str:
        raise NotImplementedError

    def width_of(self, lane: str) -> int | None:
        """How many effects of a lane are carried out side by side; None for a lane of messages."""
        raise NotImplementedError

    def post(self, lane: str, number: int, effect: Effect) -> None:
        """Take a committed message."""
        raise NotImplementedError

    def carry_out(self, effect: Effect) -> Work[Event]:
        raise NotImplementedError

    def gave_up(self, effect: Effect, error: PoolwrightError) -> Sequence[Event]:
        raise NotImplementedError

    def woken(self) -> None:
        """The process runs again; its state is restored and its effects are under way."""

    def ended(self) -> None:
        """The process was killed."""

    def is_wanted(self, effect: Effect) -> bool:
        """Whether the mind still wants it."""
        return self._mind.is_wanted(self.state, effect)

    def compare(self, restored: State, lost: State) -> bool:
        """Whether a restored state is the one that was lost."""
        raise NotImplementedError

    def stepped(self, event: Event, effects: Sequence[Effect], ignored: str | None) -> None:
        """The mind has taken an event."""

    # --- life ---------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        if self._state is None:
            raise InvariantBroken(f"{self.name} is not running")
        return self._state

    @property
    def is_disk_full(self) -> bool:
        return self._clock.now < self.full_until and not self.chance.is_calm

    def now(self) -> Timestamp:
        return self.node.head().timestamp

    def start(self) -> None:
        """Restore what the disk knows, and go on. Raises InvariantBroken when that is not what was lost."""
        if self.is_up or self.is_gone:
            return
        lost, self._state = self._state, self._restored()
        if lost is not None and self._is_whole and not self.compare(self._state, lost):
            raise InvariantBroken(f"{self.name}: what was restored is not what was accepted")
        self._is_whole, self.is_up = True, True
        self._queues, self._active, self._last_tick = {}, {}, Timestamp(-1)
        self._story.note(self.name, "starts", None)
        for effect_id, (lane, effect) in list(self.disk.pending.items()):
            if self._mind.is_wanted(self._state, effect):
                self._let_go(lane, effect_id, effect)
            else:
                self.disk.finish(effect_id)
        self.woken()

    def crash(self) -> None:
        """Lose everything but the disk."""
        if not self.is_up:
            return
        self.is_up = False
        self._life += 1
        self.restarts += 1
        self._story.note(self.name, "dies", None)
        self.ended()

    def forget(self) -> None:
        """Nothing is compared with the state that was lost: its disk is another one."""
        self._state = None

    def guarded(self, action: Action) -> Action:
        """The action, if this life of the process still lasts when it comes."""
        life = self._life

        def run() -> None:
            if self.is_up and self._life == life:
                try:
                    action()
                except Died:
                    self.crash()

        return run

    def _restored(self) -> State:
        disk, mind = self.disk, self._mind
        state = mind.initial() if disk.snapshot is None else mind.load(disk.snapshot)
        for event in disk.events[disk.snapshot_upto :]:
            state = mind.step(state, event).state
        return state

    # --- the loop -----------------------------------------------------------------------------------------

    def put(
        self,
        *events: Event,
        marks: Mapping[str, tuple[Hash32, int]] | None = None,
        cursor: int | None = None,
        done: int | None = None,
    ) -> None:
        """Tell the mind facts and make them durable. Raises Died."""
        asked: list[Effect] = []
        taken: list[Event] = []
        tick = self._due_tick()
        for event in (*(() if tick is None else (tick,)), *events):
            self._is_whole = False
            step = self._mind.step(self.state, event)
            self._state = step.state
            self._story.note(self.name, type(event).__name__, event, step.effects, step.ignored)
            self.stepped(event, step.effects, step.ignored)
            taken.append(event)
            asked += step.effects
        if self.is_disk_full or self.chance.hits("crashes_at_commits"):
            raise Died  # nothing may happen before it is durable; after the restart it is put again
        disk = self.disk
        disk.events += taken
        if done is not None:
            disk.finish(done)
        fresh = [
            (lane, effect, disk.add(lane, effect)) for effect in asked for lane in (self.lane_of(effect),)
        ]
        disk.marks.update(marks or {})
        disk.cursor = disk.cursor if cursor is None else cursor
        self._is_whole = True
        if self.chance.hits("crashes_at_commits"):
            raise Died
        if len(disk.events) >= disk.snapshot_due:
            disk.snapshot, disk.snapshot_upto = b"".join(self._mind.save(self.state)), len(disk.events)
            pause = max(SNAPSHOT_EVERY, len(disk.snapshot) // SNAPSHOT_BYTES)
            disk.snapshot_due = disk.snapshot_upto + pause
        for lane, effect, effect_id in fresh:
            if effect_id is not None:
                self._let_go(lane, effect_id, effect)

    def tick(self) -> None:
        """Let the mind act on every deadline that the chain has reached."""
        while (deadline := self._mind.next_deadline(self.state)) is not None:
            if max(deadline, self._last_tick + 1) > self.now():
                return
            self.put()

    def _due_tick(self) -> Event | None:
        deadline = self._mind.next_deadline(self.state)
        if deadline is None or max(deadline, self._last_tick + 1) > self.now():
            return None
        self._last_tick = self.now()
        return self._mind.tick(self._last_tick)

    # --- effects ------------------------------------------------------------------------------------------

    def _let_go(self, lane: str, effect_id: int, effect: Effect) -> None:
        width = self.width_of(lane)
        if width is None:
            self.post(lane, effect_id, effect)
            return
        if self._active.get(lane, 0) >= width:
            self._queues.setdefault(lane, deque()).append((effect_id, effect))
            return
        self._active[lane] = self._active.get(lane, 0) + 1
        delay = self.chance.of("hands").randint(5, 50)
        if self.chance.hits("rpc_slow"):
            delay += self.chance.of("slow").randint(1, 20 * SECOND)
        self._clock.after(delay, self.guarded(lambda: self._start_on(lane, effect_id, effect)))

    def _start_on(self, lane: str, effect_id: int, effect: Effect) -> None:
        """Begin, or drop what nobody wants any more."""
        if self.is_wanted(effect):
            self._begin(lane, effect_id, effect, 1)
        else:
            self._finish(lane, effect_id, ())

    def _begin(self, lane: str, effect_id: int, effect: Effect, attempt: int) -> None:
        work = self.carry_out(effect)
        self._go_on(work, lane, effect_id, effect, attempt)

    def _go_on(self, work: Work[Event], lane: str, effect_id: int, effect: Effect, attempt: int) -> None:
        """Run the hands to their next wait, or to their outcome."""
        try:
            wait = next(work)
        except StopIteration as outcome:
            self._finish(lane, effect_id, outcome.value)
        except Unavailable as problem:
            if attempt >= RETRIES.attempts or not self.is_wanted(effect):
                self._finish(lane, effect_id, self.gave_up(effect, problem))
                return
            error, ends_at = problem, self._clock.now + int(RETRIES.pause(attempt) * SECOND)
            self._pause(lane, effect_id, effect, attempt, error, ends_at)
        except InvariantBroken:
            raise
        except PoolwrightError as problem:
            self._finish(lane, effect_id, self.gave_up(effect, problem))
        else:
            wait(self.guarded(lambda: self._go_on(work, lane, effect_id, effect, attempt)))

    def _pause(
        self, lane: str, effect_id: int, effect: Effect, attempt: int, error: Unavailable, ends_at: int
    ) -> None:
        """Wait for the next try, and give up at the next look once nobody wants it any more."""

        def look() -> None:
            if not self.is_wanted(effect):
                self._finish(lane, effect_id, self.gave_up(effect, error))
            elif self._clock.now >= ends_at:
                self._begin(lane, effect_id, effect, attempt + 1)
            else:
                self._pause(lane, effect_id, effect, attempt, error, ends_at)

        look_at = min(ends_at, self._clock.now + int(LOOK_SECONDS * SECOND))
        self._clock.at(look_at, self.guarded(look))

    def _finish(self, lane: str, effect_id: int, outcome: Sequence[Event]) -> None:
        self.die_at_effect()
        self.put(*outcome, done=effect_id)
        self._active[lane] -= 1
        queue = self._queues.get(lane)
        if queue:
            self._let_go(lane, *queue.popleft())

    def die_at_effect(self) -> None:
        """Something was done, and the process may end before it is written down. Raises Died."""
        if self.chance.hits("crashes_at_effects"):
            raise Died

    def pause(self, milliseconds: int) -> Wait:
        return lambda resume: self._clock.after(milliseconds, resume)
