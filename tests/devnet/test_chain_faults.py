"""A real chain that misbehaves: time runs out, gas is dear, the node's door is faulty, blocks are replaced.

One anvil with the official contracts, one result repository; each test has a scheduler in a process of its
own and workers in this one, whose engine is the twin. In the end the ledger must explain every nRLC.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from buyers import buy, wallets_of
from poolwright.chain.gas import DEFAULT_CAP, GasPolicy
from poolwright.chain.heads import Heads
from poolwright.chain.logs import collect, transaction_logs
from poolwright.chain.reads import HubReader
from poolwright.chain.rpc import Rpc
from poolwright.chain.sender import MemoryTxJournal, TxSender
from poolwright.chain.wallet import Wallet
from poolwright.compute.fake import AppRun, FakeEngine, FakeHost
from poolwright.compute.port import ImageRef
from poolwright.daemons.config import WorkerConfig, worker_config
from poolwright.daemons.worker import work
from poolwright.devnet import dealing, processes, timeline, toolchain
from poolwright.devnet.accounting import Books, Ledger
from poolwright.devnet.anvil import Anvil, AnvilSettings, free_port
from poolwright.devnet.folder import StateFolder
from poolwright.devnet.ledger import Line
from poolwright.devnet.parts import (
    Ports,
    health,
    inherited_environment,
    poolwright_command,
    results_program,
    scheduler_program,
    worker_program,
)
from poolwright.devnet.provision import Services, provision
from poolwright.devnet.record import NetworkRecord
from poolwright.devnet.timeline import Timeline
from poolwright.poco import rewards
from poolwright.poco.records import OnchainTask, TaskStatus
from poolwright.poco.types import Address, NRlc, TaskId, Wei
from rpc_proxy import Proxy

pytestmark = [pytest.mark.devnet, pytest.mark.chain]

PATIENCE_SECONDS = 120
BLOCK_SECONDS = 0.5
PRICE = NRlc(10**9)
IMAGE = "chain-faults/no-op"
SPIKE = 10 * DEFAULT_CAP
SPIKE_BLOCKS = 6
"""Longer than a sender's patience of five blocks."""
CONFIRMATIONS = 3
FAULTS = {
    "slow": 0.06,
    "500": 0.06,
    "garbage": 0.05,
    "half an answer": 0.03,
    "cut": 0.05,
    "cut after": 0.05,
    "stale": 0.10,
}
FAST = ["TaskInitialize", "TaskContribute", "TaskConsensus", "TaskReveal", "TaskFinalize"]
"""What is logged of a task that one transaction of its worker ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """A chain with its contracts, and a result repository."""

    folder: StateFolder
    ports: Ports
    record: NetworkRecord


@dataclass
class Net:
    """The daemons of one test, and its people."""

    ground: Ground
    folder: StateFolder
    rpc: Rpc
    hub: HubReader
    heads: Heads
    http: aiohttp.ClientSession
    stack: AsyncExitStack
    app: Address
    settings: dict[str, str]
    """What the daemons are told besides."""
    runs: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    """How many more apps may end."""
    url: str = ""
    scheduler: subprocess.Popen[bytes] | None = None

    @property
    def record(self) -> NetworkRecord:
        return self.ground.record

    async def start(self, *, workers: int) -> list[asyncio.Event]:
        """A scheduler and its workers; each ends when its event is set."""
        ports = replace(self.ground.ports, scheduler=free_port())
        self.url = ports.scheduler_url
        program = scheduler_program(self.folder, ports)
        self.scheduler = processes.spawn(
            poolwright_command(*program.words),
            environment=inherited_environment(os.environ) | program.environment(self.record) | self.settings,
            folder=self.folder.root,
            log=self.folder.log("scheduler"),
        )
        self.stack.callback(ended, self.scheduler)
        await self.until(lambda: self.health(), lambda told: told.get("role") == "leader", "a scheduler")
        stops = [await self._worker(ports, number) for number in range(1, workers + 1)]
        await self.until(
            self.health, lambda told: len(told.get("workersConnected", [])) == workers, "connected workers"
        )
        return stops

    async def _worker(self, ports: Ports, number: int) -> asyncio.Event:
        program = worker_program(
            self.folder, ports, number, slots=4, engine="", record_of=lambda: self.record
        )
        config = worker_config(program.environment(self.record) | self.settings)
        stop = asyncio.Event()

        def engine(config: WorkerConfig, wallet: Wallet) -> FakeEngine:
            host = FakeHost(apps={IMAGE: self._app})
            return FakeEngine(host, worker=wallet.address, network=config.network_id)

        async def end(worker: asyncio.Task[None]) -> None:
            stop.set()
            await asyncio.wait_for(worker, PATIENCE_SECONDS)

        self.stack.push_async_callback(end, asyncio.create_task(work(config, stop, engine)))
        return stop

    async def _app(self, run: AppRun) -> int:
        await self.runs.acquire()
        (run.spec.output_dir / "result.txt").write_text("done\n")
        about = {"deterministic-output-path": "/iexec_out/result.txt"}
        (run.spec.output_dir / "computed.json").write_text(json.dumps(about))
        return 0

    async def buy(self, *, tasks: int = 1, trust: int = 1) -> tuple[Books, Timeline]:
        """Open the books and make a deal; its requester pays any gas price."""
        wallets = await wallets_of(self.record)
        books = Books(rpc=self.rpc, hub=self.hub, record=self.record)
        await books.open(await self.heads.beyond(None))
        async with self.sender(wallets["requester"]) as sender:
            deal_id, receipt = await buy(
                self.hub,
                self.record,
                sender,
                self.app,
                wallets=wallets,
                tasks=tasks,
                trust=trust,
                pool_price=PRICE,
            )
        names = {wallet.address: name for name, wallet in self.record.wallets.items()}
        logs = await transaction_logs(self.rpc, receipt.tx_hash)
        return books, timeline.opened(deal_id, 0, tasks, names, logs)

    def sender(self, wallet: Wallet) -> TxSender:
        rich = GasPolicy(cap=Wei(100 * SPIKE))
        return TxSender(
            self.rpc,
            wallet,
            self.record.chain_id,
            MemoryTxJournal(),
            rich,
            heads=self.heads,
            look_seconds=0.1,
        )

    async def health(self) -> dict[str, Any]:
        """What the scheduler says of itself; nothing while it does not answer."""
        return await self._ask("/health")

    async def statuses(self, task_id: TaskId) -> set[str]:
        """The present status of each replicate."""
        told = await self._ask(f"/tasks/{task_id}")
        return {each["statusUpdateList"][-1]["status"] for each in told.get("replicates", [])}

    async def _ask(self, path: str) -> dict[str, Any]:
        try:
            async with self.http.get(self.url + path, timeout=aiohttp.ClientTimeout(total=5)) as answer:
                return dict(await answer.json())
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return {}

    async def tasks(self, seen: Timeline) -> list[OnchainTask]:
        return await self.hub.tasks(list(seen.tasks))

    async def until(
        self, ask: Callable[[], Awaitable[Any]], holds: Callable[[Any], object], what: str
    ) -> None:
        """Wait until what is asked for holds; fails when the scheduler ends."""
        told: Any = None
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not holds(told := await ask()):
                    assert self.scheduler is not None
                    assert self.scheduler.poll() is None, self.folder.log("scheduler").read_text()[-2_000:]
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"never came about: {what}; in the end: {told}") from None

    async def until_ended(self, seen: Timeline) -> None:
        await self.until(
            lambda: self.tasks(seen),
            lambda tasks: all(task.status >= TaskStatus.COMPLETED for task in tasks),
            "the end of every task",
        )

    async def closed(self, books: Books, seen: Timeline) -> tuple[Timeline, Ledger]:
        """All that was logged of the deal, and its ledger."""
        newest = int(str(await self.rpc.call("eth_blockNumber")), 16)
        head = await self.heads.beyond(newest - 1 - self.heads.confirmations)
        logs = await collect(self.rpc, self.hub.hub, [timeline.TASK_TOPICS], seen.last_block, head)
        seen = timeline.with_logs(seen, logs, 0.0)
        return seen, await books.close(await self.hub.deal(seen.deal_id), seen, head)

    async def pass_blocks(self, count: int) -> None:
        head = await self.heads.beyond(None)
        await self.heads.beyond(head.number + count - 1)

    async def pass_to(self, at: int) -> None:
        """Let the chain's time be past `at`."""
        head = await self.heads.beyond(None)
        await self.rpc.call("evm_increaseTime", at - head.timestamp + 1)
        await self.rpc.call("evm_mine")

    @asynccontextmanager
    async def dear_gas(self) -> AsyncIterator[None]:
        """Every block asks ten times the cap, until this is left."""

        async def hold() -> None:
            while True:
                await self.rpc.call("anvil_setNextBlockBaseFeePerGas", hex(SPIKE))
                await asyncio.sleep(BLOCK_SECONDS / 5)

        await self.rpc.call("anvil_setNextBlockBaseFeePerGas", hex(SPIKE))
        holding = asyncio.create_task(hold())
        await self.pass_blocks(1)
        try:
            yield
        finally:
            holding.cancel()
            await asyncio.wait({holding})
            await self.rpc.call("anvil_setNextBlockBaseFeePerGas", hex(10**9))


def ended(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    toolchain.ensure(print)
    folder = StateFolder(tmp_path_factory.mktemp("chain-faults") / "net")
    folder.create()
    ports = Ports(chain=free_port(), results=free_port(), scheduler=0, market=free_port())
    with Anvil.start(AnvilSettings(port=ports.chain, block_time=BLOCK_SECONDS)):
        services = Services(
            block_time=BLOCK_SECONDS,
            chain_url=ports.chain_url,
            results_url=ports.results_url,
            scheduler_url="",
            market_url="",
        )
        record = provision(folder, services, workers=2, previous=None)
        program = results_program(folder, ports)
        results = processes.spawn(
            poolwright_command(*program.words),
            environment=inherited_environment(os.environ) | program.environment(record),
            folder=folder.root,
            log=folder.log("results"),
        )
        try:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while not health(ports.results_url):
                assert time.monotonic() < deadline, folder.log("results").read_text()[-2_000:]
                time.sleep(0.05)
            yield Ground(folder=folder, ports=ports, record=record)
        finally:
            ended(results)


@asynccontextmanager
async def staged(
    ground: Ground, folder: Path, *, confirmations: int = 0, **settings: str
) -> AsyncIterator[Net]:
    record = ground.record
    mine = StateFolder(folder / "net")
    mine.create()
    async with AsyncExitStack() as stack:
        rpc = await stack.enter_async_context(Rpc([record.chain_url]))
        heads = await stack.enter_async_context(Heads(rpc, confirmations=confirmations, poll_seconds=0.1))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        net = Net(
            ground=ground,
            folder=mine,
            rpc=rpc,
            hub=HubReader(rpc, record.hub),
            heads=heads,
            http=http,
            stack=stack,
            app=Address.zero(),
            settings={"POOLWRIGHT_CONFIRMATIONS": str(confirmations)} | settings,
        )
        image = ImageRef(
            name=IMAGE, id="sha256:" + sha256(IMAGE.encode()).hexdigest(), digests=(), size_bytes=1
        )
        async with net.sender(await dealing.open_wallet(record, "provider")) as provider:
            net.app, _ = await dealing.registered_app(net.hub, record, provider, name="no-op", image=image)
        yield net
    assert "Traceback" not in mine.log("scheduler").read_text()


def line(ledger: Ledger, name: str) -> Line:
    [found] = [each for each in ledger.lines if each.name == name]
    return found


async def test_a_task_that_nobody_can_end_is_claimed_and_the_money_goes_where_the_contract_says(
    ground: Ground, tmp_path: Path
) -> None:
    """Of two tasks of trust 3 one has one contribution of the two that it needs, the other none."""
    async with staged(ground, tmp_path) as net:
        [stop] = await net.start(workers=1)
        books, seen = await net.buy(tasks=2, trust=3)
        net.runs.release()
        await net.until(
            lambda: net.tasks(seen),
            lambda tasks: any(task.contributors for task in tasks) and all(task.status for task in tasks),
            "a contribution",
        )
        stop.set()
        tasks = await net.tasks(seen)
        await net.pass_to(max(task.contribution_deadline for task in tasks))
        await net.pass_blocks(3)
        early = await net.tasks(seen)
        await net.pass_to(max(task.final_deadline for task in tasks))
        await net.until_ended(seen)
        late = await net.tasks(seen)
        seen, ledger = await net.closed(books, seen)

    assert {task.status for task in early} == {TaskStatus.ACTIVE}
    assert {task.status for task in late} == {TaskStatus.FAILED}
    facts = sorted([fact.name for fact in seen.facts(index)] for index in range(2))
    assert facts == [
        ["TaskInitialize", "TaskClaimed"],
        ["TaskInitialize", "TaskContribute", "TaskClaimed"],
    ]
    assert ledger.wrong == ()
    for name in ("requester", "worker-1"):
        before, after = line(ledger, name).before, line(ledger, name).after
        assert (after.stake, after.locked) == (before.stake, before.locked), name
    lost = 2 * rewards.pool_stake(PRICE)
    assert line(ledger, "manager").after.total == line(ledger, "manager").before.total - lost
    assert line(ledger, "manager").after.locked == line(ledger, "manager").before.locked
    assert line(ledger, "kitty").after.locked == line(ledger, "kitty").before.locked + lost


async def test_transactions_wait_while_gas_costs_more_than_the_cap_and_say_so(
    ground: Ground, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with staged(ground, tmp_path) as net:
        await net.start(workers=1)
        nonces = [await nonce(net, name) for name in ("manager", "worker-1")]
        async with net.dear_gas():
            books, seen = await net.buy()
            [task_id] = seen.tasks
            await net.until(net.health, lambda told: "cap" in str(told.get("trouble")), "the trouble told")
            await net.pass_blocks(SPIKE_BLOCKS)
            told = await net.health()
            [waiting] = await net.tasks(seen)
        await net.until(lambda: net.statuses(task_id), lambda found: found == {"COMPUTING"}, "computing")
        await net.until(net.health, lambda told: told.get("status") == "ok", "no trouble any more")

        caplog.clear()
        async with net.dear_gas():
            net.runs.release()
            await net.until(
                lambda: asyncio.sleep(0, caplog.text),
                lambda said: "than the cap" in said,
                "the worker's word",
            )
            await net.pass_blocks(SPIKE_BLOCKS)
            [computed] = await net.tasks(seen)
        await net.until_ended(seen)
        [task] = await net.tasks(seen)
        seen, ledger = await net.closed(books, seen)
        sent = [await nonce(net, name) for name in ("manager", "worker-1")]
        said = net.folder.log("scheduler").read_text()

    assert told["status"] == "degraded"
    assert f"gas costs more than the cap of {DEFAULT_CAP} wei" in told["trouble"]
    assert said.count("node refuses transaction") == said.count("gas costs more than the cap") == 1
    assert (waiting.status, computed.status) == (TaskStatus.UNSET, TaskStatus.ACTIVE)
    assert task.status is TaskStatus.COMPLETED
    assert [after - before for before, after in zip(nonces, sent, strict=True)] == [1, 1]
    assert [fact.name for fact in seen.facts(0)] == FAST
    assert ledger.wrong == ()


async def nonce(net: Net, name: str) -> int:
    """How many transactions of this wallet are mined."""
    wallet = str(net.record.wallets[name].address)
    return int(str(await net.rpc.call("eth_getTransactionCount", wallet, "latest")), 16)


async def test_a_deal_is_completed_and_paid_once_through_a_faulty_door(
    ground: Ground, tmp_path: Path
) -> None:
    proxy = Proxy(ground.record.chain_url, seed=4, slow_seconds=0.5)
    url = await proxy.start()
    try:
        async with staged(ground, tmp_path, IEXEC_BLOCKCHAIN_NODE_ADDRESS=url) as net:
            await net.start(workers=2)
            proxy.rates = FAULTS
            books, seen = await net.buy(tasks=8)
            for _ in range(8):
                net.runs.release()
            await net.until_ended(seen)
            proxy.rates = {}
            tasks = await net.tasks(seen)
            await net.until(net.health, lambda told: told.get("status") == "ok", "a healthy scheduler")
            seen, ledger = await net.closed(books, seen)
    finally:
        await proxy.close()

    assert {task.status for task in tasks} == {TaskStatus.COMPLETED}
    assert [[fact.name for fact in seen.facts(index)] for index in range(8)] == [FAST] * 8
    assert ledger.wrong == ()
    print(f"exchanges: {dict(proxy.shown)}")
    assert proxy.shown.keys() >= FAULTS.keys()


async def test_reorgs_below_the_confirmations_lose_nothing_and_double_nothing(
    ground: Ground, tmp_path: Path
) -> None:
    """Whenever the task of trust 3 has moved, the block in which it did and the one before are replaced."""
    async with staged(ground, tmp_path, confirmations=CONFIRMATIONS) as net:
        await net.start(workers=2)
        books, seen = await net.buy(trust=3)
        for _ in range(2):
            net.runs.release()
        await net.rpc.call("evm_setIntervalMining", 0)
        undone: list[tuple[TaskStatus, int, int]] = []

        async def mined() -> bool:
            """One block more, which is replaced when the task does in it what it has not done before."""
            before = stage(await net.tasks(seen))
            await net.rpc.call("evm_mine")
            after = stage(await net.tasks(seen))
            if after != before and after not in undone:
                await net.rpc.call("anvil_reorg", CONFIRMATIONS - 1, [])
                assert stage(await net.tasks(seen)) != after
                undone.append(after)
            await asyncio.sleep(BLOCK_SECONDS / 2)
            return after[0] >= TaskStatus.COMPLETED and after in undone and before == after

        await net.until(mined, bool, "the end of the task, for good")
        await net.rpc.call("anvil_mine", hex(CONFIRMATIONS))
        await net.rpc.call("evm_setIntervalMining", 1)
        [task] = await net.tasks(seen)
        seen, ledger = await net.closed(books, seen)

    assert task.status is TaskStatus.COMPLETED
    assert len(undone) >= 4
    assert sorted(fact.name for fact in seen.facts(0)) == sorted(
        ["TaskInitialize", *["TaskContribute", "TaskReveal"] * 2, "TaskConsensus", "TaskFinalize"]
    )
    assert ledger.wrong == ()


def stage(tasks: list[OnchainTask]) -> tuple[TaskStatus, int, int]:
    """How far the one task is."""
    [task] = tasks
    return task.status, len(task.contributors), task.reveal_counter
