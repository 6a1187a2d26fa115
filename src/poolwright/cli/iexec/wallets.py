"""Which wallet a command uses (reference: market-sdk.md 1.2).

1. `--wallet-file` in the keystore folder; 2. `--wallet-address`: its newest file in the keystore folder;
3. ./wallet.json, the clear-text wallet of the folder; 4. the newest file of the keystore folder.
Where only the address is needed, nothing is decrypted.
"""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from poolwright.cli.iexec.errors import IexecError
from poolwright.cli.iexec.files import WALLET_FILE, read_json, write_json
from poolwright.poco.types import Address

KEYSTORE_NAME: Final = re.compile(r"UTC--([^-].*?)--(?:0x)?([0-9a-fA-F]{40})")
"""UTC--<time>--<address>, as geth and the official client write it; anything else is not chosen by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WalletFile:
    """A wallet's file, not opened yet."""

    path: Path
    address: Address
    is_clear: bool
    """wallet.json: the key stands in it."""

    def open(self, password: str = "") -> bytes:
        """Read the private key. Takes half a second for a keystore. Raises InputError, WrongPassword."""
        if self.is_clear:
            return parse_key(read_json(self.path.parent, self.path.name).get("privateKey"))
        from poolwright.chain import keystore

        return keystore.load(self.path, password)


def keystore_folder(option: str | None, here: Path) -> Path:
    """The folder that `--keystoredir` means: `global` (the default), `local`, or a path."""
    if option == "local":
        return here
    if option not in (None, "global"):
        return (here / Path(option).expanduser()).resolve()
    if sys.platform == "darwin":
        return Path.home() / "Library/Ethereum/keystore"
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA", str(Path.home() / "AppData/Roaming"))) / "Ethereum/keystore"
    return Path.home() / ".ethereum/keystore"


def choose(here: Path, keystores: Path, *, file: str | None, address: str | None) -> WalletFile | None:
    """Choose a wallet by the four rules; None when there is none at all.

    Raises IexecError when the one that is asked for is not there.
    """
    if file is not None:
        return _encrypted(keystores / file)
    if address is not None:
        wanted = parse_address(address)
        for path, found in keystore_files(keystores):
            if found == wanted:
                return WalletFile(path=path, address=found, is_clear=False)
        raise IexecError(
            f"No wallet file matching address {address} found in {keystores}",
            next_step="give another --wallet-address or --keystoredir",
        )
    if (here / WALLET_FILE).exists():
        return _clear(here)
    for path, found in keystore_files(keystores):
        return WalletFile(path=path, address=found, is_clear=False)
    return None


def keystore_files(folder: Path) -> list[tuple[Path, Address]]:
    """The keystores of a folder, the newest first by the time in their name."""
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    named = ((name, KEYSTORE_NAME.fullmatch(name)) for name in names)
    found = [(match[1], name, Address(bytes.fromhex(match[2]))) for name, match in named if match]
    return [(folder / name, address) for _, name, address in sorted(found, reverse=True)]


def none_found(keystores: Path) -> IexecError:
    """The error of a command that needs a wallet when there is none."""
    return IexecError(
        f"No wallet found: no --wallet-file, no --wallet-address, no {WALLET_FILE} "
        f"and no keystore in {keystores}",
        next_step="make one with `iexec wallet create`, or name its folder with --keystoredir",
    )


def save_clear(here: Path, key: bytes) -> tuple[Path, dict[str, Any]]:
    """Write wallet.json, readable by its owner only; returns its path and content."""
    content = clear_json(key)
    return write_json(here, WALLET_FILE, content, mode=0o600), content


def clear_json(key: bytes) -> dict[str, Any]:
    """The content of wallet.json: keys in clear text."""
    import coincurve

    from poolwright.poco.signatures import address_of_key

    address = address_of_key(key)
    public = coincurve.PrivateKey(key).public_key.format(compressed=False)
    return {"privateKey": f"0x{key.hex()}", "publicKey": f"0x{public.hex()}", "address": str(address)}


def parse_key(text: object) -> bytes:
    """Read a private key, with or without 0x. Raises IexecError, which does not show it."""
    digits = text.removeprefix("0x") if isinstance(text, str) else ""
    try:
        if len(digits) != 64:
            raise ValueError
        key = bytes.fromhex(digits)
        if len(key) != 32:
            raise ValueError
    except ValueError:
        # The cause is dropped and the text not shown: it may be most of a key.
        raise IexecError(
            "Invalid private key", expected="64 hexadecimal digits, with or without 0x"
        ) from None
    return key


def parse_address(text: str) -> Address:
    """Read an address, with or without 0x. Raises IexecError."""
    from poolwright.cli.iexec.values import address_of

    return address_of(text if text.lower().startswith("0x") else f"0x{text}")


def _encrypted(path: Path) -> WalletFile:
    try:
        content = json.loads(path.read_bytes())
        address = parse_address(content["address"])
    except FileNotFoundError as problem:
        raise IexecError(
            "Wallet file not found", got=str(path), next_step="give another --wallet-file or --keystoredir"
        ) from problem
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IexecError) as problem:
        raise IexecError(
            f"Invalid wallet file {path}", expected="a keystore, version 3", next_step="give another file"
        ) from problem
    return WalletFile(path=path, address=address, is_clear=False)


def _clear(here: Path) -> WalletFile:
    content = read_json(here, WALLET_FILE)
    key = parse_key(content.get("privateKey"))
    from poolwright.poco.signatures import address_of_key

    return WalletFile(path=here / WALLET_FILE, address=address_of_key(key), is_clear=True)
