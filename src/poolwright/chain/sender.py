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
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Final, Self

from poolwright.chain import reverts, tx_rules
from poolwright.chain.blocks import LATEST, PENDING, at_block, fetch_headers
from poolwright.chain.encoding import Json, hex_data, quantity, read_quantity
from poolwright.chain.gas import Fees, GasPolicy
from poolwright.chain.heads import Heads
from poolwright.chain.journal import MemoryTxJournal, TxJournal, TxPhase, TxRecord
from poolwright.chain.network import NetworkLook, NetworkWatch
from poolwright.chain.outcomes import (
    FoundReceipt,
    JournalFailed,
    OutOfGas,
    Receipt,
    TxReverted,
    executed,
    read_receipt,
    receipt_of,
)
from poolwright.chain.rpc import Request, Rpc, RpcError
from poolwright.chain.tx_rules import Afford, Move, Patience
from poolwright.chain.wallet import Transaction, Wallet
from poolwright.poco.errors import InputError, InvariantBroken, PeerError, PoolwrightError, Unavailable
from poolwright.poco.types import Address, BlockNumber, BlockStamp, Hash32, TxHash, Wei

__all__ = [
    "MemoryTxJournal",
    "OutOfGas",
    "Patience",
    "Receipt",
    "TxJournal",
    "TxPhase",
    "TxRecord",
    "TxRequest",
    "TxReverted",
    "TxSender",
]

log = logging.getLogger(__name__)

WRITE_TOGETHER: Final = 50
"""How many waiting transactions are estimated, journaled and broadcast together at most."""
LOOK_TOGETHER: Final = 64
"""How many receipts are asked for at once, in nonce order, until one is missing."""
FILLER_KEY: Final = "nonce-gap:"
NO_VALUE: Final = Wei(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TxRequest:
    """A transaction to be sent once; `to=None` creates a contract, `gas_limit=None` is estimated."""

    key: str
    to: Address | None
    data: bytes
    value: Wei = NO_VALUE
    gas_limit: int | None = None


@dataclass(slots=True, kw_only=True)
class _Waiting:
    """A request on its way to a nonce."""

    request: TxRequest
    done: asyncio.Future[TxRecord]


@dataclass(slots=True, kw_only=True)
class _InFlight:
    """A journaled transaction until its receipt is confirmed."""

    record: TxRecord
    done: asyncio.Future[TxRecord]
    sent_block: int
    sent_at: float
    is_mined: bool = False
    """There is a receipt, not confirmed yet."""
    is_refused: bool = False
    """The node did not take it at the last broadcast."""
    misses: int = 0
    """How often running its nonce was used and no receipt was there."""


@dataclass(slots=True)
class _Gap:
    """A nonce that nobody uses, and since when."""

    since_block: int
    since: float = field(default=0.0)


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
        max_in_flight: int = 256,
        look_seconds: float = 2.0,
    ) -> None:
        self.address: Final = wallet.address
        self._rpc = rpc
        self._wallet = wallet
        self._chain_id = chain_id
        self._journal = journal
        self._gas = gas
        self._heads = heads
        self._patience = patience or Patience()
        self._look_seconds = look_seconds
        self._slots = asyncio.Semaphore(max_in_flight)
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._nonce_lock = asyncio.Lock()
        self._start_lock = asyncio.Lock()
        self._next_nonce = 0
        self._mined_count = 0
        self._in_flight: dict[int, _InFlight] = {}
        self._gaps: dict[int, _Gap] = {}
        self._jobs: dict[str, asyncio.Task[TxRecord]] = {}
        self._settled = asyncio.Event()
        self._network = NetworkWatch(rpc, wallet.address)
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
        return tuple(self._in_flight[nonce].record for nonce in sorted(self._in_flight))

    async def start(self) -> None:
        """Take up what the journal holds: broadcast it again and watch for its receipts.

        Called by the first `submit` too.  Raises InputError when the journal is of another wallet or
        chain, Unavailable when no node answers.
        """
        async with self._start_lock:
            if self._aio_tasks or self._failure is not None:
                return
            records = await self._journal.pending()
            for record in records:
                self._check_owner(record)
            head = await self._heads.beyond(None)
            await self._count_nonces({record.nonce for record in records})
            for record in sorted(records, key=lambda one: one.nonce):
                self._watch(record, _future(), head.number)
            await self._broadcast(
                [self._in_flight[nonce] for nonce in sorted(self._in_flight) if nonce >= self._mined_count]
            )
            self._aio_tasks = [
                asyncio.create_task(self._guard(self._write()), name="sender-writer"),
                asyncio.create_task(self._guard(self._look()), name="sender-watcher"),
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
        transaction is waited for, and its old outcome is the answer.  Cancelling the wait does not take the
        transaction back.

        Raises TxReverted, OutOfGas (nothing was sent), RpcError or Unavailable while nothing was sent;
        ChainReorganised or Unavailable (`sender-closed`) when the sender ends meanwhile: the key can be
        submitted again.
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
        while (record := await self._journal.get(request.key)) is not None:
            self._check_owner(record)
            if record.phase is not TxPhase.PENDING:
                return record
            entry = self._in_flight.get(record.nonce)
            if entry is not None and entry.record.key == request.key:
                return await asyncio.shield(entry.done)
            await asyncio.sleep(self._look_seconds)  # it moved while we read; read again
        async with self._slots:
            self._check()
            waiting = _Waiting(request=request, done=_future())
            self._queue.put_nowait(waiting)
            return await asyncio.shield(waiting.done)

    def _check_owner(self, record: TxRecord) -> None:
        if (record.sender, record.chain_id) != (self.address, self._chain_id):
            raise InputError(
                f"the journal's transaction {record.key} is of another wallet or chain",
                code="wrong-journal",
                expected=f"{self.address} on chain {self._chain_id}",
                got=f"{record.sender} on chain {record.chain_id}",
                next_step="use the journal of this wallet and chain",
            )

    async def _count_nonces(self, journaled: set[int]) -> None:
        answers = await self._rpc.batch([self._count_request(LATEST), self._count_request(PENDING)])
        self._mined_count = read_quantity(answers[0], "transaction count")
        pending_count = max(read_quantity(answers[1], "transaction count"), self._mined_count)
        self._next_nonce = tx_rules.first_nonce(pending_count=pending_count, journaled=journaled)

    def _count_request(self, block: str) -> Request:
        return "eth_getTransactionCount", [str(self.address), block]

    async def _guard(self, work: Coroutine[None, None, None]) -> None:
        """Run a loop; whatever ends it ends all waits with that error."""
        try:
            await work
        except PoolwrightError as problem:
            log.error("the transaction sender stops: %s", problem)
            self._fail(problem)
        except Exception as problem:
            log.exception("the transaction sender stops")
            self._fail(InvariantBroken(f"the transaction sender broke: {problem!r}"))

    async def _store(self, *records: TxRecord) -> None:
        """Write records down. Raises JournalFailed, which ends the sender: what is on disk is not known."""
        try:
            await self._journal.put(*records)
        except Exception as problem:
            raise JournalFailed(problem) from problem

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure.with_traceback(None)  # one error for all who wait

    def _fail(self, problem: PoolwrightError) -> None:
        if self._failure is None:
            self._failure = problem
        waits = [entry.done for entry in self._in_flight.values()]
        while not self._queue.empty():
            waits.append(self._queue.get_nowait().done)
        for done in waits:
            if not done.done():
                done.set_exception(self._failure)
                done.exception()  # restored transactions have no caller yet
        for aio_task in self._aio_tasks:
            if aio_task is not asyncio.current_task():
                aio_task.cancel()

    # --- the writer: from a request to a broadcast ----------------------------------------------------------

    async def _write(self) -> None:
        while True:
            together = [await self._queue.get()]
            while len(together) < WRITE_TOGETHER and not self._queue.empty():
                together.append(self._queue.get_nowait())
            try:
                await self._write_together(together)
            except (Unavailable, RpcError, PeerError) as problem:  # before the journal: nothing was sent
                _refuse(together, problem)
            except BaseException as problem:
                _refuse(together, self._failure or problem)
                raise

    async def _write_together(self, together: Sequence[_Waiting]) -> None:
        """Estimate, check the purse, then sign, journal and broadcast what may go."""
        network = await self._network.look(self._height)
        limits = await self._estimate(together, network)
        entries: list[_InFlight] = []
        later: list[_Waiting] = []
        for waiting, limit in zip(together, limits, strict=True):
            if waiting.done.done():
                continue  # refused by the estimate
            entry = self._entry(waiting, self._gas.fees(network.price), limit)
            match self._can_afford(entry, entries, network.balance):
                case Afford.YES:
                    entries.append(entry)
                case Afford.LATER:
                    later.append(waiting)
                case Afford.NO:
                    problem = OutOfGas(network.balance, entry.record.cost, wallet=self.address)
                    waiting.done.set_exception(problem)
                    self._network.forget()  # the operator may fill the purse any moment
        if entries:
            await self._send_new(entries)
        for waiting in later:
            self._queue.put_nowait(waiting)
        if later and not entries:
            await self._next_settlement()

    def _can_afford(self, entry: _InFlight, before: Sequence[_InFlight], balance: Wei) -> Afford:
        in_flight = sum(one.record.cost for one in (*self._in_flight.values(), *before))
        return tx_rules.can_afford(balance=balance, cost=entry.record.cost, in_flight=Wei(in_flight))

    async def _send_new(self, entries: Sequence[_InFlight]) -> None:
        """Give nonces; journal, then broadcast."""
        async with self._nonce_lock:
            signed = [
                replace(entry, record=self._sign(entry.record, self._next_nonce + place))
                for place, entry in enumerate(entries)
            ]
            await self._store(*(entry.record for entry in signed))
            self._next_nonce += len(signed)
            for entry in signed:
                self._in_flight[entry.record.nonce] = entry
        await self._broadcast(signed)

    async def _next_settlement(self) -> None:
        """Wait until something in flight was confirmed, or for a look's time."""
        self._settled.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._look_seconds):
                await self._settled.wait()
        self._network.forget()

    def _entry(self, waiting: _Waiting, fees: Fees, limit: int) -> _InFlight:
        """An entry still without nonce and signature."""
        request = waiting.request
        record = TxRecord(
            key=request.key,
            sender=self.address,
            chain_id=self._chain_id,
            nonce=0,
            to=request.to,
            data=request.data,
            value=request.value,
            gas_limit=limit,
            max_fee=fees.max_fee,
            tip=fees.tip,
            raw=b"",
            tx_hash=TxHash(Hash32.zero()),
        )
        return _InFlight(record=record, done=waiting.done, sent_block=self._height, sent_at=_now())

    def _sign(self, record: TxRecord, nonce: int) -> TxRecord:
        signed = self._wallet.sign_transaction(
            Transaction(
                chain_id=self._chain_id,
                nonce=nonce,
                to=record.to,
                data=record.data,
                value=record.value,
                gas_limit=record.gas_limit,
                fees=record.fees,
            )
        )
        return replace(record, nonce=nonce, raw=signed.raw, tx_hash=signed.tx_hash)

    async def _estimate(self, together: Sequence[_Waiting], network: NetworkLook) -> list[int]:
        """A gas limit for each request; those that revert are refused, with 0 in their place."""
        unknown = [waiting for waiting in together if waiting.request.gas_limit is None]
        requests: list[Request] = [
            ("eth_estimateGas", [self._call_object(waiting.request), LATEST]) for waiting in unknown
        ]
        if requests:
            requests.append(("eth_blockNumber", []))
        outcomes = await self._rpc.batch_outcomes(requests)
        limits: dict[str, int] = {}
        for waiting, outcome in zip(unknown, outcomes, strict=False):
            if isinstance(outcome, RpcError):
                self._refuse_estimate(waiting, outcome, outcomes[-1], network)
            else:
                estimate = read_quantity(outcome, "gas estimate")
                limits[waiting.request.key] = tx_rules.gas_limit(estimate, network.block_gas_limit)
        return [waiting.request.gas_limit or limits.get(waiting.request.key, 0) for waiting in together]

    def _refuse_estimate(
        self, waiting: _Waiting, refusal: RpcError, height: Json | RpcError, network: NetworkLook
    ) -> None:
        if not isinstance(height, RpcError) and read_quantity(height, "block number") < self._height:
            waiting.done.set_exception(
                Unavailable(
                    f"the node is behind and refuses transaction {waiting.request.key}",
                    code="node-behind",
                    expected=f"a node at block {self._height}",
                    got=f"block {height}",
                    next_step="submit again in a moment",
                )
            )
            return
        reason = reverts.revert_reason(refusal)
        if reverts.is_out_of_gas_money(refusal):
            waiting.done.set_exception(
                OutOfGas(network.balance, Wei(waiting.request.value + 1), wallet=self.address)
            )
        elif reason is not None:
            waiting.done.set_exception(TxReverted(reason, key=waiting.request.key))
        else:
            waiting.done.set_exception(refusal)

    def _call_object(self, request: TxRequest | TxRecord) -> dict[str, Json]:
        call: dict[str, Json] = {
            "from": str(self.address),
            "data": hex_data(request.data),
            "value": quantity(request.value),
        }
        return call if request.to is None else call | {"to": str(request.to)}

    async def _broadcast(self, entries: Sequence[_InFlight]) -> None:
        """Hand raw transactions to the node. What it refuses stays in flight and is decided on later."""
        if not entries:
            return
        try:
            outcomes = await self._rpc.batch_outcomes(
                [("eth_sendRawTransaction", [hex_data(entry.record.raw)]) for entry in entries]
            )
        except Unavailable as problem:
            log.warning("%d transactions wait for the node: %s", len(entries), problem)
            for entry in entries:
                entry.is_refused = True
            return
        for entry, outcome in zip(entries, outcomes, strict=True):
            entry.sent_block, entry.sent_at = self._height, _now()
            entry.is_refused = isinstance(outcome, RpcError) and not reverts.is_already_known(outcome)
            if isinstance(outcome, RpcError) and entry.is_refused and not reverts.is_nonce_used(outcome):
                log.warning("node refuses transaction %s: %s", entry.record.key, outcome)

    # --- the watcher: from a broadcast to a receipt ---------------------------------------------------------

    @property
    def _height(self) -> int:
        head = self._heads.current
        return head.number if head is not None else 0

    async def _look(self) -> None:
        """At every new head, and every `look_seconds` without one: receipts, then what is overdue."""
        number: int | None = None
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._look_seconds):
                    number = (await self._heads.beyond(number)).number
            head = self._heads.current
            if head is None or not self._in_flight:
                continue
            try:
                await self._settle(head)
                await self._move_overdue(head)
                await self._fill_gaps(head)
            except (Unavailable, RpcError, PeerError) as problem:
                log.warning("cannot look at %d transactions: %s", len(self._in_flight), problem)

    async def _settle(self, head: BlockStamp) -> None:
        """Find the receipts of what was mined up to the confirmed head."""
        nonces = sorted(self._in_flight)
        for start in range(0, len(nonces), LOOK_TOGETHER):
            together = [self._in_flight[nonce] for nonce in nonces[start : start + LOOK_TOGETHER]]
            hashes = [(entry, tx_hash) for entry in together for tx_hash in entry.record.versions]
            answers = await self._rpc.batch(
                [
                    self._count_request(LATEST),
                    *(("eth_getTransactionReceipt", [str(tx_hash)]) for _, tx_hash in hashes),
                ]
            )
            self._mined_count = read_quantity(answers[0], "transaction count")
            found = {
                entry.record.nonce: read_receipt(answer)
                for (entry, _), answer in zip(hashes, answers[1:], strict=True)
                if answer is not None
            }
            await self._take_receipts(found, head)
            missing = [entry for entry in together if entry.record.nonce not in found]
            await self._question_missing(missing, head)
            if missing:
                return

    async def _take_receipts(self, found: dict[int, FoundReceipt], head: BlockStamp) -> None:
        for nonce in found:
            self._in_flight[nonce].is_mined = True
        confirmed = {nonce: one for nonce, one in found.items() if one.block_number <= head.number}
        numbers = sorted({one.block_number for one in confirmed.values()})
        stamps = {
            header.number: header.stamp
            for header in await fetch_headers(self._rpc, numbers)
            if header is not None
        }
        done: list[TxRecord] = []
        for nonce, one in confirmed.items():
            stamp = stamps.get(one.block_number)
            if stamp is None or stamp.hash != one.block_hash:
                continue  # a node that lags, or another branch: look again
            record = executed(self._in_flight[nonce].record, one, stamp)
            if record.phase is TxPhase.REVERTED:
                record = replace(record, reason=await self._revert_reason(record, stamp))
            done.append(record)
        await self._finish(done)

    async def _finish(self, records: Sequence[TxRecord]) -> None:
        if not records:
            return
        await self._store(*records)
        for record in records:
            entry = self._in_flight.pop(record.nonce)
            if not entry.done.done():
                entry.done.set_result(record)
        self._network.forget()
        self._settled.set()

    async def _revert_reason(self, record: TxRecord, block: BlockStamp) -> str:
        """Ask again what was refused, in the state before its block, then after it."""
        if record.gas_used == record.gas_limit:
            return "out of gas"
        call = self._call_object(record) | {"gas": quantity(record.gas_limit)}
        for number in (max(block.number - 1, 0), block.number):
            [outcome] = await self._rpc.batch_outcomes([("eth_call", [call, at_block(BlockNumber(number))])])
            if isinstance(outcome, RpcError):
                reason = reverts.revert_reason(outcome)
                if reason:
                    return reason
        return ""

    async def _question_missing(self, entries: Sequence[_InFlight], head: BlockStamp) -> None:
        """Nonces that count as used and have no receipt of ours: lag, or somebody else's transaction."""
        for entry in entries:
            entry.is_mined = False
            entry.misses = entry.misses + 1 if entry.record.nonce < self._mined_count else 0
            if entry.misses >= 2 and await self._is_taken(entry, head):
                await self._renew(entry)

    async def _is_taken(self, entry: _InFlight, head: BlockStamp) -> bool:
        """Whether a confirmed block shows the nonce used, and by none of our versions."""
        count, *receipts = await self._rpc.batch(
            [
                self._count_request(at_block(head)),
                *(("eth_getTransactionReceipt", [str(one)]) for one in entry.record.versions),
            ]
        )
        is_used = read_quantity(count, "transaction count") > entry.record.nonce
        return is_used and all(receipt is None for receipt in receipts)

    async def _renew(self, entry: _InFlight) -> None:
        """Another transaction has the nonce for good: the same call gets a new one."""
        old = entry.record
        log.warning("nonce %d of transaction %s was used by another transaction", old.nonce, old.key)
        if old.key.startswith(FILLER_KEY):
            await self._finish([replace(old, phase=TxPhase.SUPERSEDED)])
            return
        network = await self._network.look(self._height)
        async with self._nonce_lock:
            count = await self._rpc.call(*_spread(self._count_request(PENDING)))
            nonce = max(self._next_nonce, read_quantity(count, "transaction count"))
            fees = self._gas.fees(network.price)
            priced = replace(old, max_fee=fees.max_fee, tip=fees.tip, earlier=())
            entry.record = self._sign(priced, nonce)
            await self._store(entry.record)
            self._next_nonce = nonce + 1
            del self._in_flight[old.nonce]
            self._in_flight[nonce] = entry
        entry.misses = 0
        await self._broadcast([entry])

    async def _move_overdue(self, head: BlockStamp) -> None:
        """Send again what the node dropped, replace what is priced too low."""
        overdue = [
            entry
            for nonce, entry in sorted(self._in_flight.items())
            if nonce >= self._mined_count and not entry.is_mined and self._is_overdue(entry, head)
        ]
        if not overdue:
            return
        fresh = self._gas.fees((await self._network.look(self._height)).price)
        answers = await self._rpc.batch(
            [("eth_getTransactionByHash", [str(entry.record.tx_hash)]) for entry in overdue]
        )
        again: list[_InFlight] = []
        replaced: list[_InFlight] = []
        for entry, answer in zip(overdue, answers, strict=True):
            move = tx_rules.next_move(
                is_known=answer is not None,
                is_first=entry.record.nonce == self._mined_count,
                fees=entry.record.fees,
                fresh=fresh,
                policy=self._gas,
            )
            if isinstance(move, Fees):
                entry.record = self._repriced(entry.record, move)
                replaced.append(entry)
            elif move is Move.SEND_AGAIN:
                again.append(entry)
            else:
                entry.sent_block, entry.sent_at = head.number, _now()
        if replaced:
            await self._store(*(entry.record for entry in replaced))
        for entry in (*again, *replaced):
            log.info("sending transaction %s again, nonce %d", entry.record.key, entry.record.nonce)
        await self._broadcast([*again, *replaced])

    def _is_overdue(self, entry: _InFlight, head: BlockStamp) -> bool:
        if entry.is_refused and head.number > entry.sent_block:
            return True
        return self._patience.is_over(blocks=head.number - entry.sent_block, seconds=_now() - entry.sent_at)

    def _repriced(self, record: TxRecord, fees: Fees) -> TxRecord:
        priced = replace(
            record, max_fee=fees.max_fee, tip=fees.tip, earlier=(*record.earlier, record.tx_hash)
        )
        return self._sign(priced, record.nonce)

    async def _fill_gaps(self, head: BlockStamp) -> None:
        """Use up nonces that nobody uses, so that those behind them can be mined."""
        missing = tx_rules.gaps(mined_count=self._mined_count, nonces=self._in_flight)
        self._gaps = {nonce: self._gaps.get(nonce, _Gap(head.number, _now())) for nonce in missing}
        old = [
            nonce
            for nonce, gap in self._gaps.items()
            if self._patience.is_over(blocks=head.number - gap.since_block, seconds=_now() - gap.since)
        ]
        if not old:
            return
        count = await self._rpc.call(*_spread(self._count_request(PENDING)))
        if read_quantity(count, "transaction count") > old[0]:
            return  # the node has a transaction there, from another program
        fees = self._gas.fees((await self._network.look(self._height)).price)
        fillers = []
        for nonce in old:
            log.warning("filling the nonce gap at %d of wallet %s", nonce, self.address)
            request = TxRequest(key=f"{FILLER_KEY}{nonce}", to=self.address, data=b"")
            entry = self._entry(_Waiting(request=request, done=_future()), fees, tx_rules.FILLER_GAS)
            fillers.append(replace(entry, record=self._sign(entry.record, nonce)))
        await self._store(*(entry.record for entry in fillers))
        for entry in fillers:
            self._in_flight[entry.record.nonce] = entry
        await self._broadcast(fillers)

    def _watch(self, record: TxRecord, done: asyncio.Future[TxRecord], height: int) -> None:
        self._in_flight[record.nonce] = _InFlight(record=record, done=done, sent_block=height, sent_at=_now())


def _refuse(together: Sequence[_Waiting], problem: BaseException) -> None:
    for waiting in together:
        if not waiting.done.done():
            waiting.done.set_exception(problem)


def _spread(request: Request) -> tuple[str, *tuple[Json, ...]]:
    method, params = request
    return (method, *params)


def _future() -> asyncio.Future[TxRecord]:
    return asyncio.get_running_loop().create_future()


def _now() -> float:
    return asyncio.get_running_loop().time()
