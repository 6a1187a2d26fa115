"""The server of a PostgreSQL store: connections that notice its silence, its schema, errors that help.

A URL is libpq's: `postgresql://user@host:port/database`, and what the driver reads beside it (PGPASSFILE,
`?sslmode=require`, `?options=-csearch_path%3Dmy_pool`).
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Sequence
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict

from poolwright.poco.errors import InputError, InvariantBroken, PoolwrightError, Unavailable
from poolwright.store.postgresql_rows import register_columns

CONNECT_SECONDS: Final = 3
SILENCE_MILLISECONDS: Final = 4_000
"""After so long without an acknowledgement of what was sent, a connection counts as broken."""
STATEMENT_SECONDS: Final = 30
"""The server ends a statement that takes longer."""
TERM_OVER: Final = "PWL01"
"""What `hold_lease` raises, see the migration."""
MIGRATION_LOCK: Final = 0x504F4F4C
"""Key of the advisory lock under which a new database gets its first tables ("POOL")."""

UNFIT: Final = (struct.error, UnicodeError, TypeError)
"""Raised when values cannot even be brought into the server's form."""


Connection = psycopg.Connection[Any]


def connect(url: str, *, role: str) -> Connection:
    """A connection in autocommit mode; `role` stands in the server's list of activities.

    Raises psycopg.Error when the server does not take it.
    """
    connection = psycopg.connect(
        url,
        autocommit=True,
        connect_timeout=CONNECT_SECONDS,
        application_name=f"poolwright {role}",
        keepalives_idle=2,
        keepalives_interval=1,
        keepalives_count=2,
        tcp_user_timeout=SILENCE_MILLISECONDS,
    )
    register_columns(connection)
    connection.execute(f"SET statement_timeout = '{STATEMENT_SECONDS}s'")
    return connection


def cut(connection: Connection) -> None:
    """End the conversation from another thread than the one that waits for its answer."""
    with (
        contextlib.suppress(OSError, psycopg.Error),
        socket.socket(fileno=os.dup(connection.fileno())) as wire,
    ):
        wire.shutdown(socket.SHUT_RDWR)


def name_of(url: str) -> str:
    """The store in messages: where it is, without a password."""
    try:
        parts = conninfo_to_dict(url)
    except psycopg.Error as problem:
        raise InputError(
            "cannot read the store's URL",
            code="bad-store-url",
            expected="postgresql://user@host:port/database",
            got=str(problem).strip(),
            next_step="correct POOLWRIGHT_STORE_URL",
        ) from None
    host, port = parts.get("host", "localhost"), parts.get("port", "5432")
    return f"postgresql://{host}:{port}/{parts.get('dbname', '')}"


def prepare_schema(connection: Connection, name: str, scripts: Sequence[str]) -> None:
    """Make the tables of a store where there are none yet. Raises InputError when they are of a newer one.

    Older tables are left as they are: another scheduler may lead with them; see `migrate`.
    """
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (MIGRATION_LOCK,))
        connection.execute("CREATE TABLE IF NOT EXISTS store_version (version integer NOT NULL)")
        if _version(connection) == 0:
            migrate(connection, name, scripts)
    check_version(connection, name, len(scripts))


def migrate(connection: Connection, name: str, scripts: Sequence[str]) -> None:
    """Bring the tables up to date, within the caller's transaction; only who leads may."""
    check_version(connection, name, len(scripts))
    version = _version(connection)
    connection.execute("SET LOCAL statement_timeout = 0")  # a large table takes its time
    for script in scripts[version:]:
        connection.execute(script.encode())
    if version < len(scripts):
        connection.execute("DELETE FROM store_version")
        connection.execute("INSERT INTO store_version VALUES (%s)", (len(scripts),))


def check_version(connection: Connection, name: str, known: int, *, exactly: bool = False) -> None:
    """Raise InputError when the store is of a later version than the last `known` one (or, with `exactly`, of
    an earlier one)."""
    version = _version(connection)
    if version > known or (exactly and version != known):
        newer = version > known
        raise InputError(
            f"store {name} has another schema",
            code="store-version",
            expected=f"version {known}",
            got=f"version {version}",
            next_step="upgrade Poolwright" if newer else "start the scheduler, which brings it up to date",
        )


def explain(problem: psycopg.Error, name: str) -> PoolwrightError:
    """What an error of the server or of the way to it means for whoever runs the store."""
    state = problem.sqlstate or ""
    words = str(problem).strip().replace("\n", " ")
    if is_cut(problem):
        return Unavailable(
            f"store {name} does not answer",
            code="store-away",
            got=words[:300],
            next_step="start it or repair the way to it",
        )
    if state == "53100":
        return Unavailable(
            f"store {name}: its disk is full",
            code="store-full",
            next_step="free some space; it goes on by itself",
        )
    if state[:2] in ("53", "40", "55", "57", "58"):  # resources, rollback, locks, cancelled, system
        return Unavailable(
            f"store {name} refuses for now",
            code="store-busy",
            got=words[:300],
            next_step="see the server's log",
        )
    if state == "25006":
        return Unavailable(
            f"store {name} is read-only",
            code="store-read-only",
            expected="the primary server",
            next_step="name the primary in POOLWRIGHT_STORE_URL, or promote this server",
        )
    if state in ("42501", "28000", "28P01", "3D000", "3F000"):
        return InputError(
            f"store {name} cannot be used",
            code="store-not-writable",
            got=words[:300],
            next_step="give its user a database (or schema) in which it may make tables",
        )
    return InvariantBroken(f"store {name}: {words[:500]}", code="store-refused", got=state)


def is_cut(problem: psycopg.Error) -> bool:
    """Whether it is the connection that failed: what was sent last may have happened, or not."""
    state = problem.sqlstate or ""
    if state:
        return state.startswith(("08", "57P"))
    return isinstance(problem, psycopg.OperationalError | psycopg.InterfaceError)


def is_unfit(problem: Exception) -> bool:
    """Whether the values themselves are refused, so that one commit of a group may be to blame."""
    if isinstance(problem, psycopg.Error):
        return (problem.sqlstate or "")[:2] in ("22", "23")
    return isinstance(problem, UNFIT)


def _version(connection: Connection) -> int:
    row = connection.execute("SELECT coalesce(max(version), 0) FROM store_version").fetchone()
    return 0 if row is None else int(row[0])
