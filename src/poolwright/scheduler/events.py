"""Facts that the scheduler's mind is told, in the past tense, each at a chain time `at` (seconds UTC).

`Chain…` come from confirmed logs, `Worker…` from the authenticated connection of a worker, `Submission…` and
`Upload…` close the loop of an effect that was asked for, `Operator…` is what the pool's
manager has decided, `Tick` says that a deadline has passed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from poolwright.poco.tags import Tag
from poolwright.poco.types import (
    Address,
    BlockNumber,
    DealId,
    Hash32,
    NRlc,
    Seconds,
    TaskId,
    Timestamp,
    TxHash,
    WorkerAddress,
)
from poolwright.scheduler.effects import Submission
from poolwright.scheduler.standing import Rules
from poolwright.wire.messages import Capacity, Details
from poolwright.wire.statuses import ReplicateStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainRef:
    """Where on the chain a fact stands: what people look up."""

    block: BlockNumber
    tx_hash: TxHash


@dataclass(frozen=True, slots=True, kw_only=True)
class DealTerms:
    """What the scheduler needs to know of a deal (contract `viewDeal` and the deal's category).

    Prices are per task. `timeref` is the category's work clock: contributions end at start + 7 of it,
    the task at start + 10 of it.
    """

    deal_id: DealId
    start_time: Timestamp
    timeref: Seconds
    trust: int
    tag: Tag
    bot_first: int
    bot_size: int
    requester: Address
    app: Address
    has_callback: bool
    workerpool_price: NRlc
    oddities: tuple[str, ...] = ()
    """What is odd about the deal, in sentences (`daemons.oddities`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainDealMatched:
    """`SchedulerNotice`: somebody bought `bot_size` tasks of this pool."""

    at: Timestamp
    terms: DealTerms
    ref: ChainRef


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainTaskInitialized:
    """`TaskInitialize`. `is_over`: the log was read so late that the chain has ended the task since."""

    at: Timestamp
    task_id: TaskId
    ref: ChainRef
    is_over: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainTaskContributed:
    """`TaskContribute`; `weight` is the worker's consensus weight at that block."""

    at: Timestamp
    task_id: TaskId
    worker: WorkerAddress
    result_hash: Hash32
    weight: int
    ref: ChainRef


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainTaskConsensusReached:
    """`TaskConsensus`; winners may reveal before `reveal_deadline`."""

    at: Timestamp
    task_id: TaskId
    consensus: Hash32
    reveal_deadline: Timestamp
    ref: ChainRef


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainTaskRevealed:
    """`TaskReveal`."""

    at: Timestamp
    task_id: TaskId
    worker: WorkerAddress
    digest: Hash32
    ref: ChainRef


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainTaskReopened:
    """`TaskReopen`: nobody revealed in time, the winners are rejected, the task is active again."""

    at: Timestamp
    task_id: TaskId
    ref: ChainRef


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainTaskFinalized:
    """`TaskFinalize`: closed and paid."""

    at: Timestamp
    task_id: TaskId
    results: bytes
    ref: ChainRef


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainTaskContributedAndFinalized:
    """The four logs of one `contributeAndFinalize`: contributed, agreed, revealed, closed and paid at once.

    The worker has put no stake down, and its score does not change (contract `contributeAndFinalize`).
    """

    at: Timestamp
    task_id: TaskId
    worker: WorkerAddress
    result_hash: Hash32
    weight: int
    results: bytes
    ref: ChainRef


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainTaskClaimed:
    """`TaskClaimed`: past its final deadline, refunded."""

    at: Timestamp
    task_id: TaskId
    ref: ChainRef


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConnected:
    """A worker said Hello. `journal` names its store: another one than before means it lost its memory."""

    at: Timestamp
    worker: WorkerAddress
    journal: Hash32
    capacity: Capacity
    weight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerWentSilent:
    """No message of the worker for longer than the heartbeat limit."""

    at: Timestamp
    worker: WorkerAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReported:
    """A worker says that its replicate has reached `status`."""

    at: Timestamp
    worker: WorkerAddress
    task_id: TaskId
    status: ReplicateStatus
    details: Details = field(default_factory=Details)


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadVerified:
    """The result repository holds the result that the worker says it uploaded."""

    at: Timestamp
    task_id: TaskId
    worker: WorkerAddress
    link: str
    callback: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadMissing:
    """The result repository does not hold it."""

    at: Timestamp
    task_id: TaskId
    worker: WorkerAddress
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionFailed:
    """A transaction was refused, reverted or given up; the chain is as before.

    `attempt` is that of its `Submit`; None means the one that is in flight.
    """

    at: Timestamp
    task_id: TaskId
    submission: Submission
    reason: str
    attempt: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorSetRules:
    """The scheduler was started with these settings, other than those that the mind goes by."""

    at: Timestamp
    rules: Rules


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorDrainedWorker:
    """No new work for this worker, until it is resumed. `reason` is told to its owner."""

    at: Timestamp
    worker: WorkerAddress
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorResumedWorker:
    """Work again for a worker that was drained, or is in quarantine."""

    at: Timestamp
    worker: WorkerAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorAllowedWorker:
    """This wallet may join, or (`is_allowed` False) may not, whatever the allow list says."""

    at: Timestamp
    worker: WorkerAddress
    is_allowed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorNamedOwner:
    """Whose worker this is: results of one owner do not vouch for each other. "" takes it back."""

    at: Timestamp
    worker: WorkerAddress
    owner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """The chain's time has reached a deadline that `next_deadline` named."""

    at: Timestamp


TaskEvent = (
    ChainTaskInitialized
    | ChainTaskContributed
    | ChainTaskConsensusReached
    | ChainTaskRevealed
    | ChainTaskReopened
    | ChainTaskFinalized
    | ChainTaskContributedAndFinalized
    | ChainTaskClaimed
    | WorkerReported
    | UploadVerified
    | UploadMissing
    | SubmissionFailed
)
OperatorEvent = (
    OperatorSetRules
    | OperatorDrainedWorker
    | OperatorResumedWorker
    | OperatorAllowedWorker
    | OperatorNamedOwner
)
PoolEvent = TaskEvent | ChainDealMatched | WorkerConnected | WorkerWentSilent | OperatorEvent | Tick
