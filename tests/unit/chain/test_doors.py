"""Which of several endpoints is used, by values."""

from __future__ import annotations

from poolwright.chain.doors import Doors, Sight
from poolwright.poco.types import Timestamp

HOME = Doors(count=3, home_after_seconds=60, max_lag_seconds=15)


def sight(number: int, *, age: int = 0, chain_id: int = 1) -> Sight:
    """A door whose newest block is so many seconds older than that of block 100."""
    return Sight(chain_id=chain_id, number=number, timestamp=Timestamp(1_000_000 - age))


NEWEST = sight(100)


def test_the_first_door_is_used_while_it_works() -> None:
    assert HOME.best(0.0) == 0


def test_a_failing_door_is_left_for_the_next_and_tried_again_after_a_while() -> None:
    away = HOME.failed(0, now=5.0)

    assert [away.best(now) for now in (5.0, 64.9, 65.0)] == [1, 1, 0]


def test_when_every_door_has_failed_the_one_that_failed_first_is_tried() -> None:
    away = HOME.failed(0, 1.0).failed(1, 2.0).failed(2, 3.0)
    assert away.best(4.0) == 0
    assert away.failed(0, 5.0).best(5.0) == 1


def test_the_only_door_stays() -> None:
    alone = Doors(count=1, home_after_seconds=60)
    assert alone.failed(0, 5.0).best(6.0) == 0


def test_a_door_that_is_behind_is_not_used_until_it_has_caught_up() -> None:
    behind = HOME.seen([sight(96, age=16), NEWEST, NEWEST], 0.0, 1)
    assert (behind.best(0.0), behind.why_not(0, 0.0)) == (1, "behind")

    caught_up = behind.seen([NEWEST, NEWEST, NEWEST], 1.0, 1)
    assert (caught_up.best(1.0), caught_up.why_not(0, 1.0)) == (0, "")


def test_a_little_behind_is_the_way_of_the_world() -> None:
    assert HOME.seen([sight(97, age=15), NEWEST, NEWEST], 0.0, 1).best(0.0) == 0


def test_an_older_clock_at_the_same_height_is_not_behind() -> None:
    assert HOME.seen([sight(100, age=99), NEWEST, None], 0.0, 1).best(0.0) == 0


def test_a_door_to_another_chain_is_never_used() -> None:
    foreign = HOME.seen([sight(100, chain_id=7), NEWEST, None], 0.0, 1)

    assert foreign.best(0.0) == 1
    assert foreign.failed(1, 0.0).failed(2, 0.0).best(0.0) in (1, 2)
    assert HOME.seen([sight(1, chain_id=7)] * 3, 0.0, 1).best(0.0) is None


def test_the_height_of_another_chain_says_nothing_about_ours() -> None:
    assert HOME.seen([NEWEST, sight(9_999, age=-9_999, chain_id=7), None], 0.0, 1).best(0.0) == 0


def test_a_door_that_has_failed_is_no_measure_for_others() -> None:
    """It may have told of a block far in the future, and was left for that."""
    doors = HOME.failed(1, 0.0)
    assert doors.seen([NEWEST, sight(9_999, age=-9_999), None], 1.0, 1).best(1.0) == 0


def test_a_silent_door_is_judged_as_before() -> None:
    behind = HOME.seen([sight(1, age=99), NEWEST, sight(5, chain_id=7)], 0.0, 1)
    assert behind.seen([None, NEWEST, None], 1.0, 1) == behind


def test_a_door_behind_is_better_than_one_that_has_failed_and_than_none() -> None:
    doors = HOME.seen([sight(1, age=99), NEWEST, NEWEST], 0.0, 1).failed(1, 0.0).failed(2, 0.0)
    assert doors.best(1.0) == 0


def test_without_a_chain_id_the_first_that_answers_is_believed() -> None:
    assert HOME.seen([None, sight(5, chain_id=7), NEWEST], 0.0, None).foreign == {2}
