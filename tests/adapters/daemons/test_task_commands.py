"""`poolwright task list|story|why` on the store of a scheduler that runs, and of one that has stopped."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pair import Clock, SchedulerTwinHands

import factories as f
from databases import lead, postgresql
from factories import ALICE
from poolwright.__main__ import main
from poolwright.chain.journal import TxPhase, TxRecord
from poolwright.daemons.home import STORE_FILE
from poolwright.daemons.mailbox import Mailboxes
from poolwright.daemons.runner import Runner
from poolwright.daemons.scheduler_hands import LANES
from poolwright.daemons.scheduler_mind import SchedulerMind
from poolwright.daemons.tx_journal import StoreTxJournal
from poolwright.poco.errors import InputError
from poolwright.poco.types import Address, BlockNumber, TxHash, Wei
from poolwright.scheduler.effects import Submission
from poolwright.scheduler.events import PoolEvent
from poolwright.store.postgresql import PostgresStore
from poolwright.store.sqlite import SqliteStore
from poolwright.wire.statuses import ReplicateStatus as S

DEAL = f.deal_terms()
TASK = f.task_of(DEAL)
TO_COMPUTED: tuple[PoolEvent, ...] = (
    f.connected(ALICE),
    f.deal_matched(DEAL),
    f.initialized(TASK),
    *f.computed(TASK, ALICE),
)
LIFE = (
    *TO_COMPUTED,
    f.contributed(TASK, ALICE),
    f.consensus_reached(TASK),
    f.revealed(TASK, ALICE),
    *f.reports(TASK, ALICE, S.RESULT_UPLOADING, S.RESULT_UPLOADED, at=f.START + 115),
    f.upload_verified(TASK),
    f.finalized(TASK),
)


@asynccontextmanager
async def scheduler(
    folder: Path, *events: PoolEvent, url: str | None = None
) -> AsyncIterator[SqliteStore | PostgresStore]:
    """A scheduler that has taken these events and runs on, writing its store."""
    store: SqliteStore | PostgresStore
    store = await SqliteStore.open(folder / STORE_FILE) if url is None else await lead(url)
    runner: Runner[Any, Any, Any] = Runner(
        SchedulerMind(), SchedulerTwinHands(Mailboxes(store)), store, Clock(), lanes=LANES
    )
    await runner.start()
    await runner.put(*events)
    try:
        yield store
    finally:
        await runner.abort()
        await store.close()


async def output(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command prints, run beside the scheduler as a process of its own would."""
    capsys.readouterr()
    await asyncio.to_thread(_run, words)
    return capsys.readouterr().out


def _run(words: Sequence[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code in (0, None)


async def test_open_tasks_of_a_running_scheduler_are_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = f.deal_terms("another deal", bot_size=2)
    async with scheduler(tmp_path, *LIFE, f.deal_matched(other)):
        rows = json.loads(await output(capsys, "task", "list", "--folder", str(tmp_path), "--json"))
        shown = await output(capsys, "task", "list", "--folder", str(tmp_path), "--ended")

    assert [row["task"] for row in rows] == [str(f.task_of(other, index)) for index in (0, 1)]
    assert {(row["status"], row["waitsFor"]) for row in rows} == {("RECEIVED", "transaction")}
    assert f"{TASK}  COMPLETED" in shown
    assert shown.splitlines()[0].split() == ["task", "status", "age", "waitsFor"]


async def test_story_tells_each_event_what_it_moved_and_what_came_of_what_was_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("task", "story", str(TASK), "--folder", str(tmp_path))
    async with scheduler(tmp_path, *LIFE) as store:
        await StoreTxJournal(store).put(transaction(TxPhase.MINED))
        live = await output(capsys, *words)
        told = json.loads(await output(capsys, *words, "--json"))
    stopped = await output(capsys, *words)

    assert live == stopped
    assert told["phase"] == "COMPLETED"
    kinds = [event["kind"] for event in told["events"]]
    assert kinds[0] == "ChainDealMatched"
    assert kinds[-1] == "ChainTaskFinalized"
    statuses = [move["to"] for event in told["events"] for move in event["moves"] if move["worker"]]
    assert statuses[:3] == ["CREATED", "RUNNING", "APP_DOWNLOADING"]
    phases = [move["to"] for event in told["events"] for move in event["moves"] if not move["worker"]]
    assert phases == ["RECEIVED", "ACTIVE", "REVEALING", "COMPLETED"]
    [initialize] = told["events"][0]["asked"]
    assert initialize["outcome"] == "mined in block 7 for 9000 wei"
    assert initialize["nonce"] == 3
    deal = live.split("\n\n")[1].splitlines()
    assert deal[0].endswith(f"ChainDealMatched (block {LIFE[1].ref.block}, tx {LIFE[1].ref.tx_hash})")  # type: ignore[union-attr]
    assert deal[1].split() == ["task", "-", "→", "RECEIVED"]
    assert deal[2].split()[:5] == ["asked", "for", "INITIALIZE", "(attempt", "1),"]


def transaction(phase: TxPhase) -> TxRecord:
    """The transaction that initializes the task."""
    is_mined = phase is TxPhase.MINED
    return TxRecord(
        key=f"INITIALIZE:{TASK}:1",
        sender=Address.zero(),
        chain_id=1,
        nonce=3,
        to=Address.zero(),
        data=b"",
        value=Wei(0),
        gas_limit=1,
        max_fee=Wei(5),
        tip=None,
        raw=b"",
        tx_hash=TxHash(f.hash32("initialize")),
        phase=phase,
        block_number=BlockNumber(7) if is_mined else None,
        fee=Wei(9000) if is_mined else None,
    )


async def test_why_names_the_worker_at_work_and_the_deadline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with scheduler(tmp_path, *TO_COMPUTED):
        said = await output(capsys, "task", "why", str(TASK), "--folder", str(tmp_path))

    assert said.startswith(f"contribution: worker worker ({ALICE}) is CONTRIBUTING since ")
    assert said.rstrip().endswith("Z)")


async def test_why_names_the_transaction_under_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with scheduler(tmp_path, f.deal_matched(DEAL)) as store:
        before = await output(capsys, "task", "why", str(TASK), "--folder", str(tmp_path))
        await StoreTxJournal(store).put(transaction(TxPhase.PENDING))
        said = await output(capsys, "task", "why", str(TASK), "--folder", str(tmp_path))

    assert before.startswith(f"transaction: {Submission.INITIALIZE}, the task's transaction number 1, is on")
    assert "not sent yet" in before
    assert "sent with nonce 3 at 5 wei per gas, not confirmed yet" in said


async def test_why_of_a_task_that_was_forgotten_is_its_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scheduler(tmp_path, *LIFE) as store:
        empty = b"".join(
            SchedulerMind().save(SchedulerMind().initial())
        )  # as if ten thousand others had ended since
        await store.snapshot(empty, await store.last_event_id())
        said = await output(capsys, "task", "why", str(TASK), "--folder", str(tmp_path))
        story = await output(capsys, "task", "story", str(TASK), "--folder", str(tmp_path))

    assert said.startswith("nothing: it ended COMPLETED and the scheduler has forgotten it since")
    assert "REVEALING → COMPLETED" in story


async def test_a_task_that_nobody_knows_is_said_to_be_unknown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("IEXEC_BLOCKCHAIN_NODE_ADDRESS", "IEXEC_CHAIN_ID", "IEXEC_HUB_ADDRESS", "POOL_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    nobodys = str(f.hash32("nobody's task"))
    async with scheduler(tmp_path, *LIFE):
        said = await output(capsys, "task", "why", nobodys, "--folder", str(tmp_path))
        with pytest.raises(SystemExit) as refused:
            await asyncio.to_thread(main, ["task", "story", nobodys, "--folder", str(tmp_path)])

    assert said.startswith("unknown: this scheduler's log has nothing of it; to have the chain asked, set")
    assert refused.value.code == InputError.exit_code
    assert f"`poolwright task why {nobodys}` asks the chain" in capsys.readouterr().err


async def test_tasks_of_a_shared_store_are_told_beside_its_leader(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with postgresql() as cluster:
        url = cluster.database()
        monkeypatch.setenv("POOLWRIGHT_STORE_URL", url)
        async with scheduler(tmp_path, *LIFE, url=url):
            rows = json.loads(await output(capsys, "task", "list", "--ended", "--json"))
            story = await output(capsys, "task", "story", str(TASK))

    assert [(row["task"], row["phase"]) for row in rows] == [(str(TASK), "COMPLETED")]
    assert "REVEALING → COMPLETED" in story


def test_a_folder_without_a_store_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["task", "list", "--folder", str(tmp_path)])

    assert refused.value.code == InputError.exit_code
    assert "give the folder in which the daemon runs" in capsys.readouterr().err
