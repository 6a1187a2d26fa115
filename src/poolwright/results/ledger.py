"""What the repository asks the chain, as a port: the hub behind an RPC node, and a twin in memory.

Nothing is kept between questions: a task's phase, a contribution and the newest block all change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from poolwright.chain.blocks import check_chain, newest_header
from poolwright.chain.reads import HubReader
from poolwright.chain.rpc import Rpc
from poolwright.poco.errors import PoolwrightError, Unavailable
from poolwright.poco.records import NO_CONTRIBUTION, NO_TASK, Contribution, Deal, OnchainTask, TaskStatus
from poolwright.poco.types import (
    Address,
    BlockStamp,
    DealId,
    TaskId,
    WorkerAddress,
)
from poolwright.results.checks import ChainFacts

ANSWER_SECONDS = 15.0
"""How long an upload waits for the chain, over all retries and nodes."""


class Ledger(Protocol):
    """The chain, as far as the repository needs it."""

    async def facts(self, task_id: TaskId, worker: WorkerAddress) -> ChainFacts:
        """What the newest block says about one task and one worker. Raises Unavailable."""
        ...

    async def tasks_at(self, task_ids: Sequence[TaskId], at: BlockStamp) -> Sequence[OnchainTask]:
        """What that block says about several tasks, in their order. Raises as `HubReader`."""
        ...

    async def newest_block(self) -> BlockStamp:
        """The newest block. Raises Unavailable, RpcError; InputError when the node is of another chain."""
        ...


class HubLedger:
    """The official hub, read at the newest block of a node."""

    def __init__(self, rpc: Rpc, *, chain_id: int, hub: Address) -> None:
        self._rpc = rpc
        self._reader = HubReader(rpc, hub)
        self._chain_id = chain_id
        self._hub = hub
        self._is_checked = False

    async def facts(self, task_id: TaskId, worker: WorkerAddress) -> ChainFacts:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                block = await self.newest_block()
                task, contribution = await asyncio.gather(
                    self._reader.task(task_id, block), self._reader.contribution(task_id, worker, block)
                )
                is_active = task.status is TaskStatus.ACTIVE
                deal = await self._reader.deal(task.deal_id, block) if is_active else None
        except (PoolwrightError, TimeoutError) as problem:
            # Whatever is wrong with our node, the uploader can only come again.
            raise _no_answer(str(problem)) from problem
        return gathered(block, task, contribution, deal)

    async def tasks_at(self, task_ids: Sequence[TaskId], at: BlockStamp) -> Sequence[OnchainTask]:
        return await self._reader.tasks(task_ids, at)

    async def newest_block(self) -> BlockStamp:
        if not self._is_checked:
            await check_chain(self._rpc, self._chain_id, self._hub)
            self._is_checked = True
        return (await newest_header(self._rpc)).stamp


class MemoryLedger:
    """The same port over values that a test sets; what is not set reads as on chain, all zeros."""

    def __init__(self, block: BlockStamp) -> None:
        self.block = block
        self.trouble: Unavailable | None = None
        """When set, every question raises it, as a chain that does not answer."""
        self.tasks: dict[TaskId, OnchainTask] = {}
        self.contributions: dict[tuple[TaskId, WorkerAddress], Contribution] = {}
        self.deals: dict[DealId, Deal] = {}

    async def facts(self, task_id: TaskId, worker: WorkerAddress) -> ChainFacts:
        block = await self.newest_block()
        task = self.tasks.get(task_id, NO_TASK)
        contribution = self.contributions.get((task_id, worker), NO_CONTRIBUTION)
        return gathered(block, task, contribution, self.deals.get(task.deal_id))

    async def tasks_at(self, task_ids: Sequence[TaskId], at: BlockStamp) -> Sequence[OnchainTask]:
        if self.trouble is not None:
            raise self.trouble
        return [self.tasks.get(task_id, NO_TASK) for task_id in task_ids]

    async def newest_block(self) -> BlockStamp:
        if self.trouble is not None:
            raise self.trouble
        return self.block


def gathered(
    block: BlockStamp, task: OnchainTask, contribution: Contribution, deal: Deal | None
) -> ChainFacts:
    """The facts that decide about an upload, out of the hub's records; the deal of an ACTIVE task only."""
    return ChainFacts(
        now=block.timestamp,
        task_status=task.status,
        final_deadline=task.final_deadline,
        results=task.results,
        contribution_status=contribution.status,
        result_hash=contribution.result_hash,
        contribution_deadline=task.contribution_deadline,
        contributors=len(task.contributors),
        trust=0 if deal is None else deal.trust,
        workerpool_owner=Address.zero() if deal is None else deal.workerpool.owner,
    )


def _no_answer(reason: str) -> Unavailable:
    return Unavailable(
        "the chain does not say whether this upload is due",
        code="chain-unavailable",
        expected=f"an answer within {ANSWER_SECONDS:g} seconds",
        got=reason,
        next_step="upload again later; the operator checks IEXEC_BLOCKCHAIN_NODE_ADDRESS",
    )
