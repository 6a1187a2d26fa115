"""The transaction sender's journal, kept as records of the mind's store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from poolwright.chain.journal import TxPhase, TxRecord
from poolwright.store.port import Commit, Store
from poolwright.wire import codec

PENDING: Final = "transaction"
SETTLED: Final = "settled-transaction"
"""Transactions that a confirmed block has decided stand apart, so that a start reads only the others."""


class StoreTxJournal:
    """Implements `chain.journal.TxJournal` on a store: what is put is durable when `put` returns."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def put(self, *records: TxRecord) -> None:
        changes: dict[tuple[str, str], bytes | None] = {}
        for record in records:
            body = codec.encode(record)
            is_pending = record.phase is TxPhase.PENDING
            changes[PENDING, record.key] = body if is_pending else None
            changes[SETTLED, record.key] = None if is_pending else body
        await self._store.commit(Commit(records=changes))

    async def get(self, key: str) -> TxRecord | None:
        body = await self._store.record(PENDING, key) or await self._store.record(SETTLED, key)
        return None if body is None else codec.decode(TxRecord, body)

    async def pending(self) -> Sequence[TxRecord]:
        bodies = await self._store.records(PENDING)
        return [codec.decode(TxRecord, body) for body in bodies.values()]
