"""`Alarms`: one moment for each key."""

from __future__ import annotations

from poolwright.poco.types import Timestamp
from poolwright.scheduler.alarms import SPARE_MOMENTS, Alarms


def alarms(**moments: int) -> Alarms[bytes]:
    made: Alarms[bytes] = Alarms()
    for name, moment in moments.items():
        made.set(name.encode(), Timestamp(moment))
    return made


def test_the_keys_of_the_first_moment_come_together_and_in_order() -> None:
    rings = alarms(c=5, b=7, a=5)

    assert rings.first() == 5
    assert rings.take_first() == [b"a", b"c"]
    assert rings.take_first() == [b"b"]
    assert rings.take_first() == []
    assert rings.first() is None


def test_a_key_rings_only_at_the_moment_it_was_set_for_last() -> None:
    rings = alarms(a=5, b=6)

    rings.set(b"a", Timestamp(9))

    assert rings.take_first() == [b"b"]
    assert rings.take_first() == [b"a"]


def test_a_moment_that_lost_its_keys_may_get_others() -> None:
    rings = alarms(a=5, b=6)
    rings.set(b"a", None)

    rings.set(b"b", Timestamp(5))

    assert rings.at == {b"b": 5}
    assert rings.take_first() == [b"b"]
    assert rings.first() is None


def test_to_forget_what_is_not_known_changes_nothing() -> None:
    rings = alarms(a=5)

    rings.set(b"b", None)

    assert rings.at == {b"a": 5}


def test_moments_without_keys_do_not_pile_up() -> None:
    rings = alarms(a=1_000_000)

    for moment in range(10_000):
        rings.set(b"b", Timestamp(moment))

    assert len(rings) <= 2 * 2 + SPARE_MOMENTS
    assert rings.take_first() == [b"b"]
    assert rings.take_first() == [b"a"]
