"""Whether four orders make a deal, and which: the checks of `matchOrders`, in the contract's order.

An app order, a dataset order (or the empty one), a workerpool order and a request order match when their
terms agree, each allows the others, each is signed by whoever owns the thing at this moment, and each has
volume left. The contract stops at the first check that fails with the text `iExecV5-matchOrders-0xNN`;
`match` stops at the same one and says in words which fields disagree. What only the chain knows (owners,
registries, consumed volumes) is asked through `HubFacts`, as late as the contract asks it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from poolwright.poco import ids, rewards
from poolwright.poco.errors import InputError
from poolwright.poco.orders import (
    AppOrder,
    DatasetOrder,
    Domain,
    RequestOrder,
    WorkerpoolOrder,
    order_hash,
)
from poolwright.poco.records import Deal, Resource
from poolwright.poco.revert import uint256
from poolwright.poco.tags import TEE, TEE_FRAMEWORKS, Tag
from poolwright.poco.types import Address, DealId, Hash32, NRlc, OrderHash, Timestamp

NOBODY: Final = Address.zero()


class EntryKind(Enum):
    """The three registries and what they hold."""

    APP = "app"
    DATASET = "dataset"
    WORKERPOOL = "workerpool"


class Release(Enum):
    """The contract releases in use that differ in a matching rule."""

    V6_1 = "6.1.0"
    """Newest on npm; local networks run it."""
    V6_2 = "6.2.0"
    """Live on Arbitrum: the TEE framework bits of a dataset order are ignored."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A workerpool's terms, in percent of its price; copied into each deal at the match."""

    worker_stake_ratio: int = 30
    """What a worker locks per contribution; may exceed 100."""
    scheduler_reward_ratio: int = 1
    """What the pool's owner keeps; at most 100."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """The four orders of one match; `NULL_DATASETORDER` stands for no dataset."""

    app: AppOrder
    dataset: DatasetOrder
    workerpool: WorkerpoolOrder
    request: RequestOrder


class HubFacts(Protocol):
    """What a match needs to know from the chain, at one block."""

    def category_count(self) -> int:
        """Return how many categories there are; valid ids are below it."""

    def owner_of(self, entry: Address) -> Address:
        """Return the answer of `owner()` at this address. Raises Revert when nothing there answers."""

    def is_registered(self, kind: EntryKind, entry: Address) -> bool:
        """Tell whether the registry of this kind holds the entry."""

    def policy(self, workerpool: Address) -> Policy:
        """Return the pool's present policy."""

    def consumed(self, order_hash: OrderHash) -> int:
        """Return how many tasks of the order are already in deals (all of them once it is closed)."""

    def is_signed(self, signer: Address, order_hash: OrderHash, sign: bytes) -> bool:
        """Tell whether the signer signed or presigned this. Raises Revert for an unknown form."""

    def is_member(self, group: Address, account: Address) -> bool:
        """Tell whether `group` is an ERC-734 contract that counts the account among its members."""


class MatchRejected(InputError):
    """These orders do not match; change the named fields, or take other orders."""

    def __init__(
        self, number: int, what: str, *, fields: tuple[str, ...], expected: str, got: str, next_step: str = ""
    ) -> None:
        self.number = number
        """The contract's number of the check, 0x00 to 0x60."""
        self.reason = f"iExecV5-matchOrders-0x{number:02x}"
        """The contract's text, which is also the error's code."""
        self.fields = fields
        """The order fields that disagree, as `requestorder.category`."""
        super().__init__(
            f"orders do not match (0x{number:02x}): {what}",
            code=self.reason,
            expected=expected,
            got=got,
            next_step=next_step,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DealTerms:
    """A deal that may be made: everything of it but who pays and when it starts."""

    deal_id: DealId
    app_hash: OrderHash
    dataset_hash: OrderHash
    """Zero without a dataset."""
    workerpool_hash: OrderHash
    request_hash: OrderHash
    volume: int
    app: Resource
    dataset: Resource
    workerpool: Resource
    trust: int
    category: int
    tag: Tag
    requester: Address
    beneficiary: Address
    callback: Address
    params: str
    bot_first: int
    worker_stake: NRlc
    scheduler_reward_ratio: int

    def payer_lock(self) -> NRlc:
        """Return what the payer locks for all tasks. Raises Revert when it does not fit in 256 bits."""
        per_task = uint256(self.app.price + self.dataset.price + self.workerpool.price)
        return NRlc(uint256(per_task * self.volume))

    def scheduler_lock(self) -> NRlc:
        """Return what the pool's owner locks for all tasks. Raises Revert when it does not fit."""
        uint256(self.workerpool.price * rewards.WORKERPOOL_STAKE_RATIO)
        return NRlc(uint256(rewards.pool_stake(self.workerpool.price) * self.volume))

    def deal(self, *, start_time: Timestamp, sponsor: Address) -> Deal:
        """Return the deal as the hub records it at the block time of the match."""
        return Deal(
            app=self.app,
            dataset=self.dataset,
            workerpool=self.workerpool,
            trust=self.trust,
            category=self.category,
            tag=self.tag,
            requester=self.requester,
            beneficiary=self.beneficiary,
            callback=self.callback,
            params=self.params,
            start_time=start_time,
            bot_first=self.bot_first,
            bot_size=self.volume,
            worker_stake=self.worker_stake,
            scheduler_reward_ratio=self.scheduler_reward_ratio,
            sponsor=sponsor,
        )


def match(orders: Orders, facts: HubFacts, domain: Domain, *, release: Release = Release.V6_1) -> DealTerms:
    """Return the terms of the deal that these orders make now.

    Raises MatchRejected with the contract's number, and Revert where the contract fails outside its
    numbered checks (no owner at an address, a signature of no known form, numbers beyond 256 bits).
    Whether payer and pool owner have the money is not looked at here: see `payer_lock`, `scheduler_lock`.
    Rule: Poco1 `matchOrders`.
    """
    tag = check_terms(orders, facts.category_count(), release=release)
    check_restrictions(orders, facts)

    app, dataset, pool, request = orders.app, orders.dataset, orders.workerpool, orders.request
    has_dataset = bool(dataset.dataset)

    app_hash = order_hash(app, domain)
    app_owner = _owner(facts, EntryKind.APP, app.app, app_hash, app.sign, 0x20)
    dataset_hash = OrderHash(Hash32.zero())
    dataset_owner = NOBODY
    if has_dataset:
        dataset_hash = order_hash(dataset, domain)
        dataset_owner = _owner(facts, EntryKind.DATASET, dataset.dataset, dataset_hash, dataset.sign, 0x30)
    pool_hash = order_hash(pool, domain)
    pool_owner = _owner(facts, EntryKind.WORKERPOOL, pool.workerpool, pool_hash, pool.sign, 0x40)
    request_hash = order_hash(request, domain)
    if not facts.is_signed(request.requester, request_hash, request.sign):
        raise _unsigned(0x50, "requestorder", request.requester)

    left = {
        "apporder": uint256(app.volume - facts.consumed(app_hash)),
        "workerpoolorder": uint256(pool.volume - facts.consumed(pool_hash)),
        "requestorder": uint256(request.volume - facts.consumed(request_hash)),
    }
    if has_dataset:
        left["datasetorder"] = uint256(dataset.volume - facts.consumed(dataset_hash))
    volume = min(left.values())
    if volume == 0:
        used_up = tuple(name for name, rest in left.items() if rest == 0)
        raise MatchRejected(
            0x60,
            f"{', '.join(used_up)}: no volume left",
            fields=tuple(f"{name}.volume" for name in used_up),
            expected="at least 1",
            got="0, all used by deals or closed",
            next_step="publish a new order",
        )

    bot_first = facts.consumed(request_hash)
    policy = facts.policy(pool.workerpool)
    uint256(pool.workerpoolprice * policy.worker_stake_ratio)
    return DealTerms(
        deal_id=ids.deal_id(request_hash, bot_first),
        app_hash=app_hash,
        dataset_hash=dataset_hash,
        workerpool_hash=pool_hash,
        request_hash=request_hash,
        volume=volume,
        app=Resource(pointer=app.app, owner=app_owner, price=app.appprice),
        dataset=Resource(
            pointer=dataset.dataset,
            owner=dataset_owner,
            price=dataset.datasetprice if has_dataset else NRlc(0),
        ),
        workerpool=Resource(pointer=pool.workerpool, owner=pool_owner, price=pool.workerpoolprice),
        trust=max(request.trust, 1),
        category=request.category,
        tag=tag,
        requester=request.requester,
        beneficiary=request.beneficiary,
        callback=request.callback,
        params=request.params,
        bot_first=bot_first,
        worker_stake=rewards.worker_stake(pool.workerpoolprice, policy.worker_stake_ratio),
        scheduler_reward_ratio=policy.scheduler_reward_ratio,
    )


def check_terms(orders: Orders, category_count: int, *, release: Release = Release.V6_1) -> Tag:
    """Check category, trust, prices and tags (0x00 to 0x07); return the deal's tag. Raises MatchRejected."""
    app, dataset, pool, request = orders.app, orders.dataset, orders.workerpool, orders.request
    if request.category != pool.category:
        raise _differs(0x00, "category", "requestorder.category", request.category, pool.category)
    if request.category >= category_count:
        raise MatchRejected(
            0x01,
            f"category {request.category} does not exist",
            fields=("requestorder.category",),
            expected=f"below {category_count}",
            got=str(request.category),
        )
    if request.trust > pool.trust:
        raise MatchRejected(
            0x02,
            "the request wants more trust than the pool offers",
            fields=("requestorder.trust", "workerpoolorder.trust"),
            expected=f"at most {pool.trust}",
            got=str(request.trust),
        )
    if app.appprice > request.appmaxprice:
        raise _too_dear(0x03, "app", app.appprice, request.appmaxprice)
    if dataset.datasetprice > request.datasetmaxprice:
        raise _too_dear(0x04, "dataset", dataset.datasetprice, request.datasetmaxprice)
    if pool.workerpoolprice > request.workerpoolmaxprice:
        raise _too_dear(0x05, "workerpool", pool.workerpoolprice, request.workerpoolmaxprice)

    dataset_tag = dataset.tag
    if release is Release.V6_2:
        dataset_tag = TEE_FRAMEWORKS.lacks(dataset.tag)
    tag = app.tag | dataset_tag | request.tag
    missing = pool.tag.lacks(tag)
    if missing:
        raise MatchRejected(
            0x06,
            "the pool lacks flags that app, dataset or request demand",
            fields=("workerpoolorder.tag",),
            expected=f"{', '.join(tag.names)}",
            got=f"no {', '.join(missing.names)}",
        )
    if tag & TEE and not app.tag & TEE:
        raise MatchRejected(
            0x07,
            "dataset or request demand an enclave and the app does not run in one",
            fields=("apporder.tag",),
            expected="tee",
            got=", ".join(app.tag.names) or "no flag",
        )
    return tag


def check_restrictions(orders: Orders, facts: HubFacts) -> None:
    """Check that the orders speak of the same things and allow each other (0x10 to 0x1b).

    Raises MatchRejected. A restriction of zero allows anybody, an account allows itself, an ERC-734
    contract its members.
    """
    app, dataset, pool, request = orders.app, orders.dataset, orders.workerpool, orders.request
    if request.app != app.app:
        raise _differs(0x10, "app", "requestorder.app", request.app, app.app)
    if request.dataset != dataset.dataset:
        raise _differs(0x11, "dataset", "requestorder.dataset", request.dataset, dataset.dataset)
    the_app, the_dataset, the_pool, requester = app.app, dataset.dataset, pool.workerpool, request.requester
    for number, field, restriction, account in (
        (0x12, "requestorder.workerpool", request.workerpool, the_pool),
        (0x13, "apporder.datasetrestrict", app.datasetrestrict, the_dataset),
        (0x14, "apporder.workerpoolrestrict", app.workerpoolrestrict, the_pool),
        (0x15, "apporder.requesterrestrict", app.requesterrestrict, requester),
        (0x16, "datasetorder.apprestrict", dataset.apprestrict, the_app),
        (0x17, "datasetorder.workerpoolrestrict", dataset.workerpoolrestrict, the_pool),
        (0x18, "datasetorder.requesterrestrict", dataset.requesterrestrict, requester),
        (0x19, "workerpoolorder.apprestrict", pool.apprestrict, the_app),
        (0x1A, "workerpoolorder.datasetrestrict", pool.datasetrestrict, the_dataset),
        (0x1B, "workerpoolorder.requesterrestrict", pool.requesterrestrict, requester),
    ):
        if restriction in (NOBODY, account) or facts.is_member(restriction, account):
            continue
        raise MatchRejected(
            number,
            f"{field} does not allow this partner",
            fields=(field,),
            expected=f"{restriction} or a member of that group",
            got=str(account),
        )


def _owner(
    facts: HubFacts, kind: EntryKind, entry: Address, order_hash: OrderHash, sign: bytes, number: int
) -> Address:
    """Return who owns the entry, having checked that it is registered and its order signed by that owner."""
    owner = facts.owner_of(entry)
    if not facts.is_registered(kind, entry):
        raise MatchRejected(
            number,
            f"{entry} is not in the {kind.value} registry",
            fields=(f"{kind.value}order.{kind.value}",),
            expected=f"a registered {kind.value}",
            got=str(entry),
        )
    if not facts.is_signed(owner, order_hash, sign):
        raise _unsigned(number + 1, f"{kind.value}order", owner)
    return owner


def _differs(number: int, what: str, field: str, asked: object, offered: object) -> MatchRejected:
    other = "workerpoolorder.category" if number == 0 else f"{what}order.{what}"
    return MatchRejected(
        number,
        f"the request asks for another {what}",
        fields=(field, other),
        expected=str(offered),
        got=str(asked),
    )


def _too_dear(number: int, what: str, price: NRlc, limit: NRlc) -> MatchRejected:
    return MatchRejected(
        number,
        f"the {what} costs more than the request pays",
        fields=(f"{what}order.{what}price", f"requestorder.{what}maxprice"),
        expected=f"at most {limit} nRLC",
        got=f"{price} nRLC",
    )


def _unsigned(number: int, order: str, signer: Address) -> MatchRejected:
    return MatchRejected(
        number,
        f"{order} is not signed by {signer}",
        fields=(f"{order}.sign",),
        expected=f"a signature or presignature of {signer}",
        got="another signer, other terms, or another hub",
        next_step="sign the order again on this chain",
    )
