"""What an effect comes to when it could not be carried out, however often it was tried.

What is given up is this worker's fault: its engine, its disk, its node. Failures that lie in the task are
outcomes that its hands find.
"""

from __future__ import annotations

from typing import Final, assert_never

from poolwright.poco.errors import InvariantBroken, PoolwrightError
from poolwright.poco.types import Timestamp
from poolwright.wire.statuses import ReplicateStatus
from poolwright.worker.effects import (
    CheckContribution,
    CheckReveal,
    Compute,
    DeliverResult,
    DescribeFailure,
    DescribeTask,
    DownloadApp,
    DownloadData,
    Effect,
    Purge,
    Report,
    SubmitContribute,
    SubmitContributeAndFinalize,
    SubmitReveal,
    UploadResult,
)
from poolwright.worker.events import (
    AppComputeFailed,
    AppDownloadFailed,
    ContributionChecked,
    ContributionFailed,
    DataDownloadFailed,
    Event,
    FailureNotDescribed,
    ResultUploadFailed,
    RevealChecked,
    RevealFailed,
    TaskPurged,
    TaskRefused,
)

S = ReplicateStatus

DISK: Final = "disk-unavailable"
"""Code of the error of hands whose disk is full or broken (`compute.disk.DiskUnavailable`)."""
DISK_FAILED: Final = "WORKER_DISK_FAILED"
"""The cause that is reported for it: the requester's app and data may be sound."""
ENGINE_FAILED: Final = "WORKER_ENGINE_FAILED"
CHAIN_UNREACHABLE: Final = "CHAIN_UNREACHABLE"


def given_up(effect: Effect, error: PoolwrightError, at: Timestamp) -> Event:
    """The outcome of an effect that was given up for `error`. Raises InvariantBroken for a report."""
    task_id, why = effect.task_id, str(error)
    match effect:
        case DescribeTask():
            cause = CHAIN_UNREACHABLE
            return TaskRefused(at=at, task_id=task_id, status=S.FAILED, cause=cause, message=why)
        case DownloadApp():
            cause = _cause(error, ENGINE_FAILED)
            return AppDownloadFailed(at=at, task_id=task_id, cause=cause, message=why, is_own_fault=True)
        case DownloadData():
            cause = _cause(error, error.code)
            return DataDownloadFailed(at=at, task_id=task_id, cause=cause, message=why, is_own_fault=True)
        case Compute():
            return AppComputeFailed(
                at=at,
                task_id=task_id,
                cause=_cause(error, ENGINE_FAILED),
                message=why,
                exit_code=None,
                milliseconds=0,
                is_own_fault=True,
            )
        case DescribeFailure():
            cause = _cause(error, error.code)
            return FailureNotDescribed(at=at, task_id=task_id, cause=cause, message=why)
        case CheckContribution():
            return ContributionChecked(
                at=at, task_id=task_id, verdict=S.FAILED, message=why, cause=CHAIN_UNREACHABLE
            )
        case SubmitContribute() | SubmitContributeAndFinalize():
            return ContributionFailed(at=at, task_id=task_id, status=S.CONTRIBUTE_FAILED, message=why)
        case CheckReveal():
            return RevealChecked(at=at, task_id=task_id, can_reveal=False, message=why)
        case SubmitReveal():
            return RevealFailed(at=at, task_id=task_id, status=S.REVEAL_FAILED, message=why)
        case DeliverResult() | UploadResult():
            return ResultUploadFailed(at=at, task_id=task_id, message=why)
        case Purge():
            return TaskPurged(at=at, task_id=task_id)
        case Report():
            raise InvariantBroken("a report cannot be given up")
        case _:
            assert_never(effect)


def _cause(error: PoolwrightError, otherwise: str) -> str:
    return DISK_FAILED if error.code == DISK else otherwise
