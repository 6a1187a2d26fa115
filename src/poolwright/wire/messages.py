"""What scheduler and worker say to each other over their WebSocket.

Each side numbers what must not be lost (a worker its reports, a scheduler its instructions) with the
ascending numbers of its own outbox, keeps it until the other side confirms that number, and says when it
connects up to which number it has received. So a connection can break anywhere, and either process can be
killed anywhere: what was not confirmed is sent again, and what comes twice is recognised by its number.

    worker                                     scheduler
      Hello(journal, received, slots, …)   ─►
                                           ◄─    Welcome(ledger, received, heartbeat_seconds, …)
      Reported(sequence, task, status, …)  ─►
                                           ◄─    Confirm(upto)
                                           ◄─    Instructed(sequence, instruction)
      Confirm(upto)                        ─►
      Heartbeat                            ─►    (only when there is nothing else to say)

`journal` and `ledger` name the stores of the two sides. When one of them is new (a disk was replaced), the
numbers start again and the other side forgets what it had counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from poolwright.poco.types import Address, BlockNumber, DealId, Hash32, TaskId, Timestamp, TxHash
from poolwright.wire.statuses import ReplicateStatus

PROTOCOL = 1
MAX_MESSAGE_BYTES = 64 * 1024
"""Longest message either side accepts; a longer one ends the connection."""
MAX_CALLBACK_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What a worker offers."""

    name: str
    version: str
    slots: int
    """Tasks that it computes side by side."""
    cpus: int
    memory_gib: int
    gpu: bool = False
    tee_frameworks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """What rides beside a status. `cause` is a word for programs, `message` a sentence for people."""

    cause: str | None = None
    message: str | None = None
    exit_code: int | None = None
    tx_hash: TxHash | None = None
    block: BlockNumber | None = None
    result_link: str | None = None
    callback: bytes | None = None
    """What the deal's callback contract is to receive; at most `MAX_CALLBACK_BYTES`."""
    bytes_count: int | None = None
    milliseconds: int | None = None


class AbortCause(StrEnum):
    """Why a worker is told to stop working on a task."""

    CONSENSUS_REACHED = "CONSENSUS_REACHED"
    CONTRIBUTION_TIMEOUT = "CONTRIBUTION_TIMEOUT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Compute this task. The worker reads everything else from the chain, at `block` or later.

    `authorization` is the pool owner's signature over (worker, task, enclave challenge): 65 bytes.
    """

    task_id: TaskId
    deal_id: DealId
    index: int
    enclave_challenge: Address
    authorization: bytes
    block: BlockNumber
    contribute_and_finalize: bool = False
    """Bring the result first and end the task in one transaction, where the chain allows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reveal:
    """The consensus is on your result: publish its digest before `deadline`."""

    task_id: TaskId
    block: BlockNumber
    deadline: Timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """Bring the result to the result repository."""

    task_id: TaskId


@dataclass(frozen=True, slots=True, kw_only=True)
class Complete:
    """The task is finalized on chain: delete what you keep of it."""

    task_id: TaskId


@dataclass(frozen=True, slots=True, kw_only=True)
class Abort:
    """Stop working on the task and delete what you keep of it."""

    task_id: TaskId
    cause: AbortCause


Instruction = Start | Reveal | Upload | Complete | Abort


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """First message of a worker on each connection."""

    protocol: int
    journal: Hash32
    ledger: Hash32 | None
    """The scheduler's store that `received` counts in; None when the worker has never met one."""
    received: int
    """Number of the last instruction that the worker has made durable."""
    capacity: Capacity


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """The scheduler's answer to Hello; both now send again what the other has not received."""

    ledger: Hash32
    received: int
    """Number of the last report that the scheduler has made durable from this journal."""
    heartbeat_seconds: int
    results_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """A worker's report: the replicate of `task_id` is now in `status`."""

    sequence: int
    task_id: TaskId
    status: ReplicateStatus
    details: Details = field(default_factory=Details)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instructed:
    """A scheduler's instruction."""

    sequence: int
    instruction: Instruction


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirm:
    """Everything up to this number is durable on my side."""

    upto: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """Nothing to say, but alive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What the worker's owner should know of its standing: why it gets no new work, or that it does again.

    Not numbered: it is said in each session as it stands, and again when it changes. `code` is "" when all is
    well.
    """

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The scheduler ends the connection, and why."""

    code: str
    message: str


WorkerMessage = Hello | Reported | Confirm | Heartbeat
SchedulerMessage = Welcome | Instructed | Confirm | Notice | Refused

WORKER_MESSAGES: Sequence[type] = (Hello, Reported, Confirm, Heartbeat)
SCHEDULER_MESSAGES: Sequence[type] = (Welcome, Instructed, Confirm, Notice, Refused)
