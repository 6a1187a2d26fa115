"""Two real schedulers on one PostgreSQL, chain and worker: the leader goes in the middle of a task."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import tarfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from buyers import RLC, buy
from databases import Cluster, postgresql
from poolwright.chain.gas import GasPolicy
from poolwright.chain.heads import Heads
from poolwright.chain.journal import TxPhase, TxRecord
from poolwright.chain.reads import HubReader
from poolwright.chain.rpc import Rpc
from poolwright.chain.sender import MemoryTxJournal, TxSender
from poolwright.compute.images import BUSYBOX, build_image, context_tar, debian_rootfs
from poolwright.compute.port import ImageRef
from poolwright.daemons.tx_journal import PENDING, SETTLED
from poolwright.devnet import dealing, engine, processes, toolchain
from poolwright.devnet.anvil import Anvil, AnvilSettings, free_port
from poolwright.devnet.folder import StateFolder
from poolwright.devnet.node import Node
from poolwright.devnet.parts import (
    Ports,
    Program,
    inherited_environment,
    poolwright_command,
    results_program,
    scheduler_program,
    worker_program,
)
from poolwright.devnet.provision import Services, provision
from poolwright.devnet.record import NetworkRecord
from poolwright.poco import ids
from poolwright.poco.records import OnchainTask, TaskStatus
from poolwright.poco.types import Address, TaskId
from poolwright.store.postgresql_reads import PostgresReads
from poolwright.wire import codec

pytestmark = [pytest.mark.devnet, pytest.mark.chain, pytest.mark.engine]

PATIENCE_SECONDS = 150
TAKEOVER_SECONDS = 30
"""More than three times what is promised: this machine may be slow. The measured time is in the output."""
IMAGE = "127.0.0.1:9/poolwright/test-standby:1"
SCRIPT = """sleep 6
echo done > /iexec_out/result
echo '{"deterministic-output-path": "/iexec_out/result"}' > /iexec_out/computed.json
"""
DOCKERFILE = """FROM scratch
ADD rootfs.tar /
ADD script.tar /
ENTRYPOINT ["/bin/busybox", "sh", "/script"]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What the schedulers stand on: a chain with its contracts, a result repository, an app's image."""

    folder: StateFolder
    ports: Ports
    record: NetworkRecord
    image: ImageRef


@dataclass
class Process:
    """A daemon that runs, with its log."""

    popen: subprocess.Popen[bytes]
    log: Path
    url: str = ""

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def stop(self) -> None:
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGCONT)
            self.popen.terminate()
            try:
                self.popen.wait(20)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()


@dataclass
class Scene:
    """One store, the daemons of one test, and the eyes of the requester."""

    ground: Ground
    store_url: str
    folder: StateFolder
    http: aiohttp.ClientSession
    hub: HubReader
    heads: Heads
    stack: AsyncExitStack
    app: Address
    requester: TxSender
    started: list[Process] = field(default_factory=list)

    def start(self, name: str, program: Program, **settings: str) -> Process:
        popen = processes.spawn(
            poolwright_command(*program.words),
            environment=inherited_environment(os.environ)
            | program.environment(self.ground.record)
            | settings,
            folder=self.folder.root,
            log=self.folder.log(name),
        )
        process = Process(popen, self.folder.log(name), program.url)
        self.stack.callback(process.stop)
        return process

    def start_scheduler(self, name: str) -> Process:
        ports = replace(self.ground.ports, scheduler=free_port())
        return self.start(
            name,
            scheduler_program(self.folder, ports),
            POOLWRIGHT_STORE_URL=self.store_url,
            POOLWRIGHT_CONTRIBUTE_AND_FINALIZE="false",  # the scheduler has to finalize
        )

    def start_worker(self, *schedulers: Process) -> Process:
        program = worker_program(
            self.folder,
            self.ground.ports,
            1,
            slots=1,
            engine=engine.require(),
            record_of=lambda: self.ground.record,
        )
        return self.start("worker", program, IEXEC_CORE_URL=",".join(each.url for each in schedulers))

    async def ask(self, process: Process, path: str) -> dict[str, Any]:
        """The JSON of an answer; empty when there is none."""
        try:
            timeout = aiohttp.ClientTimeout(total=2)
            async with self.http.get(process.url + path, timeout=timeout) as answer:
                return dict(await answer.json())
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return {}

    async def until(self, process: Process, path: str, holds: Callable[[dict[str, Any]], object]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not holds(await self.ask(process, path)):
                assert process.popen.poll() is None, process.log.read_text()[-3_000:]
                await asyncio.sleep(0.1)

    async def until_role(self, process: Process, role: str) -> None:
        await self.until(process, "/health", lambda told: told.get("role") == role)

    async def buy(self) -> TaskId:
        deal_id, _ = await buy(self.hub, self.ground.record, self.requester, self.app)
        return ids.task_id(deal_id, 0)

    async def until_computing(self, leader: Process, task_id: TaskId) -> None:
        def is_computing(told: dict[str, Any]) -> bool:
            return any(
                update["status"] == "APP_DOWNLOADED"
                for replicate in told.get("replicates", [])
                for update in replicate["statusUpdateList"]
            )

        await self.until(leader, f"/tasks/{task_id}", is_computing)

    async def ended(self, task_id: TaskId) -> OnchainTask:
        async with asyncio.timeout(PATIENCE_SECONDS):
            number: int | None = None
            while (task := await self.hub.task(task_id)).status < TaskStatus.COMPLETED:
                number = (await self.heads.beyond(number)).number
        return task

    async def takeover(self, successor: Process, since: float) -> None:
        """Wait until it leads; say how long that took."""
        await self.until_role(successor, "leader")
        seconds = time.monotonic() - since
        print(f"takeover after {seconds:.1f} s")
        assert seconds < TAKEOVER_SECONDS

    async def paid(self) -> dict[str, int]:
        """What each party has in its account of the hub, nRLC."""
        found = {}
        for name in ("requester", "worker-1", "manager"):
            account = await self.hub.account(self.ground.record.wallets[name].address)
            found[name] = account.stake + account.locked
        return found

    def nonce(self) -> int:
        with Node(self.ground.record.chain_url) as node:
            manager = self.ground.record.wallets["manager"].address
            return int(node.call("eth_getTransactionCount", str(manager), "pending"), 16)

    async def logged(self) -> dict[int, str]:
        """The kinds of the events in the store, by id."""
        reads = await PostgresReads.open(self.store_url)
        kinds = {int(event.id): event.kind async for event in reads.replay()}
        await reads.close()
        return kinds

    async def journal(self) -> list[TxRecord]:
        """The manager's transactions as the store has them, in the order of their nonces."""
        reads = await PostgresReads.open(self.store_url)
        bodies = [body for kind in (PENDING, SETTLED) for body in (await reads.records(kind)).values()]
        await reads.close()
        return sorted((codec.decode(TxRecord, body) for body in bodies), key=lambda record: record.nonce)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with postgresql() as made:
        yield made


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> ImageRef:
    path = tmp_path_factory.mktemp("image") / "script.tar"
    with tarfile.open(path, "w") as out:
        entry = tarfile.TarInfo("script")
        entry.mode, entry.size = 0o644, len(SCRIPT)
        out.addfile(entry, BytesIO(SCRIPT.encode()))
    context = context_tar(DOCKERFILE, [("rootfs.tar", debian_rootfs(BUSYBOX)), ("script.tar", path)])
    try:
        return asyncio.run(build_image(IMAGE, context))
    finally:
        context.unlink()


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory, image: ImageRef) -> Iterator[Ground]:
    toolchain.ensure(print)
    folder = StateFolder(tmp_path_factory.mktemp("standby") / "net")
    folder.create()
    ports = Ports(chain=free_port(), results=free_port(), scheduler=free_port(), market=free_port())
    anvil = Anvil.start(AnvilSettings(port=ports.chain, block_time=1.0))
    try:
        services = Services(
            block_time=1.0,
            chain_url=ports.chain_url,
            results_url=ports.results_url,
            scheduler_url=ports.scheduler_url,
            market_url=ports.market_url,
        )
        record = provision(folder, services, workers=1, previous=None)
        program = results_program(folder, ports)
        environment = inherited_environment(os.environ) | program.environment(record)
        results = processes.spawn(
            poolwright_command(*program.words),
            environment=environment,
            folder=folder.root,
            log=folder.log("results"),
        )
        try:
            yield Ground(folder=folder, ports=ports, record=record, image=image)
        finally:
            Process(results, folder.log("results")).stop()
    finally:
        anvil.stop()


@asynccontextmanager
async def staged(ground: Ground, cluster: Cluster, folder: Path) -> AsyncIterator[Scene]:
    record = ground.record
    mine = StateFolder(folder)
    mine.create()
    async with AsyncExitStack() as stack:
        rpc = await stack.enter_async_context(Rpc([record.chain_url]))
        heads = await stack.enter_async_context(Heads(rpc, poll_seconds=0.2))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        hub = HubReader(rpc, record.hub)

        async def sender(name: str) -> TxSender:
            wallet = await dealing.open_wallet(record, name)
            made = TxSender(rpc, wallet, record.chain_id, MemoryTxJournal(), GasPolicy(), heads=heads)
            return await stack.enter_async_context(made)

        provider = await sender("provider")
        app, _ = await dealing.registered_app(hub, record, provider, name="slow", image=ground.image)
        yield Scene(
            ground=ground,
            store_url=cluster.database(),
            folder=mine,
            http=http,
            hub=hub,
            heads=heads,
            stack=stack,
            app=app,
            requester=await sender("requester"),
        )


@pytest.fixture
async def scene(ground: Ground, cluster: Cluster, tmp_path: Path) -> AsyncIterator[Scene]:
    async with staged(ground, cluster, tmp_path / "scene") as made:
        yield made


async def cast(scene: Scene) -> tuple[Process, Process]:
    """A leader, a standby, and a worker that knows both and tries the standby first."""
    leader = scene.start_scheduler("first")
    await scene.until_role(leader, "leader")
    standby = scene.start_scheduler("second")
    await scene.until_role(standby, "standby")
    told = await scene.ask(standby, "/health")
    assert leader.url in told["leader"]
    scene.start_worker(standby, leader)
    return leader, standby


async def check_paid_once(scene: Scene, task_id: TaskId, before: dict[str, int], nonce_before: int) -> None:
    """The task is closed, its price has changed hands once, and every transaction did its work."""
    task = await scene.ended(task_id)
    assert task.status is TaskStatus.COMPLETED
    assert task.contributors == (scene.ground.record.wallets["worker-1"].address,)
    after = await scene.paid()
    assert before["requester"] - after["requester"] == RLC
    assert sum(after.values()) == sum(before.values())
    assert after["worker-1"] > before["worker-1"]
    journal = await scene.journal()
    assert [record.nonce for record in journal] == list(range(nonce_before, scene.nonce()))
    assert len({record.key for record in journal}) == len(journal) == 2  # initialize, finalize
    assert TxPhase.REVERTED not in {record.phase for record in journal}


async def test_killed_leader_is_succeeded_and_its_task_completes_paid_once(scene: Scene) -> None:
    leader, standby = await cast(scene)
    before, nonce_before = await scene.paid(), scene.nonce()
    task_id = await scene.buy()
    await scene.until_computing(leader, task_id)

    killed_at = time.monotonic()
    leader.popen.kill()

    await scene.takeover(standby, killed_at)
    await check_paid_once(scene, task_id, before, nonce_before)


async def test_paused_leader_wakes_to_find_that_it_can_write_and_send_nothing(scene: Scene) -> None:
    leader, standby = await cast(scene)
    before, nonce_before = await scene.paid(), scene.nonce()
    task_id = await scene.buy()
    await scene.until_computing(leader, task_id)

    paused_at = time.monotonic()
    leader.popen.send_signal(signal.SIGSTOP)

    await scene.takeover(standby, paused_at)
    await check_paid_once(scene, task_id, before, nonce_before)

    logged_before, lines_before = await scene.logged(), len(leader.lines())
    leader.popen.send_signal(signal.SIGCONT)
    code = await asyncio.to_thread(leader.popen.wait, PATIENCE_SECONDS)

    said = leader.log.read_text()
    assert code == 1
    assert "error: this scheduler leads no more" in said
    assert f"at {standby.url} (process {standby.popen.pid}) leads in term 2" in said
    # What it still tells of was durable when it was paused, and its successor knows it; nothing came after.
    steps = [line for line in leader.lines()[lines_before:] if line.get("event") == "step"]
    assert all(logged_before[line["event_id"]] == line["kind"] for line in steps)
    logged = await scene.logged()
    assert list(logged) == list(range(1, len(logged) + 1))
    assert scene.nonce() == nonce_before + 2

    again = scene.start_scheduler("third")  # as its supervisor would
    await scene.until_role(again, "standby")
    assert standby.url in (await scene.ask(again, "/health"))["leader"]
    assert (await scene.ask(standby, "/health"))["role"] == "leader"


async def test_stopped_leader_is_succeeded_at_once(scene: Scene) -> None:
    leader = scene.start_scheduler("first")
    await scene.until_role(leader, "leader")
    standby = scene.start_scheduler("second")
    await scene.until_role(standby, "standby")

    leader.popen.terminate()

    assert await asyncio.to_thread(leader.popen.wait, PATIENCE_SECONDS) == 0
    await scene.until_role(standby, "leader")


async def test_leader_without_its_database_ends_and_leads_again_when_both_are_back(scene: Scene) -> None:
    with postgresql() as own:
        scene.store_url = own.url
        leader = scene.start_scheduler("first")
        await scene.until_role(leader, "leader")
        own.stop()
        assert await asyncio.to_thread(leader.popen.wait, PATIENCE_SECONDS) == 1
        assert "error: this scheduler leads no more" in leader.log.read_text()

        early = scene.start_scheduler("early")
        assert await asyncio.to_thread(early.popen.wait, PATIENCE_SECONDS) == 1
        assert "does not answer" in early.log.read_text().splitlines()[-1]

        own.start()
        again = scene.start_scheduler("again")
        await scene.until_role(again, "leader")
        again.stop()
