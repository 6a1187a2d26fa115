"""The scheduler's mind alone: whole lives of tasks in a large pool, events per second and bytes a task.

A pool of 10,000 workers with three slots holds 100,000 live tasks, a tenth of them with trust 3, else 1.
Random tasks move on by one event each: a deal, its initialization, what workers report, the chain's logs, the
upload, the end. For each task that ends a new one is bought. Only `step` is timed. More tasks want to compute
than there are slots, so that there is always a line, and every freed slot is given away at once.

Floor: as many frozen dataclasses of three fields made, and entries of a dictionary replaced, as there were
events. What a task costs is what is freed, by tracemalloc, when a pool of a tenth of the size is dropped.
"""

from __future__ import annotations

import gc
import random
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.factories import TO_CONTRIBUTING

from bench.harness import Figure, bench
from poolwright.poco import ids
from poolwright.poco.errors import InvariantBroken
from poolwright.poco.keccak import keccak
from poolwright.poco.results import result_hash
from poolwright.poco.tags import NO_TAG
from poolwright.poco.types import (
    Address,
    BlockNumber,
    DealId,
    Hash32,
    NRlc,
    Seconds,
    TaskId,
    Timestamp,
    TxHash,
    WorkerAddress,
)
from poolwright.scheduler import events, pool
from poolwright.scheduler.effects import TellWorkerStart
from poolwright.serving.garbage import keep_what_is_loaded
from poolwright.wire.messages import Capacity, Details
from poolwright.wire.statuses import ReplicateStatus

GOAL_PER_SECOND = 30_000
GOAL_BYTES = 2_048
WORKERS, SLOTS, TASKS = 10_000, 3, 100_000
FLOOR_BYTES = 400
"""An id, a dictionary's entry and an object of twenty fields."""
TIMED_EVENTS = 200_000
ROUNDS = 3
AT_ONCE = 500
"""Tasks that move on in one second, by one event each."""
BUSY_AFTER = 12
"""Events for each task until the pool is as busy as it stays: some wait, some compute, some end."""
BAG = 10
S = ReplicateStatus
NO_DETAILS = Details()
DIGEST = Hash32(keccak(b"the right result"))
LINK = "/ipfs/QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG"


@dataclass(slots=True)
class Life:
    """A task as the world sees it: who computes it, and the events still to come."""

    task_id: TaskId
    needs: int
    """Workers that its trust demands, all of weight 2."""
    workers: list[WorkerAddress]
    script: Iterator[events.PoolEvent]


class Load:
    """A pool and the world around it, which keeps it as busy as it is."""

    def __init__(self, workers: int, tasks: int) -> None:
        self.chance = random.Random(1)
        self.pool = pool.Pool(kept_ended=tasks // 10)
        self.now = Timestamp(1_700_000_000)
        self.tasks = tasks
        self.lives: dict[TaskId, Life] = {}
        self.ready: list[Life] = []
        """Tasks with a next event; the others wait for workers."""
        self.deals = 0
        self.seconds = 0.0
        self.told = 0
        self.tell([self.connected(number) for number in range(workers)])
        while self.told < BUSY_AFTER * tasks:
            self.move()

    def move(self) -> None:
        """Let some tasks move on by one event each, in one second, and buy new ones for those that ended."""
        self.now = Timestamp(self.now + 1)
        bought = max((self.tasks - len(self.lives)) // BAG, 0)
        news: list[events.PoolEvent] = [self.matched() for _ in range(min(bought, AT_ONCE // BAG))]
        for life in self.drawn(AT_ONCE):
            event = next(life.script, None)
            if event is None:
                del self.lives[life.task_id]
                continue
            news.append(event)
            if not isinstance(event, events.ChainTaskInitialized):
                self.ready.append(life)
        self.tell(news)

    def drawn(self, count: int) -> list[Life]:
        """Take some tasks at random out of those that are ready."""
        drawn = []
        for _ in range(min(count, len(self.ready))):
            at = self.chance.randrange(len(self.ready))
            self.ready[at], self.ready[-1] = self.ready[-1], self.ready[at]
            drawn.append(self.ready.pop())
        return drawn

    def tell(self, news: Sequence[events.PoolEvent]) -> None:
        """Step the events, and note which tasks have found all their workers."""
        started = time.process_time()
        steps = [pool.step(self.pool, event) for event in news]
        self.seconds += time.process_time() - started
        self.told += len(news)
        for event, step in zip(news, steps, strict=True):
            if step.ignored is not None and not isinstance(event, events.WorkerReported):
                raise InvariantBroken(f"{type(event).__name__} was ignored: {step.ignored}")
            for effect in step.effects:
                if isinstance(effect, TellWorkerStart):
                    life = self.lives[effect.task_id]
                    life.workers.append(effect.worker)
                    if len(life.workers) == life.needs:
                        self.ready.append(life)

    # Events --------------------------------------------------------------------------------------

    def connected(self, number: int) -> events.WorkerConnected:
        worker = WorkerAddress(Address(keccak(b"worker %d" % number)[:20]))
        return events.WorkerConnected(
            at=self.now,
            worker=worker,
            journal=Hash32(keccak(worker)),
            capacity=Capacity(name=f"worker-{number}", version="0.2.0", slots=SLOTS, cpus=4, memory_gib=8),
            weight=2,
        )

    def matched(self) -> events.ChainDealMatched:
        self.deals += 1
        trust = 3 if self.deals % 10 == 0 else 1
        terms = events.DealTerms(
            deal_id=DealId(Hash32(keccak(b"deal %d" % self.deals))),
            start_time=self.now,
            timeref=Seconds(36_000),
            trust=trust,
            tag=NO_TAG,
            bot_first=0,
            bot_size=BAG,
            requester=Address(keccak(b"requester")[:20]),
            app=Address(keccak(b"app")[:20]),
            has_callback=False,
            workerpool_price=NRlc(10**9),
        )
        for index in range(BAG):
            task_id = ids.task_id(terms.deal_id, index)
            workers: list[WorkerAddress] = []
            life = Life(task_id, 2 if trust == 3 else 1, workers, self.script(task_id, workers))
            self.lives[task_id] = life
            self.ready.append(life)
        return events.ChainDealMatched(at=self.now, terms=terms, ref=self.ref(terms.deal_id))

    def script(self, task_id: TaskId, workers: list[WorkerAddress]) -> Iterator[events.PoolEvent]:
        """All that happens to a task after its deal; `workers` are known from its initialization on."""
        agreed = result_hash(task_id, DIGEST)
        yield events.ChainTaskInitialized(at=self.now, task_id=task_id, ref=self.ref(task_id))
        for worker in workers:
            for status in TO_CONTRIBUTING:
                yield self.report(task_id, worker, status)
            yield events.ChainTaskContributed(
                at=self.now,
                task_id=task_id,
                worker=worker,
                result_hash=agreed,
                weight=2,
                ref=self.ref(agreed + worker),
            )
        yield events.ChainTaskConsensusReached(
            at=self.now,
            task_id=task_id,
            consensus=agreed,
            reveal_deadline=Timestamp(self.now + 72_000),
            ref=self.ref(agreed + workers[-1]),
        )
        for worker in workers:
            yield self.report(task_id, worker, S.REVEALING)
            yield events.ChainTaskRevealed(
                at=self.now, task_id=task_id, worker=worker, digest=DIGEST, ref=self.ref(task_id + worker)
            )
        first = workers[0]
        yield self.report(task_id, first, S.RESULT_UPLOADING)
        yield self.report(task_id, first, S.RESULT_UPLOADED, Details(result_link=LINK))
        yield events.UploadVerified(at=self.now, task_id=task_id, worker=first, link=LINK)
        yield events.ChainTaskFinalized(
            at=self.now, task_id=task_id, results=LINK.encode(), ref=self.ref(agreed)
        )
        for worker in workers:
            yield self.report(task_id, worker, S.COMPLETED)

    def report(
        self, task_id: TaskId, worker: WorkerAddress, status: ReplicateStatus, details: Details = NO_DETAILS
    ) -> events.WorkerReported:
        return events.WorkerReported(
            at=self.now, worker=worker, task_id=task_id, status=status, details=details
        )

    def ref(self, seed: bytes) -> events.ChainRef:
        return events.ChainRef(block=BlockNumber(self.now // 5), tx_hash=TxHash(Hash32(keccak(seed))))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    task_id: TaskId
    status: ReplicateStatus
    at: Timestamp


def _floor(task_ids: Sequence[TaskId]) -> float:
    """Frozen dataclasses made, and put in the place of others in a dictionary, per second."""
    entries: dict[TaskId, _Entry] = {}
    started = time.process_time()
    for number in range(TIMED_EVENTS // len(task_ids)):
        for task_id in task_ids:
            entries[task_id] = _Entry(task_id=task_id, status=S.RUNNING, at=Timestamp(number))
    return TIMED_EVENTS // len(task_ids) * len(task_ids) / (time.process_time() - started)


def _events_per_second(load: Load) -> float:
    load.seconds, load.told = 0.0, 0
    while load.told < TIMED_EVENTS:
        load.move()
    return load.told / load.seconds


def _bytes_a_task() -> float:
    """Memory that a busy pool holds, for each of its live tasks."""
    gc.collect()
    tracemalloc.start()
    load = Load(WORKERS // 10, TASKS // 10)
    gc.collect()
    held, count = tracemalloc.get_traced_memory()[0], len(load.lives)
    load.pool = pool.Pool()
    gc.collect()
    freed = held - tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return freed / count


@bench("pool")
def pool_step() -> Iterator[Figure]:
    """Events per second of `pool.step` in a large busy pool, and the memory that a live task takes."""
    load = Load(WORKERS, TASKS)
    keep_what_is_loaded()  # as the scheduler does
    task_ids = list(load.lives)
    rate, floor = 0.0, 0.0
    for _ in range(ROUNDS):
        rate = max(rate, _events_per_second(load))
        floor = max(floor, _floor(task_ids))
    yield Figure(
        name="pool.step",
        value=rate,
        unit="1/s",
        floor=floor,
        goal=f"over {GOAL_PER_SECOND:,}/s with {len(load.lives):,} live tasks",
        is_met=rate > GOAL_PER_SECOND,
    )
    del load
    size = _bytes_a_task()
    yield Figure(
        name="pool.bytes_a_task",
        value=size,
        unit="bytes",
        floor=FLOOR_BYTES,
        goal=f"under {GOAL_BYTES:,}",
        is_met=size < GOAL_BYTES,
    )
