"""What the scheduler's mind asks its hands to do, in the imperative.

Each effect is asked for once and carried out at least once: the hands first look whether the chain or the
worker already has it (by anybody's doing). Effects of one step are independent and may run in any order.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from poolwright.poco.types import BlockNumber, DealId, TaskId, Timestamp, WorkerAddress
from poolwright.wire.messages import AbortCause


class Submission(StrEnum):
    """The transactions of a workerpool owner."""

    INITIALIZE = "INITIALIZE"
    FINALIZE = "FINALIZE"
    REOPEN = "REOPEN"
    CLAIM = "CLAIM"
    INITIALIZE_AND_CLAIM = "INITIALIZE_AND_CLAIM"


@dataclass(frozen=True, slots=True, kw_only=True)
class Submit:
    """Send one transaction about a task. (task, submission, attempt) is its identity.

    `attempt` counts the transactions asked for in the task's whole life, so that no two share an identity,
    not even the reopens of two rounds.
    `results` (the link) and `callback` (what the deal's callback contract receives) are for `finalize`.
    """

    task_id: TaskId
    deal_id: DealId
    index: int
    submission: Submission
    attempt: int
    results: str = ""
    callback: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyUpload:
    """Ask the result repository whether it holds the task's result, the `attempt`th upload of this worker."""

    task_id: TaskId
    worker: WorkerAddress
    link: str
    callback: bytes = b""
    attempt: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TellWorkerStart:
    """Hand the task to the worker; the hands sign its authorization.

    `contribute_and_finalize`: the contract would let the worker end the task in one transaction.
    """

    worker: WorkerAddress
    task_id: TaskId
    deal_id: DealId
    index: int
    block: BlockNumber
    contribute_and_finalize: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TellWorkerReveal:
    worker: WorkerAddress
    task_id: TaskId
    block: BlockNumber
    deadline: Timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class TellWorkerUpload:
    """Ask for the result, the `attempt`th time: an upload that failed may be asked for again."""

    worker: WorkerAddress
    task_id: TaskId
    attempt: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TellWorkerComplete:
    worker: WorkerAddress
    task_id: TaskId


@dataclass(frozen=True, slots=True, kw_only=True)
class TellWorkerAbort:
    worker: WorkerAddress
    task_id: TaskId
    cause: AbortCause


TellWorker = TellWorkerStart | TellWorkerReveal | TellWorkerUpload | TellWorkerComplete | TellWorkerAbort
Effect = Submit | VerifyUpload | TellWorker


def identity(effect: Effect) -> str:
    """What tells an effect from every other one of its kind, of its task and (for a message) of its worker.

    The same wish asked for again has the same identity; one that differs in what matters has another.
    """
    match effect:
        case Submit(submission=submission, attempt=attempt):
            return f"{submission}:{effect.task_id}:{attempt}"
        case VerifyUpload(worker=worker, attempt=attempt):
            return f"VerifyUpload:{effect.task_id}:{worker}:{attempt}"
        case TellWorkerUpload(attempt=attempt):
            return f"TellWorkerUpload:{effect.task_id}:{attempt}"
        case TellWorkerReveal(block=block):
            return f"TellWorkerReveal:{effect.task_id}:{block}"
        case TellWorkerAbort(cause=cause):
            return f"TellWorkerAbort:{effect.task_id}:{cause}"
        case TellWorkerStart() | TellWorkerComplete():
            return f"{type(effect).__name__}:{effect.task_id}"
        case _:
            assert_never(effect)
