"""One task and the chain: phases, transactions, deadlines. Fact in, state and wishes out."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

import factories as f
from factories import ALICE, BOB, CAROL, START
from poolwright.poco.types import Timestamp
from poolwright.scheduler import task as tasks
from poolwright.scheduler.effects import (
    Submission,
    Submit,
    TellWorkerAbort,
    TellWorkerComplete,
    TellWorkerReveal,
    TellWorkerStart,
    TellWorkerUpload,
    VerifyUpload,
    identity,
)
from poolwright.scheduler.task import MAX_TRIES, PHASE_MOVES, ChainFactEvent, Phase, Task
from poolwright.wire.messages import AbortCause, Details
from poolwright.wire.statuses import ReplicateStatus

S = ReplicateStatus
REVEAL_DEADLINE = START + 100 + 2 * f.TIMEREF


def submissions(effects: tuple[object, ...]) -> list[Submission]:
    return [effect.submission for effect in effects if isinstance(effect, Submit)]


def at(task: Task, now: int) -> tasks.Step:
    """What a tick at this moment does."""
    return tasks.tick(task, Timestamp(now))


def in_phase(phase: Phase) -> Task:
    match phase:
        case Phase.RECEIVED:
            return f.received_task()
        case Phase.ACTIVE:
            return f.active_task(ALICE)
        case Phase.REVEALING:
            return f.revealing_task(ALICE)
        case Phase.COMPLETED:
            return replace(f.revealing_task(ALICE), phase=Phase.COMPLETED)
        case Phase.FAILED:
            return replace(f.revealing_task(ALICE), phase=Phase.FAILED)


MOVING_EVENTS = {
    type(event): event
    for event in (
        f.initialized(f.received_task().id, block=50),
        f.consensus_reached(f.received_task().id, block=50),
        f.reopened(f.received_task().id, START + 50),
        f.finalized(f.received_task().id),
        f.contributed_and_finalized(f.received_task().id),
        f.claimed(f.received_task().id, START + 50),
    )
}


@pytest.mark.parametrize(("phase", "kind"), list(product(Phase, MOVING_EVENTS)), ids=str)
def test_a_phase_moves_as_its_table_says_and_not_otherwise(phase: Phase, kind: type[ChainFactEvent]) -> None:
    task = in_phase(phase)

    step = tasks.step(task, MOVING_EVENTS[kind])

    expected = PHASE_MOVES.get((phase, kind))
    if expected is None:
        assert step.task is task
        assert step.ignored
        assert not step.effects
    else:
        assert step.task.phase is expected
        assert step.ignored is None


def test_a_new_task_is_initialized_first() -> None:
    deal = f.deal_terms()

    step = tasks.opened(f.task_of(deal), 0, deal, START)

    assert submissions(step.effects) == [Submission.INITIALIZE]
    assert step.task.phase is Phase.RECEIVED


def test_a_task_received_after_its_contribution_deadline_waits_for_its_claim() -> None:
    deal = f.deal_terms()
    step = tasks.opened(f.task_of(deal), 0, deal, f.CONTRIBUTION_DEADLINE)

    assert not step.effects
    assert tasks.next_deadline(step.task) == f.FINAL_DEADLINE


def test_a_task_received_after_its_final_deadline_is_initialized_and_claimed_at_once() -> None:
    deal = f.deal_terms()

    step = tasks.opened(f.task_of(deal), 0, deal, f.FINAL_DEADLINE)

    assert submissions(step.effects) == [Submission.INITIALIZE_AND_CLAIM]


def test_contribute_and_finalize_completes_a_task_without_a_word_to_its_worker_but_the_last() -> None:
    task = f.active_task(ALICE, BOB)

    step = f.told(task, *f.computed(task.id, ALICE), f.contributed_and_finalized(task.id))

    assert step.effects == (
        TellWorkerComplete(worker=ALICE, task_id=task.id),
        TellWorkerAbort(worker=BOB, task_id=task.id, cause=AbortCause.CONSENSUS_REACHED),
    )
    replicate = step.task.replicate_of(ALICE)
    assert replicate is not None
    assert [stage.status for stage in replicate.life][-3:] == [S.CONTRIBUTING, S.CONTRIBUTED, S.REVEALED]
    assert (step.task.phase, step.task.results) == (Phase.COMPLETED, f.LINK.encode())
    done = f.told(step.task, f.reported(task.id, ALICE, S.COMPLETED))
    assert done.task.replicate_of(ALICE).is_finished  # type: ignore[union-attr]  # it is there
    assert tasks.step(step.task, f.contributed_and_finalized(task.id)).ignored


@pytest.mark.parametrize("status", [S.WORKER_LOST, S.FAILED])
def test_contribute_and_finalize_of_a_worker_given_up_counts_all_the_same(status: ReplicateStatus) -> None:
    task = f.active_task(ALICE)
    lost = tasks.lose_worker(task, ALICE, Timestamp(START + 60)).task
    if status is S.FAILED:
        lost = f.told(task, f.reported(task.id, ALICE, S.FAILED)).task
    assert lost.replicates[0].status is status

    step = f.told(lost, f.contributed_and_finalized(task.id))

    assert step.task.phase is Phase.COMPLETED
    assert step.task.replicates[0].status is S.REVEALED


@pytest.mark.parametrize(("trust", "at_once"), [(0, True), (1, True), (2, False)])
def test_a_worker_is_told_where_one_transaction_may_end_the_task(trust: int, at_once: bool) -> None:
    task = f.active_task(trust=trust)

    [start] = tasks.assign(task, ALICE, 2, START).effects

    assert isinstance(start, TellWorkerStart)
    assert start.contribute_and_finalize is at_once


def test_after_a_reopen_the_contract_takes_the_long_way_only() -> None:
    task = f.told(f.revealing_task(ALICE), f.reopened(f.received_task().id, REVEAL_DEADLINE)).task

    [start] = tasks.assign(task, BOB, 2, Timestamp(REVEAL_DEADLINE)).effects

    assert isinstance(start, TellWorkerStart)
    assert not start.contribute_and_finalize


def test_the_happy_path_of_trust_1() -> None:
    task = f.active_task(ALICE)
    task_id = task.id

    step = f.told(task, *f.computed(task_id, ALICE), f.contributed(task_id))
    assert not step.effects

    step = f.told(step.task, f.consensus_reached(task_id))
    assert [type(effect) for effect in step.effects] == [TellWorkerReveal]

    step = f.told(step.task, f.reported(task_id, ALICE, S.REVEALING), f.revealed(task_id))
    assert step.effects == (TellWorkerUpload(worker=ALICE, task_id=task_id),)

    uploaded = Details(result_link=f.LINK)
    step = f.told(
        step.task,
        f.reported(task_id, ALICE, S.RESULT_UPLOADING),
        f.reported(task_id, ALICE, S.RESULT_UPLOADED, details=uploaded),
    )
    assert step.effects == (VerifyUpload(task_id=task_id, worker=ALICE, link=f.LINK),)

    step = f.told(step.task, f.upload_verified(task_id))
    assert submissions(step.effects) == [Submission.FINALIZE]
    (finalize,) = step.effects
    assert isinstance(finalize, Submit)
    assert finalize.results == f.LINK

    step = f.told(step.task, f.finalized(task_id))
    assert step.effects == (TellWorkerComplete(worker=ALICE, task_id=task_id),)

    step = f.told(step.task, f.reported(task_id, ALICE, S.COMPLETED))
    assert step.task.phase is Phase.COMPLETED
    assert all(replicate.is_finished for replicate in step.task.replicates)
    assert tasks.next_deadline(step.task) is None


@pytest.mark.parametrize(("trust", "count"), [(0, 1), (1, 1), (2, 1), (3, 2), (5, 3), (10, 4), (100, 7)])
def test_a_task_gets_exactly_as_many_workers_as_its_trust_asks_for(trust: int, count: int) -> None:
    task = f.active_task(trust=trust)
    for number in range(count):
        assert tasks.needs_worker(task, START)
        task = tasks.assign(task, f.worker_address(f"worker {number}"), 2, START).task

    assert not tasks.needs_worker(task, START)


def test_trust_3_finalizes_when_both_winners_have_revealed() -> None:
    task = f.revealing_task(ALICE, BOB, trust=3)
    task = f.told(task, f.revealed(task.id, ALICE)).task
    task = f.told(task, *f.reports(task.id, ALICE, S.RESULT_UPLOADING, S.RESULT_UPLOADED)).task
    step = f.told(task, f.upload_verified(task.id))
    assert not step.effects, "Bob may still reveal"

    step = f.told(step.task, f.revealed(task.id, BOB, block=12))

    assert submissions(step.effects) == [Submission.FINALIZE]


def test_a_disagreement_asks_for_more_workers() -> None:
    task = f.active_task(ALICE, BOB, trust=3)
    assert not tasks.needs_worker(task, START)

    task = f.told(task, f.contributed(task.id, ALICE), f.contributed(task.id, BOB, f.WRONG_DIGEST)).task

    needed = 0
    while tasks.needs_worker(task, START):
        needed += 1
        task = tasks.assign(task, f.worker_address(f"worker {needed}"), 2, START).task
    assert needed == 2, "8 * 3 > (1 + 8 + 2) * 2, and 4 * 3 is not more than (1 + 4 + 2) * 2"


def test_consensus_stops_who_has_not_contributed_and_keeps_who_disagreed() -> None:
    task = f.active_task(ALICE, BOB, CAROL)
    task_id = task.id
    task = f.told(task, f.contributed(task_id, BOB, f.WRONG_DIGEST), f.contributed(task_id, ALICE)).task

    step = f.told(task, f.consensus_reached(task_id))

    told = {(type(effect), effect.worker) for effect in step.effects}  # type: ignore[union-attr]
    assert told == {(TellWorkerReveal, ALICE), (TellWorkerAbort, CAROL)}
    ended = f.told(step.task, f.revealed(task_id), f.finalized(task_id))
    assert TellWorkerAbort(worker=BOB, task_id=task_id, cause=AbortCause.CONSENSUS_REACHED) in ended.effects


def test_somebody_who_disagreed_reveals_when_a_reopen_proves_it_right() -> None:
    task = f.active_task(ALICE, BOB, CAROL)
    task_id = task.id
    task = f.told(
        task,
        f.contributed(task_id, BOB),
        f.contributed(task_id, ALICE, f.WRONG_DIGEST),
        f.consensus_reached(task_id, f.WRONG_DIGEST),
    ).task
    task = at(task, REVEAL_DEADLINE).task
    task = f.told(task, f.reopened(task_id, REVEAL_DEADLINE + 5)).task
    again = REVEAL_DEADLINE + 50

    step = f.told(
        task, f.contributed(task_id, CAROL, at=again), f.consensus_reached(task_id, at=again, block=60)
    )

    reveals = {effect.worker for effect in step.effects if isinstance(effect, TellWorkerReveal)}
    assert reveals == {BOB, CAROL}


# Deadlines -------------------------------------------------------------------------------------------------


def test_nobody_is_needed_after_the_contribution_deadline_and_those_at_work_stop() -> None:
    task = f.active_task(ALICE, trust=3)
    assert tasks.next_deadline(tasks.tick(task, START + 500).task) == f.CONTRIBUTION_DEADLINE

    step = at(task, f.CONTRIBUTION_DEADLINE)

    assert step.effects == (
        TellWorkerAbort(worker=ALICE, task_id=task.id, cause=AbortCause.CONTRIBUTION_TIMEOUT),
    )
    assert not tasks.needs_worker(step.task, f.CONTRIBUTION_DEADLINE)
    assert tasks.next_deadline(step.task) == f.FINAL_DEADLINE
    assert at(step.task, f.CONTRIBUTION_DEADLINE + 1).effects == ()


def test_nobody_revealed_in_time_so_the_task_is_reopened_for_others() -> None:
    task = f.revealing_task(ALICE)
    assert at(task, REVEAL_DEADLINE - 1).effects == ()

    step = at(task, REVEAL_DEADLINE)

    assert submissions(step.effects) == [Submission.REOPEN]
    (replicate,) = step.task.replicates
    assert [stage.status for stage in replicate.life[-2:]] == [S.REVEAL_TIMEOUT, S.FAILED]
    reopened = f.told(step.task, f.reopened(task.id, REVEAL_DEADLINE + 5)).task
    assert reopened.phase is Phase.ACTIVE
    assert reopened.replicates[0].rejected
    assert tasks.needs_worker(reopened, Timestamp(REVEAL_DEADLINE + 5))


def test_two_reopens_of_one_task_have_two_identities() -> None:
    task = f.revealing_task(ALICE)
    first = at(task, REVEAL_DEADLINE)
    again = REVEAL_DEADLINE + 20
    task = f.told(first.task, f.reopened(task.id, REVEAL_DEADLINE + 5)).task
    task = tasks.assign(task, BOB, 2, Timestamp(again)).task
    task = f.told(
        task,
        f.contributed(task.id, BOB, at=again, block=70),
        f.consensus_reached(task.id, at=again, block=70),
    ).task

    second = at(task, again + 2 * f.TIMEREF)

    names = [identity(e) for e in (*first.effects, *second.effects) if isinstance(e, Submit)]
    assert len(names) == len(set(names)) == 2


def test_a_group_left_heavy_enough_by_a_reopen_still_needs_a_contribution() -> None:
    """The contract looks for consensus only after a contribution, so waiting for it would be in vain."""
    task = f.active_task(ALICE, BOB, CAROL, trust=3)
    task_id = task.id
    task = f.told(
        task,
        f.contributed(task_id, ALICE, f.WRONG_DIGEST, weight=2),
        f.contributed(task_id, BOB, weight=3),
        f.contributed(task_id, CAROL, f.WRONG_DIGEST, weight=8),
        f.consensus_reached(task_id, f.WRONG_DIGEST),
    ).task
    task = at(task, REVEAL_DEADLINE).task

    task = f.told(task, f.reopened(task_id, REVEAL_DEADLINE + 5)).task

    assert tasks.needs_worker(task, Timestamp(REVEAL_DEADLINE + 5))


def test_no_worker_is_added_between_the_two_logs_of_the_deciding_contribution() -> None:
    task = f.active_task(ALICE)

    task = f.told(task, f.contributed(task.id)).task

    assert not tasks.needs_worker(task, Timestamp(START + 100))


def test_some_revealed_in_time_so_the_task_is_finalized_without_the_late_ones() -> None:
    task = f.revealing_task(ALICE, BOB, trust=3)
    task = f.told(task, f.revealed(task.id, ALICE)).task
    task = f.told(task, *f.reports(task.id, ALICE, S.RESULT_UPLOADING, S.RESULT_UPLOADED)).task
    task = f.told(task, f.upload_verified(task.id)).task

    step = at(task, REVEAL_DEADLINE)

    assert submissions(step.effects) == [Submission.FINALIZE]
    assert step.task.replicate_of(BOB).status is S.FAILED  # type: ignore[union-attr]
    stop = TellWorkerAbort(worker=BOB, task_id=task.id, cause=AbortCause.CONSENSUS_REACHED)
    assert stop in step.effects, "it may delete its result"


def test_a_reopen_that_could_help_nobody_is_not_sent() -> None:
    consensus_at = f.CONTRIBUTION_DEADLINE - 10
    task = f.active_task(ALICE)
    task = f.told(
        task,
        f.contributed(task.id, at=consensus_at),
        f.consensus_reached(task.id, at=consensus_at),
    ).task

    step = at(task, consensus_at + 2 * f.TIMEREF)

    assert not submissions(step.effects)
    assert tasks.next_deadline(step.task) == f.FINAL_DEADLINE


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (f.received_task(), Submission.INITIALIZE_AND_CLAIM),
        (f.active_task(), Submission.CLAIM),
        (f.active_task(ALICE), Submission.CLAIM),
        (f.revealing_task(ALICE), Submission.CLAIM),
        (f.uploading_task(), Submission.CLAIM),
    ],
)
def test_past_the_final_deadline_the_task_is_claimed_exactly_once(task: Task, expected: Submission) -> None:
    step = at(task, f.FINAL_DEADLINE)
    assert submissions(step.effects) == [expected]

    for now in (f.FINAL_DEADLINE, f.FINAL_DEADLINE + 1000):
        assert at(step.task, now).effects == ()
    assert tasks.next_deadline(step.task) is None


def test_initialize_and_claim_is_not_followed_by_a_claim_between_its_two_logs() -> None:
    task = at(f.received_task(), f.FINAL_DEADLINE).task
    now = f.FINAL_DEADLINE + 5

    step = f.told(task, f.initialized(task.id, at=now))
    assert not step.effects

    step = f.told(step.task, f.claimed(task.id, at=now))
    assert step.task.phase is Phase.FAILED


def test_when_somebody_else_initializes_first_the_claim_follows() -> None:
    task = at(f.received_task(), f.FINAL_DEADLINE).task
    now = f.FINAL_DEADLINE + 5
    task = f.told(task, f.initialized(task.id, at=now)).task

    step = f.told(task, f.submission_failed(task.id, Submission.INITIALIZE_AND_CLAIM, now))

    assert submissions(step.effects) == [Submission.CLAIM]


def test_an_old_event_after_the_final_deadline_does_not_bring_finalize_back() -> None:
    task = f.uploading_task()
    claim = at(task, f.FINAL_DEADLINE).task

    step = f.told(claim, f.upload_verified(task.id, at=START + 130))

    assert not step.effects
    assert step.task.in_flight == claim.in_flight


def test_a_claimed_task_stops_its_workers_and_closes_those_who_cannot_answer() -> None:
    task = f.active_task(ALICE, BOB, trust=3)
    task = tasks.lose_worker(task, BOB, START).task

    step = f.told(task, f.claimed(task.id))

    assert {e.worker for e in step.effects if isinstance(e, TellWorkerAbort)} == {ALICE, BOB}
    assert step.task.replicate_of(BOB).status is S.FAILED  # type: ignore[union-attr]
    done = f.told(step.task, f.reported(task.id, ALICE, S.ABORTED_ON_CONTRIBUTION_TIMEOUT)).task
    assert all(replicate.is_finished for replicate in done.replicates)


# Failed transactions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "now", "submission"),
    [
        (f.received_task(), START, Submission.INITIALIZE),
        (f.received_task(), f.FINAL_DEADLINE, Submission.INITIALIZE_AND_CLAIM),
        (f.active_task(), f.FINAL_DEADLINE, Submission.CLAIM),
    ],
)
def test_a_failed_transaction_is_tried_again_with_back_off_and_an_end(
    task: Task, now: int, submission: Submission
) -> None:
    task = at(task, now).task
    waits, names = [], set()
    # The deal is long enough for all tries of an initialize.
    if submission is Submission.INITIALIZE:
        task = f.received_task(timeref=36_000)
    for _ in range(MAX_TRIES - 1):
        failed = f.told(task, f.submission_failed(task.id, submission, now))
        assert not failed.effects
        assert failed.task.setback
        retry_at = failed.task.setback.retry_at
        assert retry_at
        assert at(failed.task, retry_at - 1).effects == ()
        again = at(failed.task, retry_at)
        assert submissions(again.effects) == [submission]
        names |= {identity(effect) for effect in again.effects}
        waits.append(retry_at - now)
        task, now = again.task, retry_at
    assert waits[:3] == [2, 4, 8]
    assert max(waits) == 300
    assert len(names) == MAX_TRIES - 1

    last = f.told(task, f.submission_failed(task.id, submission, now)).task

    assert last.setback
    assert last.setback.retry_at is None
    assert at(last, now + 10_000).effects == () or submission is Submission.INITIALIZE


def test_a_setback_of_what_is_no_longer_wanted_is_forgotten() -> None:
    """Else the pool would wake up for it again and again, for ever."""
    task = at(f.revealing_task(ALICE), REVEAL_DEADLINE).task
    now = REVEAL_DEADLINE + 3
    task = f.told(task, f.submission_failed(task.id, Submission.REOPEN, now)).task
    assert task.setback

    task = f.told(task, f.revealed(task.id, at=now)).task

    assert task.setback is None
    due = tasks.next_deadline(task)
    assert due
    assert due > now


def test_a_failure_told_twice_is_counted_once() -> None:
    task = f.received_task()
    failed = f.submission_failed(task.id, Submission.INITIALIZE, START, attempt=1)
    task = f.told(task, failed).task
    task = at(task, START + 2).task

    step = tasks.step(task, failed)

    assert step.ignored == "attempt 2 is in flight, not 1"
    assert step.task is task


def test_a_failure_of_what_is_not_in_flight_is_ignored() -> None:
    task = f.active_task(ALICE)

    step = tasks.step(task, f.submission_failed(task.id, Submission.FINALIZE, START))

    assert step.ignored
    assert step.task is task


# Late, doubled, foreign ------------------------------------------------------------------------------------


def test_every_log_told_twice_changes_nothing_the_second_time() -> None:
    task_id = f.received_task().id
    task = f.received_task()
    for event in (
        f.initialized(task_id),
        f.contributed(task_id),
        f.consensus_reached(task_id),
        f.revealed(task_id),
    ):
        task = f.told(task, event).task
        again = tasks.step(task, event)
        assert again.ignored, type(event).__name__
        assert again.task is task
        assert not again.effects


def test_a_reopen_told_twice_does_not_reject_the_next_round() -> None:
    task = at(f.revealing_task(ALICE), REVEAL_DEADLINE).task
    reopened = f.reopened(task.id, REVEAL_DEADLINE + 5)
    again = REVEAL_DEADLINE + 20
    task = f.told(task, reopened).task
    task = tasks.assign(task, BOB, 2, Timestamp(again)).task
    task = f.told(
        task,
        f.contributed(task.id, BOB, at=again, block=70),
        f.consensus_reached(task.id, at=again, block=70),
    ).task

    step = tasks.step(task, reopened)

    assert step.ignored == "this log is known"
    assert step.task is task


@pytest.mark.parametrize("phase", [Phase.RECEIVED, Phase.REVEALING])
def test_a_contribution_counts_only_while_the_task_is_active(phase: Phase) -> None:
    task = in_phase(phase)

    step = tasks.step(task, f.contributed(task.id, BOB, block=77))

    assert step.ignored
    assert step.task is task


def test_a_reveal_of_somebody_who_did_not_win_is_ignored() -> None:
    task = f.revealing_task(ALICE)

    for stranger in (BOB, CAROL):
        step = tasks.step(task, f.revealed(task.id, stranger))
        assert step.ignored
        assert step.task is task


def test_a_contribution_by_somebody_the_store_does_not_know_is_believed() -> None:
    task = f.active_task()

    task = f.told(task, f.contributed(task.id, CAROL)).task

    replicate = task.replicate_of(CAROL)
    assert replicate
    assert [stage.status for stage in replicate.life] == [S.CREATED, S.CONTRIBUTED]
    step = f.told(task, f.consensus_reached(task.id))
    assert [effect.worker for effect in step.effects if isinstance(effect, TellWorkerReveal)] == [CAROL]


def test_a_task_that_has_ended_takes_no_more_from_the_chain() -> None:
    task = f.told(f.revealed_task(ALICE).task, f.finalized(f.received_task().id)).task

    for event in (f.claimed(task.id), f.contributed(task.id, BOB), f.upload_verified(task.id)):
        step = tasks.step(task, event)
        assert step.ignored
        assert step.task is task
    assert at(task, f.FINAL_DEADLINE) == tasks.Step(task)
