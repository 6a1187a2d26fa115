"""Random histories of a book; its invariants hold after every step, and a restored book is the same book."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from offers import APP, DATASET, NOBODY, address, app, dataset, pool, request
from poolwright.orderbook.book import (
    Book,
    BookRefusal,
    Fact,
    MembershipRead,
    OrderClosed,
    OrderConsumed,
    OrderReread,
    OrderUnpublished,
    ResourceOwned,
    StakeRead,
    TimePassed,
)
from poolwright.orderbook.groups import Membership, Pair
from poolwright.orderbook.invariants import check_book
from poolwright.orderbook.listing import Block, Kind, Listing, listing_of, order_of
from poolwright.poco.types import Address, NRlc, OrderHash

WALLETS = [address(name) for name in ("one", "two", "three")]
POOLS = [address("pool 1"), address("pool 2")]
GROUPS = [address("group 1"), address("group 2")]
RESOURCES = [APP, DATASET, *POOLS]
START = 1_700_000_000_000


class BookMachine(RuleBasedStateMachine):
    """A market of three wallets that all own everything in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.book = Book()
        self.stakes = dict.fromkeys(WALLETS, 100)
        self.owners = dict.fromkeys(RESOURCES, WALLETS[0])
        self.answers: dict[Pair, Membership] = {}
        self.now = 0
        self.seen: list[Listing] = []

    def publish(self, offer: Listing) -> None:
        facts: list[Fact] = [StakeRead(wallet=offer.signer, stake=NRlc(self.stakes[offer.signer]))]
        if offer.kind is not Kind.REQUEST:
            facts.append(
                ResourceOwned(resource=offer.terms.resource, owner=self.owners[offer.terms.resource])
            )
        try:
            members = self.memberships()
            self.book.check(offer, stake=NRlc(self.stakes[offer.signer]), max_open=5, members=members)
        except BookRefusal:
            return
        facts += _reads(members)
        changes = self.book.publish(offer, facts)
        assert offer.is_open
        assert changes[0].listing is offer
        self.seen.append(offer)

    @rule(
        price=st.integers(0, 3),
        restrict=st.sampled_from([NOBODY, WALLETS[0], *GROUPS]),
        pool=st.sampled_from([NOBODY, GROUPS[0]]),
        volume=st.integers(1, 3),
    )
    def publish_app(self, price: int, restrict: Address, pool: Address, volume: int) -> None:
        self.publish(
            app(
                appprice=NRlc(price),
                requesterrestrict=restrict,
                workerpoolrestrict=pool,
                volume=volume,
                signer=self.owners[APP],
                at=self.now,
            )
        )

    @rule(price=st.integers(0, 3), volume=st.integers(1, 3))
    def publish_dataset(self, price: int, volume: int) -> None:
        self.publish(
            dataset(datasetprice=NRlc(price), volume=volume, signer=self.owners[DATASET], at=self.now)
        )

    @rule(
        price=st.integers(0, 100),
        volume=st.integers(1, 3),
        resource=st.sampled_from(POOLS),
        life=st.integers(0, 4),
    )
    def publish_pool(self, price: int, volume: int, resource: Address, life: int) -> None:
        self.publish(
            pool(
                workerpool=resource,
                workerpoolprice=NRlc(price),
                volume=volume,
                signer=self.owners[resource],
                at=self.now,
                expires=START + self.now + life * 10 if life else 0,
            )
        )

    @rule(
        cap=st.integers(0, 40),
        volume=st.integers(1, 3),
        wallet=st.sampled_from(WALLETS),
        data=st.booleans(),
        pool=st.sampled_from([NOBODY, POOLS[0], *GROUPS]),
    )
    def publish_request(self, cap: int, volume: int, wallet: Address, data: bool, pool: Address) -> None:
        self.publish(
            request(
                appmaxprice=NRlc(2),
                datasetmaxprice=NRlc(2),
                workerpoolmaxprice=NRlc(cap),
                volume=volume,
                dataset=DATASET if data else NOBODY,
                workerpool=pool,
                signer=wallet,
                at=self.now,
            )
        )

    @rule(wallet=st.sampled_from(WALLETS), stake=st.integers(0, 150))
    def stake_changes(self, wallet: Address, stake: int) -> None:
        self.stakes[wallet] = stake
        self.book.apply([StakeRead(wallet=wallet, stake=NRlc(stake))])

    @rule(
        group=st.sampled_from([*GROUPS, POOLS[0], WALLETS[0]]),
        account=st.sampled_from([*GROUPS, *WALLETS, POOLS[0]]),
        answer=st.sampled_from(Membership),
    )
    def membership_is_read(self, group: Address, account: Address, answer: Membership) -> None:
        self.answers[group, account] = answer
        self.book.apply([MembershipRead(group=group, account=account, membership=answer)])

    @rule()
    def unknown_memberships_are_read(self) -> None:
        unknown = list(self.book.unknown_memberships())
        self.book.apply(_reads({pair: self.answers.get(pair, Membership.NO_GROUP) for pair in unknown}))
        assert list(self.book.unknown_memberships()) == []

    def memberships(self) -> dict[Pair, Membership]:
        """Whatever a publication could ask."""
        parties = [*GROUPS, *WALLETS, *POOLS]
        return {
            (group, account): self.answers.get((group, account), Membership.NO_GROUP)
            for group in parties
            for account in parties
        }

    @rule(resource=st.sampled_from(RESOURCES), owner=st.sampled_from(WALLETS))
    def resource_is_sold(self, resource: Address, owner: Address) -> None:
        self.owners[resource] = owner
        self.book.apply([ResourceOwned(resource=resource, owner=owner)])

    @rule(pick=st.integers(0, 50), consumed=st.integers(0, 3), stake=st.integers(0, 100))
    def orders_are_matched(self, pick: int, consumed: int, stake: int) -> None:
        if self.seen:
            order = self.seen[pick % len(self.seen)]
            self.stakes[order.signer] = stake
            self.book.apply(
                [
                    StakeRead(wallet=order.signer, stake=NRlc(stake)),
                    OrderConsumed(order_hash=order.hash, consumed=consumed),
                ]
            )

    @rule(pick=st.integers(0, 50), is_closed=st.booleans())
    def order_leaves(self, pick: int, is_closed: bool) -> None:
        if self.seen:
            order_hash = OrderHash(self.seen[pick % len(self.seen)].hash)
            leave = OrderClosed if is_closed else OrderUnpublished
            self.book.apply([leave(order_hash=order_hash)])

    @rule(pick=st.integers(0, 50), consumed=st.integers(0, 3))
    def chain_is_reorganised(self, pick: int, consumed: int) -> None:
        if self.seen:
            order = self.seen[pick % len(self.seen)]
            known = self.book.get(order.hash)
            left = max(order.volume - consumed, 0)
            again = listing_of(
                order_of(order),
                order.hash,
                signer=order.signer,
                remaining=left,
                published=order.published,
                expires=0 if known is None else known.expires,
            )
            stake = self.stakes[order.signer]
            facts: list[Fact] = [
                OrderReread(listing=again),
                StakeRead(wallet=order.signer, stake=NRlc(stake)),
            ]
            resource = order.terms.resource
            if order.kind is not Kind.REQUEST:
                facts.append(ResourceOwned(resource=resource, owner=self.owners[resource]))
            self.book.apply(facts)
            assert (order.hash in self.book) == (left > 0)
            self.seen[pick % len(self.seen)] = self.book.get(order.hash) or again

    @rule(seconds=st.integers(1, 20))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds
        self.book.apply([TimePassed(now=START + self.now)])

    @invariant()
    def rules_of_the_book_hold(self) -> None:
        check_book(self.book)

    def teardown(self) -> None:
        stored = [
            listing_of(
                order_of(each),
                each.hash,
                signer=each.signer,
                remaining=each.remaining,
                published=each.published,
                blocks=Block(each.blocks),
                expires=each.expires,
            )
            for each in self.book.listings()
        ]
        facts: list[Fact] = [
            *(StakeRead(wallet=wallet, stake=NRlc(stake)) for wallet, stake in self.stakes.items()),
            *(ResourceOwned(resource=resource, owner=owner) for resource, owner in self.owners.items()),
            *_reads(self.book.known_memberships()),
        ]
        again = Book()
        assert again.restore(stored, facts) == []
        check_book(again)
        for kind in Kind:
            assert [each.hash for each in again.shelves[kind].all()] == [
                each.hash for each in self.book.shelves[kind].all()
            ]


def _reads(members: Mapping[Pair, Membership]) -> list[Fact]:
    return [
        MembershipRead(group=group, account=account, membership=answer)
        for (group, account), answer in members.items()
    ]


TestBookMachine = BookMachine.TestCase
TestBookMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
