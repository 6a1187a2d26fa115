"""The clock of a task: what its deadlines are and what may be done with it at a given moment.

A category has a work clock unit `timeref`. Counting from the deal's start (the match, not the
initialization), contributions close after 7 units and the task must be finalized before 10. Revealing
closes 2 units after consensus, possibly later than the final deadline, which then still wins. Something is
in time while `now < deadline`; at the very second of the deadline it is too late, and what waits for the
deadline (claim, reopen, finalize without all reveals) has become possible. `now` is always the timestamp
of the block that would carry the transaction.
"""

from __future__ import annotations

from poolwright.poco.records import OnchainTask, TaskStatus
from poolwright.poco.types import Seconds, Timestamp

CONTRIBUTION_DEADLINE_RATIO = 7
REVEAL_DEADLINE_RATIO = 2
FINAL_DEADLINE_RATIO = 10


def contribution_deadline(start: Timestamp, timeref: Seconds) -> Timestamp:
    """Return when contributions to tasks of a deal that started at `start` close."""
    return Timestamp(start + timeref * CONTRIBUTION_DEADLINE_RATIO)


def reveal_deadline(consensus_at: Timestamp, timeref: Seconds) -> Timestamp:
    """Return when reveals close for a task that reached consensus at `consensus_at`."""
    return Timestamp(consensus_at + timeref * REVEAL_DEADLINE_RATIO)


def final_deadline(start: Timestamp, timeref: Seconds) -> Timestamp:
    """Return from when on tasks of a deal that started at `start` can only be claimed."""
    return Timestamp(start + timeref * FINAL_DEADLINE_RATIO)


def is_contributable(task: OnchainTask, now: Timestamp) -> bool:
    """Tell whether the task takes contributions now (who may contribute is another question)."""
    return task.status is TaskStatus.ACTIVE and now < task.contribution_deadline


def is_revealable(task: OnchainTask, now: Timestamp) -> bool:
    """Tell whether the winners of the task may reveal now; the final deadline does not stop them."""
    return task.status is TaskStatus.REVEALING and now < task.reveal_deadline


def is_finalizable(task: OnchainTask, now: Timestamp) -> bool:
    """Tell whether the scheduler may finalize now: all winners revealed, or some did and time is up."""
    if task.status is not TaskStatus.REVEALING or now >= task.final_deadline:
        return False
    everybody = task.reveal_counter == task.winner_counter
    return everybody or (task.reveal_counter > 0 and now >= task.reveal_deadline)


def is_reopenable(task: OnchainTask, now: Timestamp) -> bool:
    """Tell whether the scheduler may reopen now: the time to reveal is up and nobody did."""
    return (
        task.status is TaskStatus.REVEALING
        and task.reveal_counter == 0
        and task.reveal_deadline <= now < task.final_deadline
    )


def is_claimable(task: OnchainTask, now: Timestamp) -> bool:
    """Tell whether anybody may claim the task back for its requester now."""
    return task.status in (TaskStatus.ACTIVE, TaskStatus.REVEALING) and now >= task.final_deadline
