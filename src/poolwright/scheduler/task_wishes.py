"""What the facts of a task call for: an upload, a transaction, the same once more after a failure."""

from __future__ import annotations

from typing import Final

from poolwright.poco.frozen import replace
from poolwright.poco.types import Timestamp
from poolwright.scheduler.effects import Submission, Submit, TellWorkerUpload
from poolwright.scheduler.events import SubmissionFailed
from poolwright.scheduler.replicate import Replicate
from poolwright.scheduler.task_state import (
    ACTIVE,
    CONTRIBUTION,
    FINAL,
    RECEIVED,
    REVEAL,
    REVEALING,
    Deadline,
    InFlight,
    Phase,
    S,
    Setback,
    Step,
    Task,
    move,
)
from poolwright.wire.statuses import Mover

UPLOAD_SILENCE_SECONDS: Final = 120
"""A worker that was asked to upload and is silent for longer is passed over (reference 3.1, two minutes)."""
UPLOAD_RETRY_SECONDS: Final = 60
"""Wait before a revealer is asked again, doubled after each failure, when no other one is left."""
MAX_UPLOAD_RETRY_SECONDS: Final = 3600
MAX_RETRY_SECONDS: Final = 300
"""Longest wait before a failed transaction is tried again; the first is two seconds."""
MAX_TRIES: Final = 24
"""Times in a row that one transaction is tried, over about an hour and a half. Then only another wish (at
last the claim) or an event moves the task on, and the operator is told."""


def pursue(step: Step, now: Timestamp) -> Step:
    """Ask for what the facts now call for and nobody has asked for yet: an upload, a transaction."""
    task, effects, ignored = step
    if task.is_ended:
        return step
    uploader = next_uploader(task) if task.phase is REVEALING else None
    if uploader is not None and (uploader.failed_uploads == 0 or now >= may_upload_from(uploader)):
        task = move(task, uploader.worker, Mover.POOL, S.RESULT_UPLOAD_REQUESTED, now)
        effects = (
            *effects,
            TellWorkerUpload(worker=uploader.worker, task_id=task.id, attempt=uploader.failed_uploads + 1),
        )
    wanted = _wanted(task, now)
    if task.setback is not None and task.setback.submission is not wanted:
        task = replace(task, setback=None)
    if wanted is None or _is_awaited(task, wanted):
        return step if task is step.task else Step(task, effects, ignored)
    failures = 0
    if task.setback is not None:
        if task.setback.retry_at is None or now < task.setback.retry_at:
            return Step(task, effects, ignored)
        failures = task.setback.failures
    attempt = task.submitted + 1
    submit = Submit(
        task_id=task.id,
        deal_id=task.deal.deal_id,
        index=task.index,
        submission=wanted,
        attempt=attempt,
        results=task.uploaded.link if task.uploaded and wanted is Submission.FINALIZE else "",
        callback=task.uploaded.callback if task.uploaded and wanted is Submission.FINALIZE else b"",
    )
    in_flight = InFlight(submission=wanted, attempt=attempt)
    task = replace(task, in_flight=in_flight, setback=None, submitted=attempt, failures=failures)
    return Step(task, (*effects, submit), ignored)


def _wanted(task: Task, now: Timestamp) -> Submission | None:
    """The transaction that would move the task on, if any (contract: what each call requires).

    Once nobody can contribute any more, neither `initialize` nor `reopen` would help: the claim is next.
    """
    if now >= task.final_deadline or FINAL in task.passed:
        return Submission.INITIALIZE_AND_CLAIM if task.phase is Phase.RECEIVED else Submission.CLAIM
    if task.phase is ACTIVE or task.is_ended:
        return None
    is_contributable = now < task.contribution_deadline and CONTRIBUTION not in task.passed
    if task.phase is RECEIVED:
        return Submission.INITIALIZE if is_contributable else None
    winners = task.winners
    revealed = sum([r.revealed for r in winners])
    if revealed == 0:
        return Submission.REOPEN if is_contributable and task.has_passed(REVEAL, now) else None
    if task.uploaded is not None and (revealed == len(winners) or task.has_passed(REVEAL, now)):
        return Submission.FINALIZE
    return None


def is_wanted(task: Task, submit: Submit, now: Timestamp) -> bool:
    """Whether a transaction that was asked for is still the one in flight, and would still help."""
    if task.in_flight != InFlight(submission=submit.submission, attempt=submit.attempt):
        return False
    wanted = _wanted(task, now)
    return wanted is not None and _is_awaited(task, wanted)


def _is_awaited(task: Task, wanted: Submission) -> bool:
    """Whether the transaction in flight is the wanted one, or does the same on its way."""
    if task.in_flight is None:
        return False
    flying = task.in_flight.submission
    return flying is wanted or (flying is Submission.INITIALIZE_AND_CLAIM and wanted is Submission.CLAIM)


def submission_failed(task: Task, event: SubmissionFailed, now: Timestamp) -> Step:
    in_flight = task.in_flight
    if in_flight is None or in_flight.submission is not event.submission:
        return Step(task, ignored=f"{event.submission} is not in flight")
    if event.attempt is not None and event.attempt != in_flight.attempt:
        return Step(task, ignored=f"attempt {in_flight.attempt} is in flight, not {event.attempt}")
    failures = task.failures + 1
    retry_at = Timestamp(now + min(2**failures, MAX_RETRY_SECONDS)) if failures < MAX_TRIES else None
    setback = Setback(submission=event.submission, failures=failures, retry_at=retry_at, reason=event.reason)
    return Step(replace(task, in_flight=None, setback=setback))


# Uploads ---------------------------------------------------------------------------------------------


def awaited_uploaders(task: Task) -> list[Replicate]:
    """Who was asked for the result and has not said that it is there: one, or another one that began late."""
    if task.phase is not Phase.REVEALING or task.uploaded is not None:
        return []
    return [r for r in task.replicates if r.is_asked and r.reached is not S.RESULT_UPLOADED]


def next_uploader(task: Task) -> Replicate | None:
    """Whom to ask for the result next: who has not been asked yet, else who may soonest be asked again."""
    if task.phase is not Phase.REVEALING or task.uploaded is not None or Deadline.FINAL in task.passed:
        return None
    for replicate in task.replicates:
        if replicate.is_asked:
            return None
    able = [r for r in task.winners if r.revealed and r.can_upload]
    if len(able) < 2:
        return able[0] if able else None
    return min(able, key=lambda r: (r.failed_uploads > 0, may_upload_from(r)), default=None)


def may_upload_from(replicate: Replicate) -> Timestamp:
    failures = replicate.failed_uploads
    if failures == 0:
        return replicate.since
    wait = min(UPLOAD_RETRY_SECONDS * 2 ** min(failures - 1, 8), MAX_UPLOAD_RETRY_SECONDS)
    return Timestamp(replicate.since + wait)
