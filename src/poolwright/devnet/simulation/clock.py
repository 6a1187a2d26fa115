"""Virtual time. What is due at one moment happens in the order in which it was asked for."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final

Action = Callable[[], None]
SECOND: Final = 1000
"""The clock counts milliseconds, in whole numbers: the same on every machine."""


class Clock:
    """A heap of what is due; `now` is in milliseconds since the simulation began."""

    def __init__(self) -> None:
        self.now = 0
        self.actions = 0
        """Carried out so far."""
        self._queue: list[tuple[int, int, Action]] = []
        self._asked = 0

    def at(self, when: int, action: Action) -> None:
        """Do it at `when`, or at once when that is past."""
        self._asked += 1
        heapq.heappush(self._queue, (max(when, self.now), self._asked, action))

    def after(self, milliseconds: int, action: Action) -> None:
        self.at(self.now + milliseconds, action)

    def step(self) -> bool:
        """Do what is due next; False when nothing ever is."""
        if not self._queue:
            return False
        self.now, _, action = heapq.heappop(self._queue)
        self.actions += 1
        action()
        return True
