"""What the chain says of a task that the scheduler's store has nothing of."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_chain_watch import POOL, TERMS, details
from test_task_terms import ACTIVE

from factories import address, hash32
from hub_twin import HubTwin
from poolwright.daemons.telling import explain_unknown
from poolwright.poco.records import OnchainTask, TaskStatus
from poolwright.poco.types import BlockHash, BlockNumber, BlockStamp, TaskId, Timestamp

TASK = TaskId(hash32("a task"))
KNOWN = replace(ACTIVE, deal_id=TERMS.deal_id)
UNSET = replace(ACTIVE, status=TaskStatus.UNSET)
BEFORE, AFTER = (
    BlockStamp(BlockNumber(9), BlockHash(hash32("9")), Timestamp(TERMS.start_time + offset))
    for offset in (-1, 1)
)


@pytest.mark.parametrize(
    ("task", "pool", "followed", "what"),
    [
        (UNSET, POOL, AFTER, "unknown"),
        (KNOWN, address("another pool"), AFTER, "foreign"),
        (KNOWN, POOL, None, "not-read-yet"),
        (KNOWN, POOL, BEFORE, "not-read-yet"),
        (KNOWN, POOL, AFTER, "skipped"),
    ],
)
async def test_it_is_of_another_pool_not_read_yet_skipped_or_nobodys(
    task: OnchainTask, pool: object, followed: BlockStamp | None, what: str
) -> None:
    hub = HubTwin(details={TERMS.deal_id: details()}, tasks={TASK: task})

    said = await explain_unknown(hub, TASK, pool, followed)  # type: ignore[arg-type]  # a twin with what is used

    assert said.what == what
    assert (str(TERMS.deal_id) in said.text) == (what != "unknown")
