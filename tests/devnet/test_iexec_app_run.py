"""`iexec app run` on a whole network: bought and downloaded by both clients, computed by our workers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from iexec_folder import Project
from peers.official import installed
from poolwright.devnet.folder import StateFolder
from poolwright.devnet.record import NetworkRecord, require_network

pytestmark = [pytest.mark.devnet, pytest.mark.chain, pytest.mark.engine]

START_SECONDS = 400
ANY_PORTS = ("--chain-port", "--results-port", "--scheduler-port", "--market-port")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetworkRecord]:
    """A network on which the demo has registered its example app."""
    state = tmp_path_factory.mktemp("network")
    poolwright(
        "up", state, "--workers", "1", "--detach", *(word for name in ANY_PORTS for word in (name, "0"))
    )
    try:
        poolwright("demo", state, "--tasks", "1")
        yield require_network(StateFolder(state))
    finally:
        poolwright("down", state)


def poolwright(verb: str, state: Path, *words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "poolwright", verb, "--state", str(state), *words],
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )
    assert done.returncode == 0, (verb, done.stdout, done.stderr)


def as_(network: NetworkRecord, name: str) -> tuple[str, ...]:
    """The words that choose a wallet of the network."""
    wallet = network.wallets[name]
    return (
        *("--keystoredir", str(wallet.keystore.parent), "--wallet-address", str(wallet.address)),
        *("--password", wallet.password),
    )


def test_an_app_is_run_watched_downloaded_and_debugged_by_both_clients(
    network: NetworkRecord, tmp_path: Path
) -> None:
    here = network.wallets["manager"].keystore.parent.parent / "iexec-9"
    (tmp_path / "chain.json").write_text((here / "chain.json").read_text())
    ours, theirs = Project(here=tmp_path), installed(9)
    buyer = as_(network, "requester")
    app = ours.raw("app", "show", "0", *as_(network, "provider"))["address"]
    ours.raw("app", "publish", app, "--price", "0.1 RLC", "--force", *as_(network, "provider"))
    offer = ("--price", "0.5", "RLC", "--volume", "3", "--trust", "1", "--force")
    ours.raw("workerpool", "publish", str(network.workerpool), *offer, *as_(network, "manager"))

    by_us = ours.raw("app", "run", app, "--force", "--watch", *buyer)
    by_them = theirs.raw(tmp_path, "app", "run", app, "--force", "--watch", "--quiet", *buyer)

    assert [task["statusName"] for task in by_us["tasks"]] == ["COMPLETED"]
    task_id = by_us["tasks"][0]["taskid"]
    shown = ours.raw("task", "show", task_id, "--download", "ours", *buyer)
    assert shown["resultPath"] == str(tmp_path / "ours.zip")
    theirs.raw(tmp_path, "task", "show", task_id, "--download", "theirs", "--quiet", *buyer)
    assert (tmp_path / "ours.zip").read_bytes() == (tmp_path / "theirs.zip").read_bytes()
    with ZipFile(tmp_path / "ours.zip") as archive:
        assert "computed.json" in archive.namelist()
    of_theirs = by_them["tasks"][0]["taskid"]
    words = ("task", "debug", of_theirs, "--logs", *buyer)
    debugged: dict[str, Any] = ours.raw(*words)
    assert debugged == theirs.raw(tmp_path, *words, "--quiet")
    assert debugged["offchainData"]["replicates"][0]["status"] == "COMPLETED"
    assert debugged["appLogs"][0]["worker"] == debugged["offchainData"]["replicates"][0]["worker"]
    deal = ours.raw("deal", "show", by_us["deals"][0]["dealid"], "--watch")
    assert (deal["completedTasksCount"], deal["failedTasksCount"]) == (1, 0)
    assert json.loads(deal["deal"]["params"]) == {"iexec_result_storage_provider": "ipfs"}
