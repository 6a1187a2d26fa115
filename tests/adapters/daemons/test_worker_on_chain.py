"""The worker's hands on the official contracts: one transaction for a task, and a purse that runs dry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chain_market import BOUND, DEPLOYER, Everybody, everybody
from factories import DIGEST, terms
from poolwright.chain.gas import GasPolicy
from poolwright.chain.rpc import Rpc
from poolwright.chain.sender import MemoryTxJournal, TxSender
from poolwright.chain.wallet import Wallet
from poolwright.daemons.config import worker_config
from poolwright.daemons.mailbox import Mailbox
from poolwright.daemons.together import Latest
from poolwright.daemons.worker_hands import WorkerHands
from poolwright.devnet.anvil import CHAIN_ID
from poolwright.devnet.contracts import Deployment
from poolwright.poco import calls
from poolwright.poco.authorization import authorization_digest
from poolwright.poco.ids import task_id
from poolwright.poco.records import ContributionStatus, TaskStatus
from poolwright.poco.types import Address, BlockNumber, DealId, TaskId, Wei
from poolwright.store.memory import MemoryStore
from poolwright.store.port import EffectId
from poolwright.wire.messages import Start
from poolwright.wire.statuses import ReplicateStatus as S
from poolwright.worker.effects import CheckContribution, DescribeTask, SubmitContributeAndFinalize
from poolwright.worker.events import (
    ContributionChecked,
    ContributionFailed,
    ContributionMined,
    Event,
    TaskDescribed,
    TaskRefused,
)

pytestmark = pytest.mark.chain

WORKER = Wallet(b"\x42" * 32)
LINK = '{ "storage": "ipfs", "location": "/ipfs/Qm" }'
RICH, POOR = Wei(10**18), Wei(10**12)


@asynccontextmanager
async def hands(market: Everybody, workerpool: Address, folder: Path) -> AsyncIterator[WorkerHands]:
    """Those of a worker without stake; engine and repository are not touched here."""
    journal, nothing = MemoryTxJournal(), cast_nothing()
    async with TxSender(
        market.rpc, WORKER, CHAIN_ID, journal, GasPolicy(), heads=market.heads, look_seconds=0.05
    ) as sender:
        yield WorkerHands(
            config=worker_config(
                {
                    "IEXEC_BLOCKCHAIN_NODE_ADDRESS": "http://127.0.0.1:9",
                    "IEXEC_CHAIN_ID": str(CHAIN_ID),
                    "IEXEC_HUB_ADDRESS": str(market.contracts.hub),
                    "POOL_ADDRESS": str(workerpool),
                    "IEXEC_WORKER_WALLET_PATH": "/nowhere",
                    "IEXEC_CORE_URL": "http://127.0.0.1:9",
                    "IEXEC_WORKER_BASE_DIR": str(folder),
                }
            ),
            wallet=WORKER,
            hub=market.reader,
            heads=market.heads,
            sender=sender,
            journal=journal,
            engine=nothing,
            engine_watch=nothing,
            is_wanted=lambda effect: True,
            http=nothing,
            mailbox=Mailbox(MemoryStore(), "scheduler"),
            results_url=Latest(),
            logs=asyncio.Queue(),
        )


def cast_nothing() -> Any:
    return None


async def opened(market: Everybody, tasks: int) -> tuple[DealId, Address]:
    deal_id, workerpool = await market.deal(volume=tasks)
    await market.send("open", market.contracts.hub, calls.initialize_array([deal_id] * tasks, range(tasks)))
    return deal_id, workerpool


async def fund(rpc: Rpc, amount: int) -> None:
    await rpc.call("anvil_setBalance", str(WORKER.address), hex(amount))


def authorization(task: TaskId) -> bytes:
    return DEPLOYER.sign_digest(authorization_digest(WORKER.address, task, Address.zero()))


def start(deal_id: DealId, index: int) -> DescribeTask:
    task = task_id(deal_id, index)
    return DescribeTask(
        task_id=task,
        start=Start(
            task_id=task,
            deal_id=deal_id,
            index=index,
            enclave_challenge=Address.zero(),
            authorization=authorization(task),
            block=BlockNumber(1),
            contribute_and_finalize=True,
        ),
    )


def finalize(task: TaskId) -> SubmitContributeAndFinalize:
    return SubmitContributeAndFinalize(
        task_id=task,
        digest=DIGEST,
        link=LINK,
        callback=b"",
        enclave_challenge=Address.zero(),
        authorization=authorization(task),
    )


async def done(worker: WorkerHands, effect: Any) -> Event:
    async with asyncio.timeout(BOUND):
        [event] = await worker.carry_out(effect, EffectId(1))
    return event


async def test_a_worker_without_stake_ends_a_task_in_one_transaction(
    rpc: Rpc, contracts: Deployment, tmp_path: Path
) -> None:
    async with everybody(rpc, contracts) as market:
        deal_id, workerpool = await opened(market, 1)
        task = task_id(deal_id, 0)
        await fund(rpc, RICH)
        async with hands(market, workerpool, tmp_path) as worker:
            described = await done(worker, start(deal_id, 0))
            assert isinstance(described, TaskDescribed)
            assert described.terms.contribute_and_finalize
            check = CheckContribution(task_id=task, terms=described.terms, is_delivered=True)
            checked = await done(worker, check)
            assert isinstance(checked, ContributionChecked)
            assert (checked.verdict, checked.contribute_and_finalize) == (S.CAN_CONTRIBUTE, True)

            mined = await done(worker, finalize(task))
            again = await done(worker, finalize(task))
            late = await done(worker, check)

        assert isinstance(mined, ContributionMined)
        assert isinstance(again, ContributionMined)
        assert again.tx_hash == mined.tx_hash
        assert isinstance(late, ContributionChecked)
        assert (late.verdict, late.contribute_and_finalize) == (S.CAN_CONTRIBUTE, True), (
            "the chain shows ours"
        )
        found = await market.reader.task(task)
        contribution = await market.reader.contribution(task, WORKER.address)
        assert (found.status, found.results) == (TaskStatus.COMPLETED, LINK.encode())
        assert (contribution.status, contribution.weight) == (ContributionStatus.PROVED, 0)


async def test_what_was_not_delivered_goes_the_long_way_which_needs_a_stake(
    rpc: Rpc, contracts: Deployment, tmp_path: Path
) -> None:
    async with everybody(rpc, contracts) as market:
        deal_id, workerpool = await opened(market, 1)
        await fund(rpc, RICH)
        async with hands(market, workerpool, tmp_path) as worker:
            not_delivered = CheckContribution(
                task_id=task_id(deal_id, 0), terms=replace(terms(), contribute_and_finalize=True)
            )
            verdict = await done(worker, not_delivered)

        assert isinstance(verdict, ContributionChecked)
        assert verdict.verdict is S.CANT_CONTRIBUTE_SINCE_STAKE_TOO_LOW


async def test_out_of_gas_costs_the_one_task_and_the_worker_goes_on_when_it_is_refilled(
    rpc: Rpc, contracts: Deployment, tmp_path: Path
) -> None:
    async with everybody(rpc, contracts) as market:
        deal_id, workerpool = await opened(market, 3)
        await fund(rpc, RICH)
        async with hands(market, workerpool, tmp_path) as worker:
            assert isinstance(await done(worker, start(deal_id, 0)), TaskDescribed)
            assert isinstance(await done(worker, start(deal_id, 1)), TaskDescribed)

            await fund(rpc, POOR)  # the owner takes the money away
            lost = await done(worker, finalize(task_id(deal_id, 0)))
            refused = await done(worker, start(deal_id, 2))
            await fund(rpc, RICH)
            other = await done(worker, finalize(task_id(deal_id, 1)))
            taken = await done(worker, start(deal_id, 2))

        assert isinstance(lost, ContributionFailed)
        assert lost.status is S.OUT_OF_GAS
        assert isinstance(refused, TaskRefused)
        assert refused.status is S.OUT_OF_GAS
        assert isinstance(other, ContributionMined)
        assert isinstance(taken, TaskDescribed)


async def test_a_purse_for_one_task_takes_one_task_at_a_time(
    rpc: Rpc, contracts: Deployment, tmp_path: Path
) -> None:
    async with everybody(rpc, contracts) as market:
        deal_id, workerpool = await opened(market, 2)
        price = int(str(await rpc.call("eth_gasPrice")), 16) * 13 // 10
        async with hands(market, workerpool, tmp_path) as worker:
            await fund(rpc, 1_300_000 * price)
            first = await done(worker, start(deal_id, 0))
            second = await done(worker, start(deal_id, 1))
            await done(worker, finalize(task_id(deal_id, 0)))
            await fund(rpc, 1_300_000 * price)
            again = await done(worker, start(deal_id, 1))

        assert isinstance(first, TaskDescribed)
        assert isinstance(second, TaskRefused)
        assert "1 other tasks under way" in second.message
        assert isinstance(again, TaskDescribed)
