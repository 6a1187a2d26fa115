"""What always holds for the pool, whatever happened: shared by tests, simulation and a debug flag.

Each check is a rule in one sentence; `check` raises InvariantBroken with the rule and what breaks it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from poolwright.poco.errors import InvariantBroken
from poolwright.poco.types import TaskId, WorkerAddress
from poolwright.scheduler import policy
from poolwright.scheduler import task as tasks
from poolwright.scheduler.effects import Submission
from poolwright.scheduler.pool import Pool
from poolwright.scheduler.replicate import Replicate
from poolwright.scheduler.standing import is_admitted
from poolwright.scheduler.task import Phase, Task
from poolwright.wire.statuses import MOVES, ReplicateStatus


def check(pool: Pool) -> None:
    """Raise InvariantBroken with the first rule that does not hold."""
    for broken in violations(pool):
        raise InvariantBroken(broken, code="invariant", next_step="please report this with the task's story")


def violations(pool: Pool) -> Iterator[str]:
    """Every rule that does not hold, with the entry that breaks it."""
    for task in pool.tasks.values():
        for rule in _task_rules(task):
            yield f"task {task.id}: {rule}"
        due = tasks.next_deadline(task)
        wake_at = pool.alarms.at.get(task.id)
        if (due is None) != (wake_at is None) or (due and wake_at and wake_at > due):
            yield f"task {task.id}: its deadline is {due}, the pool wakes up at {wake_at}"
        if tasks.needs_worker(task, pool.now) and task.id not in pool.supply.needy:
            yield f"task {task.id}: it needs a worker and is not in the line"
        if task.deal.deal_id not in pool.deals:
            yield f"task {task.id}: its deal was forgotten"
    ended = [task.id for task in pool.tasks.values() if task.is_ended]
    if ended != list(pool.ended):
        yield "ended tasks do not stand in the order of their ends"
    yield from _slot_rules(pool)
    yield from _standing_rules(pool)
    yield from _supply_rules(pool)


def _task_rules(task: Task) -> Iterator[str]:
    workers = [replicate.worker for replicate in task.replicates]
    if len(set(workers)) != len(workers):
        yield "a worker has two replicates"
    names = [fact.name for fact in task.facts]
    if task.phase is not Phase.RECEIVED and "TaskInitialized" not in names:
        yield f"phase {task.phase} without its TaskInitialize log"
    if task.phase is Phase.COMPLETED and not {"TaskFinalized", "TaskContributedAndFinalized"} & set(names):
        yield "COMPLETED without its TaskFinalize log"
    if (task.phase is Phase.REVEALING) and task.consensus is None:
        yield "REVEALING without a consensus"
    if task.is_ended and (task.in_flight or task.setback):
        yield "ended, with a transaction still wanted"
    if task.phase is Phase.ACTIVE and task.in_flight and task.in_flight.submission is Submission.FINALIZE:
        yield "a finalize is in flight and there is no consensus"
    for replicate in task.replicates:
        yield from _replicate_rules(replicate)


def _replicate_rules(replicate: Replicate) -> Iterator[str]:
    statuses = [stage.status for stage in replicate.life]
    if statuses[0] is not ReplicateStatus.CREATED:
        yield f"replicate of {replicate.worker}: its life does not begin with CREATED"
    for before, after in pairwise(statuses):
        if not any(after in moves.get(before, ()) for moves in MOVES.values()):
            yield f"replicate of {replicate.worker}: moved from {before} to {after}"
    if replicate.revealed and replicate.result_hash is None:
        yield f"replicate of {replicate.worker}: revealed without a contribution"
    if (ReplicateStatus.CONTRIBUTED in statuses) != (replicate.result_hash is not None):
        yield f"replicate of {replicate.worker}: CONTRIBUTED and the chain's log do not agree"


def _slot_rules(pool: Pool) -> Iterator[str]:
    computing: dict[WorkerAddress, set[TaskId]] = {}
    for task in pool.tasks.values():
        for replicate in task.replicates:
            if replicate.holds_slot:
                computing.setdefault(replicate.worker, set()).add(task.id)
    for worker in pool.workers.values():
        if worker.computing != computing.get(worker.address, set()):
            yield f"worker {worker.address}: its slots do not add up ({len(worker.computing)} held)"


def _standing_rules(pool: Pool) -> Iterator[str]:
    for worker in pool.workers.values():
        standing, name = worker.standing, f"worker {worker.address}"
        if standing.is_barred == is_admitted(pool.rules, pool.words, worker.address):
            yield f"{name}: its standing and the allow list do not agree"
        if len(standing.faults) > max(pool.rules.faults, 0):
            yield f"{name}: {len(standing.faults)} faults are kept, {pool.rules.faults} are enough"
        until = standing.quarantined_until
        if until != pool.releases.at.get(worker.address):
            yield f"{name}: its quarantine ends at {until}, the pool wakes up for another moment"
        if standing.is_held and worker.address in pool.supply.seats:
            yield f"{name}: it is held and stands in the line for work"


def _supply_rules(pool: Pool) -> Iterator[str]:
    supply = pool.supply
    if supply.new_tasks or supply.new_workers:
        yield "newcomers were left standing"
    free = [worker for worker in pool.workers.values() if worker.free_slots]
    for tag in {policy.offers(worker) for worker in free} | supply.free.keys():
        turn = [worker.address for worker in free if policy.offers(worker) == tag]
        if turn != list(supply.free.get(tag, ())):
            yield f"free workers that offer {tag!r} do not stand in their turn"
    queued = [task_id for line in supply.lines.values() for _, task_id in line]
    if sorted(queued) != sorted(supply.queued) or not supply.needy <= supply.queued:
        yield "the line of tasks and its index do not agree"
    for task_id in supply.needy:
        task = pool.tasks.get(task_id)
        if task is None or not tasks.needs_worker(task, pool.now):
            continue
        for worker in free:
            if policy.may_take(worker, task):
                yield f"task {task_id}: it waits though worker {worker.address} has a free slot"
