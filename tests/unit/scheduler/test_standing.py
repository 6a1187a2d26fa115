"""Who is given work: drain, allow list, oldest version, quarantine after faults."""

from __future__ import annotations

import pytest

import factories as f
from factories import ALICE, BOB, CAROL, START
from poolwright.daemons.scheduler_mind import SchedulerMind
from poolwright.poco.errors import PeerError
from poolwright.poco.frozen import replace
from poolwright.poco.types import Seconds, TaskId, Timestamp, WorkerAddress
from poolwright.scheduler import invariants, standing, view
from poolwright.scheduler import pool as pools
from poolwright.scheduler.effects import Effect, TellWorkerReveal, TellWorkerStart
from poolwright.scheduler.events import (
    OperatorAllowedWorker,
    OperatorDrainedWorker,
    OperatorResumedWorker,
    OperatorSetRules,
    PoolEvent,
)
from poolwright.scheduler.pool import Pool
from poolwright.scheduler.standing import BLANK, Fault, Rules
from poolwright.wire.statuses import ReplicateStatus

S = ReplicateStatus
AT = Timestamp(START)


def tell(pool: Pool, *events: PoolEvent) -> list[Effect]:
    effects: list[Effect] = []
    for event in events:
        effects += pools.step(pool, event).effects
        invariants.check(pool)
    return effects


def offer(pool: Pool, name: str, **terms: object) -> tuple[TaskId, list[WorkerAddress]]:
    """Buy one more task; who was given it."""
    deal = f.deal_terms(name, **terms)  # type: ignore[arg-type]  # keywords of deal_terms
    task_id = f.task_of(deal)
    effects = tell(
        pool,
        f.deal_matched(deal, at=pool.now),
        f.initialized(task_id, at=pool.now),
    )
    return task_id, [effect.worker for effect in effects if isinstance(effect, TellWorkerStart)]


def fail(pool: Pool, count: int, *, first: int = 0, apart: int = 1) -> None:
    """Let Alice, alone in the pool, run out of gas on some tasks, one after the other."""
    for number in range(first, first + count):
        task_id, given_to = offer(pool, f"deal {number}", start=pool.now)
        assert given_to == [ALICE]
        at = pool.now + apart
        tell(pool, *f.reports(task_id, ALICE, S.RUNNING, S.OUT_OF_GAS, at=at))


def hold_of(pool: Pool, worker: WorkerAddress = ALICE) -> str | None:
    told = standing.notice(pool.workers[worker].standing)
    return told.code if told else None


def test_a_drained_worker_finishes_what_it_has_and_gets_nothing_new() -> None:
    pool = Pool()
    tell(pool, f.connected(slots=2))
    task_id, _ = offer(pool, "first")

    tell(pool, OperatorDrainedWorker(at=AT, worker=ALICE, reason="new disk"))

    assert offer(pool, "second")[1] == []
    effects = tell(pool, f.contributed(task_id, ALICE), f.consensus_reached(task_id))
    assert [type(effect) for effect in effects] == [TellWorkerReveal]
    assert "new disk" in str(view.worker_model(pool.workers[ALICE], None)["hold"])
    assert tell(pool, f.connected(slots=2, at=START + 200)) == []


def test_a_resumed_worker_gets_work_at_once() -> None:
    pool = Pool()
    tell(pool, f.connected(), OperatorDrainedWorker(at=AT, worker=ALICE))
    task_id, given_to = offer(pool, "first")
    assert given_to == []

    effects = tell(pool, OperatorResumedWorker(at=AT, worker=ALICE))

    assert [(e.worker, e.task_id) for e in effects if isinstance(e, TellWorkerStart)] == [(ALICE, task_id)]
    assert hold_of(pool) is None


def test_what_the_operator_says_twice_or_of_a_stranger_changes_nothing() -> None:
    pool = Pool()
    tell(pool, f.connected(), OperatorDrainedWorker(at=AT, worker=ALICE))

    assert pools.step(pool, OperatorDrainedWorker(at=AT, worker=ALICE)).ignored
    assert pools.step(pool, OperatorDrainedWorker(at=AT, worker=BOB)).ignored
    assert pools.step(pool, OperatorSetRules(at=AT, rules=Rules())).ignored


def test_the_allow_list_bars_those_who_are_not_on_it_and_the_operators_word_outdoes_it() -> None:
    pool = Pool()
    tell(pool, f.connected(ALICE), f.connected(BOB))

    tell(pool, OperatorSetRules(at=AT, rules=Rules(allowed=frozenset({ALICE}))))
    assert (hold_of(pool, ALICE), hold_of(pool, BOB)) == (None, "not-allowed")

    tell(pool, OperatorAllowedWorker(at=AT, worker=BOB))
    tell(pool, OperatorAllowedWorker(at=AT, worker=ALICE, is_allowed=False))
    assert (hold_of(pool, ALICE), hold_of(pool, BOB)) == ("not-allowed", None)

    tell(pool, f.connected(CAROL))
    assert hold_of(pool, CAROL) == "not-allowed"
    assert offer(pool, "deal")[1] == [BOB]


def test_repeated_faults_bring_a_quarantine_that_ends_by_itself() -> None:
    pool = Pool()
    tell(pool, OperatorSetRules(at=AT, rules=Rules(faults=3)), f.connected())
    fail(pool, 3)
    began = pool.now
    assert hold_of(pool) == "quarantined"
    assert offer(pool, "while it lasts", start=pool.now)[1] == []
    held = view.worker_model(pool.workers[ALICE], None)
    assert held["quarantinedUntil"] == began + 600
    assert len(held["faults"]) == 3  # type: ignore[arg-type]  # a list
    assert "OUT_OF_GAS" in str(held["hold"])

    assert pools.next_deadline(pool) is not None
    while (due := pools.next_deadline(pool)) is not None and due < began + 600:
        tell(pool, f.tick(due))
    assert hold_of(pool) == "quarantined"
    effects = tell(pool, f.tick(began + 600))

    assert hold_of(pool) is None
    assert [type(effect) for effect in effects if isinstance(effect, TellWorkerStart)] == [TellWorkerStart]


def test_the_next_quarantine_is_twice_as_long_and_none_is_longer_than_a_day() -> None:
    rules, record = Rules(faults=1), BLANK
    lengths = []
    for number in range(10):
        at = Timestamp(START + number * 200_000)
        record = standing.with_fault(record, Fault(at=at, what="X", task_id=f.task_of(f.deal_terms())), rules)
        assert record.quarantined_until is not None
        lengths.append(record.quarantined_until - at)
        record = standing.after_quarantine(record)

    assert lengths[:4] == [600, 1_200, 2_400, 4_800]
    assert lengths[-1] == 86_400


def test_a_completed_task_clears_the_record() -> None:
    pool = Pool()
    tell(pool, OperatorSetRules(at=AT, rules=Rules(faults=3)), f.connected())
    fail(pool, 2)
    task_id, _ = offer(pool, "a good one", start=pool.now)
    at = pool.now + 1
    tell(
        pool,
        f.contributed(task_id, ALICE, at=at),
        f.consensus_reached(task_id, at=at),
        f.revealed(task_id, ALICE, at=at),
        *f.reports(task_id, ALICE, S.RESULT_UPLOADING, S.RESULT_UPLOADED, at=at),
        f.upload_verified(task_id, ALICE, at=at),
        f.finalized(task_id, at=at),
        f.reported(task_id, ALICE, S.COMPLETED, at=at),
    )

    assert pool.workers[ALICE].standing == BLANK


def test_faults_far_apart_are_forgiven() -> None:
    pool = Pool()
    rules = Rules(faults=3, fault_window=Seconds(100))
    tell(pool, OperatorSetRules(at=AT, rules=rules), f.connected())

    fail(pool, 6, apart=60)

    assert hold_of(pool) is None


def test_a_lost_connection_is_one_fault_however_many_tasks_it_takes() -> None:
    pool = Pool()
    deal = f.deal_terms(bot_size=8)
    tell(pool, f.connected(slots=8), f.deal_matched(deal))
    tell(pool, *(f.initialized(f.task_of(deal, index)) for index in range(8)))
    assert len(pool.workers[ALICE].computing) == 8

    tell(pool, f.silent(), f.connected(slots=8, at=START + 70))

    assert [fault.what for fault in pool.workers[ALICE].standing.faults] == ["WORKER_LOST"]


def test_a_result_that_nobody_agrees_with_is_a_fault_of_its_worker() -> None:
    pool = Pool()
    tell(pool, f.connected(ALICE), f.connected(BOB), f.connected(CAROL))
    task_id, _ = offer(pool, "deal", trust=3)
    tell(pool, f.contributed(task_id, ALICE, f.WRONG_DIGEST), f.contributed(task_id, BOB, block=11))
    tell(pool, f.contributed(task_id, CAROL, block=12))

    tell(pool, f.consensus_reached(task_id))

    faults = {
        worker: [f.what for f in pool.workers[worker].standing.faults] for worker in (ALICE, BOB, CAROL)
    }
    assert faults == {ALICE: ["DISSENT"], BOB: [], CAROL: []}


def test_without_a_limit_there_is_no_quarantine() -> None:
    pool = Pool()
    tell(pool, OperatorSetRules(at=AT, rules=Rules(faults=0)), f.connected())

    fail(pool, 12)

    assert pool.workers[ALICE].standing == BLANK


def test_standings_rules_and_words_survive_a_restart() -> None:
    mind, pool = SchedulerMind(), Pool()
    tell(
        pool,
        OperatorSetRules(at=AT, rules=Rules(faults=2, allowed=frozenset({ALICE, BOB}), min_version="0.1")),
        OperatorAllowedWorker(at=AT, worker=CAROL),
        f.connected(),
        f.connected(BOB, at=START),
        OperatorDrainedWorker(at=AT, worker=BOB, reason="later"),
    )
    fail(pool, 2)

    again = mind.load(b"".join(mind.save(pool)))

    invariants.check(again)
    assert (again.rules, again.words) == (pool.rules, pool.words)
    assert again.workers == pool.workers
    assert pools.next_deadline(again) == pools.next_deadline(pool)
    tell(again, f.tick(pool.now + 600))
    assert hold_of(again) is None


@pytest.mark.parametrize(
    ("version", "oldest", "is_fine"),
    [
        ("0.2.0", "", True),
        ("nonsense", "", True),
        ("0.2.0", "0.2.0", True),
        ("0.2", "0.2.0", True),
        ("0.10.0", "0.9.7", True),
        ("v1.0.0rc1", "0.9", True),
        ("0.1.9", "0.2.0", False),
        ("0.2.0", "0.2.0.1", False),
        ("nonsense", "0.0.1", False),
    ],
)
def test_versions_are_compared_by_their_numbers(version: str, oldest: str, is_fine: bool) -> None:
    capacity = replace(f.capacity(), version=version)

    if is_fine:
        standing.check_version(Rules(min_version=oldest), capacity)
        return
    with pytest.raises(PeerError, match="install a newer version") as refused:
        standing.check_version(Rules(min_version=oldest), capacity)
    assert refused.value.code == "version-too-old"
