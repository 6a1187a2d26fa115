"""Restrictions that are groups: contracts that say who belongs to them (ERC-734, reference poco.md 6).

A restriction admits everybody when it is zero, an account that is itself, and, when it is a group, whom the
group counts among its members. Only the chain knows both, so the book is told: which restrictions are groups
and which accounts are known to be in or out. Whatever else it would have to know it writes down in `asked`,
and takes for "no" meanwhile; who asks the book reads those of the chain and asks again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, TypeAlias

from poolwright.poco.types import Address

Pair: TypeAlias = tuple[Address, Address]
"""A group and an account that may be its member."""


class Groups:
    """What is known of groups."""

    def __init__(
        self, groups: Collection[Address] = frozenset(), members: Mapping[Pair, bool] | None = None
    ) -> None:
        self._groups = groups
        self._members: Mapping[Pair, bool] = {} if members is None else members
        self.asked: dict[Pair, None] = {}
        """What had to be known and is not, in the order in which it was needed."""

    def __contains__(self, restriction: object) -> bool:
        return restriction in self._groups

    def admits(self, restriction: Address, account: Address) -> bool:
        """Whether an order with this restriction may be used by, or for, this account."""
        if not restriction or restriction == account:
            return True
        if restriction not in self._groups:
            return False
        pair = (restriction, account)
        known = self._members.get(pair)
        if known is None:
            self.asked[pair] = None
        return bool(known)

    def overlap(self, one: Address, other: Address) -> bool:
        """Whether some account may satisfy both restrictions; of two groups nobody can tell."""
        if not one or not other or one == other or (one in self._groups and other in self._groups):
            return True
        return self.admits(one, other) or self.admits(other, one)


NO_GROUPS: Final = Groups()
"""Every restriction is an account; nothing is ever asked of it."""
