"""Which of several RPC URLs to use: doors to the same chain, by values.

    failed     did not answer, or contradicted what was believed: closed for a while
    behind     its head is older than another's by more than `max_lag_seconds`: not read from until it has
               caught up
    foreign    of another chain: never used

The first door in the operator's order that is none of these is taken. When every door has failed, the one
that failed longest ago is tried again; a door that is behind is better than none, a foreign one is not.

All times are seconds of one monotonic clock, except those of blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from poolwright.poco.types import Timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What a door was seen to lead to."""

    chain_id: int
    number: int
    """Of its newest block."""
    timestamp: Timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """The doors as they are known now."""

    count: int
    home_after_seconds: float
    """How long a door that failed is left alone."""
    max_lag_seconds: float = 15.0
    closed_until: tuple[float, ...] = field(default=())
    """Of each door; empty before any has failed."""
    behind: frozenset[int] = frozenset()
    foreign: frozenset[int] = frozenset()

    def best(self, now: float) -> int | None:
        """The door to use; None when all lead to other chains."""
        ours = [door for door in range(self.count) if door not in self.foreign]
        if not ours:
            return None
        return min(ours, key=lambda door: (*self._state(door, now), door))

    def _state(self, door: int, now: float) -> tuple[bool, float, bool]:
        until = self.closed_until[door] if self.closed_until else 0.0
        is_closed = until > now
        return (is_closed, until if is_closed else 0.0, door in self.behind)

    def failed(self, door: int, now: float) -> Doors:
        """Leave the door for a while. The only one is never left."""
        if self.count == 1:
            return self
        until = list(self.closed_until or (0.0,) * self.count)
        until[door] = max(until[door], now + self.home_after_seconds)
        return replace(self, closed_until=tuple(until))

    def seen(self, sights: Sequence[Sight | None], now: float, chain_id: int | None) -> Doors:
        """Judge the doors by what each has shown; None is no answer, which leaves the judgement as it was.

        Without a `chain_id` that is told, the first door that answers is believed. A door that has failed
        does not count as a measure for others: it may be the one that tells nonsense.
        """
        told = [(door, sight) for door, sight in enumerate(sights) if sight is not None]
        if chain_id is None and told:
            chain_id = told[0][1].chain_id
        foreign = {door for door, sight in told if sight.chain_id != chain_id}
        measures = [sight for door, sight in told if door not in foreign and not self._state(door, now)[0]]
        newest = max(measures, key=lambda sight: sight.number, default=None)
        behind = {
            door
            for door, sight in told
            if newest is not None
            and sight.number < newest.number
            and newest.timestamp - sight.timestamp > self.max_lag_seconds
        }
        silent = {door for door, sight in enumerate(sights) if sight is None}
        return replace(
            self,
            foreign=frozenset(foreign | (self.foreign & silent)),
            behind=frozenset((behind | (self.behind & silent)) - foreign),
        )

    def why_not(self, door: int, now: float) -> str:
        """Why a door is not used; empty when it may be."""
        if door in self.foreign:
            return "another chain"
        is_closed, _, is_behind = self._state(door, now)
        return "failed" if is_closed else "behind" if is_behind else ""
