"""The digest of a result, recomputed from its zip where it lies on the disk.

The zip comes from a stranger. Nothing is unpacked: the list of entries is read within bounds and judged
as a whole, then only the entries that make the digest are inflated, piece by piece. What would hurt
whoever unpacks the zip later (paths out of the folder, links, two entries of one name, a bomb) is refused.
"""

from __future__ import annotations

import errno
import hashlib
import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from poolwright.poco.errors import InputError
from poolwright.poco.results import callback_digest, directory_digest, file_digest
from poolwright.poco.types import Hash32
from poolwright.results.checks import COMPUTED_JSON, Computed, read_computed
from poolwright.results.errors import WrongContent
from poolwright.results.storage import disk_errors

PIECE_BYTES = 1024 * 1024
MAX_DIRECTORY_BYTES = 8 * 1024 * 1024
"""Longest read of one go, and so the longest list of entries (the zip's central directory)."""
MAX_COMPUTED_JSON_BYTES = 256 * 1024
"""Callback data of 16 KiB in hex, with room."""
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_ENCRYPTED = 0x1
_ZIP_PROBLEMS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OverflowError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ZipLimits:
    """What a result zip may hold at most."""

    max_entries: int = 10_000
    max_inflated_bytes: int = 16 * 1024**3
    """All entries together, unpacked."""


class _BoundedFile(io.FileIO):
    """A file that never hands out more than MAX_DIRECTORY_BYTES at once.

    `zipfile` reads the central directory in one piece, as long as the zip says; this makes it stop there.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        unbounded = size is None or not 0 <= size <= MAX_DIRECTORY_BYTES
        piece = super().read(MAX_DIRECTORY_BYTES + 1 if unbounded else size) or b""
        if len(piece) > MAX_DIRECTORY_BYTES:
            raise _bad_zip(f"a list of entries of at most {MAX_DIRECTORY_BYTES} bytes", "a longer one")
        return piece


def result_digests(path: Path, limits: ZipLimits) -> tuple[Hash32, ...]:
    """Return the digests that this result can stand for, at least one (reference 8.2, 8.3).

    A result with callback data stands for their hash; one with a deterministic output for that of the file
    or folder. An app may name both, for use with and without a callback contract; which of them counts is
    what the worker revealed, and what is wrong with the other one does not matter. Blocks while it reads
    the disk. Raises WrongContent, StorageFailed.
    """
    with (
        disk_errors(path.parent),
        _zip_errors(),
        _BoundedFile(path) as file,
        zipfile.ZipFile(file) as archive,
    ):
        entries = _judge(archive.infolist(), limits)
        computed = _computed(archive, entries)
        digests = [] if computed.callback is None else [callback_digest(computed.callback)]
        try:
            digests += [] if computed.output is None else [_output_digest(archive, entries, computed.output)]
        except WrongContent:
            if not digests:
                raise
        return tuple(digests)


def _judge(infos: list[zipfile.ZipInfo], limits: ZipLimits) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """Check the list of entries and return the files by path."""
    if len(infos) > limits.max_entries:
        raise _bad_zip(f"at most {limits.max_entries} entries", f"{len(infos)}")
    inflated = sum(info.file_size for info in infos)
    if inflated > limits.max_inflated_bytes:
        raise _bad_zip(f"at most {limits.max_inflated_bytes} bytes unpacked", f"{inflated}")
    files: dict[PurePosixPath, zipfile.ZipInfo] = {}
    folders: set[PurePosixPath] = set()
    for info in infos:
        path = _path(info)
        if info.is_dir():
            folders.add(path)
        elif path in files:
            raise _bad_zip("each name once", f"{info.filename!r} twice")
        else:
            files[path] = info
        folders.update(path.parents)
    for path in folders & files.keys():
        raise _bad_zip("a file or a folder", f"{str(path)!r} as both")
    return files


def _path(info: zipfile.ZipInfo) -> PurePosixPath:
    name = info.filename.removesuffix("/")
    # orig_filename is the name before zipfile cut it at a NUL byte
    if any(part in ("", ".", "..") for part in name.split("/")) or "\\" in name or "\0" in info.orig_filename:
        raise _bad_zip("paths inside the result", repr(info.orig_filename)[:100])
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _bad_zip("files and folders only", f"{info.filename!r} of another kind (mode {kind:o})")
    return PurePosixPath(name)


def _computed(archive: zipfile.ZipFile, entries: dict[PurePosixPath, zipfile.ZipInfo]) -> Computed:
    info = entries.get(PurePosixPath(COMPUTED_JSON))
    if info is None:
        raise _bad_zip(f"{COMPUTED_JSON} at the top", f"{len(entries)} other files")
    if info.file_size > MAX_COMPUTED_JSON_BYTES:
        raise _bad_zip(f"a {COMPUTED_JSON} of at most {MAX_COMPUTED_JSON_BYTES} bytes", f"{info.file_size}")
    return read_computed(b"".join(_inflate(archive, info)))


def _output_digest(
    archive: zipfile.ZipFile, entries: dict[PurePosixPath, zipfile.ZipInfo], output: PurePosixPath
) -> Hash32:
    if info := entries.get(output):
        return file_digest(_sha256(archive, info))
    inside = [(path.name, info) for path, info in entries.items() if path.parent == output]
    if not inside:
        raise _bad_zip(f"the deterministic output {str(output)!r} that {COMPUTED_JSON} names", "no such file")
    return directory_digest((name, _sha256(archive, info)) for name, info in inside)


def _sha256(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    digest = hashlib.sha256()
    for piece in _inflate(archive, info):
        digest.update(piece)
    return digest.digest()


def _inflate(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    """Yield the content of an entry; never more than its announced size, and its checksum is verified."""
    if info.compress_type not in _METHODS or info.flag_bits & _ENCRYPTED:
        raise _bad_zip("entries stored or deflated, not encrypted", repr(info.filename)[:100])
    size = 0
    with archive.open(info) as file:
        while piece := file.read(PIECE_BYTES):
            size += len(piece)
            yield piece
    if size != info.file_size:
        raise _bad_zip(f"{info.file_size} bytes in {info.filename!r}", f"{size}")


@contextmanager
def _zip_errors() -> Iterator[None]:
    """Turn whatever a damaged zip makes the standard library raise into WrongContent."""
    try:
        yield
    except InputError:
        raise
    except OSError as problem:
        if problem.errno != errno.EINVAL:
            raise
        raise _bad_zip("a readable zip", "an offset before its start") from problem
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        ValueError,
        OverflowError,
    ) as problem:
        raise _bad_zip("a readable zip", str(problem)[:200] or type(problem).__name__) from problem


def _bad_zip(expected: str, got: str) -> WrongContent:
    return WrongContent(
        "the body is not the zip of a result",
        code="bad-zip",
        expected=expected,
        got=got,
        next_step="zip the content of the iexec_out folder, regular files only",
    )
