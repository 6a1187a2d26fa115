"""An engine that is killed under a running app, on the twin and on a real engine of our own."""

from __future__ import annotations

import asyncio
import secrets

import pytest
from engine_bench import WORKER, Bench, FrailBench, open_gate, started

from poolwright.compute.docker import DockerEngine, connect
from poolwright.compute.hardening import LABEL_NETWORK, LABEL_TASK, LABEL_WORKER
from poolwright.compute.port import Engine, EngineUnavailable, RunReason, RunSpec


async def cut(frail: FrailBench, *, without_power: bool) -> RunSpec:
    """A task whose app waits at its gate when the engine goes down; the worker hears of it at once."""
    spec = frail.bench.spec("gate", execution_seconds=300.0)
    running = asyncio.create_task(frail.bench.engine.run(spec))
    await started(spec)
    await (frail.cut_power() if without_power else frail.kill())
    async with asyncio.timeout(60):
        with pytest.raises(EngineUnavailable, match="start"):
            await running
    (spec.output_dir / "mark").touch()
    return spec


def engine_after(frail: FrailBench, *, new_worker: bool) -> Engine:
    return frail.bench.new_engine(WORKER) if new_worker else frail.bench.engine


async def test_app_that_ends_while_the_engine_is_away_has_one_result(frail: FrailBench) -> None:
    """Docker forgets now and then how such a one ended; then it begins once more."""
    spec = await cut(frail, without_power=False)
    open_gate(spec)
    await frail.apps_ended()
    await frail.start(False)
    ended = await frail.bench.engine.run(spec)
    assert (ended.exit_code, ended.reason) == (0, RunReason.EXITED)
    assert (spec.output_dir / "runs").read_text() == "ran\n"


@pytest.mark.parametrize("new_worker", [False, True], ids=["same worker", "restarted worker"])
@pytest.mark.parametrize("without_power", [False, True], ids=["engine", "power"])
async def test_app_that_was_cut_off_begins_once_more_with_an_empty_output(
    frail: FrailBench, without_power: bool, new_worker: bool
) -> None:
    spec = await cut(frail, without_power=without_power)
    await frail.start(False)
    (spec.output_dir / "started").unlink()
    again = asyncio.create_task(engine_after(frail, new_worker=new_worker).run(spec))
    await started(spec)
    assert not (spec.output_dir / "mark").exists()
    open_gate(spec)
    ended = await again
    assert (ended.exit_code, ended.reason) == (0, RunReason.EXITED)
    assert (spec.output_dir / "runs").read_text() == "ran\n"


async def test_what_an_engine_kept_running_is_not_run_again(frail: FrailBench) -> None:
    """Docker gives one up now and then that it was told to keep; then it begins once more."""
    spec = await cut(frail, without_power=False)
    await frail.start(True)
    is_kept = spec.task_id in await frail.bench.engine.running()
    open_gate(spec)
    ended = await frail.bench.engine.run(spec)
    assert (ended.exit_code, ended.reason) == (0, RunReason.EXITED)
    assert (spec.output_dir / "mark").exists() is is_kept, "it is the same run"


async def test_what_a_task_left_is_swept_when_the_engine_is_back(frail: FrailBench) -> None:
    spec = await cut(frail, without_power=False)
    with pytest.raises(EngineUnavailable, match="start"):
        await frail.bench.engine.stop(spec.task_id)
    await frail.start(True)
    assert await frail.bench.engine.sweep([]) == (spec.task_id,)
    assert await frail.bench.engine.running() == ()


@pytest.mark.engine
async def test_container_that_was_never_started_is_made_anew(docker: Bench) -> None:
    """An engine that is killed between making and starting one can never start it again."""
    name, spec = f"left-{secrets.token_hex(4)}", docker.spec("greet")
    labels = {LABEL_WORKER: str(WORKER), LABEL_NETWORK: name, LABEL_TASK: str(spec.task_id)}
    engine = DockerEngine(worker_name=name, worker=WORKER, network=name)
    async with connect() as client:
        await client.containers.create(
            {"Image": docker.image, "Entrypoint": ["/cannot/start"], "Labels": labels},
            name=f"{name}-{spec.task_id}",
        )
    try:
        ended = await engine.run(spec)
    finally:
        await engine.sweep([])
        await engine.close()
    assert ended.succeeded
