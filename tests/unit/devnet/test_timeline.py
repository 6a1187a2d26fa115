"""The timeline of a deal: chain facts and replicate statuses, read in any portions."""

from __future__ import annotations

from typing import Any

import pytest
from hub_in_memory import NAMES, START, WHO, HubInMemory

from poolwright.daemons.scheduler_api import iso_date
from poolwright.devnet import timeline as timelines
from poolwright.devnet.timeline import Fact, Phase, Status, Timeline
from poolwright.poco import ids
from poolwright.poco.errors import PeerError
from poolwright.poco.types import TaskId, Timestamp


class Watched:
    """A deal of two tasks in a hub in memory, and its timeline."""

    def __init__(self) -> None:
        self.hub = HubInMemory()
        self.deal_id = self.hub.deal(tasks=2)
        self.task_ids = [ids.task_id(self.deal_id, index) for index in range(2)]
        self.start = timelines.opened(self.deal_id, 0, 2, NAMES, self.hub.logs)

    def after_chain(self, timeline: Timeline | None = None, seconds: float = 5.0) -> Timeline:
        return timelines.with_logs(timeline or self.start, self.hub.logs, seconds)


@pytest.fixture
def deal() -> Watched:
    return Watched()


def report(task_id: TaskId, setback: str | None = None, **lives: list[str]) -> dict[str, Any]:
    """The scheduler's account of a task; a status may carry its cause after a colon."""
    return {
        "chainTaskId": str(task_id),
        "setback": setback,
        "replicates": [
            {
                "walletAddress": str(WHO[worker.replace("_", "-")]),
                "statusUpdateList": [
                    {
                        "status": status.partition(":")[0],
                        "cause": status.partition(":")[2] or None,
                        "date": iso_date(Timestamp(START + at)),
                    }
                    for at, status in enumerate(life)
                ],
            }
            for worker, life in lives.items()
        ],
    }


def told(timeline: Timeline, index: int) -> list[str]:
    return [f"{each.name} {each.worker}".strip() for each in timeline.facts(index)]


def test_a_timeline_begins_with_the_match(deal: Watched) -> None:
    [matched] = deal.start.facts(None)

    assert matched.name == "OrdersMatched"
    assert matched.seconds == 0.0
    assert matched.tx_hash == deal.hub.logs[-1].tx_hash
    assert deal.start.phases == {0: Phase.RECEIVED, 1: Phase.RECEIVED}


def test_a_match_without_the_deal_is_refused(deal: Watched) -> None:
    with pytest.raises(PeerError, match="no log of deal"):
        timelines.opened(deal.deal_id, 0, 2, NAMES, [])


def test_a_finalized_task_shows_every_fact_with_its_worker(deal: Watched) -> None:
    deal.hub.run(deal.hub.initialize(deal.deal_id, 1), "worker-2")
    after = deal.after_chain()

    assert told(after, 1) == [
        "TaskInitialize",
        "TaskContribute worker-2",
        "TaskConsensus",
        "TaskReveal worker-2",
        "TaskFinalize",
    ]
    assert told(after, 0) == []
    assert after.phases == {0: Phase.RECEIVED, 1: Phase.COMPLETED}
    assert not after.is_ended


def test_the_same_logs_again_change_nothing(deal: Watched) -> None:
    deal.hub.run(deal.hub.initialize(deal.deal_id), "worker-1")
    after = deal.after_chain(seconds=3.0)

    assert deal.after_chain(after, seconds=9.0) == after


def test_tasks_of_other_deals_are_ignored(deal: Watched) -> None:
    deal.hub.run(deal.hub.initialize(deal.hub.deal()), "worker-1")

    assert deal.after_chain() == deal.start


@pytest.mark.parametrize("ending", ["claim", "reopen"])
def test_claim_and_reopen_move_the_phase(deal: Watched, ending: str) -> None:
    task_id = deal.hub.initialize(deal.deal_id)
    deal.hub.contribute(task_id, "worker-1")
    if ending == "claim":
        deal.hub.claim(task_id)
    else:
        deal.hub.reopen(task_id)

    assert deal.after_chain().phases[0] is (Phase.FAILED if ending == "claim" else Phase.ACTIVE)


def test_statuses_come_once_however_often_the_scheduler_is_asked(deal: Watched) -> None:
    first = report(deal.task_ids[0], worker_1=["CREATED", "RUNNING"])
    more = report(deal.task_ids[0], worker_1=["CREATED", "RUNNING", "COMPUTING"], worker_2=["CREATED"])
    after = timelines.with_report(deal.start, first, 1.0)
    after = timelines.with_report(after, first, 2.0)
    after = timelines.with_report(after, more, 3.0)

    assert [
        (each.worker, each.status, each.seconds) for each in after.entries if isinstance(each, Status)
    ] == [
        ("worker-1", "CREATED", 1.0),
        ("worker-1", "RUNNING", 1.0),
        ("worker-1", "COMPUTING", 3.0),
        ("worker-2", "CREATED", 3.0),
    ]


def test_a_deal_is_quiet_when_tasks_ended_and_replicates_closed(deal: Watched) -> None:
    for index in range(2):
        deal.hub.run(deal.hub.initialize(deal.deal_id, index), "worker-1")
    ended = deal.after_chain()
    uploading = timelines.with_report(ended, report(deal.task_ids[0], worker_1=["CREATED"]), 6.0)
    closed = timelines.with_report(
        uploading, report(deal.task_ids[0], worker_1=["CREATED", "COMPLETED"]), 7.0
    )

    assert ended.is_ended
    assert not uploading.is_quiet
    assert closed.is_quiet


def test_the_last_known_state_names_phase_fact_workers_causes_and_setback(deal: Watched) -> None:
    deal.hub.initialize(deal.deal_id)
    life = ["CREATED", "APP_DOWNLOAD_FAILED:APP_IMAGE_DOWNLOAD_FAILED", "FAILED"]
    after = timelines.with_report(deal.after_chain(), report(deal.task_ids[0], "no gas", worker_1=life), 4.0)

    assert timelines.last_known(after, 0) == (
        f"task 0 is ACTIVE on the chain; last fact TaskInitialize in block {after.facts(0)[-1].block}; "
        "worker-1 FAILED (APP_IMAGE_DOWNLOAD_FAILED); the scheduler says: no gas"
    )
    assert timelines.last_known(after, 1) == "task 1 is RECEIVED on the chain; no worker has it"


@pytest.mark.parametrize(
    "broken",
    [
        None,
        {},
        {"chainTaskId": "0x12", "replicates": []},
        {"chainTaskId": "0x" + "11" * 32, "replicates": []},
    ],
)
def test_a_report_that_is_none_is_refused(deal: Watched, broken: Any) -> None:
    with pytest.raises(PeerError, match="not understood"):
        timelines.with_report(deal.start, broken, 1.0)


def test_an_unknown_status_is_refused(deal: Watched) -> None:
    with pytest.raises(PeerError, match="SLEEPING"):
        timelines.with_report(deal.start, report(deal.task_ids[0], worker_1=["SLEEPING"]), 1.0)


def test_facts_carry_block_date_and_transaction(deal: Watched) -> None:
    deal.hub.initialize(deal.deal_id)
    log = deal.hub.logs[-1]
    [fact] = deal.after_chain(seconds=2.5).facts(0)

    assert fact == Fact(
        task=0,
        name="TaskInitialize",
        worker="",
        block=log.block.number,
        date=log.block.timestamp,
        tx_hash=log.tx_hash,
        log_index=log.log_index,
        seconds=2.5,
    )


def test_an_app_that_failed_is_told_for_the_worker_that_contributed(deal: Watched) -> None:
    deal.hub.run(deal.hub.initialize(deal.deal_id), "worker-1")
    failed = ["CREATED", "COMPUTING", "COMPUTE_FAILED:APP_COMPUTE_FAILED", "CAN_CONTRIBUTE"]
    after = timelines.with_report(
        deal.after_chain(), report(deal.task_ids[0], worker_1=failed, worker_2=failed), 4.0
    )

    assert timelines.failures(after, 0) == {"worker-1": "COMPUTE_FAILED (APP_COMPUTE_FAILED)"}
    assert timelines.failures(after, 1) == {}
