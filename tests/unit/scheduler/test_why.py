"""What a task waits for, in each phase, and why nobody has it."""

from __future__ import annotations

import factories as f
from factories import ALICE, BOB, CONTRIBUTION_DEADLINE, FINAL_DEADLINE, START
from poolwright.poco.tags import GPU
from poolwright.poco.types import Timestamp
from poolwright.scheduler import pool as pools
from poolwright.scheduler.effects import Submission
from poolwright.scheduler.events import OperatorDrainedWorker, PoolEvent
from poolwright.scheduler.pool import Pool
from poolwright.scheduler.why import Wait, waits
from poolwright.wire.statuses import ReplicateStatus as S


def after(*events: PoolEvent, **terms: object) -> tuple[Wait, ...]:
    """What the one task of a deal waits for after these events."""
    deal = f.deal_terms(**terms)  # type: ignore[arg-type]  # keywords of deal_terms
    pool = Pool()
    for event in (f.deal_matched(deal), *events):
        pools.step(pool, event)
    return waits(pool, pool.tasks[f.task_of(deal)])


TASK = f.task_of(f.deal_terms())
INITIALIZED = f.initialized(TASK)
TO_CONSENSUS = (
    f.connected(ALICE),
    INITIALIZED,
    *f.computed(TASK, ALICE),
    f.contributed(TASK, ALICE),
    f.consensus_reached(TASK),
)
TO_REVEALED = (*TO_CONSENSUS, f.revealed(TASK, ALICE))


def whats(found: tuple[Wait, ...]) -> list[str]:
    return [wait.what for wait in found]


def test_a_new_task_waits_for_its_first_transaction() -> None:
    [wait] = after()

    assert (wait.what, wait.until) == ("transaction", None)
    assert wait.text.startswith("INITIALIZE, the task's transaction number 1")


def test_a_transaction_that_failed_is_tried_again_at_a_time() -> None:
    failed = f.submission_failed(TASK, Submission.INITIALIZE, START + 10)
    [wait] = after(failed)

    assert (wait.what, wait.until) == ("retry", START + 12)
    assert "INITIALIZE failed 1 times in a row, at last: reverted" in wait.text


def test_without_workers_it_says_so() -> None:
    [wait] = after(INITIALIZED)

    assert (wait.what, wait.until) == ("worker", CONTRIBUTION_DEADLINE)
    assert wait.text == "one more worker (trust 1 needs one contribution): no worker has ever connected"


def test_each_worker_that_cannot_have_it_is_counted_with_its_reason() -> None:
    carol, dave = f.worker_address("carol"), f.worker_address("dave")
    [wait] = after(
        f.connected(ALICE),
        f.connected(BOB, slots=0, gpu=True),
        f.connected(carol, gpu=True),
        f.silent(carol),
        f.connected(dave),
        INITIALIZED,
        tag=GPU,
    )

    assert wait.text.endswith(": 2 x does not offer gpu; 1 x has no free slot; 1 x not connected")


def test_a_worker_that_is_held_back_is_no_candidate() -> None:
    drained = OperatorDrainedWorker(at=Timestamp(START), worker=ALICE, reason="repair")
    [wait] = after(f.connected(ALICE), drained, INITIALIZED)

    assert wait.text.endswith(": 1 x is held back (draining)")


def test_at_work_it_waits_for_the_contribution() -> None:
    found = after(f.connected(ALICE), INITIALIZED, f.reported(TASK, ALICE, S.RUNNING))

    assert whats(found) == ["contribution"]
    assert f"({ALICE}) is RUNNING since {START + 50}" in found[0].text


def test_trust_that_is_not_reached_tells_the_weights() -> None:
    found = after(
        f.connected(ALICE), INITIALIZED, *f.computed(TASK, ALICE), f.contributed(TASK, ALICE), trust=3
    )

    assert whats(found) == ["worker"]
    assert "trust 3 needs weight x 3 > 3 x 2, the best result has weight 2" in found[0].text
    assert found[0].text.endswith("1 x has had this task")


def test_after_the_contribution_deadline_only_the_claim_is_left() -> None:
    [wait] = after(INITIALIZED, f.tick(CONTRIBUTION_DEADLINE))

    assert (wait.what, wait.until) == ("final-deadline", FINAL_DEADLINE)


def test_after_the_final_deadline_the_claim_is_on_its_way() -> None:
    [wait] = after(INITIALIZED, f.tick(FINAL_DEADLINE))

    assert wait.what == "transaction"
    assert wait.text.startswith("CLAIM")


def test_in_the_reveal_phase_it_waits_for_reveals_then_for_the_result_then_for_finalize() -> None:
    uploaded = f.reports(TASK, ALICE, S.RESULT_UPLOADING, S.RESULT_UPLOADED, at=START + 115)

    assert whats(after(*TO_CONSENSUS)) == ["reveal"]
    assert whats(after(*TO_REVEALED)) == ["upload"]
    assert whats(after(*TO_REVEALED, *uploaded)) == ["verification"]
    [wait] = after(*TO_REVEALED, *uploaded, f.upload_verified(TASK))
    assert wait.text.startswith("FINALIZE")


def test_an_upload_that_failed_is_asked_for_again_at_a_time() -> None:
    failed = f.reports(TASK, ALICE, S.RESULT_UPLOADING, S.RESULT_UPLOAD_FAILED, at=START + 115)
    [wait] = after(*TO_REVEALED, *failed)

    assert wait.what == "upload"
    assert wait.until == START + 175


def test_an_ended_task_waits_for_nothing_and_a_stopped_one_for_repair() -> None:
    task = f.told(f.uploading_task(), f.upload_verified(TASK), f.finalized(TASK)).task

    assert whats(waits(Pool(), task)) == ["nothing"]
    assert whats(waits(Pool(), task, stopped="phase without its log")) == ["repair"]


def test_a_task_that_ended_while_nobody_read_waits_for_its_own_past() -> None:
    [wait] = after(f.connected(), f.initialized(TASK, is_over=True))

    assert (wait.what, wait.until) == ("chain", None)
