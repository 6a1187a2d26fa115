"""A worker's process: its mind, its lives, and its connection as `daemons.scheduler_link` keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, assert_never

from poolwright.daemons.worker_hands import (
    SCHEDULER_LANE,
    lane_of,
    lane_widths,
)
from poolwright.daemons.worker_mind import WorkerMind
from poolwright.devnet.simulation.chain import Chain
from poolwright.devnet.simulation.clock import SECOND
from poolwright.devnet.simulation.links import Connection, Letters, SchedulerEnd
from poolwright.devnet.simulation.machine import Habits, Machine
from poolwright.devnet.simulation.process import Disk, Process, Work
from poolwright.devnet.simulation.repository import Repository
from poolwright.devnet.simulation.sender import Sender
from poolwright.devnet.simulation.worker_hands import WorkerHands
from poolwright.poco.errors import InvariantBroken, PoolwrightError
from poolwright.poco.types import Address, Hash32, TaskId, WorkerAddress
from poolwright.wire.messages import (
    PROTOCOL,
    Capacity,
    Confirm,
    Hello,
    Instructed,
    Notice,
    Refused,
    Reported,
    SchedulerMessage,
    Welcome,
)
from poolwright.wire.statuses import MOVES, Mover, ReplicateStatus
from poolwright.worker.attempts import Attempts
from poolwright.worker.effects import (
    Effect,
    Report,
)
from poolwright.worker.events import (
    Event,
    SchedulerInstructed,
)
from poolwright.worker.outcomes import given_up

S = ReplicateStatus
_RECEIVED = "received"


class WorkerProcess(Process[Attempts, Event, Effect]):
    """One worker of the pool. Between two connections it waits for a while, longer after each failure."""

    def __init__(
        self,
        disk: Disk[Event, Effect],
        *,
        address: WorkerAddress,
        habits: Habits,
        chain: Chain,
        scheduler: SchedulerEnd,
        workerpool: Address,
        repository: Repository,
        machine: Machine,
        **parts: Any,  # those of Process
    ) -> None:
        self.address = address
        self.habits = habits
        self.machine = machine
        self._chain = chain
        self._scheduler = scheduler
        self.offline_until = 0
        self._link: Connection | None = None
        self._letters: Letters[Report] = Letters()
        self._said: dict[TaskId, ReplicateStatus] = {}
        super().__init__(mind=WorkerMind(), disk=disk, **parts)
        self._hands = WorkerHands(
            self,
            self._new_sender(),
            address=address,
            habits=habits,
            chain=chain,
            workerpool=workerpool,
            repository=repository,
            machine=machine,
            clock=self._clock,
        )

    # --- life ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        if not self.is_up:
            self._letters = Letters()
        super().start()

    def woken(self) -> None:
        self._hands.sender = self._new_sender()
        self._hands.sender.resume()
        self._connect_soon(3 * SECOND)

    def ended(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.cut(noticed=True)

    def lose_disk(self, name: Hash32) -> None:
        """While it is dead: its disk and its machine's are replaced by empty ones."""
        self.disk = Disk(name=name)
        self.machine.replace_disk()
        self.forget()

    def compare(self, restored: Attempts, lost: Attempts) -> bool:
        return restored == lost

    def _new_sender(self) -> Sender:
        journal = self.disk.journal
        return Sender(self._chain, self.node, self.chance, self.address, journal, self.guarded)

    # --- the connection -----------------------------------------------------------------------------------

    def torn(self) -> None:
        """Nothing more goes over the line: it breaks for some minutes, or we die at this instant."""
        if self.chance.of("tears").random() < 0.7:
            self.offline_until = self._clock.now + self.chance.of("tears").randint(20, 200) * SECOND
            self.cut()
        else:
            self.crash()

    @property
    def is_connected(self) -> bool:
        return self._link is not None and self._link.is_welcome and self._link.is_open

    def cut(self) -> None:
        """The connection breaks."""
        if self._link is not None:
            self._link.cut()

    def lost(self, link: Connection) -> None:
        if self._link is link:
            self._link = None
            self._connect_soon(15 * SECOND)

    def _connect_soon(self, most: int) -> None:
        self._clock.after(self.chance.of("reconnects").randint(100, most), self.guarded(self._connect))

    def _connect(self) -> None:
        if self._link is not None:
            return
        if self._clock.now < self.offline_until and not self.chance.is_calm:
            self._connect_soon(15 * SECOND)
            return
        link = self._link = Connection(self.address, (self._scheduler, self), self._clock, self.chance)
        ledger, received = self.disk.marks.get(_RECEIVED, (None, 0))
        link.to_scheduler(
            Hello(
                protocol=PROTOCOL,
                journal=self.disk.name,
                ledger=ledger,
                received=received,
                capacity=Capacity(
                    name=self.name,
                    version="simulated",
                    slots=self.habits.slots,
                    cpus=4,
                    memory_gib=8,
                    gpu=self.habits.gpu,
                    tee_frameworks=("scone",) if self.habits.enclave else (),
                ),
            )
        )

    def hear(self, link: Connection, message: SchedulerMessage) -> None:
        """A message of the scheduler has arrived; a process that is down hears nothing."""
        if self._link is link:
            self.guarded(lambda: self._take(link, message))()

    def _take(self, link: Connection, message: SchedulerMessage) -> None:
        match message:
            case Welcome():
                ledger, received = self.disk.marks.get(_RECEIVED, (None, 0))
                link.received = received if ledger == message.ledger else 0
                link.ledger = message.ledger
                self._confirm(message.received)
                for number, report in list(self._letters):
                    self._send(link, number, report)
            case Instructed(sequence=sequence, instruction=instruction):
                if sequence > link.received:
                    link.received = sequence
                    event = SchedulerInstructed(at=self.now(), instruction=instruction)
                    self.put(event, marks={_RECEIVED: (link.ledger, sequence)})
                link.to_scheduler(Confirm(upto=link.received))
            case Confirm(upto=upto):
                self._confirm(upto)
            case Notice():
                pass  # it gets no work, and need not do anything about it
            case Refused():
                link.cut(noticed=True)
            case _:
                assert_never(message)

    def _confirm(self, upto: int) -> None:
        for number in self._letters.confirm(upto):
            self.disk.finish(number)

    def _send(self, link: Connection, number: int, report: Report) -> None:
        details, status = report.details, report.status
        if details.callback is not None and self.chance.hits("bad_callbacks"):
            details = replace(details, callback=b"another one")
        if self.habits.babbles and not self.chance.is_calm and self.chance.of("babble").random() < 0.2:
            said = sorted(MOVES[Mover.WORKER].get(self._said.get(report.task_id, S.CREATED), {status}))
            status = self.chance.of("babble").choice(said)
        self._said[report.task_id] = status
        link.to_scheduler(Reported(sequence=number, task_id=report.task_id, status=status, details=details))

    def babble(self, task_id: TaskId, status: ReplicateStatus) -> None:
        """Say something about a task that is not so."""
        number = -self.chance.of("babble").randint(100, 10**9)
        report = Report(task_id=task_id, status=status, number=number)
        effect_id = self.disk.add(SCHEDULER_LANE, report)
        if effect_id is not None:
            self.post(SCHEDULER_LANE, effect_id, report)

    # --- effects ------------------------------------------------------------------------------------------

    def lane_of(self, effect: Effect) -> str:
        return lane_of(effect)

    def width_of(self, lane: str) -> int | None:
        return lane_widths(self.habits.slots).get(lane)

    def post(self, lane: str, number: int, effect: Effect) -> None:
        if not isinstance(effect, Report):
            raise InvariantBroken(f"{type(effect).__name__} is not a message")
        self._letters.post(number, effect)
        if self._link is not None and self._link.is_welcome and self._link.ledger:
            self._send(self._link, number, effect)

    def carry_out(self, effect: Effect) -> Work[Event]:
        return self._hands.carry_out(effect)

    def gave_up(self, effect: Effect, error: PoolwrightError) -> Sequence[Event]:
        return [given_up(effect, error, self.now())]
