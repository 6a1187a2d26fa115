"""What an effect comes to when it could not be carried out."""

from __future__ import annotations

from poolwright.poco.errors import InvariantBroken, PoolwrightError
from poolwright.poco.types import Timestamp
from poolwright.scheduler.effects import Effect, Submit, VerifyUpload
from poolwright.scheduler.events import PoolEvent, SubmissionFailed, UploadMissing, UploadVerified


def given_up(effect: Effect, error: PoolwrightError, at: Timestamp) -> PoolEvent:
    """The outcome of an effect that was given up for `error`. Raises InvariantBroken for a message."""
    match effect:
        case Submit():
            return submission_failed(effect, str(error), at)
        case VerifyUpload(task_id=task_id, worker=worker):
            return UploadMissing(at=at, task_id=task_id, worker=worker, reason=str(error))
        case _:
            raise InvariantBroken(f"{type(effect).__name__} cannot be given up")


def submission_failed(effect: Submit, reason: str, at: Timestamp) -> PoolEvent:
    """The outcome of a transaction that cannot be, or cannot be any more."""
    return SubmissionFailed(
        at=at,
        task_id=effect.task_id,
        submission=effect.submission,
        attempt=effect.attempt,
        reason=reason,
    )


def upload_checked(effect: VerifyUpload, found: str | None, at: Timestamp) -> PoolEvent:
    """The outcome of a look for a result at the repository, which has it under the link `found`."""
    if found is None or found != effect.link:
        reason = f"result repository: expected {effect.link}, got {found or 'nothing'}"
        return UploadMissing(at=at, task_id=effect.task_id, worker=effect.worker, reason=reason)
    return UploadVerified(
        at=at, task_id=effect.task_id, worker=effect.worker, link=found, callback=effect.callback
    )
