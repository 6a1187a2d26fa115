"""Bags of tasks on the official contracts: few transactions, each once, through rivals and kill -9."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from chain_market import BOUND, DEPLOYER, Everybody, everybody
from poolwright.chain.budget import FeeLimits
from poolwright.chain.rpc import Rpc
from poolwright.chain.sender import MemoryTxJournal, OverBudget, TxPhase, TxRecord
from poolwright.daemons.batches import DONE, Batches
from poolwright.daemons.submissions import GAS_EACH, members_of
from poolwright.devnet.anvil import Anvil
from poolwright.devnet.contracts import Deployment
from poolwright.poco import calls
from poolwright.poco.ids import task_id
from poolwright.poco.records import TaskStatus
from poolwright.poco.types import DealId, Timestamp, Wei
from poolwright.scheduler.effects import Submission, Submit

pytestmark = pytest.mark.chain

BAG = 100
CHILD = Path(__file__).parent / "batch_child.py"


class Kept(MemoryTxJournal):
    """A journal that shows what it holds."""

    @property
    def all(self) -> list[TxRecord]:
        return list(self._records.values())

    @property
    def sent(self) -> list[TxRecord]:
        """Calls for many, in the order of their nonces."""
        many = [record for record in self._records.values() if members_of(record.data)]
        return sorted(many, key=lambda record: record.nonce)


def wish(deal_id: DealId, index: int, submission: Submission = Submission.INITIALIZE) -> Submit:
    return Submit(
        task_id=task_id(deal_id, index), deal_id=deal_id, index=index, submission=submission, attempt=1
    )


def batches(market: Everybody) -> Batches:
    def now() -> Timestamp:
        assert market.heads.current is not None
        return market.heads.current.timestamp

    return Batches(market.reader, market.contracts.hub, market.sender, now)


async def outcomes(market: Everybody, effects: list[Submit]) -> list[str]:
    together = batches(market)
    async with asyncio.timeout(BOUND):
        return await asyncio.gather(*(together.submit(effect) for effect in effects))


async def statuses(market: Everybody, deal_id: DealId, count: int) -> set[TaskStatus]:
    found = await market.reader.tasks([task_id(deal_id, index) for index in range(count)])
    return {task.status for task in found}


async def test_a_bag_of_100_tasks_is_opened_and_claimed_in_few_transactions(
    rpc: Rpc, contracts: Deployment
) -> None:
    journal = Kept()
    async with everybody(rpc, contracts, journal) as market:
        deal_id, _ = await market.deal(volume=BAG)

        opened = await outcomes(market, [wish(deal_id, index) for index in range(BAG)])

        assert opened == [DONE] * BAG
        assert await statuses(market, deal_id, BAG) == {TaskStatus.ACTIVE}
        # a fifth of 30 M gas is room for 33 tasks of 180 k; the one that is left goes alone
        assert [len(members_of(record.data)) for record in journal.sent] == [33, 33, 33]
        assert len([r for r in journal.sent if r.phase is TxPhase.MINED]) == 3
        each = [(record.gas_used or 0) / len(members_of(record.data)) for record in journal.sent]
        assert max(each) < GAS_EACH[Submission.INITIALIZE]

        await rpc.call("evm_increaseTime", 10 * 300)
        await rpc.call("evm_mine")
        await market.heads.beyond(int(str(await rpc.call("eth_blockNumber")), 16) - 1)
        claims = [wish(deal_id, index, Submission.CLAIM) for index in range(BAG)]

        assert await outcomes(market, claims) == [DONE] * BAG
        assert await statuses(market, deal_id, BAG) == {TaskStatus.FAILED}


async def test_tasks_that_nobody_opened_in_time_are_opened_and_claimed_at_once(
    rpc: Rpc, contracts: Deployment
) -> None:
    journal = Kept()
    async with everybody(rpc, contracts, journal) as market:
        deal_id, _ = await market.deal(volume=5)
        await rpc.call("evm_increaseTime", 10 * 300)
        await rpc.call("evm_mine")
        wishes = [wish(deal_id, index, Submission.INITIALIZE_AND_CLAIM) for index in range(5)]

        assert await outcomes(market, wishes) == [DONE] * 5
        assert await statuses(market, deal_id, 5) == {TaskStatus.FAILED}
        assert len(journal.sent) == 1


async def test_a_rival_that_opens_one_of_them_first_spoils_nothing_but_the_call(
    rpc: Rpc, contracts: Deployment
) -> None:
    """The rival's transaction is in the same block, before ours: our call reverts, the others go alone."""
    journal = Kept()
    async with everybody(rpc, contracts, journal) as market:
        deal_id, _ = await market.deal(volume=4)
        await rpc.call("evm_setAutomine", False)
        rival = str((await accounts(rpc))[3])
        data = "0x" + calls.initialize(deal_id, 2).hex()
        price = hex(10**11)
        await rpc.call(
            "eth_sendTransaction", {"from": rival, "to": str(contracts.hub), "data": data, "gasPrice": price}
        )
        asked = asyncio.create_task(outcomes(market, [wish(deal_id, index) for index in range(4)]))
        await until_sent(market)
        await rpc.call("evm_mine")
        await rpc.call("evm_setAutomine", True)

        assert await asked == [DONE] * 4
        assert await statuses(market, deal_id, 4) == {TaskStatus.ACTIVE}
        assert [record.phase for record in journal.sent] == [TxPhase.REVERTED]


async def test_what_the_chain_shows_or_refuses_is_not_sent(rpc: Rpc, contracts: Deployment) -> None:
    journal = Kept()
    async with everybody(rpc, contracts, journal) as market:
        deal_id, _ = await market.deal(volume=3)
        await market.send("open", contracts.hub, calls.initialize(deal_id, 1))

        opened = await outcomes(market, [wish(deal_id, index) for index in (0, 1)])
        early = await outcomes(market, [wish(deal_id, 0, Submission.CLAIM)])

        assert opened == [DONE, DONE]
        assert "CLAIM is not possible: the task is ACTIVE" in early[0]
        assert journal.sent == []  # what was left was one, which goes as one


async def accounts(rpc: Rpc) -> list[str]:
    found = await rpc.call("eth_accounts")
    assert isinstance(found, list)
    return [str(each) for each in found]


async def until_sent(market: Everybody) -> None:
    async with asyncio.timeout(BOUND):
        while not market.sender.in_flight:  # noqa: ASYNC110  what health pages do
            await asyncio.sleep(0.01)


async def test_a_bag_of_100_tasks_survives_kill_9_between_journal_and_receipt(
    rpc: Rpc, contracts: Deployment, anvil: Anvil, tmp_path: Path
) -> None:
    """Killed with all its calls in the mempool, it waits for the very same ones in its next life."""
    async with everybody(rpc, contracts) as market:
        deal_id, _ = await market.deal(volume=BAG)
        before = await nonce(rpc)
    await rpc.call("evm_setAutomine", False)
    words = [sys.executable, str(CHILD), anvil.url, str(contracts.hub), str(deal_id), str(BAG), str(tmp_path)]

    for _ in range(3):
        child = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
        assert child.stdout is not None
        async with asyncio.timeout(BOUND):
            assert (await child.stdout.readline()).decode() == "in flight: 4\n"
        os.kill(child.pid, signal.SIGKILL)
        await child.wait()

    await rpc.call("evm_setAutomine", True)
    await rpc.call("evm_mine")
    last = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(BOUND):
        said, _ = await last.communicate()

    assert said.decode().splitlines()[-1] == f"done: {BAG}"
    assert await nonce(rpc) - before == 4, "no second transaction for any of them"
    async with everybody(rpc, contracts) as market:
        assert await statuses(market, deal_id, BAG) == {TaskStatus.ACTIVE}


async def nonce(rpc: Rpc) -> int:
    return int(str(await rpc.call("eth_getTransactionCount", str(DEPLOYER.address), "latest")), 16)


async def test_over_budget_a_bag_goes_as_far_as_the_budget_and_the_rest_waits(
    rpc: Rpc, contracts: Deployment
) -> None:
    journal = Kept()
    async with everybody(rpc, contracts, journal) as market:
        deal_id, _ = await market.deal(volume=6)
        await rpc.call("evm_setAutomine", False)
        price = int(str(await rpc.call("eth_gasPrice")), 16)
        spent = sum(record.fee or 0 for record in journal.all)
        most_for_one = 430_000 * price * 13 // 10  # half as much again as the estimate, and 50 k gas
        market.sender.budget.limits = FeeLimits(per_hour=Wei(spent + 3 * most_for_one))
        together = batches(market)
        asked = [
            asyncio.create_task(together.submit(wish(deal_id, index, Submission.INITIALIZE)))
            for index in range(6)
        ]
        async with asyncio.timeout(BOUND):
            while len(market.sender.in_flight) < 3:  # noqa: ASYNC110  what health pages do
                await asyncio.sleep(0.01)
            held, _ = await asyncio.wait(asked, timeout=1)

        assert len(held) == 3
        assert all(isinstance(one.exception(), OverBudget) for one in held)
        assert market.heads.current is not None
        assert "fees per hour" in market.sender.budget.held(market.heads.current.timestamp)

        await rpc.call("evm_setAutomine", True)
        await rpc.call("evm_mine")
        async with asyncio.timeout(BOUND):
            first = await asyncio.gather(*(one for one in asked if one not in held))
        await rpc.call("evm_increaseTime", 3_600)
        await rpc.call("evm_mine")
        newest = int(str(await rpc.call("eth_blockNumber")), 16)
        await market.heads.beyond(newest - 1)
        rest = await outcomes(market, [wish(deal_id, index) for index in range(6)])

        assert first == [DONE] * 3
        assert rest == [DONE] * 6
        assert not market.sender.budget.held(market.heads.current.timestamp)
