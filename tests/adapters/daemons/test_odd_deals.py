"""Odd deals on the official contracts: read, explained, and claimed in time."""

from __future__ import annotations

import asyncio

import pytest

from chain_market import BOUND, Everybody, everybody
from poolwright.chain.logs import follow
from poolwright.chain.rpc import Rpc
from poolwright.daemons.batches import DONE, Batches
from poolwright.daemons.chain_watch import TOPICS, ChainWatch
from poolwright.devnet.contracts import Deployment
from poolwright.poco.ids import task_id
from poolwright.poco.records import TaskStatus
from poolwright.poco.tags import Tag
from poolwright.poco.types import BlockNumber, Timestamp
from poolwright.scheduler import pool as pools
from poolwright.scheduler.effects import Submission, Submit
from poolwright.scheduler.events import ChainDealMatched, PoolEvent, Tick
from poolwright.scheduler.pool import Pool
from poolwright.scheduler.task import Phase

pytestmark = pytest.mark.chain

IMPOSSIBLE = Tag(1 << 200)
TIMEREF = 300


@pytest.mark.parametrize(
    ("units", "said"),
    [(0, "which no worker can offer"), (7, "contribution deadline"), (10, "final deadline")],
)
async def test_an_impossible_deal_that_may_come_late_is_explained_and_claimed_in_time(
    units: int, said: str, rpc: Rpc, contracts: Deployment
) -> None:
    """Nobody can serve its tag, its params are broken, and the scheduler was down for so many units."""
    async with everybody(rpc, contracts) as market, asyncio.timeout(BOUND):
        deal_id, workerpool = await market.deal(volume=2, params="it's {", tag=IMPOSSIBLE)
        await pass_time(market, units * TIMEREF)
        pool = Pool()
        watch = ChainWatch(market.reader, workerpool, pool.tasks.get)
        facts, now = await read(market, watch)
        [matched] = [fact for fact in facts if isinstance(fact, ChainDealMatched)]
        assert said in " ".join(matched.terms.oddities)
        assert "cannot be split into arguments" in " ".join(matched.terms.oddities)

        pool.now = now
        wishes = [e for fact in facts for e in pools.step(pool, fact).effects if isinstance(e, Submit)]
        assert await sent(market, wishes) == {DONE} or not wishes
        facts, now = await read(market, watch)
        for fact in facts:
            pools.step(pool, fact)
        if units < 10:
            await pass_time(market, 10 * TIMEREF)
            deadline = pools.next_deadline(pool)
            assert deadline is not None
            assert market.heads.current is not None
            now = market.heads.current.timestamp
            step = pools.step(pool, Tick(at=now))
            claims = [effect for effect in step.effects if isinstance(effect, Submit)]
            wanted = Submission.CLAIM if units == 0 else Submission.INITIALIZE_AND_CLAIM
            assert {claim.submission for claim in claims} == {wanted}
            assert await sent(market, claims) == {DONE}
            for fact in (await read(market, watch))[0]:
                pools.step(pool, fact)

        found = await market.reader.tasks([task_id(deal_id, index) for index in range(2)])
        assert {task.status for task in found} == {TaskStatus.FAILED}
        assert {task.phase for task in pool.tasks.values()} == {Phase.FAILED}


async def pass_time(market: Everybody, seconds: int) -> None:
    await market.rpc.call("evm_increaseTime", seconds)
    await market.rpc.call("evm_mine")
    newest = int(str(await market.rpc.call("eth_blockNumber")), 16)
    await market.heads.beyond(newest - 1)


async def read(market: Everybody, watch: ChainWatch) -> tuple[list[PoolEvent], Timestamp]:
    """Everything from the first block to the head, as after a long sleep."""
    newest = int(str(await market.rpc.call("eth_blockNumber")), 16)
    await market.heads.beyond(newest - 1)
    async for batch in follow(market.rpc, market.contracts.hub, [TOPICS], None, BlockNumber(0), market.heads):
        return await watch.facts(batch), batch.upto.timestamp
    raise AssertionError


async def sent(market: Everybody, wishes: list[Submit]) -> set[str]:
    def now() -> Timestamp:
        assert market.heads.current is not None
        return market.heads.current.timestamp

    batches = Batches(market.reader, market.contracts.hub, market.sender, now)
    return set(await asyncio.gather(*(batches.submit(wish) for wish in wishes)))
