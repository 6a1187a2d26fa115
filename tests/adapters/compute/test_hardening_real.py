"""The cage, seen from inside a real container: each bound shown by an app that tries to pass it."""

from __future__ import annotations

import asyncio
import os
import secrets

import pytest
from engine_bench import WORKER, Bench

from poolwright.compute.disk import remove_tree, size_of
from poolwright.compute.docker import DockerEngine, connect
from poolwright.compute.hardening import NON_ROOT_UID
from poolwright.compute.port import MIB, ImageUnavailable, RunReason
from poolwright.poco.errors import InputError

pytestmark = pytest.mark.engine


async def test_app_has_no_capability_cannot_regain_one_is_filtered_and_is_not_root(docker: Bench) -> None:
    ended = await docker.engine.run(docker.spec("status"))
    status = dict(line.split(":\t", 1) for line in ended.stdout_tail.splitlines() if ":\t" in line)
    assert {status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    expected_uid = NON_ROOT_UID if os.geteuid() == 0 else os.geteuid()
    assert ended.stdout_tail.splitlines()[-1] == str(expected_uid)


async def test_app_sees_no_network_but_its_loopback(docker: Bench) -> None:
    ended = await docker.engine.run(docker.spec("status"))
    assert ended.stdout_tail.splitlines()[-2] == "lo"


async def test_owner_may_allow_a_network(docker: Bench) -> None:
    ended = await docker.engine.run(docker.spec("status", network=True))
    assert "eth0" in ended.stdout_tail.splitlines()


async def test_app_writes_nowhere_but_to_its_output_and_a_bounded_tmp(docker: Bench) -> None:
    ended = await docker.engine.run(docker.spec("scribble", tmp_bytes=4 * MIB))
    assert ended.succeeded
    assert ended.stdout_tail == "No space left\n"


async def test_fork_bomb_is_bounded(docker: Bench) -> None:
    spec = docker.spec("fork-bomb", pids=16, execution_seconds=20.0)
    ended = await docker.engine.run(spec)
    assert not ended.succeeded
    assert "fork" in ended.stderr_tail
    assert (
        not (spec.output_dir / "processes").exists() or int((spec.output_dir / "processes").read_text()) <= 16
    )


async def test_processes_that_an_app_leaves_behind_end_with_it(docker: Bench) -> None:
    ended = await docker.engine.run(docker.spec("orphan"))
    assert ended.succeeded
    assert await docker.engine.running() == ()


async def test_single_huge_file_is_cut_by_the_kernel_between_two_measurements(docker: Bench) -> None:
    spec = docker.spec("flood", output_bytes=2 * MIB)
    ended = await docker.engine.run(spec)
    assert ended.reason is RunReason.OUTPUT_TOO_LARGE
    assert size_of(spec.output_dir) <= 3 * MIB


async def test_whatever_modes_the_app_leaves_the_worker_can_delete_it(docker: Bench) -> None:
    spec = docker.spec("unreadable")
    ended = await docker.engine.run(spec)
    assert ended.succeeded
    remove_tree(spec.output_dir)
    assert not spec.output_dir.exists()


async def test_output_that_is_no_text_does_not_break_the_log(docker: Bench) -> None:
    spec = docker.spec("binary")
    assert (await docker.engine.run(spec)).succeeded
    assert (spec.log_dir / "stdout.txt").stat().st_size >= 3000


async def test_program_that_is_not_in_the_image_is_the_apps_failure(
    docker: Bench, no_shell_image: str
) -> None:
    ended = await docker.engine.run(docker.spec("whatever", image=no_shell_image))
    assert (ended.exit_code, ended.reason) == (127, RunReason.EXITED)
    assert "/not/there" in ended.stderr_tail


async def test_image_that_cannot_be_run_at_all_is_not_the_engines_fault(
    docker: Bench, nothing_to_run_image: str
) -> None:
    with pytest.raises(ImageUnavailable, match="needs an entrypoint"):
        await docker.engine.run(docker.spec(image=nothing_to_run_image))


async def test_container_of_somebody_else_under_the_same_name_is_refused_not_touched(docker: Bench) -> None:
    name = f"same-{secrets.token_hex(4)}"
    spec = docker.spec("nothing")
    first = DockerEngine(worker_name=name, worker=WORKER, network="one")
    second = DockerEngine(worker_name=name, worker=WORKER, network="two")
    try:
        await first.run(spec)
        with pytest.raises(InputError, match="docker rm -f"):
            await second.run(spec)
    finally:
        await first.forget(spec.task_id)
        await first.close()
        await second.close()


async def test_removed_container_is_gone_from_the_engine(docker: Bench) -> None:
    spec = docker.spec("nothing")
    await docker.engine.run(spec)
    await docker.engine.forget(spec.task_id)
    await docker.engine.close()
    async with connect() as client:
        names = [name for it in await client.containers.list(all=True) for name in it["Names"]]
    assert not any(str(spec.task_id) in name for name in names)


async def test_many_tasks_at_once_all_end(docker: Bench) -> None:
    ended = await asyncio.gather(*(docker.engine.run(docker.spec("nothing")) for _ in range(6)))
    assert all(one.succeeded for one in ended)
