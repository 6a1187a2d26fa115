"""When the contributions to a task agree enough: weights, groups and the consensus test of the contract.

Every contribution carries a weight that grows with the worker's score. Contributions with the same result
hash form a group, and a group's weight is the *product* of its members' weights: independent workers
agreeing by accident grows unlikely in the same way. A task reaches consensus when, for the group just
contributed to,

    group * trust > total * (trust - 1)          with  total = 1 + the sum of all groups' weights

that is, when the winning group outweighs `(1 + others) * (trust - 1)`. The contract looks at this only
right after a contribution (Poco2 `contribute` and `checkConsensus`), so a group that was heavy enough
before a dissenter came stays the winner. Weights are unbounded integers here and in the contract's range
of 256 bits there: overflow would need hundreds of workers on one task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from types import MappingProxyType

from poolwright.poco.types import Hash32

NO_GROUPS: Mapping[Hash32, int] = MappingProxyType({})


def weight(score: int) -> int:
    """Return the weight of a contribution by a worker with this score: 2 up to 11, then a third - 1.

    Rule: Poco2 `contribute`, score policy 1 of 3 with k = 3.
    """
    return max(score // 3, 3) - 1


def log2_weight(weight: int) -> int:
    """Return floor(log2(weight)), the form in which the contract keeps a weight for sharing the reward."""
    return weight.bit_length() - 1


def is_reached(group: int, total: int, trust: int) -> bool:
    """Tell whether a group of this weight wins among `total` (= 1 + all groups); trust 0 counts as 1."""
    trust = max(trust, 1)
    return group * trust > total * (trust - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Consensus:
    """The tally of one task: the weight of each group, by result hash, and 1 + their sum."""

    total: int = 1
    groups: Mapping[Hash32, int] = field(default_factory=lambda: NO_GROUPS)

    def add(self, result_hash: Hash32, weight: int) -> Consensus:
        """Return the tally after one more contribution of this weight (`delta = max(g, 1) * w - g`)."""
        group = self.groups.get(result_hash, 0)
        delta = max(group, 1) * weight - group
        return Consensus(total=self.total + delta, groups={**self.groups, result_hash: group + delta})

    def drop(self, result_hash: Hash32) -> Consensus:
        """Return the tally without this group, as `reopen` leaves it."""
        return Consensus(
            total=self.total - self.groups.get(result_hash, 0), groups={**self.groups, result_hash: 0}
        )

    def is_reached(self, result_hash: Hash32, trust: int) -> bool:
        """Tell whether this group has won; the contract asks it only of the group just contributed to."""
        return is_reached(self.groups.get(result_hash, 0), self.total, trust)


def more_needed(groups: Mapping[Hash32, int], pending_weights: Sequence[int], trust: int) -> bool:
    """Tell whether a task needs another worker besides those already at work on it.

    `groups` are the weights on the chain by result hash, `pending_weights` the weights of workers who are
    computing and may still contribute. The forecast is hopeful: all of them will agree with the heaviest
    group. When even that is not enough, one more worker is needed; when it is, any further one would
    compute for nothing. A task without contribution and without worker always needs one.
    """
    best = max(groups.values(), default=0)
    worst = sum(groups.values()) - best
    if pending_weights:
        best = max(best, 1) * prod(pending_weights)
    return not is_reached(best, 1 + best + worst, trust)


def workers_needed(
    groups: Mapping[Hash32, int], pending_weights: Sequence[int], trust: int, weight: int = 2
) -> int:
    """Return how many more workers of this weight (>= 2) the forecast of `more_needed` asks for."""
    pending = list(pending_weights)
    while more_needed(groups, pending, trust):
        pending.append(weight)
    return len(pending) - len(pending_weights)
