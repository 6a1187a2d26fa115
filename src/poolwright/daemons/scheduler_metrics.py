"""The scheduler's numbers for Prometheus: what is counted as it happens, and what is looked up when asked.

Each name is explained for operators in docs/operating.md; a test compares that table with what is registered
here. Counters begin at 0 with the process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from poolwright.chain.journal import TxPhase, TxRecord
from poolwright.daemons.mind import Observer
from poolwright.daemons.sessions import Sessions
from poolwright.daemons.tx_journal import StoreTxJournal
from poolwright.poco.types import BlockStamp
from poolwright.scheduler.pool import Pool
from poolwright.scheduler.standing import HoldCode, notice
from poolwright.scheduler.task import Phase
from poolwright.store.port import Store
from poolwright.wire.statuses import ReplicateStatus

LOOP_PERIOD_SECONDS: Final = 0.25
"""How often it is measured how late the event loop is."""
_FAST: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
_SLOW: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 300.0, 3600.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sights:
    """What is looked up when metrics are asked for."""

    pool: Callable[[], Pool]
    sessions: Sessions
    in_flight: Callable[[], Mapping[str, int]]
    """Effects on their way, by kind of lane."""
    waiting: Callable[[], int]
    """Deliveries that wait for their turn."""
    stopped: Callable[[], int]
    """Tasks that a bug of ours has stopped."""
    transactions: Callable[[], int]
    """Transactions that are not confirmed."""
    money: Callable[[], tuple[int, int]]
    """nRLC earned and seized."""
    fees_held: Callable[[], bool]
    """Whether transactions wait because of a limit on fees."""
    head: Callable[[], BlockStamp | None]
    followed: Callable[[], BlockStamp | None]


class SchedulerMetrics(Observer):
    """Counts what the runner, the journal and the sessions do."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._sent_keys: set[str] = set()
        self._events = self._counter("events", "Events that became durable", "kind")
        self._ignored = self._counter("events_ignored", "Durable events that changed nothing", "kind")
        self._commit = self._histogram("commit_seconds", "Time until a batch of events is durable", _FAST)
        self._refusals = self._counter("commit_refusals", "Commits that the store refused")
        self._effects = self._counter("effects", "Effects that ended", "lane", "outcome")
        self._transactions = self._counter("transactions", "Transactions by what became of them", "outcome")
        self._failed = self._counter("submissions_failed", "Wished transactions that came to nothing")
        self._gas = self._counter("gas_used", "Gas of confirmed transactions")
        self._fees = self._counter("fees_wei", "Fees of confirmed transactions, wei")
        self._deal_lag = self._histogram(
            "deal_lag_seconds", "From a deal's block to its being durable", _SLOW
        )
        self._dispatch = self._histogram(
            "dispatch_seconds", "From a durable assignment to its message on the worker's connection", _FAST
        )
        self._loop_lag = self._histogram("event_loop_lag_seconds", "How late the event loop is", _FAST)
        self.store_trouble: str | None = None
        """Why the store refused the last commit; None when it took it."""

    def look_at(self, sights: Sights) -> None:
        """From now on tell what these see, too."""
        self.registry.register(_Lookout(sights))

    def text(self) -> bytes:
        """All numbers in the text format of Prometheus."""
        return generate_latest(self.registry)

    # --- what the runner tells ----------------------------------------------------------------------------

    def stepped(self, event_kind: str, *, effects: int, is_ignored: bool) -> None:
        self._events.labels(event_kind).inc()
        if is_ignored:
            self._ignored.labels(event_kind).inc()
        elif event_kind == "SubmissionFailed":
            self._failed.inc()

    def committed(self, *, events: int, seconds: float) -> None:
        self.store_trouble = None
        self._commit.observe(seconds)

    def commit_refused(self, reason: str) -> None:
        self.store_trouble = reason
        self._refusals.inc()

    def carried_out(self, lane_kind: str, *, outcome: str, seconds: float) -> None:
        self._effects.labels(lane_kind, outcome).inc()

    # --- what others tell ---------------------------------------------------------------------------------

    def deal_taken(self, block_time: int) -> None:
        """A deal of a block of this time (seconds UTC) has just become durable."""
        self._deal_lag.observe(max(time.time() - block_time, 0.0))

    def dispatched(self, seconds: float) -> None:
        """An order to start was sent so long after it was durable."""
        self._dispatch.observe(seconds)

    def journaled(self, records: Iterable[TxRecord]) -> None:
        """Transactions were written down: new ones, new prices, or their ends."""
        for record in records:
            is_known = record.key in self._sent_keys
            if record.phase is TxPhase.PENDING:
                self._sent_keys.add(record.key)
                self._transactions.labels("replaced" if is_known else "sent").inc()
                continue
            self._sent_keys.discard(record.key)
            self._transactions.labels(record.phase.value).inc()
            self._gas.inc(record.gas_used or 0)
            self._fees.inc(record.fee or 0)

    async def watch_loop(self) -> None:
        """Measure for ever how late the event loop is."""
        while True:
            due = time.monotonic() + LOOP_PERIOD_SECONDS
            await asyncio.sleep(LOOP_PERIOD_SECONDS)
            self._loop_lag.observe(max(time.monotonic() - due, 0.0))

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"poolwright_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"poolwright_{name}", text, registry=self.registry, buckets=buckets)


class MeteredTxJournal(StoreTxJournal):
    """A transaction journal whose records are counted as they become durable."""

    def __init__(self, store: Store, metrics: SchedulerMetrics) -> None:
        super().__init__(store)
        self._metrics = metrics

    async def put(self, *records: TxRecord) -> None:
        await super().put(*records)
        self._metrics.journaled(records)


class _Lookout:
    """A collector of what need not be counted."""

    def __init__(self, sights: Sights) -> None:
        self._sights = sights

    def collect(self) -> Iterable[Metric]:
        sights, pool = self._sights, self._sights.pool()
        yield from _of_tasks(pool)
        yield from _of_workers(pool, sights.sessions)
        yield _gauge("tasks_stopped", "Tasks that a bug of ours has stopped", sights.stopped())
        yield _gauge("deliveries_waiting", "Deliveries of events that wait for their turn", sights.waiting())
        yield _labelled("effects_in_flight", "Effects on their way", "lane", sights.in_flight())
        yield _gauge("transactions_in_flight", "Transactions not confirmed", sights.transactions())
        yield _gauge("fees_held", "1 while transactions wait for a limit on fees", sights.fees_held())
        earned, seized = sights.money()
        yield _total("rlc_earned_nrlc", "nRLC that tasks of this pool brought its owner", {"": earned})
        yield _total("rlc_seized_nrlc", "nRLC of the owner's stake lost by tasks of this pool", {"": seized})
        yield from _of_chain(sights.head(), sights.followed())


def _of_tasks(pool: Pool) -> Iterable[Metric]:
    phases = dict.fromkeys((phase.value for phase in Phase), 0)
    statuses = dict.fromkeys((status.value for status in ReplicateStatus), 0)
    for task in pool.tasks.values():
        phases[task.phase] += 1
        for replicate in task.replicates:
            statuses[replicate.status] += 1
    yield _labelled("tasks", "Tasks that are kept, by phase", "phase", phases)
    yield _labelled("replicates", "Replicates of tasks that are kept, by status", "status", statuses)
    yield _gauge("tasks_waiting_for_worker", "Tasks in the line for a worker", len(pool.supply.needy))


def _of_workers(pool: Pool, sessions: Sessions) -> Iterable[Metric]:
    workers = pool.workers.values()
    heard = [worker for worker in workers if not worker.is_silent]
    slots = {
        "total": sum(worker.capacity.slots for worker in heard),
        "free": sum(worker.free_slots for worker in heard),
        "computing": sum(len(worker.computing) for worker in heard),
    }
    yield _labelled("slots", "Slots of workers that are heard", "state", slots)
    yield _gauge("workers_connected", "Connected workers", len(sessions.connected))
    yield _gauge("workers_known", "Workers that the pool remembers", len(pool.workers))
    held = dict.fromkeys((code.value for code in HoldCode), 0)
    for worker in workers:
        why = notice(worker.standing)
        if why is not None:
            held[why.code] += 1
    yield _labelled("workers_held", "Workers that are given no new work", "reason", held)
    yield _total("refused", "Messages, connections and requests refused", sessions.refused, "code")
    yield _total("reports_turned_away", "Reports that were not kept", sessions.turned_away, "reason")


def _of_chain(head: BlockStamp | None, followed: BlockStamp | None) -> Iterable[Metric]:
    blocks = {"head": head.number if head else 0, "followed": followed.number if followed else 0}
    yield _labelled("chain_block", "Newest confirmed block, and newest with logs taken", "place", blocks)
    lag = max(time.time() - followed.timestamp, 0.0) if followed else 0.0
    yield _gauge("chain_lag_seconds", "Age of the newest block whose logs are taken", lag)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"poolwright_{name}", text, value=value)


def _labelled(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"poolwright_{name}", text, labels=[label])
    for word, value in values.items():
        family.add_metric([word], value)
    return family


def _total(name: str, text: str, values: Mapping[str, int], label: str = "") -> Metric:
    family = CounterMetricFamily(f"poolwright_{name}", text, labels=[label] if label else [])
    for word, value in values.items():
        family.add_metric([str(word)] if label else [], value)
    return family
