"""Processes that the fork server makes are the supervisor's children, and each is wholly itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from poolwright import __version__
from poolwright.devnet.fork_server import Forked, ForkServer
from poolwright.devnet.processes import start_ticks

BOUND = 60.0

FOLLOWING = ["logs", "--follow", "--state", "state"]
"""A command that goes on until it is ended."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ForkServer]:
    with ForkServer(dict(os.environ), tmp_path / "fork-server.log") as server:
        yield server


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < deadline, "condition not met"
        time.sleep(0.01)


def exit_code(process: Forked) -> int | None:
    wait_for(lambda: process.poll() is not None)
    return process.returncode


def start_following(server: ForkServer, folder: Path) -> Forked:
    """Start FOLLOWING, and return when it follows."""
    for made in (folder / "state/logs", folder / "state/run"):
        made.mkdir(parents=True, exist_ok=True)
    (folder / "state/logs/chain.log").write_text("a line to follow\n")
    log = folder / "following.log"
    log.touch()
    process = server.spawn(FOLLOWING, environment=os.environ, folder=folder, log=log)
    wait_for(lambda: "a line to follow" in log.read_text() or process.poll() is not None)
    assert process.poll() is None, log.read_text()
    return process


def test_a_command_runs_in_its_environment_and_its_exit_code_comes_back(
    server: ForkServer, tmp_path: Path
) -> None:
    log = tmp_path / "out.log"
    version = server.spawn(["--version"], environment=os.environ, folder=tmp_path / "new", log=log)
    assert exit_code(version) == 0
    wrong = server.spawn(
        ["scheduler", "run"],
        environment={"IEXEC_BLOCKCHAIN_NODE_ADDRESS": "nowhere"},
        folder=tmp_path,
        log=log,
    )
    assert exit_code(wrong) == 2
    assert log.read_text().startswith(f"poolwright {__version__}\nerror: ")
    assert "nowhere" in log.read_text()


def test_a_process_is_our_child_in_a_session_of_its_own_and_bears_its_command(
    server: ForkServer, tmp_path: Path
) -> None:
    process = start_following(server, tmp_path)
    try:
        parent = int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[1])
        assert (parent, os.getsid(process.pid)) == (os.getpid(), process.pid)
        assert Path(f"/proc/{process.pid}/cwd").readlink() == tmp_path
        assert Path(f"/proc/{process.pid}/cmdline").read_bytes().startswith(b"poolwright logs --follow")
        open_files = {os.readlink(each) for each in Path(f"/proc/{process.pid}/fd").iterdir()}
        assert not [each for each in open_files if each.startswith(("socket:", "pipe:"))], open_files
    finally:
        process.send_signal(signal.SIGKILL)
    assert exit_code(process) == -signal.SIGKILL
    process.send_signal(signal.SIGTERM)  # to nobody


def test_what_it_made_outlives_a_killed_server_and_the_next_order_starts_another(
    server: ForkServer, tmp_path: Path
) -> None:
    first = start_following(server, tmp_path)
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    second = start_following(server, tmp_path / "second")
    assert first.poll() is None
    for process in (first, second):
        process.send_signal(signal.SIGKILL)
        assert exit_code(process) == -signal.SIGKILL


def test_a_process_that_cannot_open_its_log_ends_and_the_server_says_why(
    server: ForkServer, tmp_path: Path
) -> None:
    process = server.spawn(["--version"], environment=os.environ, folder=tmp_path, log=tmp_path)
    assert exit_code(process) == 1
    assert "IsADirectoryError" in (tmp_path / "fork-server.log").read_text()


def test_the_server_ends_with_a_killed_supervisor(tmp_path: Path) -> None:
    script = """
import os, pathlib, sys, time
from poolwright.devnet.fork_server import ForkServer
server = ForkServer(dict(os.environ), pathlib.Path("fork-server.log"))
server.start()
print(server.pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as supervisor:
        assert supervisor.stdout is not None
        pid = int(supervisor.stdout.readline())
        supervisor.kill()
    wait_for(lambda: start_ticks(pid) is None)
