"""Hosts to run the engine suites on: the twin's, in memory, this machine's engine, and one to be killed."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine_programs import twin_app

from poolwright.compute.docker import DockerEngine
from poolwright.compute.fake import FakeEngine, FakeHost
from poolwright.compute.port import MIB, Engine, Limits, RunSpec
from poolwright.poco.types import Address, Hash32, TaskId
from private_engine import PrivateEngine

TEST_IMAGE = "127.0.0.1:9/poolwright/test-programs:1"
NO_IMAGE = "127.0.0.1:9/poolwright/does-not-exist:1"
"""Port 9 of loopback: when the engine asks the registry, there certainly is none."""
WORKER = Address(bytes.fromhex("11" * 20))


@dataclass
class Bench:
    """One host to run on, engines on it, and specs whose folders are this test's own."""

    folder: Path
    new_engine: Callable[..., Engine]
    engine: Engine
    broken_engine: Engine
    """One whose container engine does not answer."""
    is_real: bool
    image: str = TEST_IMAGE

    def spec(
        self, *command: str, task_id: TaskId | None = None, image: str = TEST_IMAGE, **limits: Any
    ) -> RunSpec:
        task_id = task_id or TaskId(Hash32(secrets.token_bytes(32)))
        base = self.folder / task_id.hex()
        (base / "input").mkdir(parents=True, exist_ok=True)
        (base / "input" / "question.txt").write_text("what?\n")
        bounds: dict[str, Any] = {
            "execution_seconds": 30.0, "cpus": 1.0, "memory_bytes": 64 * MIB, "pids": 64,
            "tmp_bytes": 8 * MIB, "output_bytes": 32 * MIB, "log_bytes": 64 * 1024,
        } | limits  # fmt: skip
        return RunSpec(
            task_id=task_id,
            image=image,
            command=command,
            env={"WHO": "world"},
            input_dir=base / "input",
            output_dir=base / "output",
            log_dir=base / "logs",
            limits=Limits(**bounds),
        )


@dataclass
class FrailBench:
    """A host whose engine can be killed. Killing it alone leaves its containers as they are."""

    bench: Bench
    kill: Callable[[], Awaitable[None]]
    cut_power: Callable[[], Awaitable[None]]
    """Kill it with everything that runs on it."""
    apps_ended: Callable[[], Awaitable[None]]
    """Wait until no app runs; the engine need not be up."""
    start: Callable[[bool], Awaitable[None]]
    """Start it again; it kills containers that still run, unless it is told to keep them."""


@asynccontextmanager
async def twin_bench(folder: Path, host: FakeHost | None = None) -> AsyncIterator[Bench]:
    host = host or FakeHost(apps={TEST_IMAGE: twin_app})

    def new_engine(worker: Address = WORKER) -> Engine:
        return FakeEngine(host, worker=worker, network="test")

    broken = FakeEngine(FakeHost(apps={}, is_up=False), worker=WORKER, network="test")
    yield Bench(
        folder=folder, new_engine=new_engine, engine=new_engine(), broken_engine=broken, is_real=False
    )
    await host.close()


@asynccontextmanager
async def frail_twin_bench(folder: Path) -> AsyncIterator[FrailBench]:
    host = FakeHost(apps={TEST_IMAGE: twin_app})

    async def kill() -> None:
        host.go_down()

    async def cut_power() -> None:
        host.go_down(without_power=True)

    async def apps_ended() -> None:
        await asyncio.gather(*(each.ended.wait() for each in host.containers.values()))

    async def start(keeps_containers: bool) -> None:
        host.come_back(keeps_containers=keeps_containers)

    async with twin_bench(folder, host) as bench:
        yield FrailBench(bench=bench, kill=kill, cut_power=cut_power, apps_ended=apps_ended, start=start)


@asynccontextmanager
async def frail_docker_bench(folder: Path, engine: PrivateEngine) -> AsyncIterator[FrailBench]:
    async def kill() -> None:
        await asyncio.to_thread(engine.kill)

    async def cut_power() -> None:
        await asyncio.to_thread(engine.kill, without_power=True)

    async def apps_ended() -> None:
        await asyncio.to_thread(engine.wait_for_apps)

    async def start(keeps_containers: bool) -> None:
        await asyncio.to_thread(engine.start, keeps_containers=keeps_containers)

    async with docker_bench(folder, engine.host) as bench:
        yield FrailBench(bench=bench, kill=kill, cut_power=cut_power, apps_ended=apps_ended, start=start)


@asynccontextmanager
async def docker_bench(folder: Path, host: str | None = None) -> AsyncIterator[Bench]:
    network = f"test-{secrets.token_hex(6)}"
    engines: list[Engine] = []

    def new_engine(worker: Address = WORKER) -> Engine:
        engines.append(DockerEngine(worker_name=network, worker=worker, network=network, host=host))
        return engines[-1]

    nowhere = f"unix://{folder}/no-engine.sock"
    broken = DockerEngine(worker_name=network, worker=WORKER, network=network, host=nowhere)
    try:
        yield Bench(
            folder=folder, new_engine=new_engine, engine=new_engine(), broken_engine=broken, is_real=True
        )
    finally:
        for engine in engines:
            await engine.sweep([])
            await engine.close()
        await broken.close()


async def started(spec: RunSpec) -> None:
    """Wait until the app itself says that it runs."""
    async with asyncio.timeout(60):
        while not (spec.output_dir / "started").exists():  # noqa: ASYNC110 - a container sets no event
            await asyncio.sleep(0.02)


def open_gate(spec: RunSpec) -> RunSpec:
    """Let the program `gate` go on to its end."""
    (spec.input_dir / "go").touch()
    return spec
