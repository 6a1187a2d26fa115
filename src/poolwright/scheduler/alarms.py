"""When to wake up for what: one moment for each key, and the keys of the first moment at once.

Chain time counts whole seconds and a bag's tasks share their deadlines, so keys are kept by moment, and only
the moments stand in a heap. Setting a key anew leaves nothing behind but, at times, a moment without keys.
"""

from __future__ import annotations

import heapq
from typing import Final, Generic, TypeVar

from poolwright.poco.types import Timestamp

Key = TypeVar("Key", bound=bytes)

SPARE_MOMENTS: Final = 64
"""Moments without keys beyond as many as have some; when there are more, they are thrown away."""


class Alarms(Generic[Key]):
    """One moment for each key."""

    __slots__ = ("_keys_at", "_moments", "at")

    def __init__(self) -> None:
        self.at: dict[Key, Timestamp] = {}
        """The moment of each key. To be changed by `set` only."""
        self._keys_at: dict[Timestamp, set[Key]] = {}
        self._moments: list[Timestamp] = []

    def __len__(self) -> int:
        """Moments that are kept."""
        return len(self._moments)

    def set(self, key: Key, moment: Timestamp | None) -> None:
        """Ring for the key at this moment and at no other; None: not at all."""
        before = self.at.get(key)
        if before == moment:
            return
        if before is not None:
            keys = self._keys_at[before]
            keys.discard(key)
            if not keys:
                del self._keys_at[before]
        if moment is None:
            del self.at[key]
            return
        self.at[key] = moment
        keys_then = self._keys_at.get(moment)
        if keys_then is not None:
            keys_then.add(key)
            return
        self._keys_at[moment] = {key}
        heapq.heappush(self._moments, moment)
        if len(self._moments) > 2 * len(self._keys_at) + SPARE_MOMENTS:
            self._moments = sorted(self._keys_at)

    def first(self) -> Timestamp | None:
        """The first moment."""
        while self._moments and self._moments[0] not in self._keys_at:
            heapq.heappop(self._moments)
        return self._moments[0] if self._moments else None

    def take_first(self) -> list[Key]:
        """The keys of the first moment in their order; they are set no more."""
        moment = self.first()
        if moment is None:
            return []
        keys = self._keys_at.pop(moment)
        for key in keys:
            del self.at[key]
        return sorted(keys)
