"""What always holds for the pool, whatever happened: shared by tests, simulation and a debug flag.

Each check is a rule in one sentence; `check` raises InvariantBroken with the rule and what breaks it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from poolwright.poco.errors import InvariantBroken
from poolwright.scheduler import task as tasks
from poolwright.scheduler.effects import Submission
from poolwright.scheduler.pool import Pool
from poolwright.scheduler.replicate import Replicate
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
        if due is not None and pool.wake_at.get(task.id) != due:
            yield f"task {task.id}: nobody wakes up for its deadline {due}"
        if tasks.needs_worker(task, pool.now) and task.id not in pool.is_needy:
            yield f"task {task.id}: it needs a worker and is not in the line"
    yield from _slot_rules(pool)


def _task_rules(task: Task) -> Iterator[str]:
    workers = [replicate.worker for replicate in task.replicates]
    if len(set(workers)) != len(workers):
        yield "a worker has two replicates"
    names = [fact.name for fact in task.facts]
    if task.phase is not Phase.RECEIVED and "TaskInitialized" not in names:
        yield f"phase {task.phase} without its TaskInitialize log"
    if task.phase is Phase.COMPLETED and "TaskFinalized" not in names:
        yield "COMPLETED without its TaskFinalize log"
    if (task.phase is Phase.REVEALING) and task.consensus is None:
        yield "REVEALING without a consensus"
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
    for worker in pool.workers.values():
        holding = {
            task.id
            for task in pool.tasks.values()
            if (replicate := task.replicate_of(worker.address)) is not None and replicate.holds_slot
        }
        if holding != worker.computing:
            yield f"worker {worker.address}: its slots do not add up ({len(holding)} held)"
