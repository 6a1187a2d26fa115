"""What only a file can suffer: other processes, kill -9, damage, full disks, other versions."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from poolwright.poco.errors import InputError, Unavailable
from poolwright.poco.types import Timestamp
from poolwright.store import sqlite_file
from poolwright.store.port import Commit, EffectRow, EventId, EventRow
from poolwright.store.sqlite import SqliteStore
from poolwright.store.sqlite_reads import SqliteReads

EVENT = EventRow(kind="Tick", at=Timestamp(0), body=b"{}")

ENDLESS_WRITER = """
import asyncio, sys
from pathlib import Path
from poolwright.store.port import *
from poolwright.store.sqlite import SqliteStore

import itertools, os
numbers = (f"{os.getpid()}.{n}" for n in itertools.count())

async def write(store):
    while True:
        committed = await store.commit(Commit(
            events=[EventRow(kind="Tick", at=0, body=b"x" * 400)] * 2,
            effects=[EffectRow(lane="l", key=str(next(numbers)), body=b"{}", cause=1)]))
        print(committed.event_ids[-1], flush=True)

async def main():
    store = await SqliteStore.open(Path(sys.argv[1]))
    await asyncio.gather(*[write(store) for _ in range(8)])

asyncio.run(main())
"""


def start_writer(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", ENDLESS_WRITER, str(path)], stdout=subprocess.PIPE, text=True
    )


def read_ids(writer: subprocess.Popen[str], count: int) -> list[int]:
    assert writer.stdout is not None
    return [int(writer.stdout.readline()) for _ in range(count)]


def files_beside(path: Path) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in path.parent.iterdir()}


def put(path: Path, offset: int, content: bytes) -> None:
    path.touch()
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


async def test_everything_acknowledged_survives_kill_9(sqlite_path: Path) -> None:
    acknowledged = 0
    for life in range(1, 4):
        writer = start_writer(sqlite_path)
        try:
            read_ids(writer, 50 * life)
        finally:
            writer.kill()
        assert writer.stdout is not None
        rest = [int(line) for line in writer.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        writer.wait()
        acknowledged = max([acknowledged, *rest])
        store = await SqliteStore.open(sqlite_path)
        ids = [event.id async for event in store.replay()]
        assert ids == list(range(1, len(ids) + 1))
        assert len(ids) >= acknowledged
        assert len(ids) == 2 * len(await store.pending())  # no commit is there in part
        await store.close()


async def test_a_second_writer_is_told_who_has_the_store(sqlite_path: Path) -> None:
    writer = start_writer(sqlite_path)
    try:
        read_ids(writer, 1)
        with pytest.raises(
            InputError, match=f"in use.*got process {writer.pid}; stop that process"
        ) as caught:
            await SqliteStore.open(sqlite_path)
        assert caught.value.code == "store-in-use"
    finally:
        writer.kill()
        writer.communicate()
    await (await SqliteStore.open(sqlite_path)).close()


async def test_the_same_process_cannot_open_a_store_twice(sqlite_path: Path) -> None:
    store = await SqliteStore.open(sqlite_path)
    with pytest.raises(InputError, match=f"process {os.getpid()}"):
        await SqliteStore.open(sqlite_path)
    await store.close()


async def test_another_process_may_read_while_one_writes(sqlite_path: Path) -> None:
    store = await SqliteStore.open(sqlite_path)
    reads = await SqliteReads.open(sqlite_path)
    await store.commit(Commit(events=[EVENT], marks={"m": b"1"}))
    assert await reads.mark("m") == b"1"
    assert await reads.last_event_id() == 1
    await reads.close()
    await store.close()


async def test_reading_where_there_is_no_store_makes_none(sqlite_path: Path) -> None:
    with pytest.raises(InputError, match="no store at"):
        await SqliteReads.open(sqlite_path)
    assert files_beside(sqlite_path) == {}


async def test_a_store_is_readable_by_its_owner_only(sqlite_path: Path) -> None:
    store = await SqliteStore.open(sqlite_path)
    await store.commit(Commit(events=[EVENT]))
    modes = {stat.S_IMODE(path.stat().st_mode) for path in sqlite_path.parent.iterdir()}
    assert modes == {0o600}
    await store.close()


async def test_a_file_that_is_no_database_is_refused_and_left_alone(sqlite_path: Path) -> None:
    put(sqlite_path, 0, b"holiday pictures" * 1_000)
    with pytest.raises(InputError) as caught:
        await SqliteStore.open(sqlite_path)
    assert caught.value.code == "store-damaged"
    assert files_beside(sqlite_path)[sqlite_path.name] == b"holiday pictures" * 1_000


async def test_a_database_of_another_program_is_refused_and_left_alone(sqlite_path: Path) -> None:
    with sqlite3.connect(sqlite_path) as other:
        other.execute("CREATE TABLE holidays (day TEXT)")
    before = files_beside(sqlite_path)[sqlite_path.name]
    with pytest.raises(InputError, match="not a store of Poolwright"):
        await SqliteStore.open(sqlite_path)
    assert files_beside(sqlite_path)[sqlite_path.name] == before


async def test_a_store_of_a_newer_program_is_refused(sqlite_path: Path) -> None:
    await (await SqliteStore.open(sqlite_path)).close()
    with sqlite3.connect(sqlite_path) as newer:
        newer.execute("PRAGMA user_version = 99")
    for opener in (SqliteStore.open, SqliteReads.open):
        with pytest.raises(InputError, match=r"expected version \d+, got version 99; upgrade Poolwright"):
            await opener(sqlite_path)


async def test_a_damaged_store_says_so(sqlite_path: Path) -> None:
    store = await SqliteStore.open(sqlite_path)
    for _ in range(5):
        await store.commit(Commit(events=[EventRow(kind="Tick", at=Timestamp(0), body=b"x" * 3_000)] * 20))
    await store.close()
    put(sqlite_path, 4_096, b"\xff" * 300_000)
    with pytest.raises(InputError, match=r"is damaged.*restore it from a backup"):
        await SqliteStore.open(sqlite_path)


async def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be written.*make its folder"):
        await SqliteStore.open(tmp_path / "nowhere" / "mind.sqlite")


async def test_a_store_locked_by_a_database_shell_answers_and_goes_on_later(sqlite_path: Path) -> None:
    store = await SqliteStore.open(sqlite_path, busy_milliseconds=20)
    shell = sqlite3.connect(sqlite_path, isolation_level=None)
    shell.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="locked by another program"):
        await store.commit(Commit(events=[EVENT]))
    shell.execute("ROLLBACK")
    assert (await store.commit(Commit(events=[EVENT]))).event_ids == (1,)
    shell.close()
    await store.close()


FULL_DISK = """
import asyncio, resource, sys
from pathlib import Path
from poolwright.poco.errors import Unavailable
from poolwright.store.port import *
from poolwright.store.sqlite import SqliteStore

async def main():
    store = await SqliteStore.open(Path(sys.argv[1]))
    big = Commit(events=[EventRow(kind="Tick", at=0, body=b"x" * 10_000)] * 10)
    await store.commit(big)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, hard))
    try:
        await store.commit(big)
        print("accepted")
    except Unavailable as problem:
        print(problem.code)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    print((await store.commit(big)).event_ids[0])
    print(len([event async for event in store.replay()]))
    await store.close()

asyncio.run(main())
"""


def test_a_disk_that_takes_no_more_loses_nothing_and_goes_on_when_it_does(sqlite_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(sqlite_path)], capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    assert done.stdout.split() == ["store-io", "11", "20"]


def test_a_full_database_is_told_from_a_failing_disk(sqlite_path: Path) -> None:
    small = sqlite3.connect(sqlite_path)
    small.execute("PRAGMA max_page_count = 2")
    small.execute("CREATE TABLE t (body BLOB)")
    with pytest.raises(sqlite3.OperationalError) as caught:
        small.execute("INSERT INTO t VALUES (zeroblob(100000))")
    told = sqlite_file.explain(caught.value, sqlite_path)
    assert isinstance(told, Unavailable)
    assert told.code == "store-full"
    small.close()


async def test_a_process_that_ends_without_closing_leaves_a_good_store(sqlite_path: Path) -> None:
    writer = start_writer(sqlite_path)
    read_ids(writer, 5)
    writer.send_signal(signal.SIGINT)
    writer.communicate(timeout=30)
    store = await SqliteStore.open(sqlite_path)
    assert await store.last_event_id() >= 5
    committed = await store.commit(Commit(effects=[EffectRow(lane="l", key="last", body=b"")]))
    assert committed.is_new == (True,)
    await store.snapshot(b"", EventId(1))
    await store.close()
