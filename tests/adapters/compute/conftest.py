from __future__ import annotations

import asyncio
import io
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from engine_bench import (
    TEST_IMAGE,
    Bench,
    FrailBench,
    docker_bench,
    frail_docker_bench,
    frail_twin_bench,
    twin_bench,
)
from engine_programs import PROGRAMS, REAL_ONLY

from poolwright.compute.images import BUSYBOX, build_image, context_tar, debian_rootfs
from private_engine import PrivateEngine, private_engine

_DOCKERFILE = """FROM scratch
ADD rootfs.tar /
ADD programs.tar /
ENTRYPOINT ["/bin/busybox", "sh", "/programs/run"]
"""


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
    return _image_of_programs(programs_tar, None)


def _image_of_programs(programs_tar: Path, host: str | None) -> str:
    context = context_tar(
        _DOCKERFILE, [("rootfs.tar", debian_rootfs(BUSYBOX)), ("programs.tar", programs_tar)]
    )
    try:
        return asyncio.run(build_image(TEST_IMAGE, context, host=host)).name
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


@pytest.fixture(scope="module")
def own_engine(programs_tar: Path) -> Iterator[PrivateEngine]:
    """A container engine that may be killed, with the test image."""
    with private_engine() as engine:
        _image_of_programs(programs_tar, engine.host)
        yield engine


@pytest.fixture(params=["twin", pytest.param("docker", marks=pytest.mark.engine)])
def frail_opened(request: pytest.FixtureRequest) -> Callable[[Path], AbstractAsyncContextManager[FrailBench]]:
    """The same host twice: in memory, and a container engine of our own."""
    if request.param == "twin":
        return frail_twin_bench
    engine: PrivateEngine = request.getfixturevalue("own_engine")
    return lambda folder: frail_docker_bench(folder, engine)


@pytest.fixture
async def frail(
    frail_opened: Callable[[Path], AbstractAsyncContextManager[FrailBench]], tmp_path: Path
) -> AsyncIterator[FrailBench]:
    async with frail_opened(tmp_path) as made:
        yield made
