"""Transactions that many tasks share.

The mind asks for one transaction per task, each durable and each with its own outcome. Those that wait at one
moment and have a call for many (`submissions`) go together:

    wait a moment ─► look at all tasks ─► a call for each so many ─► receipt: all are done
                        │ done by others: done                └─► reverted: look again, what is left alone
                        │ no longer possible: failed
                        └─ already on its way: wait for that one

One key is one transaction for ever. A batch's key follows from its members, but after a restart the members
come again one by one and would be gathered into other batches. So first of all the sender's journal is asked:
a transaction that is under way names its members in its own call data, and a member waits for it. A task is
initialized or claimed at most once by the contract; what a rival of the same block spoils is an error of the
whole call, after which each that is left goes alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog

from poolwright.chain.reads import HubReader
from poolwright.chain.sender import OutOfGas, OverBudget, Priority, Receipt, TxRequest, TxReverted, TxSender
from poolwright.daemons.submissions import (
    GAS_EACH,
    calldata,
    calldata_of_many,
    is_satisfied,
    key_of_many,
    members_of,
    most_together,
    obstacle_to,
    priority_of,
)
from poolwright.poco.errors import PoolwrightError, Unavailable
from poolwright.poco.types import Address, BlockStamp, TaskId, Timestamp
from poolwright.scheduler.effects import Submission, Submit, identity

log = structlog.get_logger(__name__)

GATHER_SECONDS: Final = 0.02
"""How long the first of a batch waits for others; a bag of tasks is asked for in one turn of the mind."""
DONE: Final = ""
"""Outcome of a submission that the chain shows; any other text says why it failed."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Waiting:
    """A submission on its way into a transaction."""

    effect: Submit
    outcome: asyncio.Future[str]
    priority: Priority = Priority.ORDINARY


class Batches:
    """Sends submissions, those of `GAS_EACH` together.

    `head_now` judges what the contract would refuse; what the block of `confirmed` shows is done for good,
    None stands for the newest one.
    """

    def __init__(
        self,
        hub: HubReader,
        hub_address: Address,
        sender: TxSender,
        head_now: Callable[[], Timestamp],
        confirmed: Callable[[], BlockStamp | None] = lambda: None,
    ) -> None:
        self._hub = hub
        self._hub_address = hub_address
        self._sender = sender
        self._head_now = head_now
        self._confirmed = confirmed
        self._waiting: dict[Submission, list[Waiting]] = {}
        self._gas_each = dict(GAS_EACH)
        self._aio_tasks: set[asyncio.Task[None]] = set()

    async def submit(self, effect: Submit) -> str:
        """See one submission through: DONE, or why it failed.

        Raises OverBudget, Unavailable and RpcError while nothing of it was sent.
        """
        waiting = Waiting(effect=effect, outcome=asyncio.get_running_loop().create_future())
        together = self._waiting.setdefault(effect.submission, [])
        together.append(waiting)
        if len(together) == 1:
            aio_task = asyncio.create_task(self._gather(effect.submission))
            self._aio_tasks.add(aio_task)
            aio_task.add_done_callback(self._aio_tasks.discard)
        return await waiting.outcome

    async def _gather(self, submission: Submission) -> None:
        if submission in GAS_EACH:
            await asyncio.sleep(GATHER_SECONDS)
        together = self._waiting.pop(submission)
        try:
            await self._send(submission, together)
        except Exception as problem:  # noqa: BLE001  for those who wait to decide about
            _fail(together, problem)
        except asyncio.CancelledError:
            for waiting in together:
                waiting.outcome.cancel()
            raise

    async def _send(self, submission: Submission, together: Sequence[Waiting]) -> None:
        possible = await self._still_possible(submission, together)
        await self._sender.start()
        under_way = self._under_way()
        resumed: dict[str, list[Waiting]] = {}
        fresh: list[Waiting] = []
        for waiting in possible:
            key = under_way.get((submission, waiting.effect.task_id))
            if key is None:
                fresh.append(waiting)
            else:
                resumed.setdefault(key, []).append(waiting)
        groups: list[tuple[str, bytes, Sequence[Waiting]]] = [
            (key, b"", members) for key, members in resumed.items()
        ]
        groups += [_request(submission, part) for part in await self._parts(submission, fresh)]
        await asyncio.gather(*(self._carry(submission, *group) for group in groups))

    async def _still_possible(self, submission: Submission, together: Sequence[Waiting]) -> list[Waiting]:
        """Those that the chain neither shows nor refuses; the others have their outcome."""
        tasks = await self._hub.tasks([waiting.effect.task_id for waiting in together])
        now = self._head_now()
        possible: list[Waiting] = []
        shown: list[Waiting] = []
        for waiting, task in zip(together, tasks, strict=True):
            if is_satisfied(submission, task):
                shown.append(waiting)
            elif obstacle := obstacle_to(submission, task, now):
                _tell([waiting], obstacle)
            else:
                possible.append(replace(waiting, priority=priority_of(submission, task, now)))
        if shown:
            await self._settle(submission, shown)
        return possible

    async def _settle(self, submission: Submission, shown: Sequence[Waiting]) -> None:
        """What the newest block shows is done when a confirmed one does: until then its block may vanish."""
        tasks = await self._hub.tasks([waiting.effect.task_id for waiting in shown], self._confirmed())
        for waiting, task in zip(shown, tasks, strict=True):
            if is_satisfied(submission, task):
                _tell([waiting], DONE)
            else:
                what = f"what {submission} would do is done in a block that is not confirmed"
                _fail([waiting], Unavailable(what, code="unconfirmed"))

    def _under_way(self) -> dict[tuple[Submission, TaskId], str]:
        """The keys of the transactions for many that the journal holds, by whom they are for."""
        return {member: record.key for record in self._sender.in_flight for member in members_of(record.data)}

    async def _parts(self, submission: Submission, fresh: Sequence[Waiting]) -> list[Sequence[Waiting]]:
        if not fresh:
            return []
        if submission not in GAS_EACH:
            return [[waiting] for waiting in fresh]
        known = {record.key for record in self._sender.in_flight}
        alone = [waiting for waiting in fresh if identity(waiting.effect) in known]  # sent alone once
        others = [waiting for waiting in fresh if identity(waiting.effect) not in known]
        size = most_together(self._gas_each[submission], await self._sender.block_gas_limit())
        parts = [others[start : start + size] for start in range(0, len(others), size)]
        return [*([waiting] for waiting in alone), *parts]

    async def _carry(self, submission: Submission, key: str, data: bytes, members: Sequence[Waiting]) -> None:
        """See one transaction through and tell its members."""
        try:
            receipt = await self._sender.submit(
                TxRequest(key=key, to=self._hub_address, data=data, priority=members[0].priority)
            )
        except TxReverted as problem:
            await self._after_revert(submission, members, problem)
        except OutOfGas as problem:
            _tell(members, str(problem))
        except OverBudget as problem:
            if len(members) == 1:
                _fail(members, problem)
            else:
                await self._alone(submission, members)  # some of them may fit
        except PoolwrightError as problem:
            _fail(members, problem)
        else:
            self._learn(submission, receipt, len(members))
            _tell(members, DONE)

    async def _after_revert(
        self, submission: Submission, members: Sequence[Waiting], problem: TxReverted
    ) -> None:
        """A rival was faster with one of them, or the chain has moved on: each that is left goes alone."""
        try:
            left = await self._still_possible(submission, members)
        except PoolwrightError as trouble:
            _fail(members, trouble)
            return
        if len(members) == 1:
            _tell(left, str(problem))
            return
        log.warning("a call for many reverts", tasks=len(members), left=len(left), reason=str(problem))
        await self._alone(submission, left)

    async def _alone(self, submission: Submission, members: Sequence[Waiting]) -> None:
        await asyncio.gather(
            *(self._carry(submission, *_request(submission, [waiting])) for waiting in members)
        )

    def _learn(self, submission: Submission, receipt: Receipt, count: int) -> None:
        """Take the gas that a task has really cost, when it was more than one that told it."""
        if submission in GAS_EACH and count > 1:
            self._gas_each[submission] = receipt.gas_used // count


def _request(submission: Submission, members: Sequence[Waiting]) -> tuple[str, bytes, Sequence[Waiting]]:
    effects = [waiting.effect for waiting in members]
    if len(effects) == 1:
        return identity(effects[0]), calldata(effects[0]), members
    return key_of_many(submission, effects), calldata_of_many(submission, effects), members


def _tell(members: Sequence[Waiting], outcome: str) -> None:
    for waiting in members:
        if not waiting.outcome.done():
            waiting.outcome.set_result(outcome)


def _fail(members: Sequence[Waiting], problem: Exception) -> None:
    for waiting in members:
        if not waiting.outcome.done():
            waiting.outcome.set_exception(problem)
