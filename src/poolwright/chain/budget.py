"""How much may be spent on fees: a circuit breaker for the operator's purse.

Three limits, each of them optional: for one transaction, for any 60 minutes, for any 24 hours of chain time.
What is in flight counts with the most that it may cost, what is mined with what it did cost. So new
transactions keep within the limits whatever the gas price does, and the breaker closes again by itself when
time has passed, when gas is cheap again, or when what was in flight has cost less than it might. One that is
in flight already may still be replaced at a better price, up to the price cap: it holds up all behind it.

Not every transaction may wait. `Priority` says what a limit means for one:

    ORDINARY   waits at any of the limits
    SAVING     saves more than it costs: only the limit for one transaction holds it
    URGENT     the same, at its last opportunity: nothing holds it
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, unique
from typing import Final

from poolwright.poco.errors import PoolwrightError
from poolwright.poco.types import Timestamp, Wei

HOUR_SECONDS: Final = 3_600
DAY_SECONDS: Final = 86_400
MINUTE_SECONDS: Final = 60
HELD_SECONDS: Final = 120
"""What waits asks again and again; when nobody has asked for so long, nothing waits."""
NEVER: Final = Timestamp(-HELD_SECONDS - 1)


@unique
class Priority(Enum):
    """What a limit means for a transaction."""

    ORDINARY = "ordinary"
    SAVING = "saving"
    URGENT = "urgent"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeeLimits:
    """The operator's limits, wei; None is no limit."""

    per_transaction: Wei | None = None
    per_hour: Wei | None = None
    per_day: Wei | None = None


class OverBudget(PoolwrightError):
    """A limit on fees holds the transaction back; nothing was sent. Try again later."""

    def __init__(self, limit: str, *, expected: str, got: str) -> None:
        super().__init__(
            f"the limit on fees per {limit} holds transactions back",
            code="over-budget",
            expected=expected,
            got=got,
            next_step="wait until gas is cheaper or time has passed, or raise the limit",
        )


def minute_of(at: Timestamp) -> Timestamp:
    """The beginning of the minute in which a fee was paid."""
    return Timestamp(at - at % MINUTE_SECONDS)


class FeeBudget:
    """What was spent by the minute, and whether more may be."""

    def __init__(self, limits: FeeLimits | None = None) -> None:
        self.limits = limits or FeeLimits()
        self._held = ""
        self._held_at = NEVER
        self._spent: dict[Timestamp, int] = {}

    def load(self, spent: Mapping[Timestamp, Wei]) -> None:
        """Begin with what was spent before, by the minute."""
        self._spent = {minute: int(fee) for minute, fee in spent.items()}

    def add(self, at: Timestamp, fee: Wei) -> None:
        """A block at `at` took a fee."""
        minute = minute_of(at)
        self._spent[minute] = self._spent.get(minute, 0) + fee
        for old in [known for known in self._spent if known <= minute - DAY_SECONDS - MINUTE_SECONDS]:
            del self._spent[old]

    def spent(self, now: Timestamp, seconds: int) -> Wei:
        """Fees of the latest `seconds`, to the minute."""
        return Wei(sum(fee for minute, fee in self._spent.items() if minute > now - seconds))

    def check(self, *, cost: Wei, in_flight: Wei, priority: Priority, now: Timestamp) -> OverBudget | None:
        """What holds back a transaction of at most `cost`, when `in_flight` may be spent already."""
        if priority is Priority.URGENT:
            return None
        problem = self._over_transaction(cost)
        if problem is None and priority is Priority.ORDINARY:
            problem = self._over_span("hour", self.limits.per_hour, cost, in_flight, now, HOUR_SECONDS)
            problem = problem or self._over_span(
                "day", self.limits.per_day, cost, in_flight, now, DAY_SECONDS
            )
        if problem is not None:
            self._held, self._held_at = str(problem), now
        elif priority is Priority.ORDINARY:
            self._held = ""
        return problem

    def held(self, now: Timestamp) -> str:
        """Why transactions wait; empty when none does, or none has asked for a while."""
        return self._held if now - self._held_at <= HELD_SECONDS else ""

    def report(self, now: Timestamp) -> Mapping[str, object]:
        """For health pages: amounts are decimal strings of wei, null for no limit."""
        limits = self.limits
        return {
            "lastHour": str(self.spent(now, HOUR_SECONDS)),
            "lastDay": str(self.spent(now, DAY_SECONDS)),
            "limitPerTransaction": _shown(limits.per_transaction),
            "limitPerHour": _shown(limits.per_hour),
            "limitPerDay": _shown(limits.per_day),
            "held": self.held(now) or None,
        }

    def _over_transaction(self, cost: Wei) -> OverBudget | None:
        limit = self.limits.per_transaction
        if limit is None or cost <= limit:
            return None
        return OverBudget("transaction", expected=f"at most {limit} wei", got=f"up to {cost} wei")

    def _over_span(
        self, name: str, limit: Wei | None, cost: Wei, in_flight: Wei, now: Timestamp, seconds: int
    ) -> OverBudget | None:
        if limit is None:
            return None
        spent = self.spent(now, seconds)
        if spent + in_flight + cost <= limit:
            return None
        got = f"{spent} wei spent, up to {in_flight} wei in flight, up to {cost} wei more"
        return OverBudget(name, expected=f"at most {limit} wei", got=got)


def _shown(limit: Wei | None) -> str | None:
    return None if limit is None else str(limit)
