"""What a worker does after a crash or a wait, and what it leaves: nothing runs for a task that is purged."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from bells import ManualClock

import factories as f
from poolwright.daemons.lanes import Retries
from poolwright.daemons.runner import Limits, Runner
from poolwright.daemons.worker_mind import WorkerMind
from poolwright.poco.errors import PoolwrightError, Unavailable
from poolwright.poco.types import TaskId, Timestamp
from poolwright.store.memory import MemoryStore
from poolwright.store.port import EffectId
from poolwright.wire.messages import Instruction
from poolwright.worker import attempts as minds
from poolwright.worker import effects as deeds
from poolwright.worker import events as news
from poolwright.worker.attempts import Attempts

TASK, NEXT, LAST = (f.task_of(f.deal_terms(bot_size=3), index) for index in range(3))
AT = Timestamp(f.START)


def told(instruction: Instruction) -> news.SchedulerInstructed:
    return news.SchedulerInstructed(at=AT, instruction=instruction)


def compute(task_id: TaskId) -> deeds.Compute:
    return deeds.Compute(task_id=task_id, terms=f.terms())


def to_computing(task_id: TaskId) -> tuple[news.Event, ...]:
    return (
        told(f.start(task_id)),
        news.TaskDescribed(at=AT, task_id=task_id, terms=f.terms()),
        news.AppDownloaded(at=AT, task_id=task_id),
        news.DataDownloaded(at=AT, task_id=task_id),
    )


ABORT, COMPLETE = told(f.abort(TASK)), told(f.complete(TASK))
TO_COMPUTING = to_computing(TASK)
PURGED = news.TaskPurged(at=AT, task_id=TASK)
COMPUTE = compute(TASK)
CONTRIBUTE = deeds.SubmitContribute(
    task_id=TASK,
    digest=f.DIGEST,
    enclave_challenge=f.start(TASK).enclave_challenge,
    authorization=f.start(TASK).authorization,
)
REPORT = deeds.Report(task_id=TASK, status=news.ReplicateStatus.COMPLETED)
PURGE = deeds.Purge(task_id=TASK)


class Workshop:
    """Hands that note what they are asked for, answer purges, and finish a computation when told to.

    They never finish anything else. `fails` is a computation for which there is no engine.
    """

    def __init__(self, fails: deeds.Compute | None = None) -> None:
        self.asked: list[deeds.Effect] = []
        self._fails = fails
        self._ends: dict[TaskId, asyncio.Event] = defaultdict(asyncio.Event)

    def let_go(self, task_id: TaskId) -> None:
        self._ends[task_id].set()

    def lane_of(self, effect: deeds.Effect) -> str:
        if isinstance(effect, deeds.Compute):
            return "slot"
        return "scheduler" if isinstance(effect, deeds.Report) else f"work:{type(effect).__name__}"

    def key_of(self, effect: deeds.Effect) -> str:
        return f"{type(effect).__name__}:{effect.task_id}:{getattr(effect, 'number', '')}"

    def post(self, effect: deeds.Effect, number: EffectId) -> None:
        self.asked.append(effect)

    async def carry_out(self, effect: deeds.Effect, effect_id: EffectId) -> Sequence[news.Event]:
        self.asked.append(effect)
        if isinstance(effect, deeds.Purge):
            return [replace(PURGED, task_id=effect.task_id)]
        if effect == self._fails:
            raise Unavailable("no engine")
        await (self._ends[effect.task_id] if isinstance(effect, deeds.Compute) else asyncio.Event()).wait()
        return [failed(effect.task_id)]

    def gave_up(self, effect: deeds.Effect, error: PoolwrightError) -> Sequence[news.Event]:
        assert effect == self._fails
        return [failed(effect.task_id)]


def failed(task_id: TaskId) -> news.Event:
    return news.AppComputeFailed(
        at=AT, task_id=task_id, cause="CRASH", message="", exit_code=1, milliseconds=1
    )


def running(
    store: MemoryStore, workshop: Workshop, *, slots: int = 8, pause: float = 0.5
) -> Runner[Attempts, news.Event, deeds.Effect]:
    limits = Limits(retries=Retries(first_pause=pause, longest_pause=pause))
    return Runner(
        WorkerMind(), workshop, store, ManualClock(), lanes={"work": 64, "slot": slots}, limits=limits
    )


async def until(claim: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not claim():  # noqa: ASYNC110  # claims are about what runs elsewhere
            await asyncio.sleep(0)


async def test_container_of_a_purged_task_is_not_run_again_after_a_restart() -> None:
    store = MemoryStore()
    first = running(store, before := Workshop())
    await first.start()
    await first.put(*TO_COMPUTING)
    await until(lambda: COMPUTE in before.asked)
    await first.put(ABORT)
    async with asyncio.timeout(20):
        while any(effect.kind == "Purge" for effect in await store.pending()):
            pass  # purged when it is recorded; the container's end has not been told
    await first.abort()

    second = running(heir := store.reopen(), after := Workshop())
    await second.start()
    await second.stop()

    assert [type(effect) for effect in after.asked if not isinstance(effect, deeds.Report)] == []
    assert {effect.kind for effect in await heir.pending()} == {"Report"}


async def test_compute_that_waits_for_a_slot_is_dropped_when_its_task_is_over() -> None:
    """Found by simulation, seeds 67 and 100: the container was started for nobody and held the slot."""
    store = MemoryStore()
    runner = running(store, workshop := Workshop(), slots=1)
    await runner.start()
    await runner.put(*to_computing(TASK), *to_computing(NEXT), *to_computing(LAST))
    await until(lambda: runner.in_flight["slot"] == 3)

    await runner.put(told(f.abort(NEXT)))
    workshop.let_go(TASK)

    await until(lambda: compute(LAST) in workshop.asked)
    assert compute(NEXT) not in workshop.asked
    async with asyncio.timeout(20):
        while [one.task_id for one in await store.pending() if one.kind == "Compute"] != [LAST]:
            pass  # the others are done with when that is recorded
    await runner.abort()


async def test_compute_that_pauses_frees_its_slot_when_its_task_is_over() -> None:
    """It was tried and may have left something behind: its outcome is told, and the folder purged again."""
    store = MemoryStore()
    workshop = Workshop(fails=compute(TASK))
    runner = running(store, workshop, slots=1, pause=3_600.0)
    await runner.start()
    await runner.put(*to_computing(TASK), *to_computing(NEXT))
    await until(lambda: compute(TASK) in workshop.asked)

    await runner.put(told(f.abort(TASK)))

    await until(lambda: compute(NEXT) in workshop.asked)
    await until(lambda: workshop.asked.count(deeds.Purge(task_id=TASK)) == 2)
    await until(lambda: TASK not in runner.state.by_task)
    await runner.abort()


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
