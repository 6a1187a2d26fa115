"""What a worker takes up again after a crash, and what it leaves: nothing runs for a task that is purged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest
from bells import ManualClock

import factories as f
from poolwright.daemons.runner import Runner
from poolwright.daemons.worker_mind import WorkerMind
from poolwright.poco.errors import PoolwrightError
from poolwright.poco.types import Timestamp
from poolwright.store.memory import MemoryStore
from poolwright.store.port import EffectId
from poolwright.worker import attempts as minds
from poolwright.worker import effects as deeds
from poolwright.worker import events as news
from poolwright.worker.attempts import Attempts

TASK = f.task_of(f.deal_terms())
AT = Timestamp(f.START)
START, ABORT, COMPLETE = (
    news.SchedulerInstructed(at=AT, instruction=instruction)
    for instruction in (f.start(TASK), f.abort(TASK), f.complete(TASK))
)
DESCRIBED = news.TaskDescribed(at=AT, task_id=TASK, terms=f.terms())
TO_COMPUTING = (
    START,
    DESCRIBED,
    news.AppDownloaded(at=AT, task_id=TASK),
    news.DataDownloaded(at=AT, task_id=TASK),
)
PURGED = news.TaskPurged(at=AT, task_id=TASK)
COMPUTE = deeds.Compute(task_id=TASK, terms=f.terms())
CONTRIBUTE = deeds.SubmitContribute(
    task_id=TASK,
    digest=f.DIGEST,
    enclave_challenge=f.start(TASK).enclave_challenge,
    authorization=f.start(TASK).authorization,
)
REPORT = deeds.Report(task_id=TASK, status=news.ReplicateStatus.COMPLETED)
PURGE = deeds.Purge(task_id=TASK)


class Workshop:
    """Hands that note what they are asked for, answer purges, and never finish anything else."""

    def __init__(self) -> None:
        self.asked: list[deeds.Effect] = []

    def lane_of(self, effect: deeds.Effect) -> str:
        return "scheduler" if isinstance(effect, deeds.Report) else f"work:{type(effect).__name__}"

    def key_of(self, effect: deeds.Effect) -> str:
        return f"{type(effect).__name__}:{getattr(effect, 'number', '')}"

    def post(self, effect: deeds.Effect, number: EffectId) -> None:
        self.asked.append(effect)

    async def carry_out(self, effect: deeds.Effect, effect_id: EffectId) -> Sequence[news.Event]:
        self.asked.append(effect)
        if not isinstance(effect, deeds.Purge):
            await asyncio.Event().wait()
        return [PURGED]

    def gave_up(self, effect: deeds.Effect, error: PoolwrightError) -> Sequence[news.Event]:
        raise AssertionError(effect)


def running(store: MemoryStore, workshop: Workshop) -> Runner[Attempts, news.Event, deeds.Effect]:
    return Runner(WorkerMind(), workshop, store, ManualClock(), lanes={"work": 8})


async def until(claim: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not claim():  # noqa: ASYNC110  # claims are about what runs elsewhere
            await asyncio.sleep(0)


async def test_container_of_a_purged_task_is_not_run_again_after_a_restart() -> None:
    store = MemoryStore()
    first = running(store, before := Workshop())
    await first.start()
    await first.put(*TO_COMPUTING, ABORT)
    async with asyncio.timeout(20):
        while any(effect.kind == "Purge" for effect in await store.pending()):
            pass  # purged when it is recorded; the container's end has not been told
    await first.abort()
    assert COMPUTE in before.asked

    second = running(heir := store.reopen(), after := Workshop())
    await second.start()
    await second.stop()

    assert [type(effect) for effect in after.asked if not isinstance(effect, deeds.Report)] == []
    assert {effect.kind for effect in await heir.pending()} == {"Report"}


async def test_container_of_a_task_under_way_is_taken_up_after_a_restart() -> None:
    store = MemoryStore()
    first = running(store, Workshop())
    await first.start()
    await first.put(*TO_COMPUTING)
    await first.abort()

    second = running(store.reopen(), after := Workshop())
    await second.start()
    await until(lambda: COMPUTE in after.asked)
    await second.abort()


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        (TO_COMPUTING, [COMPUTE, CONTRIBUTE, REPORT, PURGE]),
        ((*TO_COMPUTING, ABORT), [REPORT, PURGE]),
        ((*TO_COMPUTING, COMPLETE), [REPORT, PURGE]),
        ((*TO_COMPUTING, ABORT, PURGED), [REPORT, PURGE]),
        ((), [REPORT, PURGE]),
    ],
    ids=["under way", "aborted", "completed", "purged", "never heard of"],
)
def test_only_work_on_a_living_attempt_is_wanted(
    told: Sequence[news.Event], wanted: list[deeds.Effect]
) -> None:
    mind = Attempts()
    for event in told:
        minds.step(mind, event)

    assert [e for e in (COMPUTE, CONTRIBUTE, REPORT, PURGE) if minds.is_wanted(mind, e)] == wanted
