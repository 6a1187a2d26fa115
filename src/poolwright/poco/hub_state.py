"""What the hub keeps and what anybody may ask it: tables, reads, the facts of a match, and undoing.

An *operation* is a transaction; see `model`. Names are the contract's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Concatenate, Final, NamedTuple, ParamSpec, TypeVar

from poolwright.poco.consensus import Consensus
from poolwright.poco.errors import PeerError
from poolwright.poco.escrow import Escrow, Token
from poolwright.poco.events import HubEvent
from poolwright.poco.journal import Journal, SnapshotId, Table
from poolwright.poco.matching import EntryKind, Policy, Release
from poolwright.poco.orders import Domain
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
    DatasetInfo,
    Deal,
    OnchainTask,
    TaskStatus,
    WorkerpoolInfo,
)
from poolwright.poco.registry import Registry
from poolwright.poco.revert import Revert, require
from poolwright.poco.signatures import recover
from poolwright.poco.types import Address, DealId, Hash32, NRlc, OrderHash, Seconds, TaskId, Timestamp

NOBODY: Final = Address.zero()
NOTHING: Final = Hash32.zero()
RLC_SUPPLY: Final = NRlc(87_000_000 * 10**9)
"""What the token's deployer holds at first."""


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
HubT = TypeVar("HubT", bound="HubState")


def operation(
    body: Callable[Concatenate[HubT, Call, P], None],
) -> Callable[Concatenate[HubT, Call, P], tuple[Emitted, ...]]:
    """Make a transaction of a method: all of it happens and its logs are returned, or Revert and nothing."""

    @wraps(body)
    def run(self: HubT, call: Call, *args: P.args, **kwargs: P.kwargs) -> tuple[Emitted, ...]:
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


class HubState:
    """What the contracts of one network keep, and what anybody may ask them. Single writer.

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

    # --- for operations

    def _emit(self, address: Address, event: HubEvent) -> None:
        self._logs.append(Emitted(address, event))

    def _only_owner(self, call: Call) -> None:
        require(call.caller == self.owner, "only the hub's owner", "Ownable: caller is not the owner")

    def _has_code(self, account: Address) -> bool:
        return (
            account in self._contracts
            or account in self.apps.entries
            or account in self.datasets.entries
            or account in self.workerpools.entries
        )
