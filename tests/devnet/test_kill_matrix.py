"""The kill matrix: `kill -9` of each process in each phase of a trust-3 task, on a real chain.

Each cell buys a task, waits for the phase, kills its victim and leaves the rest to the supervisor and to the
processes themselves. The task must end as the contract allows, both contributors paid once, every replicate
closed, no container left, and the ledger must explain every nRLC.

A run takes the cells of `SHORT`, each victim and each phase among them. All cells, which takes some minutes:

    POOLWRIGHT_KILL_MATRIX=full .venv/bin/python -m pytest tests/devnet/test_kill_matrix.py

The container engine among the victims is one of the test's own (`private_engine.py`): it dies alone, and once
with all that runs on it, as in a power cut. The store (SQLite) lives and dies with its process; PostgreSQL's
troubles are those of `tests/adapters/store` and of the standby.

A killed anvil forgets the blocks since it was last saved, which no real chain does; so it is saved and stops
mining before it is killed. Confirmed blocks that disappear end a daemon with an error, in
`tests/adapters/chain/test_heads_adapter.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from buyers import buy, wallets_of
from poolwright.chain.gas import GasPolicy
from poolwright.chain.heads import Heads
from poolwright.chain.logs import collect, transaction_logs
from poolwright.chain.reads import HubReader
from poolwright.chain.rpc import Rpc
from poolwright.chain.sender import MemoryTxJournal, TxSender
from poolwright.compute.images import BUSYBOX, build_image, context_tar, debian_rootfs
from poolwright.compute.port import ImageRef
from poolwright.devnet import dealing, processes, timeline
from poolwright.devnet.accounting import Books
from poolwright.devnet.anvil import save_chain
from poolwright.devnet.folder import ProcessRecord, StateFolder
from poolwright.devnet.node import Node
from poolwright.devnet.parts import poolwright_command
from poolwright.devnet.record import NetworkRecord, require_network
from poolwright.devnet.timeline import Timeline
from poolwright.poco import ids
from poolwright.poco.records import ContributionStatus, OnchainTask, TaskStatus
from poolwright.poco.types import Address, DealId, TaskId
from private_engine import PrivateEngine, private_engine

pytestmark = [pytest.mark.devnet, pytest.mark.chain, pytest.mark.engine]

PATIENCE_SECONDS = 240
BLOCK_SECONDS = 0.5
IMAGE = "127.0.0.1:9/poolwright/test-kill-matrix:1"
DOCKERFILE = """FROM scratch
ADD rootfs.tar /
ENTRYPOINT ["/bin/busybox", "sh", "-c", \
"sleep 2; echo done > /iexec_out/result; \
echo '{\\"deterministic-output-path\\": \\"/iexec_out/result\\"}' > /iexec_out/computed.json"]
"""


class Phase(StrEnum):
    """How far the task is when the victim dies."""

    MATCHED = "matched"
    COMPUTING = "computing"
    CONTRIBUTED = "contributed"
    REVEALING = "revealing"
    UPLOADING = "uploading"
    FINALIZED = "finalized"


VICTIMS: Final = ("scheduler", "worker-1", "chain", "results", "engine")
POWER: Final = "engine and containers"
ALL: Final = [(victim, phase) for phase in Phase for victim in VICTIMS] + [(POWER, Phase.COMPUTING)]
SHORT: Final = [
    ("scheduler", Phase.MATCHED),
    ("worker-1", Phase.COMPUTING),
    ("engine", Phase.COMPUTING),
    (POWER, Phase.COMPUTING),
    ("scheduler", Phase.CONTRIBUTED),
    ("chain", Phase.REVEALING),
    ("results", Phase.UPLOADING),
    ("worker-1", Phase.FINALIZED),
]
CELLS_OF_A_NETWORK: Final = 10
"""With a twelfth success a worker's word weighs so much that it alone is enough for trust 3."""
CELLS: Final = ALL if os.environ.get("POOLWRIGHT_KILL_MATRIX") == "full" else SHORT


@dataclass
class Net:
    """A running network with two workers, seen by its people."""

    record: NetworkRecord
    folder: StateFolder
    rpc: Rpc
    hub: HubReader
    http: aiohttp.ClientSession
    heads: Heads
    stack: AsyncExitStack
    app: Address
    engine: PrivateEngine

    async def buy(self) -> Timeline:
        """Make a deal for one task of trust 3: two workers have to agree."""
        wallets = await wallets_of(self.record)
        sender = await self.stack.enter_async_context(
            TxSender(
                self.rpc,
                wallets["requester"],
                self.record.chain_id,
                MemoryTxJournal(),
                GasPolicy(),
                heads=self.heads,
            )
        )
        deal_id, receipt = await buy(self.hub, self.record, sender, self.app, wallets=wallets, trust=3)
        names = {wallet.address: name for name, wallet in self.record.wallets.items()}
        logs = await transaction_logs(self.rpc, receipt.tx_hash)
        return timeline.opened(DealId(deal_id), 0, 1, names, logs)

    async def task(self, task_id: TaskId) -> OnchainTask:
        return await self.hub.task(task_id)

    async def statuses(self, task_id: TaskId) -> list[str]:
        """The present status of each replicate; none while the scheduler does not answer."""
        url = f"{self.record.scheduler_url}/tasks/{task_id}"
        try:
            async with self.http.get(url, timeout=aiohttp.ClientTimeout(total=5)) as answer:
                shown: dict[str, Any] = await answer.json() if answer.status == 200 else {}
        except (aiohttp.ClientError, TimeoutError):
            return []
        return [each["statusUpdateList"][-1]["status"] for each in shown.get("replicates", [])]

    async def has_come(self, phase: Phase, task_id: TaskId) -> bool:
        """Whether the task is that far; who looks too late finds it farther."""
        task = await self.task(task_id)
        match phase:
            case Phase.MATCHED:
                return True
            case Phase.COMPUTING:
                return await self.containers(running=True) > 0 or task.status > TaskStatus.ACTIVE
            case Phase.CONTRIBUTED:
                return bool(task.contributors)
            case Phase.REVEALING:
                return task.status >= TaskStatus.REVEALING
            case Phase.UPLOADING:
                return task.status > TaskStatus.REVEALING or any(
                    status.startswith("RESULT_UPLOAD") for status in await self.statuses(task_id)
                )
            case Phase.FINALIZED:
                return task.status >= TaskStatus.COMPLETED

    def part(self, name: str) -> ProcessRecord:
        return next(each for each in self.folder.records() if each.name == name)

    async def kill(self, name: str) -> None:
        """End the process at once; returns when it runs again, which is the supervisor's doing or ours."""
        if name in ("engine", POWER):
            await asyncio.to_thread(self.engine.kill, without_power=name == POWER)
            await asyncio.to_thread(self.engine.start)
            return
        victim = self.part(name)
        if name == "chain":
            await asyncio.to_thread(self._save)
        processes.send(victim, signal.SIGKILL)
        await until(lambda: _is_back(self.part(name), victim), f"{name} is back")

    def _save(self) -> None:
        with Node(self.record.chain_url) as node:
            node.call("evm_setIntervalMining", 0)
            save_chain(self.record.chain_url, self.folder.chain_state)

    async def containers(self, *, running: bool = False) -> int:
        """How many containers of this network the engine has, or runs."""
        filters = f'{{"label":["poolwright.network={self.record.network_id}"]}}'
        params = {"all": "0" if running else "1", "filters": filters}
        connector = aiohttp.UnixConnector(path=self.engine.host.removeprefix("unix://"))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get("http://engine/containers/json", params=params) as answer,
        ):
            return len(await answer.json())


async def _is_back(now: ProcessRecord, killed: ProcessRecord) -> bool:
    return now.restarts > killed.restarts and now.state == "ready"


async def until(condition: Any, what: str) -> None:
    """Wait for a condition; one that fails for the moment is asked again."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                with contextlib.suppress(Exception):  # a process that is down for the moment
                    if await condition():
                        return
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"never came about: {what}") from None


@pytest.fixture(scope="module")
def engine() -> Iterator[PrivateEngine]:
    with private_engine() as ours:
        yield ours


def poolwright(engine: PrivateEngine, *words: str) -> None:
    """Say this to a shell that knows this engine."""
    variables = dict(os.environ) | {"DOCKER_HOST": engine.host}
    done = subprocess.run(
        poolwright_command(*words), env=variables, capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr


@dataclass
class Networks:
    """One network at a time, each with a folder of its own below `folder`."""

    engine: PrivateEngine
    folder: Path
    number: int | None = None

    def up(self, number: int) -> StateFolder:
        """The network of this number; the one before has ended then."""
        state = self.folder / str(number)
        if number != self.number:
            self.down()
            ports = [f"--{part}-port=0" for part in ("chain", "results", "scheduler", "market")]
            self.number = number
            words = ("up", "--detach", "--state", str(state), "--block-time", str(BLOCK_SECONDS), *ports)
            poolwright(self.engine, *words)
        return StateFolder(state)

    def down(self) -> None:
        if self.number is not None:
            poolwright(self.engine, "down", "--state", str(self.folder / str(self.number)))
            self.number = None


@pytest.fixture(scope="module")
def networks(engine: PrivateEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Networks]:
    made = Networks(engine, tmp_path_factory.mktemp("kill-matrix"))
    try:
        yield made
    finally:
        made.down()


@pytest.fixture
def up(networks: Networks, request: pytest.FixtureRequest) -> StateFolder:
    return networks.up(request.param)


@pytest.fixture(scope="module")
def image(engine: PrivateEngine) -> ImageRef:
    context = context_tar(DOCKERFILE, [("rootfs.tar", debian_rootfs(BUSYBOX))])
    try:
        return asyncio.run(build_image(IMAGE, context, host=engine.host))
    finally:
        context.unlink()


@asynccontextmanager
async def opened(folder: StateFolder, engine: PrivateEngine, image: ImageRef) -> AsyncIterator[Net]:
    record = require_network(folder)
    async with AsyncExitStack() as stack:
        rpc = await stack.enter_async_context(Rpc([record.chain_url]))
        heads = await stack.enter_async_context(Heads(rpc, poll_seconds=0.2))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        hub = HubReader(rpc, record.hub)
        provider = await dealing.open_wallet(record, "provider")
        sender = await stack.enter_async_context(
            TxSender(rpc, provider, record.chain_id, MemoryTxJournal(), GasPolicy(), heads=heads)
        )
        app, _ = await dealing.registered_app(hub, record, sender, name="kill matrix", image=image)
        yield Net(
            record=record,
            folder=folder,
            rpc=rpc,
            hub=hub,
            http=http,
            heads=heads,
            stack=stack,
            app=app,
            engine=engine,
        )


@pytest.mark.parametrize(
    ("up", "victim", "phase"),
    [(number // CELLS_OF_A_NETWORK, *cell) for number, cell in enumerate(CELLS)],
    ids=[f"{victim}-{phase}" for victim, phase in CELLS],
    indirect=["up"],
)
async def test_task_is_paid_once_whoever_dies_and_whenever(
    up: StateFolder, engine: PrivateEngine, image: ImageRef, victim: str, phase: Phase
) -> None:
    async with opened(up, engine, image) as net:
        books = Books(rpc=net.rpc, hub=net.hub, record=net.record)
        await books.open(await net.heads.beyond(None))
        seen = await net.buy()
        [task_id] = seen.tasks

        await until(lambda: net.has_come(phase, task_id), f"the task is {phase}")
        await net.kill(victim)
        await until(lambda: net.has_come(Phase.FINALIZED, task_id), "the end of the task")

        async def is_quiet() -> bool:
            statuses = await net.statuses(task_id)
            is_over = bool(statuses) and set(statuses) <= {"COMPLETED", "FAILED"}
            return is_over and await net.containers() == 0

        await until(is_quiet, "every replicate closed and every container gone")
        head = await net.heads.beyond(None)
        logs = await collect(net.rpc, net.hub.hub, [timeline.TASK_TOPICS], seen.last_block, head)
        seen = timeline.with_logs(seen, logs, 0.0)
        ledger = await books.close(await net.hub.deal(seen.deal_id), seen, head)
        task = await net.task(task_id)
        contributions = [await net.hub.contribution(task_id, worker) for worker in task.contributors]

    assert task.status is TaskStatus.COMPLETED
    assert [each.status for each in contributions] == [ContributionStatus.PROVED] * 2
    names = [fact.name for fact in seen.facts(0)]
    assert sorted(names) == sorted(
        ["TaskInitialize", *["TaskContribute", "TaskReveal"] * 2, "TaskConsensus", "TaskFinalize"]
    )
    assert ledger.wrong == ()
    assert seen.tasks == {ids.task_id(seen.deal_id, 0): 0}
    for part in ("scheduler", "worker-1", "worker-2", "results"):
        assert "Traceback" not in up.log(part).read_text(), part


@pytest.mark.parametrize("up", [(len(CELLS) - 1) // CELLS_OF_A_NETWORK], indirect=True)
async def test_workers_say_once_that_their_engine_is_away_and_go_on_when_it_is_back(
    up: StateFolder, engine: PrivateEngine, image: ImageRef
) -> None:
    """One worker starts while the engine is away, the other is given a task then."""

    def said(worker: str, line: str) -> int:
        return up.log(worker).read_text().count(f'"event": "{line}')

    async def both_said(line: str) -> bool:
        return all(said(worker, line) == before[worker, line] + 1 for worker in workers)

    away, answers, workers = "container engine is away", "container engine answers", ("worker-1", "worker-2")
    async with opened(up, engine, image) as net:
        before = {(worker, line): said(worker, line) for worker in workers for line in (away, answers)}
        await asyncio.to_thread(engine.kill)
        processes.send(net.part("worker-1"), signal.SIGKILL)
        seen = await net.buy()
        [task_id] = seen.tasks
        await until(lambda: both_said(away), "both miss the engine")

        await asyncio.to_thread(engine.start)
        await until(lambda: net.has_come(Phase.FINALIZED, task_id), "the end of the task")

        assert (await net.task(task_id)).status is TaskStatus.COMPLETED
        assert await both_said(away)
        assert await both_said(answers)
