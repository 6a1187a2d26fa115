"""The frame: nouns are loaded when called, wrong usage exits with 1, dataset files are encrypted."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from poolwright import __version__
from poolwright.cli.iexec.amounts import parse_ether
from poolwright.cli.iexec.errors import IexecError, UserRefused, ValidationError
from poolwright.cli.iexec.main import NOUNS, main, root
from poolwright.cli.iexec.multiaddr import stored
from poolwright.cli.iexec.prompts import confirm
from poolwright.compute.multiaddr import location_of


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    try:
        main(words)
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    told = capsys.readouterr()
    return code, told.out, told.err


def test_the_version_is_told_without_loading_the_command_line() -> None:
    script = (
        "import sys; from poolwright.cli.iexec.main import main; main(['--version']);"
        "print(sorted({'click', 'aiohttp', 'rich', 'asyncio', 'coincurve'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30
    )

    assert done.stdout.splitlines() == [__version__, "[]"]


@pytest.mark.parametrize("words", [["--help"], ["wallet", "create", "--help"], ["app", "init", "--help"]])
def test_help_loads_neither_chain_nor_event_loop(words: list[str]) -> None:
    script = (
        f"import sys; from poolwright.cli.iexec.main import main\n"
        f"try: main({words!r})\nexcept SystemExit: pass\n"
        "print(sorted({'aiohttp', 'rich', 'asyncio'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30
    )

    assert "Usage: iexec" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("noun", NOUNS)
def test_each_noun_has_verbs_with_help_and_a_real_example(noun: str) -> None:
    command = import_module(f"poolwright.cli.iexec.nouns.{noun}").COMMAND
    verbs = list(command.commands.values()) if isinstance(command, click.Group) else [command]

    assert verbs
    for verb in verbs:
        assert f"Example: iexec {noun}" in (verb.help or "")
        assert {"--raw", "--quiet"} <= {name for one in verb.params for name in one.opts}


@pytest.mark.parametrize("noun", NOUNS)
def test_each_example_is_a_call_that_its_verb_takes(noun: str) -> None:
    command = import_module(f"poolwright.cli.iexec.nouns.{noun}").COMMAND
    verbs = list(command.commands.values()) if isinstance(command, click.Group) else [command]

    for verb in verbs:
        example = (verb.help or "").partition("Example: ")[2]
        spoken = shlex.split(example)
        expected = ["iexec", noun] if verb is command else ["iexec", noun, str(verb.name)]
        assert spoken[: len(expected)] == expected
        verb.make_context(str(verb.name), spoken[len(expected) :])  # raises when it is wrong usage


@pytest.mark.parametrize("words", [["1", "gwei"], ["1 gwei"], ["1000000000"], ["1000000000", "wei"]])
def test_a_gas_price_is_one_word_or_two(words: list[str]) -> None:
    withdraw = import_module("poolwright.cli.iexec.nouns.account").COMMAND.commands["withdraw"]

    context = withdraw.make_context("withdraw", ["--gas-price", *words, "5", "RLC", "--confirms", "2"])

    assert parse_ether(context.params["gas_price"], None, "wei") == 10**9
    assert (context.params["amount"], context.params["unit"]) == ("5", "RLC")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_completes_nouns_verbs_and_options(shell: str) -> None:
    def completed(*words: str) -> str:
        told = {
            "_IEXEC_COMPLETE": f"{shell}_complete",
            "COMP_WORDS": " ".join(words),
            "COMP_CWORD": words[-1] if shell == "fish" else str(len(words) - 1),
        }
        return output(told)

    def output(told: dict[str, str]) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "poolwright.cli.iexec"],
            env={**os.environ, **told},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "_IEXEC_COMPLETE" in output({"_IEXEC_COMPLETE": f"{shell}_source"})
    assert "workerpool" in completed("iexec", "work")
    assert "unpublish" in completed("iexec", "order", "unp")
    assert "--skip-preflight-check" in completed("iexec", "order", "sign", "--sk")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["wallets"], "error: No such command 'wallets'."),
        (["wallet", "sho"], "error: No such command 'sho'."),
        (["account", "deposit"], "error: Missing argument 'AMOUNT'."),
        (["wallet", "show", "--colour"], "error: No such option '--colour'."),
        (["account", "deposit", "1", "--confirms", "0", "--raw"], "error: Invalid value for '--confirms'"),
    ],
)
def test_wrong_usage_is_an_error_with_help_and_exit_code_1(
    words: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, *words)

    assert (code, out) == (1, "")
    assert err.startswith(text)
    assert "Usage: iexec" in err


def test_a_failure_names_the_command_and_exits_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    code, out, err = run(capsys, "app", "show", "--raw")

    assert (code, out) == (1, "")
    assert json.loads(err) == {
        "ok": False,
        "command": "iexec app show",
        "error": {
            "name": "Error",
            "message": 'Missing "chain.json" file, did you forget to run "iexec init"?',
        },
    }


def test_init_asks_before_it_replaces_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "iexec.json").write_text("{}")

    refused = CliRunner().invoke(root(), ["init", "--skip-wallet"], input="n\n")

    assert (refused.exit_code, (tmp_path / "iexec.json").read_text()) == (1, "{}")
    assert "Operation aborted by user." in refused.stderr
    assert run(capsys, "init", "--skip-wallet", "--raw") == (
        0,
        '{"ok":true,"configFile":"iexec.json","chainConfigFile":"chain.json"}\n',
        "",
    )


def test_dataset_files_are_encrypted_so_that_their_key_opens_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    contents = {"a.txt": b"hello world", "empty": b"", "exact": bytes(3 << 20)}
    (tmp_path / "datasets/original/folder").mkdir(parents=True)
    for name, content in contents.items():
        (tmp_path / "datasets/original" / name).write_bytes(content)

    code, out, err = run(capsys, "dataset", "encrypt", "--raw")

    assert (code, err) == (0, "")
    answer = json.loads(out)
    assert answer["secretPath"] == str(tmp_path / ".secrets/datasets")
    assert [Path(one["original"]).name for one in answer["encryptedFiles"]] == sorted(contents)
    for one in answer["encryptedFiles"]:
        raw = Path(one["encrypted"]).read_bytes()
        key = base64.b64decode(Path(one["key"]).read_text())
        assert one["checksum"] == f"0x{hashlib.sha256(raw).hexdigest()}"
        opener = Cipher(algorithms.AES(key), modes.CBC(raw[:16])).decryptor()
        text = opener.update(raw[16:]) + opener.finalize()
        assert text[: -text[-1]] == contents[Path(one["original"]).name]
    last = tmp_path / ".secrets/datasets/dataset.key"
    assert last.read_text() == Path(answer["encryptedFiles"][-1]["key"]).read_text()
    assert last.stat().st_mode & 0o777 == 0o600


def test_an_empty_folder_has_nothing_to_encrypt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "datasets/original").mkdir(parents=True)

    code, _, err = run(capsys, "dataset", "encrypt", "--raw")

    assert code == 1
    folder = tmp_path / "datasets/original"
    assert json.loads(err)["error"]["message"] == f'Input folder "{folder}" is empty, nothing to encrypt'


@pytest.mark.parametrize(
    "cid",
    [
        "QmW2WQi7j6c7UgJTarActp7tDNikE4B2qXtFCfLPdsgaTQ",
        "bafybeibwzifw52ttrkqlikfzext5akxu7lz4xiwjgwzmqcpdzmp3n5vnbe",
    ],
)
def test_ipfs_addresses_are_stored_as_binary_and_read_back(cid: str) -> None:
    assert location_of(stored(f"/ipfs/{cid}", "multiaddr")) == f"/ipfs/{cid}"


def test_other_addresses_are_stored_as_text() -> None:
    assert stored("iexechub/python-hello-world:8.0.4", "multiaddr") == b"iexechub/python-hello-world:8.0.4"


@pytest.mark.parametrize("cid", ["", "Qm", "Qm" + "0" * 44, "bafy!"])
def test_an_ipfs_path_without_content_id_is_refused(cid: str) -> None:
    with pytest.raises(ValidationError, match="multiaddr is not an IPFS address"):
        stored(f"/ipfs/{cid}", "multiaddr")


@click.command()
def publish() -> None:
    """A verb that asks."""
    confirm("Do you want to publish the following apporder?\nappprice: 5\n")


def test_a_question_is_asked_again_without_what_was_shown_below_it() -> None:
    agreed = CliRunner().invoke(publish, input="what\nYES\n")

    assert agreed.exit_code == 0
    asked = agreed.stderr
    assert asked.startswith("? Do you want to publish the following apporder?\nappprice: 5")
    assert asked.count("appprice: 5") == 1
    assert "? Please answer yes or no: Do you want to publish the following apporder? (Y/n)" in asked


def test_a_no_and_the_end_of_the_input_stop_a_verb() -> None:
    assert isinstance(CliRunner().invoke(publish, input="what\nno\n").exception, UserRefused)
    silent = CliRunner().invoke(publish, input="").exception
    assert isinstance(silent, IexecError)
    assert "give --force" in str(silent)
