"""Encrypting dataset files as the official client does.

    <file>.enc = iv (16 random bytes) || AES-256-CBC with PKCS #7 padding       <file>.key = the key in base64

The checksum that the registry wants is the SHA-256 of the `.enc` file.  Files are read piece by piece, so
their size does not matter, and an `.enc` appears only when it is complete.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from poolwright.cli.iexec.errors import IexecError
from poolwright.cli.iexec.files import write_text
from poolwright.poco.types import Hash32

ORIGINALS: Final = Path("datasets/original")
ENCRYPTED: Final = Path("datasets/encrypted")
KEYS: Final = Path(".secrets/datasets")
LAST_KEY: Final = "dataset.key"
"""Holds the key of the file that was encrypted last."""

PIECE_BYTES: Final = 1 << 20
KEY_BYTES: Final = 32
BLOCK_BYTES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class EncryptedFile:
    """One encrypted dataset file and its key's file."""

    original: Path
    encrypted: Path
    key: Path
    checksum: Hash32


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """Where originals, encrypted files and keys are."""

    originals: Path
    encrypted: Path
    keys: Path

    def make(self) -> None:
        """Make those that are missing; the keys' is for their owner only. Raises IexecError."""
        try:
            self.originals.mkdir(parents=True, exist_ok=True)
            self.encrypted.mkdir(parents=True, exist_ok=True)
            self.keys.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as problem:
            raise IexecError("dataset folders cannot be made", got=str(problem)) from problem

    def key_of(self, original: Path) -> Path:
        return self.keys / f"{original.name}.key"

    def files(self) -> list[Path]:
        """The files to encrypt, by name. Raises IexecError when there are none."""
        try:
            found = sorted(path for path in self.originals.iterdir() if path.is_file())
        except OSError as problem:
            raise IexecError(
                f'Input folder "{self.originals}" cannot be read',
                got=problem.strerror or str(problem),
                next_step="make it with `iexec dataset init --encrypted`",
            ) from problem
        if not found:
            raise IexecError(f'Input folder "{self.originals}" is empty, nothing to encrypt')
        return found


def encrypt_file(original: Path, folders: Folders, told: Callable[[int], None]) -> EncryptedFile:
    """Encrypt one file under a new key; `told` hears how many bytes are done. Raises IexecError."""
    key = secrets.token_bytes(KEY_BYTES)
    encrypted = folders.encrypted / f"{original.name}.enc"
    partial = encrypted.with_name(f".{encrypted.name}.{secrets.token_hex(4)}")
    try:
        # The key is safe before there is anything that only it can read.
        text = base64.b64encode(key).decode()
        write_text(folders.key_of(original), text, mode=0o600)
        try:
            checksum = _encrypt(original, partial, key, told)
            os.replace(partial, encrypted)
        finally:
            partial.unlink(missing_ok=True)
        write_text(folders.keys / LAST_KEY, text, mode=0o600)
    except OSError as problem:
        raise IexecError(f'"{original.name}" cannot be encrypted', got=str(problem)) from problem
    return EncryptedFile(
        original=original, encrypted=encrypted, key=folders.key_of(original), checksum=checksum
    )


def _encrypt(original: Path, target: Path, key: bytes, told: Callable[[int], None]) -> Hash32:
    """Write iv and ciphertext; returns their SHA-256."""
    iv = secrets.token_bytes(BLOCK_BYTES)
    cipher, padding = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor(), PKCS7(8 * BLOCK_BYTES).padder()
    digest, done = hashlib.sha256(iv), 0
    with original.open("rb") as source, target.open("xb") as sink:
        sink.write(iv)
        while piece := source.read(PIECE_BYTES):
            text = cipher.update(padding.update(piece))
            digest.update(text)
            sink.write(text)
            done += len(piece)
            told(done)
        text = cipher.update(padding.finalize()) + cipher.finalize()
        digest.update(text)
        sink.write(text)
        sink.flush()
        os.fsync(sink.fileno())
    return Hash32(digest.digest())
