"""Typed reads of the hub, its token and its registries, each at a BlockStamp.

`at=None` reads whatever the node has now; a mind's facts are read at a stamp.  A node that does not have the
stamp's block yet (it lags behind the one that told us of it) is asked again for a while.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from poolwright.chain.blocks import at_block
from poolwright.chain.encoding import Json, hex_data, read_data, read_quantity
from poolwright.chain.reverts import is_missing_block, revert_reason
from poolwright.chain.rpc import Request, Rpc, RpcError, back_off
from poolwright.poco import views
from poolwright.poco.errors import InputError, PeerError, PoolwrightError, Unavailable
from poolwright.poco.orders import Domain
from poolwright.poco.records import (
    Account,
    AppInfo,
    Category,
    Contribution,
    DatasetInfo,
    Deal,
    OnchainTask,
    WorkerpoolInfo,
)
from poolwright.poco.types import Address, BlockStamp, DealId, Hash32, NRlc, OrderHash, TaskId, Wei

LAG_ATTEMPTS: Final = 8
"""How often a node that lags is asked for a block, with growing waits: about five seconds in all."""

T = TypeVar("T")


class CallReverted(PoolwrightError):
    """The contract refuses to answer this question; check that what it is about exists."""

    def __init__(self, reason: str, what: str) -> None:
        self.reason = reason
        super().__init__(f"{what} reverts", code="call-reverted", got=reason or "no reason given")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question(Generic[T]):
    """A view call and how to read its answer; `what` names it in errors."""

    to: Address
    call: bytes
    read: Callable[[bytes], T]
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DealDetails:
    """A deal with everything that a scheduler needs to know before it makes tasks of it."""

    deal_id: DealId
    deal: Deal
    app: AppInfo
    dataset: DatasetInfo | None
    workerpool: WorkerpoolInfo
    category: Category


@dataclass(frozen=True, slots=True, kw_only=True)
class HubContracts:
    """The contracts that belong to a hub; `token` is zero where the chain's coin is xRLC."""

    token: Address
    app_registry: Address
    dataset_registry: Address
    workerpool_registry: Address


class HubReader:
    """Reads one hub through one Rpc.

    A node that does not have a block yet is asked `lag_attempts` times.
    Every method raises Unavailable when no node answers, RpcError when it refuses, PeerError when the
    answer is not what the contract gives, and CallReverted where the contract reverts.
    """

    def __init__(self, rpc: Rpc, hub: Address, *, lag_attempts: int = LAG_ATTEMPTS) -> None:
        self.rpc: Final = rpc
        self.hub: Final = hub
        self._lag_attempts = lag_attempts
        self._known_head: Callable[[], BlockStamp | None] = lambda: None

    def keep_up_with(self, known_head: Callable[[], BlockStamp | None]) -> None:
        """Take no answer about the newest block from a node that is behind this head.

        Behind one URL there may be many nodes, some of which lag. The height is asked in the same batch as
        the questions, so one node answers both.
        """
        self._known_head = known_head

    # --- one thing ------------------------------------------------------------------------------------------

    async def deal(self, deal_id: DealId, at: BlockStamp | None = None) -> Deal:
        """A deal. Raises InputError (`unknown-deal`) when there is none at that block."""
        deal = await self.ask(self._deal(deal_id), at)
        return _existing(deal_id, deal, at)

    async def task(self, task_id: TaskId, at: BlockStamp | None = None) -> OnchainTask:
        """A task; its status is UNSET before `initialize`."""
        return await self.ask(self._task(task_id), at)

    async def contribution(
        self, task_id: TaskId, worker: Address, at: BlockStamp | None = None
    ) -> Contribution:
        """A worker's contribution to a task; its status is UNSET when there is none."""
        return await self.ask(self._contribution(task_id, worker), at)

    async def account(self, owner: Address, at: BlockStamp | None = None) -> Account:
        """Free and locked stake."""
        return await self.ask(
            self._of_hub(views.view_account(owner), views.decode_account, "viewAccount"), at
        )

    async def score(self, worker: Address, at: BlockStamp | None = None) -> int:
        """A worker's score, from which its weight in a consensus follows."""
        return await self.ask(self._of_hub(views.view_score(worker), views.decode_uint, "viewScore"), at)

    async def category(self, category: int, at: BlockStamp | None = None) -> Category:
        """A size class. Raises InputError (`unknown-category`)."""
        try:
            return await self.ask(self._category(category), at)
        except CallReverted as refusal:
            raise InputError(
                f"the hub has no category {category}",
                code="unknown-category",
                expected="an id below the hub's countCategory",
                next_step="list the categories",
            ) from refusal

    async def categories(self, at: BlockStamp | None = None) -> tuple[Category, ...]:
        """All categories; their index is their id."""
        count = await self.ask(self._of_hub(views.count_category(), views.decode_uint, "countCategory"), at)
        return tuple(await self.ask_all([self._category(number) for number in range(count)], at))

    async def app(self, app: Address, at: BlockStamp | None = None) -> AppInfo:
        """An app of the registry. Raises InputError (`unknown-entry`)."""
        return await self._entry(self._app(app), app, at)

    async def dataset(self, dataset: Address, at: BlockStamp | None = None) -> DatasetInfo:
        """A dataset of the registry. Raises InputError (`unknown-entry`)."""
        return await self._entry(self._dataset(dataset), dataset, at)

    async def workerpool(self, workerpool: Address, at: BlockStamp | None = None) -> WorkerpoolInfo:
        """A workerpool of the registry with its present policy. Raises InputError (`unknown-entry`)."""
        return await self._entry(self._workerpool(workerpool), workerpool, at)

    async def workerpool_owner(self, workerpool: Address, at: BlockStamp | None = None) -> Address:
        """Who owns a workerpool now. Raises InputError (`unknown-entry`)."""
        return (await self.workerpool(workerpool, at)).owner

    async def owner_of(self, entry: Address, at: BlockStamp | None = None) -> Address:
        """Who owns an app, dataset or workerpool, whichever it is. Raises InputError (`unknown-entry`)."""
        return await self._entry(
            Question(to=entry, call=views.owner(), read=views.decode_address, what="owner"), entry, at
        )

    async def consumed(self, order_hash: OrderHash, at: BlockStamp | None = None) -> int:
        """How many tasks deals took from an order; the closed order's whole volume."""
        return await self.ask(
            self._of_hub(views.view_consumed(order_hash), views.decode_uint, "viewConsumed"), at
        )

    async def presigned(self, order_hash: OrderHash, at: BlockStamp | None = None) -> Address:
        """Who presigned an order on the chain; zero for nobody."""
        return await self.ask(
            self._of_hub(views.view_presigned(order_hash), views.decode_address, "viewPresigned"), at
        )

    async def is_signed_by(
        self, identity: Address, digest: Hash32, sign: bytes, at: BlockStamp | None = None
    ) -> bool:
        """Whether the hub accepts a signature, contract wallets (ERC-1271) included."""
        return await self.ask(
            self._of_hub(
                views.verify_signature(identity, digest, sign), views.decode_bool, "verifySignature"
            ),
            at,
        )

    async def result_for(self, task_id: TaskId, at: BlockStamp | None = None) -> bytes:
        """The callback data of a completed task; CallReverted with "task-pending" before."""
        return await self.ask(self._of_hub(views.result_for(task_id), views.decode_bytes, "resultFor"), at)

    # --- the hub itself -------------------------------------------------------------------------------------

    async def domain(self, at: BlockStamp | None = None) -> Domain:
        """The EIP-712 domain of the hub's orders."""
        return await self.ask(self._of_hub(views.domain(), views.decode_domain, "domain"), at)

    async def contracts(self, at: BlockStamp | None = None) -> HubContracts:
        """Token and registries, in one round trip."""
        names = {
            "token": views.token(),
            "appregistry": views.appregistry(),
            "datasetregistry": views.datasetregistry(),
            "workerpoolregistry": views.workerpoolregistry(),
        }
        token, apps, datasets, workerpools = await self.ask_all(
            [self._of_hub(call, views.decode_address, name) for name, call in names.items()], at
        )
        return HubContracts(
            token=token, app_registry=apps, dataset_registry=datasets, workerpool_registry=workerpools
        )

    async def tee_broker(self, at: BlockStamp | None = None) -> Address:
        """Who signs the authorizations of TEE tasks; zero for the pool's owner."""
        return await self.ask(self._of_hub(views.teebroker(), views.decode_address, "teebroker"), at)

    # --- money outside the hub ------------------------------------------------------------------------------

    async def ether(self, owner: Address, at: BlockStamp | None = None) -> Wei:
        """The coin that pays for gas."""
        answer = await self._call("eth_getBalance", [str(owner), at_block(at)], at)
        return Wei(read_quantity(answer, "balance"))

    async def gas_price(self) -> Wei:
        """What the node thinks a transaction should pay now, wei per gas."""
        return Wei(read_quantity(await self._call("eth_gasPrice", [], None), "gas price"))

    async def rlc(self, token: Address, owner: Address, at: BlockStamp | None = None) -> NRlc:
        """RLC in a wallet, outside the hub; `token` is `contracts().token`."""
        question = Question(to=token, call=views.balance_of(owner), read=views.decode_uint, what="balanceOf")
        return NRlc(await self.ask(question, at))

    async def allowance(
        self, token: Address, owner: Address, spender: Address, at: BlockStamp | None = None
    ) -> NRlc:
        """How much RLC of `owner` the `spender` may take."""
        question = Question(
            to=token, call=views.allowance(owner, spender), read=views.decode_uint, what="allowance"
        )
        return NRlc(await self.ask(question, at))

    # --- many things in one round trip ----------------------------------------------------------------------

    async def tasks(self, task_ids: Sequence[TaskId], at: BlockStamp | None = None) -> list[OnchainTask]:
        """Several tasks, in the order asked."""
        return await self.ask_all([self._task(task_id) for task_id in task_ids], at)

    async def contributions(
        self, pairs: Sequence[tuple[TaskId, Address]], at: BlockStamp | None = None
    ) -> list[Contribution]:
        """Several contributions, in the order asked."""
        return await self.ask_all([self._contribution(task_id, worker) for task_id, worker in pairs], at)

    async def deal_with_details(self, deal_id: DealId, at: BlockStamp | None = None) -> DealDetails:
        """A deal with its app, dataset, workerpool and category, in two round trips.

        Raises InputError (`unknown-deal`) when there is none at that block.
        """
        return (await self.deals_with_details([deal_id], at))[0]

    async def deals_with_details(
        self, deal_ids: Sequence[DealId], at: BlockStamp | None = None
    ) -> list[DealDetails]:
        """Several deals with their details, in two round trips. Raises as `deal_with_details`."""
        deals = await self.ask_all([self._deal(deal_id) for deal_id in deal_ids], at)
        questions: list[Question[Any]] = []
        for deal_id, deal in zip(deal_ids, deals, strict=True):
            _existing(deal_id, deal, at)
            questions += [
                self._app(deal.app.pointer),
                self._workerpool(deal.workerpool.pointer),
                self._category(deal.category),
            ]
            if deal.dataset.pointer:
                questions.append(self._dataset(deal.dataset.pointer))
        answers = iter(await self.ask_all(questions, at))
        return [
            DealDetails(
                deal_id=deal_id,
                deal=deal,
                app=next(answers),
                workerpool=next(answers),
                category=next(answers),
                dataset=next(answers) if deal.dataset.pointer else None,
            )
            for deal_id, deal in zip(deal_ids, deals, strict=True)
        ]

    # --- how questions are asked ----------------------------------------------------------------------------

    async def ask(self, question: Question[T], at: BlockStamp | None = None) -> T:
        """Ask one question."""
        return (await self.ask_all([question], at))[0]

    async def ask_all(self, questions: Sequence[Question[T]], at: BlockStamp | None = None) -> list[T]:
        """Ask questions in one round trip; the answers come in the same order.

        Raises the first CallReverted or RpcError among them.
        """
        outcomes = await self._outcomes(_requests(questions, at), at)
        return [_answer(question, outcome) for question, outcome in zip(questions, outcomes, strict=True)]

    async def ask_each(
        self, questions: Sequence[Question[T]], at: BlockStamp | None = None
    ) -> list[T | None]:
        """The same of contracts that may be none; None for one that reverts or answers something else.

        Raises the first RpcError that is no revert.
        """
        answers: list[T | None] = []
        outcomes = await self._outcomes(_requests(questions, at), at)
        for question, outcome in zip(questions, outcomes, strict=True):
            try:
                answers.append(_answer(question, outcome))
            except (CallReverted, PeerError):
                answers.append(None)
        return answers

    async def _call(self, method: str, params: Sequence[Json], at: BlockStamp | None) -> Json:
        [outcome] = await self._outcomes([(method, params)], at)
        if isinstance(outcome, RpcError):
            raise outcome
        return outcome

    async def _outcomes(self, requests: Sequence[Request], at: BlockStamp | None) -> list[Json | RpcError]:
        wanted = at
        for attempt in range(1, self._lag_attempts + 1):
            if at is None:
                wanted = self._known_head()
                is_behind, outcomes = await self._newest(requests, wanted)
            else:
                outcomes = await self.rpc.batch_outcomes(requests)
                is_behind = any(_is_lag(outcome) for outcome in outcomes)
            if not is_behind:
                return outcomes
            self.rpc.distrust(f"it does not have {wanted}")
            await asyncio.sleep(back_off(attempt, random.random()))  # noqa: S311  spreading, not secrecy
        raise Unavailable(
            f"the node does not have {wanted}",
            code="block-missing",
            expected="a node that is not far behind and keeps recent state",
            next_step="check that the node is synchronised",
        )

    async def _newest(
        self, requests: Sequence[Request], known: BlockStamp | None
    ) -> tuple[bool, list[Json | RpcError]]:
        """Answers as of the node's newest block, and whether that is behind the head that we know."""
        if known is None:
            return False, await self.rpc.batch_outcomes(requests)
        height, *outcomes = await self.rpc.batch_outcomes([("eth_blockNumber", []), *requests])
        if isinstance(height, RpcError):
            raise height
        return read_quantity(height, "block number") < known.number, outcomes

    async def _entry(self, question: Question[T], entry: Address, at: BlockStamp | None) -> T:
        try:
            return await self.ask(question, at)
        except (CallReverted, PeerError) as refusal:  # PeerError: an account without code answers nothing
            raise InputError(
                f"no such entry of the registry: {question.what} of {entry}",
                code="unknown-entry",
                expected="the address of a registered app, dataset or workerpool",
                got=str(refusal)[:200],
                next_step="check the address and the chain",
            ) from refusal

    def _of_hub(self, call: bytes, read: Callable[[bytes], T], what: str) -> Question[T]:
        return Question(to=self.hub, call=call, read=read, what=what)

    def _deal(self, deal_id: DealId) -> Question[Deal]:
        return self._of_hub(views.view_deal(deal_id), views.decode_deal, "viewDeal")

    def _task(self, task_id: TaskId) -> Question[OnchainTask]:
        return self._of_hub(views.view_task(task_id), views.decode_task, "viewTask")

    def _contribution(self, task_id: TaskId, worker: Address) -> Question[Contribution]:
        return self._of_hub(
            views.view_contribution(task_id, worker), views.decode_contribution, "viewContribution"
        )

    def _category(self, category: int) -> Question[Category]:
        return self._of_hub(views.view_category(category), views.decode_category, "viewCategory")

    def _app(self, app: Address) -> Question[AppInfo]:
        return self._of_hub(views.view_app(app), views.decode_app, "viewApp")

    def _dataset(self, dataset: Address) -> Question[DatasetInfo]:
        return self._of_hub(views.view_dataset(dataset), views.decode_dataset, "viewDataset")

    def _workerpool(self, workerpool: Address) -> Question[WorkerpoolInfo]:
        return self._of_hub(views.view_workerpool(workerpool), views.decode_workerpool, "viewWorkerpool")


def _existing(deal_id: DealId, deal: Deal, at: BlockStamp | None) -> Deal:
    if deal.app.pointer:
        return deal
    raise InputError(
        f"the hub has no deal {deal_id}",
        code="unknown-deal",
        expected=f"a deal made before {at}" if at else "a deal of this chain",
        next_step="check the id, the chain and the hub",
    )


def _requests(questions: Sequence[Question[Any]], at: BlockStamp | None) -> list[Request]:
    return [
        ("eth_call", [{"to": str(one.to), "data": hex_data(one.call)}, at_block(at)]) for one in questions
    ]


def _answer(question: Question[T], outcome: Json | RpcError) -> T:
    if not isinstance(outcome, RpcError):
        return question.read(read_data(outcome, question.what))
    reason = revert_reason(outcome)
    if reason is None:
        raise outcome
    raise CallReverted(reason, f"{question.what} of {question.to}") from outcome


def _is_lag(outcome: Json | RpcError) -> bool:
    return isinstance(outcome, RpcError) and is_missing_block(outcome)
