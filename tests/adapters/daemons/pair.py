"""A scheduler and a worker that talk over a real loopback WebSocket; what is behind the two ends is a twin.

Both sides have their real mind, runner and mailboxes, on a store in memory that outlives them. The hands of
the scheduler send no transactions; those of the worker succeed at once. A test plays the chain by putting
facts.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from factories import DIGEST, START, capacity, hash32, terms
from hub_twin import HubTwin
from poolwright.chain.wallet import Wallet
from poolwright.daemons.doors import http_server
from poolwright.daemons.mailbox import Mailbox, Mailboxes
from poolwright.daemons.operator_api import OperatorApi
from poolwright.daemons.runner import Runner
from poolwright.daemons.scheduler_api import SchedulerApi
from poolwright.daemons.scheduler_hands import LANES, instruction_of
from poolwright.daemons.scheduler_link import LogQueue, SchedulerLink
from poolwright.daemons.scheduler_metrics import SchedulerMetrics, Sights
from poolwright.daemons.scheduler_mind import SchedulerMind
from poolwright.daemons.sessions import USUAL, SessionBounds, Sessions, lane_of
from poolwright.daemons.together import Latest
from poolwright.daemons.worker_mind import WorkerMind
from poolwright.poco.types import (
    Address,
    BlockHash,
    BlockNumber,
    BlockStamp,
    Hash32,
    TaskId,
    Timestamp,
    WorkerAddress,
)
from poolwright.scheduler import effects as scheduler_effects
from poolwright.scheduler.events import OperatorSetRules
from poolwright.scheduler.standing import DEFAULT_RULES, Rules
from poolwright.serving.http import listen, serve, url_of
from poolwright.store.memory import MemoryStore
from poolwright.store.port import EffectId
from poolwright.worker import effects as worker_effects
from poolwright.worker import events as worker_events
from poolwright.worker.events import Result

CHAIN_ID = 31337
WORKERPOOL = Address(b"\x77" * 20)
OWNER = Wallet(b"\x01" * 32)
RESULTS_URL = "http://results.invalid"
PATIENCE_SECONDS = 10
NOW = Timestamp(START + 50)
HEAD = BlockStamp(BlockNumber(40), BlockHash(hash32("block 40")), NOW)
MESSAGES = (
    scheduler_effects.TellWorkerStart,
    scheduler_effects.TellWorkerReveal,
    scheduler_effects.TellWorkerUpload,
    scheduler_effects.TellWorkerComplete,
    scheduler_effects.TellWorkerAbort,
)


class Clock:
    """Chain time that stands still: the tests here are not about deadlines."""

    def now(self) -> Timestamp:
        return NOW

    async def wait_until(self, at: Timestamp) -> None:
        await asyncio.Event().wait()


class SchedulerTwinHands:
    """Posts messages; a transaction or an upload check stays on its way, for the test plays the chain."""

    def __init__(self, mailboxes: Mailboxes[Any]) -> None:
        self._mailboxes = mailboxes

    def lane_of(self, effect: Any) -> str:
        return lane_of(effect.worker) if isinstance(effect, MESSAGES) else "transactions"

    def key_of(self, effect: Any) -> str:
        return scheduler_effects.identity(effect)

    def post(self, effect: Any, number: EffectId) -> None:
        self._mailboxes.of(lane_of(effect.worker)).post(number, effect)

    async def carry_out(self, effect: Any, effect_id: EffectId) -> Sequence[Any]:
        await asyncio.Event().wait()
        raise AssertionError

    def gave_up(self, effect: Any, error: Exception) -> Sequence[Any]:
        raise AssertionError


class WorkerTwinHands:
    """Does everything at once and well."""

    def __init__(self, mailbox: Mailbox[Any]) -> None:
        self._mailbox = mailbox

    def lane_of(self, effect: Any) -> str:
        return "scheduler" if isinstance(effect, worker_effects.Report) else "work"

    def key_of(self, effect: Any) -> str:
        return f"{type(effect).__name__}:{effect.task_id}:{getattr(effect, 'number', '')}"

    def post(self, effect: Any, number: EffectId) -> None:
        self._mailbox.post(number, effect)

    async def carry_out(self, effect: Any, effect_id: EffectId) -> Sequence[Any]:
        at, task_id = NOW, effect.task_id
        match effect:
            case worker_effects.DescribeTask():
                return [worker_events.TaskDescribed(at=at, task_id=task_id, terms=terms())]
            case worker_effects.DownloadApp():
                return [worker_events.AppDownloaded(at=at, task_id=task_id)]
            case worker_effects.DownloadData():
                return [worker_events.DataDownloaded(at=at, task_id=task_id)]
            case worker_effects.Compute():
                result = Result(digest=DIGEST, callback=b"")
                return [
                    worker_events.AppComputed(
                        at=at, task_id=task_id, result=result, exit_code=0, milliseconds=1
                    )
                ]
            case worker_effects.CheckContribution():
                verdict = worker_events.ReplicateStatus.CAN_CONTRIBUTE
                return [worker_events.ContributionChecked(at=at, task_id=task_id, verdict=verdict)]
            case worker_effects.SubmitContribute():
                return [worker_events.ContributionMined(at=at, task_id=task_id, tx_hash=None, block=None)]
            case worker_effects.CheckReveal():
                return [worker_events.RevealChecked(at=at, task_id=task_id, can_reveal=True, message="")]
            case worker_effects.SubmitReveal():
                return [worker_events.RevealMined(at=at, task_id=task_id, tx_hash=None, block=None)]
            case _:
                raise AssertionError(effect)

    def gave_up(self, effect: Any, error: Exception) -> Sequence[Any]:
        raise AssertionError


class Scissors:
    """Cuts WebSockets at the server: whenever `when(n)` says so for the nth message of either direction.

    The message is lost with the connection, as when a cable is cut.
    """

    def __init__(self, app: ASGIApp, when: Callable[[int], bool]) -> None:
        self._app = app
        self._when = when
        self._messages = 0
        self.cuts = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
            return

        async def cut_receive() -> Message:
            message = await receive()
            if message["type"] == "websocket.receive" and self._is_cut():
                await send({"type": "websocket.close", "code": 1012})
                return {"type": "websocket.disconnect", "code": 1006}
            return message

        async def cut_send(message: Message) -> None:
            if message["type"] == "websocket.send" and self._is_cut():
                await send({"type": "websocket.close", "code": 1012})
                raise OSError("the cable is cut")
            await send(message)

        await self._app(scope, cut_receive, cut_send)

    def _is_cut(self) -> bool:
        self._messages += 1
        is_cut = self._when(self._messages)
        self.cuts += is_cut
        return is_cut


class SchedulerSide:
    """A scheduler that runs; `stop` ends it in order, `kill` as a crash does."""

    def __init__(
        self,
        store: MemoryStore,
        *,
        port: int = 0,
        silence_seconds: float = 60,
        results_url: str = RESULTS_URL,
        rules: Rules = DEFAULT_RULES,
        cut_when: Callable[[int], bool] = lambda _: False,
        health: Callable[[], Mapping[str, object]] = lambda: {"status": "ok"},
        bounds: SessionBounds = USUAL,
    ) -> None:
        self.store = store
        self._rules = rules
        self._listener = listen("127.0.0.1", port, setting="port")
        self.url = url_of(self._listener)
        self.port = int(self._listener.getsockname()[1])
        self.metrics = SchedulerMetrics()
        mailboxes: Mailboxes[Any] = Mailboxes(store)
        self.runner: Runner[Any, Any, Any] = Runner(
            SchedulerMind(check_invariants=True),
            SchedulerTwinHands(mailboxes),
            store,
            Clock(),
            lanes=LANES,
            observer=self.metrics,
        )
        self.sessions = Sessions(
            store=store,
            mailboxes=mailboxes,
            inbox=self.runner,
            pool=lambda: self.runner.state,
            hub=HubTwin(),  # type: ignore[arg-type]  # a twin with what is used here
            ledger=hash32("ledger"),
            results_url=results_url,
            silence_seconds=silence_seconds,
            chain_now=Clock().now,
            instruction_of=lambda effect: instruction_of(effect, OWNER),
            dispatched=self.metrics.dispatched,
            bounds=bounds,
        )
        self.metrics.look_at(
            Sights(
                pool=lambda: self.runner.state,
                sessions=self.sessions,
                in_flight=lambda: self.runner.in_flight,
                waiting=lambda: self.runner.waiting,
                stopped=lambda: len(self.runner.stopped_tasks),
                transactions=lambda: 2,
                money=lambda: (7, 3),
                fees_held=lambda: False,
                head=lambda: HEAD,
                followed=lambda: HEAD,
            )
        )
        api = SchedulerApi(
            pool=lambda: self.runner.state,
            store=store,
            sessions=self.sessions,
            token_key=b"k" * 32,
            chain_id=CHAIN_ID,
            workerpool=WORKERPOOL,
            operator=OperatorApi(
                pool=lambda: self.runner.state,
                tell=self.runner.put,
                chain_now=Clock().now,
                token_key=b"k" * 32,
                owner=OWNER.address,
            ),
            metrics=self.metrics.text,
            health=health,
        )
        self.scissors = Scissors(api.app(), cut_when)
        self._server = http_server(self.scissors)
        self._aio_tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        await self.runner.start()
        if self.runner.state.rules != self._rules:
            await self.runner.put(OperatorSetRules(at=Clock().now(), rules=self._rules))
        self.sessions.expect(self.runner.state.workers)
        self._aio_tasks = [
            asyncio.create_task(serve(self._server, self._listener)),
            asyncio.create_task(self.sessions.watch_silence()),
        ]

    async def stop(self) -> None:
        await self._close()
        await self.runner.stop()

    async def kill(self) -> MemoryStore:
        """Gone without a word; returns the store for the next life."""
        await self.runner.abort()
        heir = self.store.reopen()
        await self._close()
        return heir

    async def _close(self) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._aio_tasks[1].cancel()
        await asyncio.wait_for(self._aio_tasks[0], PATIENCE_SECONDS)

    async def told(self) -> Counter[str]:
        """What the mind was told by workers, by status; connections and silences by name."""
        counts: Counter[str] = Counter()
        async for event in self.store.replay():
            if event.kind == "WorkerReported":
                counts[str(event.body).split('"status":"')[1].split('"')[0]] += 1
            elif event.kind.startswith("Worker"):
                counts[event.kind] += 1
        return counts


class WorkerSide:
    """A worker that runs and stays connected."""

    def __init__(
        self,
        store: MemoryStore,
        *urls: str,
        http: aiohttp.ClientSession,
        key: bytes = b"\x02" * 32,
        journal: str = "journal",
        slots: int = 1,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.store = store
        self.wallet = Wallet(key)
        self.address = WorkerAddress(self.wallet.address)
        mailbox: Mailbox[Any] = Mailbox(store, "scheduler")
        self.mailbox = mailbox
        self.runner: Runner[Any, Any, Any] = Runner(
            WorkerMind(), WorkerTwinHands(mailbox), store, Clock(), lanes={"work": 4}
        )
        self.results_url: Latest[str] = Latest()
        self.logs: LogQueue = asyncio.Queue()
        self.link = SchedulerLink(
            core_urls=urls,
            http=http,
            wallet=self.wallet,
            chain_id=CHAIN_ID,
            workerpool=WORKERPOOL,
            capacity=capacity(slots=slots),
            journal=hash32(journal),
            store=store,
            inbox=self.runner,
            mailbox=mailbox,
            chain_now=Clock().now,
            results_url=self.results_url,
            logs=self.logs,
            pause=pause,
        )
        self.linked: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.runner.start()
        self.linked = asyncio.create_task(self.link.run())

    async def stop(self) -> None:
        await self._unlink()
        await self.runner.stop()

    async def kill(self) -> MemoryStore:
        await self.runner.abort()
        heir = self.store.reopen()
        await self._unlink()
        return heir

    async def _unlink(self) -> None:
        assert self.linked is not None
        self.linked.cancel()
        await asyncio.gather(self.linked, return_exceptions=True)

    async def told(self) -> Counter[str]:
        """Which instructions the worker's mind was told, by kind."""
        counts: Counter[str] = Counter()
        async for event in self.store.replay():
            if event.kind == "SchedulerInstructed":
                counts[str(event.body).split('"instruction":{"type":"')[1].split('"')[0]] += 1
        return counts


class Pairs:
    """Makes sides and ends them all."""

    def __init__(self, stack: AsyncExitStack, http: aiohttp.ClientSession) -> None:
        self._stack = stack
        self.http = http

    async def scheduler(self, store: MemoryStore | None = None, **settings: Any) -> SchedulerSide:
        side = SchedulerSide(store or MemoryStore(), **settings)
        await side.start()
        self._stack.push_async_callback(side.stop)
        return side

    async def worker(
        self,
        scheduler: SchedulerSide,
        store: MemoryStore | None = None,
        *,
        tried_before: str | None = None,
        **settings: Any,
    ) -> WorkerSide:
        """A worker of this scheduler; `tried_before` is the URL of another one that it tries first."""
        urls = [url for url in (tried_before, scheduler.url) if url]
        side = WorkerSide(store or MemoryStore(), *urls, http=self.http, **settings)
        await side.start()
        self._stack.push_async_callback(side.stop)
        return side


@asynccontextmanager
async def pairs() -> AsyncIterator[Pairs]:
    async with AsyncExitStack() as stack, aiohttp.ClientSession() as http:
        stack_of_sides = await stack.enter_async_context(AsyncExitStack())
        yield Pairs(stack_of_sides, http)


async def until(claim: Callable[[], object]) -> None:
    """Return when the claim holds. Fails after PATIENCE_SECONDS."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not claim():  # noqa: ASYNC110  # claims are about both ends, which do not know of the test
            await asyncio.sleep(0.005)


def task_hash(name: str) -> TaskId:
    return TaskId(Hash32(hash32(name)))
