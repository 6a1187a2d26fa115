"""What every TxJournal must do, on the twin; and that records survive the codec that stores them."""

from __future__ import annotations

from dataclasses import replace

from poolwright.chain.journal import MemoryTxJournal, TxPhase, TxRecord
from poolwright.poco.types import Address, BlockHash, BlockNumber, BlockStamp, Hash32, Timestamp, TxHash, Wei
from poolwright.wire.codec import decode, encode

RECORD = TxRecord(
    key="0x01:initialize:0",
    sender=Address(b"\x01" * 20),
    chain_id=31337,
    nonce=5,
    to=Address(b"\x02" * 20),
    data=b"\x01\x02",
    value=Wei(10**30),
    gas_limit=300_000,
    max_fee=Wei(22 * 10**9),
    tip=Wei(1),
    raw=b"\x02\xf8",
    tx_hash=TxHash(Hash32(b"\x03" * 32)),
)


def mined(record: TxRecord) -> TxRecord:
    return replace(
        record,
        phase=TxPhase.MINED,
        block_number=BlockNumber(7),
        block_hash=BlockHash(Hash32(b"\x04" * 32)),
        block_timestamp=Timestamp(1000),
        gas_used=21_000,
        fee=Wei(10**20),
    )


async def test_a_record_is_found_by_its_key_until_another_takes_its_place() -> None:
    journal = MemoryTxJournal()
    assert await journal.get(RECORD.key) is None
    await journal.put(RECORD, replace(RECORD, key="other", nonce=6))
    assert await journal.get(RECORD.key) == RECORD
    await journal.put(mined(RECORD))
    assert await journal.get(RECORD.key) == mined(RECORD)


async def test_pending_are_those_that_no_confirmed_block_has() -> None:
    journal = MemoryTxJournal()
    other = replace(RECORD, key="other", nonce=6)
    await journal.put(RECORD, other)
    await journal.put(mined(RECORD))
    assert list(await journal.pending()) == [other]


def test_a_record_survives_the_codec() -> None:
    for record in (RECORD, mined(RECORD), replace(RECORD, to=None, tip=None, earlier=(RECORD.tx_hash,))):
        assert decode(TxRecord, encode(record)) == record


def test_a_record_knows_its_versions_cost_and_block() -> None:
    first, second = TxHash(Hash32(b"\x05" * 32)), TxHash(Hash32(b"\x06" * 32))
    record = replace(RECORD, earlier=(first, second))
    assert record.versions == (RECORD.tx_hash, second, first)
    assert record.cost == 10**30 + 300_000 * 22 * 10**9
    assert record.block is None
    assert mined(record).block == BlockStamp(BlockNumber(7), BlockHash(Hash32(b"\x04" * 32)), Timestamp(1000))
