"""Chain time for the runner: the time of the newest confirmed block."""

from __future__ import annotations

import asyncio

from poolwright.chain.heads import Heads
from poolwright.poco.errors import PoolwrightError
from poolwright.poco.types import Timestamp


class HeadsClock:
    """The runner's clock. It never runs ahead of the chain: a deadline has passed when a block says so.

    The contract compares deadlines with the time of the block that a transaction gets into; acting before a
    block has reached the deadline would only be refused.
    """

    def __init__(self, heads: Heads) -> None:
        self._heads = heads

    def now(self) -> Timestamp:
        head = self._heads.current
        return head.timestamp if head else Timestamp(0)

    async def wait_until(self, at: Timestamp) -> None:
        """Return when a block's time has reached `at`. When the heads have ended, time stands still."""
        number: int | None = None
        while self.now() < at:
            try:
                head = await self._heads.beyond(number)
            except PoolwrightError:  # a reorg or the end: told by whoever follows the chain
                await asyncio.Event().wait()
            else:
                number = head.number
