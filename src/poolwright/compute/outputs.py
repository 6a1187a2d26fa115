"""What an app left in /iexec_out: its digest, its archive, and the stand-in when it failed.

Everything here reads what a stranger's program wrote. No link is followed, nothing but regular files is
opened, what is read at once is bounded. The archive holds regular files only, so that whoever verifies it
(the result repository, the requester) comes to the same digest; it must therefore be made after the logs
were added, and the digest be taken after that too:

    add_logs -> read_result -> write_archive        after an app that ended with 0
    describe_failure -> write_archive               after one that did not

An app names its result in computed.json (scheduler-worker.md sections 8.2 and 8.3):

    {"deterministic-output-path": "/iexec_out/…"}   a file: its sha256; a folder: keccak of its files' sha256
    {"callback-data": "0x…"}                        for a deal with a callback: keccak of these bytes
"""

from __future__ import annotations

import json
import os
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from poolwright.compute.disk import DiskUnavailable, give_back, remove_tree
from poolwright.compute.logs import STDERR, STDOUT
from poolwright.compute.port import IEXEC_OUT
from poolwright.poco.errors import InputError
from poolwright.poco.results import callback_digest, directory_digest, file_digest
from poolwright.poco.types import Hash32

COMPUTED_JSON = "computed.json"
ERROR_TXT = "error.txt"
OUTPUT_PATH_KEY = "deterministic-output-path"
CALLBACK_KEY = "callback-data"

MAX_COMPUTED_JSON_BYTES = 256 * 1024
MAX_ARCHIVE_FILES = 10_000
"""What the result repository takes."""
CHUNK_BYTES = 1 << 20
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
_ZIP_MODE = (stat.S_IFREG | 0o644) << 16
_ADVICE = (
    f'write {IEXEC_OUT}/{COMPUTED_JSON} with {{"{OUTPUT_PATH_KEY}": "{IEXEC_OUT}/<your result>"}} '
    "at the end of the app"
)


class NoDeterminismHash(InputError):
    """The app ended without saying, in computed.json, what its result is. Section 9.3's cause is the code."""

    def __init__(self, expected: str, got: str, next_step: str = _ADVICE) -> None:
        super().__init__(
            "the app's result has no digest",
            code="DETERMINISM_HASH_NOT_FOUND",
            expected=expected,
            got=got,
            next_step=next_step,
        )


class NotArchivable(InputError):
    """The app wrote files that no archive should carry to others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputedResult:
    """The digest that goes on chain, and the callback's bytes for a deal that has one."""

    digest: Hash32
    callback: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """The result's zip on this disk."""

    path: Path
    size_bytes: int
    files: int


def add_logs(output_dir: Path, log_dir: Path) -> None:
    """Put stdout.txt and stderr.txt into the result, those that are not empty (section 9.4).

    A file of that name that the app wrote itself is its result and stays.
    """
    for name in (STDOUT, STDERR):
        source, target = log_dir / name, output_dir / name
        if source.exists() and source.stat().st_size and not os.path.lexists(target):
            target.write_bytes(source.read_bytes())


def read_result(output_dir: Path, *, has_callback: bool = False) -> ComputedResult:
    """The digest of what the app wrote. Blocking: reads the whole deterministic output.

    Raises NoDeterminismHash when computed.json is missing, unreadable, or names what is not there.
    """
    give_back(output_dir)
    fields = _computed_fields(output_dir)
    if has_callback:
        callback = _callback(fields)
        return ComputedResult(digest=callback_digest(callback), callback=callback)
    path = _output_path(output_dir, fields)
    if stat.S_ISREG(path.lstat().st_mode):
        return ComputedResult(digest=file_digest(_sha256(path)))
    files = [(entry.name, _sha256(Path(entry.path))) for entry in os.scandir(path) if _is_file(entry)]
    if not files:
        raise NoDeterminismHash(f"at least one file directly in {fields[OUTPUT_PATH_KEY]}", "none")
    return ComputedResult(digest=directory_digest(files))


def write_archive(output_dir: Path, archive: Path) -> Archive:
    """Zip the regular files of the result; the same files give the same bytes. Blocking; streams.

    Written beside its place and renamed, so that an archive that is there is complete. Raises NotArchivable
    for names or numbers of files that the result repository refuses, DiskUnavailable when the disk is full.
    """
    give_back(output_dir)
    files = sorted(_regular_files(output_dir))
    if len(files) > MAX_ARCHIVE_FILES:
        raise _not_archivable(f"at most {MAX_ARCHIVE_FILES} files", f"{len(files)}", "let the app pack them")
    for name, _ in files:
        _check_name(name)
    archive.parent.mkdir(parents=True, exist_ok=True)
    unfinished = archive.with_name(f".{archive.name}.part")
    try:
        with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as out:
            for name, path in files:
                _add(out, name, path)
        unfinished.replace(archive)
    except OSError as problem:
        raise DiskUnavailable(
            f"cannot write {archive}", got=str(problem), next_step="free space in the worker's folder"
        ) from problem
    finally:
        unfinished.unlink(missing_ok=True)
    return Archive(path=archive, size_bytes=archive.stat().st_size, files=len(files))


def describe_failure(
    output_dir: Path,
    *,
    cause: str,
    exit_code: int | None = None,
    log_dir: Path | None = None,
    has_callback: bool = False,
) -> ComputedResult:
    """Replace what a failed app left by a description of the failure, the same on every worker.

    The requester gets it as the task's result (section 9.3), with the app's logs beside it; only cause and
    exit code make the digest. For a deal with a callback its contract receives the description.
    """
    remove_tree(output_dir)
    output_dir.mkdir(parents=True)
    failure: dict[str, str | int] = {"cause": cause}
    if exit_code is not None:
        failure["exit-code"] = exit_code
    description = json.dumps([failure], sort_keys=True) + "\n"
    (output_dir / ERROR_TXT).write_text(description)
    computed = {OUTPUT_PATH_KEY: f"{IEXEC_OUT}/{ERROR_TXT}", "error-message": cause}
    if has_callback:
        computed[CALLBACK_KEY] = "0x" + description.encode().hex()
    (output_dir / COMPUTED_JSON).write_text(json.dumps(computed, sort_keys=True) + "\n")
    if log_dir is not None:
        add_logs(output_dir, log_dir)
    return read_result(output_dir, has_callback=has_callback)


# -- computed.json ---------------------------------------------------------------------------------------


def _computed_fields(output_dir: Path) -> dict[str, object]:
    try:
        with _open(output_dir / COMPUTED_JSON) as file:
            content = file.read(MAX_COMPUTED_JSON_BYTES + 1)
    except FileNotFoundError:
        names = sorted(os.listdir(output_dir))[:10] if output_dir.exists() else []
        raise NoDeterminismHash(
            f"{IEXEC_OUT}/{COMPUTED_JSON}", f"only {', '.join(names)}" if names else "an empty folder"
        ) from None
    if len(content) > MAX_COMPUTED_JSON_BYTES:
        raise NoDeterminismHash(
            f"a {COMPUTED_JSON} of at most {MAX_COMPUTED_JSON_BYTES} bytes", "a longer one"
        )
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise NoDeterminismHash(f"a JSON object in {COMPUTED_JSON}", repr(content[:60]))
    return fields


def _callback(fields: dict[str, object]) -> bytes:
    text = fields.get(CALLBACK_KEY)
    try:
        callback = bytes.fromhex(text.removeprefix("0x")) if isinstance(text, str) else b""
    except ValueError:
        callback = b""
    if not callback:
        raise NoDeterminismHash(
            f"{CALLBACK_KEY} in hex, for this deal has a callback",
            repr(text)[:100],
            f'write {IEXEC_OUT}/{COMPUTED_JSON} with {{"{CALLBACK_KEY}": "0x…"}} at the end of the app',
        )
    return callback


def _output_path(output_dir: Path, fields: dict[str, object]) -> Path:
    """The named output on this disk, every step of the way a real folder; neither link nor `..` leads on."""
    text = fields.get(OUTPUT_PATH_KEY)
    named = PurePosixPath(text) if isinstance(text, str) else None
    if named is None or "\0" in str(named) or ".." in named.parts or not named.is_relative_to(IEXEC_OUT):
        raise NoDeterminismHash(f"a {OUTPUT_PATH_KEY} in {IEXEC_OUT}", repr(text)[:100])
    path = output_dir
    for part in named.relative_to(IEXEC_OUT).parts:
        path = path / part
        try:
            mode = path.lstat().st_mode
        except OSError:
            raise NoDeterminismHash(f"the output {named} that {COMPUTED_JSON} names", "nothing") from None
        if stat.S_ISLNK(mode):
            raise NoDeterminismHash(
                f"a file or folder at {named}", f"a link at {part!r}", "copy the file instead of linking it"
            )
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise NoDeterminismHash(f"a file or folder at {named}", f"something else at {part!r}")
    return path


# -- files -----------------------------------------------------------------------------------------------


def _open(path: Path) -> BinaryIO:
    """Open a regular file that is no link, and never wait for the other end of a pipe."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as problem:
        raise NoDeterminismHash(f"a readable file {path.name}", problem.strerror or "none") from problem
    file = os.fdopen(descriptor, "rb")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise NoDeterminismHash(f"a file {path.name}", "something else")
    return file


def _sha256(path: Path) -> bytes:
    digest = sha256()
    with _open(path) as file:
        while piece := file.read(CHUNK_BYTES):
            digest.update(piece)
    return digest.digest()


def _is_file(entry: os.DirEntry[str]) -> bool:
    return entry.is_file(follow_symlinks=False)


def _regular_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Every regular file below, by its path in the archive; a loop, for a stranger chose the depth."""
    pending = [(folder, "")]
    while pending:
        below, prefix = pending.pop()
        with os.scandir(below) as entries:
            for entry in entries:
                if _is_file(entry):
                    yield prefix + entry.name, Path(entry.path)
                elif entry.is_dir(follow_symlinks=False):
                    pending.append((Path(entry.path), f"{prefix}{entry.name}/"))


def _check_name(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        readable = False
    else:
        readable = "\\" not in name
    if not readable:
        raise _not_archivable("file names in UTF-8 without backslash", repr(name)[:100], "rename the file")


def _add(out: zipfile.ZipFile, name: str, path: Path) -> None:
    entry = zipfile.ZipInfo(name, date_time=_ZIP_TIME)
    entry.create_system = 3  # Unix, whatever this is
    entry.external_attr = _ZIP_MODE
    entry.compress_type = zipfile.ZIP_DEFLATED
    with _open(path) as source:
        entry.file_size = os.fstat(source.fileno()).st_size
        with out.open(entry, "w") as target:
            while piece := source.read(CHUNK_BYTES):
                target.write(piece)


def _not_archivable(expected: str, got: str, next_step: str) -> NotArchivable:
    return NotArchivable(
        "the app's result cannot be archived",
        code="RESULT_NOT_ARCHIVABLE",
        expected=expected,
        got=got,
        next_step=next_step,
    )
