"""The pool: who computes what, what is woken up for, what is kept and forgotten."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

import factories as f
from factories import ALICE, BOB, CAROL, START
from poolwright.poco.errors import InvariantBroken
from poolwright.poco.tags import GPU, SCONE, TEE
from poolwright.poco.types import TaskId, WorkerAddress
from poolwright.scheduler import invariants
from poolwright.scheduler import pool as pools
from poolwright.scheduler import task as tasks
from poolwright.scheduler.alarms import SPARE_MOMENTS
from poolwright.scheduler.effects import Effect, TellWorkerAbort, TellWorkerStart
from poolwright.scheduler.events import DealTerms, PoolEvent
from poolwright.scheduler.pool import Pool
from poolwright.wire.messages import AbortCause
from poolwright.wire.statuses import ReplicateStatus

S = ReplicateStatus


def tell(pool: Pool, *events: PoolEvent) -> list[Effect]:
    """Tell the pool; every rule holds after every step."""
    effects: list[Effect] = []
    for event in events:
        effects += pools.step(pool, event).effects
        invariants.check(pool)
    return effects


def opened(deal: DealTerms) -> list[PoolEvent]:
    """The deal and its initialized tasks."""
    indexes = range(deal.bot_first, deal.bot_first + deal.bot_size)
    return [f.deal_matched(deal), *(f.initialized(f.task_of(deal, index)) for index in indexes)]


def starts(effects: Iterable[Effect]) -> list[tuple[WorkerAddress, TaskId]]:
    return [(effect.worker, effect.task_id) for effect in effects if isinstance(effect, TellWorkerStart)]


def finish(pool: Pool, task_id: TaskId, worker: WorkerAddress = ALICE) -> None:
    """Take a trust-1 task of this worker to its end."""
    tell(
        pool,
        *f.computed(task_id, worker),
        f.contributed(task_id, worker),
        f.consensus_reached(task_id),
        f.revealed(task_id, worker),
        *f.reports(task_id, worker, S.RESULT_UPLOADING, S.RESULT_UPLOADED),
        f.upload_verified(task_id, worker),
        f.finalized(task_id),
        f.reported(task_id, worker, S.COMPLETED),
    )


def test_an_initialized_task_goes_to_a_free_worker_in_the_same_step() -> None:
    deal, pool = f.deal_terms(), Pool()
    tell(pool, f.connected(), f.deal_matched(deal))

    effects = tell(pool, f.initialized(f.task_of(deal)))

    assert starts(effects) == [(ALICE, f.task_of(deal))]


def test_a_worker_that_connects_fills_all_its_slots_at_once() -> None:
    deal, pool = f.deal_terms(bot_size=5), Pool()
    tell(pool, *opened(deal))

    effects = tell(pool, f.connected(slots=3))

    assert len(starts(effects)) == 3
    assert pool.workers[ALICE].free_slots == 0


def test_the_earliest_contribution_deadline_is_served_first() -> None:
    late, early = f.deal_terms("late", start=START + 100), f.deal_terms("early")
    pool = Pool()
    tell(pool, *opened(late), *opened(early))

    effects = tell(pool, f.connected(slots=2))

    assert [task_id for _, task_id in starts(effects)] == [f.task_of(early), f.task_of(late)]


def test_workers_are_served_in_turn() -> None:
    deal, pool = f.deal_terms(bot_size=4), Pool()
    tell(pool, f.connected(slots=2), f.connected(BOB, slots=2))

    effects = tell(pool, *opened(deal))

    assert [worker for worker, _ in starts(effects)] == [ALICE, BOB, ALICE, BOB]


def test_a_task_goes_to_a_worker_once_and_waits_in_line_for_another() -> None:
    deal, pool = f.deal_terms(trust=3), Pool()
    task_id = f.task_of(deal)
    assert len(starts(tell(pool, f.connected(slots=5), *opened(deal)))) == 1
    assert not starts(tell(pool, f.connected(slots=9), f.tick(START + 10)))

    effects = tell(pool, f.connected(BOB))

    assert starts(effects) == [(BOB, task_id)]


def test_all_workers_took_part_and_a_new_one_finds_the_task_in_line() -> None:
    deal, pool = f.deal_terms(), Pool()
    task_id = f.task_of(deal)
    tell(pool, f.connected(), f.connected(BOB), *opened(deal))
    tell(pool, f.reported(task_id, ALICE, S.RUNNING), f.reported(task_id, ALICE, S.OUT_OF_GAS))
    tell(pool, f.reported(task_id, BOB, S.RUNNING), f.reported(task_id, BOB, S.OUT_OF_GAS))
    assert tasks.needs_worker(pool.tasks[task_id], pool.now)

    assert starts(tell(pool, f.connected(CAROL))) == [(CAROL, task_id)]


@pytest.mark.parametrize("status", [S.COMPUTED, S.COMPUTE_FAILED])
def test_the_slot_is_free_as_soon_as_the_container_has_ended(status: ReplicateStatus) -> None:
    first, second, pool = f.deal_terms("first"), f.deal_terms("second"), Pool()
    path = f.BEFORE_CONTRIBUTION_PATH[: f.BEFORE_CONTRIBUTION_PATH.index(S.COMPUTED)]
    tell(pool, f.connected(), *opened(first), *opened(second))
    tell(pool, *f.reports(f.task_of(first), ALICE, *path))

    effects = tell(pool, f.reported(f.task_of(first), ALICE, status))

    assert starts(effects) == [(ALICE, f.task_of(second))]


def test_an_aborted_replicate_frees_its_slot() -> None:
    """The existing core keeps it until the task ends (reference 11.2, row 6)."""
    first, second, pool = f.deal_terms("first"), f.deal_terms("second"), Pool()
    task_id = f.task_of(first)
    tell(pool, f.connected(), *opened(first), *opened(second))
    tell(pool, f.contributed(task_id, BOB), f.consensus_reached(task_id))

    effects = tell(pool, f.reported(task_id, ALICE, S.ABORTED_ON_CONSENSUS_REACHED))

    assert starts(effects) == [(ALICE, f.task_of(second))]


def test_a_silent_workers_tasks_go_to_others_and_it_gets_none() -> None:
    deal, pool = f.deal_terms(), Pool()
    tell(pool, f.connected(), *opened(deal))

    effects = tell(pool, f.silent(), f.connected(BOB))

    assert starts(effects) == [(BOB, f.task_of(deal))]
    assert pool.workers[ALICE].free_slots == 0
    assert pools.step(pool, f.silent()).ignored


def test_a_report_on_an_unbroken_connection_ends_a_silence() -> None:
    deal, pool = f.deal_terms(), Pool()
    task_id = f.task_of(deal)
    tell(pool, f.connected(), *opened(deal), f.silent())

    tell(pool, f.reported(task_id, ALICE, S.RUNNING, at=START + 90))

    assert not pool.workers[ALICE].is_silent
    replicate = pool.tasks[task_id].replicate_of(ALICE)
    assert replicate
    assert [stage.status for stage in replicate.life[-3:]] == [S.WORKER_LOST, S.RECOVERING, S.RUNNING]


def test_a_worker_back_with_fewer_slots_gets_no_more_than_it_offers() -> None:
    deal, pool = f.deal_terms(bot_size=4), Pool()
    tell(pool, f.connected(slots=3), *opened(deal))

    assert not starts(tell(pool, f.connected(slots=1)))
    assert pool.workers[ALICE].free_slots == 0
    assert len(pool.workers[ALICE].computing) == 3


def test_a_worker_back_without_its_journal_gets_other_tasks_only() -> None:
    first, second, pool = f.deal_terms("first"), f.deal_terms("second"), Pool()
    tell(pool, f.connected(), *opened(first), *opened(second))

    effects = tell(pool, f.connected(journal="a new disk"))

    assert starts(effects) == [(ALICE, f.task_of(second))]
    stop = TellWorkerAbort(worker=ALICE, task_id=f.task_of(first), cause=AbortCause.CONTRIBUTION_TIMEOUT)
    assert stop in effects


def test_tags_are_met_bit_by_bit_and_a_gpu_waits_for_a_task_that_needs_it() -> None:
    pool = Pool()
    tell(
        pool,
        f.connected(ALICE, gpu=True),
        f.connected(BOB, tee_frameworks=["Scone", "of tomorrow"]),
        f.connected(CAROL),
    )
    plain, gpu, tee = (
        f.deal_terms("plain"),
        f.deal_terms("gpu", tag=GPU),
        f.deal_terms("tee", tag=TEE | SCONE),
    )
    both = f.deal_terms("both", tag=TEE | GPU)

    assert starts(tell(pool, *opened(plain))) == [(CAROL, f.task_of(plain))]
    assert starts(tell(pool, *opened(both))) == []
    assert starts(tell(pool, *opened(gpu))) == [(ALICE, f.task_of(gpu))]
    assert starts(tell(pool, *opened(tee))) == [(BOB, f.task_of(tee))]


def test_events_of_foreign_tasks_are_ignored() -> None:
    pool, task_id = Pool(), f.task_of(f.deal_terms("of another pool"))

    for event in (f.initialized(task_id), f.contributed(task_id), f.reported(task_id, ALICE, S.RUNNING)):
        assert pools.step(pool, event).ignored
    assert pool.tasks == {}


def test_a_deal_told_twice_is_opened_once() -> None:
    deal, pool = f.deal_terms(bot_first=3, bot_size=2), Pool()
    tell(pool, f.deal_matched(deal))

    step = pools.step(pool, f.deal_matched(deal))

    assert step.ignored
    assert not step.effects
    assert set(pool.tasks) == {f.task_of(deal, 3), f.task_of(deal, 4)}


def test_after_a_tick_the_next_deadline_lies_ahead() -> None:
    deal, pool = f.deal_terms(bot_size=2), Pool()
    tell(pool, *opened(deal), f.connected())
    waits = []

    while (due := pools.next_deadline(pool)) is not None:
        waits.append(due)
        tell(pool, f.tick(due))

    assert waits == [START + 1 + f.TIMEREF // 2, f.CONTRIBUTION_DEADLINE, f.FINAL_DEADLINE]


def test_time_does_not_run_backwards() -> None:
    pool = Pool()

    tell(pool, f.tick(START + 100), f.tick(START))

    assert pool.now == START + 100


def test_what_is_asked_while_catching_up_is_asked_now() -> None:
    """Else a worker would be judged silent for the time that the scheduler was away."""
    deal, pool = f.deal_terms(), Pool()
    task_id = f.task_of(deal)
    tell(pool, f.connected(), *opened(deal), f.contributed(task_id), f.consensus_reached(task_id))
    tell(pool, f.tick(START + 400))

    tell(pool, f.revealed(task_id, at=START + 110), f.tick(START + 401))

    replicate = pool.tasks[task_id].replicate_of(ALICE)
    assert replicate
    assert replicate.status is S.RESULT_UPLOAD_REQUESTED


def test_ended_tasks_are_forgotten_after_others_have_ended_and_deals_with_their_last_task() -> None:
    pool = Pool(kept_ended=2)
    deals = [f.deal_terms(f"deal {number}") for number in range(4)]
    tell(pool, f.connected(slots=4))
    for deal in deals:
        tell(pool, *opened(deal))
        finish(pool, f.task_of(deal))

    assert list(pool.tasks) == [f.task_of(deal) for deal in deals[2:]]
    assert set(pool.deals) == {deal.deal_id for deal in deals[2:]}
    assert pool.workers[ALICE].tasks == frozenset()
    assert pools.step(pool, f.finalized(f.task_of(deals[0]))).ignored


def test_a_forgotten_task_gives_back_the_slot_that_its_worker_never_gave_back() -> None:
    pool = Pool(kept_ended=0)
    deal = f.deal_terms()
    tell(pool, f.connected(), *opened(deal))

    tell(pool, f.claimed(f.task_of(deal)))

    assert pool.tasks == {}
    assert pool.workers[ALICE].free_slots == 1


def test_nobody_begins_with_a_task_that_ended_long_ago_while_its_past_is_read() -> None:
    pool, past, present = Pool(), f.deal_terms("past"), f.deal_terms("present")
    tell(pool, f.connected(slots=2), f.deal_matched(past), f.deal_matched(present))

    effects = tell(pool, f.initialized(f.task_of(past), is_over=True), f.initialized(f.task_of(present)))
    told = [effect.task_id for effect in effects if isinstance(effect, TellWorkerStart)]
    assert told == [f.task_of(present)]
    invariants.check(pool)

    tell(pool, f.contributed_and_finalized(f.task_of(past), BOB))
    assert pool.tasks[f.task_of(past)].phase == "COMPLETED"
    invariants.check(pool)


def test_a_deals_tasks_are_found_in_the_order_of_the_bag_as_long_as_they_are_kept() -> None:
    pool = Pool(kept_ended=1)
    bag, other = f.deal_terms("bag", bot_first=3, bot_size=3), f.deal_terms("other")
    tell(pool, f.deal_matched(other), f.deal_matched(bag))
    assert [task.index for task in pools.tasks_of_deal(pool, bag.deal_id)] == [3, 4, 5]

    for index in (4, 3):
        tell(pool, f.initialized(f.task_of(bag, index)), f.claimed(f.task_of(bag, index)))

    assert [task.index for task in pools.tasks_of_deal(pool, bag.deal_id)] == [3, 5]
    assert pools.tasks_of_deal(pool, f.deal_terms("unknown").deal_id) == []


def test_nothing_piles_up_in_the_lines_while_tasks_come_and_go() -> None:
    pool = Pool(kept_ended=1)
    tell(pool, f.connected())
    for number in range(60):
        deal = f.deal_terms(f"deal {number}")
        tell(pool, *opened(deal))
        finish(pool, f.task_of(deal))

    assert sum(len(line) for line in pool.supply.lines.values()) <= 2
    assert len(pool.alarms) <= SPARE_MOMENTS + 2
    assert len(pool.alarms.at) == 0


def test_a_broken_rule_is_named() -> None:
    deal, pool = f.deal_terms(), Pool()
    tell(pool, f.connected(), *opened(deal))
    pool.supply.free.clear()
    pool.alarms.at.clear()

    with pytest.raises(InvariantBroken, match="its deadline is"):
        invariants.check(pool)


def test_a_contribution_tells_the_weight_that_its_worker_has_now() -> None:
    first, second, pool = f.deal_terms("first", trust=5), f.deal_terms("second", trust=5), Pool()
    tell(pool, f.connected(weight=2, slots=2), *opened(first))

    tell(pool, f.contributed(f.task_of(first), ALICE, weight=9))
    tell(pool, *opened(second))

    assert pool.workers[ALICE].weight == 9
    assert [r.weight for r in pool.tasks[f.task_of(second)].replicates] == [9]
