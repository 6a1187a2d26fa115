from __future__ import annotations

import asyncio
import io
import secrets
import tarfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from engine_programs import PROGRAMS, REAL_ONLY, twin_app

from poolwright.compute.docker import DockerEngine
from poolwright.compute.fake import FakeEngine, FakeHost
from poolwright.compute.images import BUSYBOX, build_image, context_tar, debian_rootfs
from poolwright.compute.port import MIB, Engine, Limits, RunSpec
from poolwright.poco.types import Address, Hash32, TaskId

TEST_IMAGE = "127.0.0.1:9/poolwright/test-programs:1"
NO_IMAGE = "127.0.0.1:9/poolwright/does-not-exist:1"
"""Port 9 of loopback: when the engine asks the registry, there certainly is none."""
WORKER = Address(bytes.fromhex("11" * 20))

_DOCKERFILE = """FROM scratch
ADD rootfs.tar /
ADD programs.tar /
ENTRYPOINT ["/bin/busybox", "sh", "/programs/run"]
"""


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


@pytest.fixture(scope="session")
def programs_tar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "programs.tar"
    scripts = {name: program.script for name, program in PROGRAMS.items()} | REAL_ONLY
    scripts["run"] = 'name=$1; shift; . "/programs/$name"'
    with tarfile.open(path, "w") as out:
        for name, script in sorted(scripts.items()):
            entry = tarfile.TarInfo(f"programs/{name}")
            entry.mode, entry.size = 0o644, len(script.encode()) + 1
            out.addfile(entry, io.BytesIO(script.encode() + b"\n"))
    return path


@pytest.fixture(scope="session")
def test_image(programs_tar: Path) -> str:
    """The image of all programs, built without a hub."""
    context = context_tar(
        _DOCKERFILE, [("rootfs.tar", debian_rootfs(BUSYBOX)), ("programs.tar", programs_tar)]
    )
    try:
        return asyncio.run(build_image(TEST_IMAGE, context)).name
    finally:
        context.unlink()


def _image_of_scripts_only(name: str, last_line: str, programs_tar: Path) -> str:
    context = context_tar(
        f"FROM scratch\nADD programs.tar /\n{last_line}\n", [("programs.tar", programs_tar)]
    )
    try:
        return asyncio.run(build_image(f"127.0.0.1:9/poolwright/{name}:1", context)).name
    finally:
        context.unlink()


@pytest.fixture(scope="session")
def no_shell_image(programs_tar: Path) -> str:
    """An image whose entrypoint names a program that is not there."""
    return _image_of_scripts_only("test-no-shell", 'ENTRYPOINT ["/not/there"]', programs_tar)


@pytest.fixture(scope="session")
def nothing_to_run_image(programs_tar: Path) -> str:
    """An image with neither entrypoint nor command."""
    return _image_of_scripts_only("test-nothing-to-run", "LABEL use=none", programs_tar)


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


@pytest.fixture(params=["twin", pytest.param("docker", marks=pytest.mark.engine)])
def opened(request: pytest.FixtureRequest) -> Callable[[Path], AbstractAsyncContextManager[Bench]]:
    """The same host twice: in memory, and this machine's container engine."""
    if request.param == "twin":
        return twin_bench
    request.getfixturevalue("test_image")
    return docker_bench


@pytest.fixture
async def bench(
    opened: Callable[[Path], AbstractAsyncContextManager[Bench]], tmp_path: Path
) -> AsyncIterator[Bench]:
    async with opened(tmp_path) as made:
        yield made


@pytest.fixture
async def docker(test_image: str, tmp_path: Path) -> AsyncIterator[Bench]:
    """This machine's container engine only."""
    async with docker_bench(tmp_path) as made:
        yield made
