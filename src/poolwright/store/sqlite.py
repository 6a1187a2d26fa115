"""The SQLite store: one file, one writing thread, and one fsync for all commits that wait (group commit).

Within a group each commit stands in a savepoint of its own: one that contradicts the store is rolled back and
refused alone.

Write-ahead log with synchronous=FULL: what `commit` returned survives `kill -9` and loss of power.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from poolwright.poco.errors import InvariantBroken, PoolwrightError
from poolwright.store.group import Change, GroupWriter
from poolwright.store.outbox import already_done
from poolwright.store.packing import packed
from poolwright.store.port import Commit, Committed, EffectId, EffectRow, EventId, Snapshot
from poolwright.store.sqlite_file import (
    BUSY_MILLISECONDS,
    FileLock,
    explain,
    explained,
    open_for_reading,
    open_for_writing,
)
from poolwright.store.sqlite_reads import SqliteReads

MAX_TASK_NUMBERS: Final = 100_000
"""Tasks whose number the writer keeps at hand."""

_REFUSED: Final = (
    *(InvariantBroken, sqlite3.IntegrityError, sqlite3.ProgrammingError),
    *(OverflowError, IndexError),
)
"""What is wrong with one commit, and harms none beside it."""


class SqliteStore(SqliteReads):
    """A store in one SQLite file, written by this process only. See Store."""

    def __init__(self, path: Path, lock: FileLock, writing: sqlite3.Connection) -> None:
        super().__init__(path, open_for_reading(path))
        self._lock = lock
        self._writer = _Writer(path, writing, self._queries)
        self._writer.start()

    @classmethod
    async def open(cls, path: Path, *, busy_milliseconds: int = BUSY_MILLISECONDS) -> Self:
        """Open a store for writing, made or migrated where needed.

        `busy_milliseconds` is how long a commit waits for another program that holds the file.

        Raises InputError when another process has it, when it is damaged, not a store of ours, of a newer
        version or not writable; Unavailable when the disk refuses.
        """
        return await asyncio.to_thread(cls._open, path, busy_milliseconds)

    @classmethod
    def _open(cls, path: Path, busy_milliseconds: int) -> Self:
        lock = FileLock(path)
        try:
            writing = open_for_writing(path, busy_milliseconds=busy_milliseconds)
            try:
                with explained(path):
                    return cls(path, lock, writing)
            except BaseException:
                writing.close()
                raise
        except BaseException:
            lock.release()
            raise

    async def commit(self, commit: Commit) -> Committed:
        committed: Committed = await self._writer.write(commit)
        return committed

    async def snapshot(self, body: bytes, upto: EventId) -> None:
        await self._writer.write(Snapshot(upto=upto, body=await asyncio.to_thread(packed, body)))

    async def close(self) -> None:
        if self._is_closed:
            return
        await super().close()
        await self._writer.close()
        self._lock.release()


class _Writer(GroupWriter):
    """The thread that owns the writing connection."""

    def __init__(self, path: Path, connection: sqlite3.Connection, queries: dict[str, str]) -> None:
        super().__init__(str(path))
        self._path = path
        self._connection = connection
        self._queries = queries
        self._run_sql = connection.execute
        self._last_event = int(self._run_sql(queries["last_event_id"]).fetchone()[0])
        self._last_effect = int(self._run_sql(queries["last_effect_id"]).fetchone()[0])
        self._task_numbers: dict[bytes, int] = {}

    def write_group(self, changes: Sequence[Change]) -> Sequence[object]:
        """One transaction for all."""
        before = self._last_event, self._last_effect
        try:
            self._run_sql("BEGIN IMMEDIATE")
            answers = [self._apply(change) for change in changes]
            self._run_sql("COMMIT")
        except sqlite3.Error as problem:
            self._undo(before)
            return [explain(problem, self._path) for _ in changes]  # one each: a traceback is not shared
        except Exception as problem:  # noqa: BLE001  a bug of ours must not leave callers waiting for ever
            self._undo(before)
            return [InvariantBroken(f"store {self._path}: {problem!r}", code="store-writer") for _ in changes]
        return answers

    def idle(self) -> None:
        """Nothing is due: the file is ours as long as we live."""

    def end(self) -> None:
        self._connection.close()

    def _undo(self, before: tuple[int, int]) -> None:
        if self._connection.in_transaction:  # SQLite itself has rolled back when the disk was full
            self._run_sql("ROLLBACK")
        self._restore_counters(before)

    def _restore_counters(self, before: tuple[int, int]) -> None:
        self._last_event, self._last_effect = before
        self._task_numbers.clear()  # some may have been given in what was rolled back

    def _apply(self, change: Change) -> object:
        if isinstance(change, Snapshot):
            self._run_sql(self._queries["put_snapshot"], (change.upto, change.body))
            self._run_sql(self._queries["forget_old_snapshots"])
            return None
        before = self._last_event, self._last_effect
        self._run_sql("SAVEPOINT one")
        try:
            answer: object = self._apply_commit(change)
        except _REFUSED as problem:
            self._run_sql("ROLLBACK TO one")
            self._restore_counters(before)
            answer = problem if isinstance(problem, PoolwrightError) else _refusal(problem)
        self._run_sql("RELEASE one")
        return answer

    def _apply_commit(self, commit: Commit) -> Committed:
        sql, run = self._queries, self._run_sql
        event_ids = self._append_events(commit)
        for effect_id in commit.done:
            if run(sql["mark_done"], (effect_id,)).rowcount != 1:
                raise already_done(effect_id)
        for lane, effect_id in commit.done_through.items():
            run(sql["mark_done_through"], (lane, effect_id))
        effect_ids, is_new = self._append_effects(
            commit, event_ids
        )  # after `done`: it may be asked for again
        for name, body in commit.marks.items():
            run(sql["put_mark"], (name, body))
        for (kind, key), record in commit.records.items():
            if record is None:
                run(sql["delete_record"], (kind, key))
            else:
                run(sql["put_record"], (kind, key, record))
        return Committed(event_ids=event_ids, effect_ids=effect_ids, is_new=is_new)

    def _append_events(self, commit: Commit) -> tuple[EventId, ...]:
        first = self._last_event + 1
        self._last_event += len(commit.events)
        self._connection.executemany(
            self._queries["insert_event"],
            [
                (event_id, row.kind, self._task_number(row.task_id), row.at, row.body)
                for event_id, row in enumerate(commit.events, first)
            ],
        )
        return tuple(map(EventId, range(first, first + len(commit.events))))

    def _append_effects(
        self, commit: Commit, event_ids: tuple[EventId, ...]
    ) -> tuple[tuple[EffectId, ...], tuple[bool, ...]]:
        if not commit.effects:
            return (), ()
        first = self._last_effect + 1
        self._last_effect += len(commit.effects)
        cursor = self._connection.executemany(
            self._queries["insert_effect"],
            [
                (
                    effect_id,
                    row.lane,
                    row.key,
                    row.kind,
                    self._task_number(row.task_id),
                    None if row.cause is None else event_ids[row.cause],
                    row.body,
                )
                for effect_id, row in enumerate(commit.effects, first)
            ],
        )
        ids = [EffectId(n) for n in range(first, first + len(commit.effects))]
        if cursor.rowcount < len(ids):  # some were pending already
            kept = [self._pending_id(row) for row in commit.effects]
            return tuple(kept), tuple(a == b for a, b in zip(ids, kept, strict=True))
        return tuple(ids), (True,) * len(ids)

    def _task_number(self, task_id: bytes | None) -> int | None:
        if task_id is None:
            return None
        number = self._task_numbers.get(task_id)
        if number is None:
            blob = bytes(task_id)
            found = (
                self._run_sql(self._queries["task_number"], (blob,)).fetchone()
                or self._run_sql(self._queries["insert_task"], (blob,)).fetchone()
            )
            if len(self._task_numbers) >= MAX_TASK_NUMBERS:
                self._task_numbers.clear()
            number = self._task_numbers[blob] = int(found[0])
        return number

    def _pending_id(self, row: EffectRow) -> EffectId:
        found = self._run_sql(self._queries["pending_twin"], (row.lane, row.key, row.body)).fetchone()
        return EffectId(found[0])


def _refusal(problem: Exception) -> InvariantBroken:
    return InvariantBroken("store: a row is not valid", code="store-refused", got=str(problem))
