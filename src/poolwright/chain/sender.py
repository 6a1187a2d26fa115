"""Sends one wallet's transactions: each key once, in order, through crashes, drops and price changes.

The life of a transaction:

    submit(key) ─► estimate ─► nonce, sign ─► journal ─► broadcast ─► receipt in a confirmed block
                      │                          ▲           │
                 TxReverted, OutOfGas            │           ├─ dropped: the same bytes again
                 (nothing was sent)              │           ├─ not mined in time: journal and send the same
                                                 │           │  nonce at a better price, up to the cap
                                                 └───────────┴─ its nonce was used by somebody else: new nonce

- The journal comes before the broadcast.  A key that is in the journal is never signed as a second
  transaction beside the first: a new nonce is taken only when a confirmed block shows that another
  transaction has the old one, which makes the old bytes worthless for good.
- Many transactions are in flight at once; the writer takes all that wait, signs, journals and broadcasts them
  together.  The watcher looks at all receipts in one batch whenever there is a new head.
- The sender owns the wallet's nonces.  Others may use the wallet too; that costs time, not correctness.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from types import TracebackType
from typing import Final, Self

from poolwright.chain.budget import FeeBudget, OverBudget, Priority
from poolwright.chain.flight import Flight, TxRequest
from poolwright.chain.gas import GasPolicy
from poolwright.chain.heads import Heads
from poolwright.chain.journal import MemoryTxJournal, TxJournal, TxPhase, TxRecord
from poolwright.chain.outcomes import JournalFailed, OutOfGas, Receipt, TxReverted, receipt_of
from poolwright.chain.rpc import Rpc
from poolwright.chain.tx_rules import Patience
from poolwright.chain.wallet import Wallet
from poolwright.chain.watcher import Watcher
from poolwright.chain.writer import Writer
from poolwright.poco.errors import InvariantBroken, PoolwrightError, Unavailable

__all__ = [
    "JournalFailed",
    "MemoryTxJournal",
    "OutOfGas",
    "OverBudget",
    "Patience",
    "Priority",
    "Receipt",
    "TxJournal",
    "TxPhase",
    "TxRecord",
    "TxRequest",
    "TxReverted",
    "TxSender",
]

log = logging.getLogger(__name__)


class TxSender:
    """Sends the transactions of one wallet.

    Args:
        rpc: the node.
        wallet: signs, and owns the nonces.
        chain_id: of the chain; checked against the journal.
        journal: where transactions are written down first, of this wallet and chain only.
        gas: the operator's price rule.
        heads: tells new confirmed blocks; a receipt counts at its confirmations.
        patience: when an unmined transaction is sent again or replaced.
        budget: what may be spent on fees; no limits if none is given.
        max_in_flight: more submits wait; nodes keep only so many transactions of one wallet.
        look_seconds: receipts are looked at that often when no head comes.
    """

    def __init__(
        self,
        rpc: Rpc,
        wallet: Wallet,
        chain_id: int,
        journal: TxJournal,
        gas: GasPolicy,
        *,
        heads: Heads,
        patience: Patience | None = None,
        budget: FeeBudget | None = None,
        max_in_flight: int = 256,
        look_seconds: float = 2.0,
    ) -> None:
        self.address: Final = wallet.address
        self._heads = heads
        self.budget: Final = budget or FeeBudget()
        self._flight = Flight(rpc, wallet, chain_id, journal, gas, heads, self.budget)
        self._writer = Writer(self._flight, look_seconds)
        self._watcher = Watcher(self._flight, patience or Patience(), look_seconds)
        self._look_seconds = look_seconds
        self._slots = asyncio.Semaphore(max_in_flight)
        self._start_lock = asyncio.Lock()
        self._jobs: dict[str, asyncio.Task[TxRecord]] = {}
        self._failure: PoolwrightError | None = None
        self._aio_tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def in_flight(self) -> tuple[TxRecord, ...]:
        """The journaled transactions that are not confirmed yet, in nonce order. For health pages."""
        entries = self._flight.entries
        return tuple(entries[nonce].record for nonce in sorted(entries))

    @property
    def price_trouble(self) -> str:
        """Why transactions wait for cheaper gas; empty when none does. For health pages."""
        return self._flight.price_trouble

    async def block_gas_limit(self) -> int:
        """Gas that fits the newest block. Raises RpcError, PeerError, Unavailable."""
        return (await self._flight.network.look(self._flight.height)).block_gas_limit

    async def start(self) -> None:
        """Take up what the journal holds, once there is a head; called by the first `submit` too.

        Raises InputError when the journal is of another wallet or chain, Unavailable when the node goes
        away meanwhile.
        """
        async with self._start_lock:
            if self._aio_tasks or self._failure is not None:
                return
            await self._heads.beyond(None)
            await self._flight.load()
            self._aio_tasks = [
                asyncio.create_task(self._guard(self._writer.run()), name="sender-writer"),
                asyncio.create_task(self._guard(self._watcher.run()), name="sender-watcher"),
            ]

    async def close(self) -> None:
        """Stop; what is in flight stays in the journal for the next sender."""
        self._fail(Unavailable("the transaction sender was closed", code="sender-closed"))
        tasks: list[asyncio.Task[None] | asyncio.Task[TxRecord]] = [*self._aio_tasks, *self._jobs.values()]
        self._aio_tasks = []
        for aio_task in tasks:
            aio_task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def submit(self, request: TxRequest) -> Receipt:
        """Send a transaction and wait for its receipt in a confirmed block.

        A key that was submitted before, by this process or an earlier one, is not sent again: its
        transaction is waited for, and its old outcome is the answer; what else the request says does not
        count then.  Cancelling the wait does not take the transaction back.

        Raises TxReverted; OutOfGas, OverBudget, RpcError or Unavailable while nothing was sent;
        JournalFailed, ChainReorganised or Unavailable (`sender-closed`) when the sender ends meanwhile.
        After all but TxReverted the same key can be submitted again.
        """
        await self.start()
        self._check()
        job = self._jobs.get(request.key)
        if job is None:
            job = asyncio.create_task(self._carry(request), name=f"tx {request.key}")
            self._jobs[request.key] = job
            job.add_done_callback(lambda done: self._forget(request.key, done))
        try:
            record = await asyncio.shield(job)
        except asyncio.CancelledError:
            if job.cancelled():
                self._check()
            raise
        return receipt_of(record)

    def _forget(self, key: str, job: asyncio.Task[TxRecord]) -> None:
        self._jobs.pop(key, None)
        if not job.cancelled():
            job.exception()  # somebody may have given up waiting; then nobody else asks for it

    async def _carry(self, request: TxRequest) -> TxRecord:
        """See one key through, from wherever the journal says it is."""
        while (record := await self._flight.journaled(request.key)) is not None:
            self._flight.check_owner(record)
            if record.phase is not TxPhase.PENDING:
                return record
            entry = self._flight.entries.get(record.nonce)
            if entry is not None and entry.record.key == request.key:
                return await asyncio.shield(entry.done)
            await asyncio.sleep(self._look_seconds)  # it moved while we read; read again
        async with self._slots:
            return await asyncio.shield(self._writer.take(request))

    async def _guard(self, work: Coroutine[None, None, None]) -> None:
        """Run a loop; whatever ends it ends all waits with that error."""
        try:
            await work
        except PoolwrightError as problem:
            log.error("the transaction sender stops: %s", problem)
            self._fail(problem)
        except Exception as problem:  # a bug of ours must not leave anybody waiting for ever
            log.exception("the transaction sender stops")
            self._fail(InvariantBroken(f"the transaction sender broke: {problem!r}"))

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure.with_traceback(None)  # one error for all who wait

    def _fail(self, problem: PoolwrightError) -> None:
        if self._failure is not None:
            return
        self._failure = problem
        self._writer.end(problem)
        for entry in self._flight.entries.values():
            if not entry.done.done():
                entry.done.set_exception(problem)
                entry.done.exception()  # restored transactions have no caller yet
        for aio_task in self._aio_tasks:
            if aio_task is not asyncio.current_task():
                aio_task.cancel()
