"""A whole local network: how fast it is up, what it idles on, what it adds to chain and engine.

One fresh network, two workers, 1 s blocks, an app that does nothing. What the chain makes us wait for is
known: with trust 1 `initialize` and `contributeAndFinalize` follow one another, a block each; when two
workers have to agree it is `initialize`, `contribute`, `reveal` and `finalize`. So every transaction has a
*step*: the time from the block that made it possible to the moment the node has it. The containers' own run
time is measured in turn with the deals, driven straight through the engine's API with the same limits, as
many side by side as there are workers at work.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import aiohttp

from bench.harness import Figure, bench
from poolwright.chain.gas import GasPolicy
from poolwright.chain.heads import Heads
from poolwright.chain.reads import HubReader
from poolwright.chain.rpc import Rpc
from poolwright.chain.sender import MemoryTxJournal, TxSender
from poolwright.chain.wallet import Wallet
from poolwright.compute.docker import connect
from poolwright.compute.hardening import container_config, user_for
from poolwright.compute.images import BUSYBOX, build_image, context_tar, debian_rootfs
from poolwright.compute.port import ImageRef, Limits, RunSpec
from poolwright.devnet.anvil import Anvil
from poolwright.devnet.contracts import deploy
from poolwright.devnet.dealing import (
    Terms,
    Traded,
    match,
    open_wallet,
    random_salt,
    registered_app,
    signed_orders,
    unsigned_orders,
)
from poolwright.devnet.folder import StateFolder
from poolwright.devnet.record import NetworkRecord, read_network
from poolwright.poco import calls, ids
from poolwright.poco.records import TaskStatus
from poolwright.poco.types import Address, BlockNumber, DealId, Hash32, NRlc, TaskId

STARTS: Final = 3
DEALS: Final = 8
IMAGE: Final = "poolwright/bench-no-op"
DOCKERFILE: Final = """FROM scratch
ADD rootfs.tar /
COPY no-op.sh /
ENTRYPOINT ["/bin/busybox", "sh", "/no-op.sh"]
"""
SCRIPT: Final = """echo done > /iexec_out/result.txt
echo '{"deterministic-output-path": "/iexec_out/result.txt"}' > /iexec_out/computed.json
"""
NOWHERE: Final = Hash32.zero()
NOBODY: Final = Address.zero()
STEPS: Final = {
    calls.initialize(DealId(NOWHERE), 0)[:4]: "initialize",
    calls.contribute_and_finalize(TaskId(NOWHERE), NOWHERE, b"", b"", NOBODY, bytes(65), bytes(65))[
        :4
    ]: "close",
    calls.contribute(TaskId(NOWHERE), NOWHERE, NOWHERE, NOBODY, bytes(65), bytes(65))[:4]: "contribute",
    calls.reveal(TaskId(NOWHERE), NOWHERE)[:4]: "reveal",
    calls.finalize(TaskId(NOWHERE), b"", b"")[:4]: "finalize",
}
"""The transactions of a task, by selector; `close` is contributeAndFinalize."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How tasks end that ask for so much trust."""

    name: str
    trust: int
    workers: int
    """How many have to agree."""
    steps: tuple[str, ...]
    """The task's transactions, in their order."""


ALONE: Final = Way(name="deal", trust=1, workers=1, steps=("initialize", "close"))
AGREED: Final = Way(
    name="deal.agreed", trust=4, workers=2, steps=("initialize", "contribute", "reveal", "finalize")
)
PORTS: Final = (
    "--chain-port",
    "0",
    "--results-port",
    "0",
    "--scheduler-port",
    "0",
    "--market-port",
    "0",
)
TERMS: Final = Terms(
    tasks=1,
    trust=1,
    category=0,
    arguments="",
    app_price=NRlc(1),
    dataset_price=NRlc(0),
    pool_price=NRlc(100),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """One deal: the blocks it took, and the milliseconds of each step."""

    blocks: int
    steps: Mapping[str, float]


class Ears:
    """Hears blocks and pending transactions the moment the node has them."""

    def __init__(self) -> None:
        self.last_block = 0.0
        self.steps: dict[str, float] = {}
        """Seconds from the latest block to the transaction, by step; the newest of each."""

    async def listen(self, http: aiohttp.ClientSession, url: str, rpc: Rpc) -> None:
        async with http.ws_connect(url.replace("http", "ws", 1)) as socket:
            for number, topic in enumerate(("newHeads", "newPendingTransactions"), start=1):
                await socket.send_json(
                    {"jsonrpc": "2.0", "id": number, "method": "eth_subscribe", "params": [topic]}
                )
            async for message in socket:
                heard_at = time.monotonic()
                result = json.loads(message.data).get("params", {}).get("result")
                if isinstance(result, dict):
                    self.last_block = heard_at
                elif isinstance(result, str):
                    since = heard_at - self.last_block
                    transaction = await rpc.call("eth_getTransactionByHash", result)
                    self._note(transaction, since)

    def _note(self, transaction: Any, since: float) -> None:
        step = STEPS.get(bytes.fromhex(transaction["input"][2:10])) if transaction else None
        if step is not None:
            self.steps[step] = since


@bench("network")
def network() -> Iterator[Figure]:
    """Bring a network up, let it idle, run deals on it, take it down."""
    with tempfile.TemporaryDirectory(prefix="poolwright-bench-") as folder:
        state = Path(folder) / "network"
        try:
            floor = statistics.median(_python_start() for _ in range(STARTS))
            _up(state)  # cold: files and their caches
            ready_seconds = statistics.median(_up(state) for _ in range(STARTS))
            record = read_network(StateFolder(state))
            assert record is not None
            yield Figure(
                name="up.ready",
                value=ready_seconds,
                unit="s",
                floor=floor,
                goal="under 5 s",
                is_met=ready_seconds < 5,
            )
            yield _chain_with_contracts()
            yield from _idle_memory(state)
            for way in (ALONE, AGREED):
                yield from asyncio.run(_deals(record, state / "logs", way))
        finally:
            _poolwright("down", "--state", state)


def _poolwright(*words: object) -> str:
    command = [str(Path(sys.executable).with_name("poolwright")), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr[-2000:]}")
    return done.stdout


def _up(state: Path) -> float:
    """Seconds from the command to a fresh network whose every part answers."""
    _poolwright("down", "--state", state)
    started = time.monotonic()
    _poolwright("up", "--detach", "--state", state, "--fresh", *PORTS)
    return time.monotonic() - started


def _python_start() -> float:
    """Seconds for one Python process to import the daemons' libraries: the floor of `up`."""
    libraries = "aiohttp, starlette.applications, uvicorn, coincurve, structlog, alembic.command, socketio"
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", f"import {libraries}"], timeout=60, check=True)
    return time.monotonic() - started


def _chain_with_contracts() -> Figure:
    """anvil from nothing to answering, and all contracts in it; the floor is anvil alone."""
    alone, whole = [], []
    for _ in range(5):
        started = time.monotonic()
        with Anvil.start() as anvil:
            alone.append(time.monotonic() - started)
            deploy(anvil.url)
            whole.append(time.monotonic() - started)
    value = min(whole)
    return Figure(
        name="up.chain", value=value, unit="s", floor=min(alone), goal="under 1 s", is_met=value < 1
    )


def _idle_memory(state: Path) -> Iterator[Figure]:
    """Resident memory; a forked daemon's has in it what only other daemons use (ADR 0032)."""
    parts = json.loads(_poolwright("status", "--json", "--state", state))["parts"]
    bare = _bare_process_mib()
    for name, limit in (("scheduler", 150), ("worker-1", 120)):
        pid = next(part["pid"] for part in parts if part["name"] == name)
        value = _resident_mib(pid)
        yield Figure(
            name=f"idle.{name}",
            value=value,
            unit="MiB",
            floor=bare,
            goal=f"under {limit} MiB",
            is_met=value < limit,
        )


def _bare_process_mib() -> float:
    """A Python process with the HTTP libraries and nothing of ours."""
    code = (
        "import aiohttp, starlette.applications, uvicorn, coincurve, structlog, sys; "
        "print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        value = _resident_mib(process.pid)
        process.kill()
    return value


def _resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))


async def _deals(record: NetworkRecord, logs: Path, way: Way) -> list[Figure]:
    image = await _no_op_image()
    async with AsyncExitStack() as stack:
        rpc = await stack.enter_async_context(Rpc([record.chain_url]))
        heads = await stack.enter_async_context(Heads(rpc, poll_seconds=0.05))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        hub = HubReader(rpc, record.hub)
        requester, provider, manager = [
            await open_wallet(record, name) for name in ("requester", "provider", "manager")
        ]

        async def sender(wallet: Wallet) -> TxSender:
            journal = MemoryTxJournal()
            made = TxSender(rpc, wallet, record.chain_id, journal, GasPolicy(), heads=heads)
            return await stack.enter_async_context(made)

        buys, sells = await sender(requester), await sender(provider)
        app, _ = await registered_app(hub, record, sells, name="no-op", image=image)
        traded = Traded(app=app, dataset=Address.zero(), workerpool=record.workerpool)
        domain = await hub.domain()
        ears = Ears()
        listening = asyncio.create_task(ears.listen(http, record.chain_url, rpc))
        stack.callback(listening.cancel)
        terms = replace(TERMS, trust=way.trust)
        watched: list[Watched] = []
        direct: list[float] = []
        for number in range(DEALS + 1):
            direct.append(max(await asyncio.gather(*(_straight_run(image) for _ in range(way.workers)))))
            orders = signed_orders(
                unsigned_orders(traded, terms, requester.address, random_salt()),
                domain,
                provider=provider,
                manager=manager,
                requester=requester,
            )
            deal_id, receipt = await match(hub, orders, domain, buys)
            task_id = ids.task_id(deal_id, 0)
            seen = await _watch(hub, heads, ears, task_id, receipt.block.number)
            if number:  # the first one warms the caches of all
                watched.append(seen)
        return _figures(way, watched, direct[1:], _worker_times(logs, with_upload=way is ALONE))


async def _watch(
    hub: HubReader, heads: Heads, ears: Ears, task_id: TaskId, deal_block: BlockNumber
) -> Watched:
    """Wait until the task is COMPLETED on the chain."""
    async with asyncio.timeout(60):
        number: int | None = deal_block
        while True:
            head = await heads.beyond(number)
            number = head.number
            task = await hub.task(task_id, at=head)
            if task.status is TaskStatus.COMPLETED:
                if task.result_digest != Hash32(sha256(b"done\n").digest()):
                    raise RuntimeError(f"the no-op app failed: {task.results.decode()}")
                steps = {step: seconds * 1000 for step, seconds in ears.steps.items()}
                return Watched(blocks=head.number - deal_block, steps=steps)


async def _no_op_image() -> ImageRef:
    rootfs = await asyncio.to_thread(debian_rootfs, BUSYBOX)
    with tempfile.NamedTemporaryFile("w", suffix=".sh") as script:
        script.write(SCRIPT)
        script.flush()
        os.fchmod(script.fileno(), 0o644)
        context = context_tar(DOCKERFILE, [("rootfs.tar", rootfs), ("no-op.sh", Path(script.name))])
        try:
            return await build_image(f"{IMAGE}:1", context)
        finally:
            context.unlink()


async def _straight_run(image: ImageRef) -> float:
    """Seconds of create, start, wait and the read of the log, with the worker's own limits."""
    with tempfile.TemporaryDirectory(prefix="poolwright-bench-") as folder:
        output = Path(folder) / "out"
        output.mkdir(mode=0o777)
        output.chmod(0o777)
        spec = RunSpec(
            task_id=TaskId(random_salt()),
            image=image.name,
            input_dir=Path(folder),
            output_dir=output,
            log_dir=Path(folder),
            limits=Limits(execution_seconds=60),
        )
        user = user_for(worker_uid=os.geteuid(), rootless=False)
        config = container_config(spec, labels={}, user=user)
        async with connect() as docker:
            started = time.monotonic()
            container = await docker.containers.create(config)
            waiting = asyncio.create_task(container.wait(condition="next-exit"))
            await container.start()
            await waiting
            await container.log(stdout=True, stderr=True)
            seconds = time.monotonic() - started
            await container.delete(force=True)
        return seconds


def _worker_times(logs: Path, *, with_upload: bool) -> list[float]:
    """Milliseconds from each instruction to start until the contribution may be sent, by the workers.

    Of the tasks whose result is uploaded in that time, or of the others.
    """
    times = []
    for log in logs.glob("worker-*.log"):
        started, has_upload = 0.0, False
        for line in log.read_text().splitlines():
            entry = json.loads(line)
            if entry.get("event") != "step":
                continue
            at = datetime.fromisoformat(entry["timestamp"]).timestamp() * 1000
            effects = entry.get("effects", ())
            if "DescribeTask" in effects:
                started, has_upload = at, False
            has_upload = has_upload or "DeliverResult" in effects
            if entry["kind"] == "ContributionChecked" and has_upload is with_upload:
                times.append(at - started)
    return times


def _figures(
    way: Way, watched: list[Watched], straight: list[float], worker_times: list[float]
) -> list[Figure]:
    blocks = [seen.blocks for seen in watched]
    container = statistics.median(straight) * 1000
    figures = [
        Figure(
            name=f"{way.name}.blocks",
            value=statistics.median(blocks),
            unit="blocks",
            floor=len(way.steps),
            goal="no more than 6",
            is_met=max(blocks) <= 6,
        )
    ]
    for step in way.steps:
        value = statistics.median(seen.steps[step] for seen in watched)
        floor = container if step in ("contribute", "close") else 0.0
        figures.append(
            Figure(
                name=f"{way.name}.{step}",
                value=value,
                unit="ms",
                floor=floor,
                goal="under 100 ms beyond " + ("the container" if floor else "the block"),
                is_met=value - floor < 100,
            )
        )
    figures.append(
        Figure(
            name="worker.no-op_with_upload" if way is ALONE else "worker.no-op",
            value=statistics.median(worker_times),
            unit="ms",
            floor=container,
            goal="under 10 % above the container" + (", and the upload" if way is ALONE else ""),
            is_met=statistics.median(worker_times) < 1.1 * container,
        )
    )
    return figures
