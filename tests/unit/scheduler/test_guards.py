"""The few rules that are checked after every step, in production too."""

from __future__ import annotations

from dataclasses import replace

import pytest

import factories as f
from factories import ALICE, BOB
from poolwright.poco.errors import InvariantBroken
from poolwright.scheduler import guards
from poolwright.scheduler.effects import Submission
from poolwright.scheduler.replicate import created
from poolwright.scheduler.task import InFlight, Phase, Task

REVEALING = f.revealing_task(ALICE, BOB)
WANTED = InFlight(submission=Submission.FINALIZE, attempt=3)


@pytest.mark.parametrize(
    ("before", "after", "broken"),
    [
        (REVEALING, replace(REVEALING, phase=Phase.RECEIVED), "moved from phase REVEALING to RECEIVED"),
        (replace(REVEALING, phase=Phase.FAILED), REVEALING, "moved from phase FAILED to REVEALING"),
        (REVEALING, replace(REVEALING, facts=REVEALING.facts[1:]), "a fact of the chain was forgotten"),
        (REVEALING, replace(REVEALING, replicates=REVEALING.replicates[:1]), "an attempt was forgotten"),
        (
            REVEALING,
            replace(REVEALING, replicates=(*REVEALING.replicates, created(ALICE, 2, f.START))),
            "has two attempts",
        ),
        (
            REVEALING,
            replace(REVEALING, phase=Phase.COMPLETED, in_flight=WANTED),
            "ended, with a transaction still wanted",
        ),
    ],
)
def test_a_task_that_may_not_become_so_is_stopped(before: Task, after: Task, broken: str) -> None:
    with pytest.raises(InvariantBroken, match=broken):
        guards.check(before, after)


def test_what_may_happen_passes() -> None:
    guards.check(None, f.received_task())
    guards.check(REVEALING, replace(REVEALING, phase=Phase.COMPLETED))
    guards.check(f.active_task(ALICE), f.active_task(ALICE, BOB))
