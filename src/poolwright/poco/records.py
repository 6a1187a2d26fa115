"""What the hub and the registries keep about deals, tasks, contributions, accounts and resources.

Field names are the contract's in snake case. A record that does not exist on the chain reads as all zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from poolwright.poco.tags import NO_TAG, Tag
from poolwright.poco.types import Address, DealId, Hash32, NRlc, Seconds, Timestamp


class TaskStatus(IntEnum):
    """Phase of a task in the contract (IexecLibCore TaskStatusEnum)."""

    UNSET = 0
    """Not initialized, or no such task."""
    ACTIVE = 1
    """Takes contributions."""
    REVEALING = 2
    """Consensus reached; the winners publish their digest."""
    COMPLETED = 3
    """Finalized and paid."""
    FAILED = 4
    """Claimed after the final deadline; everybody got the money back."""


class ContributionStatus(IntEnum):
    """State of one worker's contribution to one task (IexecLibCore ContributionStatusEnum)."""

    UNSET = 0
    CONTRIBUTED = 1
    PROVED = 2
    """Revealed with the digest that fits hash and seal."""
    REJECTED = 3
    """Was in the consensus group of a task that was reopened because nobody revealed."""


class OrderOperation(IntEnum):
    """What a managed order is to become (IexecLibOrders_v5 OrderOperationEnum)."""

    SIGN = 0
    """Presigned on the chain: usable without a signature."""
    CLOSE = 1
    """Cancelled: nothing of its volume is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """An app, dataset or workerpool as a deal froze it; all zero for "no dataset"."""

    pointer: Address
    owner: Address
    price: NRlc
    """Per task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deal:
    """An agreement for `bot_size` tasks from index `bot_first` on (viewDeal)."""

    app: Resource
    dataset: Resource
    workerpool: Resource
    trust: int
    """At least 1; see `consensus`."""
    category: int
    tag: Tag
    requester: Address
    beneficiary: Address
    callback: Address
    """Contract that receives the result; zero for none."""
    params: str
    start_time: Timestamp
    """Block time of the match; the work clock starts here."""
    bot_first: int
    bot_size: int
    worker_stake: NRlc
    """What each contribution locks, per task."""
    scheduler_reward_ratio: int
    """Percent of the pool's price that the pool's owner keeps."""
    sponsor: Address
    """Who pays; the requester unless the deal was sponsored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnchainTask:
    """One task as the hub keeps it (viewTask), without the always-zero results timestamp."""

    status: TaskStatus
    deal_id: DealId
    index: int
    timeref: Seconds
    contribution_deadline: Timestamp
    reveal_deadline: Timestamp
    """Zero until consensus."""
    final_deadline: Timestamp
    consensus: Hash32
    """The result hash agreed on; zero before."""
    reveal_counter: int
    winner_counter: int
    contributors: tuple[Address, ...]
    result_digest: Hash32
    results: bytes
    results_callback: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """One worker's contribution to one task (viewContribution)."""

    status: ContributionStatus
    result_hash: Hash32
    result_seal: Hash32
    enclave_challenge: Address
    weight: int
    """floor(log2) of the worker's consensus weight; the share in the reward."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Money of one account inside the hub (viewAccount)."""

    stake: NRlc
    """Free; can be withdrawn or locked."""
    locked: NRlc


@dataclass(frozen=True, slots=True, kw_only=True)
class Category:
    """A size class of tasks (viewCategory)."""

    name: str
    description: str
    timeref: Seconds
    """Unit of the work clock: contribute within 7, reveal within 2, finalize within 10 of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppInfo:
    """An app of the registry (viewApp)."""

    owner: Address
    name: str
    type: str
    """"DOCKER" for every app in use."""
    multiaddr: bytes
    """The image name, as bytes."""
    checksum: Hash32
    mrenclave: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetInfo:
    """A dataset of the registry (viewDataset)."""

    owner: Address
    name: str
    multiaddr: bytes
    checksum: Hash32
    """sha256 of the file; zero when the owner gave none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerpoolInfo:
    """A workerpool of the registry with its current policy (viewWorkerpool)."""

    owner: Address
    description: str
    worker_stake_ratio: int
    """Percent of the pool price that a worker locks per contribution."""
    scheduler_reward_ratio: int
    """Percent of the pool price that the owner keeps."""


# What the contract answers for what does not exist.

_NOBODY: Final = Address.zero()
_NOTHING: Final = Hash32.zero()
NO_RESOURCE: Final = Resource(pointer=_NOBODY, owner=_NOBODY, price=NRlc(0))
NO_DEAL: Final = Deal(
    app=NO_RESOURCE,
    dataset=NO_RESOURCE,
    workerpool=NO_RESOURCE,
    trust=0,
    category=0,
    tag=NO_TAG,
    requester=_NOBODY,
    beneficiary=_NOBODY,
    callback=_NOBODY,
    params="",
    start_time=Timestamp(0),
    bot_first=0,
    bot_size=0,
    worker_stake=NRlc(0),
    scheduler_reward_ratio=0,
    sponsor=_NOBODY,
)
NO_TASK: Final = OnchainTask(
    status=TaskStatus.UNSET,
    deal_id=DealId(_NOTHING),
    index=0,
    timeref=Seconds(0),
    contribution_deadline=Timestamp(0),
    reveal_deadline=Timestamp(0),
    final_deadline=Timestamp(0),
    consensus=_NOTHING,
    reveal_counter=0,
    winner_counter=0,
    contributors=(),
    result_digest=_NOTHING,
    results=b"",
    results_callback=b"",
)
NO_CONTRIBUTION: Final = Contribution(
    status=ContributionStatus.UNSET,
    result_hash=_NOTHING,
    result_seal=_NOTHING,
    enclave_challenge=_NOBODY,
    weight=0,
)
NO_APP: Final = AppInfo(owner=_NOBODY, name="", type="", multiaddr=b"", checksum=_NOTHING, mrenclave=b"")
NO_DATASET: Final = DatasetInfo(owner=_NOBODY, name="", multiaddr=b"", checksum=_NOTHING)
NO_WORKERPOOL: Final = WorkerpoolInfo(
    owner=_NOBODY, description="", worker_stake_ratio=0, scheduler_reward_ratio=0
)
