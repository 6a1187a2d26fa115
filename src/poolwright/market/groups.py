"""Which restrictions of a chain's orders are groups, and whom they count as members (ERC-734).

A group is a contract that answers `keyHasPurpose(account, 4)`; the hub asks it in a match, and so does the
market before it says that an order is for somebody. What it answers is kept for a block. Whether an address
is a group at all is asked once, and again every few minutes, because code may come to an address later.

Bounds: so many new restrictions are looked at per request, so many memberships asked per request and kept per
block. What is beyond them counts as no member: an order too few is shown, never one too many.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from itertools import islice
from typing import Final

import structlog

from poolwright.chain.reads import Question
from poolwright.chain.rpc import RpcError
from poolwright.market.reading import NO_ANSWER, NewestReads
from poolwright.orderbook.book import Book, MembershipRead
from poolwright.orderbook.groups import Groups, Membership, Pair
from poolwright.orderbook.listing import Kind, Listing
from poolwright.orderbook.match import BestMatch, best_match
from poolwright.orderbook.query import NOBODY, Query
from poolwright.poco import views
from poolwright.poco.errors import PeerError, Unavailable
from poolwright.poco.types import Address, BlockNumber

log: structlog.stdlib.BoundLogger = structlog.get_logger()

GROUP_MEMBER: Final = 4
"""The purpose that makes a key a member (the hub's GROUPMEMBER_PURPOSE)."""
MOST_AT_ONCE: Final = 256
MOST_KEPT: Final = 50_000
ROUNDS: Final = 8
"""How often a match is looked for again with what was asked of the chain."""
RELEARN_SECONDS: Final = 300.0
SILENCE_SECONDS: Final = 5.0
"""How long a chain that did not answer is not asked again for a page."""
_PLACES: Final = ("app", "dataset", "workerpool", "requester")


class ChainGroups:
    """The groups of one chain's book. Times are seconds of a monotonic clock."""

    def __init__(self, reads: NewestReads, clock: Callable[[], float] = time.monotonic) -> None:
        self._reads = reads
        self._clock = clock
        self._groups: set[Address] = set()
        self._members: dict[Pair, bool] = {}
        self._block: BlockNumber | None = None
        self._relearn_at = 0.0
        self._silent_until = 0.0

    async def widened(self, book: Book, block: BlockNumber | None, query: Query) -> tuple[Query, bool]:
        """The query of a party who may also use the orders of its groups, as of this block.

        Also whether that lasts until the shelf changes, because no group is involved. While the chain does
        not answer, orders restricted to groups are left out.
        """
        shelf = book.shelves[query.kind]
        parties = {
            name: next(iter(asked - {NOBODY}))
            for name in _PLACES
            if (asked := getattr(query, name)) is not None and len(asked) > 1
        }
        if not parties or not shelf.restrictions:
            return query, True
        if self._clock() < self._silent_until:
            return query, False
        try:
            await self._learn(book, [query.kind])
            groups = [group for group in self._groups if group in shelf.restrictions]
            if not groups:
                return query, not shelf.new_restrictions
            pairs = [(group, party) for party in parties.values() for group in groups]
            self._begin(block)
            await self._ask(pairs)
        except (Unavailable, PeerError, RpcError) as problem:
            self._silent_until = self._clock() + SILENCE_SECONDS
            log.warning("groups cannot be asked; their orders are left out", reason=str(problem))
            return query, False
        more = {
            name: getattr(query, name) | {group for group in groups if self._members.get((group, party))}
            for name, party in parties.items()
        }
        return replace(query, **more), False

    async def best_match(self, book: Book, block: BlockNumber | None, request: Listing) -> BestMatch | None:
        """The best match, groups included. Raises BookRefusal, Unavailable."""
        await self._learn(book, [Kind.APP, Kind.DATASET, Kind.WORKERPOOL], [request.terms.workerpool])
        self._begin(block)
        for _ in range(ROUNDS):
            groups = Groups(self._groups, self._members)
            found = best_match(book, request, groups=groups)
            if not groups.asked:
                return found
            await self._ask(groups.asked)
        raise Unavailable("too many groups to ask", code="too-many-groups", next_step="ask again")

    async def _learn(self, book: Book, kinds: Collection[Kind], more: Iterable[Address] = ()) -> None:
        """Find the groups among the restrictions that nobody has looked at. Raises Unavailable, RpcError."""
        if self._clock() >= self._relearn_at:
            self._relearn_at = self._clock() + RELEARN_SECONDS
            for shelf in book.shelves.values():
                shelf.new_restrictions.update(dict.fromkeys(shelf.restrictions))
        new = {party for party in more if party}
        for kind in kinds:
            new.update(islice(book.shelves[kind].new_restrictions, MOST_AT_ONCE))
        new -= self._groups
        if new:
            found = list(new)
            _, answers = await self._reads.ask([membership_question((group, NOBODY)) for group in found])
            self._groups.update(
                group for group, answer in zip(found, answers, strict=True) if answer is not NO_ANSWER
            )
        for kind in kinds:
            for party in new | self._groups:
                book.shelves[kind].new_restrictions.pop(party, None)
        if len(self._groups) > MOST_KEPT:
            self._groups.clear()
            self._relearn_at = 0.0

    def _begin(self, block: BlockNumber | None) -> None:
        """Forget who was whose member at another block."""
        if block != self._block or len(self._members) > MOST_KEPT:
            self._members = {}
            self._block = block

    async def _ask(self, pairs: Iterable[Pair]) -> None:
        """Know these memberships, as far as the bounds go. Raises Unavailable, RpcError."""
        members = self._members
        unknown = list(islice((pair for pair in pairs if pair not in members), MOST_AT_ONCE))
        if unknown:
            _, answers = await self._reads.ask([membership_question(pair) for pair in unknown])
            members |= {pair: answer is True for pair, answer in zip(unknown, answers, strict=True)}


def membership_question(pair: Pair) -> Question[bool]:
    """Asks whether the account belongs to the group, as the hub does in a match."""
    group, account = pair
    call = views.key_has_purpose(account, GROUP_MEMBER)
    return Question(to=group, call=call, read=views.decode_bool, what="keyHasPurpose")


def membership_fact(pair: Pair, answer: object) -> MembershipRead:
    """What the book learns of an answer to that question: True, False, or anything else for none."""
    known = {True: Membership.MEMBER, False: Membership.OUTSIDER}
    membership = known[answer] if isinstance(answer, bool) else Membership.NO_GROUP
    return MembershipRead(group=pair[0], account=pair[1], membership=membership)
