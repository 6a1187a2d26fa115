"""What an operator sees who configured something wrong: one clear message, the right exit code, at once."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from poolwright.chain.keystore import write_private
from poolwright.devnet.anvil import Anvil, AnvilSettings, free_port
from poolwright.devnet.folder import StateFolder
from poolwright.devnet.node import Node
from poolwright.devnet.parts import (
    HOST,
    Ports,
    health,
    inherited_environment,
    results_program,
    scheduler_program,
    worker_program,
)
from poolwright.devnet.provision import Services, provision
from poolwright.devnet.record import NetworkRecord

pytestmark = pytest.mark.chain

PATIENCE_SECONDS = 30
"""How long a command may take to say no; far more than it does on any machine."""
INPUT_ERROR, UNAVAILABLE = 2, 1


@dataclass(frozen=True)
class Ground:
    """A chain with contracts and wallets, and where daemons on it would live."""

    folder: StateFolder
    record: NetworkRecord
    node: Node

    def environment(self, daemon: str) -> dict[str, str]:
        """What the local network would tell the daemon, on ports that are free."""
        ports = Ports(chain=0, results=free_port(), scheduler=free_port(), market=free_port())
        programs = {
            "results": lambda: results_program(self.folder, ports),
            "scheduler": lambda: scheduler_program(self.folder, ports),
            "worker": lambda: worker_program(
                self.folder,
                ports,
                1,
                slots=1,
                engine="unix:///nowhere/docker.sock",
                record_of=lambda: self.record,
            ),
        }
        return programs[daemon]().environment(self.record)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    folder = StateFolder(tmp_path_factory.mktemp("bad-input"))
    folder.create()
    with Anvil.start() as anvil, Node(anvil.url) as node:
        services = Services(
            block_time=1, chain_url=anvil.url, results_url="", scheduler_url="", market_url=""
        )
        yield Ground(folder, provision(folder, services, workers=1, previous=None), node)


def said_by(daemon: str, environment: Mapping[str, str], *, code: int = INPUT_ERROR) -> str:
    """What the daemon says on standard error as it refuses to start: one line, no traceback anywhere."""
    done = subprocess.run(
        [sys.executable, "-m", "poolwright", daemon, "run"],
        env=inherited_environment({"PATH": "/usr/bin:/bin"}) | dict(environment),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    everything = done.stdout + done.stderr
    assert done.returncode == code, everything
    assert "Traceback" not in everything
    assert "Unclosed" not in everything
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    return done.stderr.removeprefix("error: ").strip()


def line_of(daemon: str, environment: Mapping[str, str], awaited: str) -> str:
    """The line of its log by which a daemon that goes on says this; then it is asked to end, and does."""
    with subprocess.Popen(
        [sys.executable, "-m", "poolwright", daemon, "run"],
        env=inherited_environment({"PATH": "/usr/bin:/bin"}) | dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        timer = threading.Timer(PATIENCE_SECONDS, process.kill)
        timer.start()
        said = []
        for line in process.stdout:
            said.append(line)
            if awaited in line:
                break
        process.send_signal(signal.SIGTERM)
        said += process.stdout.readlines()
        timer.cancel()
        assert process.wait(PATIENCE_SECONDS) == 0, "".join(said)
    found = [line for line in said if awaited in line]
    assert len(found) == 1, "".join(said)
    return found[0]


@pytest.mark.parametrize(
    ("daemon", "variable", "setting"),
    [
        ("scheduler", "IEXEC_CORE_PORT", "set IEXEC_CORE_HOST and IEXEC_CORE_PORT"),
        ("results", "IEXEC_RESULT_PROXY_PORT", "set IEXEC_RESULT_PROXY_HOST and IEXEC_RESULT_PROXY_PORT"),
    ],
)
def test_port_that_is_taken(ground: Ground, daemon: str, variable: str, setting: str) -> None:
    with socket.socket() as owner:
        owner.bind((HOST, 0))
        owner.listen()
        port = owner.getsockname()[1]

        said = said_by(daemon, ground.environment(daemon) | {variable: str(port)})

    assert said == (
        f"cannot listen on {HOST}:{port}, expected a free port, got another program listens there; "
        f"stop that program, or {setting}"
    )


def test_chain_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as owner:
        owner.bind((HOST, 0))
        owner.listen()
        port = str(owner.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "poolwright", "up", "--state", str(tmp_path), "--chain-port", port],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )

    assert done.returncode == INPUT_ERROR
    assert f"port {port} on {HOST} cannot be used, expected a free port" in done.stderr
    assert "--chain-port" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("daemon", "variable"),
    [("scheduler", "IEXEC_CORE_WALLET"), ("worker", "IEXEC_WORKER_WALLET")],
)
def test_wrong_keystore_password(ground: Ground, daemon: str, variable: str, tmp_path: Path) -> None:
    wrong = tmp_path / "password.txt"
    write_private(wrong, b"not the password")

    said = said_by(daemon, ground.environment(daemon) | {f"{variable}_PASSWORD_FILE": str(wrong)})

    assert "password" in said
    assert "not the password" not in said


@pytest.mark.parametrize("daemon", ["scheduler", "worker", "results"])
def test_node_of_another_chain(ground: Ground, daemon: str) -> None:
    said = said_by(daemon, ground.environment(daemon) | {"IEXEC_CHAIN_ID": "134"})

    assert "is of another chain, expected chain id 134, got 31337; correct the RPC URL" in said
    assert ground.record.chain_url in said


@pytest.mark.parametrize("daemon", ["scheduler", "worker"])
def test_chain_without_the_hub(ground: Ground, daemon: str) -> None:
    nothing = "0x000000000000000000000000000000000000dEaD"

    said = said_by(daemon, ground.environment(daemon) | {"IEXEC_HUB_ADDRESS": nothing})

    assert said.startswith(f"no contract at the hub address {nothing} on chain 31337, expected the PoCo hub")
    assert "got no code; correct the hub address" in said


@pytest.mark.parametrize("daemon", ["scheduler", "worker"])
def test_node_that_does_not_answer(ground: Ground, daemon: str) -> None:
    node = f"{HOST}:{free_port()}"

    said = said_by(
        daemon,
        ground.environment(daemon) | {"IEXEC_BLOCKCHAIN_NODE_ADDRESS": f"http://{node}"},
        code=UNAVAILABLE,
    )

    assert f"from {node}," in said  # the host alone: a node's URL may hold a key
    assert "check that the node runs and that the URL is right" in said


def test_workerpool_of_somebody_else(ground: Ground) -> None:
    stranger = ground.record.wallets["requester"]
    settings = {
        "IEXEC_CORE_WALLET_PATH": str(stranger.keystore),
        "IEXEC_CORE_WALLET_PASSWORD_FILE": str(stranger.password_file),
    }

    said = said_by("scheduler", ground.environment("scheduler") | settings)

    owner = ground.record.wallets["manager"].address
    assert said == (
        f"workerpool {ground.record.workerpool} does not belong to this wallet, "
        f"expected the wallet of its owner {owner}, got {stranger.address}; "
        f"set POOL_ADDRESS or IEXEC_CORE_WALLET_PATH to the pair that belongs together"
    )


@pytest.mark.parametrize("which", ["hub", "nobody"])
def test_workerpool_that_is_none(ground: Ground, which: str) -> None:
    address = str(ground.record.hub) if which == "hub" else "0x000000000000000000000000000000000000dEaD"

    said = said_by("scheduler", ground.environment("scheduler") | {"POOL_ADDRESS": address})

    assert address in said
    assert "check the address and the chain" in said


def test_worker_without_gas(ground: Ground) -> None:
    wallet = ground.record.wallets["worker-1"].address
    before = ground.node.call("eth_getBalance", str(wallet), "latest")
    ground.node.call("anvil_setBalance", str(wallet), "0x0")
    try:
        said = said_by("worker", ground.environment("worker"))
    finally:
        ground.node.call("anvil_setBalance", str(wallet), before)

    assert said == (
        f"worker wallet {wallet} cannot pay for gas, expected some ETH: a task takes about 500,000 gas, "
        f"got 0 wei; send ETH to this wallet"
    )


def test_worker_without_a_container_engine_says_so_and_waits_for_it(ground: Ground) -> None:
    """After a reboot it may be there before its engine is."""
    said = line_of("worker", ground.environment("worker"), "container engine is away")

    assert "start Docker or Podman, or set DOCKER_HOST to where it listens" in said


def test_folder_of_another_daemon(ground: Ground) -> None:
    scheduler = ground.environment("scheduler")
    worker = ground.environment("worker")
    line_of("worker", worker, "worker starts")  # its folder is its own from now on

    said = said_by("scheduler", scheduler | {"POOLWRIGHT_SCHEDULER_DIR": worker["IEXEC_WORKER_BASE_DIR"]})

    assert "keeps the state of another daemon" in said
    assert "set the folder or store of this daemon, or an empty one" in said


def test_missing_and_unreadable_settings_are_named(ground: Ground) -> None:
    complete = ground.environment("worker")

    said = said_by("worker", complete | {"IEXEC_HUB_ADDRESS": "0x12"})
    assert said.startswith("cannot read IEXEC_HUB_ADDRESS, expected an address: 0x and 40 hexadecimal digits")
    said = said_by("worker", {name: value for name, value in complete.items() if name != "IEXEC_CORE_URL"})
    assert said == (
        "IEXEC_CORE_URL is not set, expected one or more URLs such as http://host:port, separated by commas; "
        "export IEXEC_CORE_URL and start again"
    )


# --- what may happen to the chain while the scheduler runs --------------------------------------------------


@contextlib.contextmanager
def running_scheduler(ground: Ground, output: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A scheduler that is well, and its URL; it is killed at the end if it still runs."""
    environment = ground.environment("scheduler") | {"POOLWRIGHT_SCHEDULER_DIR": str(output.parent / "state")}
    url = f"http://{HOST}:{environment['IEXEC_CORE_PORT']}"
    with output.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "poolwright", "scheduler", "run"],
            env=inherited_environment({"PATH": "/usr/bin:/bin"}) | environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_until(lambda: health(url), process, output)
            yield process, url
        finally:
            process.kill()
            process.wait()


def wait_until(claim: Callable[[], bool], process: subprocess.Popen[bytes], output: Path) -> None:
    """Return when the claim holds; fail when the process ends before or patience does."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not claim():
        assert process.poll() is None, output.read_text()
        assert time.monotonic() < deadline, output.read_text()
        time.sleep(0.05)


def test_reorganised_chain_ends_the_scheduler_with_a_clear_message(ground: Ground, tmp_path: Path) -> None:
    output = tmp_path / "scheduler.log"
    ground.node.call("anvil_mine", hex(20))
    with running_scheduler(ground, output) as (process, _):
        ground.node.call("anvil_reorg", 5, [])
        ground.node.call("anvil_mine", hex(1))
        code = process.wait(PATIENCE_SECONDS)

    said = output.read_text()
    assert code == UNAVAILABLE, said
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith("error: the chain was reorganised under")
    assert "read again from an earlier block" in said.splitlines()[-1]


def test_scheduler_outlives_its_node_and_says_so_meanwhile(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "net")
    folder.create()
    settings = AnvilSettings(port=free_port(), state=tmp_path / "chain.json")
    output = tmp_path / "scheduler.log"
    with Anvil.start(settings) as anvil, Node(anvil.url) as node:
        services = Services(
            block_time=1, chain_url=anvil.url, results_url="", scheduler_url="", market_url=""
        )
        ground = Ground(folder, provision(folder, services, workers=0, previous=None), node)
        with running_scheduler(ground, output) as (process, url):
            anvil.stop()
            wait_until(lambda: not health(url), process, output)
            with Anvil.start(settings):
                wait_until(lambda: health(url), process, output)
                process.terminate()
                code = process.wait(PATIENCE_SECONDS)

    assert code == 0, output.read_text()
    assert "Traceback" not in output.read_text()
