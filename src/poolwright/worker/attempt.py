"""One attempt of this worker at a task: what the scheduler calls a replicate, seen from inside.

    DESCRIBING ─► PULLING ─► FETCHING ─► COMPUTING ─► CHECKING ─► CONTRIBUTING ─► CONTRIBUTED
             └───────┴───────────┴── failed ─► DESCRIBING_FAILURE ─┘                   │ told to reveal
    UPLOADED ◄─ UPLOADING ◄──── told to upload ──── REVEALED ◄─ REVEALING ◄─ CHECKING_REVEAL

and from anywhere to PURGING, which ends it. Where one transaction is enough (`contributeAndFinalize`), the
result is delivered first: COMPUTING ─► DELIVERING ─► CHECKING ─► FINALIZING ─► FINALIZED. When it cannot be
delivered, or the check finds that the chain wants the long way, the attempt goes that way.

Every stage waits for exactly one effect's outcome or for an instruction; an outcome that comes in another
stage is late and changes nothing. The scheduler may be ahead of us, because it follows the chain too: told to
reveal before our own receipt has come, we go on from there.

Work that was under way when the purge began may end after it and leave its traces on the disk once more. So
the late outcome of such work is a reason to purge again.

A failure before the contribution has a result as well, a deterministic description of the failure, which is
contributed like any other: the requester learns what went wrong, and the work is paid. Only when it was this
worker's own engine or disk that failed, or when not even the description can be written, is there nothing to
contribute, and the attempt is FAILED (docs/adr/0003-failures-are-contributed.md).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, NamedTuple, assert_never

from poolwright.poco.errors import InvariantBroken
from poolwright.poco.types import TaskId, Timestamp
from poolwright.wire.messages import Abort, AbortCause, Complete, Details, Instruction, Reveal, Start, Upload
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
    AppComputed,
    AppComputeFailed,
    AppDownloaded,
    AppDownloadFailed,
    ContributionChecked,
    ContributionFailed,
    ContributionMined,
    DataDownloaded,
    DataDownloadFailed,
    Event,
    FailureDescribed,
    FailureNotDescribed,
    Result,
    ResultUploaded,
    ResultUploadFailed,
    RevealChecked,
    RevealFailed,
    RevealMined,
    SchedulerInstructed,
    TaskDescribed,
    TaskPurged,
    TaskRefused,
)
from poolwright.worker.terms import Terms

S = ReplicateStatus


class Stage(StrEnum):
    """What the attempt is waiting for."""

    DESCRIBING = "DESCRIBING"
    PULLING = "PULLING"
    FETCHING = "FETCHING"
    COMPUTING = "COMPUTING"
    DESCRIBING_FAILURE = "DESCRIBING_FAILURE"
    DELIVERING = "DELIVERING"
    CHECKING = "CHECKING"
    FINALIZING = "FINALIZING"
    FINALIZED = "FINALIZED"
    CONTRIBUTING = "CONTRIBUTING"
    CONTRIBUTED = "CONTRIBUTED"
    CHECKING_REVEAL = "CHECKING_REVEAL"
    REVEALING = "REVEALING"
    REVEALED = "REVEALED"
    UPLOADING = "UPLOADING"
    UPLOADED = "UPLOADED"
    PURGING = "PURGING"
    PURGED = "PURGED"


#: What is said when an abort is done.
ABORTED_ON: Final = {
    AbortCause.CONSENSUS_REACHED: S.ABORTED_ON_CONSENSUS_REACHED,
    AbortCause.CONTRIBUTION_TIMEOUT: S.ABORTED_ON_CONTRIBUTION_TIMEOUT,
}
#: Outcomes of work that writes into the task's folder or runs its container.
LEAVES_TRACES: Final = (
    DataDownloaded,
    DataDownloadFailed,
    AppComputed,
    AppComputeFailed,
    FailureDescribed,
    FailureNotDescribed,
)
LONG_WAY_UNITS: Final = 2
"""Work clock units before the contribution deadline; from then on no silent repository is waited for."""
_ALIVE: Final = tuple(stage for stage in Stage if stage not in (Stage.PURGING, Stage.PURGED))
STAGE_MOVES: Final[dict[tuple[Stage, type[Event | Instruction]], frozenset[Stage]]] = {
    (Stage.DESCRIBING, TaskDescribed): frozenset({Stage.PULLING}),
    (Stage.DESCRIBING, TaskRefused): frozenset({Stage.PURGING}),
    (Stage.PULLING, AppDownloaded): frozenset({Stage.FETCHING}),
    (Stage.PULLING, AppDownloadFailed): frozenset({Stage.DESCRIBING_FAILURE, Stage.PURGING}),
    (Stage.FETCHING, DataDownloaded): frozenset({Stage.COMPUTING}),
    (Stage.FETCHING, DataDownloadFailed): frozenset({Stage.DESCRIBING_FAILURE, Stage.PURGING}),
    (Stage.COMPUTING, AppComputed): frozenset({Stage.CHECKING, Stage.DELIVERING}),
    (Stage.COMPUTING, AppComputeFailed): frozenset({Stage.DESCRIBING_FAILURE, Stage.PURGING}),
    (Stage.DESCRIBING_FAILURE, FailureDescribed): frozenset({Stage.CHECKING, Stage.DELIVERING}),
    (Stage.DESCRIBING_FAILURE, FailureNotDescribed): frozenset({Stage.PURGING}),
    (Stage.DELIVERING, ResultUploaded): frozenset({Stage.CHECKING}),
    (Stage.DELIVERING, ResultUploadFailed): frozenset({Stage.CHECKING}),  # the long way is still open
    (Stage.CHECKING, ContributionChecked): frozenset({Stage.CONTRIBUTING, Stage.FINALIZING, Stage.PURGING}),
    (Stage.FINALIZING, ContributionMined): frozenset({Stage.FINALIZED}),
    (Stage.FINALIZING, ContributionFailed): frozenset({Stage.PURGING}),
    (Stage.CONTRIBUTING, ContributionMined): frozenset({Stage.CONTRIBUTED}),
    (Stage.CONTRIBUTING, ContributionFailed): frozenset({Stage.PURGING}),
    (Stage.CONTRIBUTING, Reveal): frozenset({Stage.CHECKING_REVEAL}),  # the chain is faster than our receipt
    (Stage.CONTRIBUTED, Reveal): frozenset({Stage.CHECKING_REVEAL}),
    (Stage.CHECKING_REVEAL, RevealChecked): frozenset({Stage.REVEALING, Stage.PURGING}),
    (Stage.REVEALING, RevealMined): frozenset({Stage.REVEALED}),
    (Stage.REVEALING, RevealFailed): frozenset({Stage.PURGING}),
    (Stage.CHECKING_REVEAL, Upload): frozenset({Stage.UPLOADING}),  # as with Reveal
    (Stage.REVEALING, Upload): frozenset({Stage.UPLOADING}),
    (Stage.REVEALED, Upload): frozenset({Stage.UPLOADING}),
    (Stage.UPLOADING, Upload): frozenset({Stage.UPLOADING}),  # it asks once more: we are at it
    (Stage.UPLOADED, Upload): frozenset({Stage.UPLOADING}),  # it did not find the result there
    (Stage.UPLOADING, ResultUploaded): frozenset({Stage.UPLOADED}),
    (Stage.UPLOADING, ResultUploadFailed): frozenset({Stage.REVEALED}),
    **{(stage, Complete): frozenset({Stage.PURGING}) for stage in _ALIVE},
    **{(stage, Abort): frozenset({Stage.PURGING}) for stage in _ALIVE},
    **{(Stage.PURGING, outcome): frozenset({Stage.PURGING}) for outcome in LEAVES_TRACES},
    (Stage.PURGING, TaskPurged): frozenset({Stage.PURGED, Stage.PURGING}),
}
"""Every legal move of the stage and the outcome or instruction that makes it; nothing else changes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """Everything this worker knows of its attempt. `farewell` is the report that follows the purge."""

    start: Start
    stage: Stage = Stage.DESCRIBING
    terms: Terms | None = None
    result: Result | None = None
    delivered: str = ""
    """The link of a result that was brought to the repository before the contribution."""
    farewell: ReplicateStatus | None = None
    reports: int = 0
    """Reports made so far."""
    purges_again: bool = False
    """Something was written after the purge may have begun."""

    @property
    def task_id(self) -> TaskId:
        return self.start.task_id


class Step(NamedTuple):
    """The attempt after an event, what to do about it, and, when nothing changed, why not."""

    attempt: Attempt
    effects: tuple[Effect, ...] = ()
    ignored: str | None = None


def begun(start: Start) -> Step:
    """A new attempt: before anything else, see on the chain what the task is."""
    return Step(Attempt(start=start), (DescribeTask(task_id=start.task_id, start=start),))


def step(attempt: Attempt, event: Event) -> Step:
    """Advance the attempt by one event. Total: what does not apply changes nothing and says why."""
    if isinstance(event, SchedulerInstructed):
        return _instructed(attempt, event)
    if (attempt.stage, type(event)) not in STAGE_MOVES:
        return Step(attempt, ignored=f"{type(event).__name__} comes late: the stage is {attempt.stage}")
    if attempt.stage is Stage.PURGING and isinstance(event, LEAVES_TRACES):
        return Step(replace(attempt, purges_again=True))
    match event:
        case TaskDescribed(terms=terms):
            return _next(
                replace(attempt, terms=terms),
                Stage.PULLING,
                _report(attempt, S.RUNNING),
                _report(attempt, S.APP_DOWNLOADING),
                DownloadApp(task_id=attempt.task_id, terms=terms),
            )
        case TaskRefused(status=status, cause=cause, message=message):
            refusal = _report(attempt, status, Details(cause=cause, message=message))
            return _purge(attempt, _report(attempt, S.RUNNING), refusal)
        case AppDownloaded():
            return _next(
                attempt,
                Stage.FETCHING,
                _report(attempt, S.APP_DOWNLOADED),
                _report(attempt, S.DATA_DOWNLOADING),
                DownloadData(task_id=attempt.task_id, terms=_terms(attempt)),
            )
        case DataDownloaded():
            return _next(
                attempt,
                Stage.COMPUTING,
                _report(attempt, S.DATA_DOWNLOADED),
                _report(attempt, S.COMPUTING),
                Compute(task_id=attempt.task_id, terms=_terms(attempt)),
            )
        case AppDownloadFailed(cause=cause, message=message):
            details = Details(cause=cause, message=message)
            return _failed(attempt, S.APP_DOWNLOAD_FAILED, details, is_own_fault=event.is_own_fault)
        case DataDownloadFailed(cause=cause, message=message):
            details = Details(cause=cause, message=message)
            return _failed(attempt, S.DATA_DOWNLOAD_FAILED, details, is_own_fault=event.is_own_fault)
        case AppComputeFailed(cause=cause, message=message, exit_code=exit_code, milliseconds=milliseconds):
            details = Details(cause=cause, message=message, exit_code=exit_code, milliseconds=milliseconds)
            return _failed(attempt, S.COMPUTE_FAILED, details, is_own_fault=event.is_own_fault)
        case AppComputed(result=result, exit_code=exit_code, milliseconds=milliseconds):
            details = Details(exit_code=exit_code, milliseconds=milliseconds)
            return _with_result(replace(attempt, result=result), _report(attempt, S.COMPUTED, details))
        case FailureDescribed(result=result):
            return _with_result(replace(attempt, result=result))
        case FailureNotDescribed(cause=cause, message=message):
            return _purge(attempt, _report(attempt, S.FAILED, Details(cause=cause, message=message)))
        case ResultUploaded(link=link) if attempt.stage is Stage.DELIVERING:
            return _check(replace(attempt, delivered=link))
        case ResultUploadFailed() if attempt.stage is Stage.DELIVERING:
            return _check(attempt)
        case ContributionChecked(verdict=verdict, message=message):
            if verdict is not S.CAN_CONTRIBUTE:
                details = Details(cause=event.cause or None, message=message)
                return _purge(attempt, _report(attempt, verdict, details))
            return _contribute(attempt, at_once=event.contribute_and_finalize)
        case ContributionMined(tx_hash=tx_hash, block=block):
            details = Details(tx_hash=tx_hash, block=block)
            mined = Stage.FINALIZED if attempt.stage is Stage.FINALIZING else Stage.CONTRIBUTED
            return _next(attempt, mined, _report(attempt, S.CONTRIBUTED, details))
        case ContributionFailed(status=status, message=message):
            return _purge(attempt, _report(attempt, status, Details(message=message)))
        case RevealChecked(can_reveal=True):
            reveal = SubmitReveal(task_id=attempt.task_id, digest=_result(attempt).digest)
            return _next(attempt, Stage.REVEALING, _report(attempt, S.REVEALING), reveal)
        case RevealChecked(message=message):
            return _purge(attempt, _report(attempt, S.CANT_REVEAL, Details(message=message)))
        case RevealMined(tx_hash=tx_hash, block=block):
            details = Details(tx_hash=tx_hash, block=block)
            return _next(attempt, Stage.REVEALED, _report(attempt, S.REVEALED, details))
        case RevealFailed(status=status, message=message):
            return _purge(attempt, _report(attempt, status, Details(message=message)))
        case ResultUploaded(link=link, bytes_count=bytes_count):
            details = Details(
                result_link=link, bytes_count=bytes_count, callback=_result(attempt).callback or None
            )
            return _next(attempt, Stage.UPLOADED, _report(attempt, S.RESULT_UPLOADED, details))
        case ResultUploadFailed(message=message):
            details = Details(message=message)
            return _next(attempt, Stage.REVEALED, _report(attempt, S.RESULT_UPLOAD_FAILED, details))
        case TaskPurged() if attempt.purges_again:
            return _purge(replace(attempt, purges_again=False))
        case TaskPurged():
            farewell = () if attempt.farewell is None else (_report(attempt, attempt.farewell),)
            return _next(attempt, Stage.PURGED, *farewell)
        case _:
            assert_never(event)


def _instructed(attempt: Attempt, event: SchedulerInstructed) -> Step:
    instruction = event.instruction
    if isinstance(instruction, Start):
        return Step(attempt, ignored="the task is under way")
    if attempt.stage is Stage.PURGING and isinstance(instruction, Complete | Abort):
        return _will_answer(attempt, instruction)
    if (attempt.stage, type(instruction)) not in STAGE_MOVES:
        name = type(instruction).__name__
        return Step(attempt, ignored=f"{name} does not apply in stage {attempt.stage}")
    match instruction:
        case Reveal():
            check = CheckReveal(task_id=attempt.task_id, digest=_result(attempt).digest, reveal=instruction)
            return _next(attempt, Stage.CHECKING_REVEAL, check)
        case Upload() if attempt.stage is Stage.UPLOADING:
            return _next(attempt, Stage.UPLOADING, _report(attempt, S.RESULT_UPLOADING))
        case Upload():
            upload = UploadResult(task_id=attempt.task_id, number=attempt.reports)
            return _next(attempt, Stage.UPLOADING, _report(attempt, S.RESULT_UPLOADING), upload)
        case Complete():
            return _purge(replace(attempt, farewell=S.COMPLETED))
        case Abort(cause=cause):
            return _purge(replace(attempt, farewell=ABORTED_ON[cause]))
        case _:
            assert_never(instruction)


def _will_answer(attempt: Attempt, instruction: Complete | Abort) -> Step:
    """Say after the purge under way what the scheduler waits for, unless that is promised already.

    A scheduler that has lost its store may have handed out a task that is over, which we refuse, and then
    learn from the chain that it is over.
    """
    if attempt.farewell is not None:
        return Step(attempt, ignored="the purge is under way")
    farewell = S.COMPLETED if isinstance(instruction, Complete) else ABORTED_ON[instruction.cause]
    return Step(replace(attempt, farewell=farewell))


def _failed(attempt: Attempt, status: ReplicateStatus, details: Details, *, is_own_fault: bool) -> Step:
    if is_own_fault:
        return _purge(attempt, _report(attempt, status, details), _report(attempt, S.FAILED, details))
    describe = DescribeFailure(
        task_id=attempt.task_id,
        terms=_terms(attempt),
        cause=details.cause or status.value,
        exit_code=details.exit_code,
    )
    return _next(attempt, Stage.DESCRIBING_FAILURE, _report(attempt, status, details), describe)


def _with_result(attempt: Attempt, *effects: Effect) -> Step:
    """There is something to contribute; where one transaction is to do it all, its place comes first."""
    terms = _terms(attempt)
    if not terms.contribute_and_finalize:
        return _check(attempt, *effects)
    deliver = DeliverResult(
        task_id=attempt.task_id,
        enclave_challenge=attempt.start.enclave_challenge,
        authorization=attempt.start.authorization,
        until=Timestamp(terms.contribution_deadline - LONG_WAY_UNITS * terms.timeref),
    )
    return _next(attempt, Stage.DELIVERING, *effects, deliver)


def _check(attempt: Attempt, *effects: Effect) -> Step:
    check = CheckContribution(
        task_id=attempt.task_id, terms=_terms(attempt), is_delivered=bool(attempt.delivered)
    )
    return _next(attempt, Stage.CHECKING, *effects, check)


def _contribute(attempt: Attempt, *, at_once: bool) -> Step:
    start, result = attempt.start, _result(attempt)
    reports = _report(attempt, S.CAN_CONTRIBUTE), _report(attempt, S.CONTRIBUTING)
    if at_once and attempt.delivered:
        finalize = SubmitContributeAndFinalize(
            task_id=attempt.task_id,
            digest=result.digest,
            link=attempt.delivered,
            callback=result.callback,
            enclave_challenge=start.enclave_challenge,
            authorization=start.authorization,
        )
        return _next(attempt, Stage.FINALIZING, *reports, finalize)
    contribute = SubmitContribute(
        task_id=attempt.task_id,
        digest=result.digest,
        enclave_challenge=start.enclave_challenge,
        authorization=start.authorization,
    )
    return _next(attempt, Stage.CONTRIBUTING, *reports, contribute)


def _purge(attempt: Attempt, *effects: Effect) -> Step:
    return _next(attempt, Stage.PURGING, *effects, Purge(task_id=attempt.task_id))


def _next(attempt: Attempt, stage: Stage, *effects: Effect) -> Step:
    """Enter the stage; number the reports."""
    count = attempt.reports
    numbered: list[Effect] = []
    for effect in effects:
        if isinstance(effect, Report):
            count += 1
            effect = replace(effect, number=count)
        numbered.append(effect)
    return Step(replace(attempt, stage=stage, reports=count), tuple(numbered))


def _report(attempt: Attempt, status: ReplicateStatus, details: Details | None = None) -> Report:
    return Report(task_id=attempt.task_id, status=status, details=details or Details())


def _terms(attempt: Attempt) -> Terms:
    if attempt.terms is None:
        raise InvariantBroken(f"attempt at {attempt.task_id} in {attempt.stage} without its terms")
    return attempt.terms


def _result(attempt: Attempt) -> Result:
    if attempt.result is None:
        raise InvariantBroken(f"attempt at {attempt.task_id} in {attempt.stage} without a result")
    return attempt.result
