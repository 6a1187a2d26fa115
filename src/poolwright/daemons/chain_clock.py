"""Chain time for the runner: the time of the newest confirmed block."""

from __future__ import annotations

from poolwright.chain.heads import Heads
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
        """Return when a block's time has reached `at`."""
        number: int | None = None
        while self.now() < at:
            head = await self._heads.beyond(number)
            number = head.number
