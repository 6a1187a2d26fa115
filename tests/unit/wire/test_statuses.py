"""The table of moves: what it allows, and that nothing else can happen to a replicate."""

from __future__ import annotations

import pytest

from poolwright.wire.statuses import (
    ABORTED,
    AHEAD,
    BEFORE_CONTRIBUTION,
    CANT_CONTRIBUTE,
    FINAL,
    MOVES,
    SLOT_HOLDING,
    UNCOMPLETABLE,
    UPLOAD_FAILED,
    Mover,
    ReplicateStatus,
    is_legal,
)

S = ReplicateStatus


def test_there_are_the_36_statuses_of_the_product() -> None:
    assert len(ReplicateStatus) == 36
    assert all(status.name == status.value for status in ReplicateStatus)


def test_the_happy_path_is_legal_from_end_to_end() -> None:
    path = [
        (Mover.WORKER, S.RUNNING),
        (Mover.WORKER, S.APP_DOWNLOADING),
        (Mover.WORKER, S.APP_DOWNLOADED),
        (Mover.WORKER, S.DATA_DOWNLOADING),
        (Mover.WORKER, S.DATA_DOWNLOADED),
        (Mover.WORKER, S.COMPUTING),
        (Mover.WORKER, S.COMPUTED),
        (Mover.WORKER, S.CAN_CONTRIBUTE),
        (Mover.WORKER, S.CONTRIBUTING),
        (Mover.CHAIN, S.CONTRIBUTED),
        (Mover.WORKER, S.REVEALING),
        (Mover.CHAIN, S.REVEALED),
        (Mover.POOL, S.RESULT_UPLOAD_REQUESTED),
        (Mover.WORKER, S.RESULT_UPLOADING),
        (Mover.WORKER, S.RESULT_UPLOADED),
        (Mover.WORKER, S.COMPLETED),
    ]
    status = S.CREATED
    for mover, after in path:
        assert is_legal(mover, status, after), f"{mover}: {status} to {after}"
        status = after


def test_every_status_but_the_first_can_be_reached() -> None:
    targets = {after for moves in MOVES.values() for afters in moves.values() for after in afters}

    assert targets == set(ReplicateStatus) - {S.CREATED}


def test_only_the_chain_makes_a_contribution_or_a_reveal() -> None:
    for mover in (Mover.WORKER, Mover.POOL):
        for before in ReplicateStatus:
            assert not is_legal(mover, before, S.CONTRIBUTED)
            assert not is_legal(mover, before, S.REVEALED)


def test_a_worker_can_neither_ask_for_uploads_nor_lose_or_recover_anybody() -> None:
    of_the_pool = {
        S.RESULT_UPLOAD_REQUESTED,
        S.RESULT_UPLOAD_REQUEST_FAILED,
        S.REVEAL_TIMEOUT,
        S.WORKER_LOST,
        S.RECOVERING,
    }
    for afters in MOVES[Mover.WORKER].values():
        assert not afters & of_the_pool


@pytest.mark.parametrize("status", sorted(FINAL))
def test_no_word_of_worker_or_pool_leads_out_of_an_end(status: ReplicateStatus) -> None:
    assert not MOVES[Mover.WORKER].get(status)
    assert not MOVES[Mover.POOL].get(status)


@pytest.mark.parametrize("status", sorted(UNCOMPLETABLE))
def test_the_pool_can_close_whatever_cannot_be_completed(status: ReplicateStatus) -> None:
    assert is_legal(Mover.POOL, status, S.FAILED)


@pytest.mark.parametrize("status", sorted(UPLOAD_FAILED))
def test_a_failed_upload_may_be_asked_for_again_and_a_late_success_counts(status: ReplicateStatus) -> None:
    assert is_legal(Mover.POOL, status, S.RESULT_UPLOAD_REQUESTED)
    assert is_legal(Mover.WORKER, status, S.RESULT_UPLOADED)


@pytest.mark.parametrize("status", [S.APP_DOWNLOAD_FAILED, S.DATA_DOWNLOAD_FAILED, S.COMPUTE_FAILED])
def test_a_failure_before_the_contribution_still_leads_to_one(status: ReplicateStatus) -> None:
    assert is_legal(Mover.WORKER, status, S.CAN_CONTRIBUTE)


@pytest.mark.parametrize("status", sorted(BEFORE_CONTRIBUTION))
def test_a_contribution_on_the_chain_is_believed_wherever_the_reports_stand(status: ReplicateStatus) -> None:
    assert is_legal(Mover.CHAIN, status, S.CONTRIBUTED)


def test_groups_of_statuses_do_not_contradict_each_other() -> None:
    assert SLOT_HOLDING < BEFORE_CONTRIBUTION
    assert not BEFORE_CONTRIBUTION & (UNCOMPLETABLE | FINAL)
    assert CANT_CONTRIBUTE | ABORTED < UNCOMPLETABLE


def test_who_recovers_goes_on_from_where_it_was() -> None:
    assert S.COMPUTED in AHEAD[S.COMPUTING]
    assert S.RUNNING not in AHEAD[S.COMPUTING]
    assert S.COMPLETED not in AHEAD[S.COMPUTING], "the chain stands between"
    assert S.COMPLETED in AHEAD[S.REVEALED]
