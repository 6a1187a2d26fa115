"""What the worker's mind asks its hands to do, in the imperative.

Each effect may be carried out more than once (after a crash it is asked for again), so each is idempotent:
a container that runs already is waited for, a file that is there is kept, a transaction that was sent is
watched, a result that was uploaded is left alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from poolwright.poco.types import Address, Hash32, TaskId, Timestamp
from poolwright.wire.messages import Details, Reveal, Start
from poolwright.wire.statuses import ReplicateStatus
from poolwright.worker.terms import Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeTask:
    """Read the task from the chain, verify the authorization, and see that stake and gas suffice."""

    task_id: TaskId
    start: Start


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadApp:
    """Have the app's image on this machine, with the checksum that the chain names."""

    task_id: TaskId
    terms: Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadData:
    """Have dataset and input files in the task's input folder, with their checksums."""

    task_id: TaskId
    terms: Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """Run the app in its container and take the digest of what it wrote."""

    task_id: TaskId
    terms: Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeFailure:
    """Write the result of a task that failed: a deterministic description of the failure."""

    task_id: TaskId
    terms: Terms
    cause: str
    exit_code: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverResult:
    """Bring the result's archive to the repository before the contribution, with the pool's authorization.

    For `contributeAndFinalize`, which names the result's place. The repository is waited for until chain time
    `until`; then the long way is taken, which needs no repository yet.
    """

    task_id: TaskId
    enclave_challenge: Address
    authorization: bytes
    until: Timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckContribution:
    """See whether the chain would accept a contribution now, and which one: is the result delivered?"""

    task_id: TaskId
    terms: Terms
    is_delivered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitContribute:
    """Send `contribute` with the hash and the seal of the digest."""

    task_id: TaskId
    digest: Hash32
    enclave_challenge: Address
    authorization: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitContributeAndFinalize:
    """Send `contributeAndFinalize`: the digest, where the result was delivered, and the callback's bytes."""

    task_id: TaskId
    digest: Hash32
    link: str
    callback: bytes
    enclave_challenge: Address
    authorization: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReveal:
    """See, at the consensus block or later, whether the chain would accept the reveal."""

    task_id: TaskId
    digest: Hash32
    reveal: Reveal


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitReveal:
    """Send `reveal`."""

    task_id: TaskId
    digest: Hash32


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadResult:
    """Bring the result's archive to the result repository; `number` tells one request from the next."""

    task_id: TaskId
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Purge:
    """Stop the task's container if it runs and delete the task's folder."""

    task_id: TaskId


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Tell the scheduler that the replicate has reached `status`; `number` counts the attempt's reports."""

    task_id: TaskId
    status: ReplicateStatus
    number: int = 0
    details: Details = field(default_factory=Details)


Effect = (
    DescribeTask
    | DownloadApp
    | DownloadData
    | Compute
    | DescribeFailure
    | DeliverResult
    | CheckContribution
    | SubmitContribute
    | SubmitContributeAndFinalize
    | CheckReveal
    | SubmitReveal
    | UploadResult
    | Purge
    | Report
)
