"""The worker's side of its connection to the scheduler: log in, say Hello, talk until it breaks, and again.

Reports stay in the mailbox until the scheduler confirms them; an instruction is confirmed when it is durable.
A lost connection is made again with back-off; a scheduler that is down for an hour costs only time, and
one line in the log: what is wrong is said once, and again when something else is.
Where several schedulers share a store, one leads and the others turn workers away: all are tried in turn.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Protocol

import aiohttp
import structlog

from poolwright.chain.rpc import back_off
from poolwright.chain.wallet import Wallet
from poolwright.daemons.mailbox import Mailbox
from poolwright.daemons.together import Latest, first_of
from poolwright.poco.errors import InputError, PeerError, Unavailable
from poolwright.poco.types import Address, Hash32, TaskId, Timestamp, WorkerAddress
from poolwright.serving.http import explanation
from poolwright.store.port import Store
from poolwright.wire import codec
from poolwright.wire.login import Challenge, Login, Token, login_digest
from poolwright.wire.messages import (
    MAX_MESSAGE_BYTES,
    PROTOCOL,
    Capacity,
    Confirm,
    Heartbeat,
    Hello,
    Instructed,
    Notice,
    Refused,
    Reported,
    SchedulerMessage,
    Welcome,
    WorkerMessage,
)
from poolwright.wire.task_logs import ComputeLogs
from poolwright.worker.effects import Report
from poolwright.worker.events import Event, SchedulerInstructed

log = structlog.get_logger(__name__)

HTTP_TIMEOUT: Final = aiohttp.ClientTimeout(total=10)
WELCOME_SECONDS: Final = 10.0
MAX_PAUSE_SECONDS: Final = 15.0
RECEIVED_MARK: Final = "received"
#: The scheduler will say the same again: the operator must act.
HOPELESS: Final = frozenset({"not-allowed", "wrong-protocol", "version-too-old", "replaced", "bad-capacity"})
PING_SECONDS: Final = 20.0
"""How often a silent connection is tried; one that does not answer is broken."""


LogQueue = asyncio.Queue[tuple[TaskId, ComputeLogs]]
"""Logs on their way to the scheduler; bounded by whoever makes it."""


class Inbox(Protocol):
    """Where facts go; returns when they are durable."""

    async def put(self, *events: Event, marks: Mapping[str, bytes] | None = None) -> object: ...


class SchedulerLink:
    """One worker's link to whichever scheduler of `core_urls` takes it.

    `results_url` is told where results go once the scheduler has said Welcome. `pause` waits so many seconds
    before a further try.
    """

    def __init__(
        self,
        *,
        core_urls: Sequence[str],
        http: aiohttp.ClientSession,
        wallet: Wallet,
        chain_id: int,
        workerpool: Address,
        capacity: Capacity,
        journal: Hash32,
        store: Store,
        inbox: Inbox,
        mailbox: Mailbox[Report],
        chain_now: Callable[[], Timestamp],
        results_url: Latest[str],
        logs: LogQueue,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._core_urls = itertools.cycle(core_urls)
        self._core_url = next(self._core_urls)
        self._round = len(core_urls)
        self._http = http
        self._wallet = wallet
        self._chain_id = chain_id
        self._workerpool = workerpool
        self._capacity = capacity
        self._journal = journal
        self._store = store
        self._inbox = inbox
        self._mailbox = mailbox
        self._chain_now = chain_now
        self._results_url = results_url
        self._logs = logs
        self._pause = pause
        self._told: dict[str, str] = {}
        """What was said last about each scheduler that does not take us."""
        self.is_connected = False
        self.last_heartbeat = 0.0
        """Unix time of the last sign of life that was sent; 0 before the first."""

    async def run(self) -> None:
        """Stay connected until cancelled. Raises InputError when the scheduler will never take us."""
        attempt = 0
        while True:
            try:
                await self._session()
            except PeerError as problem:
                if problem.code in HOPELESS:
                    raise InputError(str(problem), code=problem.code) from problem
                self._say_once("scheduler refused", problem)
            except (Unavailable, aiohttp.ClientError, TimeoutError, OSError) as problem:
                self._say_once("scheduler does not answer", problem)
            if self.is_connected:  # a scheduler that took us is asked again first
                attempt = 0
            else:
                attempt += 1
                self._core_url = next(self._core_urls)
            self.is_connected = False
            jitter = random.random()  # noqa: S311  # spreads reconnects, is no secret
            await self._pause(min(back_off(1 + attempt // self._round, jitter), MAX_PAUSE_SECONDS))

    def _say_once(self, what: str, problem: Exception) -> None:
        reason = str(problem) or type(problem).__name__
        if self._told.get(self._core_url) != reason:
            self._told[self._core_url] = reason
            log.warning(what, url=self._core_url, code=getattr(problem, "code", None), reason=reason)

    async def _session(self) -> None:
        token = await self._log_in()
        async with self._http.ws_connect(
            f"{self._core_url}/workers/connect",
            headers={"Authorization": f"Bearer {token}"},
            max_msg_size=MAX_MESSAGE_BYTES,
            heartbeat=PING_SECONDS,
            timeout=aiohttp.ClientWSTimeout(ws_close=5.0),
        ) as socket:
            ledger, received = await self._received()
            hello = Hello(
                protocol=PROTOCOL,
                journal=self._journal,
                ledger=ledger,
                received=received,
                capacity=self._capacity,
            )
            await _send(socket, hello)
            async with asyncio.timeout(WELCOME_SECONDS):
                welcome = await _receive(socket)
            if isinstance(welcome, Refused):
                raise _refused(welcome)
            if not isinstance(welcome, Welcome):
                raise PeerError("a session begins with Welcome", code="no-welcome", got=str(welcome)[:200])
            if welcome.ledger != ledger:
                received = 0
            await self._mailbox.confirm(welcome.received)
            self._learn(welcome)
            log.info("connected to scheduler", url=self._core_url)
            await first_of(
                self._listen(socket, welcome.ledger, received),
                self._send_reports(socket),
                self._beat(socket, welcome.heartbeat_seconds),
                self._send_logs(token),
            )

    def _learn(self, welcome: Welcome) -> None:
        self._results_url.set(welcome.results_url)
        self._told.clear()
        self.is_connected = True
        self.last_heartbeat = time.time()

    async def _listen(self, socket: aiohttp.ClientWebSocketResponse, ledger: Hash32, received: int) -> None:
        while True:
            message = await _receive(socket)
            match message:
                case Instructed(sequence=sequence, instruction=instruction):
                    if sequence > received:
                        received = sequence
                        event = SchedulerInstructed(at=self._chain_now(), instruction=instruction)
                        mark = ledger + received.to_bytes(8, "big")
                        await self._inbox.put(event, marks={RECEIVED_MARK: mark})
                    await _send(socket, Confirm(upto=received))
                case Confirm(upto=upto):
                    await self._mailbox.confirm(upto)
                case Notice(code=code, message=text):
                    _tell_owner(code, text)
                case Refused():
                    raise _refused(message)
                case Welcome():
                    raise PeerError("Welcome comes once in a session", code="second-welcome")

    async def _send_reports(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for number, report in self._mailbox.letters():
            message = Reported(
                sequence=number, task_id=report.task_id, status=report.status, details=report.details
            )
            await _send(socket, message)

    async def _send_logs(self, token: str) -> None:
        """Bring what apps printed; what the scheduler refuses is in the result's archive as well."""
        while True:
            task_id, logs = await self._logs.get()
            url = f"{self._core_url}/tasks/{task_id}/logs"
            headers = {"Authorization": f"Bearer {token}"}
            body = codec.encode(logs.bounded())
            async with self._http.post(url, data=body, headers=headers, timeout=HTTP_TIMEOUT) as answer:
                if answer.status != 204:
                    log.warning("logs refused", task=str(task_id), status=answer.status)

    async def _beat(self, socket: aiohttp.ClientWebSocketResponse, seconds: int) -> None:
        while True:
            await asyncio.sleep(seconds)
            await _send(socket, Heartbeat())
            self.last_heartbeat = time.time()

    async def _log_in(self) -> str:
        worker = self._wallet.address
        challenge = codec.decode(
            Challenge,
            await self._ask("GET", f"/workers/challenge?walletAddress={worker}"),
        )
        digest = login_digest(self._chain_id, self._workerpool, worker, challenge)
        login = Login(
            wallet_address=WorkerAddress(worker),
            nonce=challenge.nonce,
            expires_at=challenge.expires_at,
            signature=self._wallet.sign_digest(digest),
        )
        return codec.decode(Token, await self._ask("POST", "/workers/login", codec.encode(login))).token

    async def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        url = self._core_url + path
        async with self._http.request(method, url, data=body, timeout=HTTP_TIMEOUT) as answer:
            text = await answer.content.read(MAX_MESSAGE_BYTES)
            if answer.status == 200:
                return text
            code, message = explanation(text.decode("utf-8", "replace"))
            if 400 <= answer.status < 500:
                raise PeerError(message, code=code)
            raise Unavailable(f"scheduler at {url}", got=f"HTTP {answer.status}: {message}", code="scheduler")

    async def _received(self) -> tuple[Hash32 | None, int]:
        mark = await self._store.mark(RECEIVED_MARK)
        if mark is None:
            return None, 0
        return Hash32(mark[:32]), int.from_bytes(mark[32:], "big")


def _tell_owner(code: str, text: str) -> None:
    """What the scheduler wants the worker's owner to know; it asks nothing of the worker."""
    if code:
        log.warning("no new tasks from the scheduler", code=code, reason=text)
    else:
        log.info("new tasks from the scheduler again", reason=text)


def _refused(message: Refused) -> PeerError:
    return PeerError(f"the scheduler refuses this worker: {message.message}", code=message.code)


async def _receive(socket: aiohttp.ClientWebSocketResponse) -> SchedulerMessage:
    received = await socket.receive()
    if received.type is aiohttp.WSMsgType.TEXT:
        message: SchedulerMessage = codec.decode(SchedulerMessage, received.data)
        return message
    if received.type is aiohttp.WSMsgType.ERROR:
        raise Unavailable("connection to the scheduler", got=str(socket.exception()), code="scheduler")
    if received.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.CLOSED):
        reason = f"{socket.close_code} {received.extra or ''}".strip()
        if socket.close_code == 1008:
            raise PeerError("the scheduler closed the connection", code=str(received.extra or "closed"))
        raise Unavailable("the scheduler closed the connection", got=reason, code="scheduler")
    raise PeerError("a message that is not text", code="not-text", got=received.type.name)


async def _send(socket: aiohttp.ClientWebSocketResponse, message: WorkerMessage) -> None:
    await socket.send_str(codec.encode(message).decode())
