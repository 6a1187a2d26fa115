"""Facts that the worker's mind is told, in the past tense, each at a chain time `at` (seconds UTC)."""

from __future__ import annotations

from dataclasses import dataclass

from poolwright.poco.types import BlockNumber, Hash32, TaskId, Timestamp, TxHash
from poolwright.wire.messages import Instruction
from poolwright.wire.statuses import ReplicateStatus
from poolwright.worker.terms import Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerInstructed:
    """An instruction arrived over the authenticated connection."""

    at: Timestamp
    instruction: Instruction

    @property
    def task_id(self) -> TaskId:
        return self.instruction.task_id


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDescribed:
    """The chain has the task, the authorization is good, stake and gas suffice."""

    at: Timestamp
    task_id: TaskId
    terms: Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRefused:
    """The task cannot be taken; `status` is what the scheduler is told."""

    at: Timestamp
    task_id: TaskId
    status: ReplicateStatus
    cause: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AppDownloaded:
    at: Timestamp
    task_id: TaskId


@dataclass(frozen=True, slots=True, kw_only=True)
class AppDownloadFailed:
    at: Timestamp
    task_id: TaskId
    cause: str
    message: str
    is_own_fault: bool = False
    """It is this worker's disk or engine that failed, not the task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataDownloaded:
    at: Timestamp
    task_id: TaskId


@dataclass(frozen=True, slots=True, kw_only=True)
class DataDownloadFailed:
    at: Timestamp
    task_id: TaskId
    cause: str
    message: str
    is_own_fault: bool = False
    """It is this worker's disk or engine that failed, not the task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a computation left: its digest and, for a deal with a callback, the callback's bytes."""

    digest: Hash32
    callback: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppComputed:
    at: Timestamp
    task_id: TaskId
    result: Result
    exit_code: int
    milliseconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AppComputeFailed:
    at: Timestamp
    task_id: TaskId
    cause: str
    message: str
    exit_code: int | None
    milliseconds: int
    is_own_fault: bool = False
    """It is this worker's disk or engine that failed, not the task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureDescribed:
    """The failed task has a result: the description of its failure."""

    at: Timestamp
    task_id: TaskId
    result: Result


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureNotDescribed:
    """The failure could not be written down, so there is nothing to contribute."""

    at: Timestamp
    task_id: TaskId
    cause: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ContributionChecked:
    """The verdict before a contribution: CAN_CONTRIBUTE, one of CANT_CONTRIBUTE_SINCE_…, or FAILED.

    FAILED when it could not be found out; `cause` says why in a word (reference 3.1, "Today"), `message` in a
    sentence. `contribute_and_finalize`: the result has been delivered and the chain would take it in one
    transaction.
    """

    at: Timestamp
    task_id: TaskId
    verdict: ReplicateStatus
    message: str = ""
    contribute_and_finalize: bool = False
    cause: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContributionMined:
    at: Timestamp
    task_id: TaskId
    tx_hash: TxHash | None
    block: BlockNumber | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContributionFailed:
    """`status` is CONTRIBUTE_FAILED or OUT_OF_GAS."""

    at: Timestamp
    task_id: TaskId
    status: ReplicateStatus
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RevealChecked:
    """Whether the reveal would be accepted; the message says why not."""

    at: Timestamp
    task_id: TaskId
    can_reveal: bool
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevealMined:
    at: Timestamp
    task_id: TaskId
    tx_hash: TxHash | None
    block: BlockNumber | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RevealFailed:
    """`status` is REVEAL_FAILED or OUT_OF_GAS."""

    at: Timestamp
    task_id: TaskId
    status: ReplicateStatus
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultUploaded:
    at: Timestamp
    task_id: TaskId
    link: str
    bytes_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultUploadFailed:
    at: Timestamp
    task_id: TaskId
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPurged:
    """Container and folder are gone."""

    at: Timestamp
    task_id: TaskId


Event = (
    SchedulerInstructed
    | TaskDescribed
    | TaskRefused
    | AppDownloaded
    | AppDownloadFailed
    | DataDownloaded
    | DataDownloadFailed
    | AppComputed
    | AppComputeFailed
    | FailureDescribed
    | FailureNotDescribed
    | ContributionChecked
    | ContributionMined
    | ContributionFailed
    | RevealChecked
    | RevealMined
    | RevealFailed
    | ResultUploaded
    | ResultUploadFailed
    | TaskPurged
)
