"""Ordered messages that survive everything: what one side of a connection keeps until the other confirms it.

A mailbox is a view of one lane of the outbox. The runner posts to it what it has committed; whoever holds the
connection reads from it, first what the other side has not received, then what is new; a confirmation marks
everything up to a number as done. Between any two of these a connection may break and a process may die.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

from poolwright.store.port import Commit, EffectId, Store

Letter = TypeVar("Letter")


class Mailbox(Generic[Letter]):
    """Letters of one lane, in the order of their numbers. A new reader replaces the one before."""

    def __init__(self, store: Store, lane: str) -> None:
        self._store = store
        self._lane = lane
        self._letters: deque[tuple[EffectId, Letter]] = deque()
        self._posted_at: dict[EffectId, float] = {}
        self._changed = asyncio.Event()
        self._reader = 0

    def __len__(self) -> int:
        return len(self._letters)

    def post(self, number: EffectId, letter: Letter) -> None:
        """Add a committed letter; numbers ascend."""
        self._letters.append((number, letter))
        self._posted_at[number] = time.monotonic()
        self._changed.set()

    def first_sent(self, number: EffectId) -> float | None:
        """Seconds from a letter's posting to now, when it is sent for the first time; None after that."""
        posted_at = self._posted_at.pop(number, None)
        return None if posted_at is None else time.monotonic() - posted_at

    async def confirm(self, upto: int) -> None:
        """The other side has everything up to this number: forget it, durably.

        A number beyond the last letter confirms the letters there are.
        """
        through: EffectId | None = None
        while self._letters and self._letters[0][0] <= upto:
            through, _ = self._letters.popleft()
            self._posted_at.pop(through, None)
        if through is not None:
            await self._store.commit(Commit(done_through={self._lane: through}))

    async def letters(self) -> AsyncIterator[tuple[EffectId, Letter]]:
        """Every letter that is not confirmed, then each new one, until another reader comes."""
        self._reader += 1
        me, sent = self._reader, 0
        self._changed.set()
        while me == self._reader:
            self._changed.clear()
            for number, letter in [entry for entry in self._letters if entry[0] > sent]:
                if me != self._reader:
                    return
                yield number, letter
                sent = number
            await self._changed.wait()
        self._changed.set()


class Mailboxes(Generic[Letter]):
    """One mailbox per lane, made when it is first needed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._by_lane: dict[str, Mailbox[Letter]] = {}

    def of(self, lane: str) -> Mailbox[Letter]:
        if lane not in self._by_lane:
            self._by_lane[lane] = Mailbox(self._store, lane)
        return self._by_lane[lane]
