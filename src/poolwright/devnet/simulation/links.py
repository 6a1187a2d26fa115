"""Connections between workers and the scheduler, and the mailboxes behind them.

A connection keeps the order of what it carries and may break anywhere, with everything under way on it; a
message may come twice. What was not confirmed stands in the outbox and is sent again on the next connection,
as `daemons.mailbox` and `daemons.sessions` do it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from enum import Enum, auto
from typing import Final, Generic, Protocol, TypeVar

from poolwright.devnet.simulation.clock import SECOND, Clock
from poolwright.devnet.simulation.faults import Chance
from poolwright.poco.types import Hash32, WorkerAddress
from poolwright.wire.messages import Reported, SchedulerMessage, WorkerMessage

PING_SECONDS: Final = 40
"""After how long at most a broken connection is noticed."""
HEARTBEAT_SECONDS: Final = 15
SILENCE_SECONDS: Final = 60


class Side(Enum):
    """Who a message is for."""

    SCHEDULER = auto()
    WORKER = auto()


class SchedulerEnd(Protocol):
    """The scheduler, as connections see it."""

    def hear(self, link: Connection, message: WorkerMessage) -> None: ...

    def lost(self, link: Connection) -> None: ...


class WorkerEnd(Protocol):
    """A worker, as connections see it."""

    def hear(self, link: Connection, message: SchedulerMessage) -> None: ...

    def lost(self, link: Connection) -> None: ...

    def torn(self) -> None: ...


class Connection:
    """One connection of one worker, from Hello to its break."""

    def __init__(
        self,
        worker: WorkerAddress,
        ends: tuple[SchedulerEnd, WorkerEnd],
        clock: Clock,
        chance: Chance,
    ) -> None:
        self.worker: Final = worker
        self.is_open = True
        self.is_welcome = False
        """The scheduler has said Welcome: both may send."""
        self.received = 0
        """Number of the last instruction that the worker took."""
        self.ledger: Hash32 = Hash32.zero()
        """The scheduler's store, once the worker has heard Welcome."""
        self._scheduler, self._worker = ends
        self._clock = clock
        self._chance = chance
        self._last = {Side.SCHEDULER: 0, Side.WORKER: 0}

    def to_scheduler(self, message: WorkerMessage) -> None:
        for _ in self._copies():
            self._clock.at(self._arrival(Side.SCHEDULER), lambda: self._at_scheduler(message))

    def to_worker(self, message: SchedulerMessage) -> None:
        for _ in self._copies():
            self._clock.at(self._arrival(Side.WORKER), lambda: self._at_worker(message))

    def cut(self, *, noticed: bool = False) -> None:
        """End it; what is under way is lost. Each side notices after a while, or at once."""
        if not self.is_open:
            return
        self.is_open = False
        most = 1 if noticed else PING_SECONDS * SECOND
        self._clock.after(self._chance.of("notice").randint(0, most), lambda: self._worker.lost(self))
        self._scheduler.lost(self)

    def _copies(self) -> Iterator[None]:
        if not self.is_open:
            return
        yield None
        if self.is_welcome and self._chance.hits("doubled_messages"):
            yield None

    def _arrival(self, side: Side) -> int:
        delay = self._chance.of("delays").randint(5, 100)
        if self._chance.hits("slow_messages"):
            delay += self._chance.of("delays").randint(1, 30 * SECOND)
        self._last[side] = max(self._last[side], self._clock.now + delay)
        return self._last[side]

    def _at_scheduler(self, message: WorkerMessage) -> None:
        if self.is_open:
            self._scheduler.hear(self, message)
            if isinstance(message, Reported) and self._chance.hits("torn_messages"):
                self._worker.torn()

    def _at_worker(self, message: SchedulerMessage) -> None:
        if self.is_open:
            self._worker.hear(self, message)


Letter = TypeVar("Letter")


class Letters(Generic[Letter]):
    """One lane of the outbox: letters in the order of their numbers until they are confirmed."""

    def __init__(self) -> None:
        self._letters: deque[tuple[int, Letter]] = deque()

    def post(self, number: int, letter: Letter) -> None:
        self._letters.append((number, letter))

    def confirm(self, upto: int) -> Iterator[int]:
        """Forget what the other side has; the numbers that are now done."""
        while self._letters and self._letters[0][0] <= upto:
            yield self._letters.popleft()[0]

    def __iter__(self) -> Iterator[tuple[int, Letter]]:
        return iter(self._letters)
