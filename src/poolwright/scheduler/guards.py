"""What is checked after every step, in production too: a few comparisons for the task that was touched.

They are the rules whose breach would cost money and be hard to mend: a phase that jumps, a log or an attempt
that is forgotten, a worker with two attempts, an ended task that still wants a transaction. `invariants` has
all rules, for the whole pool; it runs in tests, in the simulation, and in production with
`POOLWRIGHT_CHECK_INVARIANTS=true`. Single moves of a replicate need no guard: `replicate.moved` makes none
that is not in the table.
"""

from __future__ import annotations

from typing import Final

from poolwright.poco.errors import InvariantBroken
from poolwright.scheduler.task import PHASE_MOVES, Task

_LEGAL: Final = frozenset((before, after) for (before, _), after in PHASE_MOVES.items())


def check(before: Task | None, after: Task) -> None:
    """Raise InvariantBroken when a task may not become this one."""
    broken = None if before is None else _broken(before, after)
    if broken is None and after.is_ended and (after.in_flight is not None or after.setback is not None):
        broken = "ended, with a transaction still wanted"
    if broken is not None:
        raise InvariantBroken(
            f"task {after.id}: {broken}", code="guard", next_step="please report this with the task's story"
        )


def _broken(before: Task, after: Task) -> str | None:
    if after.phase is not before.phase and (before.phase, after.phase) not in _LEGAL:
        return f"moved from phase {before.phase} to {after.phase}"
    if len(after.facts) < len(before.facts):
        return "a fact of the chain was forgotten"
    count = len(before.replicates)
    if len(after.replicates) < count:
        return "an attempt was forgotten"
    for number in range(count, len(after.replicates)):
        worker = after.replicates[number].worker
        if any(other.worker == worker for other in after.replicates[:number]):
            return f"worker {worker} has two attempts"
    return None
