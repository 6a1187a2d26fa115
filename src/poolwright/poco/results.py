"""From a computed result to its digest, hash and seal.

The *digest* identifies the result and stays secret until reveal. The *hash* = keccak(task, digest) is what
workers agree on. The *seal* = keccak(worker, task, digest) proves that a worker knew the digest when it
contributed, so that nobody can copy another one's hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from poolwright.poco.errors import InputError
from poolwright.poco.keccak import keccak
from poolwright.poco.types import Address, Hash32, TaskId


def result_hash(task_id: TaskId, digest: Hash32) -> Hash32:
    """What workers contribute and consensus is about (IexecPoco2 reveal)."""
    return Hash32(keccak(task_id + digest))


def result_seal(worker: Address, task_id: TaskId, digest: Hash32) -> Hash32:
    """The worker's own commitment to `digest` (IexecPoco2 reveal)."""
    return Hash32(keccak(worker + task_id + digest))


def file_digest(sha256: bytes) -> Hash32:
    """Digest of a result whose deterministic output is one file, given the sha256 of that file.

    Raises InputError when it is not 32 bytes.
    """
    return Hash32(sha256)


def directory_digest(files: Iterable[tuple[str, bytes]]) -> Hash32:
    """Digest of a result whose deterministic output is a directory.

    `files` are (name, sha256 of the content) of the files directly inside, in any order; sub-directories
    contribute nothing. Names sort by UTF-16 code units, as in the official Java worker, whose digests ours
    must equal. Raises InputError for an empty directory, a doubled name, or a sha256 that is none.
    """
    name_to_sha256: dict[str, Hash32] = {}
    for name, sha256 in files:
        if name in name_to_sha256:
            raise InputError(f"file {name!r} given twice", code="doubled-file")
        name_to_sha256[name] = Hash32(sha256)
    if not name_to_sha256:
        raise InputError(
            "the deterministic output directory holds no file",
            code="empty-directory",
            expected="at least one file directly inside",
            next_step="let the app write its result there, or name a file in computed.json",
        )
    in_order = sorted(name_to_sha256, key=lambda name: name.encode("utf-16-be", "surrogatepass"))
    return Hash32(keccak(b"".join(name_to_sha256[name] for name in in_order)))


def callback_digest(results_callback: bytes) -> Hash32:
    """Digest of a result that goes to a callback contract: the hub compares it with these very bytes."""
    return Hash32(keccak(results_callback))


def sha256_of(content: bytes) -> Hash32:
    """sha256 of content that is already in memory."""
    return Hash32(hashlib.sha256(content).digest())
