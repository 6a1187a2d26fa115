"""One chain's market: what is read of the chain for a publication, and how orders come and go.

A change is decided on the newest book in a turn of the chain (`clerk`), stored in the same turn, then
answered. What got a 200 survives any crash, and of two processes that publish for one wallet the second one
decides with the first one's order in its book.

What was read of the chain before the turn may be too old in it: the leader has taken later blocks meanwhile,
or gone back. Then it is read again (`_ReadAgain`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from poolwright.chain.reads import Question
from poolwright.chain.rpc import back_off
from poolwright.market.clerk import Clerk, Decision, Wish
from poolwright.market.config import ChainSettings
from poolwright.market.errors import forbidden, not_found
from poolwright.market.groups import ChainGroups, membership_fact, membership_question
from poolwright.market.login import signer_of
from poolwright.market.reading import NO_ANSWER, Ask, HasCode, NewestReads
from poolwright.market.steps import Dated, Step
from poolwright.market.storage import Storage
from poolwright.orderbook.book import (
    Book,
    MembershipRead,
    NoPartner,
    OrderUnpublished,
    ResourceOwned,
    StakeRead,
    TimePassed,
)
from poolwright.orderbook.groups import Membership, Pair
from poolwright.orderbook.listing import Kind, Listing, Status, kind_of, listing_of, resource_of
from poolwright.orderbook.render import render
from poolwright.poco import views
from poolwright.poco.errors import InputError, Unavailable
from poolwright.poco.orders import Domain, Order, RequestOrder, order_hash
from poolwright.poco.types import Address, BlockNumber, BlockStamp, Hash32, NRlc, OrderHash

READS: Final = 8
"""How often a publication reads the chain before its node counts as lagging."""
_NO_BLOCK: Final = BlockNumber(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registries:
    """The contracts that say what exists."""

    app: Address
    dataset: Address
    workerpool: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What was read for a publication, at one block."""

    block: BlockStamp
    owner: Address
    consumed: int
    stake: NRlc
    signed: bool
    members: Mapping[Pair, Membership]


class _ReadAgain(Unavailable):
    """What was read of the chain is older than what the market has taken of it."""


class _AskMembers(_ReadAgain):
    """Whether an order serves the request is for groups to say that were not asked."""

    pairs: tuple[Pair, ...] = ()


class ChainMarket:
    """The market of one chain. `clerk.start` fills its book from storage."""

    def __init__(
        self,
        settings: ChainSettings,
        *,
        domain: Domain,
        registries: Registries,
        reads: NewestReads,
        storage: Storage,
        clerk: Clerk,
        max_open_orders: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings: Final = settings
        self.domain: Final = domain
        self.registries: Final = registries
        self.storage: Final = storage
        self.clerk: Final = clerk
        self.leads = False
        """Whether this process follows the chain."""
        self.reads: Final = reads
        self.groups: Final = ChainGroups(reads)
        self._max_open = max_open_orders
        self._clock = clock

    @property
    def chain_id(self) -> int:
        return self.settings.chain_id

    @property
    def book(self) -> Book:
        """The book as of now; another one after it was loaded anew."""
        return self.clerk.replica.book

    @property
    def cursor(self) -> BlockStamp | None:
        """How far the chain is taken and stored."""
        return self.clerk.cursor

    # --- publication ----------------------------------------------------------------------------------------

    async def publish(self, order: Order, wallet: Address, *, expires: int = 0) -> Listing:
        """Take an order of an authorized wallet; returns when it is stored.

        The checks are those of reference 4.7, in its order. `expires` is milliseconds since 1970; 0 is never.
        Raises InputError, Unavailable.
        """
        name = order_hash(order, self.domain)
        here = self.book.get(name)
        if here is not None and here.is_open:
            raise forbidden("order already published")
        try:
            return await self._publish(order, name, wallet, expires)
        except InputError:
            await self._check_unknown(name)  # it stands first among the reasons
            raise

    async def _publish(self, order: Order, name: OrderHash, wallet: Address, expires: int) -> Listing:
        pairs: dict[Pair, None] = {}
        for attempt in range(1, READS + 1):
            rewinds = self.clerk.replica.rewinds
            read = await self._read_for(order, name, wallet, list(pairs))
            if read.owner != wallet:
                raise forbidden(f"only order signer {read.owner} can publish an order")
            if not read.signed:
                raise forbidden("invalid sign")

            def decide(
                decision: Decision, _: object, read: Published = read, rewinds: int = rewinds
            ) -> Listing:
                return self._take_order(decision, order, name, wallet, expires, read, rewinds)

            try:
                return await self.clerk.ask(Wish(decide=decide, names=(name,)))
            except _AskMembers as wanted:
                pairs |= dict.fromkeys(wanted.pairs)
            except _ReadAgain:
                await asyncio.sleep(back_off(attempt, 0.5) / 10)
        raise Unavailable("the node lags behind what the market has taken of the chain", code="node-lags")

    async def _check_unknown(self, name: OrderHash) -> None:
        """Raise the refusal of an order that is stored and not dead, whether or not it is in the book."""
        known = await asyncio.to_thread(self.storage.known, self.chain_id, [name])
        if name in known and known[name].status is not Status.DEAD:
            raise forbidden("order already published")

    def _take_order(
        self,
        decision: Decision,
        order: Order,
        name: OrderHash,
        wallet: Address,
        expires: int,
        read: Published,
        rewinds: int,
    ) -> Listing:
        """Decide on a publication in a turn. Raises InputError, _ReadAgain."""
        replica, book = decision.replica, decision.replica.book
        taken = replica.cursor.number if replica.cursor is not None else _NO_BLOCK
        if read.block.number < taken or rewinds != replica.rewinds:
            raise _ReadAgain("read before the market's last block")
        here, known = book.get(name), decision.known.get(name)
        if here is None and known is not None and known.status is not Status.DEAD:
            raise forbidden("order already published")
        now = max(int(self._clock() * 1000), replica.newest_time + 1)  # "the last published" is one order
        if expires and expires <= now:
            raise forbidden("expiresAt is over")
        remaining = order.volume - read.consumed
        published = here.published if here is not None else known.published if known is not None else now
        listing = listing_of(
            order,
            name,
            signer=wallet,
            remaining=max(remaining, 0),
            published=published,
            expires=expires,
        )
        self._check_limit(book, listing)
        if remaining <= 0:
            raise forbidden("order already consumed")
        facts = _facts_read(decision, listing, read)
        stake = next((fact.stake for fact, _ in facts if isinstance(fact, StakeRead)), book.stake(wallet))
        try:
            book.check(
                listing,
                stake=NRlc(0) if stake is None else stake,
                max_open=self._max_open,
                members=read.members,
            )
        except NoPartner as refusal:
            if not refusal.unread:
                raise
            again = _AskMembers("groups decide on this request")
            again.pairs = refusal.unread
            raise again from refusal
        decision.make(Step(listing=listing, read_at=read.block.number, facts=facts))
        return listing

    def _check_limit(self, book: Book, listing: Listing) -> None:
        """Before the volume, as the reference; the book checks it again with the rest."""
        kind = listing.kind
        if len(book.shelves[kind].of_signer(listing.signer)) >= self._max_open:
            raise forbidden(
                f"maximum of {self._max_open} published open {kind.value} has been reached for wallet "
                f"{listing.signer}"
            )

    async def _read_for(
        self, order: Order, name: OrderHash, wallet: Address, pairs: Sequence[Pair]
    ) -> Published:
        """Ask the chain everything about an order in one exchange; check what exists and who signed."""
        kind, hub = kind_of(order), self.settings.hub
        resource = resource_of(order)
        signer = order.requester if isinstance(order, RequestOrder) else wallet
        questions: list[Ask] = [
            _question(hub, views.view_consumed(name), views.decode_uint, "viewConsumed"),
            _account_question(hub, signer),
        ]
        if kind is not Kind.REQUEST:
            registry = getattr(self.registries, kind.value.removesuffix("order"))
            questions += _resource_questions(registry, resource)
        is_of_key = signer_of(name, order.sign) == signer
        questions.append(HasCode(signer) if is_of_key else self._is_signed(signer, name, order.sign))
        asked = len(questions)
        block, answers = await self.reads.ask([*questions, *map(membership_question, pairs)])
        consumed, account, *rest, last = answers[:asked]
        members = [membership_fact(pair, answer) for pair, answer in zip(pairs, answers[asked:], strict=True)]
        owner = signer
        if kind is not Kind.REQUEST:
            is_registered, owner = rest
            if is_registered is not True or owner is NO_ANSWER:
                raise forbidden(f"{kind.value.removesuffix('order').capitalize()} not deployed")
        if is_of_key and last:  # code decides for its account, whatever the account's key signed
            _, [last] = await self.reads.ask([self._is_signed(signer, name, order.sign)])
            is_of_key = False
        return Published(
            block=block,
            owner=owner,
            consumed=consumed,
            stake=account.stake,
            signed=is_of_key or last is True,
            members={(each.group, each.account): each.membership for each in members},
        )

    def _is_signed(self, signer: Address, name: OrderHash, sign: bytes) -> Question[Any]:
        """Whether a contract signed, or the order was signed on the chain: the hub says as in a match."""
        call = views.verify_presignature_or_signature(signer, name, sign)
        return _question(self.settings.hub, call, views.decode_bool, "verifyPresignatureOrSignature")

    async def is_signature_of_contract(self, wallet: Address, digest: Hash32, signature: bytes) -> bool:
        """Whether the contract at this address says that it signed. Raises Unavailable."""
        _, [has_code] = await self.reads.ask([HasCode(wallet)])
        if not has_code:
            return False
        call = views.verify_signature(wallet, digest, signature)
        question = _question(self.settings.hub, call, views.decode_bool, "verifySignature")
        _, [answer] = await self.reads.ask([question])
        return answer is True

    # --- unpublication --------------------------------------------------------------------------------------

    async def unpublish(self, kind: Kind, name: OrderHash, wallet: Address) -> list[OrderHash]:
        """Take one open order of the wallet off the market. Raises MarketRefusal (reference 4.8)."""

        def decide(decision: Decision, _: object) -> list[OrderHash]:
            listing = decision.replica.book.get(name)
            if listing is None or listing.kind is not kind or not listing.is_open:
                raise forbidden(f"{kind.value} with orderHash {name} is not published")
            if listing.signer != wallet:
                raise forbidden(f"only order signer {listing.signer} can unpublish an order")
            return _take_off(decision, [listing])

        return await self.clerk.ask(Wish(decide=decide))

    async def unpublish_of(
        self, kind: Kind, resource: Address, wallet: Address, *, only_last: bool
    ) -> list[OrderHash]:
        """Take the wallet's last open order on a resource off the market, or all of them, newest first."""

        def decide(decision: Decision, _: object) -> list[OrderHash]:
            found = decision.replica.book.open_of(kind, wallet, resource)
            if kind is Kind.REQUEST:
                found = [] if resource != wallet else found
            if not found:
                noun = "requester" if kind is Kind.REQUEST else kind.value.removesuffix("order")
                raise forbidden(f"no open {kind.value} published by signer {wallet} for {noun} {resource}")
            return _take_off(decision, found[:1] if only_last else found)

        return await self.clerk.ask(Wish(decide=decide))

    # --- the clock ------------------------------------------------------------------------------------------

    async def expire(self, term: int) -> None:
        """Let orders die whose publishers' end is over: the leader's duty. Raises Deposed, StorageFailed."""

        def decide(decision: Decision, _: object) -> None:
            end, now = decision.replica.book.next_end(), self.now()
            if end is not None and end <= now:
                decision.make(Step(facts=((TimePassed(now=now), _NO_BLOCK),)))

        await self.clerk.ask(Wish(decide=decide, term=term))

    def now(self) -> int:
        """Milliseconds since 1970."""
        return int(self._clock() * 1000)

    # --- reading --------------------------------------------------------------------------------------------

    async def order(self, kind: Kind, name: OrderHash, chain_text: str) -> bytes:
        """The document of one order in whatever status. Raises MarketRefusal (404)."""
        listing, status = self.book.get(name), None
        if listing is None or listing.kind is not kind:
            row = await asyncio.to_thread(self.storage.order, self.chain_id, kind, name)
            if row is None:
                raise not_found(kind.value)
            listing, status = row.listing, row.status
        return render(listing, chain_id=f'"{chain_text}"', status=status, is_item=False)


def _facts_read(decision: Decision, listing: Listing, read: Published) -> tuple[Dated, ...]:
    """What the reads for a publication mean for the whole book; what is known of a later block stays."""
    replica, at = decision.replica, read.block.number
    facts: list[Dated] = []
    if listing.need_per_task:
        wallet, stake = listing.signer, replica.book.stake(listing.signer)
        known_at = replica.stake_read_at.get(wallet, _NO_BLOCK)
        if at >= known_at or stake is None:
            facts.append((StakeRead(wallet=wallet, stake=read.stake), at))
    resource = listing.terms.resource
    if listing.kind is not Kind.REQUEST:
        known_at = replica.owner_read_at.get(resource, _NO_BLOCK)
        if at >= known_at or replica.book.owner(resource) is None:
            facts.append((ResourceOwned(resource=resource, owner=read.owner), at))
    for pair, membership in read.members.items():
        if at >= replica.member_read_at.get(pair, _NO_BLOCK):
            facts.append((MembershipRead(group=pair[0], account=pair[1], membership=membership), at))
    return tuple(facts)


def _take_off(decision: Decision, listings: Sequence[Listing]) -> list[OrderHash]:
    names = [listing.hash for listing in listings]
    decision.make(Step(facts=tuple((OrderUnpublished(order_hash=name), _NO_BLOCK) for name in names)))
    return names


@lru_cache(maxsize=4096)
def _account_question(hub: Address, wallet: Address) -> Question[Any]:
    """Made once for all orders of a wallet: their publications ask the same."""
    return _question(hub, views.view_account(wallet), views.decode_account, "viewAccount")


@lru_cache(maxsize=4096)
def _resource_questions(registry: Address, resource: Address) -> tuple[Question[Any], ...]:
    """Whether the resource exists, and whose it is."""
    return (
        _question(registry, views.is_registered(resource), views.decode_bool, "isRegistered"),
        _question(resource, views.owner(), views.decode_address, "owner"),
    )


def _question(to: Address, call: bytes, read: Callable[[bytes], Any], what: str) -> Question[Any]:
    return Question(to=to, call=call, read=read, what=what)
