"""A worker's numbers for Prometheus, beside those of every daemon (`metrics.py`), and its health."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog
from prometheus_client.core import Metric
from starlette.applications import Starlette

from poolwright import __version__
from poolwright.chain.heads import Heads
from poolwright.chain.logs import LogBatch, follow
from poolwright.chain.rpc import Rpc, RpcError
from poolwright.chain.sender import TxSender
from poolwright.chain.wallet import Wallet
from poolwright.daemons.config import WorkerConfig
from poolwright.daemons.doors import Health, watch_routes
from poolwright.daemons.engine_watch import EngineWatch
from poolwright.daemons.metrics import (
    MeteredTxJournal,
    Metrics,
    gauge,
    labelled,
    of_chain,
    of_money,
    of_work,
)
from poolwright.daemons.runner import Runner
from poolwright.daemons.scheduler_link import SchedulerLink
from poolwright.daemons.tx_journal import StoreTxJournal
from poolwright.daemons.worker_hands import WorkerHands
from poolwright.poco import events
from poolwright.poco.errors import PeerError
from poolwright.poco.types import Address, BlockNumber, BlockStamp, TaskId
from poolwright.store.port import Store
from poolwright.wire.statuses import ReplicateStatus
from poolwright.worker.attempt import Stage
from poolwright.worker.attempts import Attempts
from poolwright.worker.effects import Effect
from poolwright.worker.events import Event

log = structlog.get_logger(__name__)

REFUSED_SECONDS: Final = 60.0
"""Pause after a node has refused its logs; the worker's work does not depend on them."""
SLOT_STAGES: Final = frozenset({Stage.DESCRIBING, Stage.PULLING, Stage.FETCHING, Stage.COMPUTING})
"""An attempt in one of these holds a slot: its container has not ended yet."""
MONEY_TOPICS: Final = tuple(events.TOPICS[kind] for kind in (events.Reward, events.Seize))


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSights:
    """What is looked up when metrics are asked for."""

    attempts: Callable[[], Attempts]
    slots: int
    containers: Callable[[], int]
    """Containers that this worker waits for."""
    engine: EngineWatch
    is_connected: Callable[[], bool]
    last_heartbeat: Callable[[], float]
    """Unix time of the last sign of life sent to the scheduler; 0 before the first."""
    in_flight: Callable[[], Mapping[str, int]]
    waiting: Callable[[], int]
    stopped: Callable[[], int]
    transactions: Callable[[], int]
    purse: Purse
    head: Callable[[], BlockStamp | None]


class Purse:
    """What the worker's wallet earned and lost since the process began, from the hub's logs."""

    def __init__(self, wallet: Address) -> None:
        self._wallet = wallet
        self.earned = 0
        """nRLC of rewards."""
        self.seized = 0
        """nRLC of stake that was taken."""
        self.followed: BlockStamp | None = None
        """The newest block whose logs are counted."""

    def count(self, batch: LogBatch) -> None:
        """Count the rewards and losses of a batch of logs."""
        for entry in batch.logs:
            match events.decode_log(entry):
                case events.Reward(owner=self._wallet, amount=amount):
                    self.earned += amount
                case events.Seize(owner=self._wallet, amount=amount):
                    self.seized += amount
        self.followed = batch.upto

    async def fill(self, rpc: Rpc, hub: Address, heads: Heads) -> None:
        """Count for ever, from the next block on. Raises ChainReorganised."""
        while True:
            counted = self.followed or await heads.beyond(None)
            start = BlockNumber(counted.number + 1)
            try:
                async for batch in follow(rpc, hub, [MONEY_TOPICS], None, start, heads):
                    self.count(batch)
            except (RpcError, PeerError) as problem:
                log.warning("rewards not counted for the moment", reason=str(problem))
            await asyncio.sleep(REFUSED_SECONDS)


class WorkerMetrics(Metrics):
    """Counts what the worker's runner, journal and hands do."""

    def __init__(self) -> None:
        super().__init__()
        self._reports = self.counter("reports", "Reports to the scheduler", "status")

    def reported(self, status: ReplicateStatus) -> None:
        """A report is on its way to the scheduler."""
        self._reports.labels(status.value).inc()

    def look_at(self, sights: WorkerSights) -> None:
        """From now on tell what these see, too."""
        self.look_up(lambda: _seen(sights))


def _seen(sights: WorkerSights) -> Iterable[Metric]:
    stages = dict.fromkeys((stage.value for stage in Stage), 0)
    for attempt in sights.attempts().by_task.values():
        stages[attempt.stage] += 1
    held = sum(stages[stage] for stage in SLOT_STAGES)
    slots = {"total": sights.slots, "free": max(sights.slots - held, 0), "computing": sights.containers()}
    yield labelled("attempts", "Attempts at tasks that are kept, by stage", "stage", stages)
    yield labelled("slots", "Slots of this worker", "state", slots)
    yield gauge("containers", "Containers that this worker waits for", sights.containers())
    yield gauge("engine_up", "1 while the container engine answers", sights.engine.is_up)
    yield gauge("scheduler_connected", "1 while connected to the scheduler", sights.is_connected())
    beat = "Unix time of the last sign of life sent to the scheduler"
    yield gauge("last_heartbeat_seconds", beat, sights.last_heartbeat())
    yield gauge("tasks_stopped", "Tasks that a bug of ours has stopped", sights.stopped())
    yield from of_work(sights.in_flight(), sights.waiting(), sights.transactions())
    yield from of_money(sights.purse.earned, sights.purse.seized)
    yield from of_chain(sights.head(), sights.purse.followed)


class Shown:
    """What is seen of a worker from outside: `app` answers before it works, and while it does."""

    def __init__(self) -> None:
        self.metrics = WorkerMetrics()
        self._health: Health = _starting
        self.app = Starlette(routes=watch_routes(lambda: self._health(), self.metrics.text))

    def journal(self, store: Store) -> StoreTxJournal:
        """A journal of transactions that are counted."""
        return MeteredTxJournal(store, self.metrics)

    def of(
        self,
        config: WorkerConfig,
        wallet: Wallet,
        rpc: Rpc,
        heads: Heads,
        sender: TxSender,
        hands: WorkerHands,
        runner: Runner[Attempts, Event, Effect],
        link: SchedulerLink,
        engine: EngineWatch,
    ) -> tuple[Coroutine[object, object, None], ...]:
        """Show this worker from now on; what is answered is to run beside it."""
        purse = Purse(wallet.address)
        self.metrics.look_at(
            WorkerSights(
                attempts=lambda: runner.state,
                slots=config.slots,
                containers=lambda: hands.running,
                engine=engine,
                is_connected=lambda: link.is_connected,
                last_heartbeat=lambda: link.last_heartbeat,
                in_flight=lambda: runner.in_flight,
                waiting=lambda: runner.waiting,
                stopped=lambda: len(runner.stopped_tasks),
                transactions=lambda: len(sender.in_flight),
                purse=purse,
                head=lambda: heads.current,
            )
        )
        self._health = lambda: worker_health(
            workerpool=config.workerpool,
            wallet=wallet.address,
            slots=config.slots,
            head=heads.current,
            troubles=(heads.trouble, self.metrics.store_trouble, sender.price_trouble),
            engine=engine,
            is_connected=link.is_connected,
            endpoints=rpc.endpoints,
            attempts=runner.state,
            stopped=runner.stopped_tasks,
            in_flight=runner.in_flight,
        )
        return purse.fill(rpc, config.chain.hub, heads), self.metrics.watch_loop()


def worker_health(
    *,
    workerpool: Address,
    wallet: Address,
    slots: int,
    head: BlockStamp | None,
    troubles: Iterable[object],
    engine: EngineWatch,
    is_connected: bool,
    endpoints: Mapping[str, str | None],
    attempts: Attempts,
    stopped: Mapping[TaskId, str],
    in_flight: Mapping[str, int],
) -> Mapping[str, object]:
    """What works; `status` is "ok", or "degraded": engine, scheduler, chain, store or gas price."""
    engine_trouble = None if engine.is_up else engine.trouble or "the container engine was not asked yet"
    told = [engine_trouble, None if is_connected else "not connected to the scheduler", *troubles]
    trouble = "; ".join(str(each) for each in told if each)
    return {
        "status": "degraded" if trouble else "ok",
        "trouble": trouble or None,
        "version": __version__,
        "workerpool": str(workerpool),
        "wallet": str(wallet),
        "engine": None if engine.facts is None else engine.facts.version,
        "endpoints": {host: why or "ok" for host, why in endpoints.items()},
        "block": None if head is None else head.number,
        "chainTime": None if head is None else head.timestamp,
        "slots": slots,
        "tasks": {str(task): attempt.stage.value for task, attempt in attempts.by_task.items()},
        "stoppedTasks": {str(task): why for task, why in stopped.items()},
        "inFlight": dict(in_flight),
    }


def _starting() -> Mapping[str, object]:
    return {"status": "degraded", "trouble": "the worker is starting", "version": __version__}
