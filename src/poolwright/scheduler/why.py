"""What a task is waiting for right now, and until when: the question of whoever watches it stand still.

Derived from the same facts and by the same rules that move the task (`scheduler.task`, `scheduler.policy`),
so an answer cannot differ from what the scheduler will do. The first wait is the one to look at; notes on an
odd deal stand at the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from poolwright.poco.types import Address, Hash32, Timestamp, WorkerAddress
from poolwright.scheduler import policy
from poolwright.scheduler import task as tasks
from poolwright.scheduler.pool import Pool, Worker
from poolwright.scheduler.replicate import Replicate
from poolwright.scheduler.standing import notice
from poolwright.scheduler.task import Deadline, Phase, Task
from poolwright.wire.statuses import ReplicateStatus

Dated = Callable[[Timestamp], str]

_UPLOADED: Final = ReplicateStatus.RESULT_UPLOADED


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """One thing that is awaited: `what` is a word for programs, `text` a sentence for people.

    `until` is the chain time (seconds UTC) at which something else happens if it has not come by then.
    """

    what: str
    text: str
    until: Timestamp | None = None


def waits(pool: Pool, task: Task, *, dated: Dated = str, stopped: str | None = None) -> tuple[Wait, ...]:
    """What the task waits for, the first thing first; never empty.

    `dated` writes chain seconds for people; `stopped` is how a bug of ours showed that has stopped the task.
    """
    if stopped is not None:
        text = f"a bug of ours has stopped the task ({stopped}); report it with the task's story"
        return (Wait(what="repair", text=text),)
    if task.is_ended:
        return (Wait(what="nothing", text=f"the task has ended: {task.phase}"),)
    found = [*_transaction(task, pool.now), *_by_phase(pool, task, dated)]
    deadline = tasks.next_deadline(task)
    if not found:
        found.append(Wait(what="deadline", text="nothing but its next deadline", until=deadline))
    found += [Wait(what="note", text=oddity) for oddity in task.deal.oddities]
    return tuple(found)


def _by_phase(pool: Pool, task: Task, dated: Dated) -> list[Wait]:
    if task.has_passed(Deadline.FINAL, pool.now):
        return []  # the claim is on its way
    if task.is_over:
        return [Wait(what="chain", text="the chain has ended it, and the log of that is still to be read")]
    match task.phase:
        case Phase.REVEALING:
            return [*_reveals(pool, task), *_result(pool, task, dated)]
        case Phase.RECEIVED | Phase.ACTIVE if pool.now >= task.contribution_deadline:
            return [_claim(task, "nobody can contribute any more")]
        case Phase.ACTIVE:
            return [*_contributions(pool, task, dated), *_worker(pool, task)]
        case _:
            return []


def _transaction(task: Task, now: Timestamp) -> list[Wait]:
    """The transaction that is on its way, or that failed and will be tried again."""
    if task.in_flight is not None:
        what = f"{task.in_flight.submission}, the task's transaction number {task.in_flight.attempt}"
        return [Wait(what="transaction", text=f"{what}, is on its way to a confirmed block")]
    setback = task.setback
    if setback is None:
        return []
    text = f"{setback.submission} failed {setback.failures} times in a row, at last: {setback.reason}"
    if setback.retry_at is None:
        return [Wait(what="operator", text=f"{text}; it is not tried again by itself")]
    return [Wait(what="retry", text=f"{text}; it is tried again", until=setback.retry_at)]


def _claim(task: Task, why: str) -> Wait:
    text = f"{why}; after the final deadline the task is claimed and everybody refunded"
    return Wait(what="final-deadline", text=text, until=task.final_deadline)


def _contributions(pool: Pool, task: Task, dated: Dated) -> list[Wait]:
    """Who is at work on it."""
    return [
        Wait(
            what="contribution",
            text=f"{_named(pool, r.worker)} is {r.status} since {dated(r.since)}, to contribute",
            until=task.contribution_deadline,
        )
        for r in task.replicates
        if r.is_expected
    ]


def _worker(pool: Pool, task: Task) -> list[Wait]:
    """One more worker, and why none has it."""
    if not tasks.needs_worker(task, pool.now):
        return []
    text = f"one more worker ({_consensus(task)}): {_nobody(pool, task)}"
    return [Wait(what="worker", text=text, until=task.contribution_deadline)]


def _consensus(task: Task) -> str:
    """How far the contributions are from a consensus, in the contract's terms."""
    trust = max(task.deal.trust, 1)
    if trust == 1:
        return "trust 1 needs one contribution"
    groups: Counter[Hash32] = Counter()
    for r in task.replicates:
        if r.result_hash is not None and not r.rejected:
            groups[r.result_hash] = max(groups[r.result_hash], 1) * r.weight
    best, total = max(groups.values(), default=0), 1 + sum(groups.values())
    return f"trust {trust} needs weight x {trust} > {total} x {trust - 1}, the best result has weight {best}"


def _nobody(pool: Pool, task: Task) -> str:
    """Why no worker of the pool can take the task now."""
    if not pool.workers:
        return "no worker has ever connected"
    reasons = Counter(_obstacle(worker, task) for worker in pool.workers.values())
    return "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common())


def _obstacle(worker: Worker, task: Task) -> str:
    lacking = policy.offers(worker).lacks(task.deal.tag)
    if task.replicate_of(worker.address) is not None:
        return "has had this task"
    if worker.is_silent:
        return "not connected"
    held = notice(worker.standing)
    if held is not None:
        return f"is held back ({held.code})"
    if lacking:
        return f"does not offer {', '.join(lacking.names)}"
    if worker.free_slots <= 0:
        return "has no free slot"
    return "may take it"


def _reveals(pool: Pool, task: Task) -> list[Wait]:
    missing = [r for r in task.winners if not r.revealed]
    if not missing or task.has_passed(Deadline.REVEAL, pool.now):
        return []
    names = ", ".join(_named(pool, r.worker) for r in missing)
    text = f"{len(missing)} of {len(task.winners)} winners have yet to reveal: {names}"
    return [Wait(what="reveal", text=text, until=task.reveal_deadline)]


def _result(pool: Pool, task: Task, dated: Dated) -> list[Wait]:
    """The result: who was asked for it, or when somebody is asked again."""
    if task.uploaded is not None or not any(r.revealed for r in task.winners):
        return []
    asked = [r for r in task.replicates if r.is_asked]
    if asked:
        return [_upload(pool, r, dated) for r in asked]
    if any(r.revealed and r.can_upload for r in task.winners):
        text = "an upload failed and no other revealer is left; the same one is asked again"
        return [Wait(what="upload", text=text, until=tasks.next_deadline(task))]
    return [_claim(task, "no revealer that is left can bring the result")]


def _upload(pool: Pool, asked: Replicate, dated: Dated) -> Wait:
    name = _named(pool, asked.worker)
    if asked.reached is _UPLOADED:
        return Wait(
            what="verification", text=f"{name} has uploaded the result; the repository is asked for it"
        )
    text = f"{name} was asked for the result and is {asked.status} since {dated(asked.since)}"
    return Wait(what="upload", text=text, until=Timestamp(asked.since + tasks.UPLOAD_SILENCE_SECONDS))


def _named(pool: Pool, address: Address) -> str:
    worker = pool.workers.get(WorkerAddress(address))
    return f"worker {address}" if worker is None else f"worker {worker.capacity.name} ({address})"
