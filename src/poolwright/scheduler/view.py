"""How the pool looks from outside: the JSON of the scheduler's read API.

`task_model` keeps the field names of the task route that clients know (reference `scheduler-worker.md` 1.9,
`market-sdk.md` 6.3) and adds the chain facts of the task.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from poolwright.scheduler.pool import Pool, Worker
from poolwright.scheduler.replicate import Replicate
from poolwright.scheduler.task import Phase, Task

Json = Mapping[str, object]

_STATUS: Final[dict[Phase, str]] = {
    Phase.RECEIVED: "RECEIVED",
    Phase.ACTIVE: "INITIALIZED",
    Phase.REVEALING: "CONSENSUS_REACHED",
    Phase.COMPLETED: "COMPLETED",
    Phase.FAILED: "FAILED",
}


def task_model(task: Task) -> Json:
    """One task with its replicates; times are chain seconds UTC."""
    running = task.phase is Phase.ACTIVE and bool(task.replicates)
    return {
        "chainTaskId": str(task.id),
        "dealId": str(task.deal.deal_id),
        "taskIndex": task.index,
        "currentStatus": "RUNNING" if running else _STATUS[task.phase],
        "phase": task.phase.value,
        "trust": task.deal.trust,
        "tag": str(task.deal.tag),
        "contributionDeadline": task.contribution_deadline,
        "revealDeadline": task.reveal_deadline,
        "finalDeadline": task.final_deadline,
        "consensus": None if task.consensus is None else str(task.consensus),
        "results": task.results.decode("utf-8", "replace"),
        "inFlight": task.in_flight.submission.value if task.in_flight else None,
        "setback": task.setback.reason if task.setback else None,
        "chainFacts": [
            {
                "name": fact.name,
                "date": fact.at,
                "block": fact.ref.block,
                "txHash": str(fact.ref.tx_hash),
                "worker": None if fact.worker is None else str(fact.worker),
            }
            for fact in task.facts
        ],
        "replicates": [replicate_model(task, replicate) for replicate in task.replicates],
    }


def replicate_model(task: Task, replicate: Replicate) -> Json:
    """One replicate with every status of its life."""
    return {
        "chainTaskId": str(task.id),
        "walletAddress": str(replicate.worker),
        "currentStatus": replicate.status.value,
        "appExitCode": replicate.exit_code,
        "statusUpdateList": [
            {
                "status": stage.status.value,
                "date": stage.at,
                "cause": stage.cause,
                "message": stage.message,
            }
            for stage in replicate.life
        ],
        "contributionHash": None if replicate.result_hash is None else str(replicate.result_hash),
    }


def worker_model(worker: Worker) -> Json:
    """One worker: what it offers and what it does."""
    return {
        "walletAddress": str(worker.address),
        "name": worker.capacity.name,
        "version": worker.capacity.version,
        "slots": worker.capacity.slots,
        "freeSlots": worker.free_slots,
        "isSilent": worker.is_silent,
        "computing": [str(task_id) for task_id in sorted(worker.computing)],
    }


def pool_model(pool: Pool) -> Json:
    """The pool in numbers, and its workers."""
    phases = dict.fromkeys(Phase, 0)
    for task in pool.tasks.values():
        phases[task.phase] += 1
    return {
        "chainTime": pool.now,
        "deals": len(pool.deals),
        "tasks": {phase.value: count for phase, count in phases.items()},
        "workers": [worker_model(worker) for worker in pool.workers.values()],
    }
