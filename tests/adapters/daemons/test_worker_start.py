"""A worker from its start to its end on a real chain: without its engine, without scheduler, and watched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from factories import address
from poolwright.chain import keystore
from poolwright.compute.fake import FakeEngine, FakeHost
from poolwright.daemons.config import WorkerConfig, worker_config
from poolwright.daemons.doors import http_server
from poolwright.daemons.worker import work
from poolwright.daemons.worker_metrics import Shown
from poolwright.devnet.anvil import CHAIN_ID, Anvil
from poolwright.devnet.contracts import deploy
from poolwright.serving.http import listen, serve, url_of

pytestmark = pytest.mark.chain

BOUND = 40.0
KEY = bytes.fromhex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
AWAY = "container engine is away; what needs it waits"
ANSWERS = "container engine answers"


@dataclass
class BusyScheduler:
    """One that turns everybody away, and counts who came."""

    url: str = ""
    calls: int = 0
    was_called: asyncio.Event = field(default_factory=asyncio.Event)

    async def refuse(self, _: web.Request) -> web.Response:
        self.calls += 1
        self.was_called.set()
        return web.json_response({"code": "starting", "message": "later"}, status=503)


@pytest.fixture
async def scheduler() -> AsyncIterator[BusyScheduler]:
    made = BusyScheduler()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    listener = listen("127.0.0.1", 0, setting="nothing")
    await web.SockSite(runner, listener).start()
    made.url = url_of(listener)
    yield made
    await runner.cleanup()


@pytest.fixture
def anvil() -> Iterator[Anvil]:
    with Anvil.start() as running:
        yield running


@pytest.fixture
def config(anvil: Anvil, scheduler: BusyScheduler, tmp_path: Path) -> WorkerConfig:
    """Of a worker whose wallet has coins."""
    password = tmp_path / "password"
    password.write_text("open sesame")
    wallet = keystore.create(tmp_path / "keys", "open sesame", key=KEY, cost=keystore.LIGHT)
    return worker_config(
        {
            "IEXEC_BLOCKCHAIN_NODE_ADDRESS": anvil.url,
            "IEXEC_BLOCK_TIME": "0.5",
            "IEXEC_CHAIN_ID": str(CHAIN_ID),
            "IEXEC_HUB_ADDRESS": str(deploy(anvil.url).hub),
            "POOL_ADDRESS": str(address("pool")),
            "IEXEC_WORKER_WALLET_PATH": str(wallet),
            "IEXEC_WORKER_WALLET_PASSWORD_FILE": str(password),
            "IEXEC_CORE_URL": scheduler.url,
            "IEXEC_WORKER_BASE_DIR": str(tmp_path / "worker"),
        }
    )


@dataclass
class Running:
    """A worker that runs, and where it shows itself."""

    host: FakeHost
    url: str
    http: aiohttp.ClientSession
    log: list[Any]

    async def trouble(self) -> str:
        async with self.http.get(f"{self.url}/health") as health:
            told = await health.json()
        assert (health.status == 200) == (told["trouble"] is None)
        return str(told["trouble"])

    async def until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(BOUND):
            while not await holds():  # noqa: ASYNC110  # it is asked over HTTP
                await asyncio.sleep(0.02)


@pytest.fixture
async def worker(config: WorkerConfig) -> AsyncIterator[Running]:
    """A worker that starts without its engine."""
    host, shown, stop = FakeHost(apps={}, is_up=False), Shown(), asyncio.Event()
    listener = listen("127.0.0.1", 0, setting="nothing")
    server = http_server(shown.app)
    serving = asyncio.create_task(serve(server, listener))
    with capture_logs() as lines:
        working = asyncio.create_task(
            work(
                config,
                stop,
                lambda config, wallet: FakeEngine(host, worker=wallet.address, network=config.network_id),
                shown,
            )
        )
        async with aiohttp.ClientSession() as http:
            yield Running(host, url_of(listener), http, lines)
        stop.set()
        async with asyncio.timeout(BOUND):
            await working
    server.should_exit = True
    await serving
    listener.close()


async def test_worker_without_its_engine_says_so_once_and_connects_when_it_answers(
    worker: Running, scheduler: BusyScheduler
) -> None:
    """It could do nothing with a task, so it takes none; and it does not end."""

    async def misses_its_engine() -> bool:
        return "cannot reach the container engine" in await worker.trouble()

    async def misses_only_its_scheduler() -> bool:
        return await worker.trouble() == "not connected to the scheduler"

    await worker.until(misses_its_engine)
    assert scheduler.calls == 0
    worker.host.come_back()
    async with asyncio.timeout(BOUND):
        await scheduler.was_called.wait()
    await worker.until(misses_only_its_scheduler)

    said = [line["event"] for line in worker.log if line["event"] in (AWAY, ANSWERS)]
    assert said == [AWAY, ANSWERS]
    async with worker.http.get(f"{worker.url}/metrics") as metrics:
        shown = await metrics.text()
    assert "poolwright_engine_up 1.0" in shown
    assert "poolwright_scheduler_connected 0.0" in shown
    assert "poolwright_rlc_earned_nrlc_total 0.0" in shown
