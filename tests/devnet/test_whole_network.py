"""The whole network as its user has it: real processes, up, crashed, down, up again, killed, tidied up."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from poolwright.devnet import network, processes
from poolwright.devnet.folder import SUPERVISOR, ProcessRecord, StateFolder
from poolwright.devnet.node import Node
from poolwright.devnet.record import require_network

pytestmark = [pytest.mark.devnet, pytest.mark.chain, pytest.mark.engine]

ANY_PORTS = ("--chain-port", "0", "--results-port", "0", "--scheduler-port", "0", "--market-port", "0")
PATIENCE_SECONDS = 180


def poolwright(*words: str, state: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as its user does; its output is kept whole."""
    return subprocess.run(
        [sys.executable, "-m", "poolwright", words[0], "--state", str(state), *words[1:]],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "net"
    yield folder
    with contextlib.suppress(Exception):
        network.down(folder, lambda line: None)


def up(state: Path, *words: str) -> str:
    done = poolwright("up", "--detach", *ANY_PORTS, *words, state=state)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def status(state: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(poolwright("status", "--json", state=state).stdout)
    return found


def part(state: Path, name: str) -> ProcessRecord:
    return next(record for record in StateFolder(state).records() if record.name == name)


def wait_for_restart(state: Path, killed: ProcessRecord) -> None:
    deadline = PATIENCE_SECONDS * 20
    for _ in range(deadline):
        now = part(state, killed.name)
        if now.restarts > killed.restarts and now.state == "ready":
            return
        processes.wait_gone(part(state, SUPERVISOR), 0.05)
    raise AssertionError(f"{killed.name} did not come back")


def block_number(state: Path) -> int:
    with Node(require_network(StateFolder(state)).chain_url) as node:
        return int(node.call("eth_blockNumber"), 16)


def test_network_lives_through_crashes_and_continues_after_down(state: Path) -> None:
    said = up(state, "--workers", "1")
    assert "The network is up after" in said
    assert "already up (ready)" in up(state)

    found = status(state)
    assert found["state"] == "ready"
    assert [each["name"] for each in found["parts"]] == [
        "supervisor",
        "chain",
        "market",
        "results",
        "scheduler",
        "worker-1",
    ]
    assert {each["state"] for each in found["parts"]} == {"ready"}
    for name in ("scheduler", "worker-1"):
        crashed = part(state, name)
        processes.send(crashed, signal.SIGKILL)
        wait_for_restart(state, crashed)

    first = require_network(StateFolder(state))
    before = block_number(state)
    running = StateFolder(state).records()
    done = poolwright("down", state=state)
    assert done.returncode == 0
    assert not any(processes.is_alive(record) for record in running)
    assert status(state) == {**found, "state": "down", "parts": []}

    up(state, "--workers", "2")
    second = require_network(StateFolder(state))
    assert block_number(state) >= before
    assert second.workerpool == first.workerpool
    assert second.wallets["worker-1"] == first.wallets["worker-1"]
    assert "worker-2" in second.wallets
    assert "scheduler" in poolwright("logs", "-n", "1", state=state).stdout


def test_killed_chain_comes_back_with_its_contracts(state: Path) -> None:
    up(state, "--workers", "0")
    record = require_network(StateFolder(state))
    crashed = part(state, "chain")

    processes.send(crashed, signal.SIGKILL)
    wait_for_restart(state, crashed)

    with Node(record.chain_url) as node:
        assert len(node.call("eth_getCode", str(record.hub), "latest")) > 2


def test_network_of_a_killed_supervisor_is_tidied_up_by_down(state: Path) -> None:
    up(state, "--workers", "0")
    running = StateFolder(state).records()
    processes.send(part(state, SUPERVISOR), signal.SIGKILL)
    assert processes.wait_gone(running[0], PATIENCE_SECONDS)
    assert status(state)["state"] == "lost"

    done = poolwright("down", state=state)

    assert "Ending what an earlier run left: chain, market, results, scheduler." in done.stdout
    assert not any(processes.is_alive(record) for record in running)


def test_secrets_are_for_their_owner_only(state: Path) -> None:
    up(state, "--workers", "0")

    for wallet in require_network(StateFolder(state)).wallets.values():
        for path in (wallet.keystore, wallet.password_file):
            assert os.stat(path).st_mode & 0o077 == 0


def test_taken_port_is_named_with_its_option_and_nothing_is_left(state: Path) -> None:
    with socket.socket() as owner:
        owner.bind(("127.0.0.1", 0))
        owner.listen()
        port = str(owner.getsockname()[1])

        done = poolwright(
            *("up", "--scheduler-port", port, "--chain-port", "0", "--results-port", "0"),
            *("--market-port", "0"),
            state=state,
        )

    assert done.returncode == 2
    assert f"port {port} on 127.0.0.1 cannot be used" in done.stderr
    assert "--scheduler-port (0 = any free)" in done.stderr
    assert "Traceback" not in done.stderr
    assert StateFolder(state).records() == []
