"""A worker whose scheduler is away for long: it keeps trying, ever more slowly, and says so once."""

from __future__ import annotations

import asyncio

import aiohttp
from pair import WorkerSide
from structlog.testing import capture_logs

from poolwright.chain.rpc import LONGEST_WAIT_SECONDS
from poolwright.daemons.scheduler_link import MAX_PAUSE_SECONDS
from poolwright.devnet.anvil import free_port
from poolwright.store.memory import MemoryStore

TRIES = 60


async def test_schedulers_that_are_away_cost_one_line_each_and_growing_pauses() -> None:
    """Known of the existing worker: thousands of lines an hour (worker#182, #117)."""
    pauses: list[float] = []
    has_tried_enough = asyncio.Event()

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == TRIES:
            has_tried_enough.set()
            await asyncio.Event().wait()

    urls = [f"http://127.0.0.1:{free_port()}" for _ in range(2)]
    async with aiohttp.ClientSession() as http:
        worker = WorkerSide(MemoryStore(), *urls, http=http, pause=pause)
        with capture_logs() as lines:
            await worker.start()
            async with asyncio.timeout(60):
                await has_tried_enough.wait()
        await worker.stop()

    said = [line for line in lines if line["event"] == "scheduler does not answer"]
    assert sorted(line["url"] for line in said) == sorted(urls)
    assert min(pauses[TRIES // 2 :]) >= min(LONGEST_WAIT_SECONDS / 2, MAX_PAUSE_SECONDS)
    assert max(pauses) <= MAX_PAUSE_SECONDS
