"""Restrictions that are groups: contracts that say who belongs to them (ERC-734, reference poco.md 6).

A restriction admits everybody when it is zero, an account that is itself, and, when it is a group, whom the
group counts among its members. Only the chain knows both, so the book is told: which restrictions are groups
and which accounts are known to be in or out. Whatever else it would have to know it writes down in `asked`,
and takes for "no" meanwhile; who asks the book reads those of the chain and asks again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from enum import IntEnum
from typing import Final, TypeAlias

from poolwright.poco.types import Address, OrderHash

Pair: TypeAlias = tuple[Address, Address]
"""A group and an account that may be its member."""
MOST_CONSULTED: Final = 1024
"""Memberships that one request may depend on; whatever is beyond them counts as no member."""


class Membership(IntEnum):
    """What a restriction answers when it is asked whether an account belongs to it."""

    NO_GROUP = 0
    """It gives no answer: it is an account, or another contract."""
    OUTSIDER = 1
    MEMBER = 2


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


class Memberships(Groups):
    """What a book was told, pair by pair; any restriction may be a group until it is told otherwise.

    A verdict depends on nothing but the pairs in `consulted`, so it holds until one of those changes. What
    was consulted and is not known is in `asked` too.
    """

    def __init__(self, known: Mapping[Pair, Membership] | None = None) -> None:
        super().__init__()
        self._known: Mapping[Pair, Membership] = {} if known is None else known
        self.consulted: dict[Pair, Membership | None] = {}

    def admits(self, restriction: Address, account: Address) -> bool:
        if not restriction or restriction == account:
            return True
        return self._answer(restriction, account) is Membership.MEMBER

    def overlap(self, one: Address, other: Address) -> bool:
        if not one or not other or one == other:
            return True
        answers = self._answer(one, other), self._answer(other, one)
        return Membership.MEMBER in answers or answers == (Membership.OUTSIDER, Membership.OUTSIDER)

    def _answer(self, restriction: Address, account: Address) -> Membership | None:
        pair = (restriction, account)
        if pair not in self.consulted and len(self.consulted) >= MOST_CONSULTED:
            return None
        answer = self.consulted[pair] = self._known.get(pair)
        if answer is None:
            self.asked[pair] = None
        return answer


class UsedMemberships:
    """The memberships that the verdicts on a book's requests depend on: those known, and those to ask for."""

    def __init__(self) -> None:
        self.known: Final[dict[Pair, Membership]] = {}
        self.unknown: Final[dict[Pair, None]] = {}
        """In use and never read, in the order in which they were needed."""
        self._users: dict[Pair, dict[OrderHash, None]] = {}
        self._used: dict[OrderHash, list[Pair]] = {}
        self._loose: dict[Pair, None] = {}
        """Pairs that may not be in use any more."""

    def is_used(self, pair: Pair) -> bool:
        """Whether a verdict depends on it."""
        return pair in self._users

    def tell(self, pair: Pair, membership: Membership) -> Iterable[OrderHash]:
        """Note what was read; returns the requests to look at again."""
        before = self.known.get(pair)
        self.known[pair] = membership
        self.unknown.pop(pair, None)
        self._loose[pair] = None
        return () if before is membership else self._users.get(pair, ())

    def use(self, request: OrderHash, pairs: Collection[Pair]) -> None:
        """The verdict on a request depends on these pairs, and on no others from now on."""
        for pair in self._used.pop(request, ()):
            users = self._users[pair]
            del users[request]
            if not users:
                del self._users[pair]
                self._loose[pair] = None
        if not pairs:
            return
        self._used[request] = list(pairs)
        for pair in pairs:
            self._users.setdefault(pair, {})[request] = None
            if pair not in self.known:
                self.unknown[pair] = None

    def drop_unused(self) -> list[Pair]:
        """Forget the memberships that no request depends on; returns those."""
        dropped = [pair for pair in self._loose if pair not in self._users]
        self._loose.clear()
        for pair in dropped:
            self.known.pop(pair, None)
            self.unknown.pop(pair, None)
        return dropped


NO_GROUPS: Final = Groups()
"""Every restriction is an account; nothing is ever asked of it."""
