"""One task and its workers: reports, losses, recoveries and uploads."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

import factories as f
from factories import ALICE, BOB, CAROL, START
from poolwright.poco.keccak import keccak
from poolwright.poco.types import Hash32, Timestamp
from poolwright.scheduler import task as tasks
from poolwright.scheduler.effects import Submit, TellWorkerAbort, TellWorkerUpload, VerifyUpload, identity
from poolwright.scheduler.replicate import Replicate, Stage, moved
from poolwright.scheduler.task import UPLOAD_RETRY_SECONDS, UPLOAD_SILENCE_SECONDS, Task
from poolwright.wire.messages import AbortCause, Details
from poolwright.wire.statuses import MOVES, UNCOMPLETABLE, Mover, ReplicateStatus, is_legal

S = ReplicateStatus
AT = Timestamp(START + 50)


def replicate_in(status: ReplicateStatus) -> Replicate:
    """A replicate that is in this status, however it got there."""
    life = (Stage(status=S.CREATED, at=AT), Stage(status=status, at=AT))
    return Replicate(worker=ALICE, weight=2, life=life)


def reported_from(status: ReplicateStatus) -> ReplicateStatus:
    """A status from which a worker may report this one."""
    return next(b for b, afters in MOVES[Mover.WORKER].items() if status in afters and b is not S.RECOVERING)


def status_of(task: Task, worker: object = ALICE) -> ReplicateStatus:
    return next(replicate.status for replicate in task.replicates if replicate.worker == worker)


ILLEGAL = [
    (mover, before, after)
    for mover, before, after in product(Mover, S, S)
    if after not in MOVES[mover].get(before, ())
]


@pytest.mark.parametrize("mover", list(Mover))
def test_no_move_outside_the_table_happens(mover: Mover) -> None:
    for _, before, after in (row for row in ILLEGAL if row[0] is mover):
        assert moved(replicate_in(before), mover, after, AT) is None, f"{before} to {after}"


@pytest.mark.parametrize("before", list(S))
def test_a_report_outside_the_table_leaves_the_task_as_it_was(before: ReplicateStatus) -> None:
    task = replace(f.active_task(), replicates=(replicate_in(before),))

    for after in S:
        if is_legal(Mover.WORKER, before, after):
            continue
        step = tasks.step(task, f.reported(task.id, ALICE, after))
        assert step.task is task, f"{before} to {after}"
        assert step.ignored
        assert not step.effects


@pytest.mark.parametrize("before", sorted(set(S) - {S.RECOVERING}))
def test_every_move_in_the_table_happens(before: ReplicateStatus) -> None:
    for mover, moves in MOVES.items():
        for after in moves.get(before, ()):
            result = moved(replicate_in(before), mover, after, AT, "why")
            assert result
            assert result.life[-1] == Stage(status=after, at=AT, cause="why")


@pytest.mark.parametrize("status", sorted(UNCOMPLETABLE - {S.REVEAL_TIMEOUT, S.CANT_REVEAL, S.REVEAL_FAILED}))
def test_a_worker_that_gives_up_is_replaced_at_once(status: ReplicateStatus) -> None:
    task = f.active_task(ALICE)
    before = reported_from(status)
    if before in (S.CONTRIBUTED, S.REVEALING):
        before = S.CREATED
    task = replace(task, replicates=(replicate_in(before),))

    step = f.told(task, f.reported(task.id, ALICE, status))

    assert [stage.status for stage in step.task.replicates[0].life[-2:]] == [status, S.FAILED]
    assert tasks.needs_worker(step.task, AT)


@pytest.mark.parametrize("status", [S.CONTRIBUTED, S.REVEALED])
def test_a_worker_is_not_believed_what_the_chain_decides(status: ReplicateStatus) -> None:
    task = f.told(f.active_task(ALICE), *f.computed(f.received_task().id, ALICE)).task

    step = tasks.step(task, f.reported(task.id, ALICE, status))

    assert step.ignored
    assert step.task is task


def test_a_worker_is_not_believed_that_the_task_is_complete_before_it_is() -> None:
    task = f.revealed_task(ALICE).task

    step = tasks.step(task, f.reported(task.id, ALICE, S.COMPLETED))

    assert step.ignored == "the task is not finalized"


def test_a_report_of_somebody_without_a_replicate_is_ignored() -> None:
    task = f.active_task(ALICE)

    step = tasks.step(task, f.reported(task.id, BOB, S.RUNNING))

    assert step.ignored
    assert step.task is task


def test_reports_that_come_after_the_contributions_log_change_nothing() -> None:
    task = f.told(f.active_task(ALICE), f.contributed(f.received_task().id)).task

    for event in f.computed(task.id, ALICE):
        step = tasks.step(task, event)
        assert step.ignored
        assert step.task is task


@pytest.mark.parametrize("failure", [S.APP_DOWNLOAD_FAILED, S.DATA_DOWNLOAD_FAILED, S.COMPUTE_FAILED])
def test_a_failed_computation_is_still_expected_to_contribute(failure: ReplicateStatus) -> None:
    before = reported_from(failure)
    task = replace(f.active_task(), replicates=(replicate_in(before),))

    task = f.told(task, f.reported(task.id, ALICE, failure)).task

    assert not tasks.needs_worker(task, AT)
    assert not task.replicates[0].holds_slot


# Lost and back ---------------------------------------------------------------------------------------------


def test_a_lost_worker_is_replaced_at_once() -> None:
    task = f.active_task(ALICE)

    step = tasks.lose_worker(task, ALICE, AT)

    assert status_of(step.task) is S.WORKER_LOST
    assert tasks.needs_worker(step.task, AT)
    assert tasks.lose_worker(step.task, ALICE, AT).ignored


def test_a_worker_back_with_its_journal_goes_on_where_it_was() -> None:
    task = f.told(f.active_task(ALICE), *f.reports(f.received_task().id, ALICE, S.RUNNING)).task
    task = tasks.lose_worker(task, ALICE, AT).task

    step = tasks.recover_worker(task, ALICE, AT, remembers=True)

    assert status_of(step.task) is S.RECOVERING
    assert not tasks.needs_worker(step.task, AT)
    on = f.told(step.task, f.reported(task.id, ALICE, S.APP_DOWNLOADING)).task
    assert status_of(on) is S.APP_DOWNLOADING


def test_a_worker_that_is_back_cannot_leap_over_what_the_chain_decides() -> None:
    task = tasks.lose_worker(f.active_task(ALICE), ALICE, AT).task
    task = tasks.recover_worker(task, ALICE, AT, remembers=True).task

    for status in (S.COMPLETED, S.REVEALING, S.RESULT_UPLOADED):
        step = tasks.step(task, f.reported(task.id, ALICE, status))
        assert step.ignored
        assert step.task is task


def test_a_worker_back_without_its_journal_has_failed_and_is_told_to_stop() -> None:
    task = f.active_task(ALICE)

    step = tasks.recover_worker(task, ALICE, AT, remembers=False)

    assert status_of(step.task) is S.FAILED
    stop = TellWorkerAbort(worker=ALICE, task_id=task.id, cause=AbortCause.CONTRIBUTION_TIMEOUT)
    assert step.effects == (stop,)
    assert tasks.needs_worker(step.task, AT)


def test_a_contribution_of_a_lost_worker_counts() -> None:
    task = tasks.lose_worker(f.active_task(ALICE), ALICE, AT).task

    task = f.told(task, f.contributed(task.id)).task

    assert status_of(task) is S.CONTRIBUTED
    assert not tasks.needs_worker(task, AT)


# Uploads ---------------------------------------------------------------------------------------------------


def uploads(effects: tuple[object, ...]) -> list[object]:
    return [effect.worker for effect in effects if isinstance(effect, TellWorkerUpload)]


def test_only_one_revealer_is_asked_for_the_result() -> None:
    step = f.revealed_task(ALICE, BOB, trust=3)

    assert uploads(step.effects) == [ALICE]


def test_a_silent_uploader_is_passed_over_for_the_next_revealer() -> None:
    task = f.revealed_task(ALICE, BOB, trust=3).task
    due = START + 110 + UPLOAD_SILENCE_SECONDS
    assert tasks.next_deadline(task) == due

    step = tasks.tick(task, Timestamp(due))

    assert uploads(step.effects) == [BOB]
    assert status_of(step.task) is S.RESULT_UPLOAD_REQUEST_FAILED


def test_an_uploader_that_began_and_fell_silent_is_passed_over_too() -> None:
    task = f.revealed_task(ALICE, BOB, trust=3).task
    task = f.told(task, f.reported(task.id, ALICE, S.RESULT_UPLOADING, at=START + 120)).task

    step = tasks.tick(task, Timestamp(START + 120 + UPLOAD_SILENCE_SECONDS))

    assert uploads(step.effects) == [BOB]
    assert status_of(step.task) is S.RESULT_UPLOAD_FAILED


def test_two_uploaders_that_fall_silent_together_are_both_passed_over() -> None:
    """Else the tick would leave its own deadline due, and the pool would spin."""
    task = f.revealed_task(ALICE, BOB, trust=3).task
    asked_bob = START + 110 + UPLOAD_SILENCE_SECONDS
    task = tasks.tick(task, Timestamp(asked_bob)).task
    late = f.reported(task.id, ALICE, S.RESULT_UPLOADING, at=asked_bob)
    task = f.told(task, late).task
    now = Timestamp(asked_bob + UPLOAD_SILENCE_SECONDS)

    task = tasks.tick(task, now).task

    due = tasks.next_deadline(task)
    assert due
    assert due > now


def test_the_only_revealer_is_asked_again_after_a_while() -> None:
    task = f.revealed_task(ALICE).task
    due = START + 110 + UPLOAD_SILENCE_SECONDS
    silent = tasks.tick(task, Timestamp(due))
    assert not silent.effects
    assert tasks.next_deadline(silent.task) == due + UPLOAD_RETRY_SECONDS

    again = tasks.tick(silent.task, Timestamp(due + UPLOAD_RETRY_SECONDS))

    assert again.effects == (TellWorkerUpload(worker=ALICE, task_id=task.id, attempt=2),)
    first = TellWorkerUpload(worker=ALICE, task_id=task.id)
    assert identity(first) != identity(again.effects[0]), "else the outbox would take it for the same"


def test_a_late_success_counts_though_somebody_else_was_asked() -> None:
    task = f.revealed_task(ALICE, BOB, trust=3).task
    task = tasks.tick(task, Timestamp(START + 110 + UPLOAD_SILENCE_SECONDS)).task

    step = f.told(task, *f.reports(task.id, ALICE, S.RESULT_UPLOADING, S.RESULT_UPLOADED, at=START + 300))

    assert [effect.worker for effect in step.effects if isinstance(effect, VerifyUpload)] == [ALICE]
    assert f.told(step.task, f.upload_verified(task.id)).task.uploaded


def test_an_upload_that_is_not_found_is_asked_for_elsewhere() -> None:
    task = f.revealed_task(ALICE, BOB, trust=3).task
    task = f.told(task, *f.reports(task.id, ALICE, S.RESULT_UPLOADING, S.RESULT_UPLOADED)).task

    step = f.told(task, f.upload_missing(task.id, ALICE))

    assert status_of(step.task) is S.RESULT_UPLOAD_FAILED
    assert uploads(step.effects) == [BOB]
    assert tasks.step(step.task, f.upload_missing(task.id, ALICE)).ignored


def test_a_lost_uploader_is_passed_over_at_once() -> None:
    task = f.revealed_task(ALICE, BOB, trust=3).task

    step = tasks.lose_worker(task, ALICE, AT)

    assert uploads(step.effects) == [BOB]


def test_a_lost_revealer_is_asked_when_it_is_back() -> None:
    task = tasks.lose_worker(f.revealing_task(ALICE), ALICE, AT).task
    task = tasks.recover_worker(task, ALICE, AT, remembers=True).task

    step = f.told(task, f.revealed(task.id))

    assert uploads(step.effects) == [ALICE]


def test_one_that_came_back_from_a_failed_upload_is_closed_at_the_claim() -> None:
    """Found by simulation, seed 186: its word that it has stopped is none it may say, and was waited for."""
    task = f.uploading_task()
    task = f.told(task, f.upload_missing(task.id)).task
    task = tasks.lose_worker(task, ALICE, Timestamp(START + 200)).task
    task = tasks.recover_worker(task, ALICE, Timestamp(START + 210), remembers=True).task
    assert status_of(task) is S.RECOVERING

    ended = f.told(task, f.claimed(task.id))

    assert status_of(ended.task) is S.FAILED
    assert [type(effect) for effect in ended.effects] == [TellWorkerAbort]


def test_one_that_stopped_after_its_reveal_is_closed_once_the_task_has_ended() -> None:
    """Found by simulation, seed 161: told to stop before its reveal was read, then to complete, it said that
    it had stopped, which is no move of a revealer, and its replicate stayed open for ever."""
    task = f.told(f.uploading_task(), f.upload_verified(f.received_task().id)).task
    task = f.told(task, f.finalized(task.id)).task
    assert status_of(task) is S.RESULT_UPLOADED

    step = tasks.step(task, f.reported(task.id, ALICE, S.ABORTED_ON_CONSENSUS_REACHED))

    assert status_of(step.task) is S.FAILED
    assert step.ignored is None


def test_an_upload_verified_twice_finalizes_once() -> None:
    task = f.told(f.uploading_task(), f.upload_verified(f.received_task().id)).task

    step = tasks.step(task, f.upload_verified(task.id))

    assert step.ignored
    assert not step.effects


def test_an_upload_by_somebody_who_did_not_reveal_is_not_taken() -> None:
    task = f.revealed_task(ALICE).task

    assert tasks.step(task, f.upload_verified(task.id, CAROL)).ignored


def test_a_callback_goes_to_finalize_and_a_wrong_one_is_refused() -> None:
    callback = b"what the callback contract receives"
    digest = Hash32(keccak(callback))
    task = f.active_task(ALICE, has_callback=True)
    task_id = task.id
    task = f.told(
        task, f.contributed(task_id, ALICE, digest), f.consensus_reached(task_id, digest), f.revealed(task_id)
    ).task
    task = f.told(task, f.reported(task_id, ALICE, S.RESULT_UPLOADING)).task

    wrong = f.told(task, f.reported(task_id, ALICE, S.RESULT_UPLOADED, details=Details(callback=b"else")))
    assert not wrong.effects
    assert status_of(wrong.task) is S.RESULT_UPLOAD_FAILED

    right = f.told(task, f.reported(task_id, ALICE, S.RESULT_UPLOADED, details=Details(callback=callback)))
    (verify,) = right.effects
    assert isinstance(verify, VerifyUpload)
    assert verify.callback == callback
    verified = replace(f.upload_verified(task_id), callback=callback)
    (finalize,) = f.told(right.task, verified).effects
    assert isinstance(finalize, Submit)
    assert finalize.callback == callback
