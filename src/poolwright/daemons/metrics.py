"""Numbers for Prometheus that every daemon with a mind has, and how the others are told.

What happens is counted; what need not be counted is looked up when asked. Each name is explained to operators
in docs/operating.md; tests compare its tables with what is registered. Counters begin at 0 with the process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from poolwright.chain.journal import TxPhase, TxRecord
from poolwright.daemons.mind import Observer
from poolwright.daemons.tx_journal import StoreTxJournal
from poolwright.poco.types import BlockStamp
from poolwright.store.port import Store

LOOP_PERIOD_SECONDS: Final = 0.25
"""How often it is measured how late the event loop is."""
FAST: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
"""Buckets for what takes milliseconds, in seconds."""


class Metrics(Observer):
    """Counts what the runner and the transaction journal do."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._sent_keys: set[str] = set()
        self._events = self.counter("events", "Events that became durable", "kind")
        self._ignored = self.counter("events_ignored", "Durable events that changed nothing", "kind")
        self._commit = self.histogram("commit_seconds", "Time until a batch of events is durable", FAST)
        self._refusals = self.counter("commit_refusals", "Commits that the store refused")
        self._effects = self.counter("effects", "Effects that ended", "lane", "outcome")
        self._transactions = self.counter("transactions", "Transactions by what became of them", "outcome")
        self._gas = self.counter("gas_used", "Gas of confirmed transactions")
        self._fees = self.counter("fees_wei", "Fees of confirmed transactions, wei")
        self._loop_lag = self.histogram("event_loop_lag_seconds", "How late the event loop is", FAST)
        self.store_trouble: str | None = None
        """Why the store refused the last commit; None when it took it."""

    async def text(self) -> bytes:
        """All numbers in the text format of Prometheus."""
        return generate_latest(self.registry)

    # --- what the runner tells ----------------------------------------------------------------------------

    def stepped(self, event_kind: str, *, effects: int, is_ignored: bool) -> None:
        self._events.labels(event_kind).inc()
        if is_ignored:
            self._ignored.labels(event_kind).inc()

    def committed(self, *, events: int, seconds: float) -> None:
        self.store_trouble = None
        self._commit.observe(seconds)

    def commit_refused(self, reason: str) -> None:
        self.store_trouble = reason
        self._refusals.inc()

    def carried_out(self, lane_kind: str, *, outcome: str, seconds: float) -> None:
        self._effects.labels(lane_kind, outcome).inc()

    # --- what others tell ---------------------------------------------------------------------------------

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

    # --- further numbers of one daemon --------------------------------------------------------------------

    def counter(self, name: str, text: str, *labels: str) -> Counter:
        """A number that is counted as it happens."""
        return Counter(f"poolwright_{name}", text, labels, registry=self.registry)

    def histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        """A distribution of what is measured as it happens."""
        return Histogram(f"poolwright_{name}", text, registry=self.registry, buckets=buckets)

    def look_up(self, sights: Callable[[], Iterable[Metric]]) -> None:
        """From now on tell what is seen when the numbers are asked for, too."""
        self.registry.register(_Lookout(sights))


class MeteredTxJournal(StoreTxJournal):
    """A transaction journal whose records are counted as they become durable."""

    def __init__(self, store: Store, metrics: Metrics) -> None:
        super().__init__(store)
        self._metrics = metrics

    async def put(self, *records: TxRecord) -> None:
        await super().put(*records)
        self._metrics.journaled(records)


class _Lookout(Collector):
    """A collector of what need not be counted."""

    def __init__(self, sights: Callable[[], Iterable[Metric]]) -> None:
        self._sights = sights

    def collect(self) -> Iterable[Metric]:
        return self._sights()


def gauge(name: str, text: str, value: float) -> Metric:
    """One number that goes up and down."""
    return GaugeMetricFamily(f"poolwright_{name}", text, value=value)


def labelled(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    """Such numbers, by one label."""
    family = GaugeMetricFamily(f"poolwright_{name}", text, labels=[label])
    for word, value in values.items():
        family.add_metric([word], value)
    return family


def total(name: str, text: str, values: Mapping[str, int], label: str = "") -> Metric:
    """A count that somebody else keeps, by one label or as a whole (under "")."""
    family = CounterMetricFamily(f"poolwright_{name}", text, labels=[label] if label else [])
    for word, value in values.items():
        family.add_metric([str(word)] if label else [], value)
    return family


def of_work(in_flight: Mapping[str, int], waiting: int, transactions: int) -> Iterable[Metric]:
    """What is on its way: effects by kind of lane, deliveries of events, transactions."""
    yield gauge("deliveries_waiting", "Deliveries of events that wait for their turn", waiting)
    yield labelled("effects_in_flight", "Effects on their way", "lane", in_flight)
    yield gauge("transactions_in_flight", "Transactions not confirmed", transactions)


def of_money(earned: int, seized: int) -> Iterable[Metric]:
    """nRLC that this daemon's wallet earned and lost."""
    yield total("rlc_earned_nrlc", "nRLC that tasks of this pool brought this wallet", {"": earned})
    yield total("rlc_seized_nrlc", "nRLC of this wallet's stake lost by tasks of this pool", {"": seized})


def of_chain(head: BlockStamp | None, followed: BlockStamp | None) -> Iterable[Metric]:
    """How far the chain is, and how far its logs are taken."""
    blocks = {"head": head.number if head else 0, "followed": followed.number if followed else 0}
    yield labelled("chain_block", "Newest confirmed block, and newest with logs taken", "place", blocks)
    lag = max(time.time() - followed.timestamp, 0.0) if followed else 0.0
    yield gauge("chain_lag_seconds", "Age of the newest block whose logs are taken", lag)
