"""One chain's changes in this process: decided here in turns, or read from the other processes.

    ask(wish)     what wants to change the book waits here; all that wait are decided in one turn
    wake()        others may have changed something: read on

Only the clerk changes the replica, in one task, so what this process answers and tells has one order. A turn:
lock the chain, make the steps that others made since, decide each wish on the book, store everything, let go,
then answer and tell the news. A wish that is refused changes nothing.

When the database fails in the middle, the book may be ahead of the tables, so it is loaded anew, and wishes
that shared a turn are tried one by one. A process that fell behind what the tables keep loads it anew too.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Generic, TypeVar

import structlog

from poolwright.market.feed import Feed, Piece
from poolwright.market.replica import Replica, news_of
from poolwright.market.rows import ChangeRow, Commit
from poolwright.market.steps import News, Step, read_change, read_news, write_change
from poolwright.market.storage import MOST_AT_ONCE, Storage, StorageFailed
from poolwright.market.together import moment_for_more
from poolwright.market.turns import Deposed, Turn
from poolwright.poco.errors import PoolwrightError
from poolwright.poco.types import BlockStamp, OrderHash

log: structlog.stdlib.BoundLogger = structlog.get_logger()

T = TypeVar("T")
MOST_IN_TURN: Final = 500
"""Wishes that are decided in one turn."""


class Decision:
    """A turn as those see it who decide in it: the newest book, and the steps that are made on it."""

    def __init__(self, replica: Replica, turn: Turn, commit: Commit) -> None:
        self.replica: Final = replica
        self.known: Final = turn.known
        """Stored orders among those that the wishes of this turn named."""
        self.commit: Final = commit
        self.told: Final[list[tuple[ChangeRow, list[News]]]] = []

    def make(self, step: Step, *, news: Sequence[News] = ()) -> None:
        """Make a step, with news beside those of the orders that change."""
        changes = self.replica.make(step)
        told = [*news_of(changes), *news]
        row = write_change(step, told, self.replica.number)
        self.replica.number = row.number
        self.replica.add_rows(step, changes, self.commit)
        self.commit.changes.append(row)
        self.told.append((row, told))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish(Generic[T]):
    """What somebody wants to change.

    `decide` runs in the turn, in the loop; it raises before its first step or makes its steps. `look` runs
    before it, in the turn's thread, and its result is handed on. With a `term` it is the leader's wish.
    """

    decide: Callable[[Decision, Any], T]
    names: tuple[OrderHash, ...] = ()
    term: int | None = None
    look: Callable[[Turn], Any] | None = None
    answer: asyncio.Future[T] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Behind(Exception):
    """The changes that come next are not kept any more."""


class Clerk:
    """The one who changes a chain's replica."""

    def __init__(
        self, chain_id: int, storage: Storage, feed: Feed, *, checks_invariants: bool = False
    ) -> None:
        self.replica: Final = Replica(checks_invariants=checks_invariants)
        self.cursor: BlockStamp | None = None
        """How far the chain is taken and stored; in a turn the replica's is ahead of it."""
        self.trouble: StorageFailed | None = None
        """Why the changes of others cannot be read at the moment."""
        self._chain_id = chain_id
        self._storage = storage
        self._feed = feed
        self._checks = checks_invariants
        self._wishes: list[Wish[Any]] = []
        self._last = 0
        """Wishes of the last turn."""
        self._is_woken = False
        self._is_lost = False
        """The book may be ahead of the tables or is behind what they keep."""
        self._aio_task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"market-{chain_id}")

    async def start(self) -> None:
        """Fill the book from storage. Raises StorageFailed."""
        await self._load()

    async def ask(self, wish: Wish[T]) -> T:
        """Have a wish decided; returns when it is stored. Raises its refusal, StorageFailed, Deposed."""
        self._wishes.append(wish)
        self._serve_soon()
        return await wish.answer

    def wake(self, number: int | None = None) -> None:
        """Others have come to this number, or may have changed anything."""
        if number is None or number > self.replica.number:
            self._is_woken = True
            self._serve_soon()

    async def close(self) -> None:
        """Decide what waits and end."""
        if self._aio_task is not None:
            await asyncio.gather(self._aio_task, return_exceptions=True)
        self._thread.shutdown()

    # --- the loop -------------------------------------------------------------------------------------------

    def _serve_soon(self) -> None:
        if self._aio_task is None or self._aio_task.done():
            self._aio_task = asyncio.create_task(self._serve(), name="clerk")

    async def _serve(self) -> None:
        while self._wishes or self._is_woken:
            await asyncio.sleep(moment_for_more(self._last))  # whoever wishes now travels along
            self._is_woken = False
            wishes, self._wishes = self._wishes[:MOST_IN_TURN], self._wishes[MOST_IN_TURN:]
            self._last = len(wishes)
            await self._attend(wishes)

    async def _attend(self, wishes: list[Wish[Any]]) -> None:
        """Catch up and decide; whatever goes wrong, those who wished hear of it."""
        try:
            if self._is_lost:
                await self._load()
            await self._follow()
            if wishes and not await self._decide(wishes):
                await self._decide_each(wishes)
            self.trouble = None
        except StorageFailed as failure:
            if self.trouble is None:
                log.warning("the database does not answer", chain=self._chain_id, reason=str(failure))
            self.trouble = failure
            _refuse(wishes, failure)
        except Exception as problem:  # a bug of ours: nobody may wait for ever
            log.exception("the clerk failed", chain=self._chain_id)
            self._is_lost = True
            _refuse(wishes, problem)

    async def _decide_each(self, wishes: Sequence[Wish[Any]]) -> None:
        """One wish that cannot be stored must not spoil those that shared its turn."""
        for wish in wishes:
            if self._is_lost:
                await self._load()
            try:
                await self._decide([wish])
            except StorageFailed as failure:
                _refuse([wish], failure)

    async def _run(self, work: Callable[[], T]) -> T:
        """Do what blocks in this chain's thread, to its end even when nobody waits for it any more."""
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, work))

    # --- what others changed --------------------------------------------------------------------------------

    async def _load(self) -> None:
        def load() -> tuple[Replica, int, list[Piece]]:
            with _without_collector():
                snapshot = self._storage.snapshot(self._chain_id)
                replica, changes = Replica.loaded(snapshot, checks_invariants=self._checks)
            if changes:
                log.warning("stored orders were not settled", chain=self._chain_id, orders=len(changes))
            first = snapshot.changes[0].first if snapshot.changes else snapshot.number + 1
            pieces = [each for row in snapshot.changes for each in self._pieces(row, read_news(row))]
            return replica, first - 1, pieces

        replica, after, pieces = await self._run(load)
        self.replica.take(replica)
        self.cursor = replica.cursor
        self._is_lost = False
        self._feed.begin(self._chain_id, after=after, upto=replica.number, pieces=pieces)

    async def _follow(self) -> None:
        """Make the steps that others made, as far as can be seen without a lock."""
        while self._storage.is_shared:
            rows = await self._run(partial(self._storage.changes, self._chain_id, self.replica.number))
            await self._repeat(rows)
            if len(rows) < MOST_AT_ONCE:
                return

    async def _repeat(self, rows: Iterable[ChangeRow]) -> None:
        """Make these steps; when they do not follow the last one, load the book anew."""
        try:
            for row in rows:
                if row.number <= self.replica.number:
                    continue
                if row.first != self.replica.number + 1:
                    raise Behind
                step, news = read_change(row)
                self.replica.make(step)
                self.replica.number = row.number
                self._tell(row, news)
        except Behind:
            log.warning("fell behind, loading the book", chain=self._chain_id, number=self.replica.number)
            await self._load()

    # --- what is decided here -------------------------------------------------------------------------------

    async def _decide(self, wishes: Sequence[Wish[Any]]) -> bool:
        """One turn; False when nothing of it could be stored and its wishes are better tried one by one."""
        names = [name for wish in wishes for name in wish.names]
        after = self.replica.number

        def begin() -> tuple[Turn, list[Any]]:
            turn = Turn.begin(self._storage, self._chain_id, after=after, names=names)
            try:
                return turn, [wish.look(turn) if wish.look is not None else None for wish in wishes]
            except BaseException:
                turn.abandon()
                raise

        turn, seen = await self._run(begin)
        commit = Commit(chain_id=self._chain_id)
        try:
            await self._repeat(turn.changes)
            if self.replica.number < turn.number:
                raise StorageFailed("changes of the market are missing", code="storage-failed")
            decision = Decision(self.replica, turn, commit)
            outcomes = [_outcome(wish, decision, each, turn) for wish, each in zip(wishes, seen, strict=True)]
        except BaseException:
            self._is_lost = True
            await self._run(turn.abandon)
            raise
        if not commit.changes:
            await self._run(turn.abandon)
        else:
            self._is_lost = True  # until it is stored
            try:
                await self._run(lambda: turn.write(commit))
            except StorageFailed as failure:
                if len(wishes) > 1 and failure.code == "storage-failed":
                    return False
                raise
            self._is_lost = False
        for row, news in decision.told:
            self._tell(row, news)
        for wish, (result, refusal) in zip(wishes, outcomes, strict=True):
            if wish.answer.done():  # nobody waits any more
                continue
            if refusal is None:
                wish.answer.set_result(result)
            else:
                wish.answer.set_exception(refusal)
        return True

    def _tell(self, row: ChangeRow, news: Sequence[News]) -> None:
        """Let everybody see a change that is stored."""
        self.cursor = self.replica.cursor
        self._feed.tell(self._chain_id, row.number, self._pieces(row, news))

    def _pieces(self, row: ChangeRow, news: Sequence[News]) -> list[Piece]:
        return [
            Piece(
                number=row.first + place,
                chain_id=self._chain_id,
                topic=each.topic,
                name=each.name,
                text=each.text,
            )
            for place, each in enumerate(news)
        ]


@contextmanager
def _without_collector() -> Iterator[None]:
    """Of a book that is being filled nothing is garbage; the collector of cycles would look through it again
    and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _outcome(
    wish: Wish[Any], decision: Decision, seen: Any, turn: Turn
) -> tuple[Any, PoolwrightError | None]:
    if wish.answer.done():
        return None, None
    if wish.term is not None and wish.term != turn.term:
        return None, Deposed(f"term {wish.term} of the chain's leader is over", got=f"term {turn.term}")
    try:
        return wish.decide(decision, seen), None
    except PoolwrightError as refusal:
        return None, refusal


def _refuse(wishes: Sequence[Wish[Any]], problem: Exception) -> None:
    for wish in wishes:
        if not wish.answer.done():
            wish.answer.set_exception(problem)
