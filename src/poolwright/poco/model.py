"""The whole hub as readable code: every operation of the PoCo contracts on an in-memory chain.

`Poco` is the contracts of one network: RLC token, escrow, orders, deals, tasks, scores, the three
registries and the categories. An operation takes who calls it and at which block time, and returns the logs
that the contracts would write, in their order, or raises Revert and changes nothing. It is the contracts'
behaviour, not their gas: what a caller pays for execution, and what a callback contract does with its
result, is outside. The tests in tests/contract run it beside the real contracts on anvil.

    poco = Poco(domain, token=rlc, owner=deployer, registries=registries)
    logs = poco.match_orders(Call(requester, now), orders)
    poco.initialize(Call(anybody, now), deal_id, 0)

State is made of immutable records in tables with one writer. An operation costs what it touches, nothing is
ever copied, and `snapshot` / `restore` wind the world back as evm_snapshot / evm_revert do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Concatenate, Final, NamedTuple, ParamSpec

from poolwright.poco import deadlines, ids, rewards
from poolwright.poco.authorization import authorization_digest, enclave_digest
from poolwright.poco.consensus import Consensus, log2_weight, weight
from poolwright.poco.errors import PeerError
from poolwright.poco.escrow import Escrow, Token
from poolwright.poco.events import (
    AccurateContribution,
    ClosedAppOrder,
    ClosedDatasetOrder,
    ClosedRequestOrder,
    ClosedWorkerpoolOrder,
    CreateCategory,
    DealSponsored,
    FaultyContribution,
    HubEvent,
    OrdersMatched,
    SchedulerNotice,
    SignedAppOrder,
    SignedDatasetOrder,
    SignedRequestOrder,
    SignedWorkerpoolOrder,
    TaskClaimed,
    TaskConsensus,
    TaskContribute,
    TaskFinalize,
    TaskInitialize,
    TaskReopen,
    TaskReveal,
)
from poolwright.poco.journal import Journal, SnapshotId, Table
from poolwright.poco.keccak import keccak
from poolwright.poco.matching import EntryKind, MatchRejected, Orders, Policy, Release, match
from poolwright.poco.orders import (
    AppOrder,
    DatasetOrder,
    Domain,
    Order,
    RequestOrder,
    WorkerpoolOrder,
    operation_hash,
    order_hash,
)
from poolwright.poco.records import (
    NO_APP,
    NO_CONTRIBUTION,
    NO_DATASET,
    NO_DEAL,
    NO_TASK,
    NO_WORKERPOOL,
    Account,
    AppInfo,
    Category,
    Contribution,
    ContributionStatus,
    DatasetInfo,
    Deal,
    OnchainTask,
    OrderOperation,
    TaskStatus,
    WorkerpoolInfo,
)
from poolwright.poco.registry import Registry, change_policy
from poolwright.poco.results import result_hash, result_seal
from poolwright.poco.revert import Revert, require, uint256
from poolwright.poco.signatures import recover
from poolwright.poco.tags import TEE
from poolwright.poco.types import Address, DealId, Hash32, NRlc, OrderHash, Seconds, TaskId, Timestamp

NOBODY: Final = Address.zero()
NOTHING: Final = Hash32.zero()
RLC_SUPPLY: Final = NRlc(87_000_000 * 10**9)
"""What the token's deployer holds at first."""

_SIGNED: Final[Mapping[type[Order], Callable[..., HubEvent]]] = {
    AppOrder: SignedAppOrder,
    DatasetOrder: SignedDatasetOrder,
    WorkerpoolOrder: SignedWorkerpoolOrder,
    RequestOrder: SignedRequestOrder,
}
_CLOSED: Final[Mapping[type[Order], Callable[..., HubEvent]]] = {
    AppOrder: ClosedAppOrder,
    DatasetOrder: ClosedDatasetOrder,
    WorkerpoolOrder: ClosedWorkerpoolOrder,
    RequestOrder: ClosedRequestOrder,
}


class Call(NamedTuple):
    """Who sends a transaction, and the timestamp of the block that carries it."""

    caller: Address
    now: Timestamp


@dataclass(frozen=True, slots=True)
class Emitted:
    """One log: the contract that wrote it and what it says."""

    address: Address
    event: HubEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Registries:
    """Where the three registries are, and the code hash that their entries' addresses come from."""

    app: Address
    dataset: Address
    workerpool: Address
    proxy_code_hash: Hash32 = NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignContract:
    """A contract of somebody else, as far as the hub asks it anything."""

    owner: Address | None = None
    """Its answer to `owner()`; None when it has no such function."""
    accepts: Callable[[Hash32, bytes], bool] = field(default=lambda digest, signature: False)
    """ERC-1271 isValidSignature; False also when it has no such function."""
    members: frozenset[Address] = frozenset()
    """Accounts for which ERC-734 keyHasPurpose(account, 4) is true."""


P = ParamSpec("P")


def operation(
    body: Callable[Concatenate[Poco, Call, P], None],
) -> Callable[Concatenate[Poco, Call, P], tuple[Emitted, ...]]:
    """Make a transaction of a method: all of it happens and its logs are returned, or Revert and nothing."""

    @wraps(body)
    def run(self: Poco, call: Call, *args: P.args, **kwargs: P.kwargs) -> tuple[Emitted, ...]:
        mark = self._journal.mark()
        self._logs.clear()
        try:
            body(self, call, *args, **kwargs)
        except BaseException:
            self._journal.rewind(mark)
            raise
        self._journal.settle()
        return tuple(self._logs)

    return run  # type: ignore[return-value]  # wraps() names the parameters, Callable does not


class Poco:
    """The contracts of one network in memory. Single writer; raises Revert where they revert.

    `owner` deployed everything, owns hub and token, and holds all the RLC at first. `contracts` are other
    contracts that orders may name as signer, restriction or resource, `scores` those that workers bring
    along. Ids that do not exist read as zeros,
    as on the chain.
    """

    def __init__(
        self,
        domain: Domain,
        *,
        token: Address,
        owner: Address,
        registries: Registries,
        contracts: Mapping[Address, ForeignContract] | None = None,
        scores: Mapping[Address, int] | None = None,
        release: Release = Release.V6_1,
    ) -> None:
        self.domain = domain
        self.hub = domain.hub
        self.owner = owner
        self.release = release
        self._journal = journal = Journal()
        self._logs: list[Emitted] = []
        self.rlc = Token(token, journal, self._emit)
        self.escrow = Escrow(self.hub, self.rlc, journal, self._emit)
        code_hash = registries.proxy_code_hash
        self.apps = Registry(EntryKind.APP, registries.app, code_hash, NO_APP, journal, self._emit)
        self.datasets = Registry(
            EntryKind.DATASET, registries.dataset, code_hash, NO_DATASET, journal, self._emit
        )
        self.workerpools = Registry(
            EntryKind.WORKERPOOL, registries.workerpool, code_hash, NO_WORKERPOOL, journal, self._emit
        )
        self._categories: Table[int, Category] = Table(
            journal, Category(name="", description="", timeref=Seconds(0))
        )
        self._deals: Table[DealId, Deal] = Table(journal, NO_DEAL)
        self._tasks: Table[TaskId, OnchainTask] = Table(journal, NO_TASK)
        self._tallies: Table[TaskId, Consensus] = Table(journal, Consensus())
        self._contributions: Table[tuple[TaskId, Address], Contribution] = Table(journal, NO_CONTRIBUTION)
        self._scores: Table[Address, int] = Table(journal, 0)
        for worker, score in (scores or {}).items():
            self._scores[worker] = score
        self._consumed: Table[OrderHash, int] = Table(journal, 0)
        self._presigned: Table[OrderHash, Address] = Table(journal, NOBODY)
        self._teebroker: Table[None, Address] = Table(journal, NOBODY)
        own = ForeignContract(owner=owner)
        self._contracts: Table[Address, ForeignContract] = Table(journal, ForeignContract())
        for address in (self.hub, token, registries.app, registries.dataset, registries.workerpool):
            self._contracts[address] = own
        for address, contract in (contracts or {}).items():
            self._contracts[address] = contract
        self.rlc.balances[owner] = RLC_SUPPLY
        journal.settle()

    # --- time travel

    def snapshot(self) -> SnapshotId:
        """Remember this state; costs nothing now, and memory for later writes until restored or released."""
        return self._journal.snapshot()

    def restore(self, snapshot_id: SnapshotId) -> None:
        """Return to a snapshot; it and all later ones end. Raises InputError when it is not open."""
        self._journal.restore(snapshot_id)

    def release_snapshot(self, snapshot_id: SnapshotId) -> None:
        """Give a snapshot up. Raises InputError when it is not open."""
        self._journal.release(snapshot_id)

    # --- reads

    def deal(self, deal_id: DealId) -> Deal:
        """Return the deal (viewDeal)."""
        return self._deals[deal_id]

    def task(self, task_id: TaskId) -> OnchainTask:
        """Return the task (viewTask)."""
        return self._tasks[task_id]

    def contribution(self, task_id: TaskId, worker: Address) -> Contribution:
        """Return one worker's contribution (viewContribution)."""
        return self._contributions[task_id, worker]

    def tally(self, task_id: TaskId) -> Consensus:
        """Return the group weights of a task; the contract keeps them without a view."""
        return self._tallies[task_id]

    def account(self, address: Address) -> Account:
        """Return free and locked stake (viewAccount)."""
        return Account(stake=NRlc(self.escrow.balances[address]), locked=NRlc(self.escrow.frozen[address]))

    def score(self, worker: Address) -> int:
        """Return a worker's score (viewScore)."""
        return self._scores[worker]

    def category(self, category: int) -> Category:
        """Return a category. Raises Revert for one that does not exist (viewCategory)."""
        require(category in self._categories, "there is no such category")
        return self._categories[category]

    def category_count(self) -> int:
        """Return how many categories there are (countCategory)."""
        return len(self._categories)

    def consumed(self, order_hash: OrderHash) -> int:
        """Return how much of an order's volume is used (viewConsumed)."""
        return self._consumed[order_hash]

    def presigned(self, order_hash: OrderHash) -> Address:
        """Return who signed this order on the chain (viewPresigned)."""
        return self._presigned[order_hash]

    def app(self, app: Address) -> AppInfo:
        """Return an app (viewApp)."""
        return self.apps.entries[app]

    def dataset(self, dataset: Address) -> DatasetInfo:
        """Return a dataset (viewDataset)."""
        return self.datasets.entries[dataset]

    def workerpool(self, workerpool: Address) -> WorkerpoolInfo:
        """Return a workerpool with its present policy (viewWorkerpool)."""
        return self.workerpools.entries[workerpool]

    def teebroker(self) -> Address:
        """Return who authorizes contributions with an enclave; zero for the pool's owner."""
        return self._teebroker[None]

    def result_for(self, task_id: TaskId) -> bytes:
        """Return the callback bytes of a completed task. Raises Revert "task-pending" (resultFor)."""
        task = self._tasks[task_id]
        require(task.status is TaskStatus.COMPLETED, "the task is not completed", "task-pending")
        return task.results_callback

    # --- what a match asks (HubFacts)

    def owner_of(self, entry: Address) -> Address:
        """Return what `owner()` answers at this address. Raises Revert without text when nothing does."""
        for registry in (self.apps, self.datasets, self.workerpools):
            if entry in registry.entries:
                return registry.entries[entry].owner
        owner = self._contracts[entry].owner
        if owner is None:
            raise Revert(explanation=f"{entry} is no contract with an owner")
        return owner

    def is_registered(self, kind: EntryKind, entry: Address) -> bool:
        """Tell whether the registry of this kind holds the entry (isRegistered)."""
        match kind:
            case EntryKind.APP:
                return entry in self.apps.entries
            case EntryKind.DATASET:
                return entry in self.datasets.entries
            case EntryKind.WORKERPOOL:
                return entry in self.workerpools.entries

    def policy(self, workerpool: Address) -> Policy:
        """Return the pool's present policy."""
        info = self.workerpools.entries[workerpool]
        return Policy(info.worker_stake_ratio, info.scheduler_reward_ratio)

    def is_signed(self, signer: Address, order_hash: OrderHash, sign: bytes) -> bool:
        """Tell whether the signer presigned or signed (verifyPresignatureOrSignature)."""
        if signer != NOBODY and self._presigned[order_hash] == signer:
            return True
        return self.is_signature_of(signer, order_hash, sign)

    def is_signature_of(self, account: Address, digest: Hash32, signature: bytes) -> bool:
        """Tell whether the account signed; a contract decides itself. Raises Revert for an unknown form.

        A signature that nobody can have made counts as made by the zero account, as in the contract.
        """
        if self._has_code(account):
            return self._contracts[account].accepts(digest, signature)
        if len(signature) not in (64, 65):
            raise Revert(
                "invalid-signature-format", explanation=f"expected 65 or 64 bytes, got {len(signature)}"
            )
        try:
            return recover(digest, signature) == account
        except PeerError:
            return account == NOBODY

    def is_member(self, group: Address, account: Address) -> bool:
        """Tell whether `group` is an ERC-734 contract with this member."""
        return account in self._contracts[group].members

    # --- money

    @operation
    def deposit(self, call: Call, amount: NRlc) -> None:
        """Turn the caller's RLC into free stake; the hub must be allowed to take it."""
        self.escrow.deposit(call.caller, call.caller, amount)

    @operation
    def deposit_for(self, call: Call, amount: NRlc, target: Address) -> None:
        """Turn the caller's RLC into free stake of somebody else."""
        self.escrow.deposit(call.caller, target, amount)

    @operation
    def deposit_for_array(self, call: Call, amounts: Sequence[NRlc], targets: Sequence[Address]) -> None:
        """Turn the caller's RLC into free stake of several accounts."""
        require(len(amounts) == len(targets), "one amount per target", "invalid-array-length")
        for amount, target in zip(amounts, targets, strict=True):
            self.escrow.deposit(call.caller, target, amount)

    @operation
    def withdraw(self, call: Call, amount: NRlc) -> None:
        """Turn free stake of the caller back into RLC."""
        self.escrow.withdraw(call.caller, call.caller, amount)

    @operation
    def withdraw_to(self, call: Call, amount: NRlc, target: Address) -> None:
        """Turn free stake of the caller into RLC of somebody else."""
        self.escrow.withdraw(call.caller, target, amount)

    @operation
    def recover(self, call: Call) -> None:
        """Give the hub's owner, as stake, the RLC that was sent to the hub without a deposit."""
        self._only_owner(call)
        surplus = self.rlc.balances[self.hub] - self.escrow.supply
        self.escrow.mint(self.owner, NRlc(surplus))

    @operation
    def transfer(self, call: Call, recipient: Address, amount: NRlc) -> None:
        """Move free stake of the caller (SRLC, on the hub)."""
        self.escrow.transfer(call.caller, recipient, amount)

    @operation
    def approve(self, call: Call, spender: Address, amount: NRlc) -> None:
        """Let somebody move free stake of the caller (SRLC, on the hub)."""
        self.escrow.approve(call.caller, spender, amount)

    @operation
    def transfer_from(self, call: Call, sender: Address, recipient: Address, amount: NRlc) -> None:
        """Move free stake of somebody who allowed it (SRLC, on the hub)."""
        self.escrow.transfer_from(call.caller, sender, recipient, amount)

    @operation
    def rlc_transfer(self, call: Call, recipient: Address, amount: NRlc) -> None:
        """Move RLC of the caller (on the token)."""
        self.rlc.transfer(call.caller, recipient, amount)

    @operation
    def rlc_approve(self, call: Call, spender: Address, amount: NRlc) -> None:
        """Let somebody, usually the hub, take RLC of the caller (on the token)."""
        self.rlc.approve(call.caller, spender, amount)

    @operation
    def rlc_approve_and_call(self, call: Call, spender: Address, amount: NRlc) -> None:
        """Allow and deposit in one transaction; only the hub is known to answer (on the token)."""
        self.rlc.approve(call.caller, spender, amount)
        require(spender == self.hub, "only the hub deposits what it is allowed")
        self.escrow.deposit(call.caller, call.caller, amount)

    # --- registries, categories, configuration

    @operation
    def create_app(self, call: Call, info: AppInfo) -> None:
        """Register an app for `info.owner` (on its registry)."""
        self.apps.create(info)

    @operation
    def create_dataset(self, call: Call, info: DatasetInfo) -> None:
        """Register a dataset for `info.owner` (on its registry)."""
        self.datasets.create(info)

    @operation
    def create_workerpool(self, call: Call, owner: Address, description: str) -> None:
        """Register a workerpool with the default policy (on its registry)."""
        self.workerpools.create(workerpool_info(owner, description))

    @operation
    def transfer_entry(
        self, call: Call, kind: EntryKind, source: Address, target: Address, entry: Address
    ) -> None:
        """Give an app, dataset or workerpool to a new owner (ERC-721 transferFrom on its registry)."""
        match kind:
            case EntryKind.APP:
                self.apps.transfer(call.caller, source, target, entry)
            case EntryKind.DATASET:
                self.datasets.transfer(call.caller, source, target, entry)
            case EntryKind.WORKERPOOL:
                self.workerpools.transfer(call.caller, source, target, entry)

    @operation
    def change_policy(self, call: Call, workerpool: Address, policy: Policy) -> None:
        """Change a pool's terms for later deals (on the workerpool)."""
        change_policy(self.workerpools, call.caller, workerpool, policy, self._emit)

    @operation
    def create_category(self, call: Call, category: Category) -> None:
        """Add a category; only the hub's owner."""
        self._only_owner(call)
        number = self.category_count()
        self._categories[number] = category
        self._emit(
            self.hub,
            CreateCategory(
                category=number,
                name=category.name,
                description=category.description,
                timeref=category.timeref,
            ),
        )

    @operation
    def set_tee_broker(self, call: Call, teebroker: Address) -> None:
        """Say who authorizes contributions with an enclave; only the hub's owner."""
        self._only_owner(call)
        self._teebroker[None] = teebroker

    def install_contract(self, address: Address, contract: ForeignContract) -> None:
        """Put somebody else's contract at an address, or change it; not an operation of the hub."""
        self._contracts[address] = contract
        self._journal.settle()

    # --- orders

    @operation
    def manage_order(self, call: Call, order: Order, operation: OrderOperation, sign: bytes = b"") -> None:
        """Presign or close an order: its owner, or anybody with the owner's signature of that operation."""
        owner = self._owner_of_order(order)
        require(
            owner == call.caller
            or self.is_signature_of(owner, operation_hash(order, operation, self.domain), sign),
            "only the owner manages an order, or who has the owner's signature of this operation",
            "invalid-sender-or-signature",
        )
        its_hash = order_hash(order, self.domain)
        match operation:
            case OrderOperation.SIGN:
                self._presigned[its_hash] = owner
                self._emit(self.hub, _SIGNED[type(order)](order_hash=its_hash))
            case OrderOperation.CLOSE:
                self._consumed[its_hash] = order.volume
                self._emit(self.hub, _CLOSED[type(order)](order_hash=its_hash))

    @operation
    def match_orders(self, call: Call, orders: Orders) -> None:
        """Make a deal that the requester pays, whoever calls."""
        self._match(call, orders, sponsor=orders.request.requester)

    @operation
    def sponsor_match_orders(self, call: Call, orders: Orders) -> None:
        """Make a deal that the caller pays."""
        deal_id = self._match(call, orders, sponsor=call.caller)
        self._emit(self.hub, DealSponsored(deal_id=deal_id, sponsor=call.caller))

    def _match(self, call: Call, orders: Orders, sponsor: Address) -> DealId:
        try:
            terms = match(orders, self, self.domain, release=self.release)
        except MatchRejected as rejection:
            raise Revert(rejection.reason, explanation=str(rejection)) from rejection
        deal = terms.deal(start_time=call.now, sponsor=sponsor)
        self._deals[terms.deal_id] = deal
        used = [terms.app_hash, terms.workerpool_hash, terms.request_hash]
        if deal.dataset.pointer:
            used.append(terms.dataset_hash)
        for its_hash in used:
            self._consumed[its_hash] += terms.volume

        self.escrow.lock(sponsor, terms.payer_lock())
        self.escrow.lock(deal.workerpool.owner, terms.scheduler_lock())
        self._emit(self.hub, SchedulerNotice(workerpool=deal.workerpool.pointer, deal_id=terms.deal_id))
        self._emit(
            self.hub,
            OrdersMatched(
                deal_id=terms.deal_id,
                app_hash=terms.app_hash,
                dataset_hash=terms.dataset_hash,
                workerpool_hash=terms.workerpool_hash,
                request_hash=terms.request_hash,
                volume=terms.volume,
            ),
        )
        return terms.deal_id

    # --- tasks

    @operation
    def initialize(self, call: Call, deal_id: DealId, index: int) -> None:
        """Open a task of a deal; anybody, at any time."""
        self._initialize(deal_id, index)

    @operation
    def initialize_array(self, call: Call, deal_ids: Sequence[DealId], indexes: Sequence[int]) -> None:
        """Open several tasks, all or none."""
        require(len(deal_ids) == len(indexes), "one index per deal id")
        for deal_id, index in zip(deal_ids, indexes, strict=True):
            self._initialize(deal_id, index)

    @operation
    def contribute(
        self,
        call: Call,
        task_id: TaskId,
        result_hash: Hash32,
        result_seal: Hash32,
        enclave_challenge: Address,
        enclave_sign: bytes,
        authorization_sign: bytes,
    ) -> None:
        """Commit to a result and lock the worker's stake; may bring consensus. Reveal checks the seal."""
        task = self._tasks[task_id]
        deal = self._deals[task.deal_id]
        self._require_contributable(call, task)
        require(
            self._contributions[task_id, call.caller].status is ContributionStatus.UNSET,
            "this worker has contributed to the task before",
        )
        self._require_authorized(call, task_id, deal, enclave_challenge, authorization_sign)
        self._require_enclave(enclave_challenge, result_hash, result_seal, enclave_sign)

        its_weight = weight(self._scores[call.caller])
        self._contributions[task_id, call.caller] = Contribution(
            status=ContributionStatus.CONTRIBUTED,
            result_hash=result_hash,
            result_seal=result_seal,
            enclave_challenge=enclave_challenge,
            weight=log2_weight(its_weight),
        )
        task = replace(task, contributors=(*task.contributors, call.caller))
        self._tasks[task_id] = task
        self.escrow.lock(call.caller, deal.worker_stake)
        self._emit(self.hub, TaskContribute(task_id=task_id, worker=call.caller, result_hash=result_hash))

        tally = self._tallies[task_id].add(result_hash, its_weight)
        self._tallies[task_id] = tally
        if tally.is_reached(result_hash, deal.trust):
            self._reach_consensus(call, task_id, task, result_hash)

    @operation
    def reveal(self, call: Call, task_id: TaskId, result_digest: Hash32) -> None:
        """Publish the digest behind hash and seal of a winning contribution."""
        task = self._tasks[task_id]
        contribution = self._contributions[task_id, call.caller]
        require(task.status is TaskStatus.REVEALING, "the task is not in its reveal phase")
        require(call.now < task.reveal_deadline, "the reveal deadline is over")
        require(
            contribution.status is ContributionStatus.CONTRIBUTED,
            "this worker has nothing to reveal in this task",
        )
        require(contribution.result_hash == task.consensus, "this worker's result is not the consensus")
        require(
            contribution.result_hash == result_hash(task_id, result_digest),
            "the digest does not fit the contributed hash",
        )
        require(
            contribution.result_seal == result_seal(call.caller, task_id, result_digest),
            "the digest does not fit the contributed seal",
        )
        self._contributions[task_id, call.caller] = replace(contribution, status=ContributionStatus.PROVED)
        self._tasks[task_id] = replace(
            task, reveal_counter=task.reveal_counter + 1, result_digest=result_digest
        )
        self._emit(self.hub, TaskReveal(task_id=task_id, worker=call.caller, digest=result_digest))

    @operation
    def reopen(self, call: Call, task_id: TaskId) -> None:
        """Start over when nobody revealed in time: the winners are rejected, others may contribute."""
        task = self._tasks[task_id]
        self._require_scheduler(call, task)
        require(
            deadlines.is_reopenable(task, call.now),
            "reopen needs a reveal phase that is over without any reveal, before the final deadline",
        )
        for worker in task.contributors:
            contribution = self._contributions[task_id, worker]
            if contribution.result_hash == task.consensus:
                self._contributions[task_id, worker] = replace(
                    contribution, status=ContributionStatus.REJECTED
                )
        self._tallies[task_id] = self._tallies[task_id].drop(task.consensus)
        self._tasks[task_id] = replace(
            task,
            status=TaskStatus.ACTIVE,
            consensus=NOTHING,
            reveal_deadline=Timestamp(0),
            winner_counter=0,
        )
        self._emit(self.hub, TaskReopen(task_id=task_id))

    @operation
    def finalize(self, call: Call, task_id: TaskId, results: bytes, results_callback: bytes) -> None:
        """Close a revealed task: pay everybody, punish the faulty, hand the result to the callback."""
        task = self._tasks[task_id]
        deal = self._deals[task.deal_id]
        self._require_scheduler(call, task)
        require(
            deadlines.is_finalizable(task, call.now),
            "finalize needs all reveals, or one and the reveal deadline over, before the final deadline",
        )
        self._require_callback(deal, results_callback, task.result_digest)
        self._tasks[task_id] = replace(
            task, status=TaskStatus.COMPLETED, results=results, results_callback=results_callback
        )
        contributions = [(worker, self._contributions[task_id, worker]) for worker in task.contributors]
        payout = rewards.finalize_payout(deal, contributions, self.escrow.kitty)
        self._pay_success(deal, task_id, payout)
        for share in payout.workers:
            if share.is_faulty:
                self.escrow.seize(share.worker, share.stake, task_id)
            else:
                self.escrow.unlock(share.worker, share.stake)
                self.escrow.reward(share.worker, share.reward, task_id)
            self._score(share, task_id)
        self.escrow.reward(deal.workerpool.owner, payout.scheduler, task_id)
        self._emit(self.hub, TaskFinalize(task_id=task_id, results=results))

    @operation
    def contribute_and_finalize(
        self,
        call: Call,
        task_id: TaskId,
        result_digest: Hash32,
        results: bytes,
        results_callback: bytes,
        enclave_challenge: Address,
        enclave_sign: bytes,
        authorization_sign: bytes,
    ) -> None:
        """Do a trust-1 task in one transaction by its first contributor, without stake or score."""
        task = self._tasks[task_id]
        deal = self._deals[task.deal_id]
        self._require_contributable(call, task)
        require(not task.contributors, "somebody has contributed to the task before")
        require(deal.trust == 1, "only for tasks of trust 1")
        its_hash = result_hash(task_id, result_digest)
        its_seal = result_seal(call.caller, task_id, result_digest)
        self._require_callback(deal, results_callback, result_digest)
        self._require_authorized(call, task_id, deal, enclave_challenge, authorization_sign)
        self._require_enclave(enclave_challenge, its_hash, its_seal, enclave_sign)

        self._contributions[task_id, call.caller] = Contribution(
            status=ContributionStatus.PROVED,
            result_hash=its_hash,
            result_seal=its_seal,
            enclave_challenge=enclave_challenge,
            weight=0,
        )
        self._tasks[task_id] = replace(
            task,
            status=TaskStatus.COMPLETED,
            consensus=its_hash,
            reveal_deadline=Timestamp(uint256(deadlines.reveal_deadline(call.now, task.timeref))),
            reveal_counter=1,
            winner_counter=1,
            contributors=(call.caller,),
            result_digest=result_digest,
            results=results,
            results_callback=results_callback,
        )
        payout = rewards.fast_payout(deal, call.caller, self.escrow.kitty)
        self._pay_success(deal, task_id, payout)
        self.escrow.reward(call.caller, payout.workers[0].reward, task_id)
        self.escrow.reward(deal.workerpool.owner, payout.scheduler, task_id)
        self._emit(self.hub, TaskContribute(task_id=task_id, worker=call.caller, result_hash=its_hash))
        self._emit(self.hub, TaskConsensus(task_id=task_id, consensus=its_hash))
        self._emit(self.hub, TaskReveal(task_id=task_id, worker=call.caller, digest=result_digest))
        self._emit(self.hub, TaskFinalize(task_id=task_id, results=results))

    @operation
    def claim(self, call: Call, task_id: TaskId) -> None:
        """Give up a task after its final deadline; anybody."""
        self._claim(call, task_id)

    @operation
    def claim_array(self, call: Call, task_ids: Sequence[TaskId]) -> None:
        """Give up several tasks, all or none."""
        for task_id in task_ids:
            self._claim(call, task_id)

    @operation
    def initialize_and_claim_array(
        self, call: Call, deal_ids: Sequence[DealId], indexes: Sequence[int]
    ) -> None:
        """Free the money of tasks that were never opened, all or none."""
        require(len(deal_ids) == len(indexes), "one index per deal id")
        for deal_id, index in zip(deal_ids, indexes, strict=True):
            self._claim(call, self._initialize(deal_id, index))

    # --- steps of these

    def _initialize(self, deal_id: DealId, index: int) -> TaskId:
        deal = self._deals[deal_id]
        require(
            deal.bot_first <= index < deal.bot_first + deal.bot_size, "the deal has no task of this index"
        )
        task_id = ids.task_id(deal_id, index)
        require(self._tasks[task_id].status is TaskStatus.UNSET, "the task is initialized already")
        timeref = self._categories[deal.category].timeref
        final_deadline = Timestamp(uint256(deadlines.final_deadline(deal.start_time, timeref)))
        self._tasks[task_id] = replace(
            NO_TASK,
            status=TaskStatus.ACTIVE,
            deal_id=deal_id,
            index=index,
            timeref=timeref,
            contribution_deadline=deadlines.contribution_deadline(deal.start_time, timeref),
            final_deadline=final_deadline,
        )
        self._emit(self.hub, TaskInitialize(task_id=task_id, workerpool=deal.workerpool.pointer))
        return task_id

    def _claim(self, call: Call, task_id: TaskId) -> None:
        task = self._tasks[task_id]
        deal = self._deals[task.deal_id]
        require(deadlines.is_claimable(task, call.now), "claim needs an open task past its final deadline")
        self._tasks[task_id] = replace(task, status=TaskStatus.FAILED)
        payout = rewards.claim_payout(deal, task.contributors)
        self.escrow.unlock(deal.sponsor, payout.sponsor_locked)
        self.escrow.seize(deal.workerpool.owner, payout.pool_stake, task_id)
        self.escrow.feed_kitty(payout.pool_stake, task_id)
        for share in payout.workers:
            self.escrow.unlock(share.worker, share.stake)
        self._emit(self.hub, TaskClaimed(task_id=task_id))

    def _reach_consensus(self, call: Call, task_id: TaskId, task: OnchainTask, result_hash: Hash32) -> None:
        winners = 0
        for worker in task.contributors:
            contribution = self._contributions[task_id, worker]
            if (
                contribution.result_hash == result_hash
                and contribution.status is ContributionStatus.CONTRIBUTED
            ):
                winners += 1
        self._tasks[task_id] = replace(
            task,
            status=TaskStatus.REVEALING,
            consensus=result_hash,
            reveal_deadline=Timestamp(uint256(deadlines.reveal_deadline(call.now, task.timeref))),
            reveal_counter=0,
            winner_counter=winners,
        )
        self._emit(self.hub, TaskConsensus(task_id=task_id, consensus=result_hash))

    def _pay_success(self, deal: Deal, task_id: TaskId, payout: rewards.Payout) -> None:
        """Pay app and dataset, free the pool's stake, open the kitty: the same for both ways to succeed."""
        self.escrow.seize(deal.sponsor, payout.sponsor_locked, task_id)
        if payout.app > 0:
            self.escrow.reward(deal.app.owner, payout.app, task_id)
        if payout.dataset > 0 and deal.dataset.pointer:
            self.escrow.reward(deal.dataset.owner, payout.dataset, task_id)
        self.escrow.unlock(deal.workerpool.owner, payout.pool_stake)
        if payout.kitty_bonus > 0:
            self.escrow.seize(rewards.KITTY_ADDRESS, payout.kitty_bonus, task_id)
            self.escrow.reward(deal.workerpool.owner, payout.kitty_bonus, task_id)

    def _score(self, share: rewards.WorkerPayout, task_id: TaskId) -> None:
        if not share.is_scored:
            return
        self._scores[share.worker] = rewards.score_after(self._scores[share.worker], share)
        verdict = FaultyContribution if share.is_faulty else AccurateContribution
        self._emit(self.hub, verdict(worker=share.worker, task_id=task_id))

    def _require_contributable(self, call: Call, task: OnchainTask) -> None:
        require(task.status is TaskStatus.ACTIVE, "the task takes no contributions: not ACTIVE")
        require(deadlines.is_contributable(task, call.now), "the contribution deadline is over")

    def _require_authorized(
        self, call: Call, task_id: TaskId, deal: Deal, enclave_challenge: Address, authorization: bytes
    ) -> None:
        require(bool(enclave_challenge) or not deal.tag & TEE, "a TEE task needs an enclave challenge")
        teebroker = self._teebroker[None]
        signer = teebroker if enclave_challenge and teebroker else deal.workerpool.owner
        digest = authorization_digest(call.caller, task_id, enclave_challenge)
        require(
            self.is_signature_of(signer, digest, authorization),
            "the authorization is not for this worker, task and enclave, or not by the scheduler",
        )

    def _require_enclave(
        self, enclave_challenge: Address, result_hash: Hash32, result_seal: Hash32, signature: bytes
    ) -> None:
        require(
            not enclave_challenge
            or self.is_signature_of(enclave_challenge, enclave_digest(result_hash, result_seal), signature),
            "the enclave did not sign this hash and seal",
        )

    def _require_callback(self, deal: Deal, results_callback: bytes, result_digest: Hash32) -> None:
        require(
            (not deal.callback and not results_callback) or keccak(results_callback) == result_digest,
            "the callback bytes must hash to the result digest",
        )

    def _require_scheduler(self, call: Call, task: OnchainTask) -> None:
        require(
            call.caller == self._deals[task.deal_id].workerpool.owner,
            "only the owner the workerpool had at the match, and only for a task that exists",
        )

    def _only_owner(self, call: Call) -> None:
        require(call.caller == self.owner, "only the hub's owner", "Ownable: caller is not the owner")

    def _owner_of_order(self, order: Order) -> Address:
        match order:
            case AppOrder():
                return self.owner_of(order.app)
            case DatasetOrder():
                return self.owner_of(order.dataset)
            case WorkerpoolOrder():
                return self.owner_of(order.workerpool)
            case RequestOrder():
                return order.requester

    def _has_code(self, account: Address) -> bool:
        return (
            account in self._contracts
            or account in self.apps.entries
            or account in self.datasets.entries
            or account in self.workerpools.entries
        )

    def _emit(self, address: Address, event: HubEvent) -> None:
        self._logs.append(Emitted(address, event))


def workerpool_info(owner: Address, description: str) -> WorkerpoolInfo:
    """Return a workerpool as it is when just created, with the default policy."""
    policy = Policy()
    return WorkerpoolInfo(
        owner=owner,
        description=description,
        worker_stake_ratio=policy.worker_stake_ratio,
        scheduler_reward_ratio=policy.scheduler_reward_ratio,
    )
