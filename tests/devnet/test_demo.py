"""`poolwright demo` as its user has it: real chain, containers and payment, and crashes in between."""

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from poolwright.devnet import network, processes
from poolwright.devnet.folder import ProcessRecord, StateFolder

pytestmark = [pytest.mark.devnet, pytest.mark.chain, pytest.mark.engine]

PATIENCE_SECONDS = 240
RLC = 10**9
SMALL = ("--args", "coral --width 120 --height 120")


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "net"
    yield folder
    with contextlib.suppress(Exception):
        network.down(folder, lambda line: None)


def start_demo(state: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "poolwright", "demo", "--state", str(state), "--json", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(demo: subprocess.Popen[str]) -> tuple[int, dict[str, Any], str]:
    """Exit code, the JSON document, and what else was said."""
    out, said = demo.communicate(timeout=PATIENCE_SECONDS)
    return demo.returncode, json.loads(out) if out else {}, said


def kill(state: Path, name: str) -> None:
    record = next(each for each in StateFolder(state).records() if each.name == name)
    processes.send(record, signal.SIGKILL)


def names_of_facts(task: dict[str, Any]) -> list[str]:
    return [fact["name"] for fact in task["facts"]]


def test_demo_starts_a_network_pays_for_its_tasks_and_ends_the_network(state: Path) -> None:
    code, told, said = ended(start_demo(state, *SMALL))

    assert code == 0, said
    assert "Traceback" not in said
    assert told["ledger"]["reconciles"] is True
    assert [task["phase"] for task in told["tasks"]] == ["COMPLETED"] * 3
    for task in told["tasks"]:
        assert names_of_facts(task) == [
            "TaskInitialize",
            "TaskContribute",
            "TaskConsensus",
            "TaskReveal",
            "TaskFinalize",
        ]
        [replicate] = task["replicates"]
        assert replicate["statuses"][-1]["status"] == "COMPLETED"
        picture = Path(task["result"]["folder"], f"coral-{task['index'] + 1}-of-3.png")
        assert picture.read_bytes().startswith(b"\x89PNG")
    running: list[ProcessRecord] = StateFolder(state).records()
    assert running == []
    assert network.status(state)["state"] == "down"


def test_tasks_complete_and_are_paid_once_when_scheduler_and_worker_are_killed(state: Path) -> None:
    ports = network.UpOptions(state=state, chain_port=0, results_port=0, scheduler_port=0, market_port=0)
    network.up_detached(ports, lambda line: None)
    demo = start_demo(state, "--trust", "3", "--tasks", "2", "--args", "coral --width 240 --height 240")
    assert demo.stderr is not None
    said = ""
    for line in demo.stderr:
        said += line
        if line.rstrip().endswith("COMPUTING"):
            break
    kill(state, "scheduler")
    kill(state, "worker-1")

    code, told, more = ended(demo)

    assert code == 0, said + more
    assert told["ledger"]["reconciles"] is True
    for task in told["tasks"]:
        facts = names_of_facts(task)
        assert [facts.count(name) for name in ("TaskContribute", "TaskReveal", "TaskFinalize")] == [2, 2, 1]
    accounts = {account["name"]: account for account in told["ledger"]["accounts"]}
    before, after = accounts["requester"]["before"], accounts["requester"]["after"]
    assert int(before["stake"]) - int(after["stake"]) == 2 * 11 * RLC // 10
    assert after["locked"] == "0"


def test_deal_that_cannot_be_paid_is_refused_in_one_line(state: Path) -> None:
    ports = network.UpOptions(
        state=state, workers=0, chain_port=0, results_port=0, scheduler_port=0, market_port=0
    )
    network.up_detached(ports, lambda line: None)

    code, told, said = ended(start_demo(state, "--price", "100000"))

    assert code == 2
    assert told == {}
    assert "cannot pay 3 tasks, expected 300000.3 RLC free in the hub, got 1000 RLC" in said
    assert "Traceback" not in said
