"""The worker's hands on an engine and a chain in memory: problems are told once, and never at any length."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from factories import START, TIMEREF, address, deal_terms, hash32, task_of, terms
from hub_twin import HubTwin
from poolwright.chain.journal import MemoryTxJournal
from poolwright.chain.wallet import Wallet
from poolwright.compute.fake import App, AppRun, FakeEngine, FakeHost
from poolwright.compute.port import RunEnded, RunSpec
from poolwright.daemons.config import worker_config
from poolwright.daemons.engine_watch import EngineWatch
from poolwright.daemons.lanes import Retries
from poolwright.daemons.mailbox import Mailbox
from poolwright.daemons.together import Latest
from poolwright.daemons.worker_hands import MAX_PROBLEM, WorkerHands, pull_seconds
from poolwright.poco.errors import Unavailable
from poolwright.poco.types import Address, BlockHash, BlockNumber, BlockStamp, Seconds, TaskId
from poolwright.store.memory import MemoryStore
from poolwright.store.port import EffectId
from poolwright.wire.messages import MAX_CALLBACK_BYTES
from poolwright.worker.effects import Compute, DescribeFailure, DownloadApp, DownloadData, Effect, Purge
from poolwright.worker.events import (
    AppComputed,
    AppComputeFailed,
    AppDownloadFailed,
    DataDownloaded,
    DataDownloadFailed,
    FailureDescribed,
    FailureNotDescribed,
    TaskPurged,
)
from poolwright.worker.outcomes import DISK, DISK_FAILED

IMAGE = "registry/app:1"
TASK = task_of(deal_terms())
TERMS = replace(terms(), image=IMAGE, has_callback=True)


class StandingHeads:
    """One block, for ever."""

    current = BlockStamp(BlockNumber(7), BlockHash(hash32("block 7")), START)


class SlowEngine(FakeEngine):
    """An engine that takes its time to make a container."""

    def __init__(self, host: FakeHost, *, worker: Address, network: str) -> None:
        super().__init__(host, worker=worker, network=network)
        self.is_making, self.may_make, self.is_stopped = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def run(self, spec: RunSpec) -> RunEnded:
        self.is_making.set()
        await self.may_make.wait()
        return await super().run(spec)

    async def stop(self, task_id: TaskId) -> None:
        await super().stop(task_id)
        self.is_stopped.set()


def app_with(callback: bytes) -> App:
    async def app(run: AppRun) -> int:
        run.print_out("computing\n")
        computed = {"callback-data": "0x" + callback.hex()}
        (run.spec.output_dir / "computed.json").write_text(json.dumps(computed))
        return 0

    return app


async def nothing_to_sweep() -> None:
    pass


def hands(
    folder: Path,
    callback: bytes = b"\x01",
    engine: FakeEngine | None = None,
    watch: EngineWatch | None = None,
    is_wanted: Callable[[Effect], bool] = lambda effect: True,
) -> WorkerHands:
    wallet = Wallet(b"\x02" * 32)
    nothing: Any = None  # what these effects do not touch
    engine = engine or FakeEngine(
        FakeHost(apps={IMAGE: app_with(callback)}), worker=wallet.address, network="test"
    )
    return WorkerHands(
        config=worker_config(
            {
                "IEXEC_BLOCKCHAIN_NODE_ADDRESS": "http://127.0.0.1:9",
                "IEXEC_CHAIN_ID": "1",
                "IEXEC_HUB_ADDRESS": str(address("hub")),
                "POOL_ADDRESS": str(address("pool")),
                "IEXEC_WORKER_WALLET_PATH": "/nowhere",
                "IEXEC_CORE_URL": "http://127.0.0.1:9",
                "IEXEC_WORKER_BASE_DIR": str(folder),
            }
        ),
        wallet=wallet,
        hub=HubTwin(),  # type: ignore[arg-type]  # a twin with what is used here
        heads=StandingHeads(),  # type: ignore[arg-type]  # a twin with what is used here
        sender=nothing,
        journal=MemoryTxJournal(),
        engine=engine,
        engine_watch=watch or EngineWatch(engine, nothing_to_sweep),
        is_wanted=is_wanted,
        http=nothing,
        mailbox=Mailbox(MemoryStore(), "scheduler"),
        results_url=Latest(),
        logs=asyncio.Queue(),
    )


async def test_callback_that_no_message_could_carry_fails_the_computation(tmp_path: Path) -> None:
    longest, longer = bytes(MAX_CALLBACK_BYTES), bytes(MAX_CALLBACK_BYTES + 1)
    effect = Compute(task_id=TASK, terms=TERMS)

    [computed] = await hands(tmp_path / "a", longest).carry_out(effect, EffectId(1))
    [failed] = await hands(tmp_path / "b", longer).carry_out(effect, EffectId(1))

    assert isinstance(computed, AppComputed)
    assert computed.result.callback == longest
    assert isinstance(failed, AppComputeFailed)
    assert failed.cause == "CALLBACK_TOO_LONG"
    assert failed.message == "callback: expected at most 16384 bytes, got 16385"


async def test_problem_is_logged_once_and_whole_but_reported_in_part(tmp_path: Path) -> None:
    problem = Unavailable("no engine " * 1_000)

    with capture_logs() as lines:
        [event] = hands(tmp_path).gave_up(DownloadApp(task_id=TASK, terms=TERMS), problem)

    assert isinstance(event, AppDownloadFailed)
    assert event.message == str(problem)[:MAX_PROBLEM]
    [line] = lines
    assert (line["log_level"], line["event"], line["task"]) == ("warning", "app not downloaded", str(TASK))
    assert line["reason"] == str(problem)


async def test_what_goes_well_is_not_warned_of(tmp_path: Path) -> None:
    with capture_logs() as lines:
        await hands(tmp_path).carry_out(Compute(task_id=TASK, terms=TERMS), EffectId(1))

    assert lines == []


DOWNLOAD = DownloadData(task_id=TASK, terms=TERMS)
COMPUTE = Compute(task_id=TASK, terms=TERMS)
DESCRIBE = DescribeFailure(task_id=TASK, terms=TERMS, cause="CRASH", exit_code=1)
PURGE = Purge(task_id=TASK)


def refuse_folders(base: Path) -> Path:
    """A file stands where the tasks' folders would be: nothing can be made there, whoever asks."""
    obstacle = base / "tasks"
    obstacle.write_bytes(b"")
    return obstacle


def fill_up(base: Path, name: str) -> Path:
    """Writing this file of the task ends as on a full disk: it is the device that is always full."""
    file = base / "tasks" / str(TASK) / name
    file.parent.mkdir(parents=True)
    file.symlink_to("/dev/full")
    return file


@pytest.mark.parametrize("effect", [DOWNLOAD, COMPUTE, DESCRIBE], ids=lambda one: type(one).__name__)
async def test_folder_that_refuses_is_tried_again_and_no_bug_of_ours(effect: Effect, tmp_path: Path) -> None:
    obstacle, ours = refuse_folders(tmp_path), hands(tmp_path)

    with pytest.raises(Unavailable) as caught:
        await ours.carry_out(effect, EffectId(1))
    obstacle.unlink()
    [outcome] = await ours.carry_out(effect, EffectId(1))

    assert caught.value.code == DISK
    assert isinstance(outcome, DataDownloaded | AppComputed | FailureDescribed)


@pytest.mark.parametrize(
    ("effect", "name"),
    [(COMPUTE, "logs/stdout.txt"), (COMPUTE, ".result.zip.part"), (DESCRIBE, ".result.zip.part")],
)
async def test_full_disk_is_tried_again_and_has_room_then(effect: Effect, name: str, tmp_path: Path) -> None:
    full, ours = fill_up(tmp_path, name), hands(tmp_path)

    with pytest.raises(Unavailable, match="No space left on device") as caught:
        await ours.carry_out(effect, EffectId(1))
    full.unlink(missing_ok=True)
    [outcome] = await ours.carry_out(effect, EffectId(1))

    assert caught.value.code == DISK
    assert isinstance(outcome, AppComputed | FailureDescribed)


async def test_disk_that_stays_full_is_the_cause_of_the_failure(tmp_path: Path) -> None:
    refuse_folders(tmp_path)
    ours = hands(tmp_path)
    causes = {}
    for effect in (DOWNLOAD, COMPUTE, DESCRIBE):
        with pytest.raises(Unavailable) as caught:
            await ours.carry_out(effect, EffectId(1))
        [outcome] = ours.gave_up(effect, caught.value)
        assert isinstance(outcome, DataDownloadFailed | AppComputeFailed | FailureNotDescribed)
        causes[type(outcome)] = outcome.cause

    assert causes == dict.fromkeys((DataDownloadFailed, AppComputeFailed, FailureNotDescribed), DISK_FAILED)


async def test_purge_stops_a_run_whose_container_is_just_being_made(tmp_path: Path) -> None:
    """The order to stop finds no container yet; the run must hear of it all the same."""
    host = FakeHost(apps={IMAGE: app_with(b"")})
    engine = SlowEngine(host, worker=Wallet(b"\x02" * 32).address, network="test")
    ours = hands(tmp_path, engine=engine)
    computing = asyncio.create_task(ours.carry_out(COMPUTE, EffectId(1)))
    await engine.is_making.wait()
    purging = asyncio.create_task(ours.carry_out(PURGE, EffectId(2)))
    await engine.is_stopped.wait()
    engine.may_make.set()

    async with asyncio.timeout(20):
        assert await computing == []
        assert [type(event) for event in await purging] == [TaskPurged]
    assert host.starts == []


@dataclass
class Frail:
    """A host whose engine goes away, and an app that ends when it may."""

    host: FakeHost
    engine: FakeEngine
    watch: EngineWatch
    runs: asyncio.Event
    may_end: asyncio.Event


def frail() -> Frail:
    runs, may_end = asyncio.Event(), asyncio.Event()

    async def app(run: AppRun) -> int:
        runs.set()
        await may_end.wait()
        return await app_with(b"\x01")(run)

    host = FakeHost(apps={IMAGE: app})
    engine = FakeEngine(host, worker=Wallet(b"\x02" * 32).address, network="test")
    watch = EngineWatch(engine, nothing_to_sweep, looks=Retries(first_pause=0.01, longest_pause=0.01))
    return Frail(host, engine, watch, runs, may_end)


async def test_computation_waits_for_an_engine_that_goes_away_and_goes_on_when_it_is_back(
    tmp_path: Path,
) -> None:
    it = frail()
    ours = hands(tmp_path, engine=it.engine, watch=it.watch)
    looking = asyncio.create_task(it.watch.watch())
    computing = asyncio.create_task(ours.carry_out(COMPUTE, EffectId(1)))
    async with asyncio.timeout(20):
        await it.runs.wait()
        it.host.go_down()
        while it.watch.trouble is None:  # noqa: ASYNC110  # it is the watch that is asked
            await asyncio.sleep(0.01)
        it.may_end.set()
        it.host.come_back(keeps_containers=True)
        [outcome] = await computing
    looking.cancel()

    assert isinstance(outcome, AppComputed)
    assert it.host.starts == [TASK]


async def test_task_that_is_over_is_purged_though_the_engine_is_away(tmp_path: Path) -> None:
    """Its slot is free at once; the container is swept when the engine is back."""
    it, is_over = frail(), asyncio.Event()
    ours = hands(tmp_path, engine=it.engine, watch=it.watch, is_wanted=lambda effect: not is_over.is_set())
    computing = asyncio.create_task(ours.carry_out(COMPUTE, EffectId(1)))
    async with asyncio.timeout(20):
        await it.runs.wait()
        it.host.go_down()
        is_over.set()
        purged = await ours.carry_out(PURGE, EffectId(2))
        with pytest.raises(Unavailable):
            await computing

    assert [type(event) for event in purged] == [TaskPurged]
    assert not (tmp_path / "tasks" / str(TASK)).exists()
    await it.host.close()


@pytest.mark.parametrize(("timeref", "minutes"), [(TIMEREF, 5), (3_600, 8), (36_000, 18), (10**9, 30)])
def test_pull_may_take_longer_in_a_larger_category(timeref: int, minutes: int) -> None:
    assert pull_seconds(Seconds(timeref)) == 60 * minutes
