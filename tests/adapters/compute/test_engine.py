"""One suite for every engine adapter: the in-memory twin and the container engine of this machine."""

from __future__ import annotations

import asyncio

import pytest
from engine_bench import NO_IMAGE, WORKER, Bench, open_gate, started

from poolwright.compute.port import KILLED, MIB, EngineUnavailable, ImageUnavailable, RunReason
from poolwright.poco.types import Address

OTHER_WORKER = Address(bytes.fromhex("22" * 20))


async def test_app_gets_arguments_environment_and_input_and_its_output_and_logs_are_kept(
    bench: Bench,
) -> None:
    spec = bench.spec("greet", "a b", "c")
    ended = await bench.engine.run(spec)
    assert (ended.exit_code, ended.reason, ended.succeeded) == (0, RunReason.EXITED, True)
    assert ended.stdout_tail == "hello world from a b c\n"
    assert ended.stderr_tail == "careful\n"
    assert (spec.output_dir / "result.txt").read_text() == "what?\n"
    assert (spec.log_dir / "stdout.txt").read_text() == ended.stdout_tail
    assert (spec.log_dir / "stderr.txt").read_text() == ended.stderr_tail
    assert 0 < ended.started_at <= ended.finished_at


async def test_app_that_writes_and_prints_nothing_ends_well_with_empty_logs(bench: Bench) -> None:
    spec = bench.spec("nothing")
    ended = await bench.engine.run(spec)
    assert ended.succeeded
    assert (ended.stdout_tail, ended.stderr_tail) == ("", "")
    assert list(spec.output_dir.iterdir()) == []


async def test_failing_app_reports_its_exit_code_and_what_it_said(bench: Bench) -> None:
    spec = bench.spec("fail")
    ended = await bench.engine.run(spec)
    assert (ended.exit_code, ended.reason, ended.succeeded) == (3, RunReason.EXITED, False)
    assert ended.stderr_tail == "cannot go on\n"
    assert "got 3" in ended.explain(spec.limits)


async def test_hanging_app_is_killed_at_its_time_limit(bench: Bench) -> None:
    spec = bench.spec("hang", execution_seconds=1.0)
    ended = await bench.engine.run(spec)
    assert ended.reason is RunReason.TIMED_OUT
    assert ended.stdout_tail == "waiting\n"
    assert "within 1 s" in ended.explain(spec.limits)
    assert await bench.engine.running() == ()


@pytest.mark.parametrize("program", ["flood", "flood-many"])
async def test_app_that_writes_too_much_is_stopped(bench: Bench, program: str) -> None:
    spec = bench.spec(program, output_bytes=4 * MIB)
    ended = await bench.engine.run(spec)
    assert ended.reason is RunReason.OUTPUT_TOO_LARGE
    assert "limit 4 MiB" in ended.explain(spec.limits)


async def test_app_that_uses_too_much_memory_is_killed(bench: Bench) -> None:
    spec = bench.spec("eat-memory", memory_bytes=16 * MIB, tmp_bytes=4 * MIB)
    ended = await bench.engine.run(spec)
    assert ended.reason is RunReason.OUT_OF_MEMORY
    assert ended.exit_code == 137


async def test_log_files_are_bounded_and_keep_the_end(bench: Bench) -> None:
    spec = bench.spec("babble", log_bytes=10_000)
    ended = await bench.engine.run(spec)
    assert ended.succeeded
    assert (spec.log_dir / "stdout.txt").stat().st_size <= 10_000
    assert ended.stdout_tail.endswith("line 19999\n")


async def test_image_that_does_not_exist_says_what_was_expected_and_what_to_do(bench: Bench) -> None:
    with pytest.raises(ImageUnavailable) as caught:
        await bench.engine.pull(NO_IMAGE, timeout_seconds=30.0)
    message = str(caught.value)
    assert NO_IMAGE in message
    assert "expected" in message
    assert "got" in message
    assert "check the app's image name" in message


async def test_running_an_image_that_is_not_here_is_the_callers_error(bench: Bench) -> None:
    with pytest.raises(ImageUnavailable, match="does-not-exist"):
        await bench.engine.run(bench.spec("nothing", image=NO_IMAGE))


async def test_image_is_accepted_by_its_checksum_and_refused_by_another(bench: Bench) -> None:
    image = await bench.engine.pull(bench.image)
    again = await bench.engine.pull(bench.image, expected_checksum="0x" + image.id.split(":")[1].upper())
    assert again == image
    with pytest.raises(ImageUnavailable) as caught:
        await bench.engine.pull(bench.image, expected_checksum="0x" + "ab" * 32, timeout_seconds=30.0)
    assert "abab" in str(caught.value)
    assert image.id in str(caught.value)


async def test_task_that_has_ended_is_collected_again_and_never_run_twice(bench: Bench) -> None:
    spec = open_gate(bench.spec("gate"))
    first = await bench.engine.run(spec)
    assert await bench.new_engine().run(spec) == first
    assert (spec.output_dir / "runs").read_text() == "ran\n"


async def test_app_that_is_cut_off_every_time_has_failed_in_the_end(bench: Bench) -> None:
    spec = bench.spec("killed")
    ended = await bench.engine.run(spec)
    assert (ended.exit_code, ended.reason) == (KILLED, RunReason.EXITED)
    assert await bench.new_engine().run(spec) == ended, "it is not begun anew by the next worker either"


async def test_restarted_worker_waits_for_the_container_that_its_predecessor_started(bench: Bench) -> None:
    spec = bench.spec("gate")
    before = asyncio.create_task(bench.engine.run(spec))
    await started(spec)
    before.cancel()
    await asyncio.wait({before})
    after_restart = bench.new_engine()
    assert await after_restart.running() == (spec.task_id,)
    open_gate(spec)
    ended = await after_restart.run(spec)
    assert ended.succeeded
    assert (spec.output_dir / "runs").read_text() == "ran\n"


async def test_time_limit_counts_from_the_first_start_across_a_restart(bench: Bench) -> None:
    limit = 4.0
    spec = bench.spec("hang", execution_seconds=limit)
    before = asyncio.create_task(bench.engine.run(spec))
    await started(spec)
    before.cancel()
    await asyncio.wait({before})
    await asyncio.sleep(limit)  # nobody watches the container meanwhile
    back_at = asyncio.get_running_loop().time()
    ended = await bench.new_engine().run(spec)
    assert ended.reason is RunReason.TIMED_OUT
    assert asyncio.get_running_loop().time() - back_at < limit


async def test_two_calls_at_once_share_one_container(bench: Bench) -> None:
    spec = open_gate(bench.spec("gate"))
    first, second = await asyncio.gather(bench.engine.run(spec), bench.engine.run(spec))
    assert first == second
    assert (spec.output_dir / "runs").read_text() == "ran\n"


async def test_stop_ends_a_running_app_at_once(bench: Bench) -> None:
    spec = bench.spec("hang")
    running = asyncio.create_task(bench.engine.run(spec))
    await started(spec)
    await bench.engine.stop(spec.task_id)
    ended = await running
    assert ended.reason is RunReason.STOPPED
    assert await bench.engine.running() == ()


async def test_stop_before_the_run_keeps_the_app_from_starting(bench: Bench) -> None:
    spec = bench.spec("hang")
    await bench.engine.stop(spec.task_id)
    ended = await bench.engine.run(spec)
    assert (ended.reason, ended.exit_code) == (RunReason.STOPPED, None)


async def test_forgotten_task_can_be_run_anew(bench: Bench) -> None:
    spec = open_gate(bench.spec("gate"))
    first = await bench.engine.run(spec)
    await bench.engine.forget(spec.task_id)
    await bench.engine.close()
    second = await bench.new_engine().run(spec)
    assert second.started_at >= first.finished_at
    assert (spec.output_dir / "runs").read_text() == "ran\n", "it begins with an empty output"


async def test_sweep_removes_only_this_workers_unknown_containers(bench: Bench) -> None:
    kept, left_over, other = bench.spec("nothing"), bench.spec("nothing"), bench.spec("nothing")
    others_engine = bench.new_engine(OTHER_WORKER)
    await bench.engine.run(kept)
    await bench.engine.run(left_over)
    await others_engine.run(other)
    after_restart = bench.new_engine(WORKER)
    assert await after_restart.sweep([kept.task_id]) == (left_over.task_id,)
    assert await after_restart.sweep([kept.task_id]) == ()
    assert await others_engine.sweep([]) == (other.task_id,)


async def test_engine_says_what_it_is(bench: Bench) -> None:
    facts = await bench.engine.ping()
    assert facts.cpus >= 1
    assert facts.memory_bytes > 0
    assert facts.version


async def test_forget_and_stop_of_an_unknown_task_are_no_errors(bench: Bench) -> None:
    unknown = bench.spec("nothing").task_id
    await bench.engine.stop(unknown)
    await bench.engine.forget(unknown)
    await bench.engine.close()


async def test_engine_that_does_not_answer_is_unavailable_and_says_what_to_do(bench: Bench) -> None:
    with pytest.raises(EngineUnavailable, match="start"):
        await bench.broken_engine.ping()
    with pytest.raises(EngineUnavailable, match="start"):
        await bench.broken_engine.run(bench.spec("nothing"))
