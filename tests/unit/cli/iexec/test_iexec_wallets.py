"""Which wallet a command uses, by the four rules, and what is written when one is made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from poolwright.cli.iexec import new_wallets, wallets
from poolwright.cli.iexec.command import Options, Run
from poolwright.cli.iexec.errors import IexecError
from poolwright.cli.iexec.output import Output
from poolwright.poco.signatures import address_of_key
from poolwright.poco.types import Address

KEYS = [bytes([number]) * 32 for number in (1, 2, 3)]
ADDRESSES = [address_of_key(key) for key in KEYS]


@pytest.fixture
def keystores(tmp_path: Path) -> Path:
    """Two files of wallet 0, one of wallet 1, in another order than their times, and things that are none."""
    folder = tmp_path / "ks"
    folder.mkdir()
    for number, time in ((0, "2026-01-02T00"), (1, "2026-03-01T00"), (0, "2026-02-02T00")):
        digits = str(ADDRESSES[number])[2:] if number else ADDRESSES[number].hex()
        (folder / f"UTC--{time}-00-00.000000000Z--{digits}").write_text(
            json.dumps({"address": ADDRESSES[number].hex()})
        )
    (folder / "UTC--2027-01-01--no-address").write_text("{}")
    (folder / "README").write_text("")
    return folder


def chosen(here: Path, keystores: Path, *, file: str | None = None, address: str | None = None) -> str:
    found = wallets.choose(here, keystores, file=file, address=address)
    assert found is not None
    return found.path.name


def test_a_named_file_comes_first(tmp_path: Path, keystores: Path) -> None:
    name = f"UTC--2026-01-02T00-00-00.000000000Z--{ADDRESSES[0].hex()}"

    found = wallets.choose(tmp_path, keystores, file=name, address=str(ADDRESSES[1]))

    assert found is not None
    assert (found.path, found.address) == (keystores / name, ADDRESSES[0])


@pytest.mark.parametrize("spelling", [str, lambda a: a.hex(), lambda a: f"0x{a.hex()}"])
def test_an_address_chooses_its_newest_file(tmp_path: Path, keystores: Path, spelling: object) -> None:
    assert callable(spelling)

    assert chosen(tmp_path, keystores, address=spelling(ADDRESSES[0])).startswith("UTC--2026-02-02")


def test_the_clear_wallet_of_the_folder_comes_before_keystores(tmp_path: Path, keystores: Path) -> None:
    wallets.save_clear(tmp_path, KEYS[2])

    found = wallets.choose(tmp_path, keystores, file=None, address=None)

    assert found is not None
    assert (found.address, found.is_clear, found.open()) == (ADDRESSES[2], True, KEYS[2])


def test_the_newest_keystore_is_the_last_resort(tmp_path: Path, keystores: Path) -> None:
    assert chosen(tmp_path, keystores).startswith("UTC--2026-03-01")


def test_without_any_wallet_there_is_none(tmp_path: Path) -> None:
    assert wallets.choose(tmp_path, tmp_path / "nothing", file=None, address=None) is None


def test_an_address_without_file_is_told_with_the_folder(tmp_path: Path, keystores: Path) -> None:
    with pytest.raises(IexecError) as caught:
        wallets.choose(tmp_path, keystores, file=None, address=str(ADDRESSES[2]))

    assert caught.value.what == f"No wallet file matching address {ADDRESSES[2]} found in {keystores}"


@pytest.mark.parametrize(
    ("content", "text"), [(None, "Wallet file not found"), ("[]", "Invalid wallet file")]
)
def test_a_named_file_that_is_no_keystore_is_refused(tmp_path: Path, content: str | None, text: str) -> None:
    if content is not None:
        (tmp_path / "mine").write_text(content)

    with pytest.raises(IexecError, match=text):
        wallets.choose(tmp_path, tmp_path, file="mine", address=None)


@pytest.mark.parametrize("text", ["0x12", "zz" * 32, None, " " * 64])
def test_a_key_that_is_none_is_refused_without_showing_it(text: object) -> None:
    with pytest.raises(IexecError) as caught:
        wallets.parse_key(text)

    assert str(text) not in str(caught.value)


def test_keystore_folders_have_three_spellings(tmp_path: Path) -> None:
    assert wallets.keystore_folder("local", tmp_path) == tmp_path
    assert wallets.keystore_folder("ks", tmp_path) == tmp_path / "ks"
    assert wallets.keystore_folder(None, tmp_path) == wallets.keystore_folder("global", tmp_path)


def test_a_clear_wallet_is_for_its_owner_only(tmp_path: Path) -> None:
    (tmp_path / "wallet.json").write_text("{}")  # readable by all, as the official client leaves it

    path, content = wallets.save_clear(tmp_path, KEYS[0])

    assert path.stat().st_mode & 0o777 == 0o600
    assert list(content) == ["privateKey", "publicKey", "address"]
    assert content["publicKey"].startswith("0x04")


def test_a_new_keystore_has_the_official_name_and_spelling(tmp_path: Path) -> None:
    options = Options(raw=True, password="pw", keystoredir="ks")

    made = new_wallets.make_wallet(Run(options, Output(raw=True), tmp_path), KEYS[0])

    [path] = (tmp_path / "ks").iterdir()
    assert wallets.KEYSTORE_NAME.fullmatch(path.name)
    assert path.name.endswith(f"000000Z--{str(ADDRESSES[0])[2:]}")
    assert made.file_name == f"ks/{path.name}"
    assert json.loads(path.read_text()) == made.content
    assert "Crypto" in made.content
    chosen = wallets.choose(tmp_path, tmp_path / "ks", file=None, address=None)
    assert chosen is not None
    assert chosen.open("pw") == KEYS[0]
    assert isinstance(chosen.address, Address)
