"""Keeps the books of one deal: balances at two blocks, and all that moved between them.

The books are opened before the deal and closed after it, each at one block, and the logs between are read
completely, whoever caused them: other deals may run at the same time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from poolwright.chain.logs import collect
from poolwright.chain.reads import HubReader
from poolwright.chain.rpc import Rpc
from poolwright.devnet import ledger as ledgers
from poolwright.devnet.ledger import Balance, EndedTask, Ending, Line, Movement
from poolwright.devnet.record import NetworkRecord
from poolwright.devnet.timeline import Timeline, short
from poolwright.poco.errors import InvariantBroken
from poolwright.poco.records import Deal
from poolwright.poco.rewards import KITTY_ADDRESS
from poolwright.poco.types import Address, BlockNumber, BlockStamp, TaskId

NOT_IN_IT = "deployer"
"""The wallet that takes no part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """The closed books."""

    first_block: BlockNumber
    last_block: BlockNumber
    lines: tuple[Line, ...]
    observed: tuple[Movement, ...]
    """Every movement of every account in these blocks, by the logs."""
    expected: tuple[Movement, ...]
    """What this deal must have moved, by the rules."""
    wrong: tuple[str, ...]
    """What does not fit, in words; empty when the ledger reconciles."""


@dataclass(slots=True, kw_only=True)
class Books:
    """The books of one deal on one network."""

    rpc: Rpc
    hub: HubReader
    record: NetworkRecord
    _opened_at: BlockStamp | None = None
    _people: dict[Address, tuple[str, str]] = field(default_factory=dict)
    """Address -> name and role."""
    _before: dict[Address, Balance] = field(default_factory=dict)

    async def open(self, at: BlockStamp) -> None:
        """Read what everybody has at this block."""
        self._opened_at = at
        self._people = {
            wallet.address: (name, wallet.role)
            for name, wallet in self.record.wallets.items()
            if wallet.role != NOT_IN_IT
        }
        self._people[KITTY_ADDRESS] = ("kitty", "kitty")
        self._before = await self._balances(self._people, at)

    async def close(self, deal: Deal, seen: Timeline, at: BlockStamp) -> Ledger:
        """Read what everybody has at this block, after the deal's last task, and explain the difference."""
        if self._opened_at is None:
            raise InvariantBroken("books are closed that were not opened")
        ended = await self._ended_tasks(seen, at)
        await self._add_strangers(seen, ended)
        first = BlockNumber(self._opened_at.number + 1)
        logs = await collect(self.rpc, (self.hub.hub, self.record.rlc), [], first, at)
        observed = ledgers.movements(logs, hub=self.hub.hub, token=self.record.rlc)
        accounts = {name: (role, address) for address, (name, role) in self._people.items()}
        lines = ledgers.lines(accounts, self._before, await self._balances(self._people, at), observed)
        expected = ledgers.expected(seen.deal_id, deal, ended, observed, self._before[KITTY_ADDRESS].locked)
        return Ledger(
            first_block=first,
            last_block=at.number,
            lines=lines,
            observed=observed,
            expected=expected,
            wrong=(
                *ledgers.discrepancies(lines, observed),
                *ledgers.unexpected(expected, observed, self._name_of),
            ),
        )

    async def _add_strangers(self, seen: Timeline, ended: list[EndedTask]) -> None:
        """Workers of the deal that are not the network's own get a line too."""
        assert self._opened_at is not None
        workers = {worker for task in ended for worker, _ in task.contributions}
        strangers = sorted(workers - self._people.keys())
        self._people |= {worker: (seen.name_of(worker), "worker") for worker in strangers}
        self._before |= await self._balances(strangers, self._opened_at)

    async def _balances(self, people: Iterable[Address], at: BlockStamp) -> dict[Address, Balance]:
        async def one(address: Address) -> Balance:
            account, wallet, ether = await asyncio.gather(
                self.hub.account(address, at),
                self.hub.rlc(self.record.rlc, address, at),
                self.hub.ether(address, at),
            )
            return Balance(wallet=wallet, stake=account.stake, locked=account.locked, ether=ether)

        addresses = list(people)
        found = await asyncio.gather(*(one(address) for address in addresses))
        return dict(zip(addresses, found, strict=True))

    async def _ended_tasks(self, seen: Timeline, at: BlockStamp) -> list[EndedTask]:
        tasks = await self.hub.tasks(list(seen.tasks), at)
        pairs = [
            (task_id, worker)
            for task_id, task in zip(seen.tasks, tasks, strict=True)
            for worker in task.contributors
        ]
        contributions = dict(zip(pairs, await self.hub.contributions(pairs, at), strict=True))
        return [
            EndedTask(
                task_id=task_id,
                ending=_ending(seen, task_id),
                contributions=tuple((worker, contributions[task_id, worker]) for worker in task.contributors),
            )
            for task_id, task in zip(seen.tasks, tasks, strict=True)
        ]

    def _name_of(self, address: Address) -> str:
        name, _ = self._people.get(address, (short(address), ""))
        return name


def _ending(seen: Timeline, task_id: TaskId) -> Ending:
    """How an ended task ended: contributeAndFinalize does both in one transaction."""
    facts = {each.name: each.tx_hash for each in seen.facts(seen.tasks[task_id])}
    if "TaskClaimed" in facts:
        return Ending.CLAIMED
    return Ending.FAST if facts["TaskContribute"] == facts["TaskFinalize"] else Ending.FINALIZED
