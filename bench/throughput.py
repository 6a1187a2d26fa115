"""How many tasks an hour one pool completes, beside what the gas of the blocks allows.

A whole local network in processes of its own (anvil with 5 s blocks of 30 M gas, contracts, repository,
market, scheduler) and four workers in this process: real minds, hands, stores, connections and transactions.
Only their container engine is the twin, with an app that does nothing. One deal buys a bag of tasks, trust 1.

The floor is what the blocks would allow: a block's gas, divided by all the gas that a task's transactions
have used (`initializeArray`, `contributeAndFinalize`). The time counts from the block of the deal to that of
the last task, so the blocks in which the pool is not yet or no longer busy count against it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import aiohttp
import structlog

from bench.harness import Figure, bench
from bench.network import _poolwright
from poolwright.chain import keystore
from poolwright.chain.gas import GasPolicy
from poolwright.chain.heads import Heads
from poolwright.chain.reads import HubReader, Question
from poolwright.chain.rpc import Rpc
from poolwright.chain.sender import MemoryTxJournal, TxRequest, TxSender
from poolwright.chain.wallet import Wallet
from poolwright.compute.fake import AppRun, FakeEngine, FakeHost
from poolwright.daemons.config import WorkerConfig, worker_config
from poolwright.daemons.worker import work
from poolwright.devnet.dealing import (
    Terms,
    Traded,
    match,
    open_wallet,
    random_salt,
    signed_orders,
    unsigned_orders,
)
from poolwright.devnet.folder import StateFolder
from poolwright.devnet.record import NetworkRecord, read_network
from poolwright.poco import calls, ids, views
from poolwright.poco.records import TaskStatus
from poolwright.poco.types import Address, BlockNumber, DealId, Hash32, NRlc, TaskId

TASKS: Final = int(os.environ.get("POOLWRIGHT_BENCH_TASKS", "600"))
"""In the bag: enough for a dozen blocks, so that the first and the last weigh little."""
WORKERS: Final = 4
SLOTS: Final = 64
BLOCK_SECONDS: Final = 5
BLOCK_GAS: Final = 30_000_000
GOAL: Final = 0.7
"""Of what block gas allows."""
IMAGE: Final = "bench/no-op"
LONGEST_SECONDS: Final = 1_800
PORTS: Final = ("--chain-port", "0", "--results-port", "0", "--scheduler-port", "0", "--market-port", "0")


@bench("throughput")
def throughput() -> Iterator[Figure]:
    """Tasks an hour of one pool."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state"
        _poolwright(
            "up", "--detach", "--workers", "0", "--block-time", BLOCK_SECONDS, "--state", state, *PORTS
        )
        try:
            record = read_network(StateFolder(state))
            if record is None:
                raise RuntimeError("the network has no record")
            yield from asyncio.run(_measured(record, Path(folder)))
        finally:
            _poolwright("down", "--state", state)


async def _no_op(run: AppRun) -> int:
    (run.spec.output_dir / "result.txt").write_text("done\n")
    about = {"deterministic-output-path": "/iexec_out/result.txt"}
    (run.spec.output_dir / "computed.json").write_text(json.dumps(about))
    return 0


async def _measured(record: NetworkRecord, folder: Path) -> list[Figure]:
    async with AsyncExitStack() as stack:
        rpc = await stack.enter_async_context(Rpc(record.chain_url))
        heads = await stack.enter_async_context(Heads(rpc, poll_seconds=0.2))
        hub = HubReader(rpc, record.hub)
        requester, provider, manager = [
            await open_wallet(record, name) for name in ("requester", "provider", "manager")
        ]

        async def sender(wallet: Wallet) -> TxSender:
            made = TxSender(rpc, wallet, record.chain_id, MemoryTxJournal(), GasPolicy(), heads=heads)
            return await stack.enter_async_context(made)

        stop = asyncio.Event()
        stack.callback(stop.set)
        crew = [await _worker(record, rpc, folder, number, stop) for number in range(WORKERS)]
        await _until_connected(record, crew)
        app = await _app(hub, record, await sender(provider))
        terms = Terms(
            tasks=TASKS,
            trust=1,
            category=2,
            arguments="",
            app_price=NRlc(1),
            dataset_price=NRlc(0),
            pool_price=NRlc(100),
        )
        orders = signed_orders(
            unsigned_orders(
                Traded(app=app, dataset=Address.zero(), workerpool=record.workerpool),
                terms,
                requester.address,
                random_salt(),
            ),
            await hub.domain(),
            provider=provider,
            manager=manager,
            requester=requester,
        )
        started = time.monotonic()
        deal_id, receipt = await match(hub, orders, await hub.domain(), await sender(requester))
        tasks = [ids.task_id(deal_id, index) for index in range(TASKS)]
        last = await _until_completed(hub, heads, tasks, receipt.block.number)
        print(f"{TASKS} tasks in {time.monotonic() - started:.0f} s", file=sys.stderr)
        gas, calls_made = await _gas(rpc, receipt.block.number + 1, last)
        stop.set()
        await asyncio.gather(*(aio_task for _, aio_task in crew))
    print(f"transactions: {dict(calls_made)}, gas a task: {gas / TASKS:,.0f}", file=sys.stderr)
    blocks = last - receipt.block.number
    value = TASKS / (blocks * BLOCK_SECONDS) * 3_600
    allowed = BLOCK_GAS / (gas / TASKS) / BLOCK_SECONDS * 3_600
    return [
        Figure(
            name="throughput.tasks",
            value=value,
            unit="tasks/h",
            floor=allowed,
            goal=f"over {GOAL:.0%} of what block gas allows",
            is_met=value > GOAL * allowed,
        )
    ]


async def _worker(
    record: NetworkRecord, rpc: Rpc, folder: Path, number: int, stop: asyncio.Event
) -> tuple[Address, asyncio.Task[None]]:
    """A worker of this process; it needs no stake for tasks of trust 1."""
    home = folder / f"worker-{number}"
    home.mkdir()
    password = secrets.token_urlsafe(12)
    (home / "password").write_text(password)
    path = keystore.create(home, password, key=keystore.new_key(), cost=keystore.LIGHT)
    address = Address.parse("0x" + path.name.rsplit("--", 1)[1])
    await rpc.call("anvil_setBalance", str(address), hex(10**20))
    config = worker_config(
        {
            "IEXEC_BLOCKCHAIN_NODE_ADDRESS": record.chain_url,
            "IEXEC_CHAIN_ID": str(record.chain_id),
            "IEXEC_HUB_ADDRESS": str(record.hub),
            "IEXEC_BLOCK_TIME": str(BLOCK_SECONDS),
            "POOL_ADDRESS": str(record.workerpool),
            "IEXEC_WORKER_WALLET_PATH": str(path),
            "IEXEC_WORKER_WALLET_PASSWORD_FILE": str(home / "password"),
            "IEXEC_CORE_URL": record.scheduler_url,
            "IEXEC_WORKER_NAME": f"bench-{number}",
            "IEXEC_WORKER_BASE_DIR": str(home / "work"),
            "IEXEC_WORKER_OVERRIDE_AVAILABLE_CPU_COUNT": str(SLOTS),
        }
    )

    def engine(config: WorkerConfig, wallet: Wallet) -> FakeEngine:
        return FakeEngine(FakeHost(apps={IMAGE: _no_op}), worker=wallet.address, network=config.network_id)

    return address, asyncio.create_task(work(config, stop, engine))


async def _until_connected(record: NetworkRecord, crew: list[tuple[Address, asyncio.Task[None]]]) -> None:
    async with aiohttp.ClientSession() as http, asyncio.timeout(60):
        while True:
            for _, aio_task in crew:
                if aio_task.done():
                    aio_task.result()
            async with http.get(f"{record.scheduler_url}/health") as answer:
                if len((await answer.json())["workersConnected"]) == len(crew):
                    return
            await asyncio.sleep(0.2)


async def _app(hub: HubReader, record: NetworkRecord, sender: TxSender) -> Address:
    content = (sender.address, "no-op", "DOCKER", IMAGE.encode(), Hash32.zero(), b"")
    app = await hub.ask(
        Question(
            to=record.app_registry, call=views.predict_app(*content), read=views.decode_address, what="app"
        )
    )
    await sender.submit(TxRequest(key="app", to=record.app_registry, data=calls.create_app(*content)))
    return app


async def _until_completed(
    hub: HubReader, heads: Heads, tasks: list[TaskId], start: BlockNumber
) -> BlockNumber:
    """The block in which the last task is completed."""
    number: int = start
    async with asyncio.timeout(LONGEST_SECONDS):
        while True:
            head = await heads.beyond(number)
            number = head.number
            found = Counter(task.status for task in await hub.tasks(tasks, head))
            if found[TaskStatus.COMPLETED] == len(tasks):
                return head.number


async def _gas(rpc: Rpc, first: int, last: int) -> tuple[int, Counter[str]]:
    """Gas of all transactions of these blocks, and how many there were of each kind."""
    names = {
        calls.initialize_array([], [])[:4]: "initializeArray",
        calls.initialize(DealId(Hash32.zero()), 0)[:4]: "initialize",
    }
    total, kinds = 0, Counter[str]()
    for number in range(first, last + 1):
        block = await rpc.call("eth_getBlockByNumber", hex(number), True)
        receipts = await rpc.call("eth_getBlockReceipts", hex(number))
        assert isinstance(block, dict)
        assert isinstance(receipts, list)
        if int(str(block["gasLimit"]), 16) != BLOCK_GAS:
            raise RuntimeError(f"block {number} has room for {block['gasLimit']} gas")
        transactions = block["transactions"]
        assert isinstance(transactions, list)
        for transaction in transactions:
            selector = bytes.fromhex(str(transaction["input"])[2:10])
            kinds[names.get(selector, "contributeAndFinalize and others")] += 1
        total += sum(int(str(receipt["gasUsed"]), 16) for receipt in receipts)
    return total, kinds
