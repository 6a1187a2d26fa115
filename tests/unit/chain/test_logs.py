"""Ranges that adapt and logs that find their block, by values."""

from __future__ import annotations

from poolwright.chain.logs import MANY_LOGS, FoundLog, LogFilter, RangeSize, place
from poolwright.poco.types import Address, BlockHash, BlockNumber, BlockStamp, Hash32, Timestamp, TxHash

HUB = Address(b"\x01" * 20)


def stamp(number: int, branch: bytes = b"a") -> BlockStamp:
    return BlockStamp(
        BlockNumber(number), BlockHash(Hash32(branch * 31 + bytes([number]))), Timestamp(1000 + number)
    )


def found(number: int, index: int, branch: bytes = b"a") -> FoundLog:
    return FoundLog(
        address=HUB,
        topics=(),
        data=b"",
        block_number=BlockNumber(number),
        block_hash=stamp(number, branch).hash,
        tx_hash=TxHash(Hash32.zero()),
        log_index=index,
    )


STAMPS = {BlockNumber(number): stamp(number) for number in range(10)}


def test_a_refused_range_is_halved_down_to_one_block() -> None:
    assert RangeSize(blocks=1000).halved().blocks == 500
    assert RangeSize(blocks=1).halved().blocks == 1


def test_a_good_range_doubles_up_to_the_longest() -> None:
    assert RangeSize(blocks=500, longest=800).grown(0).blocks == 800
    assert RangeSize(blocks=100).grown(10).blocks == 200


def test_a_range_with_many_logs_does_not_grow() -> None:
    assert RangeSize(blocks=100).grown(MANY_LOGS).blocks == 100


def test_logs_come_in_chain_order_each_once() -> None:
    logs = place([found(3, 1), found(2, 5), found(3, 0), found(3, 1)], STAMPS)
    assert logs is not None
    assert [(log.block.number, log.log_index) for log in logs] == [(2, 5), (3, 0), (3, 1)]
    assert logs[0].block == stamp(2)


def test_a_log_of_another_branch_or_unknown_block_refuses_the_whole_answer() -> None:
    assert place([found(2, 0), found(3, 0, b"b")], STAMPS) is None
    assert place([found(20, 0)], STAMPS) is None


def test_the_filter_is_written_as_the_node_wants_it() -> None:
    topic = Hash32(b"\x02" * 32)
    wanted = LogFilter(addresses=(HUB,), topics=((topic,), None))
    assert wanted.params(blockHash="0x00") == {
        "address": [str(HUB)],
        "topics": [[str(topic)], None],
        "blockHash": "0x00",
    }
    assert LogFilter(addresses=(HUB,)).params() == {"address": [str(HUB)]}
