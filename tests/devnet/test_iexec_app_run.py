"""`iexec app run` and `app request-execution` on a whole network, with our client and the official ones.

Bought, watched, downloaded and debugged by each client; computed by our workers.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from iexec_folder import Project
from peers.official import MAJORS, installed
from poolwright.devnet.folder import StateFolder
from poolwright.devnet.record import NetworkRecord, require_network

pytestmark = [pytest.mark.devnet, pytest.mark.chain, pytest.mark.engine]

START_SECONDS = 400
WATCH_SECONDS = 600
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


def folder_of(network: NetworkRecord, major: int, here: Path) -> Path:
    """A folder with the chain.json that the network made for that version of the official client."""
    here.mkdir()
    made = network.wallets["manager"].keystore.parent.parent / f"iexec-{major}" / "chain.json"
    (here / "chain.json").write_text(made.read_text())
    return here


def on_sale(network: NetworkRecord, ours: Project, *, tasks: int) -> tuple[str, str, str]:
    """Sell so many tasks of the demo's app on the pool; returns the app, and the hashes of both orders."""
    provider = as_(network, "provider")
    app = str(ours.raw("app", "show", "0", *provider)["address"])
    of_app = ours.raw("app", "publish", app, "--price", "0.1 RLC", "--force", *provider)["orderHash"]
    offer = ("--price", "0.5", "RLC", "--volume", str(tasks), "--trust", "1", "--force")
    pool = str(network.workerpool)
    of_pool = ours.raw("workerpool", "publish", pool, *offer, *as_(network, "manager"))["orderHash"]
    return app, of_app, of_pool


def test_an_app_is_run_watched_downloaded_and_debugged_by_all_clients(
    network: NetworkRecord, tmp_path: Path
) -> None:
    ours = Project(here=folder_of(network, 9, tmp_path / "9"))
    beside = {8: folder_of(network, 8, tmp_path / "8"), 9: ours.here}
    buyer = as_(network, "requester")
    app, _, _ = on_sale(network, ours, tasks=3)

    ran = {"ours": ours.raw("app", "run", app, "--force", "--watch", *buyer)}
    for major in MAJORS:
        words = ("app", "run", app, "--force", "--watch", "--quiet", *buyer)
        ran[f"theirs {major}"] = installed(major).raw(beside[major], *words)

    for whose, answer in ran.items():
        assert [task["statusName"] for task in answer["tasks"]] == ["COMPLETED"], whose
        task_id = answer["tasks"][0]["taskid"]
        shown = ours.raw("task", "show", task_id, "--download", "ours", *buyer)
        assert shown["resultPath"] == str(ours.here / "ours.zip")
        with ZipFile(ours.here / "ours.zip") as archive:
            assert "computed.json" in archive.namelist()
        debugging = ("task", "debug", task_id, "--logs", *buyer)
        debugged: dict[str, Any] = ours.raw(*debugging)
        offchain = debugged["offchainData"]
        assert offchain["replicates"][0]["status"] == "COMPLETED"
        statuses = [moment["status"] for moment in offchain["task"]["statusHistory"]]
        assert statuses[0] == "RECEIVED"
        assert statuses[-2:] == ["FINALIZED", "COMPLETED"]
        assert debugged["appLogs"][0]["worker"] == offchain["replicates"][0]["worker"]
        for major in MAJORS if whose == "ours" else [int(whose[-1])]:
            words = ("task", "show", task_id, "--download", "theirs", "--quiet", *buyer)
            installed(major).raw(beside[major], *words)
            of_theirs = (beside[major] / "theirs.zip").read_bytes()
            assert of_theirs == (ours.here / "ours.zip").read_bytes()
            assert installed(major).raw(beside[major], *debugging, "--quiet") == debugged
    deal = ours.raw("deal", "show", ran["ours"]["deals"][0]["dealid"], "--watch")
    assert (deal["completedTasksCount"], deal["failedTasksCount"]) == (1, 0)
    assert json.loads(deal["deal"]["params"]) == {"iexec_result_storage_provider": "ipfs"}


def test_a_requested_execution_is_watched_from_its_request_to_its_result(
    network: NetworkRecord, tmp_path: Path
) -> None:
    """The requester's command waits; the pool's manager finds the request on the market and fills it."""
    ours = Project(here=folder_of(network, 8, tmp_path / "8"))
    buyer, manager = as_(network, "requester"), as_(network, "manager")
    app, of_app, of_pool = on_sale(network, ours, tasks=2)
    wish = ("--app-price", "0.1", "RLC", "--workerpool-price", "1", "RLC", "--args", "rose", "--volume", "2")
    command = [sys.executable, "-m", "poolwright.cli.iexec", "app", "request-execution", app, *wish]
    waiting = subprocess.Popen(
        [*command, "--force", "--watch", "--raw", *buyer],
        cwd=ours.here,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        [wanted] = wait_for_orders(ours, "orderbook", "requester", str(network.wallets["requester"].address))
        assert (wanted["app"], wanted["price"], wanted["remaining"]) == (app, 10**9, 2)
        (ours.here / "orders.json").write_text(
            json.dumps({str(network.chain_id): {}})
        )  # theirs wants the file
        named = ("--request", wanted["orderHash"], "--workerpool", of_pool, "--app", of_app)
        filled = installed(8).raw(ours.here, "order", "fill", *named, "--force", "--quiet", *manager)
        stdout, stderr = waiting.communicate(timeout=WATCH_SECONDS)
    finally:
        waiting.kill()

    assert waiting.returncode == 0, stderr
    answer = json.loads(stdout)
    assert (answer["ok"], answer["orderHash"]) == (True, wanted["orderHash"])
    assert answer["deals"] == [{"dealid": filled["dealid"]}]
    assert [task["statusName"] for task in answer["tasks"]] == ["COMPLETED"] * 2


def wait_for_orders(ours: Project, *words: str) -> list[dict[str, Any]]:
    """The orders of a book once there are any."""
    ends = time.monotonic() + WATCH_SECONDS
    while time.monotonic() < ends:
        answer = ours.raw(*words)
        [found] = (value for key, value in answer.items() if key.endswith("Orders"))
        if found:
            orders: list[dict[str, Any]] = found
            return orders
        time.sleep(0.5)
    raise AssertionError(f"no orders for {words}")
