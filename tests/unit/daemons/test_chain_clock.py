"""The scheduler's clock goes with the logs that it has been told, not with the head."""

from __future__ import annotations

import asyncio

from poolwright.daemons.chain_clock import LogsClock
from poolwright.poco.types import Timestamp


async def test_time_stands_where_the_logs_have_been_told_up_to() -> None:
    clock = LogsClock(Timestamp(100))
    waiting = asyncio.create_task(clock.wait_until(Timestamp(110)))
    await clock.advance(Timestamp(109))
    assert (clock.now(), waiting.done()) == (109, False)
    await clock.advance(Timestamp(112))
    await waiting
    assert clock.now() == 112


async def test_time_does_not_go_back() -> None:
    clock = LogsClock(Timestamp(100))
    await clock.advance(Timestamp(90))
    assert clock.now() == 100
