"""The scheduler's /metrics and /health: what happens is counted, and the docs say what each number means."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pair import HEAD, Pairs, SchedulerSide, pairs, until
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

import factories as f
from poolwright.chain.journal import TxPhase, TxRecord
from poolwright.daemons.health import FOLLOW_SECONDS, ChainProgress
from poolwright.daemons.metrics import MeteredTxJournal
from poolwright.daemons.scheduler_metrics import SchedulerMetrics
from poolwright.poco.errors import Unavailable
from poolwright.poco.types import Address, BlockHash, BlockNumber, BlockStamp, Timestamp, TxHash, Wei
from poolwright.scheduler.effects import Submission
from poolwright.store.memory import MemoryStore
from poolwright.store.port import Commit, Committed
from poolwright.worker.attempt import Stage

DOCS = Path(__file__).parents[3] / "docs" / "operating.md"
DEAL = f.deal_terms()
TASK = f.task_of(DEAL)


@pytest.fixture
async def sides() -> AsyncIterator[Pairs]:
    async with pairs() as made:
        yield made


async def scrape(scheduler: SchedulerSide, sides: Pairs) -> dict[str, Metric]:
    async with sides.http.get(f"{scheduler.url}/metrics") as answer:
        assert answer.status == 200
        families = text_string_to_metric_families(await answer.text())
        return {family.name: family for family in families if not family.name.endswith("_created")}


def value(families: dict[str, Metric], name: str, **labels: str) -> float:
    """The one sample with these labels; of a histogram its count."""
    family = families[name]
    suffix = {"histogram": "_count", "counter": "_total"}.get(family.type, "")
    [sample] = [s for s in family.samples if s.name == name + suffix and s.labels == labels]
    return sample.value


async def test_every_number_is_in_the_docs_with_its_type_and_nothing_else_is(sides: Pairs) -> None:
    families = await scrape(await sides.scheduler(), sides)
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in DOCS.read_text().partition("## A worker's")[0].splitlines()  # a file of the repository
        if line.startswith("| `poolwright_") and line.count("|") == 5
    ]

    documented = {row[0].strip("`"): row[1] for row in rows}

    assert documented == {name: family.type for name, family in families.items()}
    assert all(row[2] and row[3] for row in rows), "unit and meaning"


async def test_a_task_on_its_way_is_seen_in_the_numbers(sides: Pairs) -> None:
    scheduler = await sides.scheduler()
    worker = await sides.worker(scheduler, slots=3)
    await scheduler.runner.put(f.deal_matched(DEAL), f.initialized(TASK))
    await until(
        lambda: (
            TASK in worker.runner.state.by_task
            and worker.runner.state.by_task[TASK].stage is Stage.CONTRIBUTED
            and not len(worker.mailbox)
        )
    )
    await scheduler.runner.put(f.submission_failed(TASK, Submission.INITIALIZE, f.START + 60))

    families = await scrape(scheduler, sides)

    assert value(families, "poolwright_tasks", phase="ACTIVE") == 1
    assert value(families, "poolwright_tasks", phase="COMPLETED") == 0
    assert len(families["poolwright_replicates"].samples) == 36
    assert value(families, "poolwright_replicates", status="CONTRIBUTING") == 1
    assert value(families, "poolwright_workers_connected") == 1
    assert value(families, "poolwright_slots", state="total") == 3
    assert value(families, "poolwright_slots", state="free") == 3
    assert value(families, "poolwright_dispatch_seconds") == 1
    assert value(families, "poolwright_events", kind="ChainDealMatched") == 1
    assert value(families, "poolwright_events_ignored", kind="SubmissionFailed") == 1
    assert value(families, "poolwright_reports_turned_away", reason="chain-decides") == 1
    assert value(families, "poolwright_reports_turned_away", reason="unknown-task") == 0
    assert value(families, "poolwright_commit_seconds") >= 4
    assert value(families, "poolwright_rlc_earned_nrlc") == 7
    assert value(families, "poolwright_chain_block", place="head") == HEAD.number
    assert value(families, "poolwright_transactions_in_flight") == 2


async def test_transactions_are_counted_with_gas_and_fees_as_they_become_durable() -> None:
    metrics = SchedulerMetrics()
    journal = MeteredTxJournal(MemoryStore(), metrics)

    await journal.put(record("a"), record("b"))
    await journal.put(record("a", max_fee=2))
    await journal.put(record("a", phase=TxPhase.MINED), record("b", phase=TxPhase.REVERTED))
    families = {
        family.name: family for family in text_string_to_metric_families((await metrics.text()).decode())
    }

    outcomes = {"sent": 2, "replaced": 1, "mined": 1, "reverted": 1}
    assert {name: value(families, "poolwright_transactions", outcome=name) for name in outcomes} == outcomes
    assert value(families, "poolwright_gas_used") == 2 * 21_000
    assert value(families, "poolwright_fees_wei") == 2 * 42_000


def record(key: str, *, phase: TxPhase = TxPhase.PENDING, max_fee: int = 1) -> TxRecord:
    is_confirmed = phase is not TxPhase.PENDING
    return TxRecord(
        key=key,
        sender=Address.zero(),
        chain_id=1,
        nonce=0,
        to=None,
        data=b"",
        value=Wei(0),
        gas_limit=1,
        max_fee=Wei(max_fee),
        tip=None,
        raw=b"",
        tx_hash=TxHash(f.hash32(key)),
        phase=phase,
        gas_used=21_000 if is_confirmed else None,
        fee=Wei(42_000) if is_confirmed else None,
    )


class Stubborn(MemoryStore):
    """A store whose disk is full when it is told so."""

    is_full = False

    async def commit(self, commit: Commit) -> Committed:
        if self.is_full:
            raise Unavailable("the disk is full", code="store-full")
        return await super().commit(commit)


async def test_a_store_that_refuses_is_a_trouble_until_it_takes_something_again(sides: Pairs) -> None:
    store = Stubborn()
    scheduler = await sides.scheduler(store)
    assert scheduler.metrics.store_trouble is None

    store.is_full = True
    putting = asyncio.create_task(scheduler.runner.put(f.deal_matched(DEAL)))
    await until(lambda: scheduler.metrics.store_trouble is not None)
    assert scheduler.metrics.store_trouble == "the disk is full"
    families = await scrape(scheduler, sides)
    assert value(families, "poolwright_commit_refusals") >= 1

    store.is_full = False
    await putting
    assert scheduler.metrics.store_trouble is None


def block(number: int) -> BlockStamp:
    return BlockStamp(BlockNumber(number), BlockHash(f.hash32(str(number))), Timestamp(number))


def test_logs_that_do_not_follow_the_head_are_a_trouble_after_a_minute() -> None:
    progress = ChainProgress(block(7))
    now = time.monotonic()
    late = now + FOLLOW_SECONDS + 2

    assert progress.trouble(None, late) is None
    assert progress.trouble(block(7), late) is None
    assert progress.trouble(block(9), now + 1) is None
    assert progress.trouble(block(9), late) == "logs of block 8 are not taken for 62 s, the chain is at 9"
    progress.took(block(9))
    assert progress.trouble(block(9), late) is None
    assert ChainProgress(None).trouble(block(0), late) is not None


async def test_health_is_503_with_the_reason_when_something_is_in_trouble(sides: Pairs) -> None:
    report = {"status": "ok", "trouble": None}
    scheduler = await sides.scheduler(health=lambda: report)

    async with sides.http.get(f"{scheduler.url}/health") as answer:
        assert answer.status == 200
    report |= {"status": "degraded", "trouble": "no node answers"}  # type: ignore[dict-item]  # a JSON object
    async with sides.http.get(f"{scheduler.url}/health") as answer:
        assert (answer.status, (await answer.json())["trouble"]) == (503, "no node answers")
