"""The results folder: stored once, whole or not at all, whatever kills the process or fills the disk."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from poolwright.poco.errors import InputError, InvariantBroken
from poolwright.poco.keccak import keccak
from poolwright.poco.types import Address, Hash32, TaskId, Timestamp
from poolwright.results.cid import cid_of
from poolwright.results.errors import AlreadyStored, StorageFull, TooLarge
from poolwright.results.storage import Storage, StoredResult

MIB = 1024 * 1024
UPLOADER = Address(b"\x07" * 20)
DEADLINE = Timestamp(1_000)


def task(number: int) -> TaskId:
    return TaskId(Hash32(keccak(b"task %d" % number)))


@pytest.fixture
def storage(tmp_path):
    storage = Storage.open(tmp_path / "results")
    yield storage
    storage.close()


def put(
    storage: Storage,
    task_id: TaskId,
    content: bytes,
    uploader: Address = UPLOADER,
    deadline: Timestamp = DEADLINE,
    *,
    is_early: bool = False,
) -> StoredResult:
    incoming = storage.begin(max_bytes=64 * MIB)
    try:
        incoming.write(content)
        result = StoredResult(
            task_id=task_id,
            cid=incoming.finish(),
            size=incoming.size,
            uploader=uploader,
            stored_at=Timestamp(1),
        )
        keep = storage.keep_early if is_early else storage.keep_result
        return keep(incoming, result, deadline)
    finally:
        incoming.discard()


def incoming_files(storage: Storage) -> list[Path]:
    return list((storage.folder / "incoming").iterdir())


def test_a_result_is_found_by_task_and_served_by_cid(storage):
    stored = put(storage, task(1), b"content")

    assert storage.find(task(1)) == stored
    assert stored.cid == cid_of(b"content")
    assert storage.path(stored.cid).read_bytes() == b"content"
    assert incoming_files(storage) == []


def test_results_survive_a_restart(storage):
    stored = put(storage, task(1), b"content")
    storage.close()
    again = Storage.open(storage.folder)

    assert again.find(task(1)) == stored
    assert again.count() == 1
    again.close()


def test_an_unknown_task_has_no_result(storage):
    assert storage.find(task(1)) is None
    assert storage.path(cid_of(b"content")) is None


def test_the_same_bytes_again_change_nothing(storage):
    first = put(storage, task(1), b"content")

    assert put(storage, task(1), b"content", Address(b"\x08" * 20)) == first
    assert storage.find(task(1)) == first


def test_other_bytes_are_refused_and_the_first_stay(storage):
    first = put(storage, task(1), b"content")

    with pytest.raises(AlreadyStored, match=first.cid):
        put(storage, task(1), b"other")

    assert storage.find(task(1)) == first
    assert storage.path(cid_of(b"other")) is None
    assert incoming_files(storage) == []


def test_two_tasks_may_have_the_same_bytes(storage):
    assert put(storage, task(1), b"content").cid == put(storage, task(2), b"content").cid
    assert storage.count() == 2


def test_a_lost_file_comes_back_with_the_same_bytes(storage):
    stored = put(storage, task(1), b"content")
    storage.path(stored.cid).unlink()
    assert storage.find(task(1)) is None

    put(storage, task(1), b"content")

    assert storage.find(task(1)) == stored


def test_a_discarded_file_leaves_nothing(storage):
    incoming = storage.begin(max_bytes=MIB)
    incoming.write(b"half")
    incoming.discard()
    incoming.discard()

    assert incoming_files(storage) == []
    assert list((storage.folder / "objects").iterdir()) == []


def test_more_bytes_than_allowed_are_refused_before_they_are_written(storage):
    incoming = storage.begin(max_bytes=10)
    incoming.write(b"0123456789")

    with pytest.raises(TooLarge):
        incoming.write(b"!")

    assert incoming.path.stat().st_size == 10
    incoming.discard()


def test_a_file_announced_as_too_large_is_refused_at_once(storage):
    with pytest.raises(TooLarge):
        storage.begin(max_bytes=10, announced_bytes=11)


def test_room_that_the_operator_keeps_free_is_not_used(storage):
    storage.close()
    full = Storage.open(storage.folder, keep_free_bytes=2**62)

    with pytest.raises(StorageFull, match="make room"):
        full.begin(max_bytes=MIB)
    full.close()


@pytest.fixture
def small_files():
    """The system refuses to let files of this process grow above 1 MiB, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_refuses_the_new_and_keeps_the_old(storage, small_files):
    old = put(storage, task(1), bytes(MIB))

    with pytest.raises(StorageFull, match="no room in the results folder"):
        put(storage, task(2), bytes(MIB + 1))

    assert storage.find(task(1)) == old
    assert storage.find(task(2)) is None
    assert incoming_files(storage) == []
    assert storage.find(task(3)) is None
    put(storage, task(3), b"small enough")


def test_a_second_repository_may_not_use_the_folder(storage):
    with pytest.raises(InputError) as refused:
        Storage.open(storage.folder)

    assert refused.value.code == "results-folder-in-use"


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(InputError, match="POOLWRIGHT_RESULTS_DIR"):
        Storage.open(tmp_path / "file" / "results")


def test_a_spoiled_entry_stops_that_task_only(storage):
    put(storage, task(1), b"content")
    other = put(storage, task(2), b"other")
    (storage.folder / "results" / str(task(1))).write_text("{")

    with pytest.raises(InvariantBroken, match="delete this one file"):
        storage.find(task(1))
    assert storage.find(task(2)) == other


STORE_FOR_EVER = """
import sys
from pathlib import Path
from test_results_storage import put, task
from poolwright.results.storage import Storage

storage = Storage.open(Path(sys.argv[1]))
for number in range(int(sys.argv[2]), 10**9):
    stored = put(storage, task(number), b"%d " % number * (number % 90_000))
    print(number, stored.cid, flush=True)
"""


def test_killed_at_any_moment_nothing_half_is_ever_found(tmp_path):
    """Ten processes in a row are killed in the middle of storing; the survivor's folder is always sound."""
    folder, told = tmp_path / "results", {}
    for round_ in range(10):
        start = (round_ + 1) * 10_000
        process = subprocess.Popen(
            [sys.executable, "-c", STORE_FOR_EVER, str(folder), str(start)],
            cwd=Path(__file__).parent,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(1 + round_)]
        time.sleep(round_ * 0.0013)  # only to spread the moments; any moment must do
        process.send_signal(signal.SIGKILL)
        lines += process.communicate(timeout=30)[0].splitlines()
        told |= {int(number): cid for number, cid in (line.split() for line in lines if line.strip())}

        storage = Storage.open(folder)
        assert incoming_files(storage) == []
        for number, cid in told.items():
            assert storage.find(task(number)).cid == cid
        for entry in (folder / "results").iterdir():
            assert storage.find(TaskId(Hash32.parse(entry.name))) is not None
        for file in (folder / "objects").iterdir():
            assert cid_of(file.read_bytes()) == file.name
        storage.close()

    assert len(told) >= 55
