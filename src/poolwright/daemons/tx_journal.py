"""The transaction sender's journal, kept as records of the mind's store."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from poolwright.chain.budget import DAY_SECONDS, HOUR_SECONDS, minute_of
from poolwright.chain.journal import TxPhase, TxRecord
from poolwright.poco.types import Timestamp, Wei
from poolwright.store.port import Commit, Store
from poolwright.wire import codec

PENDING: Final = "transaction"
SETTLED: Final = "settled-transaction"
"""Transactions that a confirmed block has decided stand apart, so that a start reads only the others."""
FEES: Final = "fees"
"""What was paid, by the minute, of a day: what a limit on fees needs to know after a restart."""
KEPT_SECONDS: Final = DAY_SECONDS + HOUR_SECONDS


class StoreTxJournal:
    """Implements `chain.journal.TxJournal` on a store: what is put is durable when `put` returns."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._fees: dict[Timestamp, int] | None = None
        self._putting = asyncio.Lock()

    async def put(self, *records: TxRecord) -> None:
        async with self._putting:
            await self._put(records)

    async def _put(self, records: Sequence[TxRecord]) -> None:
        changes: dict[tuple[str, str], bytes | None] = {}
        for record in records:
            body = codec.encode(record)
            is_pending = record.phase is TxPhase.PENDING
            changes[PENDING, record.key] = body if is_pending else None
            changes[SETTLED, record.key] = None if is_pending else body
        paid = [(record.block_timestamp, record.fee) for record in records]
        fees = dict(await self.fees())
        for at, fee in paid:
            if at is not None and fee is not None:
                minute = minute_of(at)
                fees[minute] = Wei(fees.get(minute, 0) + fee)
                changes[FEES, str(minute)] = str(fees[minute]).encode()
        newest = max(fees, default=Timestamp(0))
        for old in [minute for minute in fees if minute < newest - KEPT_SECONDS]:
            del fees[old]
            changes[FEES, str(old)] = None
        await self._store.commit(Commit(records=changes))
        self._fees = dict(fees)

    async def get(self, key: str) -> TxRecord | None:
        body = await self._store.record(PENDING, key) or await self._store.record(SETTLED, key)
        return None if body is None else codec.decode(TxRecord, body)

    async def pending(self) -> Sequence[TxRecord]:
        bodies = await self._store.records(PENDING)
        return [codec.decode(TxRecord, body) for body in bodies.values()]

    async def fees(self) -> Mapping[Timestamp, Wei]:
        if self._fees is None:
            kept = await self._store.records(FEES)
            self._fees = {Timestamp(int(minute)): int(fee) for minute, fee in kept.items()}
        return {minute: Wei(fee) for minute, fee in self._fees.items()}
