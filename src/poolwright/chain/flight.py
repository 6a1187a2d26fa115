"""The transactions of one wallet between its journal and a confirmed receipt.

This is what the writer and the watcher of a sender share: the nonces, the table of what is in flight, and the
few things that may be done to it.  Each of them writes to the journal first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from poolwright.chain import reverts, tx_rules
from poolwright.chain.blocks import LATEST, PENDING
from poolwright.chain.budget import FeeBudget, Priority
from poolwright.chain.encoding import Json, hex_data, quantity, read_quantity
from poolwright.chain.gas import Fees, GasPolicy
from poolwright.chain.heads import Heads
from poolwright.chain.journal import TxJournal, TxPhase, TxRecord
from poolwright.chain.network import NetworkWatch
from poolwright.chain.outcomes import JournalFailed
from poolwright.chain.rpc import Request, Rpc, RpcError
from poolwright.chain.wallet import Transaction, Wallet
from poolwright.poco.errors import InputError, Unavailable
from poolwright.poco.types import Address, Hash32, TxHash, Wei

log = logging.getLogger(__name__)

FILLER_KEY: Final = "nonce-gap:"
"""Begins the keys of transactions that only use up a nonce."""

NO_VALUE: Final = Wei(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TxRequest:
    """A transaction to be sent once; `to=None` creates a contract, `gas_limit=None` is estimated."""

    key: str
    to: Address | None
    data: bytes
    value: Wei = NO_VALUE
    gas_limit: int | None = None
    priority: Priority = Priority.ORDINARY
    """What a limit on fees means for it."""


@dataclass(slots=True, kw_only=True)
class Entry:
    """A journaled transaction until its receipt is confirmed."""

    record: TxRecord
    done: asyncio.Future[TxRecord]
    sent_block: int
    """Height at the last broadcast."""
    since_block: int
    """Height since which it is waited for, at its present price."""
    since: float
    """Event loop time of that, seconds."""
    is_mined: bool = False
    """There is a receipt, not confirmed yet."""
    is_refused: bool = False
    """The node did not take it at the last broadcast."""
    refusal: str = ""
    """What the log says already of why."""
    misses: int = 0
    """How often running its nonce was used and no receipt was there."""

    def wait_from(self, height: int) -> None:
        """Be patient anew."""
        self.since_block, self.since = height, now()


class Flight:
    """One wallet's nonces and what is in flight; `entries` maps nonce to Entry."""

    def __init__(
        self,
        rpc: Rpc,
        wallet: Wallet,
        chain_id: int,
        journal: TxJournal,
        gas: GasPolicy,
        heads: Heads,
        budget: FeeBudget,
    ) -> None:
        self.rpc: Final = rpc
        self.address: Final = wallet.address
        self.gas: Final = gas
        self.heads: Final = heads
        self.budget: Final = budget
        self.network: Final = NetworkWatch(rpc, wallet.address)
        self.entries: Final[dict[int, Entry]] = {}
        self.settled: Final = asyncio.Event()
        """Set whenever something was confirmed."""
        self.mined_count = 0
        """Nonces below are used, by blocks that may not be confirmed yet."""
        self.price_trouble = ""
        """Why nothing is mined at the moment, when that is the price of gas."""
        self._wallet = wallet
        self._chain_id = chain_id
        self._journal = journal
        self._next_nonce = 0
        self._nonce_lock = asyncio.Lock()

    @property
    def height(self) -> int:
        """Number of the newest confirmed head."""
        head = self.heads.current
        return head.number if head is not None else 0

    @property
    def committed(self) -> Wei:
        """The most that everything in flight may cost."""
        return Wei(sum(entry.record.cost for entry in self.entries.values()))

    async def load(self) -> None:
        """Take up what the journal holds, and broadcast again what is not mined.

        Raises InputError when the journal is of another wallet or chain, Unavailable when no node answers.
        """
        records = await self._journal.pending()
        for record in records:
            self.check_owner(record)
        self.budget.load(await self._journal.fees())
        answers = await self.rpc.batch([self.count_request(LATEST), self.count_request(PENDING)])
        self.mined_count = read_quantity(answers[0], "transaction count")
        self._next_nonce = tx_rules.first_nonce(
            pending_count=max(read_quantity(answers[1], "transaction count"), self.mined_count),
            journaled=[record.nonce for record in records],
        )
        for record in sorted(records, key=lambda one: one.nonce):
            self.entries[record.nonce] = self.entry(record, future())
        await self.broadcast([entry for nonce, entry in self.entries.items() if nonce >= self.mined_count])

    def check_owner(self, record: TxRecord) -> None:
        """Raise InputError when a journal's record is of another wallet or chain."""
        if (record.sender, record.chain_id) != (self.address, self._chain_id):
            raise InputError(
                f"the journal's transaction {record.key} is of another wallet or chain",
                code="wrong-journal",
                expected=f"{self.address} on chain {self._chain_id}",
                got=f"{record.sender} on chain {record.chain_id}",
                next_step="use the journal of this wallet and chain",
            )

    async def journaled(self, key: str) -> TxRecord | None:
        """The record of a key."""
        return await self._journal.get(key)

    async def store(self, *records: TxRecord) -> None:
        """Write records down. Raises JournalFailed, which ends the sender: what is on disk is not known."""
        try:
            await self._journal.put(*records)
        except Exception as problem:  # whatever it was
            raise JournalFailed(problem) from problem

    def unsigned(self, request: TxRequest, fees: Fees, limit: int) -> TxRecord:
        """A record still without nonce and signature."""
        return TxRecord(
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

    def sign(self, record: TxRecord, nonce: int) -> TxRecord:
        """The record signed for a nonce."""
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

    def entry(self, record: TxRecord, done: asyncio.Future[TxRecord]) -> Entry:
        """An entry as if broadcast now."""
        height = self.height
        return Entry(record=record, done=done, sent_block=height, since_block=height, since=now())

    async def send_new(self, unsigned: Sequence[tuple[TxRecord, asyncio.Future[TxRecord]]]) -> None:
        """Give nonces, sign, journal, broadcast. Raises JournalFailed."""
        async with self._nonce_lock:
            entries = [
                self.entry(self.sign(record, self._next_nonce + place), done)
                for place, (record, done) in enumerate(unsigned)
            ]
            await self.store(*(entry.record for entry in entries))
            self._next_nonce += len(entries)
            self.entries.update({entry.record.nonce: entry for entry in entries})
        await self.broadcast(entries)

    async def send_fillers(self, nonces: Sequence[int]) -> None:
        """Use up nonces that nobody uses, by transfers of nothing to oneself. Raises JournalFailed."""
        fees = self.gas.fees((await self.network.look(self.height)).price)
        entries = []
        for nonce in nonces:
            request = TxRequest(key=f"{FILLER_KEY}{nonce}", to=self.address, data=b"")
            record = self.unsigned(request, fees, tx_rules.FILLER_GAS)
            entries.append(self.entry(self.sign(record, nonce), future()))
        await self.store(*(entry.record for entry in entries))
        self.entries.update({entry.record.nonce: entry for entry in entries})
        await self.broadcast(entries)

    async def renew(self, entry: Entry) -> None:
        """Another transaction has the nonce for good: the same call gets a new one. Raises JournalFailed."""
        old = entry.record
        log.warning("nonce %d of transaction %s was used by another transaction", old.nonce, old.key)
        if old.key.startswith(FILLER_KEY):
            await self.finish([replace(old, phase=TxPhase.SUPERSEDED)])
            return
        fees = self.gas.fees((await self.network.look(self.height)).price)
        async with self._nonce_lock:
            [count] = await self.rpc.batch([self.count_request(PENDING)])
            nonce = max(self._next_nonce, read_quantity(count, "transaction count"))
            record = self.sign(replace(old, max_fee=fees.max_fee, tip=fees.tip, earlier=()), nonce)
            await self.store(record)
            entry.record = record
            self._next_nonce = nonce + 1
            del self.entries[old.nonce]
            self.entries[nonce] = entry
        entry.misses = 0
        entry.wait_from(self.height)
        await self.broadcast([entry])

    async def reprice(self, better: Sequence[tuple[Entry, Fees]]) -> None:
        """Replace transactions by the same at better prices. Raises JournalFailed."""
        if not better:
            return
        records = [_repriced(entry.record, fees) for entry, fees in better]
        records = [self.sign(record, record.nonce) for record in records]
        await self.store(*records)
        for (entry, _), record in zip(better, records, strict=True):
            log.info("replacing transaction %s, nonce %d, by %s", record.key, record.nonce, record.tx_hash)
            entry.record = record
            entry.wait_from(self.height)
        await self.broadcast([entry for entry, _ in better])

    async def broadcast(self, entries: Sequence[Entry]) -> None:
        """Hand raw transactions to the node. What it refuses stays in flight and is decided on later."""
        if not entries:
            return
        try:
            outcomes = await self.rpc.batch_outcomes(
                [("eth_sendRawTransaction", [hex_data(entry.record.raw)]) for entry in entries]
            )
        except Unavailable as problem:
            log.warning("%d transactions wait for the node: %s", len(entries), problem)
            for entry in entries:
                entry.is_refused = True
            return
        for entry, outcome in zip(entries, outcomes, strict=True):
            entry.sent_block = self.height
            entry.is_refused = isinstance(outcome, RpcError) and not reverts.is_already_known(outcome)
            refusal = str(outcome) if isinstance(outcome, RpcError) and entry.is_refused else ""
            is_news = refusal not in ("", entry.refusal)
            entry.refusal = refusal
            if isinstance(outcome, RpcError) and is_news and not reverts.is_nonce_used(outcome):
                log.warning("node refuses transaction %s: %s", entry.record.key, refusal)

    async def finish(self, records: Sequence[TxRecord]) -> None:
        """These are through: tell whoever waits. Raises JournalFailed."""
        if not records:
            return
        await self.store(*records)
        for record in records:
            if record.fee is not None and record.block_timestamp is not None:
                self.budget.add(record.block_timestamp, record.fee)
            entry = self.entries.pop(record.nonce)
            if not entry.done.done():
                entry.done.set_result(record)
        self.network.forget()
        self.settled.set()

    def count_request(self, block: str) -> Request:
        """The request for how many nonces the wallet has used at a block."""
        return "eth_getTransactionCount", [str(self.address), block]

    def call_object(self, request: TxRequest | TxRecord) -> dict[str, Json]:
        """The transaction as eth_call and eth_estimateGas take it."""
        call: dict[str, Json] = {
            "from": str(self.address),
            "data": hex_data(request.data),
            "value": quantity(request.value),
        }
        return call if request.to is None else call | {"to": str(request.to)}


def _repriced(record: TxRecord, fees: Fees) -> TxRecord:
    """The record at another price, still with the old signature."""
    earlier = (*record.earlier, record.tx_hash)
    return replace(record, max_fee=fees.max_fee, tip=fees.tip, earlier=earlier)


def future() -> asyncio.Future[TxRecord]:
    """A future of the running event loop."""
    return asyncio.get_running_loop().create_future()


def now() -> float:
    """The event loop's time, seconds."""
    return asyncio.get_running_loop().time()
