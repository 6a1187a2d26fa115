"""Whether a scheduler does its work, for whoever watches it from outside: GET /health.

It does not when no node answers, when the chain moves on and its logs are not taken, or when the store takes
nothing. Each trouble is a sentence; without any the answer is 200, else 503.
"""

from __future__ import annotations

import time
from typing import Final

from poolwright.poco.types import BlockStamp

FOLLOW_SECONDS: Final = 60.0
"""Logs of a chain that has moved on are taken within this time, or something is wrong; a batch of a first
reading takes a fraction of it."""


class ChainProgress:
    """How far the chain's logs have been taken, and since when they have not moved."""

    def __init__(self, followed: BlockStamp | None) -> None:
        self.followed = followed
        self._moved_at = time.monotonic()

    def took(self, upto: BlockStamp) -> None:
        """All logs up to this block are durable."""
        self.followed = upto
        self._moved_at = time.monotonic()

    def trouble(self, head: BlockStamp | None, now: float) -> str | None:
        """What is wrong at this moment of a monotonic clock; None while the logs keep up with the head."""
        at = -1 if self.followed is None else self.followed.number
        waited = now - self._moved_at
        if head is None or head.number <= at or waited <= FOLLOW_SECONDS:
            return None
        return f"logs of block {at + 1} are not taken for {waited:.0f} s, the chain is at {head.number}"
