"""What an app printed, from the worker's engine to the requester's eyes, and to nobody else's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from pair import CHAIN_ID, Pairs, SchedulerSide, pairs, until

from factories import deal_matched, deal_terms, initialized, task_of
from poolwright.poco.signatures import address_of_key, sign_digest
from poolwright.poco.types import Hash32
from poolwright.wire.task_logs import ComputeLogs, challenge_digest

REQUESTER_KEY = b"\x09" * 32
REQUESTER = address_of_key(REQUESTER_KEY)
DEAL = replace(deal_terms(), requester=REQUESTER)
TASK = task_of(DEAL)


@pytest.fixture
async def sides() -> AsyncIterator[Pairs]:
    async with pairs() as made:
        yield made


async def authorization(sides: Pairs, scheduler: SchedulerSide, key: bytes = REQUESTER_KEY) -> str:
    reader = address_of_key(key)
    async with sides.http.get(f"{scheduler.url}/tasks/logs/challenge?address={reader}") as answer:
        typed = await answer.json()
    digest = challenge_digest(CHAIN_ID, typed["message"]["challenge"])
    return f"{digest}_0x{sign_digest(key, digest).hex()}_{reader}"


async def read(
    sides: Pairs, scheduler: SchedulerSide, header: str, task: Hash32 = TASK
) -> tuple[int, dict[str, Any]]:
    async with sides.http.get(
        f"{scheduler.url}/tasks/{task}/logs", headers={"Authorization": header}
    ) as answer:
        return answer.status, await answer.json()


async def test_requester_reads_what_the_app_printed(sides: Pairs) -> None:
    scheduler = await sides.scheduler()
    worker = await sides.worker(scheduler)
    await scheduler.runner.put(deal_matched(DEAL), initialized(TASK))
    await until(lambda: scheduler.runner.state.tasks[TASK].replicates)
    header = await authorization(sides, scheduler)
    status, body = await read(sides, scheduler, header)
    assert (status, body["code"]) == (404, "not-found")
    worker.logs.put_nowait((TASK, ComputeLogs(stdout="painted\n", stderr="")))
    await until(worker.logs.empty)
    async with asyncio.timeout(10):
        while (await read(sides, scheduler, header))[0] == 404:
            pass
    status, body = await read(sides, scheduler, header)
    assert status == 200
    [logs] = body["computeLogsList"]
    assert (logs["walletAddress"], logs["stdout"]) == (str(worker.wallet.address), "painted\n")


async def test_nobody_else_reads_them(sides: Pairs) -> None:
    scheduler = await sides.scheduler()
    await scheduler.runner.put(deal_matched(DEAL), initialized(TASK))
    stranger = await authorization(sides, scheduler, b"\x0a" * 32)
    assert (await read(sides, scheduler, stranger))[0] == 403
    assert (await read(sides, scheduler, "no such token"))[0] == 401


async def test_only_a_worker_of_the_task_brings_logs(sides: Pairs) -> None:
    scheduler = await sides.scheduler()
    await scheduler.runner.put(deal_matched(DEAL), initialized(TASK))
    async with sides.http.post(f"{scheduler.url}/tasks/{TASK}/logs", data=b"{}") as answer:
        assert answer.status == 401
    worker = await sides.worker(scheduler, slots=0)
    await until(lambda: worker.link.is_connected)
    worker.logs.put_nowait((TASK, ComputeLogs(stdout="not mine", stderr="")))
    await until(worker.logs.empty)
    header = await authorization(sides, scheduler)
    assert (await read(sides, scheduler, header))[0] == 404
