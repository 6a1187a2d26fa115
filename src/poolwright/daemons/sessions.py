"""The scheduler's side of its workers' connections: login, the WebSocket session, and who went silent.

One session per worker; a newer one replaces the older. What a worker reports is confirmed only when it is
durable; what it is told stays in its mailbox until it confirms. Liveness is measured here, by a monotonic
clock, and becomes a fact for the mind only when it changes.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect

from poolwright.chain.reads import HubReader
from poolwright.daemons.mailbox import Mailbox, Mailboxes
from poolwright.poco import consensus
from poolwright.poco.errors import PeerError, PoolwrightError
from poolwright.poco.types import Hash32, Timestamp, WorkerAddress
from poolwright.scheduler.effects import TellWorker
from poolwright.scheduler.events import PoolEvent, WorkerConnected, WorkerReported, WorkerWentSilent
from poolwright.scheduler.pool import Worker
from poolwright.store.port import Store
from poolwright.wire import codec
from poolwright.wire.messages import (
    MAX_CALLBACK_BYTES,
    MAX_MESSAGE_BYTES,
    PROTOCOL,
    Confirm,
    Heartbeat,
    Hello,
    Instructed,
    Instruction,
    Refused,
    Reported,
    SchedulerMessage,
    Welcome,
    WorkerMessage,
)

log = structlog.get_logger(__name__)

HELLO_SECONDS: Final = 10.0
MAX_SESSIONS: Final = 20_000


class Inbox(Protocol):
    """Where facts go; returns when they are durable."""

    async def put(self, *events: PoolEvent, marks: Mapping[str, bytes] | None = None) -> object: ...


class Sessions:
    """All workers that are, were or may be connected."""

    def __init__(
        self,
        *,
        store: Store,
        mailboxes: Mailboxes[TellWorker],
        inbox: Inbox,
        hub: HubReader,
        ledger: Hash32,
        results_url: str,
        silence_seconds: int,
        chain_now: Callable[[], Timestamp],
        instruction_of: Callable[[TellWorker], Instruction],
    ) -> None:
        self._store = store
        self._inbox = inbox
        self._hub = hub
        self._ledger = ledger
        self._results_url = results_url
        self._silence_seconds = silence_seconds
        self._chain_now = chain_now
        self._instruction_of = instruction_of
        self._mailboxes = mailboxes
        self._last_heard: dict[WorkerAddress, float] = {}
        self._open: dict[WorkerAddress, WebSocket] = {}
        self.refused: dict[str, int] = defaultdict(int)
        """Messages and connections refused, by code."""

    @property
    def connected(self) -> tuple[WorkerAddress, ...]:
        return tuple(self._open)

    def expect(self, workers: Mapping[WorkerAddress, Worker]) -> None:
        """After a restart: these were heard before; those that stay away are silent from now on."""
        for worker in workers.values():
            if not worker.is_silent:
                self._last_heard[worker.address] = time.monotonic()

    async def watch_silence(self) -> None:
        """Tell the mind of each worker that has said nothing for too long."""
        while True:
            await asyncio.sleep(min(self._silence_seconds / 4, 5.0))
            now = time.monotonic()
            silent = [w for w, at in self._last_heard.items() if now - at > self._silence_seconds]
            for worker in silent:
                del self._last_heard[worker]
                log.warning("worker went silent", worker=str(worker), seconds=self._silence_seconds)
                await self._inbox.put(WorkerWentSilent(at=self._chain_now(), worker=worker))

    async def serve(self, socket: WebSocket, worker: WorkerAddress) -> None:
        """Hold one connection of an authenticated worker until it ends."""
        if len(self._open) >= MAX_SESSIONS:
            await _refuse(socket, "too-many-workers", f"this scheduler holds {MAX_SESSIONS} workers already")
            return
        older = self._open.get(worker)
        self._open[worker] = socket
        if older is not None:
            await _refuse(older, "replaced", "the same wallet has connected again")
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                hello = await _receive(socket)
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
            await self._converse(socket, worker, hello)
        except (WebSocketDisconnect, TimeoutError):
            pass
        except PoolwrightError as problem:
            self.refused[problem.code] += 1
            log.warning("session refused", worker=str(worker), code=problem.code, reason=str(problem))
            await _refuse(socket, problem.code, str(problem))
        finally:
            if self._open.get(worker) is socket:
                del self._open[worker]
            log.info("worker disconnected", worker=str(worker))

    async def _converse(self, socket: WebSocket, worker: WorkerAddress, hello: Hello) -> None:
        received = await self._received(worker, hello.journal)
        weight = consensus.weight(await self._hub.score(worker))
        self._last_heard[worker] = time.monotonic()
        await self._inbox.put(
            WorkerConnected(
                at=self._chain_now(),
                worker=worker,
                journal=hello.journal,
                capacity=hello.capacity,
                weight=weight,
            ),
            marks={_mark_of(worker): _mark(hello.journal, received)},
        )
        log.info("worker connected", worker=str(worker), name=hello.capacity.name, slots=hello.capacity.slots)
        heartbeat = max(self._silence_seconds // 4, 1)
        welcome = Welcome(
            ledger=self._ledger,
            received=received,
            heartbeat_seconds=heartbeat,
            results_url=self._results_url,
        )
        await _send(socket, welcome)
        mailbox = self._mailboxes.of(lane_of(worker))
        if hello.ledger == self._ledger:
            await mailbox.confirm(hello.received)
        sending = asyncio.create_task(self._send_instructions(socket, mailbox))
        try:
            await self._listen(socket, worker, hello.journal, received)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _send_instructions(self, socket: WebSocket, mailbox: Mailbox[TellWorker]) -> None:
        async for number, effect in mailbox.letters():
            await _send(socket, Instructed(sequence=number, instruction=self._instruction_of(effect)))

    async def _listen(self, socket: WebSocket, worker: WorkerAddress, journal: Hash32, received: int) -> None:
        while True:
            message = await _receive(socket)
            self._last_heard[worker] = time.monotonic()
            match message:
                case Reported(sequence=sequence):
                    if sequence > received:
                        received = sequence
                        await self._take_report(worker, journal, message)
                    await _send(socket, Confirm(upto=received))
                case Confirm(upto=upto):
                    await self._mailboxes.of(lane_of(worker)).confirm(upto)
                case Heartbeat():
                    pass
                case Hello():
                    raise PeerError("Hello comes once in a session", code="second-hello")

    async def _take_report(self, worker: WorkerAddress, journal: Hash32, report: Reported) -> None:
        if report.details.callback is not None and len(report.details.callback) > MAX_CALLBACK_BYTES:
            raise PeerError(
                "callback too long",
                code="callback-too-long",
                expected=f"at most {MAX_CALLBACK_BYTES} bytes",
                got=str(len(report.details.callback)),
            )
        await self._inbox.put(
            WorkerReported(
                at=self._chain_now(),
                worker=worker,
                task_id=report.task_id,
                status=report.status,
                details=report.details,
            ),
            marks={_mark_of(worker): _mark(journal, report.sequence)},
        )

    async def _received(self, worker: WorkerAddress, journal: Hash32) -> int:
        """Number of the last durable report from this journal; 0 when the worker has a new one."""
        mark = await self._store.mark(_mark_of(worker))
        if mark is None or mark[:32] != journal:
            return 0
        return int.from_bytes(mark[32:], "big")


def lane_of(worker: WorkerAddress) -> str:
    """The outbox lane of a worker's instructions."""
    return f"worker:{worker}"


def _mark_of(worker: WorkerAddress) -> str:
    return f"received:{worker}"


def _mark(journal: Hash32, sequence: int) -> bytes:
    return journal + sequence.to_bytes(8, "big")


async def _receive(socket: WebSocket) -> WorkerMessage:
    text = await socket.receive_text()
    if len(text) > MAX_MESSAGE_BYTES:
        raise PeerError(
            "message too long", code="message-too-long", expected=f"at most {MAX_MESSAGE_BYTES} bytes"
        )
    message: WorkerMessage = codec.decode(WorkerMessage, text.encode())
    return message


async def _send(socket: WebSocket, message: SchedulerMessage) -> None:
    await socket.send_text(codec.encode(message).decode())


async def _refuse(socket: WebSocket, code: str, message: str) -> None:
    try:
        async with asyncio.timeout(2):
            await _send(socket, Refused(code=code, message=message))
            await socket.close(1008)
    except (RuntimeError, WebSocketDisconnect, TimeoutError):
        pass  # the connection is gone, which is what was wanted
