"""The file of a SQLite store: one writing process, the right schema, and errors that people understand."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

from poolwright.poco.errors import InputError, InvariantBroken, PoolwrightError, Unavailable
from poolwright.store.sql import migrations

APPLICATION_ID: Final = 0x504F4F4C
"""Stands in the file's header ("POOL"), so that a file of another program is never touched."""
BUSY_MILLISECONDS: Final = 5_000
"""How long a statement waits for another program that holds the file, such as a backup."""
CHECKPOINT_PAGES: Final = 4_000
"""Pages of 4 KiB in the write-ahead log before they are copied into the file, each page once."""


class FileLock:
    """The right to write a store, held by one process and let go when it ends, however it ends.

    Raises InputError naming the other process when the store is in use.
    """

    def __init__(self, path: Path) -> None:
        lock_path = path.with_name(path.name + ".lock")
        try:
            self._descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as problem:
            raise _unusable(path, problem.strerror or str(problem)) from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(self._descriptor, 20).decode(errors="replace").strip()
            os.close(self._descriptor)
            raise InputError(
                f"store {path} is in use",
                code="store-in-use",
                expected="no other process that writes it",
                got=f"process {owner}" if owner else "a process that just started",
                next_step="stop that process, or give this one a folder of its own",
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        os.close(self._descriptor)


def open_for_writing(path: Path, *, busy_milliseconds: int = BUSY_MILLISECONDS) -> sqlite3.Connection:
    """The writer's connection to a store, made or brought up to date where needed; hold its FileLock."""
    with explained(path):
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))  # authorizations are nobody else's
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            connection.execute(f"PRAGMA busy_timeout = {busy_milliseconds}")
            _check_application(connection, path)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            connection.execute("PRAGMA synchronous = FULL")  # a commit that returned survives loss of power
            _migrate(connection, path)
        except BaseException:
            connection.close()
            raise
        return connection


def open_for_reading(path: Path) -> sqlite3.Connection:
    """A connection that cannot write. Raises InputError when there is no store of our version."""
    if not path.exists():
        raise InputError(
            f"no store at {path}", code="no-store", next_step="give the folder in which the daemon runs"
        )
    with explained(path):
        connection = sqlite3.connect(
            f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")
            _check_application(connection, path)
            version, known = _version(connection), len(migrations("sqlite"))
            if version != known:
                raise _other_version(path, version, known)
        except BaseException:
            connection.close()
            raise
        return connection


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours."""
    try:
        yield
    except sqlite3.Error as problem:
        raise explain(problem, path) from problem
    except OSError as problem:
        raise _unusable(path, problem.strerror or str(problem)) from problem


def explain(problem: sqlite3.Error, path: Path) -> PoolwrightError:
    """What a SQLite error means for whoever runs the store."""
    code = getattr(problem, "sqlite_errorcode", 0) & 0xFF
    match code:
        case sqlite3.SQLITE_FULL:
            return Unavailable(
                f"store {path}: the disk is full",
                code="store-full",
                next_step="free some space; it goes on by itself",
            )
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return Unavailable(
                f"store {path} is locked by another program",
                code="store-locked",
                next_step="close the program that has it open (a database shell, a backup)",
            )
        case sqlite3.SQLITE_IOERR:
            return Unavailable(
                f"store {path}: the disk fails ({problem})",
                code="store-io",
                next_step="look at the disk and its free space",
            )
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return InputError(
                f"store {path} is damaged ({problem})",
                code="store-damaged",
                next_step="restore it from a backup, or move it away and start over from the chain",
            )
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_READONLY:
            return _unusable(path, str(problem))
        case _:
            return InvariantBroken(f"store {path}: {problem}", code="store-refused")


def _unusable(path: Path, reason: str) -> InputError:
    return InputError(
        f"store {path} cannot be written",
        code="store-not-writable",
        got=reason,
        next_step="make its folder, and give this user the right to write there",
    )


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _check_application(connection: sqlite3.Connection, path: Path) -> None:
    application = int(connection.execute("PRAGMA application_id").fetchone()[0])
    is_empty = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
    if application != APPLICATION_ID and not (is_empty and application == 0):
        raise InputError(
            f"{path} is not a store of Poolwright",
            code="store-foreign",
            expected=f"application id {APPLICATION_ID:#x}",
            got=f"{application:#x}",
            next_step="give another file name",
        )


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    scripts = migrations("sqlite")
    version = _version(connection)
    if version > len(scripts):
        raise _other_version(path, version, len(scripts))
    for number in range(version + 1, len(scripts) + 1):
        connection.executescript(
            f"BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION_ID};"
            f"{scripts[number - 1]}; PRAGMA user_version = {number}; COMMIT;"
        )


def _other_version(path: Path, version: int, known: int) -> InputError:
    step = "upgrade Poolwright" if version > known else "start the daemon once, which brings it up to date"
    return InputError(
        f"store {path} has another schema",
        code="store-version",
        expected=f"version {known}",
        got=f"version {version}",
        next_step=step,
    )
