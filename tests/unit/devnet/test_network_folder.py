"""Options that cannot be, what a daemon is told, and what is said of a network that is not there."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from test_network_record import RECORD

from poolwright.devnet import network, parts, provision
from poolwright.devnet.folder import SUPERVISOR, ProcessRecord, StateFolder
from poolwright.devnet.network import UpOptions
from poolwright.devnet.processes import start_ticks
from poolwright.poco.errors import InputError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (UpOptions(workers=-1), "option --workers, expected 0 to 64, got -1"),
        (UpOptions(workers=65), "option --workers, expected 0 to 64, got 65"),
        (UpOptions(block_time=0), "option --block-time, expected 0.1 to 3600 seconds, got 0"),
        (UpOptions(chain_port=70000), "option --chain-port, expected 0 to 65535, got 70000"),
        (UpOptions(results_port=13000), "expected different ports, got [8545, 13000, 13000, 3000]"),
    ],
)
def test_option_that_cannot_be_is_named(options: UpOptions, message: str) -> None:
    with pytest.raises(InputError) as caught:
        options.check()

    assert message in str(caught.value)


def test_any_free_port_may_be_asked_for_all_three() -> None:
    UpOptions(chain_port=0, results_port=0, scheduler_port=0, market_port=0).check()


def test_callers_settings_do_not_reach_the_daemons() -> None:
    inherited = parts.inherited_environment(
        {
            "PATH": "/bin",
            "IEXEC_HUB_ADDRESS": "0x1",
            "POOL_ADDRESS": "0x2",
            "POOLWRIGHT_STORE_URL": "postgresql://production",
            "POOLWRIGHT_CACHE": "/c",
        }
    )

    assert inherited == {"PATH": "/bin", "POOLWRIGHT_CACHE": "/c", "PYTHONUNBUFFERED": "1"}


def test_every_daemon_hears_of_the_chain_and_the_worker_of_its_wallet(tmp_path: Path) -> None:
    ports = parts.Ports(chain=1, results=2, scheduler=3, market=4)
    worker = parts.worker_program(
        StateFolder(tmp_path), ports, 1, slots=4, engine="unix:///e.sock", record_of=lambda: RECORD
    )

    told = worker.environment(RECORD)

    assert told["IEXEC_HUB_ADDRESS"] == str(RECORD.hub)
    assert told["IEXEC_BLOCK_TIME"] == "1"
    assert told["IEXEC_WORKER_WALLET_PATH"] == "/s/keystores/k"
    assert told["IEXEC_WORKER_WALLET_PASSWORD_FILE"] == "/s/passwords/worker-1.txt"
    assert told["IEXEC_WORKER_OVERRIDE_AVAILABLE_CPU_COUNT"] == "4"
    assert told["POOLWRIGHT_NETWORK_ID"] == "0badcafe"
    assert told["DOCKER_HOST"] == "unix:///e.sock"


def test_each_role_has_its_wallets() -> None:
    assert provision.roles(2) == {
        "deployer": "deployer",
        "manager": "manager",
        "provider": "provider",
        "requester": "requester",
        "worker-1": "worker",
        "worker-2": "worker",
    }


def test_nothing_is_up_in_an_empty_folder_and_nothing_is_made_there(tmp_path: Path) -> None:
    empty = tmp_path / "state"

    assert network.status(empty)["state"] == "down"
    assert not network.down(empty, lambda line: None)
    assert not empty.exists()


def test_records_of_a_killed_supervisor_are_shown_as_lost_and_cleared(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    folder.create()
    gone = subprocess.Popen(["true"])
    gone.wait()
    for name in (SUPERVISOR, "scheduler"):
        folder.write_record(ProcessRecord(name=name, pid=gone.pid, start_ticks=1, state="ready", rank=1))

    found = network.status(tmp_path)
    assert found["state"] == "lost"
    assert [(part["name"], part["state"], part["pid"]) for part in found["parts"]] == [
        ("supervisor", "lost", None),
        ("scheduler", "lost", None),
    ]
    assert network.down(tmp_path, lambda line: None)
    assert folder.records() == []


def test_orphans_of_a_killed_supervisor_are_ended(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    folder.create()
    said: list[str] = []
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as orphan:
        folder.write_record(
            ProcessRecord(
                name="scheduler", pid=orphan.pid, start_ticks=start_ticks(orphan.pid), state="ready", rank=1
            )
        )

        assert network.clean_up(folder, said.append)
        assert orphan.wait(10) == -15

    assert said == ["Ending what an earlier run left: scheduler."]


def test_forgetting_a_network_leaves_strangers_files_alone(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    folder.create()
    (tmp_path / "worker-1").mkdir()
    (tmp_path / "network.json").write_text("{}")
    (tmp_path / "thesis.tex").touch()

    folder.forget()

    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs", "run", "thesis.tex"]


def test_long_log_is_moved_aside_while_its_writer_goes_on(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    folder.create()
    with folder.log("chain").open("ab", buffering=0) as writer:
        writer.write(b"one line that is long\n")
        folder.shorten_logs(limit_bytes=10)
        writer.write(b"next\n")

    assert folder.log("chain").read_bytes() == b"next\n"
    assert (tmp_path / "logs/chain.log.1").read_bytes() == b"one line that is long\n"


def test_second_supervisor_cannot_hold_the_folder(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)

    with folder.held() as first, folder.held() as second:
        assert (first, second) == (True, False)


def test_records_are_json_for_programs(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    folder.create()
    folder.write_record(
        ProcessRecord(name="chain", pid=os.getpid(), start_ticks=7, state="ready", url="http://h:1")
    )

    written = json.loads((tmp_path / "run/chain.json").read_text())

    assert written["pid"] == os.getpid()
    assert written["url"] == "http://h:1"
    assert written["state"] == "ready"
    assert written["restarts"] == 0
