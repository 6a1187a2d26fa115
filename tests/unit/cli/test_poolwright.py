"""The command line as its user meets it: words, exit codes, no tracebacks."""

from pathlib import Path

import pytest

from poolwright.__main__ import main
from poolwright.devnet import commands
from poolwright.poco.errors import InputError


def exit_code(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(words)
    code = ended.value.code
    return code if isinstance(code, int) else 0


def test_version_is_printed_without_loading_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])

    assert capsys.readouterr().out.startswith("poolwright ")


def test_wrong_input_is_one_line_on_standard_error_and_exit_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert exit_code("up", "--state", str(tmp_path), "--workers", "99") == InputError.exit_code

    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "error: option --workers, expected 0 to 64, got 99\n"


def test_unknown_command_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("fly") == 2
    assert "No such command 'fly'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", ["setup", "up", "down", "status", "logs", "env", "scheduler", "worker", "results", "task"]
)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(command, "--help") == 0
    assert "Usage: poolwright" in capsys.readouterr().out


def test_status_of_nothing_is_down_and_exit_1(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert exit_code("status", "--state", str(tmp_path)) == 1
    assert capsys.readouterr().out == f"network - in {tmp_path}: down\n"


def test_down_of_nothing_is_no_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert exit_code("down", "--state", str(tmp_path)) == 0
    assert "No network is up" in capsys.readouterr().out


def test_status_is_a_table() -> None:
    part = {"name": "chain", "state": "ready", "pid": 12, "restarts": 0, "url": "http://127.0.0.1:8545"}
    lost = {"name": "worker-1", "state": "lost", "pid": None, "restarts": 3, "url": None}

    lines = commands.status_lines({"network": "ab", "folder": "/f", "state": "ready", "parts": [part, lost]})

    assert lines == [
        "network ab in /f: ready",
        "  part      state  pid  restarts  url",
        "  chain     ready  12   0         http://127.0.0.1:8545",
        "  worker-1  lost   -    3         -",
    ]
