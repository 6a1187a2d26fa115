"""What a manager asks a real pool: check, list, why, story, resync, metrics, health."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from poolwright.devnet import network, processes
from poolwright.devnet.folder import SUPERVISOR, ProcessRecord, StateFolder
from poolwright.devnet.record import require_network
from poolwright.devnet.settings import settings_of

pytestmark = [pytest.mark.devnet, pytest.mark.chain, pytest.mark.engine]

ANY_PORTS = ("--chain-port", "0", "--results-port", "0", "--scheduler-port", "0", "--market-port", "0")
PATIENCE_SECONDS = 300


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A network in which one bag of two tasks has been paid."""
    folder = tmp_path_factory.mktemp("operator") / "net"
    try:
        run("up", "--state", str(folder), "--detach", "--workers", "1", *ANY_PORTS)
        run("demo", "--state", str(folder), "--tasks", "2")
        yield folder
    finally:
        with contextlib.suppress(Exception):
            network.down(folder, lambda line: None)


def run(*words: str, part: str | None = None, state: Path | None = None, code: int = 0) -> str:
    """What a command prints, with the settings of a part; its exit code is `code`."""
    settings = settings_of(StateFolder(state), part) if part and state else {}
    done = subprocess.run(
        [sys.executable, "-m", "poolwright", *words],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        env={**os.environ, **settings},
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stdout + done.stderr


def get(state: Path, path: str) -> str:
    url = require_network(StateFolder(state)).scheduler_url + path
    with urllib.request.urlopen(url, timeout=10) as answer:  # the scheduler on loopback
        text: str = answer.read().decode()
        return text


def ids_of_tasks(state: Path) -> list[str]:
    folder = str(StateFolder(state).part("scheduler"))
    rows: list[dict[str, Any]] = json.loads(run("task", "list", "--ended", "--json", "--folder", folder))
    assert {(row["phase"], row["status"], row["waitsFor"]) for row in rows} == {
        ("COMPLETED", "COMPLETED", "nothing")
    }
    return [row["task"] for row in rows]


def test_check_finds_all_well_beside_the_daemons(state: Path) -> None:
    scheduler = json.loads(run("scheduler", "check", "--json", part="scheduler", state=state))
    worker = json.loads(run("worker", "check", "--json", part="worker-1", state=state))

    assert [row["name"] for row in scheduler] == [
        *("configuration", "chain", "wallet", "gas", "stake", "store", "disk", "results")
    ]
    assert {row["verdict"] for row in scheduler + worker if row["name"] != "disk"} <= {"ok", "warning"}
    assert next(row for row in worker if row["name"] == "scheduler")["verdict"] == "ok"
    assert next(row for row in scheduler if row["name"] == "wallet")["message"].endswith(
        "owns the workerpool"
    )


def test_the_settings_of_a_part_can_be_evaluated_by_a_shell(state: Path) -> None:
    lines = run("env", "scheduler", "--state", str(state))
    shell = subprocess.run(
        ["sh", "-c", f'{lines}\necho "$POOL_ADDRESS"'], capture_output=True, text=True, timeout=10
    )

    assert shell.stdout.strip() == str(require_network(StateFolder(state)).workerpool)


def test_story_of_a_paid_task_goes_from_the_deal_to_the_payment(state: Path) -> None:
    task, _ = ids_of_tasks(state)
    told = json.loads(run("task", "story", task, "--json", part="scheduler", state=state))

    phases = [m["to"] for event in told["events"] for m in event["moves"] if m["worker"] is None]
    statuses = [m["to"] for event in told["events"] for m in event["moves"] if m["worker"]]
    assert (phases[0], phases[1], phases[-1]) == ("RECEIVED", "ACTIVE", "COMPLETED")
    assert statuses[0] == "CREATED"
    assert {"RUNNING", "COMPUTED", "CONTRIBUTED", "REVEALED"} <= set(statuses)
    assert statuses[-1] == "COMPLETED"
    assert all(event["txHash"] for event in told["events"] if event["kind"].startswith("Chain"))
    assert run("task", "why", task, part="scheduler", state=state).startswith("nothing: the task has ended")


def test_the_chain_is_asked_about_a_task_that_is_not_ours(state: Path) -> None:
    said = run("task", "why", "0x" + "ab" * 32, part="scheduler", state=state)

    assert said.startswith("unknown: neither this scheduler nor the chain knows it")


def test_numbers_and_health_of_a_pool_that_was_paid(state: Path) -> None:
    numbers = dict(
        line.rsplit(" ", 1) for line in get(state, "/metrics").splitlines() if not line.startswith("#")
    )

    assert float(numbers['poolwright_tasks{phase="COMPLETED"}']) == 2
    assert float(numbers["poolwright_rlc_earned_nrlc_total"]) > 0
    assert float(numbers["poolwright_rlc_seized_nrlc_total"]) == 0
    assert float(numbers["poolwright_dispatch_seconds_count"]) == 2
    assert float(numbers["poolwright_deal_lag_seconds_count"]) == 1
    assert float(numbers["poolwright_fees_wei_total"]) > 0
    assert json.loads(get(state, "/health"))["status"] == "ok"


def test_reading_the_chain_again_changes_nothing_and_is_refused_while_the_scheduler_runs(state: Path) -> None:
    before = ids_of_tasks(state)
    refused = run("scheduler", "resync", "--from", "1", part="scheduler", state=state, code=2)
    assert "is in use" in refused

    supervisor, scheduler = record(state, SUPERVISOR), record(state, "scheduler")
    processes.send(supervisor, signal.SIGSTOP)  # else it starts the scheduler again
    try:
        processes.send(scheduler, signal.SIGKILL)
        assert processes.wait_gone(scheduler, PATIENCE_SECONDS)
        said = run("scheduler", "resync", "--from", "1", part="scheduler", state=state)
    finally:
        processes.send(supervisor, signal.SIGCONT)
    assert "the scheduler reads on from block 1." in said

    wait_until_read_again(state, before[0])
    told = json.loads(run("task", "story", before[0], "--json", part="scheduler", state=state))
    assert ids_of_tasks(state) == before
    again = [event for event in told["events"] if event["ignored"] == "the task has ended: COMPLETED"]
    assert again
    assert not any(event["asked"] or event["moves"] for event in again)


def record(state: Path, name: str) -> ProcessRecord:
    return next(each for each in StateFolder(state).records() if each.name == name)


def wait_until_read_again(state: Path, task: str) -> None:
    for _ in range(PATIENCE_SECONDS * 2):
        told = run("task", "story", task, "--json", part="scheduler", state=state)
        if any(event["ignored"] for event in json.loads(told)["events"]):
            return
        processes.wait_gone(record(state, SUPERVISOR), 0.5)
    raise AssertionError("the logs were not read again")
