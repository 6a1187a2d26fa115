"""Replicates of a task are spread over the owners whom the operator has named."""

from __future__ import annotations

import pytest

import factories as f
from factories import ALICE, BOB, CAROL, START
from poolwright.poco.types import Timestamp, WorkerAddress
from poolwright.scheduler import invariants, view
from poolwright.scheduler import pool as pools
from poolwright.scheduler.effects import TellWorkerStart
from poolwright.scheduler.events import OperatorNamedOwner, PoolEvent
from poolwright.scheduler.pool import PASSED_OVER, Pool
from poolwright.wire.statuses import ReplicateStatus

S = ReplicateStatus
AT = Timestamp(START)


def tell(pool: Pool, *events: PoolEvent) -> list[WorkerAddress]:
    """Who is given a task by these events, in order."""
    given: list[WorkerAddress] = []
    for event in events:
        effects = pools.step(pool, event).effects
        invariants.check(pool)
        given += [effect.worker for effect in effects if isinstance(effect, TellWorkerStart)]
    return given


def owned(worker: WorkerAddress, owner: str = "a house") -> OperatorNamedOwner:
    return OperatorNamedOwner(at=AT, worker=worker, owner=owner)


def buy(pool: Pool, *, name: str = "deal", trust: int = 4) -> list[WorkerAddress]:
    deal = f.deal_terms(name, trust=trust)
    return tell(pool, f.deal_matched(deal, at=pool.now), f.initialized(f.task_of(deal), at=pool.now))


def test_a_new_task_goes_to_workers_of_different_owners() -> None:
    pool = Pool()
    tell(pool, owned(ALICE), owned(BOB), f.connected(ALICE), f.connected(BOB), f.connected(CAROL))
    assert buy(pool) == [ALICE, CAROL]


def test_the_next_worker_of_an_owner_gets_it_when_there_is_no_other() -> None:
    pool = Pool()
    tell(pool, owned(ALICE), owned(BOB), f.connected(ALICE), f.connected(BOB))
    assert buy(pool) == [ALICE, BOB]


def test_a_worker_that_comes_takes_first_what_its_owner_has_no_part_in() -> None:
    pool = Pool()
    tell(pool, owned(ALICE), owned(BOB), f.connected(ALICE, slots=1))
    assert buy(pool, name="earlier") == [ALICE]
    assert buy(pool, name="later") == []
    assert tell(pool, f.connected(BOB)) == [BOB]
    assert f.task_of(f.deal_terms("later")) in pool.workers[BOB].computing


def test_a_worker_that_comes_takes_a_second_part_of_its_owner_rather_than_nothing() -> None:
    pool = Pool()
    tell(pool, owned(ALICE), owned(BOB), f.connected(ALICE, slots=PASSED_OVER + 5))
    for number in range(PASSED_OVER + 5):
        assert buy(pool, name=f"deal {number}") == [ALICE]
    assert tell(pool, f.connected(BOB, slots=PASSED_OVER + 5)) == [BOB] * (PASSED_OVER + 5)


def test_a_part_that_came_to_nothing_does_not_count() -> None:
    pool = Pool()
    tell(pool, owned(ALICE), owned(BOB), f.connected(ALICE))
    assert buy(pool) == [ALICE]
    task_id = f.task_of(f.deal_terms("deal"))
    tell(pool, *f.reports(task_id, ALICE, S.RUNNING, S.OUT_OF_GAS, at=START + 1))
    assert tell(pool, f.connected(BOB), f.connected(CAROL)) == [BOB, CAROL]


@pytest.mark.parametrize("owner", ["", "another house"])
def test_the_operators_last_word_counts(owner: str) -> None:
    pool = Pool()
    tell(pool, owned(ALICE), owned(BOB), owned(BOB, owner), f.connected(ALICE), f.connected(BOB))
    tell(pool, f.connected(CAROL))
    assert buy(pool) == [ALICE, BOB]
    assert pools.step(pool, owned(BOB, owner)).ignored == "the operator has said so before"
    shown = view.workers_model(pool)["owners"]
    assert shown == {str(ALICE): "a house"} | ({str(BOB): owner} if owner else {})
