"""A whole deal through our hands: registered, ordered, matched, followed, read on the official contracts."""

from __future__ import annotations

import asyncio

import pytest

from chain_market import BOUND, DEPLOYER, Everybody
from chain_market import everybody as market_of
from poolwright.chain.logs import LogBatch, follow
from poolwright.chain.rpc import Rpc
from poolwright.chain.sender import TxReverted
from poolwright.devnet.contracts import Deployment
from poolwright.poco import calls
from poolwright.poco.events import TOPICS, SchedulerNotice, TaskInitialize, decode_log
from poolwright.poco.ids import task_id
from poolwright.poco.records import TaskStatus
from poolwright.poco.types import Address, BlockNumber, Hash32

pytestmark = pytest.mark.chain


async def test_a_deal_is_made_followed_and_read(rpc: Rpc, contracts: Deployment) -> None:
    async with market_of(rpc, contracts) as everybody:
        deal_id, pool = await everybody.deal(volume=3)

        batch = await notice_of(everybody, pool)
        [log] = batch.logs
        assert decode_log(log) == SchedulerNotice(workerpool=pool, deal_id=deal_id)

        details = await everybody.reader.deal_with_details(deal_id, batch.upto)
        assert (details.deal.bot_first, details.deal.bot_size) == (0, 3)
        assert details.deal.start_time == log.block.timestamp
        assert (details.app.name, details.app.multiaddr) == ("no-op", b"no-op:1")
        assert (details.category.name, details.category.timeref) == ("XS", 300)
        assert (details.workerpool.description, details.dataset) == ("ours", None)
        assert await everybody.reader.deal(deal_id, batch.upto) == details.deal
        assert await everybody.reader.workerpool_owner(pool) == DEPLOYER.address

        # three tasks opened at once: pipelined, and a second opening refused before it costs anything
        async with asyncio.timeout(BOUND):
            receipts = await asyncio.gather(
                *(
                    everybody.send(f"open {index}", contracts.hub, calls.initialize(deal_id, index))
                    for index in range(3)
                )
            )
        tasks = [task_id(deal_id, index) for index in range(3)]
        opened = [event for receipt in receipts for event in await everybody.events(receipt)]
        assert opened == [TaskInitialize(task_id=task, workerpool=pool) for task in tasks]
        found = await everybody.reader.tasks(tasks, everybody.heads.current)
        assert {task.status for task in found} == {TaskStatus.ACTIVE}
        with pytest.raises(TxReverted, match="was not sent"):
            await everybody.send("open again", contracts.hub, calls.initialize(deal_id, 0))


async def notice_of(everybody: Everybody, pool: Address) -> LogBatch:
    """Follow the hub as a scheduler does, filtered by its pool, until a log comes."""
    topics = [[TOPICS[SchedulerNotice]], [Hash32(bytes(12) + pool)]]
    batches = follow(everybody.rpc, everybody.contracts.hub, topics, None, BlockNumber(0), everybody.heads)
    async with asyncio.timeout(BOUND):
        async for batch in batches:
            if batch.logs:
                return batch
    raise AssertionError
