"""The scheduler's numbers for Prometheus, beside those of every daemon (`metrics.py`)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.core import Metric

from poolwright.daemons.metrics import FAST, Metrics, gauge, labelled, of_chain, of_money, of_work, total
from poolwright.daemons.sessions import Sessions
from poolwright.poco.types import BlockStamp
from poolwright.scheduler.pool import Pool
from poolwright.scheduler.standing import HoldCode, notice
from poolwright.scheduler.task import Phase, Task
from poolwright.wire.statuses import ReplicateStatus

COUNTED_AT_ONCE: Final = 2_000
"""Tasks that are counted before others may work: some milliseconds."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """How many of the pool's tasks stand in each phase, and how many replicates at each status."""

    phases: dict[str, int] = field(default_factory=lambda: dict.fromkeys((each.value for each in Phase), 0))
    statuses: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys((each.value for each in ReplicateStatus), 0)
    )


class SchedulerMetrics(Metrics):
    """Counts what the scheduler's runner, journal and sessions do."""

    def __init__(self) -> None:
        super().__init__()
        self._failed = self.counter("submissions_failed", "Wished transactions that came to nothing")
        self._deal_lag = self.histogram("deal_lag_seconds", "From a deal's block to its being durable", _SLOW)
        self._dispatch = self.histogram(
            "dispatch_seconds", "From a durable assignment to its message on the worker's connection", FAST
        )

        self._sights: Sights | None = None
        self._census = Census()

    def look_at(self, sights: Sights) -> None:
        """From now on tell what these see, too."""
        self._sights = sights
        self.look_up(lambda: _seen(sights, self._census))

    async def text(self) -> bytes:
        """All numbers; tasks are counted a part at a time, and all as they were at one moment."""
        if self._sights is not None:
            self._census = await _counted(tuple(self._sights.pool().tasks.values()))
        return await super().text()

    def stepped(self, event_kind: str, *, effects: int, is_ignored: bool) -> None:
        super().stepped(event_kind, effects=effects, is_ignored=is_ignored)
        if event_kind == "SubmissionFailed" and not is_ignored:
            self._failed.inc()

    def deal_taken(self, block_time: int) -> None:
        """A deal of a block of this time (seconds UTC) has just become durable."""
        self._deal_lag.observe(max(time.time() - block_time, 0.0))

    def dispatched(self, seconds: float) -> None:
        """An order to start was sent so long after it was durable."""
        self._dispatch.observe(seconds)


async def _counted(tasks: Sequence[Task]) -> Census:
    """How many tasks and replicates stand where."""
    census = Census()
    for start in range(0, len(tasks), COUNTED_AT_ONCE):
        for task in tasks[start : start + COUNTED_AT_ONCE]:
            census.phases[task.phase] += 1
            for replicate in task.replicates:
                census.statuses[replicate.status] += 1
        await asyncio.sleep(0)  # others may work
    return census


def _seen(sights: Sights, census: Census) -> Iterable[Metric]:
    pool = sights.pool()
    yield labelled("tasks", "Tasks that are kept, by phase", "phase", census.phases)
    yield labelled("replicates", "Replicates of tasks that are kept, by status", "status", census.statuses)
    yield gauge("tasks_waiting_for_worker", "Tasks in the line for a worker", len(pool.supply.needy))
    yield from _of_workers(pool, sights.sessions)
    yield gauge("tasks_stopped", "Tasks that a bug of ours has stopped", sights.stopped())
    yield from of_work(sights.in_flight(), sights.waiting(), sights.transactions())
    yield gauge("fees_held", "1 while transactions wait for a limit on fees", sights.fees_held())
    yield from of_money(*sights.money())
    yield from of_chain(sights.head(), sights.followed())


def _of_workers(pool: Pool, sessions: Sessions) -> Iterable[Metric]:
    workers = pool.workers.values()
    heard = [worker for worker in workers if not worker.is_silent]
    slots = {
        "total": sum(worker.capacity.slots for worker in heard),
        "free": sum(worker.free_slots for worker in heard),
        "computing": sum(len(worker.computing) for worker in heard),
    }
    yield labelled("slots", "Slots of workers that are heard", "state", slots)
    yield gauge("workers_connected", "Connected workers", len(sessions.connected))
    yield gauge("workers_known", "Workers that the pool remembers", len(pool.workers))
    held = dict.fromkeys((code.value for code in HoldCode), 0)
    for worker in workers:
        why = notice(worker.standing)
        if why is not None:
            held[why.code] += 1
    yield labelled("workers_held", "Workers that are given no new work", "reason", held)
    yield total("refused", "Messages, connections and requests refused", sessions.refused, "code")
    yield total("reports_turned_away", "Reports that were not kept", sessions.turned_away, "reason")
