"""`poolwright scheduler|worker check`: one line for each thing, and what to do about it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from eth_keyfile import create_keyfile_json

import factories as f
from poolwright.__main__ import main
from poolwright.chain.wallet import Wallet
from poolwright.daemons import checks
from poolwright.daemons.checks import Finding, Verdict, check_scheduler, check_worker
from poolwright.daemons.home import IDENTITY_MARK, STORE_FILE
from poolwright.devnet.anvil import Anvil
from poolwright.devnet.contracts import Deployment, deploy
from poolwright.store.port import Commit
from poolwright.store.sqlite import SqliteStore

KEY = b"\x07" * 32
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def chain() -> Iterator[tuple[Anvil, Deployment]]:
    """A chain with the official contracts; nobody has registered a workerpool."""
    with Anvil.start() as anvil:
        yield anvil, deploy(anvil.url)


@pytest.fixture
def keystore(tmp_path: Path) -> Path:
    path = tmp_path / "keystore.json"
    path.write_text(json.dumps(create_keyfile_json(KEY, b"secret", kdf="pbkdf2", iterations=2)))
    return path


@pytest.fixture
def variables(keystore: Path, tmp_path: Path) -> dict[str, str]:
    """The settings of both daemons, with nothing behind their addresses."""
    return {
        "IEXEC_BLOCKCHAIN_NODE_ADDRESS": NOWHERE,
        "IEXEC_CHAIN_ID": "31337",
        "IEXEC_HUB_ADDRESS": str(f.address("hub")),
        "POOL_ADDRESS": str(f.address("pool")),
        "IEXEC_RESULT_REPOSITORY_URL": NOWHERE,
        "IEXEC_CORE_WALLET_PATH": str(keystore),
        "IEXEC_CORE_WALLET_PASSWORD": "secret",
        "IEXEC_WORKER_WALLET_PATH": str(keystore),
        "IEXEC_WORKER_WALLET_PASSWORD": "secret",
        "IEXEC_CORE_URL": NOWHERE,
        "POOLWRIGHT_SCHEDULER_DIR": str(tmp_path / "scheduler"),
        "IEXEC_WORKER_BASE_DIR": str(tmp_path / "worker"),
        "DOCKER_HOST": f"unix://{tmp_path}/none.sock",
    }


def verdicts(findings: list[Finding]) -> dict[str, str]:
    return {finding.name: finding.verdict.value for finding in findings}


def of(findings: list[Finding], name: str) -> Finding:
    return next(finding for finding in findings if finding.name == name)


async def test_settings_that_cannot_be_read_are_the_one_finding(variables: dict[str, str]) -> None:
    variables["IEXEC_CHAIN_ID"] = "mainnet"

    for findings in (await check_scheduler(variables), await check_worker(variables)):
        [finding] = findings
        assert (finding.name, finding.verdict) == ("configuration", Verdict.FAILED)
        assert finding.message.startswith("cannot read IEXEC_CHAIN_ID")
        assert finding.next_step == "correct IEXEC_CHAIN_ID and start again"


async def test_where_nothing_answers_each_thing_says_so(variables: dict[str, str]) -> None:
    scheduler, worker = await check_scheduler(variables), await check_worker(variables)

    assert verdicts(scheduler) == {
        "configuration": "ok",
        "chain": "failed",
        "wallet": "failed",  # it opens, but whose the workerpool is, is not known
        "gas": "failed",
        "stake": "failed",
        "store": "ok",
        "disk": of(scheduler, "disk").verdict,
        "results": "failed",
    }
    assert of(scheduler, "gas") == checks.untested("gas", "chain")
    assert of(scheduler, "results").next_step == "start it, or correct IEXEC_RESULT_REPOSITORY_URL"
    assert of(worker, "wallet").message == str(Wallet(KEY).address)
    assert {of(worker, name).verdict for name in ("chain", "engine", "scheduler")} == {Verdict.FAILED}


async def test_a_wrong_password_and_a_foreign_store_are_named(
    variables: dict[str, str], tmp_path: Path
) -> None:
    variables |= {"IEXEC_CORE_WALLET_PASSWORD": "guess", "POOLWRIGHT_SCHEDULER_DIR": str(tmp_path)}
    store = await SqliteStore.open(tmp_path / STORE_FILE)
    await store.commit(Commit(marks={IDENTITY_MARK: b"chain 1, hub 0x1, workerpool 0x2, wallet 0x3"}))

    findings = await check_scheduler(variables)  # beside a daemon that has the store
    await store.close()

    assert "password" in of(findings, "wallet").message
    assert of(findings, "gas").verdict is Verdict.FAILED
    assert of(findings, "store").message.startswith("the store keeps the state of another daemon")


async def test_on_a_good_chain_what_is_wrong_with_pool_and_wallet_is_said(
    variables: dict[str, str], chain: tuple[Anvil, Deployment]
) -> None:
    anvil, contracts = chain
    variables |= {
        "IEXEC_BLOCKCHAIN_NODE_ADDRESS": f"{anvil.url},{NOWHERE}",
        "IEXEC_HUB_ADDRESS": str(contracts.hub),
    }

    findings = await check_scheduler(variables)

    assert [finding.verdict for finding in findings if finding.name == "chain"] == ["ok", "failed"]
    assert of(findings, "wallet").verdict is Verdict.FAILED
    assert str(f.address("pool")) in of(findings, "wallet").message
    assert of(findings, "gas").message.startswith("0 wei pay for some 0 tasks")
    assert of(findings, "gas").next_step == f"send coins for gas to {Wallet(KEY).address}"
    assert (of(findings, "stake").verdict, of(findings, "stake").message) == (
        Verdict.WARNING,
        "0 RLC free, 0 RLC locked",
    )


async def test_a_node_of_another_chain_is_refused(
    variables: dict[str, str], chain: tuple[Anvil, Deployment]
) -> None:
    variables |= {"IEXEC_BLOCKCHAIN_NODE_ADDRESS": chain[0].url, "IEXEC_CHAIN_ID": "134"}

    finding = of(await check_worker(variables), "chain")

    assert finding.verdict is Verdict.FAILED
    assert "expected chain id 134, got 31337" in finding.message


@pytest.mark.parametrize("daemon", ["scheduler", "worker"])
def test_the_command_prints_a_line_each_and_ends_with_1_when_something_failed(
    daemon: str,
    variables: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(SystemExit) as ended:
        main([daemon, "check"])
    lines = capsys.readouterr().out.splitlines()
    with pytest.raises(SystemExit):
        main([daemon, "check", "--json"])
    rows = json.loads(capsys.readouterr().out)

    assert ended.value.code == 1
    assert len(lines) == len(rows)
    assert lines[0].split()[:2] == ["ok", "configuration"]
    assert lines[1].startswith("failed   chain")
    assert set(rows[0]) == {"name", "verdict", "message", "nextStep"}
