"""News of the market, for whoever listens: server-sent events and Socket.IO are two doors to this.

Every piece of a chain's news has a number, the same in every process of the market and after every restart
(`turns`). The last ones are kept, so a listener that was away for a moment goes on where it stopped, at
whichever process; one that was away for too long, or reads too slowly, is told to read the market again.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

KEPT: Final = 10_000
"""Pieces of each chain."""
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


@dataclass(slots=True)
class _OfChain:
    oldest: int = 0
    """After this number everything is kept."""
    newest: int = 0
    kept: deque[Piece] = field(default_factory=deque)
    listeners: set[asyncio.Queue[Piece | None]] = field(default_factory=set)


class Feed:
    """The news of all chains of this market, as this process has heard them."""

    def __init__(self) -> None:
        self._chains: defaultdict[int, _OfChain] = defaultdict(_OfChain)
        self.hooks: list[Callable[[Piece], None]] = []
        """Called with each piece, in the loop that tells it."""

    @property
    def listeners(self) -> int:
        return sum(len(chain.listeners) for chain in self._chains.values())

    def begin(self, chain_id: int, *, after: int, upto: int, pieces: Iterable[Piece]) -> None:
        """Take these kept pieces, all that there are of the numbers after `after` and up to `upto`.

        Who listens already hears what is new to him, or that he has missed something.
        """
        chain = self._chains[chain_id]
        if after <= chain.newest <= upto:
            self.tell(chain_id, upto, [piece for piece in pieces if piece.number > chain.newest])
            return
        self._end(chain)
        chain.oldest, chain.newest = after, upto
        chain.kept.clear()
        chain.kept.extend(pieces)
        self._forget(chain)

    def tell(self, chain_id: int, upto: int, pieces: Iterable[Piece]) -> None:
        """Tell everybody; nothing else is told up to number `upto`."""
        chain = self._chains[chain_id]
        for piece in pieces:
            chain.kept.append(piece)
            for listener in list(chain.listeners):
                if listener.qsize() >= SLOW_AFTER:
                    chain.listeners.discard(listener)
                    listener.put_nowait(None)
                else:
                    listener.put_nowait(piece)
            for hook in self.hooks:
                hook(piece)
        chain.newest = upto
        self._forget(chain)

    def close(self) -> None:
        """End all listening."""
        for chain in self._chains.values():
            self._end(chain)

    async def listen(self, chain_id: int, topics: frozenset[str], after: int | None) -> AsyncIterator[Piece]:
        """The news of a chain as they come, after number `after` if it is given. Raises Missed.

        A number that was not told here yet is another process's, which was faster.
        """
        chain = self._chains[chain_id]
        queue: asyncio.Queue[Piece | None] = asyncio.Queue()
        kept = [] if after is None else [piece for piece in chain.kept if piece.number > after]
        if after is not None and not chain.oldest <= after <= chain.newest + KEPT:
            raise Missed
        chain.listeners.add(queue)
        try:
            for piece in kept:
                if piece.topic in topics:
                    yield piece
            while True:
                news = await queue.get()
                if news is None:
                    raise Missed
                if news.topic in topics and (after is None or news.number > after):
                    yield news
        finally:
            chain.listeners.discard(queue)

    def _forget(self, chain: _OfChain) -> None:
        while len(chain.kept) > KEPT:
            chain.oldest = chain.kept.popleft().number

    def _end(self, chain: _OfChain) -> None:
        for listener in chain.listeners:
            listener.put_nowait(None)
        chain.listeners.clear()
