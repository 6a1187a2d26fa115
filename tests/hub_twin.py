"""The hub as its readers see it, in memory: what a test puts there is what is read.

`refuse` lets the next reads fail; `asked_at` keeps at which block each read was asked.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from poolwright.chain.reads import DealDetails
from poolwright.poco.errors import InputError, PoolwrightError
from poolwright.poco.records import Account, Category, Contribution, ContributionStatus, Deal, OnchainTask
from poolwright.poco.types import Address, BlockStamp, DealId, Hash32, NRlc, TaskId, Wei

T = TypeVar("T")

NOT_CONTRIBUTED = Contribution(
    status=ContributionStatus.UNSET,
    result_hash=Hash32.zero(),
    result_seal=Hash32.zero(),
    enclave_challenge=Address.zero(),
    weight=0,
)


@dataclass
class HubTwin:
    """The reads of HubReader that the daemons' translations use."""

    details: dict[DealId, DealDetails] = field(default_factory=dict)
    tasks: dict[TaskId, OnchainTask] = field(default_factory=dict)
    contributions: dict[tuple[TaskId, Address], Contribution] = field(default_factory=dict)
    accounts: dict[Address, Account] = field(default_factory=dict)
    scores: dict[Address, int] = field(default_factory=dict)
    ethers: dict[Address, int] = field(default_factory=dict)
    network_gas_price: int = 0
    refuse: list[PoolwrightError] = field(default_factory=list)
    asked_at: list[BlockStamp | None] = field(default_factory=list)

    async def deal_with_details(self, deal_id: DealId, at: BlockStamp | None = None) -> DealDetails:
        if deal_id not in self.details:
            raise InputError(f"the hub has no deal {deal_id}", code="unknown-deal")
        return self._answer(self.details[deal_id], at)

    async def deal(self, deal_id: DealId, at: BlockStamp | None = None) -> Deal:
        return (await self.deal_with_details(deal_id, at)).deal

    async def category(self, category: int, at: BlockStamp | None = None) -> Category:
        known = next(each for each in self.details.values() if each.deal.category == category)
        return self._answer(known.category, at)

    async def score(self, worker: Address, at: BlockStamp | None = None) -> int:
        return self._answer(self.scores.get(worker, 0), at)

    async def task(self, task_id: TaskId, at: BlockStamp | None = None) -> OnchainTask:
        return self._answer(self.tasks[task_id], at)

    async def contribution(
        self, task_id: TaskId, worker: Address, at: BlockStamp | None = None
    ) -> Contribution:
        return self._answer(self.contributions.get((task_id, worker), NOT_CONTRIBUTED), at)

    async def account(self, owner: Address, at: BlockStamp | None = None) -> Account:
        return self._answer(self.accounts.get(owner, Account(stake=NRlc(0), locked=NRlc(0))), at)

    async def ether(self, owner: Address, at: BlockStamp | None = None) -> Wei:
        return self._answer(Wei(self.ethers.get(owner, 0)), at)

    async def gas_price(self) -> Wei:
        return self._answer(Wei(self.network_gas_price), None)

    def _answer(self, answer: T, at: BlockStamp | None) -> T:
        self.asked_at.append(at)
        if self.refuse:
            raise self.refuse.pop(0)
        return answer
