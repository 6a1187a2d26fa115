"""How the pool looks from outside: the JSON of the scheduler's read API.

`task_model` keeps the field names of the task route that clients know (reference `scheduler-worker.md` 1.9,
`market-sdk.md` 6.3) and adds the chain facts of the task. Its clients read the dates of statuses as text,
which the caller writes (`Dated`), as a mind knows no calendar; the other times are chain seconds UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from poolwright.poco.types import Timestamp
from poolwright.scheduler.history import Moment, history
from poolwright.scheduler.pool import Pool, Worker
from poolwright.scheduler.replicate import Replicate
from poolwright.scheduler.standing import notice
from poolwright.scheduler.task import Phase, Task

Json = Mapping[str, object]
Dated = Callable[[Timestamp], str]
"""Writes chain seconds UTC as a date."""


def task_model(task: Task, date: Dated) -> Json:
    """One task with its replicates."""
    moments = history(task)
    return {
        "chainTaskId": str(task.id),
        "dealId": str(task.deal.deal_id),
        "taskIndex": task.index,
        "currentStatus": moments[-1].status,
        "dateStatusList": [moment_model(moment, date) for moment in moments],
        "phase": task.phase.value,
        "trust": task.deal.trust,
        "oddities": list(task.deal.oddities),
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
        "replicates": [replicate_model(task, replicate, date) for replicate in task.replicates],
    }


def moment_model(moment: Moment, date: Dated) -> Json:
    """One status of a task, with the transaction that brought it, if one did."""
    model: dict[str, object] = {"date": date(moment.at), "status": moment.status}
    if moment.ref is not None:
        model["chainReceipt"] = {"blockNumber": moment.ref.block, "txHash": str(moment.ref.tx_hash)}
    return model


def replicate_model(task: Task, replicate: Replicate, date: Dated) -> Json:
    """One replicate with every status of its life."""
    return {
        "chainTaskId": str(task.id),
        "walletAddress": str(replicate.worker),
        "currentStatus": replicate.status.value,
        "appExitCode": replicate.exit_code,
        "statusUpdateList": [
            {
                "status": stage.status.value,
                "date": date(stage.at),
                "cause": stage.cause,
                "message": stage.message,
            }
            for stage in replicate.life
        ],
        "contributionHash": None if replicate.result_hash is None else str(replicate.result_hash),
    }


def worker_model(worker: Worker, owner: str | None) -> Json:
    """One worker: whose it is where that is known, what it offers, what it does, why it gets no work."""
    held = notice(worker.standing)
    return {
        "walletAddress": str(worker.address),
        "owner": owner,
        "name": worker.capacity.name,
        "version": worker.capacity.version,
        "slots": worker.capacity.slots,
        "freeSlots": worker.free_slots,
        "isSilent": worker.is_silent,
        "hold": None if held is None else {"code": held.code, "message": held.message},
        "quarantinedUntil": worker.standing.quarantined_until,
        "faults": [
            {"what": fault.what, "date": fault.at, "chainTaskId": str(fault.task_id)}
            for fault in worker.standing.faults
        ],
        "cpus": worker.capacity.cpus,
        "memoryGib": worker.capacity.memory_gib,
        "gpu": worker.capacity.gpu,
        "teeFrameworks": list(worker.capacity.tee_frameworks),
        "weight": worker.weight,
        "computing": [str(task_id) for task_id in sorted(worker.computing)],
    }


def _worker_models(pool: Pool) -> list[Json]:
    workers = tuple(pool.workers.values())  # at once: others may change the pool meanwhile
    return [worker_model(worker, pool.owners.get(worker.address)) for worker in workers]


def workers_model(pool: Pool) -> Json:
    """Every worker, and the wallets on which the operator has spoken."""
    return {
        "chainTime": pool.now,
        "workers": _worker_models(pool),
        "allowList": sorted(str(wallet) for wallet in pool.rules.allowed),
        "minVersion": pool.rules.min_version,
        "words": {str(wallet): is_allowed for wallet, is_allowed in dict(pool.words).items()},
        "owners": {str(wallet): owner for wallet, owner in dict(pool.owners).items()},
    }


def pool_model(pool: Pool) -> Json:
    """The pool in numbers, and its workers."""
    phases = dict.fromkeys(Phase, 0)
    for task in tuple(pool.tasks.values()):
        phases[task.phase] += 1
    return {
        "chainTime": pool.now,
        "deals": len(pool.deals),
        "tasks": {phase.value: count for phase, count in phases.items()},
        "workers": _worker_models(pool),
    }
