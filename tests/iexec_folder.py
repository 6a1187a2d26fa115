"""A chain with the contracts and a marketplace, and our `iexec` in a project folder on them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from poolwright.cli.iexec.main import root
from poolwright.devnet.anvil import CHAIN_ID, Anvil, AnvilSettings, free_port
from poolwright.devnet.contracts import Deployment, deploy

FIRST = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
FIRST_KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
"""Everybody's first test account: it deploys the contracts and holds all RLC."""
OTHER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
READY_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the commands of a test work."""

    chain_url: str
    contracts: Deployment
    market_url: str = ""
    """Empty when there is no marketplace."""
    market_pid: int = 0
    """Process of the marketplace; 0 when there is none."""

    def chain_json(self, major: int) -> str:
        """chain.json as that version of the official client wants it."""
        chain: dict[str, Any] = {
            "id": str(CHAIN_ID),
            "host": self.chain_url,
            "hub": str(self.contracts.hub),
        }
        if self.market_url:
            chain |= {"iexecGateway": self.market_url, "sms": self.market_url}
        if major == 8:
            chain |= {"native": False, "useGas": True}
        return json.dumps({"default": "dev", "chains": {"dev": chain}})


@contextmanager
def chain_and_market(folder: Path, **more: str) -> Iterator[Place]:
    """Start a fresh chain and a marketplace on it; both end with the block. `more` are its settings."""
    with Anvil.start(AnvilSettings(port=free_port())) as anvil:
        contracts = deploy(anvil.url)
        settings = {
            "CHAINS": "DEV",
            "DEV_CHAIN_ID": str(CHAIN_ID),
            "DEV_IEXEC_ADDRESS": str(contracts.hub),
            "DEV_ETH_RPC_HOST": anvil.url,
            "DEV_POLL_SECONDS": "0.2",
            "PORT": "0",
            "RATE_LIMIT_MAX": "0",
            "POOLWRIGHT_MARKET_DATABASE_URL": f"sqlite:///{folder / 'market.db'}",
            **more,
        }
        log = folder / "market.log"
        with log.open("wb") as sink:
            market = subprocess.Popen(
                [sys.executable, "-m", "poolwright", "market", "run"],
                cwd=folder,
                env={**os.environ, **settings},
                stdout=sink,
                stderr=subprocess.STDOUT,
            )
        try:
            yield Place(
                chain_url=anvil.url,
                market_url=_listening(market, log),
                contracts=contracts,
                market_pid=market.pid,
            )
        finally:
            market.terminate()
            market.wait(timeout=30)


def _listening(market: subprocess.Popen[bytes], log: Path) -> str:
    """The URL that the marketplace says it listens at."""
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end and market.poll() is None:
        for line in log.read_text().splitlines():
            if '"listening"' in line:
                return str(json.loads(line)["url"])
        time.sleep(0.1)
    raise AssertionError(f"the marketplace does not listen:\n{log.read_text()}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A project folder, and our iexec in it."""

    here: Path

    def call(self, *words: str, answers: str = "") -> Done:
        """Run `iexec <words>` in this process, which saves its start; `answers` is what is typed."""
        with chdir(self.here):
            ended = CliRunner().invoke(root(), words, input=answers, catch_exceptions=False)
        return Done(returncode=ended.exit_code, stdout=ended.stdout, stderr=ended.stderr)

    def told(self, *words: str, answers: str = "") -> str:
        """Run a command that must succeed, as people do; returns its standard output."""
        done = self.call(*words, answers=answers)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def raw(self, *words: str) -> dict[str, Any]:
        """Run a command that must succeed, with --raw; returns its answer."""
        done = self.call(*words, "--raw")
        assert (done.returncode, done.stderr) == (0, ""), (words, done.stdout, done.stderr)
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def refusal(self, *words: str) -> tuple[str, str]:
        """Run a command that must fail, with --raw; returns the error's name and message."""
        done = self.call(*words, "--raw")
        assert (done.returncode, done.stdout) == (1, ""), (words, done.stdout, done.stderr)
        error = json.loads(done.stderr)["error"]
        return error["name"], error["message"]

    def failed_parts(self, *words: str) -> list[str]:
        """Run an order command of which a part must fail, with --raw; returns the failures."""
        done = self.call(*words, "--raw")
        assert (done.returncode, done.stdout) == (0, ""), (words, done.stdout, done.stderr)
        failures: list[str] = json.loads(done.stderr)["fail"]
        return failures

    def edit_order(self, kind: str, **values: Any) -> None:
        """Change fields of an order in iexec.json, as people do with an editor."""
        path = self.here / "iexec.json"
        content = json.loads(path.read_text())
        content["order"][kind] |= values
        path.write_text(json.dumps(content, indent=2))

    def edit(self, part: str, **values: str) -> None:
        """Change fields of a part of iexec.json."""
        path = self.here / "iexec.json"
        content = json.loads(path.read_text())
        content[part] |= values
        path.write_text(json.dumps(content, indent=2))


def new_project(here: Path, place: Place, key: str = FIRST_KEY, *, major: int = 9) -> Project:
    """A folder after `iexec init`, on that chain, with a clear-text wallet."""
    project = Project(here=here)
    project.raw("init", "--skip-wallet")
    (here / "chain.json").write_text(place.chain_json(major))
    project.raw("wallet", "import", "--unencrypted", key)
    return project


def deploy_own(project: Project, part: str, **values: str) -> str:
    """Deploy an app, dataset or workerpool of its own description; returns its address."""
    project.raw(part, "init")
    project.edit(part, **values)
    return str(project.raw(part, "deploy")["address"])
