"""What the read API shows of tasks, workers and the pool."""

from __future__ import annotations

import json

import factories as f
from factories import ALICE, START
from poolwright.poco.types import Timestamp
from poolwright.scheduler import task as tasks
from poolwright.scheduler import view
from poolwright.scheduler.effects import Submission
from poolwright.wire.messages import Details
from poolwright.wire.statuses import ReplicateStatus


def dated(at: Timestamp) -> str:
    return f"{at - START} s after the deal"


def test_a_task_is_shown_with_its_facts_and_replicates() -> None:
    task = f.uploading_task()
    failed = f.submission_failed(task.id, Submission.FINALIZE, f.START + 125)
    task = f.told(task, f.upload_verified(task.id), failed).task

    shown = view.task_model(task, dated)

    assert json.loads(json.dumps(shown)) == shown, "plain JSON"
    assert shown["chainTaskId"] == str(task.id)
    assert shown["currentStatus"] == "RESULT_UPLOADED"
    assert shown["setback"] == "reverted"
    assert [fact["name"] for fact in shown["chainFacts"]] == [  # type: ignore[attr-defined]
        "TaskInitialized",
        "TaskContributed",
        "TaskConsensusReached",
        "TaskRevealed",
    ]
    statuses = shown["dateStatusList"]
    assert statuses[0] == {"status": "RECEIVED", "date": "0 s after the deal"}  # type: ignore[index]
    assert statuses[-1] == {"status": "RESULT_UPLOADED", "date": "115 s after the deal"}  # type: ignore[index]
    assert statuses[1]["chainReceipt"]["txHash"] == shown["chainFacts"][0]["txHash"]  # type: ignore[index]
    (replicate,) = shown["replicates"]  # type: ignore[misc]
    assert replicate["walletAddress"] == str(ALICE)
    assert replicate["currentStatus"] == "RESULT_UPLOADED"
    assert replicate["statusUpdateList"][0]["status"] == "CREATED"


def test_what_a_worker_says_is_shown_with_its_status_and_not_at_any_length() -> None:
    task = f.active_task(ALICE)
    details = Details(cause="OUT_OF_PAPER", message="no paper; " * 1_000)

    task = tasks.step(task, f.reported(task.id, ALICE, ReplicateStatus.RUNNING, details=details)).task

    (replicate,) = view.task_model(task, dated)["replicates"]  # type: ignore[misc]
    assert replicate["statusUpdateList"][-1] == {
        "status": "RUNNING",
        "date": "50 s after the deal",
        "cause": "OUT_OF_PAPER",
        "message": ("no paper; " * 1_000)[:500],
    }


def test_an_active_task_is_running_once_somebody_works_on_it() -> None:
    assert view.task_model(f.active_task(), dated)["currentStatus"] == "INITIALIZED"
    assert view.task_model(f.active_task(ALICE), dated)["currentStatus"] == "RUNNING"


def test_the_pool_is_shown_in_numbers() -> None:
    deal = f.deal_terms(bot_size=2)
    pool, _ = f.pool_after(f.connected(slots=3), f.deal_matched(deal), f.initialized(f.task_of(deal)))

    shown = view.pool_model(pool)

    assert json.loads(json.dumps(shown)) == shown
    assert shown["tasks"] == {"RECEIVED": 1, "ACTIVE": 1, "REVEALING": 0, "COMPLETED": 0, "FAILED": 0}
    (worker,) = shown["workers"]  # type: ignore[misc]
    assert (worker["slots"], worker["freeSlots"]) == (3, 2)
    assert worker["computing"] == [str(f.task_of(deal))]
