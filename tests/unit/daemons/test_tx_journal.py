"""The sender's journal in the store: fees by the minute, through restarts, without those of long ago."""

from __future__ import annotations

from dataclasses import replace

from factories import address, hash32
from poolwright.chain.journal import TxPhase, TxRecord
from poolwright.daemons.tx_journal import FEES, KEPT_SECONDS, StoreTxJournal
from poolwright.poco.types import BlockHash, BlockNumber, Timestamp, TxHash, Wei
from poolwright.store.memory import MemoryStore

MINUTE = Timestamp(1_000_000_020)
SENT = TxRecord(
    key="a",
    sender=address("me"),
    chain_id=1,
    nonce=1,
    to=None,
    data=b"",
    value=Wei(0),
    gas_limit=1,
    max_fee=Wei(1),
    tip=None,
    raw=b"",
    tx_hash=TxHash(hash32("tx")),
)


def paid(key: str, at: int, fee: int) -> TxRecord:
    return replace(
        SENT,
        key=key,
        phase=TxPhase.MINED,
        block_number=BlockNumber(1),
        block_hash=BlockHash(hash32("block")),
        block_timestamp=Timestamp(at),
        gas_used=1,
        fee=Wei(fee),
    )


async def test_fees_add_up_by_the_minute_and_outlive_the_process() -> None:
    store = MemoryStore()
    journal = StoreTxJournal(store)
    await journal.put(SENT)
    await journal.put(paid("a", MINUTE, 5), paid("b", MINUTE + 59, 6))
    await journal.put(paid("c", MINUTE + 60, 7))

    expected = {MINUTE: 11, Timestamp(MINUTE + 60): 7}
    assert await journal.fees() == expected
    assert await StoreTxJournal(store).fees() == expected


async def test_fees_of_more_than_a_day_ago_are_dropped() -> None:
    store = MemoryStore()
    journal = StoreTxJournal(store)
    await journal.put(paid("a", MINUTE, 5))
    await journal.put(paid("b", MINUTE + KEPT_SECONDS + 60, 6))

    assert list((await journal.fees()).values()) == [6]
    assert len(await store.records(FEES)) == 1
