"""A mind restored from its snapshot is the mind that lived: it answers everything alike from then on."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from factories import (
    ALICE,
    BOB,
    DIGEST,
    START,
    TIMEREF,
    claimed,
    computed,
    connected,
    consensus_reached,
    contributed,
    deal_matched,
    deal_terms,
    finalized,
    initialized,
    reported,
    revealed,
    silent,
    start,
    task_of,
    terms,
    tick,
    upload_verified,
)
from poolwright.daemons.scheduler_mind import SchedulerMind
from poolwright.daemons.worker_mind import WorkerMind
from poolwright.poco.errors import InvariantBroken, PeerError
from poolwright.poco.types import Timestamp
from poolwright.scheduler.events import PoolEvent
from poolwright.wire.statuses import ReplicateStatus as S
from poolwright.worker.events import (
    AppComputed,
    AppDownloaded,
    ContributionChecked,
    DataDownloaded,
    Event,
    Result,
    SchedulerInstructed,
    TaskDescribed,
)

DEAL = deal_terms(bot_size=3)
TASK = task_of(DEAL)
POOL_LIFE: tuple[PoolEvent, ...] = (
    connected(ALICE, slots=2),
    deal_matched(DEAL),
    *(initialized(task_of(DEAL, index)) for index in range(3)),
    connected(BOB),
    *computed(TASK, ALICE),
    contributed(TASK, ALICE),
    consensus_reached(TASK),
    silent(BOB, START + 105),
    revealed(TASK, ALICE),
    tick(START + 112),
    reported(TASK, ALICE, S.RESULT_UPLOADING, at=START + 115),
    reported(TASK, ALICE, S.RESULT_UPLOADED, at=START + 116),
    upload_verified(TASK),
    connected(BOB, at=START + 125),
    finalized(TASK),
    tick(START + 3_001),
)

AT = Timestamp(START)
WORKER_LIFE: tuple[Event, ...] = (
    SchedulerInstructed(at=AT, instruction=start(TASK)),
    TaskDescribed(at=AT, task_id=TASK, terms=terms()),
    SchedulerInstructed(at=AT, instruction=start(task_of(DEAL, 1))),
    AppDownloaded(at=AT, task_id=TASK),
    DataDownloaded(at=AT, task_id=TASK),
    AppComputed(
        at=AT, task_id=TASK, result=Result(digest=DIGEST, callback=b"\x01"), exit_code=0, milliseconds=7
    ),
    ContributionChecked(at=AT, task_id=TASK, verdict=S.CAN_CONTRIBUTE),
)


@pytest.mark.parametrize("cut", range(len(POOL_LIFE) + 1))
def test_pool_of_a_snapshot_goes_on_as_the_live_one(cut: int) -> None:
    mind = SchedulerMind(check_invariants=True)
    live = mind.initial()
    for event in POOL_LIFE[:cut]:
        live = mind.step(live, event).state
    restored = mind.load(b"".join(mind.save(live)))

    assert (restored.tasks, restored.workers) == (live.tasks, live.workers)
    for event in POOL_LIFE[cut:]:
        assert mind.next_deadline(restored) == mind.next_deadline(live)
        lived, again = mind.step(live, event), mind.step(restored, event)
        assert _outcome(again.effects, again.ignored) == _outcome(lived.effects, lived.ignored)
    assert b"".join(mind.save(restored)) == b"".join(mind.save(live))


@pytest.mark.parametrize("cut", range(len(WORKER_LIFE) + 1))
def test_attempts_of_a_snapshot_go_on_as_the_live_ones(cut: int) -> None:
    mind = WorkerMind()
    live = mind.initial()
    for event in WORKER_LIFE[:cut]:
        live = mind.step(live, event).state
    restored = mind.load(b"".join(mind.save(live)))

    for event in WORKER_LIFE[cut:]:
        lived, again = mind.step(live, event), mind.step(restored, event)
        assert _outcome(again.effects, again.ignored) == _outcome(lived.effects, lived.ignored)
    assert restored == live


def _outcome(effects: Sequence[object], ignored: str | None) -> tuple[tuple[object, ...], str | None]:
    return tuple(effects), ignored


def test_snapshot_of_another_form_is_refused() -> None:
    for mind in (SchedulerMind(), WorkerMind()):
        with pytest.raises(PeerError):
            mind.load(b'{"type":"Album","tracks":[]}')


def test_worker_has_no_deadline_to_tick_for() -> None:
    mind = WorkerMind()

    assert mind.next_deadline(mind.initial()) is None
    with pytest.raises(InvariantBroken):
        mind.tick(AT)


def test_a_transaction_is_wanted_while_it_is_in_flight_and_still_of_use() -> None:
    """It may have waited for cheap gas: initialized past the contributions' deadline, a task is of no use."""
    mind, deal = SchedulerMind(), deal_terms()
    pool = mind.initial()
    [initialize] = mind.step(pool, deal_matched(deal)).effects
    assert mind.is_wanted(pool, initialize)

    mind.step(pool, tick(START + 7 * TIMEREF))
    assert not mind.is_wanted(pool, initialize)

    [claim] = mind.step(pool, tick(START + 10 * TIMEREF)).effects
    assert mind.is_wanted(pool, claim)
    mind.step(pool, initialized(task_of(deal)))
    assert mind.is_wanted(pool, claim)
    mind.step(pool, claimed(task_of(deal)))
    assert not mind.is_wanted(pool, claim)
