"""Deals and tasks as they are told, and what can be claimed of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from poolwright.cli.iexec.deal_view import (
    DealAt,
    check_claimable,
    check_deal_claimable,
    claim_batches,
    deal_json,
    is_claimable,
    progress_of,
    progress_text,
    script_date,
    span,
    status_name,
    task_json,
)
from poolwright.cli.iexec.errors import IexecError
from poolwright.poco import ids
from poolwright.poco.records import NO_DEAL, NO_TASK, OnchainTask, Resource, TaskStatus
from poolwright.poco.types import Address, DealId, Hash32, NRlc, Seconds, TaskId, Timestamp
from poolwright.wire.uploads import result_link

DEAL = DealId(Hash32(b"\1" * 32))
ANNA, BERT = Address(b"\2" * 20), Address(b"\3" * 20)
START = 1_795_318_318


def deal_at(now: int) -> DealAt:
    deal = replace(
        NO_DEAL,
        app=Resource(pointer=ANNA, owner=BERT, price=NRlc(7)),
        workerpool=Resource(pointer=BERT, owner=ANNA, price=NRlc(10**20)),
        trust=1,
        requester=ANNA,
        beneficiary=BERT,
        params="{}",
        start_time=Timestamp(START),
        bot_first=4,
        bot_size=2,
        worker_stake=NRlc(3),
        scheduler_reward_ratio=1,
        sponsor=ANNA,
    )
    return DealAt(deal_id=DEAL, deal=deal, timeref=Seconds(300), now=Timestamp(now))


def task(status: TaskStatus, **changes: object) -> OnchainTask:
    made = replace(
        NO_TASK,
        status=status,
        deal_id=DEAL,
        index=4,
        timeref=Seconds(300),
        contribution_deadline=Timestamp(START + 2100),
        final_deadline=Timestamp(START + 3000),
        contributors=(ANNA,),
        results_callback=b"\1",
    )
    return replace(made, **changes)


NOW, LATE = Timestamp(START + 10), Timestamp(START + 3000)


def test_a_deal_is_told_with_decimal_strings_and_its_task_ids() -> None:
    told = deal_json(deal_at(START))
    assert told["workerpool"] == {"pointer": str(BERT), "owner": str(ANNA), "price": str(10**20)}
    assert (told["botFirst"], told["finalTime"], told["deadlineReached"]) == ("4", "1795321318", False)
    assert told["tasks"] == [str(ids.task_id(DEAL, 4)), str(ids.task_id(DEAL, 5))]
    assert list(told)[:3] == ["dealid", "app", "dataset"]
    assert deal_json(deal_at(LATE))["deadlineReached"]


def test_a_task_is_told_as_by_the_official_client() -> None:
    told = task_json(TaskId(Hash32(b"\5" * 32)), task(TaskStatus.ACTIVE), NOW)
    assert (told["status"], told["idx"], told["timeref"]) == (1, "4", "300")
    assert (told["results"], told["resultsTimestamp"], told["resultsCallback"]) == (
        {"storage": "none"},
        "0",
        "0x01",
    )
    assert (told["statusName"], told["taskTimedOut"]) == ("ACTIVE", False)


def test_a_result_s_link_is_told_apart() -> None:
    told = task_json(TaskId(Hash32(b"\5" * 32)), task(TaskStatus.COMPLETED, results=result_link("QmX")), LATE)
    assert told["results"] == {"storage": "ipfs", "location": "/ipfs/QmX"}
    assert (told["statusName"], told["taskTimedOut"]) == ("COMPLETED", False)


@pytest.mark.parametrize("status", [TaskStatus.ACTIVE, TaskStatus.REVEALING])
def test_an_unfinished_task_times_out_at_its_final_deadline(status: TaskStatus) -> None:
    assert status_name(task(status), Timestamp(LATE - 1)) == status.name
    assert status_name(task(status), LATE) == "TIMEOUT"
    assert not is_claimable(task(status), Timestamp(LATE - 1))
    assert is_claimable(task(status), LATE)


def test_claims_are_refused_in_the_official_words() -> None:
    with pytest.raises(IexecError, match="Cannot claim a task having status COMPLETED"):
        check_claimable(task(TaskStatus.COMPLETED), LATE)
    with pytest.raises(IexecError) as early:
        check_claimable(task(TaskStatus.ACTIVE), NOW)
    assert early.value.what == (
        "Cannot claim a task before reaching the consensus deadline date: "
        "Sun Nov 22 2026 04:21:58 GMT+0000 (Coordinated Universal Time)"
    )
    check_claimable(task(TaskStatus.ACTIVE), LATE)
    with pytest.raises(IexecError, match="Cannot claim a deal before reaching the final time: Sun Nov 22"):
        check_deal_claimable(deal_at(NOW))
    check_deal_claimable(deal_at(LATE))


def test_claims_are_cut_by_the_block_s_gas() -> None:
    tasks = {index: task(TaskStatus.ACTIVE) for index in range(5)}
    tasks |= {index: task(TaskStatus.UNSET) for index in range(5, 8)}
    tasks[8] = task(TaskStatus.COMPLETED)
    batches = claim_batches(tasks, 500_000)
    assert [(one.type, one.indexes) for one in batches] == [
        ("claimArray", (0, 1, 2, 3, 4)),
        ("initializeAndClaimArray", (5, 6)),
        ("initializeAndClaimArray", (7,)),
    ]
    with pytest.raises(IexecError, match="Nothing to claim"):
        claim_batches({0: task(TaskStatus.FAILED)}, 500_000)


def test_progress_counts_a_never_started_task_as_failed_when_the_deal_is_over() -> None:
    tasks = [task(TaskStatus.COMPLETED), task(TaskStatus.UNSET), task(TaskStatus.REVEALING)]
    running = progress_of(tasks, False, NOW)
    assert (running.completed, running.failed, running.is_over) == (1, 0, False)
    assert progress_text(running, tasks, 125) == (
        "1/3 tasks completed, 1 waiting, 1 revealing, time left 2m 5s"
    )
    over = progress_of(tasks, True, LATE)
    assert (over.completed, over.failed, over.is_over) == (1, 2, True)
    assert progress_text(over, tasks, 0) == "1/3 tasks completed, 2 failed"


def test_times_are_told_for_scripts_and_for_people() -> None:
    assert script_date(Timestamp(0)) == "Thu Jan 01 1970 00:00:00 GMT+0000 (Coordinated Universal Time)"
    assert [span(seconds) for seconds in (0, 59, 3600, 90_061)] == ["0s", "59s", "1h", "1d 1h"]
