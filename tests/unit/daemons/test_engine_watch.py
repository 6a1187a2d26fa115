"""An engine that goes away and comes back, watched by its worker: said once each way, and waited for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from factories import address
from poolwright.compute.fake import FakeEngine, FakeHost
from poolwright.compute.port import EngineFacts, EngineUnavailable
from poolwright.daemons.engine_watch import EngineWatch
from poolwright.daemons.lanes import Retries

AWAY = "container engine is away; what needs it waits"
ANSWERS = "container engine answers"
QUICK = Retries(first_pause=0.01, longest_pause=0.01)


@asynccontextmanager
async def watched(
    host: FakeHost, on_answer: Callable[[], Awaitable[None]] | None = None
) -> AsyncIterator[tuple[FakeEngine, EngineWatch]]:
    """An engine whose watch has looked once and goes on looking."""

    async def nothing() -> None:
        pass

    engine = FakeEngine(host, worker=address("worker"), network="test")
    watch = EngineWatch(engine, on_answer or nothing, looks=QUICK)
    await watch.look()
    looking = asyncio.create_task(watch.watch())
    try:
        async with asyncio.timeout(20):
            yield engine, watch
    finally:
        looking.cancel()
        await asyncio.wait({looking})


def said(lines: list[Any]) -> list[str]:
    return [line["event"] for line in lines]


async def test_calls_wait_for_an_engine_that_is_away_and_it_is_said_once_each_way() -> None:
    host = FakeHost(apps={})
    with capture_logs() as lines:
        async with watched(host) as (engine, watch):
            host.go_down()
            calls = [
                asyncio.create_task(watch.patiently(engine.ping, is_wanted=lambda: True)) for _ in range(5)
            ]
            while watch.is_up:  # noqa: ASYNC110  # it is the watch that is asked
                await asyncio.sleep(0)
            assert watch.trouble is not None
            assert not any(call.done() for call in calls)

            host.come_back()
            found = await asyncio.gather(*calls)

    assert [type(each) for each in found] == [EngineFacts] * 5
    assert watch.trouble is None
    assert said(lines) == [ANSWERS, AWAY, ANSWERS]
    assert lines[1]["log_level"] == "warning"
    assert "start it" in lines[1]["reason"]


async def test_worker_that_starts_without_its_engine_says_so_once_and_goes_on_with_it() -> None:
    host = FakeHost(apps={}, is_up=False)
    with capture_logs() as lines:
        async with watched(host) as (_, watch):
            assert not await watch.look()
            assert not await watch.look()
            host.come_back()
            await watch.answered()

    assert said(lines) == [AWAY, ANSWERS]


async def test_what_is_left_over_is_swept_whenever_the_engine_is_back() -> None:
    host, sweeps = FakeHost(apps={}), []

    async def sweep() -> None:
        sweeps.append(host.is_up)

    async with watched(host, sweep) as (_, watch):
        await watch.look()
        host.go_down()
        await watch.look()
        host.come_back()
        await watch.look()

    assert sweeps == [True, True]


async def test_engine_that_goes_again_during_the_sweep_is_away_still() -> None:
    host = FakeHost(apps={}, is_up=False)
    engine = FakeEngine(host, worker=address("worker"), network="test")

    async def sweep() -> None:
        host.go_down()
        await engine.sweep([])

    watch = EngineWatch(engine, sweep)
    host.come_back()

    assert not await watch.look()
    assert watch.trouble


async def test_engine_that_answers_and_cannot_do_it_is_not_waited_for() -> None:
    async def refused() -> None:
        raise EngineUnavailable("no space left on the engine's disk")

    async with watched(FakeHost(apps={})) as (_, watch):
        with pytest.raises(EngineUnavailable, match="no space left"):
            await watch.patiently(refused, is_wanted=lambda: True)
        assert watch.is_up


async def test_call_that_is_wanted_no_more_waits_no_more() -> None:
    host = FakeHost(apps={}, is_up=False)
    async with watched(host) as (engine, watch):
        with pytest.raises(EngineUnavailable, match="cannot reach"):
            await watch.patiently(engine.ping, is_wanted=lambda: False)
