"""Keystore files, version 3: a wallet's key under a password, as geth and the official client write them.

    derived = scrypt(password, salt, n, r, p)  or  pbkdf2-hmac-sha256(password, salt, c)      32 bytes
    ciphertext = AES-128-CTR(derived[0:16], iv)(key)
    mac = keccak(derived[16:32] || ciphertext)

Source: the Web3 Secret Storage Definition, version 3.  Deriving takes about half a second and 128 MB on
purpose: call it off the event loop.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from poolwright.poco.errors import InputError
from poolwright.poco.keccak import keccak
from poolwright.poco.signatures import address_of_key
from poolwright.poco.types import Address

KEY_BYTES: Final = 32
DERIVED_BYTES: Final = 32
LARGEST_FILE_BYTES: Final = 64 * 1024
LARGEST_SCRYPT_BYTES: Final = 1 << 30
"""A file asking for more memory than 1 GiB is refused, not obeyed."""
LARGEST_PBKDF2_ROUNDS: Final = 50_000_000


class WrongPassword(InputError):
    """The password does not open this keystore; give the one it was made with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scrypt:
    """The cost of guessing a password: `n` (a power of two) memory steps of `r` blocks, `p` times."""

    n: int
    r: int
    p: int

    @property
    def memory_bytes(self) -> int:
        return 128 * self.r * (self.n + self.p + 2)

    def derive(self, password: str, salt: bytes) -> bytes:
        """The 32 derived bytes."""
        return hashlib.scrypt(
            password.encode(),
            salt=salt,
            n=self.n,
            r=self.r,
            p=self.p,
            maxmem=self.memory_bytes + (1 << 20),
            dklen=DERIVED_BYTES,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pbkdf2:
    """The other cost that a file may name: rounds of HMAC-SHA256. Read, never written."""

    rounds: int

    def derive(self, password: str, salt: bytes) -> bytes:
        """The 32 derived bytes."""
        return hashlib.pbkdf2_hmac("sha256", password.encode(), salt, self.rounds, DERIVED_BYTES)


STANDARD: Final = Scrypt(n=131072, r=8, p=1)
"""The official client's cost."""
LIGHT: Final = Scrypt(n=4096, r=8, p=6)
"""geth's `--lightkdf`: for wallets that hold nothing of value."""


def load(path: Path | str, password: str) -> bytes:
    """Read the private key out of a keystore file.

    Raises InputError when there is no such file or it is no keystore, WrongPassword when the password is
    wrong, InputError (`wrong-address`) when the file names another address than its key has.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST_FILE_BYTES + 1)
    except OSError as problem:
        raise InputError(
            f"keystore {path} cannot be read",
            code="no-keystore",
            got=problem.strerror or str(problem),
            next_step="give the path of a keystore file (version 3)",
        ) from problem
    return decrypt(raw, password, str(path))


def decrypt(raw: bytes, password: str, name: str = "keystore") -> bytes:
    """Read the private key out of a keystore's bytes; `name` is for the errors, which are those of `load`."""
    try:
        locked = _read(raw)
        derived = locked.kdf.derive(password, locked.salt)
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise InputError(
            f"{name} is not a keystore",
            code="not-a-keystore",
            expected="keystore version 3: aes-128-ctr with scrypt or pbkdf2, key of 32 bytes",
            got=_describe(raw),
            next_step="give a file written by geth or by `iexec wallet create`",
        ) from problem
    if not hmac.compare_digest(keccak(derived[16:32] + locked.ciphertext), locked.mac):
        raise WrongPassword(
            f"wrong password for {name}",
            code="wrong-password",
            next_step="give the password it was made with",
        )
    key = _aes_ctr(derived[:16], locked.iv, locked.ciphertext)
    if locked.address and locked.address != address_of_key(key).hex():
        raise InputError(
            f"{name} names another address than its key has",
            code="wrong-address",
            expected=str(address_of_key(key)),
            got=f"0x{locked.address}"[:80],
            next_step="the file was edited; use an unchanged copy",
        )
    return key


def create(
    folder: Path | str,
    password: str,
    *,
    key: bytes | None = None,
    cost: Scrypt = STANDARD,
    now: datetime | None = None,
) -> Path:
    """Write a new keystore file into `folder` (made when missing), readable by its owner only.

    `key` is a new random one when not given.  The name is geth's: `UTC--<time>--<address>`.
    Returns the path.  Raises InputError when the key is none or the file cannot be written.
    """
    key = new_key() if key is None else key
    content = encrypt(key, password, cost=cost)
    time = (now or datetime.now(UTC)).astimezone(UTC)
    name = f"UTC--{time:%Y-%m-%dT%H-%M-%S.%f}000Z--{content['address']}"
    path = Path(folder) / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(path, json.dumps(content).encode())
    except OSError as problem:
        raise InputError(
            f"keystore {path} cannot be written",
            code="keystore-not-written",
            got=problem.strerror or str(problem),
            next_step="choose a folder that you may write to",
        ) from problem
    return path


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, complete or not at all. Raises OSError."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        with suppress(OSError):
            partial.unlink()
        raise


def new_key() -> bytes:
    """A new random private key."""
    while True:
        key = secrets.token_bytes(KEY_BYTES)
        with suppress(InputError):
            address_of_key(key)
            return key


def encrypt(key: bytes, password: str, *, cost: Scrypt = STANDARD) -> dict[str, Any]:
    """The keystore's JSON of a key. Raises InputError when the key is none."""
    address: Address = address_of_key(key)
    salt, iv = secrets.token_bytes(32), secrets.token_bytes(16)
    derived = cost.derive(password, salt)
    ciphertext = _aes_ctr(derived[:16], iv, key)
    return {
        "address": address.hex(),
        "crypto": {
            "cipher": "aes-128-ctr",
            "cipherparams": {"iv": iv.hex()},
            "ciphertext": ciphertext.hex(),
            "kdf": "scrypt",
            "kdfparams": {
                "dklen": DERIVED_BYTES,
                "n": cost.n,
                "p": cost.p,
                "r": cost.r,
                "salt": salt.hex(),
            },
            "mac": keccak(derived[16:32] + ciphertext).hex(),
        },
        "id": str(uuid.uuid4()),
        "version": 3,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Locked:
    """What a keystore file says."""

    address: str
    """Lower-case hex without 0x; empty when the file keeps it to itself."""
    kdf: Scrypt | Pbkdf2
    salt: bytes
    iv: bytes
    ciphertext: bytes
    mac: bytes


def _read(raw: bytes) -> _Locked:
    """Raises ValueError, KeyError, TypeError, AttributeError when `raw` is no keystore."""
    content = json.loads(raw) if len(raw) <= LARGEST_FILE_BYTES else {}
    crypto = content.get("crypto") or content["Crypto"]
    _require(content["version"] == 3, "version")
    _require(crypto["cipher"] == "aes-128-ctr", "cipher")
    locked = _Locked(
        address=str(content.get("address", "")).lower().removeprefix("0x"),
        kdf=_read_kdf(crypto["kdf"], crypto["kdfparams"]),
        salt=bytes.fromhex(crypto["kdfparams"]["salt"]),
        iv=bytes.fromhex(crypto["cipherparams"]["iv"]),
        ciphertext=bytes.fromhex(crypto["ciphertext"]),
        mac=bytes.fromhex(crypto["mac"]),
    )
    _require(len(locked.ciphertext) == KEY_BYTES, "ciphertext")
    _require(len(locked.iv) == 16, "iv")
    return locked


def _read_kdf(name: object, params: Mapping[str, Any]) -> Scrypt | Pbkdf2:
    _require(params["dklen"] == DERIVED_BYTES, "dklen")
    if name == "scrypt":
        scrypt = Scrypt(n=int(params["n"]), r=int(params["r"]), p=int(params["p"]))
        _require(0 < scrypt.memory_bytes <= LARGEST_SCRYPT_BYTES, "scrypt memory")
        return scrypt
    _require(name == "pbkdf2" and params["prf"] == "hmac-sha256", "kdf")
    pbkdf2 = Pbkdf2(rounds=int(params["c"]))
    _require(0 < pbkdf2.rounds <= LARGEST_PBKDF2_ROUNDS, "pbkdf2 rounds")
    return pbkdf2


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(what)


def _aes_ctr(key: bytes, iv: bytes, text: bytes) -> bytes:
    encryptor = Cipher(algorithms.AES(key), modes.CTR(iv)).encryptor()
    return encryptor.update(text) + encryptor.finalize()


def _describe(raw: bytes) -> str:
    """What a wrong file looks like, without showing what may be a secret."""
    try:
        content = json.loads(raw)
    except ValueError:
        return f"{len(raw)} bytes that are no JSON"
    if not isinstance(content, dict):
        return f"JSON {type(content).__name__}"
    return f"JSON with {', '.join(sorted(map(str, content)))[:100] or 'nothing'}"
