"""The whole workerpool as one mind: tasks, workers, and who computes what.

`step(pool, event)` routes an event to the tasks it concerns and then hands out work. The pool has one
writer; tasks, replicates and workers are frozen, and a step swaps the entries that it changes. Work is
pushed: whenever a task needs a contribution and a worker has a free slot, the two meet in the same step, the
task with the earliest contribution deadline first, workers in turn.

Two indexes are kept beside the facts, both derived and both checked by `invariants`: the tasks that need a
worker, ordered by deadline, and the deadlines to wake up for.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple, assert_never

from poolwright.poco import ids
from poolwright.poco.types import DealId, Hash32, TaskId, Timestamp, WorkerAddress
from poolwright.scheduler import policy
from poolwright.scheduler import task as tasks
from poolwright.scheduler.effects import Effect
from poolwright.scheduler.events import (
    ChainDealMatched,
    ChainTaskClaimed,
    ChainTaskConsensusReached,
    ChainTaskContributed,
    ChainTaskFinalized,
    ChainTaskInitialized,
    ChainTaskReopened,
    ChainTaskRevealed,
    DealTerms,
    PoolEvent,
    SubmissionFailed,
    Tick,
    UploadMissing,
    UploadVerified,
    WorkerConnected,
    WorkerReported,
    WorkerWentSilent,
)
from poolwright.scheduler.task import Task
from poolwright.wire.messages import Capacity


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A worker of the pool. `computing` are the tasks that hold one of its slots.

    `tasks` are those with a replicate of it that has not finished: what is lost when the worker is lost.
    """

    address: WorkerAddress
    journal: Hash32
    capacity: Capacity
    weight: int
    is_silent: bool = False
    computing: frozenset[TaskId] = frozenset()
    tasks: frozenset[TaskId] = frozenset()

    @property
    def free_slots(self) -> int:
        return 0 if self.is_silent else max(self.capacity.slots - len(self.computing), 0)


EPOCH: Final = Timestamp(0)


@dataclass(slots=True, kw_only=True)
class Pool:
    """State of the scheduler; changed only by `step`. `now` is the latest chain time that it was told."""

    now: Timestamp = field(default=EPOCH)
    deals: dict[DealId, DealTerms] = field(default_factory=dict)
    tasks: dict[TaskId, Task] = field(default_factory=dict)
    workers: dict[WorkerAddress, Worker] = field(default_factory=dict)
    #: (contribution deadline, task) of tasks that may need a worker; stale entries are dropped when met.
    needy: list[tuple[Timestamp, TaskId]] = field(default_factory=list)
    is_needy: set[TaskId] = field(default_factory=set)
    #: (deadline, task) to wake up for; an entry is stale unless `wake_at` still says the same.
    alarms: list[tuple[Timestamp, TaskId]] = field(default_factory=list)
    wake_at: dict[TaskId, Timestamp] = field(default_factory=dict)


class Step(NamedTuple):
    """What to do after an event, and, when it changed nothing, why not. The pool is changed in place."""

    effects: tuple[Effect, ...] = ()
    ignored: str | None = None


def step(pool: Pool, event: PoolEvent) -> Step:
    """Tell the pool one fact. Total: what does not apply changes nothing and says why."""
    pool.now = max(pool.now, event.at)
    match event:
        case ChainDealMatched():
            result = _deal_matched(pool, event)
        case WorkerConnected():
            result = _worker_connected(pool, event)
        case WorkerWentSilent():
            result = _worker_went_silent(pool, event)
        case Tick():
            result = _tick(pool)
        case (
            ChainTaskInitialized()
            | ChainTaskContributed()
            | ChainTaskConsensusReached()
            | ChainTaskRevealed()
            | ChainTaskReopened()
            | ChainTaskFinalized()
            | ChainTaskClaimed()
            | WorkerReported()
            | UploadVerified()
            | UploadMissing()
            | SubmissionFailed()
        ):
            task = pool.tasks.get(event.task_id)
            if task is None:
                return Step(ignored="the task is not one of this pool")
            result = _apply(pool, tasks.step(task, event))
        case _:
            assert_never(event)
    return Step((*result.effects, *_hand_out(pool)), result.ignored)


def next_deadline(pool: Pool) -> Timestamp | None:
    """The chain time at which `Tick` has something to do."""
    while pool.alarms and pool.wake_at.get(pool.alarms[0][1]) != pool.alarms[0][0]:
        heapq.heappop(pool.alarms)
    return pool.alarms[0][0] if pool.alarms else None


def restored(now: Timestamp, known: list[Task], workers: list[Worker]) -> Pool:
    """A pool from a snapshot's facts; indexes are derived again and tasks of a bag share their deal."""
    pool = Pool(now=now, workers={worker.address: worker for worker in workers})
    for task in known:
        deal = pool.deals.setdefault(task.deal.deal_id, task.deal)
        pool.tasks[task.id] = replace(task, deal=deal)
        _index(pool, pool.tasks[task.id])
    return pool


# Events ----------------------------------------------------------------------------------------------------


def _deal_matched(pool: Pool, event: ChainDealMatched) -> Step:
    terms = event.terms
    if terms.deal_id in pool.deals:
        return Step(ignored="the deal is known")
    pool.deals[terms.deal_id] = terms
    effects: list[Effect] = []
    for index in range(terms.bot_first, terms.bot_first + terms.bot_size):
        opened = tasks.opened(ids.task_id(terms.deal_id, index), index, terms, event.at)
        effects += _apply(pool, opened).effects
    return Step(tuple(effects))


def _worker_connected(pool: Pool, event: WorkerConnected) -> Step:
    known = pool.workers.get(event.worker)
    worker = Worker(
        address=event.worker,
        journal=event.journal,
        capacity=event.capacity,
        weight=event.weight,
        computing=known.computing if known else frozenset(),
        tasks=known.tasks if known else frozenset(),
    )
    pool.workers[event.worker] = worker
    remembers = known is not None and known.journal == event.journal
    return _each_task(
        pool,
        worker,
        lambda task: tasks.recover_worker(task, event.worker, event.at, remembers=remembers),
    )


def _worker_went_silent(pool: Pool, event: WorkerWentSilent) -> Step:
    worker = pool.workers.get(event.worker)
    if worker is None or worker.is_silent:
        return Step(ignored="the worker is not one that was heard")
    pool.workers[event.worker] = worker = replace(worker, is_silent=True)
    return _each_task(pool, worker, lambda task: tasks.lose_worker(task, event.worker, event.at))


def _tick(pool: Pool) -> Step:
    effects: list[Effect] = []
    while (due := next_deadline(pool)) is not None and due <= pool.now:
        _, task_id = heapq.heappop(pool.alarms)
        del pool.wake_at[task_id]
        effects += _apply(pool, tasks.tick(pool.tasks[task_id], pool.now)).effects
    return Step(tuple(effects))


def _each_task(pool: Pool, worker: Worker, advance: Callable[[Task], tasks.Step]) -> Step:
    effects: list[Effect] = []
    for task_id in sorted(worker.tasks):
        effects += _apply(pool, advance(pool.tasks[task_id])).effects
    return Step(tuple(effects))


# Bookkeeping -----------------------------------------------------------------------------------------------


def _apply(pool: Pool, result: tasks.Step) -> Step:
    """Swap the task in and bring workers and indexes up to date with it."""
    task, effects, ignored = result
    before = pool.tasks.get(task.id)
    if before is not task:
        pool.tasks[task.id] = task
        for replicate in task.replicates:
            old = before.replicate_of(replicate.worker) if before else None
            if old is not replicate:
                _account(pool, task, replicate.worker)
        _index(pool, task)
    elif task.id not in pool.wake_at:
        _index(pool, task)
    return Step(effects, ignored)


def _account(pool: Pool, task: Task, address: WorkerAddress) -> None:
    """Write into the worker whether this task still occupies a slot of it, or still concerns it."""
    worker = pool.workers.get(address)
    replicate = task.replicate_of(address)
    if worker is None or replicate is None:
        return
    computing = worker.computing | {task.id} if replicate.holds_slot else worker.computing - {task.id}
    open_tasks = worker.tasks - {task.id} if replicate.is_finished else worker.tasks | {task.id}
    pool.workers[address] = replace(worker, computing=computing, tasks=open_tasks)


def _index(pool: Pool, task: Task) -> None:
    """Note when to wake up for the task and whether it needs a worker."""
    due = tasks.next_deadline(task)
    if due is None:
        pool.wake_at.pop(task.id, None)
    elif pool.wake_at.get(task.id) != due:
        pool.wake_at[task.id] = due
        heapq.heappush(pool.alarms, (due, task.id))
    if not tasks.needs_worker(task, pool.now):
        pool.is_needy.discard(task.id)
    elif task.id not in pool.is_needy:
        pool.is_needy.add(task.id)
        heapq.heappush(pool.needy, (task.contribution_deadline, task.id))


def _hand_out(pool: Pool) -> list[Effect]:
    """Give work to free slots, the earliest contribution deadline first."""
    if not pool.needy:
        return []
    effects: list[Effect] = []
    put_back: list[tuple[Timestamp, TaskId]] = []
    free = {address: worker for address, worker in pool.workers.items() if worker.free_slots}
    while pool.needy and free:
        entry = heapq.heappop(pool.needy)
        if entry[1] not in pool.is_needy:
            continue
        task = pool.tasks[entry[1]]
        if not tasks.needs_worker(task, pool.now):
            pool.is_needy.discard(task.id)
            continue
        worker = policy.choose(task, free.values())
        if worker is None:
            put_back.append(entry)
            continue
        heapq.heappush(pool.needy, entry)
        effects += _apply(pool, tasks.assign(task, worker.address, worker.weight, pool.now)).effects
        # Workers are served in turn: the one just chosen goes to the end of the line.
        chosen = pool.workers.pop(worker.address)
        pool.workers[worker.address] = chosen
        del free[worker.address]
        if chosen.free_slots:
            free[worker.address] = chosen
    for entry in put_back:
        heapq.heappush(pool.needy, entry)
    return effects
