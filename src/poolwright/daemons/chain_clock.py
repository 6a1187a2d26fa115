"""Chain time for a runner: of the newest block, or of the newest block whose logs it has been told."""

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


class LogsClock:
    """The clock of a runner that is fed with the chain's logs: it stands where the logs have been told up to.

    After a restart the logs are behind the head for a while. A deadline that was acted on by the head's time
    would come before the facts that met it: winners that revealed in time would be told that they are late.
    """

    def __init__(self, start: Timestamp) -> None:
        self._now = start
        self._moved = asyncio.Condition()

    def now(self) -> Timestamp:
        return self._now

    async def advance(self, to: Timestamp) -> None:
        """All logs up to a block of this time have been told."""
        async with self._moved:
            self._now = max(self._now, to)
            self._moved.notify_all()

    async def wait_until(self, at: Timestamp) -> None:
        """Return when logs up to this time have been told."""
        async with self._moved:
            await self._moved.wait_for(lambda: self._now >= at)
