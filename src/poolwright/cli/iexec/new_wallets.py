"""Making wallets: a keystore under a password, or ./wallet.json in clear text."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from poolwright.cli.iexec import prompts, wallets
from poolwright.cli.iexec.command import Run
from poolwright.cli.iexec.errors import IexecError
from poolwright.cli.iexec.files import WALLET_FILE
from poolwright.poco.types import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class NewWallet:
    """A wallet that was just written."""

    address: Address
    file_name: str
    """As the user names it: relative to the project folder when it was given so."""
    content: Mapping[str, Any]
    """What stands in the file."""


def ask_before_clear_wallet(run: Run) -> None:
    """Ask before ./wallet.json is replaced: the key in it would be lost. Raises UserRefused."""
    if _is_clear(run) and (run.folder / WALLET_FILE).exists():
        run.confirm(f'"{WALLET_FILE}" already exists, replace it with a new one?')


def make_wallet(run: Run, key: bytes | None) -> NewWallet:
    """Write a wallet of `key`, a new random one when None. Raises IexecError."""
    from poolwright.chain import keystore

    key = keystore.new_key() if key is None else key
    if _is_clear(run):
        _, content = wallets.save_clear(run.folder, key)
        run.out.warn(f"{WALLET_FILE} holds the key in clear text; everybody who reads it owns the wallet")
        return NewWallet(address=Address.parse(content["address"]), file_name=WALLET_FILE, content=content)
    if run.options.unencrypted:
        run.out.warn("--password was given, so --unencrypted is not followed")
    password = run.options.password or prompts.new_password()
    with run.out.working("Encrypting the wallet"):
        address, path, saved = _save_keystore(run.keystores, key, password)
    given = run.options.keystoredir
    shown = path.name if given == "local" else path if given in (None, "global") else Path(given, path.name)
    return NewWallet(address=address, file_name=os.fspath(shown), content=saved)


def _is_clear(run: Run) -> bool:
    """A password wins over --unencrypted, as in the official client: the safe one of the two."""
    return run.options.unencrypted and not run.options.password


def _save_keystore(folder: Path, key: bytes, password: str) -> tuple[Address, Path, Mapping[str, Any]]:
    """Write a keystore under the official client's name and spelling."""
    from poolwright.chain import keystore

    content = keystore.encrypt(key, password)
    content["Crypto"] = content.pop("crypto")
    address = Address(bytes.fromhex(content["address"]))
    time = datetime.now(UTC)
    milliseconds = f"{time:%Y-%m-%dT%H-%M-%S}.{time.microsecond // 1000:03d}000000Z"
    path = folder / f"UTC--{milliseconds}--{str(address)[2:]}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        keystore.write_private(path, _text(content))
    except OSError as problem:
        raise IexecError(
            f"Wallet file {path} cannot be written",
            got=problem.strerror or str(problem),
            next_step="give a folder that you may write to with --keystoredir",
        ) from problem
    return address, path, content


def _text(content: Mapping[str, Any]) -> bytes:
    import json

    return json.dumps(content, indent=2).encode()
