"""A worker that stands still too long is covered by another one, with most of the task's time left."""

from __future__ import annotations

import factories as f
from factories import ALICE, BOB, CAROL, START
from poolwright.poco.types import TaskId, WorkerAddress
from poolwright.scheduler import invariants
from poolwright.scheduler import pool as pools
from poolwright.scheduler.effects import Effect, TellWorkerAbort, TellWorkerReveal, TellWorkerStart
from poolwright.scheduler.events import PoolEvent
from poolwright.scheduler.pool import Pool
from poolwright.scheduler.task import Phase
from poolwright.wire.statuses import ReplicateStatus

S = ReplicateStatus
UNIT = f.TIMEREF


def tell(pool: Pool, *events: PoolEvent) -> list[Effect]:
    effects: list[Effect] = []
    for event in events:
        effects += pools.step(pool, event).effects
        invariants.check(pool)
    return effects


def begun(**terms: object) -> tuple[Pool, TaskId]:
    """A pool whose task was given to Alice at `START + 1`; Bob and Carol are free."""
    deal, pool = f.deal_terms(**terms), Pool()  # type: ignore[arg-type]  # keywords of deal_terms
    task_id = f.task_of(deal)
    tell(pool, f.connected(), f.deal_matched(deal), f.initialized(task_id))
    tell(pool, f.connected(BOB), f.connected(CAROL))
    return pool, task_id


def started(effects: list[Effect]) -> list[WorkerAddress]:
    return [effect.worker for effect in effects if isinstance(effect, TellWorkerStart)]


def test_a_worker_that_does_not_begin_is_covered_after_half_a_unit() -> None:
    pool, _ = begun()

    assert started(tell(pool, f.tick(START + UNIT // 2))) == []
    assert started(tell(pool, f.tick(START + 1 + UNIT // 2))) == [BOB]


def test_each_step_forward_earns_new_patience() -> None:
    pool, task_id = begun()
    tell(pool, f.reported(task_id, ALICE, S.RUNNING, at=START + 140))

    assert started(tell(pool, f.tick(START + 160))) == []
    assert started(tell(pool, f.tick(START + 140 + UNIT // 2))) == [BOB]


def test_an_app_may_compute_for_a_whole_unit() -> None:
    pool, task_id = begun()
    path = f.BEFORE_CONTRIBUTION_PATH[: f.BEFORE_CONTRIBUTION_PATH.index(S.COMPUTING) + 1]
    tell(pool, *f.reports(task_id, ALICE, *path, at=START + 20))

    assert started(tell(pool, f.tick(START + 19 + UNIT))) == []
    assert started(tell(pool, f.tick(START + 20 + UNIT))) == [BOB]


def test_who_has_computed_and_does_not_contribute_is_covered_sooner_than_one_who_computes() -> None:
    pool, task_id = begun()
    path = f.BEFORE_CONTRIBUTION_PATH[: f.BEFORE_CONTRIBUTION_PATH.index(S.COMPUTED) + 1]
    tell(pool, *f.reports(task_id, ALICE, *path, at=START + 20))

    assert pools.next_deadline(pool) == START + 20 + UNIT // 2
    assert started(tell(pool, f.tick(START + 20 + UNIT // 2))) == [BOB]


def test_who_comes_back_from_computing_with_a_later_word_is_covered_in_that_steps_time() -> None:
    """Its word COMPUTED never came: one that loses or invents reports (simulation, seed 456)."""
    deal, pool = f.deal_terms(), Pool()
    task_id = f.task_of(deal)
    tell(pool, f.connected(), f.deal_matched(deal), f.initialized(task_id))
    path = f.BEFORE_CONTRIBUTION_PATH[: f.BEFORE_CONTRIBUTION_PATH.index(S.COMPUTING) + 1]
    tell(pool, *f.reports(task_id, ALICE, *path, at=START + 20))
    tell(pool, f.silent(ALICE, at=START + 40), f.connected(at=START + 50))

    tell(pool, f.reported(task_id, ALICE, S.CAN_CONTRIBUTE, at=START + 50))

    assert pools.next_deadline(pool) == START + 50 + UNIT // 2


def test_a_cover_is_one_worker_and_is_itself_covered_when_it_is_slow() -> None:
    pool, _ = begun()
    first = START + 1 + UNIT // 2
    assert started(tell(pool, f.tick(first), f.tick(first + 1), f.tick(first + 50))) == [BOB]

    assert started(tell(pool, f.tick(first + UNIT // 2))) == [CAROL]


def test_whoever_contributes_first_wins_and_the_other_stops() -> None:
    pool, task_id = begun()
    tell(pool, f.tick(START + 1 + UNIT // 2))

    effects = tell(pool, f.contributed(task_id, ALICE, at=START + 200), f.consensus_reached(task_id))

    assert [e.worker for e in effects if isinstance(e, TellWorkerReveal)] == [ALICE]
    assert [e.worker for e in effects if isinstance(e, TellWorkerAbort)] == [BOB]
    assert pool.tasks[task_id].phase is Phase.REVEALING


def test_a_trust_that_needs_two_starts_one_cover_for_one_slow_worker() -> None:
    pool, task_id = begun(trust=3)
    pool_before = [r.worker for r in pool.tasks[task_id].replicates]
    assert pool_before == [ALICE, BOB]
    tell(pool, *f.reports(task_id, BOB, S.RUNNING, S.APP_DOWNLOADING, at=START + 140))

    assert started(tell(pool, f.tick(START + 1 + UNIT // 2))) == [CAROL]


def test_nobody_is_covered_when_no_contribution_could_come_in_time() -> None:
    deal, pool = f.deal_terms(), Pool()
    tell(pool, f.deal_matched(deal), f.initialized(f.task_of(deal)), f.tick(f.CONTRIBUTION_DEADLINE - 100))

    assert started(tell(pool, f.connected(at=f.CONTRIBUTION_DEADLINE - 100))) == [ALICE]

    assert pools.next_deadline(pool) == f.CONTRIBUTION_DEADLINE
