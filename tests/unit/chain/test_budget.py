"""The limits on fees, by values: what waits, what goes, and when it goes again."""

from __future__ import annotations

import pytest

from poolwright.chain.budget import DAY_SECONDS, HOUR_SECONDS, FeeBudget, FeeLimits, Priority
from poolwright.poco.types import Timestamp, Wei

NOW = Timestamp(1_000_000_020)


def budget(**limits: int) -> FeeBudget:
    return FeeBudget(FeeLimits(**{name: Wei(limit) for name, limit in limits.items()}))


def is_held(
    fees: FeeBudget, cost: int, *, in_flight: int = 0, priority: Priority = Priority.ORDINARY, now: int = NOW
) -> bool:
    problem = fees.check(cost=Wei(cost), in_flight=Wei(in_flight), priority=priority, now=Timestamp(now))
    return problem is not None


def test_without_limits_everything_goes() -> None:
    assert not is_held(FeeBudget(), 10**30)


def test_a_limit_may_be_reached_and_not_passed() -> None:
    fees = budget(per_hour=100)
    fees.add(NOW, Wei(60))

    assert not is_held(fees, 40)
    assert is_held(fees, 41)


def test_what_is_in_flight_counts_with_the_most_that_it_may_cost() -> None:
    assert is_held(budget(per_hour=100), 10, in_flight=91)


@pytest.mark.parametrize(
    ("limits", "seconds"), [({"per_hour": 100}, HOUR_SECONDS), ({"per_day": 100}, DAY_SECONDS)]
)
def test_it_goes_on_by_itself_when_the_time_has_passed(limits: dict[str, int], seconds: int) -> None:
    fees = budget(**limits)
    fees.add(NOW, Wei(100))

    assert is_held(fees, 1, now=NOW + seconds - 60)
    assert fees.held(Timestamp(NOW + seconds - 60))
    assert not is_held(fees, 1, now=NOW + seconds)
    assert not fees.held(Timestamp(NOW + seconds))


@pytest.mark.parametrize(
    ("priority", "over_hour", "over_transaction"),
    [(Priority.ORDINARY, True, True), (Priority.SAVING, False, True), (Priority.URGENT, False, False)],
)
def test_what_saves_more_than_it_costs_is_not_held_by_the_hour_and_at_last_by_nothing(
    priority: Priority, over_hour: bool, over_transaction: bool
) -> None:
    assert is_held(budget(per_hour=5), 10, priority=priority) is over_hour
    assert is_held(budget(per_transaction=5), 10, priority=priority) is over_transaction


def test_zero_holds_everything_that_costs_and_lets_free_transactions_go() -> None:
    fees = budget(per_day=0)

    assert is_held(fees, 1)
    assert not is_held(fees, 0)


def test_what_was_spent_before_a_restart_counts() -> None:
    fees = budget(per_hour=100)
    fees.load({Timestamp(NOW - 60): Wei(95)})

    assert is_held(fees, 6)


def test_the_reason_names_limit_and_amounts_and_is_forgotten_when_nobody_asks() -> None:
    fees = budget(per_day=100)
    fees.add(NOW, Wei(99))

    problem = fees.check(cost=Wei(7), in_flight=Wei(5), priority=Priority.ORDINARY, now=NOW)

    assert problem is not None
    assert "fees per day" in str(problem)
    assert "expected at most 100 wei, got 99 wei spent, up to 5 wei in flight, up to 7 wei more" in str(
        problem
    )
    report = fees.report(NOW)
    assert (report["lastDay"], report["limitPerDay"], report["limitPerHour"]) == ("99", "100", None)
    assert report["held"] == str(problem)
    assert fees.report(Timestamp(NOW + 121))["held"] is None


def test_what_is_older_than_a_day_is_forgotten() -> None:
    fees = budget(per_day=10)
    fees.add(NOW, Wei(10))
    fees.add(Timestamp(NOW + 2 * DAY_SECONDS), Wei(1))

    assert fees.spent(Timestamp(NOW + 2 * DAY_SECONDS), 10 * DAY_SECONDS) == 1
