"""A worker's /metrics and /health: the docs name every number, and what happens to it is seen in them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

import factories as f
from poolwright.chain.logs import LogBatch
from poolwright.compute.fake import FakeEngine, FakeHost
from poolwright.daemons.doors import http_server
from poolwright.daemons.engine_watch import EngineWatch
from poolwright.daemons.worker_metrics import Purse, Shown, WorkerMetrics, WorkerSights, worker_health
from poolwright.poco import abi, events
from poolwright.poco.types import Address, BlockHash, BlockNumber, BlockStamp, Timestamp, TxHash
from poolwright.serving.http import listen, serve, url_of
from poolwright.wire.statuses import ReplicateStatus
from poolwright.worker import attempts as minds
from poolwright.worker.attempts import Attempts
from poolwright.worker.events import AppDownloaded, SchedulerInstructed, TaskDescribed

DOCS = (Path(__file__).parents[3] / "docs" / "operating.md").read_text()
SECTION = DOCS.partition("## A worker's health and metrics\n")[2].partition("\n## ")[0]
HEAD = BlockStamp(BlockNumber(40), BlockHash(f.hash32("block 40")), Timestamp(f.START))
WORKER = f.address("worker")
TASK = f.task_of(f.deal_terms())


@dataclass
class Worker:
    """What its numbers are looked up in."""

    host: FakeHost
    watch: EngineWatch
    metrics: WorkerMetrics = field(default_factory=WorkerMetrics)
    attempts: Attempts = field(default_factory=Attempts)
    purse: Purse = field(default_factory=lambda: Purse(WORKER))

    async def numbers(self) -> dict[str, Metric]:
        families = text_string_to_metric_families((await self.metrics.text()).decode())
        return {family.name: family for family in families if not family.name.endswith("_created")}

    def health(self, *, is_connected: bool = True, troubles: tuple[object, ...] = ()) -> dict[str, Any]:
        return dict(
            worker_health(
                workerpool=f.address("pool"),
                wallet=WORKER,
                slots=3,
                head=HEAD,
                troubles=troubles,
                engine=self.watch,
                is_connected=is_connected,
                endpoints={"node": None},
                attempts=self.attempts,
                stopped={},
                in_flight={},
            )
        )


@pytest.fixture
async def worker() -> Worker:
    """A worker of three slots with one task that it fetches data for; its engine answers."""

    async def nothing_to_sweep() -> None:
        pass

    host = FakeHost(apps={})
    watch = EngineWatch(FakeEngine(host, worker=WORKER, network="test"), nothing_to_sweep)
    await watch.look()
    made = Worker(host, watch)
    at = Timestamp(f.START)
    for event in (
        SchedulerInstructed(at=at, instruction=f.start(TASK)),
        TaskDescribed(at=at, task_id=TASK, terms=f.terms()),
        AppDownloaded(at=at, task_id=TASK),
    ):
        minds.step(made.attempts, event)
    made.metrics.look_at(
        WorkerSights(
            attempts=lambda: made.attempts,
            slots=3,
            containers=lambda: 0,
            engine=watch,
            is_connected=lambda: True,
            last_heartbeat=lambda: 1_700_000_000.0,
            in_flight=lambda: {"compute": 1},
            waiting=lambda: 2,
            stopped=lambda: 0,
            transactions=lambda: 4,
            purse=made.purse,
            head=lambda: HEAD,
        )
    )
    return made


def value(families: dict[str, Metric], name: str, **labels: str) -> float:
    family = families[name]
    suffix = "_total" if family.type == "counter" else ""
    [sample] = [s for s in family.samples if s.name == name + suffix and s.labels == labels]
    return sample.value


def money(kind: type[events.Reward | events.Seize], owner: Address, amount: int) -> events.Log:
    types = abi.argument_types(kind.SIGNATURE)
    return events.Log(
        address=f.address("hub"),
        topics=(events.TOPICS[kind],),
        data=abi.encode(types, [owner, amount, TASK]),
        block=HEAD,
        tx_hash=TxHash(f.hash32("tx")),
        log_index=0,
    )


async def test_every_number_is_in_the_docs_and_nothing_else_is(worker: Worker) -> None:
    named = {name.removesuffix("_total") for name in re.findall(r"poolwright_\w+", SECTION)}

    assert named == set(await worker.numbers())


async def test_what_the_worker_does_is_seen_in_its_numbers(worker: Worker) -> None:
    for status in (ReplicateStatus.RUNNING, ReplicateStatus.RUNNING, ReplicateStatus.FAILED):
        worker.metrics.reported(status)
    logs = (
        money(events.Reward, WORKER, 7),
        money(events.Reward, f.address("somebody"), 100),
        money(events.Seize, WORKER, 2),
        money(events.Reward, WORKER, 5),
    )
    worker.purse.count(LogBatch(upto=HEAD, logs=logs))

    seen = await worker.numbers()

    assert value(seen, "poolwright_attempts", stage="FETCHING") == 1
    assert value(seen, "poolwright_attempts", stage="COMPUTING") == 0
    assert value(seen, "poolwright_reports", status="RUNNING") == 2
    assert value(seen, "poolwright_reports", status="FAILED") == 1
    assert [value(seen, "poolwright_slots", state=it) for it in ("total", "free", "computing")] == [3, 2, 0]
    assert value(seen, "poolwright_rlc_earned_nrlc") == 12
    assert value(seen, "poolwright_rlc_seized_nrlc") == 2
    assert value(seen, "poolwright_chain_block", place="followed") == HEAD.number
    assert value(seen, "poolwright_last_heartbeat_seconds") == 1_700_000_000
    assert value(seen, "poolwright_transactions_in_flight") == 4


async def test_engine_that_is_away_shows_in_the_numbers_and_in_the_health(worker: Worker) -> None:
    assert value(await worker.numbers(), "poolwright_engine_up") == 1
    assert worker.health()["status"] == "ok"

    worker.host.go_down()
    await worker.watch.look()

    assert value(await worker.numbers(), "poolwright_engine_up") == 0
    told = worker.health()
    assert told["status"] == "degraded"
    assert "start it" in told["trouble"]
    assert told["tasks"] == {str(TASK): "FETCHING"}


async def test_every_trouble_is_told(worker: Worker) -> None:
    told = worker.health(is_connected=False, troubles=("no node answers", None, ""))

    assert told["trouble"] == "not connected to the scheduler; no node answers"


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """Where a worker that has not begun to work shows itself."""
    listener = listen("127.0.0.1", 0, setting="nothing")
    server = http_server(Shown().app)
    serving = asyncio.create_task(serve(server, listener))
    yield url_of(listener)
    server.should_exit = True
    await serving
    listener.close()


async def test_worker_that_is_starting_answers_and_says_so(url: str) -> None:
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{url}/health") as health:
            assert health.status == 503
            assert (await health.json())["trouble"] == "the worker is starting"
        async with http.get(f"{url}/metrics") as metrics:
            assert metrics.status == 200
            assert "poolwright_gas_used_total 0.0" in await metrics.text()
