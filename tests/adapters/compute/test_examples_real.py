"""The example apps in the cage, from image to digest and archive, as a worker runs them."""

from __future__ import annotations

import json
import secrets
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from engine_bench import WORKER

from poolwright.compute.docker import DockerEngine
from poolwright.compute.environment import app_environment, dataset_file_name, split_arguments
from poolwright.compute.outputs import add_logs, read_result, write_archive
from poolwright.compute.port import MIB, Limits, RunSpec
from poolwright.devnet.examples import build, find
from poolwright.poco.types import Address, DealId, Hash32, TaskId
from poolwright.results.archive import ZipLimits, result_digests

pytestmark = pytest.mark.engine

DATASET = Address(bytes([7]) * 20)


@pytest.fixture
async def engine() -> AsyncIterator[DockerEngine]:
    name = f"test-{secrets.token_hex(6)}"
    made = DockerEngine(worker_name=name, worker=WORKER, network=name)
    yield made
    await made.sweep([])
    await made.close()


async def run(
    engine: DockerEngine, folder: Path, example: str, arguments: str, index: int = 0
) -> tuple[Hash32, Path]:
    """Run one task of a bag of three; answers its digest and its archive."""
    image = await build(example)
    task_id = TaskId(Hash32(secrets.token_bytes(32)))
    dataset = find(example).dataset_path
    base = folder / task_id.hex()
    spec = RunSpec(
        task_id=task_id,
        image=image.name,
        command=split_arguments(arguments),
        env=app_environment(
            task_id=task_id,
            deal_id=DealId(Hash32(bytes([1]) * 32)),
            index=index,
            bot_first=0,
            bot_size=3,
            dataset=DATASET if dataset else None,
        ),
        input_dir=base / "input",
        output_dir=base / "iexec_out",
        log_dir=base / "logs",
        limits=Limits(execution_seconds=60.0, memory_bytes=128 * MIB, output_bytes=16 * MIB),
    )
    if dataset:
        spec.input_dir.mkdir(parents=True)
        (spec.input_dir / dataset_file_name(DATASET)).write_bytes(dataset.read_bytes())
    ended = await engine.run(spec)
    assert ended.succeeded, ended
    add_logs(spec.output_dir, spec.log_dir)
    result = read_result(spec.output_dir)
    archive = write_archive(spec.output_dir, base / "iexec_out.zip")
    return result.digest, archive.path


@pytest.mark.parametrize("name", ["mandelbrot-poster", "clock-history"])
async def test_image_is_small_and_built_once(name: str) -> None:
    first = await build(name)
    assert first.size_bytes < 45_000_000
    said: list[str] = []
    assert await build(name, say=said.append) == first
    assert said == []


async def test_panels_differ_and_each_is_the_same_again(engine: DockerEngine, tmp_path: Path) -> None:
    arguments = "coral --width 48 --height 48"
    panels = [await run(engine, tmp_path, "mandelbrot-poster", arguments, index) for index in range(3)]
    assert len({digest for digest, _ in panels}) == 3
    again, _ = await run(engine, tmp_path, "mandelbrot-poster", arguments, 1)
    assert again == panels[1][0]
    with zipfile.ZipFile(panels[1][1]) as archive:
        assert archive.namelist() == ["computed.json", "coral-2-of-3.png", "stdout.txt"]


async def test_report_comes_from_the_dataset_and_its_archive_verifies(
    engine: DockerEngine, tmp_path: Path
) -> None:
    digest, path = await run(engine, tmp_path, "clock-history", "--since 1980")
    assert result_digests(path, ZipLimits()) == (digest,)
    with zipfile.ZipFile(path) as archive:
        facts = json.loads(archive.read("report/report.json"))
        assert facts["version"] == "2025b"
        assert b"Pacific/Apia" in archive.read("report/report.txt")
