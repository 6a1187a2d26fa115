"""The sweep: what is not a task's result goes long after the task's end, and nothing else ever does."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from shutil import rmtree

import aiohttp
import pytest
from test_results_service import until
from test_results_storage import DEADLINE, put, task

from poolwright.poco.errors import Unavailable
from poolwright.poco.records import NO_TASK, OnchainTask, TaskStatus
from poolwright.poco.types import Address, BlockHash, BlockNumber, BlockStamp, Hash32, TaskId, Timestamp
from poolwright.results.cid import cid_of, cid_v1
from poolwright.results.claims import Claim
from poolwright.results.config import ResultsConfig
from poolwright.results.ledger import MemoryLedger
from poolwright.results.metrics import Metrics
from poolwright.results.service import serving
from poolwright.results.storage import Storage
from poolwright.results.sweep import MARGIN_SECONDS, Sweep
from poolwright.wire.uploads import result_link

ALICE, BOB = Address(b"\x0a" * 20), Address(b"\x0b" * 20)
TASK = task(1)
OVER = Timestamp(DEADLINE + MARGIN_SECONDS + 1)


def ledger_at(now: int, **tasks: OnchainTask) -> MemoryLedger:
    ledger = MemoryLedger(BlockStamp(BlockNumber(9), BlockHash(Hash32.zero()), Timestamp(now)))
    ledger.tasks = {task(int(name[1:])): each for name, each in tasks.items()}
    return ledger


class Counting(MemoryLedger):
    """A chain that counts how often its newest block was asked for."""

    def __init__(self, block: BlockStamp) -> None:
        super().__init__(block)
        self.asked = 0

    async def newest_block(self) -> BlockStamp:
        self.asked += 1
        return await super().newest_block()


def ended(status: TaskStatus, results: bytes = b"") -> OnchainTask:
    return replace(NO_TASK, status=status, final_deadline=DEADLINE, results=results)


def sweep(storage: Storage, ledger: MemoryLedger, metrics: Metrics | None = None, most: int = 100) -> Sweep:
    return Sweep(storage, ledger, metrics or Metrics(), every_seconds=1, most_tasks=most)


@pytest.fixture
def storage(tmp_path):
    storage = Storage.open(tmp_path / "results")
    yield storage
    storage.close()


def objects(storage: Storage) -> set[str]:
    return {path.name for path in (storage.folder / "objects").iterdir()}


@pytest.mark.parametrize("form", [cid_of, lambda content: cid_v1(cid_of(content))], ids=["CIDv0", "CIDv1"])
async def test_of_several_early_results_the_one_that_the_chain_names_stays(storage, form):
    put(storage, TASK, b"winner", ALICE, is_early=True)
    put(storage, TASK, b"loser", BOB, is_early=True)
    metrics = Metrics()

    completed = ended(TaskStatus.COMPLETED, result_link(form(b"winner")))
    assert await sweep(storage, ledger_at(OVER, t1=completed), metrics).once() == 1

    assert objects(storage) == {cid_of(b"winner")}
    assert storage.find(TASK).cid == cid_of(b"winner")
    assert storage.early(TASK) == []
    assert metrics.registry.get_sample_value("poolwright_results_swept_files_total") == 1
    assert metrics.registry.get_sample_value("poolwright_results_swept_bytes_total") == len(b"loser")


async def test_what_a_worker_replaced_before_its_contribution_goes(storage):
    put(storage, TASK, b"first", ALICE, is_early=True)
    put(storage, TASK, b"second", ALICE, is_early=True)

    completed = ended(TaskStatus.COMPLETED, result_link(cid_of(b"second")))
    await sweep(storage, ledger_at(OVER, t1=completed)).once()

    assert objects(storage) == {cid_of(b"second")}


async def test_a_revealed_result_stays_whatever_the_link_says(storage):
    put(storage, TASK, b"revealed")

    await sweep(storage, ledger_at(OVER, t1=ended(TaskStatus.COMPLETED, b"elsewhere"))).once()

    assert storage.find(TASK).cid == cid_of(b"revealed")


@pytest.mark.parametrize("status", [TaskStatus.FAILED, TaskStatus.REVEALING, TaskStatus.ACTIVE])
async def test_of_a_task_that_nobody_is_paid_for_nothing_stays(storage, status):
    put(storage, TASK, b"revealed", ALICE)
    put(storage, TASK, b"early", BOB, is_early=True)

    await sweep(storage, ledger_at(OVER, t1=ended(status))).once()

    assert objects(storage) == set()
    assert storage.find(TASK) is None
    assert storage.count() == 0
    assert await sweep(storage, ledger_at(OVER, t1=ended(status))).once() == 0


@pytest.mark.parametrize(
    ("now", "found"),
    [(OVER - 1, ended(TaskStatus.FAILED)), (OVER + 10**6, NO_TASK)],
    ids=["a reorganisation could still change it", "the node does not know it"],
)
async def test_what_is_not_certain_stays(storage, now, found):
    put(storage, TASK, b"content")

    assert await sweep(storage, ledger_at(now, t1=found)).once() == 0

    assert storage.find(TASK) is not None


async def test_bytes_that_came_for_another_task_too_stay(storage):
    put(storage, TASK, b"same")
    put(storage, task(2), b"same", deadline=Timestamp(DEADLINE + 1))
    failed, completed = ended(TaskStatus.FAILED), ended(TaskStatus.COMPLETED, result_link(cid_of(b"same")))

    assert await sweep(storage, ledger_at(OVER + 1, t1=failed, t2=completed)).once() == 2

    assert storage.find(task(2)).cid == cid_of(b"same")
    assert storage.find(TASK) is None


@pytest.mark.parametrize("is_first", [True, False], ids=["before the result", "after it"])
async def test_a_file_that_was_added_by_hand_stays(storage, is_first):
    def add() -> None:
        incoming = storage.begin(max_bytes=100)
        incoming.write(b"a data set")
        storage.keep(incoming, incoming.finish())

    if is_first:
        add()
    put(storage, TASK, b"a data set", is_early=True)
    if not is_first:
        add()

    await sweep(storage, ledger_at(OVER, t1=ended(TaskStatus.FAILED))).once()

    assert objects(storage) == {cid_of(b"a data set")}


async def test_some_tasks_at_a_time_the_oldest_first(storage):
    for number in range(1, 6):
        put(storage, task(number), b"%d" % number, deadline=Timestamp(DEADLINE - number))
    failed = {f"t{number}": ended(TaskStatus.FAILED) for number in range(1, 6)}

    assert await sweep(storage, ledger_at(OVER, **failed), most=2).once() == 2

    assert [storage.find(task(number)) is None for number in range(1, 6)] == [False, False, False, True, True]


async def test_an_entry_that_cannot_be_read_keeps_its_files_and_stops_nobody(storage):
    put(storage, TASK, b"first")
    put(storage, task(2), b"second")
    (storage.folder / "results" / str(TASK)).write_text("spoiled")
    completed = ended(TaskStatus.COMPLETED, result_link(cid_of(b"else")))

    assert await sweep(storage, ledger_at(OVER, t1=completed, t2=ended(TaskStatus.FAILED))).once() == 1

    assert objects(storage) == {cid_of(b"first")}


async def test_without_the_chain_nothing_is_removed(storage):
    put(storage, TASK, b"content")
    silent = ledger_at(OVER, t1=ended(TaskStatus.FAILED))
    silent.trouble = Unavailable("the node does not answer")

    with pytest.raises(Unavailable):
        await sweep(storage, silent).once()

    assert storage.find(TASK) is not None


async def test_a_running_repository_sweeps_by_itself_also_after_trouble(tmp_path):
    config = ResultsConfig(
        chain_id=1, hub=ALICE, port=0, folder=tmp_path / "results", keep_free_bytes=0, sweep_seconds=1
    )
    before = Storage.open(config.folder)
    put(before, TASK, b"content")
    before.close()
    ledger = Counting(ledger_at(OVER).block)
    ledger.tasks[TASK] = ended(TaskStatus.FAILED)
    ledger.trouble = Unavailable("the node does not answer")
    path = config.folder / "objects" / cid_of(b"content")
    async with serving(config, ledger) as server, aiohttp.ClientSession() as http:
        await until(lambda: ledger.asked >= 2)  # once at the start, and once by the sweep
        assert path.exists()
        ledger.trouble = None
        await until(lambda: not path.exists())
        asked = ledger.asked
        await until(lambda: ledger.asked > asked)  # that sweep is over
        async with http.get(f"{server.url}/metrics") as answer:
            assert "poolwright_results_swept_files_total 1.0" in await answer.text()


async def test_bytes_that_a_killed_sweep_left_are_safe_for_who_comes_next(storage):
    """Its claim was gone and its file not yet; or the file was there and its claim not yet."""
    put(storage, TASK, b"same")
    [claim] = storage.due(OVER, 1)
    rmtree(storage.folder / "unsettled" / claim.name)
    put(storage, task(2), b"same", deadline=Timestamp(DEADLINE + 1))
    put(storage, TASK, b"same")
    failed, completed = ended(TaskStatus.FAILED), ended(TaskStatus.COMPLETED, result_link(cid_of(b"same")))

    await sweep(storage, ledger_at(OVER + 1, t1=failed, t2=completed)).once()

    assert storage.find(task(2)).cid == cid_of(b"same")


def test_an_upload_of_the_same_bytes_meanwhile_is_never_lost(storage):
    """Whoever comes first: a file that a task was just promised is there."""
    for number in range(1, 200):
        content = b"round %d" % number
        dead, alive = task(2 * number), task(2 * number + 1)
        put(storage, dead, content)
        claim = Claim(task_id=dead, final_deadline=DEADLINE)
        sweeping = threading.Thread(target=storage.forget, args=(claim,))
        uploading = threading.Thread(target=put, args=(storage, alive, content))
        for thread in (sweeping, uploading) if number % 2 else (uploading, sweeping):
            thread.start()
        for thread in (sweeping, uploading):
            thread.join()

        assert storage.find(alive) is not None
        assert storage.path(cid_of(content)).read_bytes() == content
        assert storage.find(dead) is None


SWEEP_FOR_EVER = """
import asyncio, sys
from pathlib import Path
from test_results_sweep import OVER, ledger_of, sweep
from poolwright.results.storage import Storage

storage = Storage.open(Path(sys.argv[1]))
while asyncio.run(sweep(storage, ledger_of(int(sys.argv[2])), most=1).once()):
    print("swept", flush=True)
"""


def ledger_of(count: int) -> MemoryLedger:
    """Of each two tasks the first is completed with the first content, the other has failed."""
    return ledger_at(
        OVER,
        **{
            f"t{number}": ended(TaskStatus.COMPLETED, result_link(cid_of(b"%d won" % number)))
            if number % 2
            else ended(TaskStatus.FAILED)
            for number in range(count)
        },
    )


def test_killed_in_the_middle_of_a_sweep_the_next_one_goes_on(tmp_path):
    folder, count = tmp_path / "results", 120
    storage = Storage.open(folder)
    for number in range(count):
        put(storage, task(number), b"%d won" % number, ALICE, is_early=True)
        put(storage, task(number), b"%d lost" % number, BOB, is_early=True)
    storage.close()
    won = {cid_of(b"%d won" % number) for number in range(1, count, 2)}

    for round_ in range(8):
        process = sweeping_process(folder, count)
        assert process.stdout is not None
        for _ in range(1 + round_):
            process.stdout.readline()
        time.sleep(round_ * 0.0007)  # only to spread the moments; any moment must do
        process.kill()
        process.communicate(timeout=30)
        storage = Storage.open(folder)
        assert won <= objects(storage)
        for entry in (folder / "results").iterdir():
            assert storage.find(TaskId(Hash32.parse(entry.name))) is not None
        storage.close()

    last = sweeping_process(folder, count)
    last.communicate(timeout=60)
    assert last.returncode == 0
    storage = Storage.open(folder)
    assert won <= objects(storage)
    assert len(objects(storage) - won) <= 2 * 8  # those of a task that a kill has cut short
    assert storage.count() == len(won)
    assert list((folder / "unsettled").iterdir()) == list((folder / "early").iterdir()) == []
    storage.close()


def sweeping_process(folder: Path, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SWEEP_FOR_EVER, str(folder), str(count)],
        cwd=Path(__file__).parent,
        stdout=subprocess.PIPE,
        text=True,
    )
