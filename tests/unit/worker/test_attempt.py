"""The worker's mind: every stage, every event, every instruction."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

import factories as f
from poolwright.poco.errors import Unavailable
from poolwright.poco.types import BlockNumber, Timestamp
from poolwright.wire.messages import AbortCause, Instruction
from poolwright.wire.statuses import ReplicateStatus
from poolwright.worker import attempt as attempts
from poolwright.worker import attempts as minds
from poolwright.worker import effects as deeds
from poolwright.worker import events as news
from poolwright.worker.attempt import LEAVES_TRACES, STAGE_MOVES, Attempt, Stage
from poolwright.worker.attempts import Attempts
from poolwright.worker.outcomes import DISK, given_up

S = ReplicateStatus
TASK = f.task_of(f.deal_terms())
AT = Timestamp(f.START)
RESULT = news.Result(digest=f.DIGEST)

OUTCOMES: list[news.Event] = [
    news.TaskDescribed(at=AT, task_id=TASK, terms=f.terms()),
    news.TaskRefused(at=AT, task_id=TASK, status=S.OUT_OF_GAS, cause="OUT_OF_GAS", message="0 ETH"),
    news.AppDownloaded(at=AT, task_id=TASK),
    news.AppDownloadFailed(at=AT, task_id=TASK, cause="NO_IMAGE", message="m"),
    news.DataDownloaded(at=AT, task_id=TASK),
    news.DataDownloadFailed(at=AT, task_id=TASK, cause="NO_DATA", message="m"),
    news.AppComputed(at=AT, task_id=TASK, result=RESULT, exit_code=0, milliseconds=5),
    news.AppComputeFailed(at=AT, task_id=TASK, cause="CRASH", message="m", exit_code=3, milliseconds=5),
    news.FailureDescribed(at=AT, task_id=TASK, result=RESULT),
    news.FailureNotDescribed(at=AT, task_id=TASK, cause="WORKER_DISK_FAILED", message="m"),
    news.ContributionChecked(at=AT, task_id=TASK, verdict=S.CAN_CONTRIBUTE),
    news.ContributionMined(at=AT, task_id=TASK, tx_hash=None, block=BlockNumber(5)),
    news.ContributionFailed(at=AT, task_id=TASK, status=S.CONTRIBUTE_FAILED, message="m"),
    news.RevealChecked(at=AT, task_id=TASK, can_reveal=True),
    news.RevealMined(at=AT, task_id=TASK, tx_hash=None, block=BlockNumber(6)),
    news.RevealFailed(at=AT, task_id=TASK, status=S.REVEAL_FAILED, message="m"),
    news.ResultUploaded(at=AT, task_id=TASK, link=f.LINK, bytes_count=9),
    news.ResultUploadFailed(at=AT, task_id=TASK, message="m"),
    news.TaskPurged(at=AT, task_id=TASK),
]
OUTCOME = {type(outcome): outcome for outcome in OUTCOMES}


def told(instruction: Instruction) -> news.SchedulerInstructed:
    return news.SchedulerInstructed(at=AT, instruction=instruction)


START, REVEAL, UPLOAD, COMPLETE, ABORT = (
    told(instruction)
    for instruction in (f.start(TASK), f.reveal(TASK), f.upload(TASK), f.complete(TASK), f.abort(TASK))
)
INSTRUCTIONS = (START, REVEAL, UPLOAD, COMPLETE, ABORT)
TO_CONTRIBUTED = (
    OUTCOME[news.TaskDescribed],
    OUTCOME[news.AppDownloaded],
    OUTCOME[news.DataDownloaded],
    OUTCOME[news.AppComputed],
    OUTCOME[news.ContributionChecked],
    OUTCOME[news.ContributionMined],
)
TO_UPLOADED = (
    *TO_CONTRIBUTED,
    REVEAL,
    OUTCOME[news.RevealChecked],
    OUTCOME[news.RevealMined],
    UPLOAD,
    OUTCOME[news.ResultUploaded],
)
AT_ONCE = news.TaskDescribed(at=AT, task_id=TASK, terms=replace(f.terms(), contribute_and_finalize=True))
CHECKED_AT_ONCE = news.ContributionChecked(
    at=AT, task_id=TASK, verdict=S.CAN_CONTRIBUTE, contribute_and_finalize=True
)
TO_FINALIZED = (
    AT_ONCE,
    *TO_CONTRIBUTED[1:4],
    OUTCOME[news.ResultUploaded],
    CHECKED_AT_ONCE,
    OUTCOME[news.ContributionMined],
)
#: What leads to each stage.
PATH_TO: dict[Stage, tuple[news.Event, ...]] = {
    Stage.DESCRIBING: (),
    Stage.PULLING: TO_CONTRIBUTED[:1],
    Stage.FETCHING: TO_CONTRIBUTED[:2],
    Stage.COMPUTING: TO_CONTRIBUTED[:3],
    Stage.DESCRIBING_FAILURE: (*TO_CONTRIBUTED[:3], OUTCOME[news.AppComputeFailed]),
    Stage.DELIVERING: TO_FINALIZED[:4],
    Stage.FINALIZING: TO_FINALIZED[:6],
    Stage.FINALIZED: TO_FINALIZED,
    Stage.CHECKING: TO_CONTRIBUTED[:4],
    Stage.CONTRIBUTING: TO_CONTRIBUTED[:5],
    Stage.CONTRIBUTED: TO_CONTRIBUTED,
    Stage.CHECKING_REVEAL: TO_UPLOADED[:7],
    Stage.REVEALING: TO_UPLOADED[:8],
    Stage.REVEALED: TO_UPLOADED[:9],
    Stage.UPLOADING: TO_UPLOADED[:10],
    Stage.UPLOADED: TO_UPLOADED,
    Stage.PURGING: (ABORT,),
}


def after(*events: news.Event) -> attempts.Step:
    """A new attempt after these events, with all their effects; none may be ignored."""
    step = attempts.begun(f.start(TASK))
    effects = list(step.effects)
    for event in events:
        step = attempts.step(step.attempt, event)
        assert step.ignored is None, f"{type(event).__name__}: {step.ignored}"
        effects += step.effects
    return attempts.Step(step.attempt, tuple(effects))


def in_stage(stage: Stage) -> Attempt:
    attempt = after(*PATH_TO[stage]).attempt
    assert attempt.stage is stage
    return attempt


def statuses(effects: tuple[deeds.Effect, ...]) -> list[ReplicateStatus]:
    return [effect.status for effect in effects if isinstance(effect, deeds.Report)]


def kinds(effects: tuple[deeds.Effect, ...]) -> list[type]:
    return [type(effect) for effect in effects if not isinstance(effect, deeds.Report)]


def test_the_happy_path_reports_every_status_in_order() -> None:
    step = after(*TO_UPLOADED, COMPLETE, OUTCOME[news.TaskPurged])

    assert step.attempt.stage is Stage.PURGED
    assert statuses(step.effects) == [
        *f.BEFORE_CONTRIBUTION_PATH,
        S.CONTRIBUTED,
        S.REVEALING,
        S.REVEALED,
        S.RESULT_UPLOADING,
        S.RESULT_UPLOADED,
        S.COMPLETED,
    ]
    assert kinds(step.effects) == [
        deeds.DescribeTask,
        deeds.DownloadApp,
        deeds.DownloadData,
        deeds.Compute,
        deeds.CheckContribution,
        deeds.SubmitContribute,
        deeds.CheckReveal,
        deeds.SubmitReveal,
        deeds.UploadResult,
        deeds.Purge,
    ]


def test_where_one_transaction_is_enough_the_result_is_delivered_before_it() -> None:
    step = after(*TO_FINALIZED, COMPLETE, OUTCOME[news.TaskPurged])

    assert step.attempt.stage is Stage.PURGED
    assert statuses(step.effects) == [*f.BEFORE_CONTRIBUTION_PATH, S.CONTRIBUTED, S.COMPLETED]
    assert kinds(step.effects)[4:] == [
        deeds.DeliverResult,
        deeds.CheckContribution,
        deeds.SubmitContributeAndFinalize,
        deeds.Purge,
    ]
    [deliver] = [e for e in step.effects if isinstance(e, deeds.DeliverResult)]
    [finalize] = [e for e in step.effects if isinstance(e, deeds.SubmitContributeAndFinalize)]
    assert deliver.until == f.CONTRIBUTION_DEADLINE - 2 * f.TIMEREF
    assert (finalize.digest, finalize.link) == (f.DIGEST, f.LINK)


def test_a_failure_is_described_and_delivered_like_any_other_result() -> None:
    step = after(*TO_FINALIZED[:3], OUTCOME[news.AppComputeFailed], OUTCOME[news.FailureDescribed])

    assert step.attempt.stage is Stage.DELIVERING


@pytest.mark.parametrize(
    "found",
    [
        (OUTCOME[news.ResultUploadFailed], CHECKED_AT_ONCE),
        (OUTCOME[news.ResultUploaded], OUTCOME[news.ContributionChecked]),
    ],
    ids=["the repository does not take it", "somebody has contributed before"],
)
def test_where_one_transaction_is_not_possible_the_long_way_is_taken(found: tuple[news.Event, ...]) -> None:
    step = after(*TO_FINALIZED[:4], *found)

    assert step.attempt.stage is Stage.CONTRIBUTING
    assert kinds(step.effects)[-1] is deeds.SubmitContribute
    assert statuses(step.effects) == list(f.BEFORE_CONTRIBUTION_PATH)


def test_one_transaction_that_fails_ends_the_attempt() -> None:
    step = attempts.step(in_stage(Stage.FINALIZING), OUTCOME[news.ContributionFailed])

    assert statuses(step.effects) == [S.CONTRIBUTE_FAILED]
    assert kinds(step.effects) == [deeds.Purge]


def test_every_report_of_an_attempt_has_its_own_number() -> None:
    effects = after(*TO_UPLOADED, COMPLETE, OUTCOME[news.TaskPurged]).effects
    numbers = [effect.number for effect in effects if isinstance(effect, deeds.Report)]

    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize(("stage", "event"), list(product(PATH_TO, OUTCOMES)), ids=str)
def test_an_outcome_moves_only_the_stage_that_waits_for_it(stage: Stage, event: news.Event) -> None:
    attempt = in_stage(stage)

    step = attempts.step(attempt, event)

    if allowed := STAGE_MOVES.get((stage, type(event))):
        assert step.ignored is None
        assert step.attempt.stage in allowed
    else:
        assert step.attempt is attempt
        assert step.ignored
        assert not step.effects


@pytest.mark.parametrize(("stage", "event"), list(product(PATH_TO, INSTRUCTIONS)), ids=str)
def test_an_instruction_moves_only_the_stages_of_the_table(
    stage: Stage, event: news.SchedulerInstructed
) -> None:
    attempt = in_stage(stage)

    step = attempts.step(attempt, event)

    if allowed := STAGE_MOVES.get((stage, type(event.instruction))):
        assert step.ignored is None
        assert step.attempt.stage in allowed
    else:
        assert step.attempt is attempt
        assert step.ignored
        assert not step.effects


@pytest.mark.parametrize(
    ("cause", "farewell"),
    [
        (AbortCause.CONSENSUS_REACHED, S.ABORTED_ON_CONSENSUS_REACHED),
        (AbortCause.CONTRIBUTION_TIMEOUT, S.ABORTED_ON_CONTRIBUTION_TIMEOUT),
    ],
)
@pytest.mark.parametrize("stage", [stage for stage in PATH_TO if stage is not Stage.PURGING])
def test_an_abort_stops_any_stage_and_is_reported_once_all_is_gone(
    stage: Stage, cause: AbortCause, farewell: ReplicateStatus
) -> None:
    step = attempts.step(in_stage(stage), told(f.abort(TASK, cause)))
    assert step.effects == (deeds.Purge(task_id=TASK),)

    gone = attempts.step(step.attempt, OUTCOME[news.TaskPurged])

    assert gone.attempt.stage is Stage.PURGED
    assert statuses(gone.effects) == [farewell]


@pytest.mark.parametrize("instruction", [START, REVEAL, UPLOAD, COMPLETE, ABORT])
def test_nothing_stops_a_purge(instruction: news.Event) -> None:
    attempt = in_stage(Stage.PURGING)

    step = attempts.step(attempt, instruction)

    assert step.attempt is attempt
    assert step.ignored


@pytest.mark.parametrize(
    ("instruction", "farewell"), [(COMPLETE, S.COMPLETED), (ABORT, S.ABORTED_ON_CONSENSUS_REACHED)]
)
def test_who_asks_during_the_purge_of_a_refused_task_is_answered_after_it(
    instruction: news.Event, farewell: ReplicateStatus
) -> None:
    """Found by simulation seed 86: a scheduler without its store hands out a task that is over."""
    refused = attempts.step(in_stage(Stage.DESCRIBING), OUTCOME[news.TaskRefused]).attempt

    asked = attempts.step(refused, instruction)
    gone = attempts.step(asked.attempt, OUTCOME[news.TaskPurged])

    assert asked.ignored is None
    assert statuses(gone.effects) == [farewell]


def test_told_to_reveal_before_its_own_receipt_it_goes_on_and_the_receipt_is_late() -> None:
    step = attempts.step(in_stage(Stage.CONTRIBUTING), REVEAL)
    assert kinds(step.effects) == [deeds.CheckReveal]

    late = attempts.step(step.attempt, OUTCOME[news.ContributionMined])

    assert late.ignored
    assert late.attempt is step.attempt


@pytest.mark.parametrize("stage", [Stage.CHECKING_REVEAL, Stage.REVEALING, Stage.REVEALED, Stage.UPLOADED])
def test_told_to_upload_it_uploads_whatever_its_own_receipts_say(stage: Stage) -> None:
    step = attempts.step(in_stage(stage), UPLOAD)

    assert step.attempt.stage is Stage.UPLOADING
    assert statuses(step.effects) == [S.RESULT_UPLOADING]
    assert kinds(step.effects) == [deeds.UploadResult]


def test_told_to_upload_once_more_while_uploading_it_says_that_it_is_at_it() -> None:
    step = attempts.step(in_stage(Stage.UPLOADING), UPLOAD)

    assert step.attempt.stage is Stage.UPLOADING
    assert statuses(step.effects) == [S.RESULT_UPLOADING]
    assert kinds(step.effects) == []


def test_an_upload_that_failed_can_be_tried_again_under_another_number() -> None:
    first = after(*TO_UPLOADED[:10])
    failed = attempts.step(first.attempt, OUTCOME[news.ResultUploadFailed])
    assert statuses(failed.effects) == [S.RESULT_UPLOAD_FAILED]

    again = attempts.step(failed.attempt, UPLOAD)

    asked = [e.number for e in (*first.effects, *again.effects) if isinstance(e, deeds.UploadResult)]
    assert len(asked) == len(set(asked)) == 2


@pytest.mark.parametrize(
    ("stage", "failure", "status"),
    [
        (Stage.PULLING, news.AppDownloadFailed, S.APP_DOWNLOAD_FAILED),
        (Stage.FETCHING, news.DataDownloadFailed, S.DATA_DOWNLOAD_FAILED),
        (Stage.COMPUTING, news.AppComputeFailed, S.COMPUTE_FAILED),
    ],
)
def test_a_failure_becomes_a_result_that_is_contributed(
    stage: Stage, failure: type[news.Event], status: ReplicateStatus
) -> None:
    step = attempts.step(in_stage(stage), OUTCOME[failure])
    assert statuses(step.effects) == [status]
    assert kinds(step.effects) == [deeds.DescribeFailure]

    step = attempts.step(step.attempt, OUTCOME[news.FailureDescribed])
    assert kinds(step.effects) == [deeds.CheckContribution]

    step = attempts.step(step.attempt, OUTCOME[news.ContributionChecked])
    assert statuses(step.effects) == [S.CAN_CONTRIBUTE, S.CONTRIBUTING]
    (submit,) = (e for e in step.effects if isinstance(e, deeds.SubmitContribute))
    assert submit.digest == f.DIGEST


@pytest.mark.parametrize(
    ("stage", "effect", "reported", "causes"),
    [
        (
            Stage.PULLING,
            deeds.DownloadApp(task_id=TASK, terms=f.terms()),
            [S.APP_DOWNLOAD_FAILED, S.FAILED],
            ["WORKER_ENGINE_FAILED", "WORKER_DISK_FAILED"],
        ),
        (
            Stage.FETCHING,
            deeds.DownloadData(task_id=TASK, terms=f.terms()),
            [S.DATA_DOWNLOAD_FAILED, S.FAILED],
            ["gone", "WORKER_DISK_FAILED"],
        ),
        (
            Stage.COMPUTING,
            deeds.Compute(task_id=TASK, terms=f.terms()),
            [S.COMPUTE_FAILED, S.FAILED],
            ["WORKER_ENGINE_FAILED", "WORKER_DISK_FAILED"],
        ),
        (
            Stage.CHECKING,
            deeds.CheckContribution(task_id=TASK, terms=f.terms()),
            [S.FAILED],
            ["CHAIN_UNREACHABLE", "CHAIN_UNREACHABLE"],
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, Stage) else "",
)
def test_what_only_this_worker_cannot_do_is_left_to_another_and_never_contributed(
    stage: Stage, effect: deeds.Effect, reported: list[ReplicateStatus], causes: list[str]
) -> None:
    for code, cause in zip(("gone", DISK), causes, strict=True):
        given = given_up(effect, Unavailable("it", code=code), AT)
        step = attempts.step(in_stage(stage), given)

        told = [each for each in step.effects if isinstance(each, deeds.Report)]
        assert [each.status for each in told] == reported
        assert {each.details.cause for each in told} == {cause}
        assert kinds(step.effects) == [deeds.Purge]


@pytest.mark.parametrize(
    ("stage", "event", "reported"),
    [
        (Stage.DESCRIBING, OUTCOME[news.TaskRefused], [S.RUNNING, S.OUT_OF_GAS]),
        (
            Stage.CHECKING,
            news.ContributionChecked(
                at=AT, task_id=TASK, verdict=S.CANT_CONTRIBUTE_SINCE_STAKE_TOO_LOW, message="m"
            ),
            [S.CANT_CONTRIBUTE_SINCE_STAKE_TOO_LOW],
        ),
        (Stage.DESCRIBING_FAILURE, OUTCOME[news.FailureNotDescribed], [S.FAILED]),
        (Stage.CONTRIBUTING, OUTCOME[news.ContributionFailed], [S.CONTRIBUTE_FAILED]),
        (
            Stage.CONTRIBUTING,
            news.ContributionFailed(at=AT, task_id=TASK, status=S.OUT_OF_GAS, message="0 ETH"),
            [S.OUT_OF_GAS],
        ),
        (
            Stage.CHECKING_REVEAL,
            news.RevealChecked(at=AT, task_id=TASK, can_reveal=False, message="m"),
            [S.CANT_REVEAL],
        ),
        (Stage.REVEALING, OUTCOME[news.RevealFailed], [S.REVEAL_FAILED]),
    ],
)
def test_what_cannot_go_on_says_why_and_is_purged_without_another_word(
    stage: Stage, event: news.Event, reported: list[ReplicateStatus]
) -> None:
    step = attempts.step(in_stage(stage), event)
    assert statuses(step.effects) == reported
    assert kinds(step.effects) == [deeds.Purge]

    gone = attempts.step(step.attempt, OUTCOME[news.TaskPurged])

    assert gone.effects == ()


# All attempts ----------------------------------------------------------------------------------------------


def test_a_start_begins_an_attempt_and_a_second_one_is_ignored() -> None:
    mind = Attempts()

    assert minds.step(mind, START).effects == (deeds.DescribeTask(task_id=TASK, start=f.start(TASK)),)
    assert minds.step(mind, START).ignored == "the task is under way"


def test_a_purged_attempt_is_forgotten() -> None:
    mind = Attempts()
    for event in (START, ABORT, OUTCOME[news.TaskPurged]):
        minds.step(mind, event)

    assert mind.by_task == {}
    assert minds.step(mind, OUTCOME[news.AppDownloaded]).ignored == "the task was purged"


LATE = [OUTCOME[kind] for kind in LEAVES_TRACES]


@pytest.mark.parametrize("late", LATE, ids=lambda event: type(event).__name__)
def test_what_a_purged_task_leaves_behind_later_is_purged_as_well(late: news.Event) -> None:
    """Found by simulation, seed 20: a failure's description was written when the folder was gone."""
    assert minds.step(Attempts(), late).effects == (deeds.Purge(task_id=TASK),)


@pytest.mark.parametrize("late", LATE, ids=lambda event: type(event).__name__)
def test_what_may_have_been_written_during_a_purge_is_purged_after_it(late: news.Event) -> None:
    attempt = attempts.step(in_stage(Stage.COMPUTING), ABORT).attempt

    again = attempts.step(attempts.step(attempt, late).attempt, OUTCOME[news.TaskPurged])
    assert again.effects == (deeds.Purge(task_id=TASK),)
    gone = attempts.step(again.attempt, OUTCOME[news.TaskPurged])

    assert gone.attempt.stage is Stage.PURGED
    assert statuses(gone.effects) == [S.ABORTED_ON_CONSENSUS_REACHED]


@pytest.mark.parametrize(
    ("instruction", "answer"),
    [
        (REVEAL, S.CANT_REVEAL),
        (UPLOAD, S.RESULT_UPLOAD_FAILED),
        (COMPLETE, S.COMPLETED),
        (ABORT, S.ABORTED_ON_CONSENSUS_REACHED),
    ],
)
def test_asked_about_a_task_of_which_it_keeps_nothing_it_says_so(
    instruction: news.Event, answer: ReplicateStatus
) -> None:
    """Else the scheduler would wait in vain."""
    step = minds.step(Attempts(), instruction)

    assert statuses(step.effects) == [answer]


def test_answers_about_forgotten_tasks_have_numbers_of_their_own() -> None:
    numbers = [
        effect.number
        for instruction in (REVEAL, UPLOAD, COMPLETE, ABORT)
        for effect in minds.step(Attempts(), instruction).effects
        if isinstance(effect, deeds.Report)
    ]

    assert len(set(numbers)) == 4
    assert max(numbers) < 1, "an attempt counts its reports from 1"
