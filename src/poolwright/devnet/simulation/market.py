"""The market's process: the daemon's own watcher, rewinds and publications over a chain and tables in memory.

Real are `market.watch`, `market.rewind`, `market.chain_market`, `market.replica` and the book. Of the clerk a
turn is played: it takes a moment, decides on the newest book and writes all or nothing; the process may die
just before and just after. What a process that starts reads from the tables must be the book that it had.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar, cast

from poolwright.chain.heads import ChainReorganised
from poolwright.chain.logs import LogBatch
from poolwright.chain.rpc import Rpc
from poolwright.devnet.simulation.aio import VirtualLoop
from poolwright.devnet.simulation.chain import GENESIS, Chain, Node
from poolwright.devnet.simulation.clock import SECOND, Clock
from poolwright.devnet.simulation.faults import Chance
from poolwright.devnet.simulation.market_tables import MarketTables
from poolwright.devnet.simulation.rpc import ChainRpc
from poolwright.devnet.simulation.story import Story
from poolwright.market.chain_market import ChainMarket, Registries
from poolwright.market.clerk import Clerk, Decision, Wish
from poolwright.market.config import ChainSettings
from poolwright.market.reading import NewestReads
from poolwright.market.replica import Replica
from poolwright.market.rewind import rewind
from poolwright.market.rows import Commit
from poolwright.market.storage import Storage
from poolwright.market.turns import Turn
from poolwright.market.watch import Watcher
from poolwright.orderbook.book import Book
from poolwright.poco.errors import InvariantBroken, PoolwrightError
from poolwright.poco.types import Address, BlockNumber, BlockStamp, OrderHash

T = TypeVar("T")
CHAIN_ID: Final = 1337
TERM: Final = 1
"""One process leads, for ever: processes that share a market are `tests/adapters/market`'s."""


class MarketProcess:
    """The market of the chain. `observer` is told of each commit and, with None, of a new life."""

    def __init__(
        self,
        *,
        chain: Chain,
        node: Node,
        clock: Clock,
        chance: Chance,
        story: Story,
        contracts: frozenset[Address],
        confirmations: int,
        observer: Callable[[Commit | None], None],
    ) -> None:
        self.tables: Final = MarketTables()
        self.node = node
        self.chance = chance
        self.name = "market"
        self.is_up = False
        self.restarts = 0
        self.rewinds = 0
        self.observer = observer
        self._chain = chain
        self._clock = clock
        self._story = story
        self._contracts = contracts
        self._confirmations = confirmations
        self._lost: object = None
        """The book that died, unless it died in the middle of a turn."""
        self._begin_life()

    @property
    def book(self) -> Book:
        """As it is now; that of a process that died, until it starts again."""
        return self.clerk.replica.book

    @property
    def cursor(self) -> BlockStamp | None:
        """Up to where the chain is taken."""
        return self.tables.cursor

    @property
    def is_level(self) -> bool:
        """Whether it runs and has taken all that it believes of the chain."""
        cursor = self.cursor
        behind = len(self._chain.blocks) - self._confirmations - (0 if cursor is None else cursor.number)
        return self.is_up and behind <= 4 and not self._is_off_chain()

    # --- life -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Fill the book from the tables and go on. Raises InvariantBroken when it is another one."""
        if self.is_up:
            return
        self._begin_life()
        if self._lost is not None and facts(self.clerk.replica) != self._lost:
            raise InvariantBroken("market: what was restored is not what was accepted")
        self.is_up = True
        self._story.note(self.name, "starts", None)
        self.observer(None)
        self._loop.watch(self._follow())

    def crash(self) -> None:
        """Lose everything but the tables."""
        if not self.is_up:
            return
        self.is_up = False
        self.restarts += 1
        self._loop.close()
        self._lost = facts(self.clerk.replica) if self.clerk.is_whole else None
        self._story.note(self.name, "dies", None)

    def _begin_life(self) -> None:
        replica, changes = Replica.loaded(self.tables.snapshot())
        if changes:
            raise InvariantBroken(f"market: {len(changes)} orders are not settled as they were stored")
        poco = self._chain.poco
        self._loop = VirtualLoop(self._clock)
        self.clerk = ClerkTwin(self, replica)
        self._rpc = cast("Rpc", ChainRpc(self._chain, self.node, self.chance, self._contracts))
        self._market = ChainMarket(
            ChainSettings(
                name="simulated",
                chain_id=CHAIN_ID,
                hub=poco.hub,
                node_urls=(),
                confirmations=self._confirmations,
            ),
            domain=poco.domain,
            registries=Registries(
                app=poco.apps.address, dataset=poco.datasets.address, workerpool=poco.workerpools.address
            ),
            reads=NewestReads(self._rpc),
            storage=cast("Storage", self.tables),
            clerk=cast("Clerk", self.clerk),
            max_open_orders=50,
            clock=lambda: GENESIS + self._clock.now / SECOND,
        )
        self._watcher = Watcher(self._market, self._rpc)

    # --- the chain ------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Take what the chain has confirmed, batch by batch; go back when it was reorganised."""
        while True:
            if self._is_off_chain():
                await self._go_back()
            cursor, blocks = self.cursor, self._chain.blocks
            done = 0 if cursor is None else cursor.number
            upto = len(blocks) - self._confirmations
            if upto <= done or self.node.is_down:
                for _ in range(self.chance.of("market's pace").randint(1, 4)):
                    await self._loop.moment(self._chain.next_block)
                continue
            most = self.chance.of("market's batches").randint(1, 20)
            upto = min(upto, done + most) if done else 1  # a first block that both branches have
            logs = tuple(log for block in blocks[done:upto] for log in block.logs)
            await self._watcher.take(LogBatch(upto=self._chain.stamp(upto), logs=logs), TERM)
            await self._market.expire(TERM)

    def _is_off_chain(self) -> bool:
        cursor = self.cursor
        return cursor is not None and self._chain.stamp(cursor.number).hash != cursor.hash

    async def _go_back(self) -> None:
        cursor = self.cursor
        assert cursor is not None
        lost = ChainReorganised(cursor, "another one", what="block")
        try:
            await rewind(self._market, self._rpc, TERM, lost)
        except ChainReorganised:
            raise
        except PoolwrightError:  # the node has a bad day: the daemon starts its watcher again
            await asyncio.sleep(1)
        else:
            self.rewinds += 1
            self._story.note(self.name, "goes back", None)

    # --- those who publish ----------------------------------------------------------------------------------

    def request(
        self,
        work: Callable[[ChainMarket], Coroutine[Any, Any, T]],
        answered: Callable[[PoolwrightError | None], None],
    ) -> None:
        """Carry out somebody's request; who dies meanwhile answers nothing."""

        async def serve() -> None:
            try:
                await work(self._market)
            except PoolwrightError as refusal:
                answered(refusal)
            else:
                answered(None)

        self._loop.watch(serve())


class ClerkTwin:
    """`market.clerk.Clerk` in one process: every wish has a turn of its own."""

    def __init__(self, process: MarketProcess, replica: Replica) -> None:
        self.replica: Final = replica
        self.cursor = replica.cursor
        self.is_whole = True
        """Whether the book is what the tables say."""
        self._process = process

    async def ask(self, wish: Wish[T]) -> T:
        """As `Clerk.ask`."""
        process, tables = self._process, self._process.tables
        await asyncio.sleep(process.chance.of("turns").randint(1, 20) / SECOND)
        turn = cast("Turn", _TurnTwin(tables, wish))
        seen = None if wish.look is None else wish.look(turn)
        commit = Commit(chain_id=CHAIN_ID)
        decision = Decision(self.replica, turn, commit)
        self.is_whole = False
        try:
            result = wish.decide(decision, seen)
        except PoolwrightError:  # who refuses does it before the first step
            self.is_whole = True
            raise
        if commit.changes:
            await self._may_die()
            tables.write(commit)
        self.is_whole = True
        self.cursor = self.replica.cursor
        if commit.changes:
            process.observer(commit)
            await self._may_die()
        return result

    async def _may_die(self) -> None:
        if self._process.chance.hits("crashes_at_commits"):
            self._process.crash()
            await asyncio.get_running_loop().create_future()


class _TurnTwin:
    """`market.turns.Turn`, as those see it who decide in it."""

    def __init__(self, tables: MarketTables, wish: Wish[Any]) -> None:
        self.known = tables.known(CHAIN_ID, wish.names)
        self.term = TERM
        self._tables = tables

    def stale(self, above: BlockNumber) -> object:
        return self._tables.stale(above)


def facts(replica: Replica) -> object:
    """All that a book knows, in no order."""
    book = replica.book
    orders: dict[OrderHash, object] = {
        each.hash: (each.remaining, each.blocks, each.published, each.expires) for each in book.listings()
    }
    wallets = {each.signer: book.stake(each.signer) for each in book.listings()}
    owners = {each.terms.resource: book.owner(each.terms.resource) for each in book.listings()}
    return orders, wallets, owners, replica.cursor, replica.number
