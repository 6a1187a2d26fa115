"""When what may be done with a task: exactly at a deadline it is too late, or just possible."""

from __future__ import annotations

from dataclasses import replace

from poolwright.poco import deadlines
from poolwright.poco.records import NO_TASK, TaskStatus
from poolwright.poco.types import Seconds, Timestamp

START, UNIT = Timestamp(1_000), Seconds(300)

ACTIVE = replace(
    NO_TASK,
    status=TaskStatus.ACTIVE,
    timeref=UNIT,
    contribution_deadline=deadlines.contribution_deadline(START, UNIT),
    final_deadline=deadlines.final_deadline(START, UNIT),
)
REVEALING = replace(
    ACTIVE,
    status=TaskStatus.REVEALING,
    reveal_deadline=deadlines.reveal_deadline(Timestamp(2_000), UNIT),
    winner_counter=2,
)


def test_deadlines_are_7_2_and_10_units_of_the_work_clock() -> None:
    assert ACTIVE.contribution_deadline == 3_100
    assert REVEALING.reveal_deadline == 2_600
    assert ACTIVE.final_deadline == 4_000


def test_contributions_close_at_their_deadline() -> None:
    assert deadlines.is_contributable(ACTIVE, Timestamp(3_099))
    assert not deadlines.is_contributable(ACTIVE, Timestamp(3_100))
    assert not deadlines.is_contributable(REVEALING, Timestamp(2_000))


def test_reveals_close_at_their_deadline_and_reopen_becomes_possible_without_any() -> None:
    assert deadlines.is_revealable(REVEALING, Timestamp(2_599))
    assert not deadlines.is_reopenable(REVEALING, Timestamp(2_599))
    assert not deadlines.is_revealable(REVEALING, Timestamp(2_600))
    assert deadlines.is_reopenable(REVEALING, Timestamp(2_600))
    assert not deadlines.is_reopenable(REVEALING, Timestamp(4_000))


def test_finalize_waits_for_all_reveals_or_for_the_deadline_with_one() -> None:
    one, both = replace(REVEALING, reveal_counter=1), replace(REVEALING, reveal_counter=2)

    assert not deadlines.is_finalizable(REVEALING, Timestamp(2_600))
    assert not deadlines.is_finalizable(one, Timestamp(2_599))
    assert deadlines.is_finalizable(one, Timestamp(2_600))
    assert deadlines.is_finalizable(both, Timestamp(2_001))
    assert deadlines.is_finalizable(both, Timestamp(3_999))
    assert not deadlines.is_finalizable(both, Timestamp(4_000))


def test_open_tasks_are_claimable_from_the_final_deadline_on() -> None:
    for task in (ACTIVE, REVEALING):
        assert not deadlines.is_claimable(task, Timestamp(3_999))
        assert deadlines.is_claimable(task, Timestamp(4_000))
    assert not deadlines.is_claimable(NO_TASK, Timestamp(9_999))
    assert not deadlines.is_claimable(replace(ACTIVE, status=TaskStatus.COMPLETED), Timestamp(9_999))
