"""From the hub's logs to the facts that the scheduler's mind is told.

A batch of logs becomes a batch of events, committed together with the place up to which the chain was read:
no gap and no double, whatever dies in between. What cannot be read yet (the node does not answer, or is
behind the one that gave the log) is asked for again until it can; nothing is skipped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeVar

import structlog

from poolwright.chain.logs import LogBatch
from poolwright.chain.reads import HubReader
from poolwright.chain.rpc import back_off
from poolwright.daemons.oddities import oddities
from poolwright.poco import consensus, events, ids
from poolwright.poco.deadlines import reveal_deadline
from poolwright.poco.errors import PoolwrightError
from poolwright.poco.records import TaskStatus
from poolwright.poco.types import (
    Address,
    BlockStamp,
    DealId,
    Hash32,
    TaskId,
    Timestamp,
    TxHash,
    WorkerAddress,
)
from poolwright.scheduler.events import (
    ChainDealMatched,
    ChainRef,
    ChainTaskClaimed,
    ChainTaskConsensusReached,
    ChainTaskContributed,
    ChainTaskContributedAndFinalized,
    ChainTaskFinalized,
    ChainTaskInitialized,
    ChainTaskReopened,
    ChainTaskRevealed,
    DealTerms,
    PoolEvent,
)
from poolwright.scheduler.task import Task
from poolwright.store.port import StoreReads

log = structlog.get_logger(__name__)

T = TypeVar("T")

CURSOR_MARK: Final = "chain-cursor"
"""Mark of the scheduler's store: the block up to which the chain's logs are in it."""
OLD_BLOCKS: Final = 10
"""Behind the newest confirmed block, from when on a task's log is old; one that is new costs no question."""
TOPICS: Final[tuple[Hash32, ...]] = tuple(
    events.TOPICS[kind]
    for kind in (
        events.SchedulerNotice,
        events.TaskInitialize,
        events.TaskContribute,
        events.TaskConsensus,
        events.TaskReveal,
        events.TaskReopen,
        events.TaskFinalize,
        events.TaskClaimed,
        events.Reward,
        events.Seize,
    )
)


async def never(_: TaskId) -> bool:
    """Nothing was ever forgotten."""
    return False


async def was_told(store: StoreReads, task_id: TaskId) -> bool:
    """Whether a task stands in the log, however long ago it ended."""
    story = await store.story(task_id)
    return bool(story.events or story.effects)


class ChainWatch:
    """Reads what logs do not carry: a deal's terms, a contributor's weight.

    `was_told` says whether a task was ever known. A deal that is read once more (`resync`) after the pool has
    forgotten its tasks is no news: it would open them again. `owner` is whose rewards and losses are counted.
    `pause` gives the seconds before the nth question for what could not be read. At `head`, the newest
    confirmed block, it is asked whether a task whose log is old has ended since: nobody need begin with it.
    """

    def __init__(
        self,
        hub: HubReader,
        workerpool: Address,
        known_task: Callable[[TaskId], Task | None],
        was_told: Callable[[TaskId], Awaitable[bool]] = never,
        owner: Address | None = None,
        pause: Callable[[int], float] = lambda attempt: back_off(attempt, 0.5),
        head: Callable[[], BlockStamp | None] = lambda: None,
    ) -> None:
        self._hub = hub
        self._workerpool = workerpool
        self._known_task = known_task
        self._was_told = was_told
        self._owner = owner
        self._pause = pause
        self._head = head
        self.earned = 0
        """nRLC that the owner was rewarded with for tasks of this pool, in the logs read so far."""
        self.seized = 0
        """nRLC of the owner's stake that was taken for tasks of this pool."""

    async def facts(self, batch: LogBatch) -> list[PoolEvent]:
        """The events of a batch that concern this pool, in the order of the chain."""
        facts: list[PoolEvent] = []
        fresh: dict[TaskId, DealTerms] = {}
        decoded = [(entry, event) for entry in batch.logs if (event := events.decode_log(entry)) is not None]
        at_once = ended_at_once(decoded)
        for entry, event in decoded:
            ref = ChainRef(block=entry.block.number, tx_hash=entry.tx_hash)
            if isinstance(event, events.SchedulerNotice):
                if event.workerpool == self._workerpool:
                    terms = await self._terms(event.deal_id, entry.block, batch.upto.timestamp)
                    if await self._is_forgotten(terms):
                        log.info("deal of the past", deal=str(event.deal_id), block=str(entry.block))
                        continue
                    for oddity in terms.oddities:
                        log.warning("odd deal", deal=str(event.deal_id), oddity=oddity)
                    facts.append(ChainDealMatched(at=entry.block.timestamp, terms=terms, ref=ref))
                    fresh.update(
                        (ids.task_id(terms.deal_id, index), terms)
                        for index in range(terms.bot_first, terms.bot_first + terms.bot_size)
                    )
                continue
            if isinstance(event, events.Reward | events.Seize):
                self._count(event, fresh)
                continue
            fact = await self._task_fact(event, entry.block, ref, fresh, at_once)
            if fact is not None:
                facts.append(fact)
        return facts

    async def _is_forgotten(self, terms: DealTerms) -> bool:
        first = ids.task_id(terms.deal_id, terms.bot_first)
        return self._known_task(first) is None and await self._was_told(first)

    def _count(self, event: events.Reward | events.Seize, fresh: Mapping[TaskId, DealTerms]) -> None:
        known = self._known_task(event.ref)
        is_news = event.ref in fresh if known is None else not known.is_ended  # else it was counted before
        if event.owner != self._owner or not is_news:
            return
        if isinstance(event, events.Reward):
            self.earned += event.amount
        else:
            self.seized += event.amount

    async def _task_fact(
        self,
        event: events.HubEvent,
        block: BlockStamp,
        ref: ChainRef,
        fresh: dict[TaskId, DealTerms],
        at_once: Mapping[tuple[TxHash, TaskId], events.TaskContribute],
    ) -> PoolEvent | None:
        task_id: TaskId | None = getattr(event, "task_id", None)
        if task_id is None:
            return None
        known = self._known_task(task_id)
        terms = fresh.get(task_id) or (known.deal if known else None)
        if terms is None:
            return None
        at = block.timestamp
        contribution = at_once.get((ref.tx_hash, task_id))
        match event:
            case events.TaskInitialize():
                is_over = await self._is_over(task_id, block)
                return ChainTaskInitialized(at=at, task_id=task_id, ref=ref, is_over=is_over)
            case events.TaskFinalize(results=results) if contribution is not None:
                return ChainTaskContributedAndFinalized(
                    at=at,
                    task_id=task_id,
                    worker=WorkerAddress(contribution.worker),
                    result_hash=contribution.result_hash,
                    weight=await self._weight(contribution.worker, block),
                    results=results,
                    ref=ref,
                )
            case _ if contribution is not None:
                return None  # its TaskFinalize says it all
            case events.TaskContribute(worker=worker, result_hash=result_hash):
                return ChainTaskContributed(
                    at=at,
                    task_id=task_id,
                    worker=WorkerAddress(worker),
                    result_hash=result_hash,
                    weight=await self._weight(worker, block),
                    ref=ref,
                )
            case events.TaskConsensus(consensus=agreed):
                return ChainTaskConsensusReached(
                    at=at,
                    task_id=task_id,
                    consensus=agreed,
                    reveal_deadline=reveal_deadline(at, terms.timeref),
                    ref=ref,
                )
            case events.TaskReveal(worker=worker, digest=digest):
                return ChainTaskRevealed(
                    at=at, task_id=task_id, worker=WorkerAddress(worker), digest=digest, ref=ref
                )
            case events.TaskReopen():
                return ChainTaskReopened(at=at, task_id=task_id, ref=ref)
            case events.TaskFinalize(results=results):
                return ChainTaskFinalized(at=at, task_id=task_id, results=results, ref=ref)
            case events.TaskClaimed():
                return ChainTaskClaimed(at=at, task_id=task_id, ref=ref)
            case _:
                return None

    async def _is_over(self, task_id: TaskId, block: BlockStamp) -> bool:
        """Whether a task that was initialized in an old block has ended by now."""
        head = self._head()
        if head is None or head.number - block.number < OLD_BLOCKS:
            return False
        task = await self._patiently(lambda at: self._hub.task(task_id, at=at), head)
        return task.status in (TaskStatus.COMPLETED, TaskStatus.FAILED)

    async def _weight(self, worker: Address, block: BlockStamp) -> int:
        return consensus.weight(await self._patiently(lambda at: self._hub.score(worker, at=at), block))

    async def _terms(self, deal_id: DealId, block: BlockStamp, now: Timestamp) -> DealTerms:
        deal = await self._patiently(lambda at: self._hub.deal(deal_id, at=at), block)
        category = await self._patiently(lambda at: self._hub.category(deal.category, at=at), block)
        return DealTerms(
            deal_id=deal_id,
            start_time=deal.start_time,
            timeref=category.timeref,
            trust=deal.trust,
            tag=deal.tag,
            bot_first=deal.bot_first,
            bot_size=deal.bot_size,
            requester=deal.requester,
            app=deal.app.pointer,
            has_callback=bool(deal.callback),
            workerpool_price=deal.workerpool.price,
            oddities=oddities(
                tag=deal.tag,
                params=deal.params,
                start_time=deal.start_time,
                timeref=category.timeref,
                now=now,
            ),
        )

    async def _patiently(self, read: Callable[[BlockStamp | None], Awaitable[T]], block: BlockStamp) -> T:
        """Read at the log's block, and from then on at the newest one, until there is an answer.

        Deals and categories never change, so any later block tells the same. A node may have forgotten the
        state at an old block; then a score is one of later, which may put the forecast of a consensus off, no
        more.
        """
        attempt = 0
        while True:
            try:
                return await read(None if attempt else block)
            except PoolwrightError as problem:
                attempt += 1
                log.warning("chain unreadable, asking again", block=str(block), reason=str(problem))
                await asyncio.sleep(self._pause(attempt))


def ended_at_once(
    decoded: Sequence[tuple[events.Log, events.HubEvent]],
) -> Mapping[tuple[TxHash, TaskId], events.TaskContribute]:
    """The contributions that ended their task in the same transaction, by transaction and task.

    `contributeAndFinalize` writes TaskContribute, TaskConsensus, TaskReveal and TaskFinalize (reference
    `poco.md` 4); they are one fact.
    """
    contributed: dict[tuple[TxHash, TaskId], list[events.TaskContribute]] = {}
    finalized: set[tuple[TxHash, TaskId]] = set()
    for entry, event in decoded:
        match event:
            case events.TaskContribute(task_id=task_id):
                contributed.setdefault((entry.tx_hash, task_id), []).append(event)
            case events.TaskFinalize(task_id=task_id):
                finalized.add((entry.tx_hash, task_id))
            case _:
                pass
    return {key: made[0] for key, made in contributed.items() if key in finalized and len(made) == 1}
