"""Reports that are turned away before the log: what is no news, not theirs to tell, or cannot be."""

from __future__ import annotations

import pytest

import factories as f
from factories import ALICE, BOB
from poolwright.poco.types import WorkerAddress
from poolwright.scheduler import pool as pools
from poolwright.scheduler.events import PoolEvent
from poolwright.scheduler.pool import Pool
from poolwright.scheduler.screening import MAX_LIFE, Reason, objection
from poolwright.wire.statuses import ReplicateStatus as S

DEAL = f.deal_terms()
TASK = f.task_of(DEAL)


def pool_of(*events: PoolEvent) -> Pool:
    pool = Pool()
    for event in (f.connected(ALICE), f.deal_matched(DEAL), f.initialized(TASK), *events):
        pools.step(pool, event)
    return pool


def reason(pool: Pool, status: S, worker: WorkerAddress = ALICE) -> Reason | None:
    found = objection(pool, f.reported(TASK, worker, status))
    return None if found is None else found.reason


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (S.RUNNING, None),
        (S.FAILED, None),
        (S.ABORTED_ON_CONSENSUS_REACHED, None),
        (S.COMPUTED, Reason.IMPOSSIBLE_MOVE),
        (S.CREATED, Reason.IMPOSSIBLE_MOVE),
        (S.COMPLETED, Reason.IMPOSSIBLE_MOVE),
        (S.WORKER_LOST, Reason.IMPOSSIBLE_MOVE),
        (S.CONTRIBUTED, Reason.CHAIN_DECIDES),
        (S.REVEALED, Reason.CHAIN_DECIDES),
    ],
)
def test_a_new_attempt_may_take_its_next_steps_only(status: S, expected: Reason | None) -> None:
    assert reason(pool_of(), status) is expected


def test_a_report_that_comes_again_is_turned_away() -> None:
    pool = pool_of(f.reported(TASK, ALICE, S.RUNNING))

    assert reason(pool, S.RUNNING) is Reason.IMPOSSIBLE_MOVE
    assert reason(pool, S.APP_DOWNLOADING) is None


def test_a_worker_speaks_for_its_own_tasks_only() -> None:
    assert reason(pool_of(f.connected(BOB)), S.RUNNING, BOB) is Reason.NOT_ASSIGNED


def test_of_tasks_that_the_pool_does_not_keep_nothing_is_kept() -> None:
    found = objection(Pool(), f.reported(TASK, ALICE, S.RUNNING))

    assert found is not None
    assert found.reason is Reason.UNKNOWN_TASK
    assert str(TASK) in found.message


def test_a_worker_that_is_lost_is_heard_because_it_is_back() -> None:
    pool = pool_of(f.reported(TASK, ALICE, S.RUNNING), f.silent(ALICE, f.START + 100))

    assert reason(pool, S.APP_DOWNLOADING) is None


def test_an_attempt_does_not_go_round_for_ever() -> None:
    """A worker alone can say that it uploads and that it failed, again and again."""
    pool = pool_of(*f.computed(TASK, ALICE), f.contributed(TASK, ALICE), f.consensus_reached(TASK))
    pools.step(pool, f.revealed(TASK, ALICE))
    kept = 0
    while kept < 2 * MAX_LIFE:
        for status in (S.RESULT_UPLOADING, S.RESULT_UPLOAD_FAILED):
            found = objection(pool, f.reported(TASK, ALICE, status))
            if found is not None:
                assert found.reason is Reason.ENDLESS_ATTEMPT
                assert kept < MAX_LIFE
                return
            pools.step(pool, f.reported(TASK, ALICE, status))
            kept += 1
    raise AssertionError("never turned away")


def test_what_is_let_through_the_mind_takes_and_what_is_turned_away_it_would_ignore() -> None:
    for status in S:
        for told in (f.computed(TASK, ALICE)[:3], f.computed(TASK, ALICE)):
            pool = pool_of(*told)
            is_kept = objection(pool, f.reported(TASK, ALICE, status)) is None
            assert is_kept == (pools.step(pool, f.reported(TASK, ALICE, status)).ignored is None), status
