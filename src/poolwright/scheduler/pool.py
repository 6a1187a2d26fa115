"""The whole workerpool as one mind: tasks, workers, and who computes what.

`step(pool, event)` routes an event to the tasks it concerns and then hands out work. The pool has one
writer; tasks, replicates and workers are frozen, and a step swaps the entries that it changes. Work is
pushed: whenever a task needs a contribution and a worker has a free slot, the two meet in the same step, the
task with the earliest contribution deadline first, workers in turn. So between steps no task waits that a
free worker could take, and a step looks only at the tasks that have come into the line and the workers that
have become free during it: `supply` holds both lines.

A task that has ended stays readable until `KEPT_ENDED` others have ended after it; then the pool forgets it
and, with its last task, its deal. The event log keeps their story. A number bounds the memory whatever the
load, and needs no clock. (A deal's log told once more after that would open its tasks again; the chain cursor
sees to it that none is.)

The indexes beside the facts are derived, and checked by `invariants`: the two lines, the deadlines to wake up
for, the order in which tasks ended. `restored` derives them again from tasks and workers given in the order
in which the pool held them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple, assert_never

from poolwright.poco import ids
from poolwright.poco.errors import InvariantBroken
from poolwright.poco.frozen import replace
from poolwright.poco.types import DealId, Hash32, TaskId, Timestamp, WorkerAddress
from poolwright.scheduler import guards, policy
from poolwright.scheduler import task as tasks
from poolwright.scheduler.alarms import Alarms
from poolwright.scheduler.effects import Effect
from poolwright.scheduler.events import (
    ChainDealMatched,
    ChainTaskClaimed,
    ChainTaskConsensusReached,
    ChainTaskContributed,
    ChainTaskContributedAndFinalized,
    ChainTaskFinalized,
    ChainTaskInitialized,
    ChainTaskReopened,
    ChainTaskRevealed,
    DealTerms,
    OperatorAllowedWorker,
    OperatorDrainedWorker,
    OperatorEvent,
    OperatorNamedOwner,
    OperatorResumedWorker,
    OperatorSetRules,
    PoolEvent,
    SubmissionFailed,
    TaskEvent,
    Tick,
    UploadMissing,
    UploadVerified,
    WorkerConnected,
    WorkerReported,
    WorkerWentSilent,
)
from poolwright.scheduler.replicate import compact
from poolwright.scheduler.standing import (
    BLANK,
    DEFAULT_RULES,
    DISSENT,
    FAULTS,
    MAX_WORD,
    Fault,
    Rules,
    Standing,
    after_quarantine,
    after_success,
    is_admitted,
    resumed,
    with_fault,
)
from poolwright.scheduler.supply import Supply
from poolwright.scheduler.task import Task
from poolwright.wire.messages import Capacity
from poolwright.wire.statuses import ReplicateStatus

S = ReplicateStatus


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
    standing: Standing = BLANK

    @property
    def free_slots(self) -> int:
        """Slots for new work; none when it cannot be heard, or is held."""
        if self.is_silent or (self.standing is not BLANK and self.standing.is_held):
            return 0
        return max(self.capacity.slots - len(self.computing), 0)


EPOCH: Final = Timestamp(0)
KEPT_ENDED: Final = 10_000
"""Ended tasks that stay readable: half an hour of a pool at full speed, months of a small one."""


@dataclass(slots=True, kw_only=True)
class Pool:
    """State of the scheduler; changed only by `step`. `now` is the latest chain time that it was told."""

    now: Timestamp = field(default=EPOCH)
    deals: dict[DealId, DealTerms] = field(default_factory=dict)
    #: Tasks; those that have ended stand in the order of their ends.
    tasks: dict[TaskId, Task] = field(default_factory=dict)
    #: Workers; those with free slots stand in the order in which it is their turn.
    workers: dict[WorkerAddress, Worker] = field(default_factory=dict)
    #: Tasks that need a worker and workers that need a task.
    supply: Supply = field(default_factory=Supply)
    #: When to wake up for each task: at its next deadline, or earlier.
    alarms: Alarms[TaskId] = field(default_factory=Alarms)
    #: Ended tasks, the first to be forgotten first.
    ended: deque[TaskId] = field(default_factory=deque)
    #: How many tasks of each deal are kept.
    kept_of_deal: dict[DealId, int] = field(default_factory=dict)
    kept_ended: int = KEPT_ENDED
    rules: Rules = DEFAULT_RULES
    #: The operator's word on wallets that may join, or may not, beyond the allow list.
    words: dict[WorkerAddress, bool] = field(default_factory=dict)
    #: Whose a worker is, where the operator has said so.
    owners: dict[WorkerAddress, str] = field(default_factory=dict)
    #: When each quarantine ends.
    releases: Alarms[WorkerAddress] = field(default_factory=Alarms)


class Step(NamedTuple):
    """What to do after an event, and, when it changed nothing, why not. The pool is changed in place."""

    effects: tuple[Effect, ...] = ()
    ignored: str | None = None


PASSED_OVER: Final = 64
"""Tasks that a worker passes over because of its owner before it stops looking for others."""
NOTHING_TO_DO: Final = Step()
UNKNOWN_TASK: Final = "the task is not one that this pool keeps"


def step(pool: Pool, event: PoolEvent) -> Step:
    """Tell the pool one fact. Total: what does not apply changes nothing and says why."""
    if event.at > pool.now:
        pool.now = event.at
    match event:
        case WorkerReported():
            result = _worker_reported(pool, event)
        case (
            ChainTaskInitialized()
            | ChainTaskContributed()
            | ChainTaskConsensusReached()
            | ChainTaskRevealed()
            | ChainTaskReopened()
            | ChainTaskFinalized()
            | ChainTaskContributedAndFinalized()
            | ChainTaskClaimed()
            | UploadVerified()
            | UploadMissing()
            | SubmissionFailed()
        ):
            result = _task_event(pool, event)
        case ChainDealMatched():
            result = _deal_matched(pool, event)
        case WorkerConnected():
            result = _worker_connected(pool, event)
        case WorkerWentSilent():
            result = _worker_went_silent(pool, event)
        case (
            OperatorSetRules()
            | OperatorDrainedWorker()
            | OperatorResumedWorker()
            | OperatorAllowedWorker()
            | OperatorNamedOwner()
        ):
            result = _operator_said(pool, event)
        case Tick():
            result = _tick(pool)
        case _:
            assert_never(event)
    if len(pool.ended) > pool.kept_ended:
        _forget_ended(pool)
    if pool.supply.has_newcomers:
        return Step((*result.effects, *_hand_out(pool)), result.ignored)
    return result


def next_deadline(pool: Pool) -> Timestamp | None:
    """The chain time at which `Tick` has something to do."""
    deadline, release = pool.alarms.first(), pool.releases.first()
    return deadline if release is None or (deadline is not None and deadline < release) else release


def tasks_of_deal(pool: Pool, deal_id: DealId) -> list[Task]:
    """Those of a deal's tasks that are kept, in the order of the bag."""
    terms = pool.deals.get(deal_id)
    if terms is None:
        return []
    bag = range(terms.bot_first, terms.bot_first + terms.bot_size)
    found = [pool.tasks.get(ids.task_id(deal_id, index)) for index in bag]
    return [task for task in found if task is not None]


def restored(
    now: Timestamp,
    known: Iterable[Task],
    workers: Iterable[Worker],
    *,
    kept_ended: int = KEPT_ENDED,
    rules: Rules = DEFAULT_RULES,
    words: Mapping[WorkerAddress, bool] = MappingProxyType({}),
    owners: Mapping[WorkerAddress, str] = MappingProxyType({}),
) -> Pool:
    """A pool from a snapshot's facts, given in the order of `Pool.tasks` and `Pool.workers`.

    Indexes are derived again; what tasks had in common, such as the deal of a bag, they share again.
    """
    pool = Pool(now=now, kept_ended=kept_ended, rules=rules, words=dict(words), owners=dict(owners))
    for worker in workers:
        pool.workers[worker.address] = worker
        if worker.free_slots:
            pool.supply.add_worker(worker.address, policy.offers(worker))
        pool.releases.set(worker.address, worker.standing.quarantined_until)
    for task in known:
        deal = pool.deals.setdefault(task.deal.deal_id, task.deal)
        _keep(pool, replace(task, deal=deal, replicates=tuple([compact(r) for r in task.replicates])))
    pool.supply.settle()
    return pool


# Events ----------------------------------------------------------------------------------------------------


def _deal_matched(pool: Pool, event: ChainDealMatched) -> Step:
    terms = event.terms
    if terms.deal_id in pool.deals:
        return Step(ignored="the deal is known")
    pool.deals[terms.deal_id] = terms
    effects: list[Effect] = []
    for index in range(terms.bot_first, terms.bot_first + terms.bot_size):
        opened = tasks.opened(ids.task_id(terms.deal_id, index), index, terms, pool.now)
        effects += _apply(pool, opened).effects
    return Step(tuple(effects))


def _task_event(pool: Pool, event: TaskEvent) -> Step:
    task = pool.tasks.get(event.task_id)
    if task is None:
        return Step(ignored=UNKNOWN_TASK)
    result = _apply(pool, tasks.step(task, event, pool.now))
    if isinstance(event, ChainTaskContributed) and result.ignored is None:
        _learn_weight(pool, event.worker, event.weight)
    return result


def _learn_weight(pool: Pool, address: WorkerAddress, weight: int) -> None:
    """A contribution tells the worker's score of now; what it said hello with may be days old."""
    worker = pool.workers.get(address)
    if worker is not None and worker.weight != weight:
        pool.workers[address] = replace(worker, weight=weight)


def _worker_reported(pool: Pool, event: WorkerReported) -> Step:
    worker = pool.workers.get(event.worker)
    heard = _heard_again(pool, worker) if worker is not None and worker.is_silent else ()
    task = pool.tasks.get(event.task_id)
    if task is None:
        return Step(heard, ignored=UNKNOWN_TASK)
    stepped = tasks.step(task, event, pool.now)
    is_on_the_way = event.status in tasks.ON_THE_WAY and event.at == pool.now
    if is_on_the_way:  # who was lost may come back from computing to a step with less time to be covered in
        replicate = task.replicate_of(event.worker)
        is_on_the_way = replicate is None or replicate.status is not S.RECOVERING
    result = (_go_on if is_on_the_way else _apply)(pool, stepped)
    return Step((*heard, *result.effects), result.ignored) if heard else result


def _heard_again(pool: Pool, worker: Worker) -> tuple[Effect, ...]:
    """A report on a connection that never broke ends a silence as well as a new connection does."""
    worker = replace(worker, is_silent=False)
    _seat(pool, worker)
    return _each_task(
        pool, worker, lambda task: tasks.recover_worker(task, worker.address, pool.now, remembers=True)
    ).effects


def _worker_connected(pool: Pool, event: WorkerConnected) -> Step:
    known = pool.workers.get(event.worker)
    worker = Worker(
        address=event.worker,
        journal=event.journal,
        capacity=event.capacity,
        weight=event.weight,
        computing=known.computing if known else frozenset(),
        tasks=known.tasks if known else frozenset(),
        standing=known.standing if known else BLANK,
    )
    _seat(pool, worker)
    _admit(pool, event.worker)
    worker = pool.workers[event.worker]
    remembers = known is not None and known.journal == event.journal
    return _each_task(
        pool,
        worker,
        lambda task: tasks.recover_worker(task, event.worker, pool.now, remembers=remembers),
    )


def _worker_went_silent(pool: Pool, event: WorkerWentSilent) -> Step:
    worker = pool.workers.get(event.worker)
    if worker is None or worker.is_silent:
        return Step(ignored="the worker is not one that was heard")
    worker = replace(worker, is_silent=True)
    _seat(pool, worker)
    return _each_task(pool, worker, lambda task: tasks.lose_worker(task, event.worker, pool.now))


def _operator_said(pool: Pool, event: OperatorEvent) -> Step:
    if isinstance(event, OperatorSetRules):
        if event.rules == pool.rules:
            return Step(ignored="these rules are in force")
        pool.rules = event.rules
        for address in list(pool.workers):
            _admit(pool, address)
        return NOTHING_TO_DO
    if isinstance(event, OperatorAllowedWorker):
        if pool.words.get(event.worker) is event.is_allowed:
            return Step(ignored="the operator has said so before")
        pool.words[event.worker] = event.is_allowed
        _admit(pool, event.worker)
        return NOTHING_TO_DO
    if isinstance(event, OperatorNamedOwner):
        owner = event.owner[:MAX_WORD]
        if pool.owners.get(event.worker, "") == owner:
            return Step(ignored="the operator has said so before")
        if owner:
            pool.owners[event.worker] = owner
        else:
            del pool.owners[event.worker]
        return NOTHING_TO_DO
    worker = pool.workers.get(event.worker)
    if worker is None:
        return Step(ignored="the worker has never connected")
    if isinstance(event, OperatorDrainedWorker):
        standing = replace(worker.standing, draining=event.reason[:MAX_WORD])
    else:
        standing = resumed(worker.standing)
    if standing == worker.standing:
        return Step(ignored="the worker's standing is that already")
    pool.releases.set(event.worker, standing.quarantined_until)
    _seat(pool, replace(worker, standing=standing))
    return NOTHING_TO_DO


def _admit(pool: Pool, address: WorkerAddress) -> None:
    """Bar a worker from work when it may not join, or lift that."""
    worker = pool.workers.get(address)
    is_barred = not is_admitted(pool.rules, pool.words, address)
    if worker is not None and is_barred != worker.standing.is_barred:
        _seat(pool, replace(worker, standing=replace(worker.standing, is_barred=is_barred)))


def _tick(pool: Pool) -> Step:
    """Act on all deadlines that have passed, in the order of ids: an alarm may stand earlier than needed."""
    while (release := pool.releases.first()) is not None and release <= pool.now:
        for address in pool.releases.take_first():
            worker = pool.workers[address]
            _seat(pool, replace(worker, standing=after_quarantine(worker.standing)))
    due: list[TaskId] = []
    while (deadline := pool.alarms.first()) is not None and deadline <= pool.now:
        due += pool.alarms.take_first()
    effects: list[Effect] = []
    for task_id in sorted(due):
        effects += _apply(pool, tasks.tick(pool.tasks[task_id], pool.now)).effects
        again = pool.alarms.at.get(task_id)
        if again is not None and again <= pool.now:
            raise InvariantBroken(f"task {task_id}: its deadline {again} is still due after the tick")
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
        guards.check(before, task)
        _keep(pool, task, before)
        _account(pool, task, before)
        _judge(pool, task, before)
    elif task.id not in pool.alarms.at:
        _index(pool, task)
    return Step(effects, ignored)


def _go_on(pool: Pool, result: tasks.Step) -> Step:
    """The same after a report on the way: of all that is derived only the slots may change.

    And the time to cover the replicate, which only moves away: the alarm that stands is early, and harmless.
    """
    task = result.task
    before = pool.tasks[task.id]
    if task is not before:
        pool.tasks[task.id] = task
        _account(pool, task, before)
        return NOTHING_TO_DO
    return Step(ignored=result.ignored)


def _keep(pool: Pool, task: Task, before: Task | None = None) -> None:
    if before is None:
        deal_id = task.deal.deal_id
        pool.kept_of_deal[deal_id] = pool.kept_of_deal.get(deal_id, 0) + 1
    if task.is_ended and (before is None or not before.is_ended):
        pool.tasks.pop(task.id, None)  # ended tasks stand in the order of their ends
        pool.ended.append(task.id)
    pool.tasks[task.id] = task
    _index(pool, task)


def _index(pool: Pool, task: Task) -> None:
    """Note when to wake up for the task and whether it needs a worker."""
    pool.alarms.set(task.id, tasks.next_deadline(task))
    if tasks.needs_worker(task, pool.now):
        pool.supply.add_task(task.id, task.deal.tag, task.contribution_deadline)
    else:
        pool.supply.remove_task(task.id)


def _account(pool: Pool, task: Task, before: Task | None) -> None:
    """Write into the workers whose replicate has changed whether the task still holds a slot of theirs."""
    was = before.replicates if before is not None else ()
    for number, replicate in enumerate(task.replicates):  # those that there were keep their places
        if number < len(was) and was[number] is replicate:
            continue
        worker = pool.workers.get(replicate.worker)
        if worker is None:
            continue
        computing, concerned = worker.computing, worker.tasks
        if replicate.holds_slot != (task.id in computing):
            computing = computing ^ {task.id}
        if replicate.is_finished == (task.id in concerned):
            concerned = concerned ^ {task.id}
        if computing is not worker.computing or concerned is not worker.tasks:
            _seat(pool, replace(worker, computing=computing, tasks=concerned))


def _judge(pool: Pool, task: Task, before: Task | None) -> None:
    """Write into the workers' records what has just gone wrong by their doing, and what has gone well."""
    was = before.replicates if before is not None else ()
    for number, replicate in enumerate(task.replicates):
        old = was[number] if number < len(was) else None
        if old is replicate:
            continue
        for stage in replicate.life[len(old.life) if old is not None else 0 :]:
            if stage.status in FAULTS:
                _fault(pool, task, replicate.worker, stage.status.value)
            elif stage.status is S.COMPLETED:
                _succeeded(pool, replicate.worker)
    if task.consensus is not None and (before is None or before.consensus is None):
        for replicate in task.replicates:
            if replicate.result_hash not in (None, task.consensus) and not replicate.rejected:
                _fault(pool, task, replicate.worker, DISSENT)


def _fault(pool: Pool, task: Task, address: WorkerAddress, what: str) -> None:
    worker = pool.workers.get(address)
    if worker is None:
        return
    standing = with_fault(worker.standing, Fault(at=pool.now, what=what, task_id=task.id), pool.rules)
    if standing is worker.standing:
        return
    pool.releases.set(address, standing.quarantined_until)
    _seat(pool, replace(worker, standing=standing))


def _succeeded(pool: Pool, address: WorkerAddress) -> None:
    worker = pool.workers.get(address)
    if worker is not None and worker.standing is not BLANK:
        _seat(pool, replace(worker, standing=after_success(worker.standing)))


def _seat(pool: Pool, worker: Worker) -> None:
    """Swap the worker in; one that has just become free goes to the end of the line."""
    address, supply = worker.address, pool.supply
    if not worker.free_slots:
        supply.remove_worker(address)
    elif supply.seats.get(address) != (offers := policy.offers(worker)):
        supply.remove_worker(address)
        pool.workers.pop(address, None)
        supply.add_worker(address, offers)
    pool.workers[address] = worker


def _to_the_end(pool: Pool, address: WorkerAddress) -> None:
    """Workers are served in turn: the one just served waits for all others."""
    worker = pool.workers.pop(address)
    pool.workers[address] = worker
    pool.supply.move_to_end(address)


def _hand_out(pool: Pool) -> list[Effect]:
    """Let everyone who became free and every task that came into the line meet its match.

    A second worker of an owner gets a task only when no other has taken it.
    """
    effects: list[Effect] = []
    choosy: list[WorkerAddress] = []
    while (newcomer := pool.supply.next_free()) is not None:
        effects += _fill(pool, pool.workers[newcomer], choosy)
    for address in choosy:
        effects += _fill(pool, pool.workers[address])
    while (task_id := pool.supply.next_needy()) is not None:
        effects += _staff(pool, pool.tasks[task_id])
    return effects


def _fill(pool: Pool, worker: Worker, choosy: list[WorkerAddress] | None = None) -> list[Effect]:
    """Give the worker the tasks of the line that it may take, until it has no free slot.

    With `choosy`, those in which its owner has another worker are passed over, and the worker is noted there
    when it still has a free slot.
    """
    effects: list[Effect] = []
    passed_over = 0
    with closing(pool.supply.walk(policy.offers(worker))) as line:
        for task_id in line:
            task = pool.tasks[task_id]
            if not tasks.needs_worker(task, pool.now):
                pool.supply.remove_task(task_id)
            elif not policy.may_take(worker, task):
                continue
            elif choosy is not None and policy.has_owner_in(task, worker.address, pool.owners):
                passed_over += 1
                if passed_over == PASSED_OVER:
                    break
            else:
                effects += _assign(pool, task, worker)
                worker = pool.workers[worker.address]
                if not worker.free_slots:
                    break
    if choosy is not None and passed_over and worker.free_slots:
        choosy.append(worker.address)
    return effects


def _staff(pool: Pool, task: Task) -> list[Effect]:
    """Give the task to free workers while it needs one."""
    effects: list[Effect] = []
    while tasks.needs_worker(task, pool.now):
        free = (pool.workers[address] for address in pool.supply.free_workers(task.deal.tag))
        worker = policy.choose(task, free, pool.owners)
        if worker is None:
            break
        effects += _assign(pool, task, worker)
        task = pool.tasks[task.id]
    return effects


def _assign(pool: Pool, task: Task, worker: Worker) -> tuple[Effect, ...]:
    assigned = _apply(pool, tasks.assign(task, worker.address, worker.weight, pool.now))
    _to_the_end(pool, worker.address)
    return assigned.effects


def _forget_ended(pool: Pool) -> None:
    """Drop the tasks that ended longest ago, with whatever a worker still seems to hold of them."""
    while len(pool.ended) > pool.kept_ended:
        task = pool.tasks.pop(pool.ended.popleft())
        for replicate in task.replicates:
            worker = pool.workers.get(replicate.worker)
            if worker is not None:
                computing, open_tasks = worker.computing - {task.id}, worker.tasks - {task.id}
                _seat(pool, replace(worker, computing=computing, tasks=open_tasks))
        deal_id = task.deal.deal_id
        pool.kept_of_deal[deal_id] -= 1
        if not pool.kept_of_deal[deal_id]:
            del pool.kept_of_deal[deal_id], pool.deals[deal_id]
