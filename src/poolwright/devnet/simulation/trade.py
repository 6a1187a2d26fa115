"""Who trades: owners that publish orders, close them and move their money, and brokers that match them.

The deals of the plan are matched by their requesters with orders of their own; those of the market come from
what is open in its book. Both kinds of orders are published, some with an end.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from poolwright.chain.wallet import Wallet
from poolwright.devnet.simulation.chain import CONFIRMATIONS, GENESIS, Chain, Tx
from poolwright.devnet.simulation.clock import SECOND, Clock
from poolwright.devnet.simulation.faults import Chance
from poolwright.devnet.simulation.machine import App
from poolwright.devnet.simulation.market import MarketProcess
from poolwright.devnet.simulation.story import Story
from poolwright.orderbook.listing import Kind, kind_of, order_of
from poolwright.orderbook.match import best_match
from poolwright.poco.errors import PoolwrightError
from poolwright.poco.keccak import keccak
from poolwright.poco.matching import EntryKind, Orders
from poolwright.poco.model import Call, Emitted, Poco
from poolwright.poco.orders import (
    NULL_DATASETORDER,
    AppOrder,
    Order,
    RequestOrder,
    WorkerpoolOrder,
    order_hash,
)
from poolwright.poco.records import AppInfo, OrderOperation
from poolwright.poco.tags import GPU, SCONE, TEE, Tag
from poolwright.poco.types import Address, Hash32, NRlc, OrderHash

NOBODY: Final = Address.zero()
TRIES: Final = 4
"""How often an order is offered to a market that refuses it or does not answer."""
ANSWER_SECONDS: Final = 60
"""After which who publishes takes a market for dead."""


def name_hash(name: str) -> Hash32:
    """A hash that stands for something named."""
    return Hash32(keccak(name.encode()))


def address_of(name: str) -> Address:
    """The address of somebody who has no key."""
    return Address(keccak(name.encode())[:20])


REQUESTER: Final = address_of("requester")
PROVIDER: Final = address_of("provider")
BUYER: Final = address_of("buyer")
"""Buys the app now and then, and sells it back."""
CONTRACTS: Final = frozenset({REQUESTER, PROVIDER, BUYER})
"""Wallets that are contracts and sign everything."""
APP: Final = AppInfo(
    owner=PROVIDER,
    name="app",
    type="DOCKER",
    multiaddr=b"docker.io/app:1",
    checksum=Hash32.zero(),
    mrenclave=b"",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DealPlan:
    """A deal that will be made: when, for how many tasks, of what kind."""

    number: int
    at: int
    """Milliseconds after the beginning."""
    tasks: int
    trust: int
    category: int
    app: App
    tag: Tag
    has_callback: bool


class Trade:
    """Everybody who owns orders. `owner` is the pool's."""

    def __init__(
        self,
        *,
        chain: Chain,
        clock: Clock,
        chance: Chance,
        story: Story,
        market: MarketProcess,
        owner: Wallet,
        workerpool: Address,
    ) -> None:
        self.published: Final[dict[OrderHash, Order]] = {}
        """Every order that a market has ever taken."""
        self.unpublished: Final[set[OrderHash]] = set()
        self.counts: Final[Counter[str]] = Counter()
        self._chain = chain
        self._poco = chain.poco
        self._clock = clock
        self._chance = chance
        self._story = story
        self._market = market
        self._owner = owner
        self._workerpool = workerpool
        self._matches = 0

    # --- deals ----------------------------------------------------------------------------------------------

    def make_deal(self, plan: DealPlan) -> None:
        """The plan's deal, and the orders that lead to it or to another one on the market."""
        orders = self._orders(plan, plan.tasks, f"salt {plan.number}")
        tx = self._match(f"deal {plan.number}", orders)
        self._clock.at(plan.at, lambda: self._insist(tx))
        draw = self._chance.of(f"offers of deal {plan.number}")
        if draw.random() < 0.5:
            self._offer(orders, plan.at - draw.randint(-60, 120) * SECOND)
        if draw.random() < 0.5:
            volume = draw.randint(1, 4)
            self._offer(
                self._orders(plan, volume, f"salt of the market {plan.number}"),
                plan.at + draw.randint(-300, 300) * SECOND,
            )

    def broke(self) -> None:
        """Match something of the book, and come back later."""
        draw = self._chance.of("broker")
        if self._chance.is_calm:
            return
        self._clock.after(draw.randint(20, 120) * SECOND, self.broke)
        if not self._market.is_up:
            return
        book = self._market.book
        requests = list(book.shelves[Kind.REQUEST].all())
        found = best_match(book, draw.choice(requests)) if requests else None
        if found is None:
            return
        app, pool, request = (order_of(each) for each in (found.app, found.workerpool, found.request))
        assert isinstance(app, AppOrder)
        assert isinstance(pool, WorkerpoolOrder)
        assert isinstance(request, RequestOrder)
        orders = Orders(app=app, dataset=NULL_DATASETORDER, workerpool=pool, request=request)
        self._matches += 1
        self.counts["matches of the market"] += 1
        self._chain.send(self._match(f"match {self._matches} of the market", orders))

    def _match(self, key: str, orders: Orders) -> Tx:
        def match(poco: Poco, call: Call) -> tuple[Emitted, ...]:
            return poco.match_orders(call, orders)

        return Tx(key=key, sender=orders.request.requester, run=match)

    def _insist(self, tx: Tx) -> None:
        """Send it again and again until it is mined for good: requesters are patient."""
        if tx.mined_in is None or tx.mined_in > len(self._chain.blocks) - CONFIRMATIONS:
            if tx.mined_in is None and not self._chain.knows(tx):
                self._chain.send(tx)
            self._clock.after(30 * SECOND, lambda: self._insist(tx))

    def _orders(self, plan: DealPlan, volume: int, salt_name: str) -> Orders:
        salt = name_hash(salt_name)
        app = AppOrder(
            app=self._poco.apps.predict(APP), appprice=NRlc(100), volume=volume, tag=plan.tag,
            datasetrestrict=NOBODY, workerpoolrestrict=NOBODY, requesterrestrict=NOBODY, salt=salt,
            sign=bytes(65),
        )  # fmt: skip
        pool = WorkerpoolOrder(
            workerpool=self._workerpool, workerpoolprice=NRlc(100_003), volume=volume,
            tag=TEE | SCONE | GPU, category=plan.category, trust=100, apprestrict=NOBODY,
            datasetrestrict=NOBODY, requesterrestrict=NOBODY, salt=salt,
        )  # fmt: skip
        request = RequestOrder(
            app=app.app, appmaxprice=NRlc(100), dataset=NOBODY, datasetmaxprice=NRlc(0),
            workerpool=self._workerpool, workerpoolmaxprice=NRlc(100_003), requester=REQUESTER,
            volume=volume, tag=plan.tag, category=plan.category, trust=plan.trust, beneficiary=REQUESTER,
            callback=address_of("callback") if plan.has_callback else NOBODY,
            params=f'{{"iexec_args": "{plan.app}"}}', salt=salt, sign=bytes(65),
        )  # fmt: skip
        digest = Hash32(order_hash(pool, self._poco.domain))
        pool = replace(pool, sign=self._owner.sign_digest(digest))
        return Orders(app=app, dataset=NULL_DATASETORDER, workerpool=pool, request=request)

    # --- the market -----------------------------------------------------------------------------------------

    def _offer(self, orders: Orders, at: int) -> None:
        """Publish orders, the request after what serves it."""
        draw = self._chance.of("offers")
        offered: tuple[Order, ...] = (orders.app, orders.workerpool, orders.request)
        for place, order in enumerate(offered):
            life = draw.randint(60, 3600) * SECOND if draw.random() < 0.2 else 0
            self._clock.at(max(at, 0) + place * 10 * SECOND, partial(self._publish, order, life, TRIES))

    def _publish(self, order: Order, life: int, tries: int) -> None:
        """Offer an order to the market, and again while it does not take it."""
        name = order_hash(order, self._poco.domain)
        if not tries or self._chance.is_calm:
            return
        is_answered = False

        def again() -> None:
            if not is_answered:
                self._publish(order, life, tries - 1)

        def answered(refusal: PoolwrightError | None) -> None:
            nonlocal is_answered
            if refusal is None or "already published" in str(refusal):
                is_answered = True
                self.published[name] = order
                self.counts["orders published"] += 1
                self._story.note("market", f"takes {order.KIND} {name}", None)
            else:
                self.counts["orders refused"] += 1

        if self._market.is_up:
            now = GENESIS * SECOND + self._clock.now
            expires = now + life if life else 0
            wallet = self.owner_of(order)
            self._market.request(lambda market: market.publish(order, wallet, expires=expires), answered)
        wait = ANSWER_SECONDS + self._chance.of("offers").randint(0, 120)
        self._clock.after(wait * SECOND, again)

    def owner_of(self, order: Order) -> Address:
        """Whose order it is."""
        match order:
            case AppOrder():
                return PROVIDER
            case WorkerpoolOrder():
                return self._owner.address
            case _:
                return REQUESTER

    # --- what owners do meanwhile ---------------------------------------------------------------------------

    def close_an_order(self) -> None:
        """An owner takes an order back: on the chain, or on the market alone."""
        draw = self._chance.of("closures")
        if not self.published:
            return
        name = draw.choice(sorted(self.published))
        order = self.published[name]
        wallet = self.owner_of(order)
        if draw.random() < 0.7:
            self._story.note("owner", f"closes {order.KIND} {name}", None)
            self.counts["orders closed"] += 1

            def close(poco: Poco, call: Call) -> tuple[Emitted, ...]:
                return poco.manage_order(call, order, OrderOperation.CLOSE)

            self._chain.send(Tx(key=f"closure of {name}", sender=wallet, run=close))
        elif self._market.is_up:

            def answered(refusal: PoolwrightError | None) -> None:
                if refusal is None:
                    self.unpublished.add(name)
                    self.counts["orders unpublished"] += 1

            self._market.request(lambda market: market.unpublish(kind_of(order), name, wallet), answered)

    def move_stake(self, owner: Address, who: str) -> None:
        """An owner takes the free stake away, and brings it back after a while."""
        amount = self._poco.account(owner).stake
        if not amount:
            return
        self._story.note(who, "has its stake withdrawn", None)
        self._chain.send(Tx(key="withdraw", sender=owner, run=lambda poco, call: poco.withdraw(call, amount)))

        def deposit(poco: Poco, call: Call) -> tuple[Emitted, ...]:
            poco.rlc_approve(call, poco.hub, amount)
            return poco.deposit(call, amount)

        back = self._chance.of("stakes").randint(60, 1800) * SECOND
        tx = Tx(key="deposit", sender=owner, run=deposit)
        self._clock.after(back, lambda: self._chain.send(tx))

    def move_a_purse(self) -> None:
        """The same of the requester or the pool's owner: their orders are not covered meanwhile."""
        owner = self._chance.of("purses").choice((REQUESTER, self._owner.address))
        self.counts["purses emptied"] += 1
        self.move_stake(owner, "requester" if owner == REQUESTER else "owner")

    def sell_the_app(self) -> None:
        """The app changes hands for a while: orders of the one who does not own it are dead."""
        self.counts["apps sold"] += 1
        self._story.note("provider", "sells the app", None)
        self._hand_over(PROVIDER, BUYER)
        wait = self._chance.of("sales").randint(30, 900) * SECOND
        self._clock.after(wait, lambda: self._hand_over(BUYER, PROVIDER))

    def _hand_over(self, seller: Address, buyer: Address) -> None:
        def transfer(poco: Poco, call: Call) -> tuple[Emitted, ...]:
            return poco.transfer_entry(call, EntryKind.APP, seller, buyer, poco.apps.predict(APP))

        self._chain.send(Tx(key="sale", sender=seller, run=transfer))
