"""What a worker says about its replicate, and what the repository has of it.

A worker is believed what it alone can know; the chain is asked for the rest.
"""

from __future__ import annotations

from typing import Final

from poolwright.poco.frozen import replace
from poolwright.poco.keccak import keccak
from poolwright.poco.results import result_hash
from poolwright.poco.types import Hash32, Timestamp, WorkerAddress
from poolwright.scheduler.effects import VerifyUpload
from poolwright.scheduler.events import UploadVerified, WorkerReported
from poolwright.scheduler.replicate import moved
from poolwright.scheduler.task_state import WORKER, Phase, S, Step, Task, Uploaded, close, edit, move, swapped
from poolwright.wire.statuses import ABORTED, BEFORE_CONTRIBUTION, UNCOMPLETABLE, Mover

ON_THE_WAY: Final = (BEFORE_CONTRIBUTION | {S.REVEALING}) - {S.CREATED, S.COMPUTED, S.COMPUTE_FAILED}
"""A worker that reports one of these goes on as expected: nothing is wanted, awaited or needed anew."""
FAREWELLS: Final = ABORTED | {S.COMPLETED}
"""The last word of a worker about a task: it has removed everything of it."""
MAX_EXPLANATION: Final = 500
"""Characters of a worker's explanation that are kept with a replicate."""


def reported(task: Task, event: WorkerReported) -> Step:
    """Believe what a worker alone can know; leave to the chain what the chain says."""
    if event.status in (S.CONTRIBUTED, S.REVEALED):
        return Step(task, ignored="the chain's log decides this, not a report")
    if event.status is S.COMPLETED and task.phase is not Phase.COMPLETED:
        return Step(task, ignored="the task is not finalized")
    replicate = task.replicate_of(event.worker)
    if replicate is None:
        return Step(task, ignored="this worker has no replicate of the task")
    cause, message = event.details.cause, event.details.message
    message = None if message is None else message[:MAX_EXPLANATION]
    after = move(task, event.worker, Mover.WORKER, event.status, event.at, cause, message)
    if after is task and task.is_ended and event.status in FAREWELLS and not replicate.is_finished:
        # Told to stop before what was good news came, it has purged itself: nothing more is to be awaited.
        after = close(task, event.worker, None, event.at, "the worker has stopped")
    if after is task:
        return Step(task, ignored=f"no move from {replicate.status} to {event.status}")
    if event.details.exit_code is not None:
        after = edit(after, event.worker, exit_code=event.details.exit_code)
    if event.status in UNCOMPLETABLE:
        after = close(after, event.worker, None, event.at)
    if event.status is S.RESULT_UPLOADED and task.phase is Phase.REVEALING and task.uploaded is None:
        return _to_verify(after, event)
    return Step(after)


def went_on(task: Task, event: WorkerReported) -> Step:
    """The same for a report on the way, as most reports are: nothing is wanted because of it."""
    replicate = task.replicate_of(event.worker)
    if replicate is None:
        return Step(task, ignored="this worker has no replicate of the task")
    details = event.details
    message = None if details.message is None else details.message[:MAX_EXPLANATION]
    after = moved(replicate, WORKER, event.status, event.at, details.cause, message)
    if after is None:
        return Step(task, ignored=f"no move from {replicate.status} to {event.status}")
    if details.exit_code is not None:
        after = replace(after, exit_code=details.exit_code)
    return Step(swapped(task, replicate, after))


def _to_verify(task: Task, event: WorkerReported) -> Step:
    """Have the upload looked up; a callback that `finalize` would refuse is refused here."""
    callback = (event.details.callback or b"") if task.deal.has_callback else b""
    is_good = not task.deal.has_callback or task.consensus == result_hash(task.id, Hash32(keccak(callback)))
    if not is_good:
        cause = "the callback is not the one that was agreed on"
        return Step(move(task, event.worker, Mover.POOL, S.RESULT_UPLOAD_FAILED, event.at, cause))
    link = event.details.result_link or ""
    replicate = task.replicate_of(event.worker)
    verify = VerifyUpload(
        task_id=task.id,
        worker=event.worker,
        link=link,
        callback=callback,
        attempt=replicate.uploads if replicate else 1,
    )
    return Step(task, (verify,))


def upload_verified(task: Task, event: UploadVerified) -> Step:
    if task.uploaded is not None:
        return Step(task, ignored="the result is in the repository already")
    replicate = task.replicate_of(event.worker)
    if task.phase is not Phase.REVEALING or replicate not in task.winners or not replicate.revealed:
        return Step(task, ignored="not an upload of this consensus")
    return Step(replace(task, uploaded=Uploaded(link=event.link, callback=event.callback)))


def upload_missing(task: Task, worker: WorkerAddress, reason: str, now: Timestamp) -> Step:
    replicate = task.replicate_of(worker)
    if replicate is None or replicate.is_finished or replicate.reached is not S.RESULT_UPLOADED:
        return Step(task, ignored="no upload of this worker is awaited")
    after = move(task, worker, Mover.POOL, S.RESULT_UPLOAD_FAILED, now, reason)
    if replicate.is_lost:
        after = move(after, worker, Mover.POOL, S.WORKER_LOST, now)
    return Step(after)
