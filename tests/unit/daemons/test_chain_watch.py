"""Logs of the hub become facts of the pool: which, in which order, with what read beside them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from factories import (
    ALICE,
    DIGEST,
    active_task,
    address,
    chain_ref,
    claimed,
    deal_terms,
    hash32,
    hash_of,
    task_of,
    told,
)
from hub_twin import HubTwin
from poolwright.chain.logs import LogBatch
from poolwright.chain.reads import DealDetails
from poolwright.daemons.chain_watch import OLD_BLOCKS, TOPICS, ChainWatch
from poolwright.poco import events
from poolwright.poco.errors import PeerError, Unavailable
from poolwright.poco.events import HubEvent, Log, encode_event
from poolwright.poco.records import (
    NO_DEAL,
    NO_TASK,
    AppInfo,
    Category,
    Resource,
    TaskStatus,
    WorkerpoolInfo,
)
from poolwright.poco.tags import Tag
from poolwright.poco.types import (
    Address,
    BlockHash,
    BlockNumber,
    BlockStamp,
    DealId,
    Hash32,
    NRlc,
    Seconds,
    TaskId,
    Timestamp,
    TxHash,
)
from poolwright.scheduler.events import (
    ChainDealMatched,
    ChainTaskClaimed,
    ChainTaskConsensusReached,
    ChainTaskContributed,
    ChainTaskContributedAndFinalized,
    ChainTaskFinalized,
    ChainTaskInitialized,
    ChainTaskReopened,
    ChainTaskRevealed,
)
from poolwright.scheduler.task import Task

HUB, POOL, APP = address("hub"), address("pool"), address("app")
BLOCK = BlockStamp(BlockNumber(7), BlockHash(hash32("block 7")), Timestamp(1_000_000))
TERMS = replace(deal_terms("deal"), workerpool_price=NRlc(5))
TASK = task_of(TERMS)
REF = chain_ref(7, "tx")


def details(deal_id: DealId = TERMS.deal_id) -> DealDetails:
    owner = address("owner")
    return DealDetails(
        deal_id=deal_id,
        deal=replace(
            NO_DEAL,
            app=Resource(pointer=APP, owner=owner, price=NRlc(1)),
            workerpool=Resource(pointer=POOL, owner=owner, price=NRlc(5)),
            trust=1,
            category=3,
            requester=TERMS.requester,
            beneficiary=TERMS.requester,
            start_time=TERMS.start_time,
            bot_size=1,
            worker_stake=NRlc(1),
            scheduler_reward_ratio=1,
            sponsor=TERMS.requester,
        ),
        app=AppInfo(
            owner=owner, name="a", type="DOCKER", multiaddr=b"i", checksum=Hash32.zero(), mrenclave=b""
        ),
        dataset=None,
        workerpool=WorkerpoolInfo(
            owner=owner, description="", worker_stake_ratio=30, scheduler_reward_ratio=1
        ),
        category=Category(name="XS", description="", timeref=Seconds(300)),
    )


def batch(*emitted: HubEvent) -> LogBatch:
    return LogBatch(upto=BLOCK, logs=tuple(_log(event, index) for index, event in enumerate(emitted)))


def _log(event: HubEvent, index: int, tx: str = "tx") -> Log:
    topics, payload = encode_event(event)
    return Log(
        address=HUB,
        topics=topics,
        data=payload,
        block=BLOCK,
        tx_hash=TxHash(hash32(tx)),
        log_index=index,
    )


def watch(hub: HubTwin, *known: Task) -> ChainWatch:
    by_id = {task.id: task for task in known}
    return ChainWatch(hub, POOL, by_id.get, pause=lambda attempt: 0.0)  # type: ignore[arg-type]  # a twin with what is used here


async def test_deal_that_is_read_again_after_its_tasks_were_forgotten_is_no_news() -> None:
    """As after `resync --from` an earlier block: it would open the tasks, and have them computed, again."""
    hub = HubTwin(details={TERMS.deal_id: details()})
    told: list[TaskId] = [TASK]

    async def was_told(task_id: TaskId) -> bool:
        return task_id in told

    again = ChainWatch(hub, POOL, {}.get, was_told)  # type: ignore[arg-type]  # a twin with what is used here
    logs = batch(notice(), events.TaskInitialize(task_id=TASK, workerpool=POOL))

    assert await again.facts(logs) == []
    told.clear()
    assert [type(fact) for fact in await again.facts(logs)] == [ChainDealMatched, ChainTaskInitialized]


async def test_rewards_and_losses_of_the_owner_for_this_pools_tasks_are_counted() -> None:
    owner, task = address("owner"), active_task()
    ended = told(task, claimed(task.id)).task
    by_id = {task.id: task}
    counting = ChainWatch(HubTwin(), POOL, by_id.get, owner=owner)  # type: ignore[arg-type]  # a twin
    foreign = TaskId(hash32("a task of another pool"))

    facts = await counting.facts(
        batch(
            events.Reward(owner=owner, amount=NRlc(7), ref=task.id),
            events.Reward(owner=ALICE, amount=NRlc(100), ref=task.id),
            events.Reward(owner=owner, amount=NRlc(1_000), ref=foreign),
            events.Seize(owner=owner, amount=NRlc(3), ref=task.id),
        )
    )

    assert facts == []
    assert (counting.earned, counting.seized) == (7, 3)
    by_id[task.id] = ended  # what is read once more was counted then
    await counting.facts(batch(events.Seize(owner=owner, amount=NRlc(3), ref=task.id)))
    assert counting.seized == 3


def notice(workerpool: Address = POOL) -> events.SchedulerNotice:
    return events.SchedulerNotice(workerpool=workerpool, deal_id=TERMS.deal_id)


async def test_deal_of_this_pool_is_read_at_its_block_with_its_category() -> None:
    hub = HubTwin(details={TERMS.deal_id: details()})

    facts = await watch(hub).facts(batch(notice()))

    assert facts == [ChainDealMatched(at=BLOCK.timestamp, terms=TERMS, ref=REF)]
    assert set(hub.asked_at) == {BLOCK}


async def test_deals_and_tasks_of_other_pools_are_no_facts() -> None:
    foreign = TaskId(hash32("a task of another pool"))

    facts = await watch(HubTwin()).facts(
        batch(
            notice(address("another pool")),
            events.TaskInitialize(task_id=foreign, workerpool=address("another pool")),
            events.TaskClaimed(task_id=foreign),
        )
    )

    assert facts == []


async def test_every_log_of_a_known_task_is_a_fact_in_the_order_of_the_chain() -> None:
    hub = HubTwin(scores={ALICE: 10})
    at, task = BLOCK.timestamp, active_task()

    facts = await watch(hub, task).facts(
        batch(
            events.TaskInitialize(task_id=TASK, workerpool=POOL),
            events.TaskContribute(task_id=TASK, worker=ALICE, result_hash=hash_of(TASK)),
            events.TaskConsensus(task_id=TASK, consensus=hash_of(TASK)),
            events.TaskReveal(task_id=TASK, worker=ALICE, digest=DIGEST),
            events.TaskReopen(task_id=TASK),
            events.TaskClaimed(task_id=TASK),
        )
    )

    assert facts == [
        ChainTaskInitialized(at=at, task_id=TASK, ref=REF),
        # contract: the weight is max(score // 3, 3) - 1
        ChainTaskContributed(at=at, task_id=TASK, worker=ALICE, result_hash=hash_of(TASK), weight=2, ref=REF),
        ChainTaskConsensusReached(
            at=at,
            task_id=TASK,
            consensus=hash_of(TASK),
            reveal_deadline=Timestamp(at + 2 * task.deal.timeref),
            ref=REF,
        ),
        ChainTaskRevealed(at=at, task_id=TASK, worker=ALICE, digest=DIGEST, ref=REF),
        ChainTaskReopened(at=at, task_id=TASK, ref=REF),
        ChainTaskClaimed(at=at, task_id=TASK, ref=REF),
    ]


async def test_what_is_odd_about_a_deal_is_logged_and_kept_with_its_terms() -> None:
    known = details()
    odd = replace(known, deal=replace(known.deal, params="{", tag=Tag(1 << 77)))

    with capture_logs() as lines:
        [matched] = await watch(HubTwin(details={TERMS.deal_id: odd})).facts(batch(notice()))

    assert isinstance(matched, ChainDealMatched)
    assert [line["oddity"] for line in lines] == list(matched.terms.oddities)
    assert {line["deal"] for line in lines} == {str(TERMS.deal_id)}
    assert len(lines) == 2


CONTRIBUTE_AND_FINALIZE = (
    events.TaskContribute(task_id=TASK, worker=ALICE, result_hash=hash_of(TASK)),
    events.TaskConsensus(task_id=TASK, consensus=hash_of(TASK)),
    events.TaskReveal(task_id=TASK, worker=ALICE, digest=DIGEST),
    events.TaskFinalize(task_id=TASK, results=b"link"),
)


async def test_four_logs_of_one_contribute_and_finalize_are_one_fact() -> None:
    facts = await watch(HubTwin(scores={ALICE: 30}), active_task()).facts(batch(*CONTRIBUTE_AND_FINALIZE))

    assert facts == [
        ChainTaskContributedAndFinalized(
            at=BLOCK.timestamp,
            task_id=TASK,
            worker=ALICE,
            result_hash=hash_of(TASK),
            weight=9,
            results=b"link",
            ref=REF,
        )
    ]


async def test_the_same_logs_of_several_transactions_in_one_block_are_facts_of_their_own() -> None:
    txs = ("contribution", "contribution", "reveal", "finalize")
    logs = [
        _log(event, n, tx) for n, (event, tx) in enumerate(zip(CONTRIBUTE_AND_FINALIZE, txs, strict=True))
    ]

    facts = await watch(HubTwin(), active_task()).facts(LogBatch(upto=BLOCK, logs=tuple(logs)))

    assert [type(fact) for fact in facts] == [
        ChainTaskContributed,
        ChainTaskConsensusReached,
        ChainTaskRevealed,
        ChainTaskFinalized,
    ]


@pytest.mark.parametrize(
    ("status", "blocks_since", "is_over"),
    [
        (TaskStatus.ACTIVE, 1_000, False),
        (TaskStatus.REVEALING, 1_000, False),
        (TaskStatus.COMPLETED, 1_000, True),
        (TaskStatus.FAILED, OLD_BLOCKS, True),
        (TaskStatus.COMPLETED, OLD_BLOCKS - 1, False),
    ],
)
async def test_of_an_old_task_it_is_asked_at_the_head_whether_it_has_ended(
    status: TaskStatus, blocks_since: int, is_over: bool
) -> None:
    """As after a store was lost: its log is to be read, and meanwhile nobody need begin with it."""
    hub = HubTwin(tasks={TASK: replace(NO_TASK, status=status)})
    head = replace(BLOCK, number=BlockNumber(BLOCK.number + blocks_since))
    known = {TASK: active_task()}
    late = ChainWatch(hub, POOL, known.get, head=lambda: head)  # type: ignore[arg-type]  # a twin

    facts = await late.facts(batch(events.TaskInitialize(task_id=TASK, workerpool=POOL)))

    assert facts == [ChainTaskInitialized(at=BLOCK.timestamp, task_id=TASK, ref=REF, is_over=is_over)]
    assert hub.asked_at == ([head] if blocks_since >= OLD_BLOCKS else [])


async def test_task_of_a_deal_in_the_same_batch_is_known() -> None:
    hub = HubTwin(details={TERMS.deal_id: details()})

    facts = await watch(hub).facts(batch(notice(), events.TaskInitialize(task_id=TASK, workerpool=POOL)))

    assert [type(fact) for fact in facts] == [ChainDealMatched, ChainTaskInitialized]


@pytest.mark.parametrize(
    "problem", [Unavailable("no answer"), PeerError("half an answer")], ids=["silent node", "odd answer"]
)
async def test_what_cannot_be_read_is_asked_for_again_then_at_the_newest_block(
    problem: PeerError | Unavailable,
) -> None:
    hub = HubTwin(details={TERMS.deal_id: details()}, refuse=[problem, problem])

    facts = await watch(hub).facts(batch(notice()))

    assert facts == [ChainDealMatched(at=BLOCK.timestamp, terms=TERMS, ref=REF)]
    assert hub.asked_at[:3] == [BLOCK, None, None]


async def test_contribution_waits_for_a_node_that_does_not_answer() -> None:
    hub = HubTwin(refuse=[Unavailable("no answer")])

    [fact] = await watch(hub, active_task()).facts(
        batch(events.TaskContribute(task_id=TASK, worker=ALICE, result_hash=hash_of(TASK)))
    )

    assert isinstance(fact, ChainTaskContributed)


def test_watched_topics_are_those_that_become_facts() -> None:
    assert len(set(TOPICS)) == 8 + 2  # and the money, which is counted
