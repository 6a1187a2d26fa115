"""Workers that talk nonsense: turned away before the log, counted, explained; nobody else notices."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from pair import Pairs, SchedulerSide, WorkerSide, pairs, until
from stranger import KEY, logged_in, raw_session, receive, send

from factories import connected, deal_matched, deal_terms, hash32, initialized, task_of
from poolwright.chain.wallet import Wallet
from poolwright.daemons.sessions import LOGS_COST, SessionBounds
from poolwright.poco.types import TaskId, WorkerAddress
from poolwright.scheduler.screening import Reason
from poolwright.wire import codec
from poolwright.wire.messages import Confirm, Refused, Reported
from poolwright.wire.statuses import ReplicateStatus as S
from poolwright.wire.task_logs import ComputeLogs
from poolwright.worker.attempt import Stage

DEAL = deal_terms()
TASK = task_of(DEAL)
LIAR = WorkerAddress(Wallet(KEY).address)
HONEST_KEY = b"\x05" * 32
NOBODYS = TaskId(hash32("no task of anybody"))


@pytest.fixture
async def sides() -> AsyncIterator[Pairs]:
    async with pairs() as made:
        yield made


async def give(scheduler: SchedulerSide, name: str = "deal") -> TaskId:
    """A new deal with one task that the chain knows."""
    deal = deal_terms(name)
    await scheduler.runner.put(deal_matched(deal), initialized(task_of(deal)))
    return task_of(deal)


async def until_contributed(worker: WorkerSide, task_id: TaskId) -> None:
    def has() -> bool:
        attempt = worker.runner.state.by_task.get(task_id)
        return attempt is not None and attempt.stage is Stage.CONTRIBUTED and not len(worker.mailbox)

    await until(has)


def turned_away(scheduler: SchedulerSide) -> dict[str, int]:
    """What was turned away, but for the reports that honest workers send as well."""
    found = scheduler.sessions.turned_away
    return {reason: n for reason, n in found.items() if n and reason != Reason.CHAIN_DECIDES}


@pytest.mark.parametrize(
    ("reports", "reason"),
    [
        ([(NOBODYS, S.RUNNING)], Reason.UNKNOWN_TASK),
        ([(TASK, S.RUNNING)], Reason.NOT_ASSIGNED),
        ([(TASK, S.COMPLETED), (TASK, S.FAILED), (TASK, S.OUT_OF_GAS)], Reason.NOT_ASSIGNED),
    ],
    ids=["no such task", "another worker's task", "another worker's task, ended for it"],
)
async def test_reports_about_what_is_not_theirs_leave_no_trace_and_the_others_go_on(
    sides: Pairs, reports: list[tuple[TaskId, S]], reason: Reason
) -> None:
    scheduler = await sides.scheduler()
    honest = await sides.worker(scheduler, key=HONEST_KEY)
    await until(lambda: scheduler.runner.state.workers)
    task_id = await give(scheduler, "deal 0") if reports[0][0] == NOBODYS else await give_task(scheduler)
    liar = await raw_session(scheduler, sides.http)
    await until_contributed(honest, task_id)
    before = await scheduler.store.last_event_id()

    for number, (about, status) in enumerate(reports, 1):
        await send(liar, Reported(sequence=number, task_id=about, status=status))
        assert await receive(liar) == Confirm(upto=number)  # else an honest worker would send it for ever

    assert turned_away(scheduler) == {reason: len(reports)}
    assert await scheduler.store.last_event_id() == before
    await until_contributed(honest, await give(scheduler, "one more"))


async def give_task(scheduler: SchedulerSide) -> TaskId:
    await scheduler.runner.put(deal_matched(DEAL), initialized(TASK))
    return TASK


async def test_impossible_and_repeated_moves_leave_no_trace(sides: Pairs) -> None:
    scheduler = await sides.scheduler()
    liar = await raw_session(scheduler, sides.http, slots=1)
    await give_task(scheduler)
    await receive(liar)  # it is told to start
    await send(liar, Reported(sequence=1, task_id=TASK, status=S.RUNNING))
    assert await receive(liar) == Confirm(upto=1)
    before = await scheduler.store.last_event_id()

    for number, status in enumerate((S.RUNNING, S.CONTRIBUTING, S.COMPLETED, S.CREATED), 2):
        await send(liar, Reported(sequence=number, task_id=TASK, status=status))
        assert await receive(liar) == Confirm(upto=number)
    await send(liar, Reported(sequence=1, task_id=TASK, status=S.APP_DOWNLOADING))  # a number of long ago
    assert await receive(liar) == Confirm(upto=5)

    replicate = scheduler.runner.state.tasks[TASK].replicate_of(LIAR)
    assert replicate is not None
    assert [stage.status for stage in replicate.life] == [S.CREATED, S.RUNNING]
    assert turned_away(scheduler) == {Reason.IMPOSSIBLE_MOVE: 4}
    assert await scheduler.store.last_event_id() == before


async def test_what_was_turned_away_is_not_asked_for_again(sides: Pairs) -> None:
    """It is not in the store; a connection that always breaks at the same message must come past it."""
    scheduler = await sides.scheduler()
    socket = await raw_session(scheduler, sides.http)
    await send(socket, Reported(sequence=7, task_id=NOBODYS, status=S.RUNNING))
    assert await receive(socket) == Confirm(upto=7)
    await socket.close()

    again = await raw_session(scheduler, sides.http)
    await send(again, Reported(sequence=7, task_id=NOBODYS, status=S.RUNNING))

    assert await receive(again) == Confirm(upto=7)
    assert turned_away(scheduler) == {Reason.UNKNOWN_TASK: 1}


async def test_worker_that_keeps_talking_nonsense_is_told_why_and_not_listened_to(sides: Pairs) -> None:
    scheduler = await sides.scheduler(bounds=SessionBounds(refusal_burst=20))
    honest = await sides.worker(scheduler, key=HONEST_KEY)
    liar = await raw_session(scheduler, sides.http)
    before = await scheduler.store.last_event_id()

    said = 0
    while not isinstance(answer := await nonsense(liar, said := said + 1), Refused):
        assert said < 1_000

    assert answer.code == "too-many-refusals"
    assert "is not one that this pool keeps" in answer.message
    assert scheduler.sessions.refused["too-many-refusals"] == 1
    assert turned_away(scheduler) == {Reason.UNKNOWN_TASK: said}
    assert await scheduler.store.last_event_id() == before
    await until_contributed(honest, await give(scheduler))


async def nonsense(socket: object, number: int) -> object:
    await send(socket, Reported(sequence=number, task_id=NOBODYS, status=S.RUNNING))  # type: ignore[arg-type]  # any socket
    return await receive(socket)  # type: ignore[arg-type]  # any socket


async def test_worker_that_connects_again_and_again_is_stopped_before_the_log(sides: Pairs) -> None:
    scheduler = await sides.scheduler(bounds=SessionBounds(connection_burst=3, connections_per_second=0.0001))
    for _ in range(3):
        await (await raw_session(scheduler, sides.http)).close()

    token = await logged_in(scheduler, sides.http)
    headers = {"Authorization": f"Bearer {token}"}
    async with sides.http.ws_connect(f"{scheduler.url}/workers/connect", headers=headers) as socket:
        refusal = await receive(socket)

    assert isinstance(refusal, Refused)
    assert refusal.code == "too-many-connections"
    assert (await scheduler.told())["WorkerConnected"] == 3


async def test_pool_that_knows_as_many_workers_as_it_can_takes_no_new_one(sides: Pairs) -> None:
    scheduler = await sides.scheduler(bounds=SessionBounds(known=1))
    first = await sides.worker(scheduler, key=HONEST_KEY)
    await until(lambda: first.link.is_connected)

    token = await logged_in(scheduler, sides.http)
    headers = {"Authorization": f"Bearer {token}"}
    async with sides.http.ws_connect(f"{scheduler.url}/workers/connect", headers=headers) as socket:
        refusal = await receive(socket)

    assert isinstance(refusal, Refused)
    assert refusal.code == "too-many-workers"
    assert set(scheduler.runner.state.workers) == {first.address}


async def test_logs_are_taken_from_who_computes_the_task_and_at_a_bounded_rate(sides: Pairs) -> None:
    scheduler = await sides.scheduler(bounds=SessionBounds(burst=3 * LOGS_COST, per_second=0.001))
    await scheduler.runner.put(connected(LIAR), deal_matched(DEAL), initialized(TASK))
    token = await logged_in(scheduler, sides.http)
    headers = {"Authorization": f"Bearer {token}"}
    body = codec.encode(ComputeLogs(stdout="out", stderr=""))

    async def post(task_id: TaskId) -> int:
        url = f"{scheduler.url}/tasks/{task_id}/logs"
        async with sides.http.post(url, data=body, headers=headers) as answer:
            await answer.read()
            return answer.status

    assert await post(NOBODYS) == 404
    assert [await post(TASK) for _ in range(5)] == [204, 204, 204, 429, 429]


async def test_of_workers_that_come_and_go_no_more_is_kept_than_the_bound(sides: Pairs) -> None:
    scheduler = await sides.scheduler(bounds=SessionBounds(known=2))
    await scheduler.runner.put(deal_matched(DEAL), initialized(TASK))

    for number in range(10):
        assert scheduler.sessions.may_send_logs(WorkerAddress(Wallet(bytes([number + 1]) * 32).address))

    assert scheduler.sessions.remembered <= 2
