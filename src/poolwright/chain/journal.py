"""What a sender writes down before it broadcasts: one record per transaction key.

A record is stored before its raw bytes leave the process.  So after a crash the same bytes are sent again,
never a second transaction for the same key, and the chain's nonce rule lets only one of them in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, unique
from typing import Protocol

from poolwright.chain.budget import minute_of
from poolwright.chain.gas import Fees
from poolwright.poco.types import Address, BlockHash, BlockNumber, BlockStamp, Timestamp, TxHash, Wei


@unique
class TxPhase(Enum):
    """How far a transaction is; only confirmed blocks move it on."""

    PENDING = "pending"
    """Written down, perhaps broadcast, perhaps mined, not confirmed."""
    MINED = "mined"
    """Executed in a confirmed block."""
    REVERTED = "reverted"
    """Refused by the contract in a confirmed block; the fee is gone."""
    SUPERSEDED = "superseded"
    """A filler whose nonce another transaction used; nothing was lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TxRecord:
    """A transaction as it was signed last, and what became of it."""

    key: str
    """The caller's name for it: one key, one transaction, whatever happens."""
    sender: Address
    chain_id: int
    nonce: int
    to: Address | None
    """None creates a contract."""
    data: bytes
    value: Wei
    gas_limit: int
    max_fee: Wei
    """Wei per gas; the gas price of a legacy transaction."""
    tip: Wei | None
    """Wei per gas; None in a legacy transaction."""
    raw: bytes
    tx_hash: TxHash
    earlier: tuple[TxHash, ...] = ()
    """Versions with the same nonce that this one replaces; each of them may be the one that is mined."""
    phase: TxPhase = TxPhase.PENDING
    block_number: BlockNumber | None = None
    block_hash: BlockHash | None = None
    block_timestamp: Timestamp | None = None
    gas_used: int | None = None
    fee: Wei | None = None
    contract: Address | None = None
    """The contract that it created."""
    reason: str = ""
    """Why the contract refused it, as far as it says."""

    @property
    def fees(self) -> Fees:
        return Fees(max_fee=self.max_fee, tip=self.tip)

    @property
    def cost(self) -> Wei:
        """The most that it can take from the wallet."""
        return Wei(self.fees.cost(self.gas_limit) + self.value)

    @property
    def versions(self) -> tuple[TxHash, ...]:
        """All hashes under which it may be mined, the newest first."""
        return (self.tx_hash, *reversed(self.earlier))

    @property
    def block(self) -> BlockStamp | None:
        """The confirmed block that executed it."""
        if self.block_number is None or self.block_hash is None or self.block_timestamp is None:
            return None
        return BlockStamp(self.block_number, self.block_hash, self.block_timestamp)


class TxJournal(Protocol):
    """Durable records of one wallet on one chain; see MemoryTxJournal for what each method must do."""

    async def put(self, *records: TxRecord) -> None:
        """Store records, each in place of the one with its key, all or none; durable on return."""

    async def get(self, key: str) -> TxRecord | None:
        """The record of a key."""

    async def pending(self) -> Sequence[TxRecord]:
        """All records in phase PENDING, in any order."""

    async def fees(self) -> Mapping[Timestamp, Wei]:
        """Fees that confirmed blocks have taken, by the beginning of the minute; the latest day at least."""


class MemoryTxJournal:
    """A TxJournal that forgets when the process ends: for tests and one-off commands."""

    def __init__(self) -> None:
        self._records: dict[str, TxRecord] = {}

    async def put(self, *records: TxRecord) -> None:
        self._records.update({record.key: record for record in records})

    async def get(self, key: str) -> TxRecord | None:
        return self._records.get(key)

    async def pending(self) -> Sequence[TxRecord]:
        return [record for record in self._records.values() if record.phase is TxPhase.PENDING]

    async def fees(self) -> Mapping[Timestamp, Wei]:
        fees: dict[Timestamp, Wei] = {}
        for record in self._records.values():
            if record.fee is not None and record.block_timestamp is not None:
                minute = minute_of(record.block_timestamp)
                fees[minute] = Wei(fees.get(minute, 0) + record.fee)
        return fees
