"""One scheduler process and many connected workers, over loopback.

The scheduler is the real one from its WebSocket door to its SQLite store on the working folder's disk:
sessions, codec, runner, mind, outbox, signed authorizations. What it knows of the chain is given to it. The
workers are sockets in a process of their own that speak the real protocol; their engine computes by waiting.

`fleet.memory`, `fleet.cpu`: 10,000 workers that only send their heartbeats. Floors: the same process before
anybody connects; and the CPU share of decoding as many heartbeats, without anything around.

`fleet.slot_*`: 1,000 workers with one slot each and more tasks than slots; from the report that a container
has ended to the instruction for the next one, as the worker's clock sees it. Floor: appending and flushing
the bytes of two events, which such an answer has to wait for.

`FLEET_WORKERS` and `FLEET_BUSY` in the environment make it smaller, to try it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import aiohttp
import structlog
from tests.factories import TO_COMPUTED

from bench.harness import Figure, bench
from poolwright.chain.wallet import Wallet
from poolwright.daemons.doors import http_server
from poolwright.daemons.mailbox import Mailboxes
from poolwright.daemons.operator_api import OperatorApi
from poolwright.daemons.runner import Runner
from poolwright.daemons.scheduler_api import SchedulerApi
from poolwright.daemons.scheduler_hands import LANES, TX_LANE, instruction_of
from poolwright.daemons.scheduler_mind import SchedulerMind
from poolwright.daemons.sessions import Sessions, lane_of
from poolwright.poco import ids
from poolwright.poco.errors import InvariantBroken, PoolwrightError
from poolwright.poco.keccak import keccak
from poolwright.poco.tags import NO_TAG
from poolwright.poco.types import (
    Address,
    BlockNumber,
    DealId,
    Hash32,
    NRlc,
    Seconds,
    TaskId,
    Timestamp,
    TxHash,
    WorkerAddress,
)
from poolwright.scheduler import events
from poolwright.scheduler.effects import Effect, Submit, VerifyUpload, identity
from poolwright.scheduler.pool import Pool
from poolwright.serving.garbage import keep_what_is_loaded
from poolwright.serving.http import listen, serve, url_of
from poolwright.store.port import EffectId
from poolwright.store.sqlite import SqliteStore
from poolwright.wire import codec
from poolwright.wire.login import make_token
from poolwright.wire.messages import (
    PROTOCOL,
    Capacity,
    Confirm,
    Heartbeat,
    Hello,
    Instructed,
    Reported,
    SchedulerMessage,
    Start,
    Welcome,
    WorkerMessage,
)
from poolwright.wire.statuses import ReplicateStatus

S = ReplicateStatus
GOAL_MEMORY_MIB, GOAL_CPU = 1_024, 0.5
GOAL_MEDIAN_MS, GOAL_P99_MS = 50, 200
WORKERS = int(os.environ.get("FLEET_WORKERS", "10000"))
BUSY_WORKERS = int(os.environ.get("FLEET_BUSY", "1000"))
QUIET_SECONDS, BUSY_SECONDS = 30.0, 20.0
COMPUTING_SECONDS = 10.0
"""How long a task computes on average: a busy fleet frees a tenth of its slots each second."""
SILENCE_SECONDS = 60
CONNECTING_AT_ONCE = 100
TIMEOUT_SECONDS = 600
KEY, POOL, OWNER = b"k" * 32, Address(b"\x11" * 20), Wallet(b"\x01" * 32)


# The scheduler's process ---------------------------------------------------------------------------


class _Hub:
    async def score(self, worker: Address) -> int:
        return 0


class _Clock:
    def now(self) -> Timestamp:
        return Timestamp(int(time.time()))

    async def wait_until(self, at: Timestamp) -> None:
        await asyncio.sleep(max(at - time.time(), 0))


class _Hands:
    """Messages go out; transactions are on their way for ever, as no chain is there."""

    def __init__(self, mailboxes: Mailboxes[object]) -> None:
        self._mailboxes = mailboxes

    def lane_of(self, effect: Effect) -> str:
        return TX_LANE if isinstance(effect, Submit | VerifyUpload) else lane_of(effect.worker)

    def key_of(self, effect: Effect) -> str:
        return identity(effect)

    def post(self, effect: Effect, number: EffectId) -> None:
        assert not isinstance(effect, Submit | VerifyUpload)
        self._mailboxes.of(lane_of(effect.worker)).post(number, effect)

    async def carry_out(self, effect: Effect, effect_id: EffectId) -> Sequence[events.PoolEvent]:
        return []

    def gave_up(self, effect: Effect, error: PoolwrightError) -> Sequence[events.PoolEvent]:
        raise InvariantBroken("nothing fails here")


def _deal(number: int, tasks: int) -> list[events.PoolEvent]:
    """A bag of tasks, bought and initialized."""
    at = _Clock().now()
    deal_id = DealId(Hash32(keccak(b"deal %d" % number)))
    ref = events.ChainRef(block=BlockNumber(1), tx_hash=TxHash(Hash32(deal_id)))
    terms = events.DealTerms(
        deal_id=deal_id,
        start_time=at,
        timeref=Seconds(36_000),
        trust=1,
        tag=NO_TAG,
        bot_first=0,
        bot_size=tasks,
        requester=OWNER.address,
        app=POOL,
        has_callback=False,
        workerpool_price=NRlc(0),
    )
    starts = [
        events.ChainTaskInitialized(at=at, task_id=ids.task_id(deal_id, index), ref=ref)
        for index in range(tasks)
    ]
    return [events.ChainDealMatched(at=at, terms=terms, ref=ref), *starts]


async def _no_metrics() -> bytes:
    return b""


async def _run_scheduler(folder: Path, deals: int) -> None:
    """Serve until SIGTERM; the first line on standard output is the URL."""
    listener = listen("127.0.0.1", 0, setting="port")
    store = await SqliteStore.open(folder / "fleet.sqlite")
    mailboxes: Mailboxes[object] = Mailboxes(store)
    runner: Runner[Pool, events.PoolEvent, Effect] = Runner(
        SchedulerMind(), _Hands(mailboxes), store, _Clock(), lanes=LANES
    )
    await runner.start()
    for number in range(deals):
        await runner.put(*_deal(number, 500))
    keep_what_is_loaded()
    sessions = Sessions(
        store=store,
        mailboxes=mailboxes,  # type: ignore[arg-type]  # of messages only
        inbox=runner,
        pool=lambda: runner.state,
        hub=_Hub(),  # type: ignore[arg-type]  # all that is asked of it
        ledger=Hash32(keccak(b"ledger")),
        results_url="http://127.0.0.1:1",
        silence_seconds=SILENCE_SECONDS,
        chain_now=_Clock().now,
        instruction_of=lambda effect: instruction_of(effect, OWNER),
    )
    operator = OperatorApi(
        pool=lambda: runner.state,
        tell=runner.put,
        chain_now=_Clock().now,
        token_key=KEY,
        owner=OWNER.address,
    )
    api = SchedulerApi(
        pool=lambda: runner.state,
        store=store,
        sessions=sessions,
        token_key=KEY,
        chain_id=1,
        workerpool=POOL,
        operator=operator,
        metrics=_no_metrics,
        health=lambda: {"status": "ok"},
    )
    print(url_of(listener), flush=True)
    watching = asyncio.create_task(sessions.watch_silence())
    await serve(http_server(api.app()), listener)
    watching.cancel()
    await runner.stop()
    await store.close()


# The workers' process ------------------------------------------------------------------------------


class _Fleet:
    """Many workers; `waits` are the seconds from a freed slot to the next instruction to start."""

    def __init__(self, http: aiohttp.ClientSession, url: str, slots: int) -> None:
        self._http, self._url, self._slots = http, url, slots
        self.connected = 0
        self.waits: list[float] = []
        self.chance = random.Random(1)

    async def worker(self, number: int, gate: asyncio.Semaphore) -> None:
        wallet = WorkerAddress(Address(keccak(b"worker %d" % number)[:20]))
        headers = {"Authorization": f"Bearer {make_token(KEY, wallet, int(time.time()))}"}
        async with gate:
            socket = await self._http.ws_connect(f"{self._url}/workers/connect", headers=headers)
            capacity = Capacity(
                name=f"worker-{number}", version="0.2.0", slots=self._slots, cpus=4, memory_gib=8
            )
            hello = Hello(
                protocol=PROTOCOL, journal=Hash32(keccak(wallet)), ledger=None, received=0, capacity=capacity
            )
            await _send(socket, hello)
            welcome = await _receive(socket)
            assert isinstance(welcome, Welcome), welcome
        self.connected += 1
        beating = asyncio.create_task(self._beat(socket, welcome.heartbeat_seconds))
        try:
            await self._work(socket)
        finally:
            beating.cancel()

    async def _beat(self, socket: aiohttp.ClientWebSocketResponse, seconds: int) -> None:
        await asyncio.sleep(self.chance.random() * seconds)  # they did not all start in one moment
        while True:
            await _send(socket, Heartbeat())
            await asyncio.sleep(seconds)

    async def _work(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        sequence, freed_at = 0, 0.0
        computing: set[asyncio.Task[None]] = set()

        async def compute(task_id: TaskId) -> None:
            nonlocal sequence, freed_at
            for status in TO_COMPUTED:
                if status is S.COMPUTED:
                    await asyncio.sleep(self.chance.uniform(0.5, 1.5) * COMPUTING_SECONDS)
                    freed_at = time.monotonic()
                sequence += 1
                await _send(socket, Reported(sequence=sequence, task_id=task_id, status=status))

        try:
            while True:
                message = await _receive(socket)
                if isinstance(message, Instructed):
                    if freed_at:
                        self.waits.append(time.monotonic() - freed_at)
                    if isinstance(message.instruction, Start):
                        work = asyncio.create_task(compute(message.instruction.task_id))
                        computing.add(work)
                        work.add_done_callback(computing.discard)
                    await _send(socket, Confirm(upto=message.sequence))
        finally:
            for work in computing:
                work.cancel()


async def _send(socket: aiohttp.ClientWebSocketResponse, message: WorkerMessage) -> None:
    await socket.send_str(codec.encode(message).decode())


async def _receive(socket: aiohttp.ClientWebSocketResponse) -> SchedulerMessage:
    message: SchedulerMessage = codec.decode(SchedulerMessage, await socket.receive_str())
    return message


async def _run_workers(url: str, pid: int, count: int, slots: int, seconds: float) -> None:
    """Connect all, let them be for a while, and print what that cost the scheduler, as JSON."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as http:
        fleet, gate = _Fleet(http, url, slots), asyncio.Semaphore(CONNECTING_AT_ONCE)
        workers = [asyncio.create_task(fleet.worker(number, gate)) for number in range(count)]
        while fleet.connected < count:
            failed = [worker for worker in workers if worker.done()]
            if failed:
                failed[0].result()
                raise InvariantBroken("a worker's connection ended")
            await asyncio.sleep(0.1)
        await asyncio.sleep(min(seconds / 4, 5.0))  # the rush of the beginning is over
        fleet.waits.clear()
        used, started = _cpu_seconds(pid), time.monotonic()
        await asyncio.sleep(seconds)
        figures = {
            "cpu": (_cpu_seconds(pid) - used) / (time.monotonic() - started),
            "mib": _resident_mib(pid),
            "connected": sum(not worker.done() for worker in workers),
            "waits": sorted(fleet.waits),
        }
        print(json.dumps(figures), flush=True)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1024**2


# The benchmark -------------------------------------------------------------------------------------


def _measure(workers: int, slots: int, deals: int, seconds: float) -> tuple[dict[str, float], list[float]]:
    """Run both processes; the scheduler's figures and the sorted waits in seconds."""
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=Path.cwd()) as folder:
        scheduler = _child("scheduler", folder, str(deals))
        try:
            assert scheduler.stdout is not None
            url = scheduler.stdout.readline().strip()
            alone = _resident_mib(scheduler.pid)
            loading = _child("workers", url, str(scheduler.pid), str(workers), str(slots), str(seconds))
            try:
                told = json.loads(loading.communicate(timeout=TIMEOUT_SECONDS)[0] or "{}")
            finally:
                loading.kill()
                loading.wait()
        finally:
            scheduler.send_signal(signal.SIGTERM)
            try:
                scheduler.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                scheduler.kill()
                scheduler.communicate()
    if not told or told["connected"] < workers:
        raise InvariantBroken(f"expected {workers} workers to stay connected, got {told.get('connected', 0)}")
    waits = told.pop("waits")
    return {**told, "alone": alone}, waits


def _child(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bench.fleet", *words], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )


def _heartbeat_floor(workers: int) -> float:
    """The CPU share of decoding the heartbeats of so many workers."""
    text, count = codec.encode(Heartbeat()), 20_000
    started = time.process_time()
    for _ in range(count):
        codec.decode(WorkerMessage, text)
    return (time.process_time() - started) / count * workers / (SILENCE_SECONDS // 4)


def _flush_floor_ms() -> float:
    """Milliseconds to append and flush the bytes of two events, as the middle of many."""
    times = []
    with tempfile.NamedTemporaryFile(prefix=".bench-", dir=Path.cwd(), buffering=0) as file:
        for _ in range(200):
            started = time.perf_counter()
            file.write(b"x" * 2_000)
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - started)
    return sorted(times)[100] * 1000


@bench("fleet")
def fleet() -> Iterator[Figure]:
    """What many connected workers cost a scheduler, and how soon a freed slot has work again."""
    cost, _ = _measure(WORKERS, 0, 0, QUIET_SECONDS)
    yield Figure(
        name="fleet.memory",
        value=cost["mib"],
        unit="MiB",
        floor=cost["alone"],
        goal=f"under {GOAL_MEMORY_MIB:,} with {WORKERS:,} workers",
        is_met=cost["mib"] < GOAL_MEMORY_MIB,
    )
    yield Figure(
        name="fleet.cpu",
        value=cost["cpu"],
        unit="cores",
        floor=_heartbeat_floor(WORKERS),
        goal=f"under {GOAL_CPU} with {WORKERS:,} workers",
        is_met=cost["cpu"] < GOAL_CPU,
    )
    tasks_wanted = BUSY_WORKERS * (3 + 2 * BUSY_SECONDS / COMPUTING_SECONDS)
    _, waits = _measure(BUSY_WORKERS, 1, int(tasks_wanted / 500) + 1, BUSY_SECONDS)
    floor = _flush_floor_ms()
    for name, share, goal in (
        ("fleet.slot_median", 0.5, GOAL_MEDIAN_MS),
        ("fleet.slot_p99", 0.99, GOAL_P99_MS),
    ):
        wait = waits[min(int(len(waits) * share), len(waits) - 1)] * 1000
        yield Figure(
            name=name,
            value=wait,
            unit="ms",
            floor=floor,
            goal=f"under {goal} with {BUSY_WORKERS:,} workers",
            is_met=wait < goal,
        )


def _main() -> None:
    """A child of the benchmark."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    match sys.argv[1:]:
        case ["scheduler", folder, deals]:
            asyncio.run(_run_scheduler(Path(folder), int(deals)))
        case ["workers", url, pid, count, slots, seconds]:
            asyncio.run(_run_workers(url, int(pid), int(count), int(slots), float(seconds)))


if __name__ == "__main__":
    _main()
