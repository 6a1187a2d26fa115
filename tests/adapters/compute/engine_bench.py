"""Hosts to run the engine suite on: the twin's, in memory, and this machine's container engine."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine_programs import twin_app

from poolwright.compute.docker import DockerEngine
from poolwright.compute.fake import FakeEngine, FakeHost
from poolwright.compute.port import MIB, Engine, Limits, RunSpec
from poolwright.poco.types import Address, Hash32, TaskId

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


@asynccontextmanager
async def twin_bench(folder: Path) -> AsyncIterator[Bench]:
    host = FakeHost(apps={TEST_IMAGE: twin_app})

    def new_engine(worker: Address = WORKER) -> Engine:
        return FakeEngine(host, worker=worker, network="test")

    broken = FakeEngine(FakeHost(apps={}, is_up=False), worker=WORKER, network="test")
    yield Bench(
        folder=folder, new_engine=new_engine, engine=new_engine(), broken_engine=broken, is_real=False
    )
    await host.close()


@asynccontextmanager
async def docker_bench(folder: Path) -> AsyncIterator[Bench]:
    network = f"test-{secrets.token_hex(6)}"
    engines: list[Engine] = []

    def new_engine(worker: Address = WORKER) -> Engine:
        engines.append(DockerEngine(worker_name=network, worker=worker, network=network))
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
