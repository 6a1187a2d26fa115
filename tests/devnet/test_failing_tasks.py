"""Tasks that cannot succeed, on a whole running network: each ends, is explained, and locks nobody's stake.

One network for all of them; most tasks run side by side. The app does what its first argument says.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import aiohttp
import pytest

from buyers import RLC, buy, wallets_of
from poolwright.chain.gas import GasPolicy
from poolwright.chain.heads import Heads
from poolwright.chain.reads import HubReader, Question
from poolwright.chain.rpc import Rpc
from poolwright.chain.sender import MemoryTxJournal, TxRequest, TxSender
from poolwright.chain.wallet import Wallet
from poolwright.compute.images import BUSYBOX, build_image, context_tar, debian_rootfs
from poolwright.compute.port import ImageRef
from poolwright.devnet import dealing, network
from poolwright.devnet.contracts import first_account
from poolwright.devnet.folder import StateFolder
from poolwright.devnet.node import Node
from poolwright.devnet.record import NetworkRecord, require_network
from poolwright.poco import calls, ids, views
from poolwright.poco.records import OnchainTask, TaskStatus
from poolwright.poco.types import Address, DealId, Hash32, TaskId

pytestmark = [pytest.mark.devnet, pytest.mark.chain, pytest.mark.engine]

PATIENCE_SECONDS = 150
IMAGE = "127.0.0.1:9/poolwright/test-failing-apps:1"
MIB = 1024**2
OUTPUT_LIMIT_BYTES = 4 * MIB
SHORT_TIMEREF = 8
"""Seconds of the work clock of a category in which an app may run for 8 s, and the task lives for 80 s."""
STANDARD = 0

DONE = """echo '{"deterministic-output-path": "/iexec_out/result"}' > /iexec_out/computed.json"""
PROGRAMS: Mapping[str, str] = {
    "succeed": f"echo done > /iexec_out/result; {DONE}",
    "fail": "echo cannot go on >&2; exit 3",
    "hang": "sleep 600",
    "write-nothing": "true",
    "forget": "echo done > /iexec_out/result",
    "flood": "for i in 1 2 3 4 5 6 7 8 9; do head -c 1000000 /dev/zero > /iexec_out/part-$i; done; sleep 600",
    "write-much": f"head -c 300000 /dev/urandom > /iexec_out/result; {DONE}",
}
DOCKERFILE = """FROM scratch
ADD rootfs.tar /
ADD programs.tar /
ENTRYPOINT ["/bin/busybox", "sh", "/programs/run"]
"""


@dataclass
class Net:
    """A running network with two workers, the apps, and a requester who buys tasks."""

    record: NetworkRecord
    folder: StateFolder
    hub: HubReader
    heads: Heads
    http: aiohttp.ClientSession
    senders: dict[str, TxSender]
    wallets: dict[str, Wallet]
    short_category: int
    apps: dict[str, Address] = field(default_factory=dict)

    async def buy(
        self,
        program: str,
        *,
        app: str = "programs",
        dataset: Address | None = None,
        category: int = STANDARD,
        tasks: int = 1,
        trust: int = 1,
        pool_price: int = RLC,
    ) -> list[TaskId]:
        """Make a deal as the demo does."""
        deal_id, _ = await buy(
            self.hub,
            self.record,
            self.senders["requester"],
            self.apps[app],
            wallets=self.wallets,
            dataset=dataset,
            arguments=program,
            category=category,
            tasks=tasks,
            trust=trust,
            pool_price=pool_price,
        )
        return [ids.task_id(DealId(deal_id), index) for index in range(tasks)]

    async def shown(self, task_id: TaskId) -> dict[str, Any]:
        """GET /tasks/{id} of the scheduler; empty while it does not know the task."""
        async with self.http.get(f"{self.record.scheduler_url}/tasks/{task_id}") as answer:
            return dict(await answer.json()) if answer.status == 200 else {}

    async def said(self, task_id: TaskId) -> dict[str, tuple[str | None, str | None]]:
        """Cause and message of every status that the task's replicates went through."""
        return {
            update["status"]: (update["cause"], update["message"])
            for replicate in (await self.shown(task_id)).get("replicates", [])
            for update in replicate["statusUpdateList"]
        }

    async def completed(self, task_id: TaskId) -> OnchainTask:
        """Wait until the task has ended on the chain; it must have been paid."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            number: int | None = None
            while (task := await self.hub.task(task_id)).status < TaskStatus.COMPLETED:
                number = (await self.heads.beyond(number)).number
        assert task.status is TaskStatus.COMPLETED, await self.shown(task_id)
        return task

    def warnings(self, task_id: TaskId) -> list[dict[str, Any]]:
        """What the workers' logs warn of, of this task."""
        lines = [
            json.loads(line)
            for number in (1, 2)
            for line in self.folder.log(f"worker-{number}").read_text().splitlines()
            if line.startswith("{")
        ]
        return [line for line in lines if line.get("level") == "warning" and line.get("task") == str(task_id)]


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StateFolder]:
    state = tmp_path_factory.mktemp("failing-tasks") / "net"
    words = [
        "up",
        "--detach",
        "--workers",
        "2",
        "--chain-port",
        "0",
        "--results-port",
        "0",
        "--scheduler-port",
        "0",
        "--market-port",
        "0",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "poolwright", words[0], "--state", str(state), *words[1:]],
        env=os.environ | {"POOLWRIGHT_WORKER_TASK_OUTPUT_BYTES": str(OUTPUT_LIMIT_BYTES)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    try:
        yield StateFolder(state)
    finally:
        with contextlib.suppress(Exception):
            network.down(state, lambda line: None)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> ImageRef:
    path = tmp_path_factory.mktemp("image") / "programs.tar"
    with tarfile.open(path, "w") as out:
        for name, script in (*PROGRAMS.items(), ("run", '. "/programs/$1"')):
            entry = tarfile.TarInfo(f"programs/{name}")
            entry.mode, entry.size = 0o644, len(script) + 1
            out.addfile(entry, io.BytesIO(f"{script}\n".encode()))
    context = context_tar(DOCKERFILE, [("rootfs.tar", debian_rootfs(BUSYBOX)), ("programs.tar", path)])
    try:
        return asyncio.run(build_image(IMAGE, context))
    finally:
        context.unlink()


@asynccontextmanager
async def opened(folder: StateFolder, image: ImageRef) -> AsyncIterator[Net]:
    """The network through the eyes of its people; the apps are registered once."""
    record = require_network(folder)
    async with AsyncExitStack() as stack:
        rpc = await stack.enter_async_context(Rpc([record.chain_url]))
        heads = await stack.enter_async_context(Heads(rpc, poll_seconds=0.2))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        hub = HubReader(rpc, record.hub)
        wallets = await wallets_of(record)
        senders = {
            name: await stack.enter_async_context(
                TxSender(rpc, wallets[name], record.chain_id, MemoryTxJournal(), GasPolicy(), heads=heads)
            )
            for name in ("provider", "requester")
        }
        net = Net(
            record=record,
            folder=folder,
            hub=hub,
            heads=heads,
            http=http,
            senders=senders,
            wallets=wallets,
            short_category=len(await hub.categories()) - 1,
        )
        missing = ImageRef(name="127.0.0.1:9/poolwright/no-such-app:1", id=image.id, digests=(), size_bytes=1)
        for name, its in (("programs", image), ("missing", missing)):
            net.apps[name], _ = await dealing.registered_app(
                hub, record, senders["provider"], name=name, image=its
            )
        yield net


def add_category(record: NetworkRecord) -> None:
    """The hub's owner adds a category with a short work clock."""
    with Node(record.chain_url) as node:
        owner = first_account(node)
        owner.call(record.hub, "createCategory(string,string,uint256)", "blink", "", SHORT_TIMEREF)
        owner.send(node)


def give_stake(record: NetworkRecord, **rlc: int) -> None:
    """The deployer deposits into the hub's accounts of these wallets."""
    with Node(record.chain_url) as node:
        deployer = first_account(node)
        deployer.call(record.rlc, "approve(address,uint256)", record.hub, sum(rlc.values()) * RLC)
        for name, amount in rlc.items():
            to = record.wallets[name.replace("_", "-")].address
            deployer.call(record.hub, "depositFor(uint256,address)", amount * RLC, to)
        deployer.send(node)


async def dataset_with_wrong_checksum(net: Net) -> Address:
    """A dataset whose published file is not the one that its owner registered."""
    cid = await dealing.publish(net.http, net.record.results_url, b"what is there\n")
    checksum = Hash32(sha256(b"what was promised\n").digest())
    entry = (net.wallets["provider"].address, "wrong", f"/ipfs/{cid}".encode(), checksum)
    registry = net.record.dataset_registry
    await net.senders["provider"].submit(
        TxRequest(key="wrong dataset", to=registry, data=calls.create_dataset(*entry))
    )
    question = Question(to=registry, call=views.predict_dataset(*entry), read=views.decode_address, what="it")
    return await net.hub.ask(question)


async def test_every_failing_task_is_contributed_explained_and_paid(up: StateFolder, image: ImageRef) -> None:
    add_category(require_network(up))
    async with opened(up, image) as net:
        tasks = {
            "hang": await net.buy("hang", category=net.short_category),
            "fail": await net.buy("fail"),
            "write-nothing": await net.buy("write-nothing"),
            "forget": await net.buy("forget"),
            "flood": await net.buy("flood"),
            "no image": await net.buy("succeed", app="missing"),
            "wrong dataset": await net.buy("succeed", dataset=await dataset_with_wrong_checksum(net)),
            "succeed": await net.buy("succeed"),
        }
        ended = {name: await net.completed(task_id) for name, [task_id] in tasks.items()}
        said = {name: await net.said(task_id) for name, [task_id] in tasks.items()}
        warned = {name: net.warnings(task_id) for name, [task_id] in tasks.items()}

    assert ended["succeed"].result_digest == sha256(b"done\n").digest()
    assert "COMPUTED" in said["succeed"]
    assert warned.pop("succeed") == []
    expected = {
        "hang": ("COMPUTE_FAILED", "APP_COMPUTE_TIMEOUT", "expected an end within 8 s; order a larger"),
        "fail": ("COMPUTE_FAILED", "APP_COMPUTE_FAILED", "expected exit code 0, got 3; its stderr"),
        "write-nothing": ("COMPUTE_FAILED", "DETERMINISM_HASH_NOT_FOUND", "computed.json"),
        "forget": ("COMPUTE_FAILED", "DETERMINISM_HASH_NOT_FOUND", "computed.json"),
        "flood": ("COMPUTE_FAILED", "APP_OUTPUT_TOO_LARGE", "limit 4 MiB; write less"),
        "no image": ("APP_DOWNLOAD_FAILED", "APP_IMAGE_DOWNLOAD_FAILED", "check the app's image name"),
        "wrong dataset": ("DATA_DOWNLOAD_FAILED", "DATASET_FILE_BAD_CHECKSUM", "expected"),
    }
    for name, (status, cause, words) in expected.items():
        assert said[name][status][0] == cause, name
        assert words in (said[name][status][1] or ""), name
        assert [(line["cause"], words in line["reason"]) for line in warned[name]] == [(cause, True)], name


async def test_worker_without_enough_stake_says_so_before_computing_and_another_takes_the_task(
    up: StateFolder, image: ImageRef
) -> None:
    # A worker locks 30 % of the price: 1,200 RLC, and has 1,000. (Trust 1 would need no stake.)
    give_stake(require_network(up), requester=8_000, worker_2=4_000)
    async with opened(up, image) as net:
        [first, second] = await net.buy("succeed", tasks=2, trust=2, pool_price=4_000 * RLC)
        ended = [await net.completed(task_id) for task_id in (first, second)]
        replicates = [each for task in (first, second) for each in (await net.shown(task))["replicates"]]
        poor, able = (net.record.wallets[name].address for name in ("worker-1", "worker-2"))

    refused = [
        update
        for replicate in replicates
        if replicate["walletAddress"] == str(poor)
        for update in replicate["statusUpdateList"]
    ]
    assert "CANT_CONTRIBUTE_SINCE_STAKE_TOO_LOW" in [update["status"] for update in refused]
    assert "COMPUTING" not in [update["status"] for update in refused]
    [why] = {update["message"] for update in refused if update["message"]}
    assert "expected at least 1200000000000 nRLC, got 100" in why
    assert "deposit RLC into the hub's account" in why
    assert [task.contributors for task in ended] == [(able,), (able,)]


async def test_full_disk_of_the_results_delays_a_task_and_loses_nothing(
    up: StateFolder, image: ImageRef
) -> None:
    async with opened(up, image) as net:
        [results] = [record for record in up.records() if record.name == "results"]
        assert results.pid is not None
        _, hard = resource.prlimit(results.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(results.pid, resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            [task_id] = await net.buy("write-much")
            async with asyncio.timeout(PATIENCE_SECONDS):
                number: int | None = None
                while "RESULT_UPLOAD_FAILED" not in await net.said(task_id):
                    number = (await net.heads.beyond(number)).number
            said = await net.said(task_id)
            assert (await net.hub.task(task_id)).status is TaskStatus.REVEALING
        finally:
            resource.prlimit(results.pid, resource.RLIMIT_FSIZE, (hard, hard))
        with Node(net.record.chain_url) as node:
            node.call("evm_increaseTime", 61)  # the scheduler asks again after a minute of the chain
        ended = await net.completed(task_id)
        warned = net.warnings(task_id)

    assert "HTTP 507 no room in the results folder" in (said["RESULT_UPLOAD_FAILED"][1] or "")
    assert len(warned) == 2, "before the contribution, which then goes the long way, and when it is asked for"
    assert ended.results.startswith(b'{ "storage": "ipfs"')


async def test_afterwards_no_stake_is_locked_and_nothing_ran_into_a_bug(
    up: StateFolder, image: ImageRef
) -> None:
    async with opened(up, image) as net:
        locked = {
            name: (await net.hub.account(wallet.address)).locked
            for name, wallet in net.record.wallets.items()
        }
        async with net.http.get(f"{net.record.scheduler_url}/health") as answer:
            health = await answer.json()

    assert set(locked.values()) == {0}, locked
    assert health["stoppedTasks"] == {}
    for part in ("scheduler", "worker-1", "worker-2", "results"):
        assert "Traceback" not in up.log(part).read_text(), part
