"""News of the market, for whoever listens: server-sent events and Socket.IO are two doors to this.

Every piece of news has a number. The last ones are kept, so a listener that was away for a moment goes on
where it stopped; one that was away for too long, or reads too slowly, is told to read the market again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

KEPT: Final = 10_000
SLOW_AFTER: Final = 5_000
"""Pieces of news that may wait for one listener."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One piece of news; `text` is JSON."""

    number: int
    chain_id: int
    topic: str
    """`orders` or `deals`."""
    name: str
    """Such as `workerpoolorder_published` (reference 4.10)."""
    text: str


class Missed(Exception):
    """Some news are gone for this listener; what it knows must be read anew."""


class Feed:
    """The news of all chains of this market."""

    def __init__(self, *, first: int = 1) -> None:
        """Number the news from `first` on; a clock's milliseconds keep numbers growing over restarts."""
        self._next = first
        self._kept: deque[Piece] = deque(maxlen=KEPT)
        self._listeners: set[asyncio.Queue[Piece | None]] = set()
        self.hooks: list[Callable[[Piece], None]] = []
        """Called with each piece, in the loop that tells it."""

    @property
    def listeners(self) -> int:
        return len(self._listeners)

    def tell(self, chain_id: int, topic: str, name: str, text: str) -> None:
        """Tell everybody."""
        piece = Piece(number=self._next, chain_id=chain_id, topic=topic, name=name, text=text)
        self._next += 1
        self._kept.append(piece)
        for listener in list(self._listeners):
            if listener.qsize() >= SLOW_AFTER:
                self._listeners.discard(listener)
                listener.put_nowait(None)
            else:
                listener.put_nowait(piece)
        for hook in self.hooks:
            hook(piece)

    def close(self) -> None:
        """End all listening."""
        for listener in self._listeners:
            listener.put_nowait(None)
        self._listeners.clear()

    async def listen(self, chain_id: int, topics: frozenset[str], after: int | None) -> AsyncIterator[Piece]:
        """The news of a chain as they come, after number `after` if it is given. Raises Missed."""
        queue: asyncio.Queue[Piece | None] = asyncio.Queue()
        kept = [] if after is None else [piece for piece in self._kept if piece.number > after]
        oldest = self._kept[0].number if self._kept else self._next
        if after is not None and not oldest - 1 <= after < self._next:
            raise Missed
        self._listeners.add(queue)
        try:
            for piece in kept:
                if piece.chain_id == chain_id and piece.topic in topics:
                    yield piece
            while True:
                news = await queue.get()
                if news is None:
                    raise Missed
                if news.chain_id == chain_id and news.topic in topics:
                    yield news
        finally:
            self._listeners.discard(queue)
