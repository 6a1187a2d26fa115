"""The scheduler's side of its workers' connections: the WebSocket session, its bounds, and who went silent.

One session per worker; a newer one replaces the older, and begins when the older has seen through what it
was making durable. What a worker reports is confirmed when it is durable, or when it was turned away
(`scheduler.screening`); what it is told stays in its mailbox until it confirms. Liveness is measured here, by
a monotonic clock, and becomes a fact for the mind only when it changes: a worker that says nothing for too
long is silent, its session ends, and it comes back by connecting again.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect

from poolwright.chain.reads import HubReader
from poolwright.daemons.config import MAX_SLOTS
from poolwright.daemons.mailbox import Mailbox, Mailboxes
from poolwright.daemons.together import first_of, see_through
from poolwright.poco import consensus
from poolwright.poco.errors import PeerError, PoolwrightError
from poolwright.poco.types import Hash32, Timestamp, WorkerAddress
from poolwright.scheduler import screening
from poolwright.scheduler.effects import TellWorker, TellWorkerStart
from poolwright.scheduler.events import PoolEvent, WorkerConnected, WorkerReported, WorkerWentSilent
from poolwright.scheduler.pool import Pool, Worker
from poolwright.scheduler.screening import Reason
from poolwright.scheduler.standing import check_version, notice
from poolwright.store.port import Store
from poolwright.wire import codec
from poolwright.wire.messages import (
    MAX_CALLBACK_BYTES,
    PROTOCOL,
    Capacity,
    Confirm,
    Heartbeat,
    Hello,
    Instructed,
    Instruction,
    Notice,
    Refused,
    Reported,
    SchedulerMessage,
    Welcome,
    WorkerMessage,
)

log = structlog.get_logger(__name__)

FAREWELL_SECONDS: Final = 2.0
MAX_NAME: Final = 100
LOGS_COST: Final = 50
"""Messages that logs of one task count for."""
ALL_WELL: Final = Notice(code="", message="this worker gets new tasks again")
TOO_BIG: Final = 1009
"""Close code of a WebSocket whose peer sent a message that is too long (RFC 6455, 7.4.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionBounds:
    """How many workers there may be, and how much each may ask for."""

    hello_seconds: float = 10.0
    """How long a connection may say nothing at first."""
    sessions: int = 20_000
    known: int = 50_000
    """Workers that the pool remembers; then only they may connect."""
    burst: int = 10_000
    """Messages that a worker may send at once: its backlog after an outage is far smaller."""
    per_second: float = 500.0
    """Messages that it may send all the time; a busy worker with many slots sends some dozens."""
    connection_burst: int = 300
    connections_per_second: float = 0.2
    """Each connection is an event in the log; a worker makes one a minute at the very most."""
    refusal_burst: int = 5_000
    refusals_per_second: float = 5.0
    """Reports that may be turned away before the session is: a worker whose scheduler was restored from a
    backup brings some thousands at once."""


USUAL: Final = SessionBounds()


class Inbox(Protocol):
    """Where facts go; returns when they are durable."""

    async def put(self, *events: PoolEvent, marks: Mapping[str, bytes] | None = None) -> object: ...


@dataclass(slots=True)
class Allowance:
    """How often a worker may still do something now; `at` is a moment of a monotonic clock."""

    at: float
    burst: float
    per_second: float
    spent: float = 0.0

    def spend(self, now: float, amount: float = 1.0) -> bool:
        """Take so much of it; False when there is not as much left."""
        self.spent = max(self.spent - (now - self.at) * self.per_second, 0.0)
        self.at = now
        if self.spent + amount > self.burst:
            return False
        self.spent += amount
        return True


@dataclass(slots=True)
class _Peer:
    """What outlives a worker's sessions: what it may still send, how often connect, how often be wrong."""

    messages: Allowance
    connections: Allowance
    refusals: Allowance
    heard: tuple[Hash32, int] | None = None
    """Journal and number of the last report that was dealt with; those turned away are written nowhere."""
    notice: Notice | None = None
    """What it was last told of its standing in this session."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by the one session that speaks for the worker."""


class _Session:
    """A connection being held. `end` ends it for a reason, which is then raised to whoever serves it."""

    def __init__(self, aio_task: asyncio.Task[None]) -> None:
        self._aio_task = aio_task
        self._reason: PeerError | None = None

    def end(self, reason: PeerError) -> None:
        self._reason = self._reason or reason
        self._aio_task.cancel()

    async def ended(self) -> None:
        """Return when the worker has gone; raise what ended the session otherwise."""
        try:
            await asyncio.wait({self._aio_task})
        except asyncio.CancelledError:
            self._aio_task.cancel()
            await asyncio.wait({self._aio_task})
            raise
        if self._aio_task.cancelled() and self._reason is not None:
            raise self._reason
        self._aio_task.result()


class Sessions:
    """All workers that are, were or may be connected."""

    def __init__(
        self,
        *,
        store: Store,
        mailboxes: Mailboxes[TellWorker],
        inbox: Inbox,
        pool: Callable[[], Pool],
        hub: HubReader,
        ledger: Hash32,
        results_url: str,
        silence_seconds: float,
        chain_now: Callable[[], Timestamp],
        instruction_of: Callable[[TellWorker], Instruction],
        dispatched: Callable[[float], None] = lambda _: None,
        bounds: SessionBounds = USUAL,
    ) -> None:
        """`dispatched` is told how many seconds an order to start was on its way to the connection."""
        self._store = store
        self._mailboxes = mailboxes
        self._inbox = inbox
        self._pool = pool
        self._hub = hub
        self._ledger = ledger
        self._results_url = results_url
        self._silence_seconds = silence_seconds
        self._chain_now = chain_now
        self._instruction_of = instruction_of
        self._dispatched = dispatched
        self._bounds = bounds
        self._peers: dict[WorkerAddress, _Peer] = {}
        self._heard_at: dict[WorkerAddress, float] = {}
        """When each worker that is not silent was last heard."""
        self._open: dict[WorkerAddress, _Session] = {}
        self.refused: dict[str, int] = defaultdict(int)
        """Messages, connections and requests refused, by code."""
        self.turned_away: dict[str, int] = dict.fromkeys(Reason, 0)
        """Reports that were not kept, by reason."""

    @property
    def connected(self) -> tuple[WorkerAddress, ...]:
        return tuple(self._open)

    @property
    def remembered(self) -> int:
        """Workers of which it is known what they may still send."""
        return len(self._peers)

    def expect(self, workers: Mapping[WorkerAddress, Worker]) -> None:
        """After a restart: these were heard before; those that stay away are silent from now on."""
        for worker in workers.values():
            if not worker.is_silent:
                self._heard_at[worker.address] = time.monotonic()

    async def watch_silence(self) -> None:
        """Tell the mind of each worker that has said nothing for too long."""
        while True:
            await asyncio.sleep(min(self._silence_seconds / 4, 5.0))
            heard_before = time.monotonic() - self._silence_seconds
            for worker in [worker for worker, at in self._heard_at.items() if at < heard_before]:
                await self._give_up(worker)

    async def _give_up(self, worker: WorkerAddress) -> None:
        del self._heard_at[worker]
        log.warning("worker went silent", worker=str(worker), seconds=self._silence_seconds)
        if worker in self._open:
            silence = f"no message for {self._silence_seconds:g} s"
            self._open[worker].end(PeerError(silence, code="silent", next_step="connect again"))
        await self._inbox.put(WorkerWentSilent(at=self._chain_now(), worker=worker))

    def may_send_logs(self, worker: WorkerAddress) -> bool:
        """Whether a worker may bring an app's logs now; it costs it many messages."""
        return self._peer(worker).messages.spend(time.monotonic(), LOGS_COST)

    def _peer(self, worker: WorkerAddress) -> _Peer:
        known = self._peers.pop(worker, None)
        if known is None:
            now, bounds = time.monotonic(), self._bounds
            known = _Peer(
                messages=Allowance(now, bounds.burst, bounds.per_second),
                connections=Allowance(now, bounds.connection_burst, bounds.connections_per_second),
                refusals=Allowance(now, bounds.refusal_burst, bounds.refusals_per_second),
            )
            if len(self._peers) >= bounds.known:
                forgotten = next((old for old in self._peers if old not in self._open), worker)
                self._peers.pop(forgotten, None)
        self._peers[worker] = known  # the last that was heard stands last
        return known

    async def serve(self, socket: WebSocket, worker: WorkerAddress) -> None:
        """Hold one connection of an authenticated worker until it ends; what is wrong with it is told."""
        older = self._open.get(worker)
        if older is not None:
            older.end(
                PeerError(
                    "the same wallet has connected again",
                    code="replaced",
                    next_step="let one worker only use this wallet",
                )
            )
        session = _Session(asyncio.create_task(self._hold(socket, worker)))
        self._open[worker] = session
        try:
            await session.ended()
        except WebSocketDisconnect as gone:
            if gone.code == TOO_BIG:
                self._count("message-too-long", worker, gone.reason or "")
        except PoolwrightError as problem:
            self._count(problem.code, worker, str(problem))
            await _refuse(socket, problem)
        finally:
            if self._open.get(worker) is session:
                del self._open[worker]
            log.info("worker disconnected", worker=str(worker))

    def _count(self, code: str, worker: WorkerAddress, reason: str) -> None:
        self.refused[code] += 1
        log.warning("session refused", worker=str(worker), code=code, reason=reason)

    async def _hold(self, socket: WebSocket, worker: WorkerAddress) -> None:
        known, bounds = self._pool().workers, self._bounds
        if len(self._open) > bounds.sessions or (worker not in known and len(known) >= bounds.known):
            raise PeerError(
                "this scheduler has as many workers as it can",
                code="too-many-workers",
                expected=f"at most {bounds.sessions} connected and {bounds.known} known",
                next_step="try again later",
            )
        peer = self._peer(worker)
        if not peer.connections.spend(time.monotonic()):
            raise PeerError(
                "too many connections",
                code="too-many-connections",
                expected=f"{bounds.connection_burst}, then one every {1 / bounds.connections_per_second:g} s",
                next_step="find out why the worker connects so often, and wait",
            )
        async with peer.turn:
            hello = await _receive_hello(socket, bounds.hello_seconds)
            await self._converse(socket, worker, peer, hello)

    async def _converse(self, socket: WebSocket, worker: WorkerAddress, peer: _Peer, hello: Hello) -> None:
        check_version(self._pool().rules, hello.capacity)
        received = await self._received(worker, hello.journal)
        if peer.heard is not None and peer.heard[0] == hello.journal:
            received = max(received, peer.heard[1])
        peer.notice = None
        weight = consensus.weight(await self._hub.score(worker))
        self._heard_at[worker] = time.monotonic()
        connected = WorkerConnected(
            at=self._chain_now(),
            worker=worker,
            journal=hello.journal,
            capacity=hello.capacity,
            weight=weight,
        )
        await see_through(self._put(connected, worker, hello.journal, received))
        log.info("worker connected", worker=str(worker), name=hello.capacity.name, slots=hello.capacity.slots)
        welcome = Welcome(
            ledger=self._ledger,
            received=received,
            heartbeat_seconds=max(int(self._silence_seconds) // 4, 1),
            results_url=self._results_url,
        )
        await _send(socket, welcome)
        await self._tell_standing(socket, worker, peer)
        mailbox = self._mailboxes.of(lane_of(worker))
        if hello.ledger == self._ledger:
            await mailbox.confirm(hello.received)
        await first_of(
            self._listen(socket, worker, peer, hello.journal, received),
            self._send_instructions(socket, mailbox),
        )

    async def _tell_standing(self, socket: WebSocket, worker: WorkerAddress, peer: _Peer) -> None:
        """Say why the worker gets no new work, or that it does again, when it has not been told yet."""
        known = self._pool().workers.get(worker)
        standing = None if known is None else notice(known.standing)
        if standing != peer.notice:
            peer.notice = standing
            await _send(socket, standing or ALL_WELL)

    async def _send_instructions(self, socket: WebSocket, mailbox: Mailbox[TellWorker]) -> None:
        async for number, effect in mailbox.letters():
            await _send(socket, Instructed(sequence=number, instruction=self._instruction_of(effect)))
            waited = mailbox.first_sent(number)
            if waited is not None and isinstance(effect, TellWorkerStart):
                self._dispatched(waited)

    async def _listen(
        self,
        socket: WebSocket,
        worker: WorkerAddress,
        peer: _Peer,
        journal: Hash32,
        received: int,
    ) -> None:
        while True:
            message = await _receive(socket)
            await self._tell_standing(socket, worker, peer)
            now = self._heard_at[worker] = time.monotonic()
            if not peer.messages.spend(now):
                raise PeerError(
                    "too many messages",
                    code="too-many-messages",
                    expected=_rate(self._bounds.per_second, self._bounds.burst),
                    next_step="wait before connecting again, and report it if the worker is Poolwright's",
                )
            match message:
                case Reported(sequence=sequence):
                    if sequence > received:
                        await self._take_report(worker, peer, journal, message)
                        received = sequence
                        peer.heard = journal, received
                    await _send(socket, Confirm(upto=received))
                case Confirm(upto=upto):
                    await self._mailboxes.of(lane_of(worker)).confirm(upto)
                case Heartbeat():
                    pass
                case Hello():
                    raise PeerError("Hello comes once in a session", code="second-hello")

    async def _take_report(
        self, worker: WorkerAddress, peer: _Peer, journal: Hash32, report: Reported
    ) -> None:
        """Make a report durable, or turn it away; a worker that keeps talking nonsense is not listened to."""
        if report.details.callback is not None and len(report.details.callback) > MAX_CALLBACK_BYTES:
            raise PeerError(
                "callback too long",
                code="callback-too-long",
                expected=f"at most {MAX_CALLBACK_BYTES} bytes",
                got=str(len(report.details.callback)),
            )
        event = WorkerReported(
            at=self._chain_now(),
            worker=worker,
            task_id=report.task_id,
            status=report.status,
            details=report.details,
        )
        objection = screening.objection(self._pool(), event)
        if objection is None:
            await see_through(self._put(event, worker, journal, report.sequence))
            return
        self.turned_away[objection.reason] += 1
        if objection.reason is Reason.CHAIN_DECIDES:
            return  # each attempt says it twice; it is no mistake
        log.warning("report not kept", worker=str(worker), code=objection.reason, reason=objection.message)
        if not peer.refusals.spend(time.monotonic()):
            raise PeerError(
                "too many reports that cannot be",
                code="too-many-refusals",
                expected=_rate(self._bounds.refusals_per_second, self._bounds.refusal_burst),
                got=objection.message,
                next_step="empty the worker's folder, and report it if the worker is Poolwright's",
            )

    async def _put(self, event: PoolEvent, worker: WorkerAddress, journal: Hash32, received: int) -> None:
        """Make the event durable, with the number of the last report that is."""
        mark = journal + received.to_bytes(8, "big")
        await self._inbox.put(event, marks={_mark_of(worker): mark})

    async def _received(self, worker: WorkerAddress, journal: Hash32) -> int:
        """Number of the last durable report from this journal; 0 when the worker has a new one."""
        mark = await self._store.mark(_mark_of(worker))
        if mark is None or mark[:32] != journal:
            return 0
        return int.from_bytes(mark[32:], "big")


def _rate(per_second: float, burst: int) -> str:
    return f"at most {per_second:g} a second after the first {burst}"


def lane_of(worker: WorkerAddress) -> str:
    """The outbox lane of a worker's instructions."""
    return f"worker:{worker}"


def _mark_of(worker: WorkerAddress) -> str:
    return f"received:{worker}"


async def _receive_hello(socket: WebSocket, seconds: float) -> Hello:
    try:
        async with asyncio.timeout(seconds):
            hello = await _receive(socket)
    except TimeoutError as problem:
        raise PeerError(
            "a session begins with Hello",
            code="no-hello",
            expected=f"it within {seconds:g} s",
            got="nothing",
        ) from problem
    if not isinstance(hello, Hello):
        raise PeerError("a session begins with Hello", code="no-hello", got=type(hello).__name__)
    if hello.protocol != PROTOCOL:
        raise PeerError(
            "protocol version differs",
            code="wrong-protocol",
            expected=str(PROTOCOL),
            got=str(hello.protocol),
            next_step="install the version of Poolwright that this workerpool runs",
        )
    _check_capacity(hello.capacity)
    return hello


def _check_capacity(capacity: Capacity) -> None:
    if not 0 <= capacity.slots <= MAX_SLOTS or len(capacity.name) > MAX_NAME:
        raise PeerError(
            "capacity not believable",
            code="bad-capacity",
            expected=f"0 to {MAX_SLOTS} slots and a name of at most {MAX_NAME} characters",
            got=f"{capacity.slots} slots and a name of {len(capacity.name)}",
            next_step="correct the worker's configuration",
        )


async def _receive(socket: WebSocket) -> WorkerMessage:
    """The next message; its length is bounded by the server. Raises WebSocketDisconnect, PeerError."""
    received = await socket.receive()
    if received["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(received.get("code") or 1005, received.get("reason"))
    text = received.get("text")
    if text is None:
        raise PeerError("a message that is not text", code="not-text", expected="JSON text", got="bytes")
    message: WorkerMessage = codec.decode(WorkerMessage, text)
    return message


async def _send(socket: WebSocket, message: SchedulerMessage) -> None:
    await socket.send_text(codec.encode(message).decode())


async def _refuse(socket: WebSocket, problem: PoolwrightError) -> None:
    try:
        async with asyncio.timeout(FAREWELL_SECONDS):
            await _send(socket, Refused(code=problem.code, message=str(problem)))
            await socket.close(1008, problem.code)
    except (RuntimeError, WebSocketDisconnect, TimeoutError):
        pass  # the connection is gone, which is what was wanted
