from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from poolwright.compute.hardening import NON_ROOT_UID, container_config, user_for
from poolwright.compute.logs import LogSplitter, tail_of
from poolwright.compute.port import MIB, ImageRef, Limits, RunEnded, RunReason, RunSpec, reason_of
from poolwright.poco.types import Hash32, TaskId

TASK = TaskId(Hash32(bytes([1]) * 32))
LIMITS = Limits(execution_seconds=60, cpus=1.5, memory_bytes=100 * MIB, output_bytes=10 * MIB, pids=99)


def config(limits: Limits = LIMITS, command: tuple[str, ...] = ("a",)) -> dict[str, Any]:
    spec = RunSpec(
        task_id=TASK,
        image="image",
        command=command,
        env={"B": "2", "A": "1"},
        input_dir=Path("/work/in"),
        output_dir=Path("/work/out"),
        log_dir=Path("/work/logs"),
        limits=limits,
    )
    return container_config(spec, labels={"poolwright.task": str(TASK)}, user=7)


def test_cage_is_closed() -> None:
    host = config()["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["ReadonlyRootfs"] is True
    assert host["NetworkMode"] == "none"
    assert host["Mounts"] == [
        {"Type": "bind", "Source": "/work/in", "Target": "/iexec_in", "ReadOnly": True},
        {"Type": "bind", "Source": "/work/out", "Target": "/iexec_out", "ReadOnly": False},
    ]
    assert host["Memory"] == host["MemorySwap"] == 100 * MIB
    assert (host["PidsLimit"], host["NanoCpus"], host["Init"]) == (99, 1_500_000_000, True)
    assert not {"Privileged", "CapAdd", "Devices", "PidMode", "UsernsMode", "Binds"} & {
        name for name, value in host.items() if value
    }


def test_ulimits_bound_what_the_engine_cannot() -> None:
    bounds = {it["Name"]: it["Hard"] for it in config()["HostConfig"]["Ulimits"]}
    assert bounds == {"core": 0, "nofile": 4096, "fsize": 10 * MIB + 1, "cpu": 91}


def test_environment_is_sorted_and_the_image_keeps_its_own_command_when_none_is_given() -> None:
    assert config()["Env"] == ["A=1", "B=2"]
    assert config()["Cmd"] == ["a"]
    assert "Cmd" not in config(command=())


def test_user_is_root_only_where_root_is_the_worker_itself() -> None:
    assert user_for(worker_uid=0, rootless=False) == NON_ROOT_UID
    assert user_for(worker_uid=1000, rootless=False) == 1000
    assert user_for(worker_uid=1000, rootless=True) == 0


def reason(**facts: Any) -> RunReason:
    defaults: dict[str, Any] = {
        "stopped": False, "killed_for": None, "oom_killed": False,
        "output_bytes": 0, "exit_code": 0, "seconds": 1.0,
    }  # fmt: skip
    return reason_of(**(defaults | facts), limits=LIMITS)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, RunReason.EXITED),
        ({"exit_code": 3}, RunReason.EXITED),
        ({"exit_code": 137, "oom_killed": True}, RunReason.OUT_OF_MEMORY),
        ({"exit_code": 0, "oom_killed": True}, RunReason.EXITED),
        ({"exit_code": 137, "killed_for": RunReason.TIMED_OUT}, RunReason.TIMED_OUT),
        ({"exit_code": 137, "seconds": 60.5}, RunReason.TIMED_OUT),
        ({"output_bytes": 10 * MIB + 1}, RunReason.OUTPUT_TOO_LARGE),
        ({"output_bytes": 10 * MIB}, RunReason.EXITED),
        ({"stopped": True, "exit_code": 137, "killed_for": RunReason.TIMED_OUT}, RunReason.STOPPED),
    ],
)
def test_reason_of_an_end_follows_from_facts(facts: dict[str, Any], expected: RunReason) -> None:
    assert reason(**facts) is expected


@pytest.mark.parametrize("why", list(RunReason))
def test_every_end_explains_itself(why: RunReason) -> None:
    assert RunEnded(task_id=TASK, exit_code=9, reason=why).explain(LIMITS)


def test_image_matches_its_id_and_its_digests_in_any_notation() -> None:
    image = ImageRef(name="x", id="sha256:" + "ab" * 32, digests=("sha256:" + "cd" * 32,), size_bytes=1)
    assert image.matches("0x" + "AB" * 32)
    assert image.matches("sha256:" + "cd" * 32)
    assert not image.matches("0x" + "ef" * 32)


def frame(stream: int, payload: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(payload).to_bytes(4, "big") + payload


@pytest.mark.parametrize("piece", [1, 3, 7, 8, 9, 1000])
def test_log_streams_are_told_apart_however_the_bytes_arrive(tmp_path: Path, piece: int) -> None:
    splitter = LogSplitter(1000)
    raw = frame(1, b"out ") + frame(2, b"err") + frame(1, b"") + frame(1, b"more")
    for start in range(0, len(raw), piece):
        splitter.feed(raw[start : start + piece])
    assert splitter.write(tmp_path) == ("out more", "err")
    assert (tmp_path / "stdout.txt").read_bytes() == b"out more"


def test_log_keeps_the_last_bytes(tmp_path: Path) -> None:
    splitter = LogSplitter(10)
    for number in range(100):
        splitter.feed(frame(1, f"{number:03}".encode()))
    assert splitter.write(tmp_path)[0] == "6097098099"


def test_tail_survives_bytes_that_are_no_text() -> None:
    assert tail_of(b"\xff\xfe ok").endswith(" ok")
    assert len(tail_of(b"x" * 300_000)) == 100_000
