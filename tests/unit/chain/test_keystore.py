"""Keystore files, with eth-account and eth-keyfile as oracle both ways."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pytest
from eth_account import Account
from eth_keyfile.keyfile import create_keyfile_json

from poolwright.chain import keystore
from poolwright.chain.keystore import LIGHT, STANDARD, Scrypt, WrongPassword
from poolwright.poco.errors import InputError
from poolwright.poco.signatures import address_of_key

KEY = bytes.fromhex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
FAST = Scrypt(n=2, r=8, p=1)


@pytest.mark.parametrize("cost", [FAST, LIGHT, STANDARD])
def test_what_we_write_the_oracle_reads(cost: Scrypt) -> None:
    assert Account.decrypt(keystore.encrypt(KEY, "pässword", cost=cost), "pässword") == KEY


@pytest.mark.parametrize(("kdf", "iterations"), [("scrypt", 2), ("pbkdf2", 10)])
def test_what_the_oracle_writes_we_read(kdf: Literal["scrypt", "pbkdf2"], iterations: int) -> None:
    content = create_keyfile_json(KEY, b"secret", kdf=kdf, iterations=iterations)
    assert keystore.decrypt(json.dumps(content).encode(), "secret") == KEY


def test_a_created_file_is_private_and_named_as_geth_does(tmp_path: Path) -> None:
    moment = datetime(2026, 11, 22, 2, 20, 56, 123456, tzinfo=UTC)
    path = keystore.create(tmp_path / "keys", "secret", key=KEY, cost=FAST, now=moment)
    assert path.name == "UTC--2026-11-22T02-20-56.123456000Z--f39fd6e51aad88f6f4ce6ab8827279cfffb92266"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert keystore.load(path, "secret") == KEY
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_file_created_without_a_key_gets_a_new_one(tmp_path: Path) -> None:
    keys = {keystore.load(keystore.create(tmp_path, "", cost=FAST), "") for _ in range(2)}
    assert len(keys) == 2
    assert all(address_of_key(key) for key in keys)


def test_a_wrong_password_is_told_as_such(tmp_path: Path) -> None:
    path = keystore.create(tmp_path, "secret", key=KEY, cost=FAST)
    with pytest.raises(WrongPassword, match=path.name) as caught:
        keystore.load(path, "Secret")
    assert "secret" not in str(caught.value).lower().replace("wrong", "")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'"text"',
        b'{"version": 3, "crypto": {}}',
        b'{"version": 3, "crypto": 5}',
        b"{" + b" " * 70_000 + b"}",
    ],
)
def test_a_file_that_is_no_keystore_is_told_as_such(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "wallet.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not a keystore") as caught:
        keystore.load(path, "secret")
    assert caught.value.code == "not-a-keystore"


@pytest.mark.parametrize(
    "change",
    [
        {"version": 1},
        {"cipher": "aes-256-ctr"},
        {"kdf": "argon2"},
        {"n": 1 << 40},
        {"n": 3},
        {"dklen": 16},
        {"ciphertext": "00"},
    ],
)
def test_a_keystore_that_cannot_be_opened_safely_is_refused(change: dict[str, object]) -> None:
    content = keystore.encrypt(KEY, "secret", cost=FAST)
    for name, value in change.items():
        crypto = content["crypto"]
        place = content if name in content else crypto if name in crypto else crypto["kdfparams"]
        place[name] = value
    with pytest.raises(InputError, match="is not a keystore"):
        keystore.decrypt(json.dumps(content).encode(), "secret")


def test_an_edited_address_is_noticed() -> None:
    content = keystore.encrypt(KEY, "secret", cost=FAST) | {"address": "00" * 20}
    with pytest.raises(InputError, match="names another address"):
        keystore.decrypt(json.dumps(content).encode(), "secret")


def test_a_missing_file_is_told_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json cannot be read"):
        keystore.load(tmp_path / "none.json", "secret")
