"""What a node's answers mean for the confirmed head, by values."""

from __future__ import annotations

import pytest

from poolwright.chain.blocks import Header
from poolwright.chain.heads import ChainReorganised, HeadTracker
from poolwright.poco.types import BlockHash, BlockNumber, BlockStamp, Hash32, Timestamp


def block_hash(number: int, branch: str = "a") -> BlockHash:
    return BlockHash(Hash32(f"{branch}{number}".encode().rjust(32, b".")))


def header(number: int, branch: str = "a", parent: str | None = None) -> Header:
    return Header(
        stamp=BlockStamp(BlockNumber(number), block_hash(number, branch), Timestamp(1000 + number)),
        parent_hash=block_hash(number - 1, parent or branch),
        base_fee=None,
        gas_limit=30_000_000,
    )


def tracking(number: int, confirmations: int = 0) -> HeadTracker:
    return HeadTracker(confirmations=confirmations, confirmed=header(number).stamp)


def test_the_first_head_is_the_newest_minus_confirmations() -> None:
    assert HeadTracker(confirmations=0).wanted(BlockNumber(10)) == 10
    assert HeadTracker(confirmations=3).wanted(BlockNumber(10)) == 7
    assert HeadTracker(confirmations=30).wanted(BlockNumber(10)) == 0


def test_a_child_of_the_confirmed_block_is_the_next_head() -> None:
    tracker, head = tracking(5).look(header(6), None)
    assert head == header(6).stamp
    assert tracker == tracking(6)


def test_a_later_block_is_a_head_when_the_node_still_has_the_confirmed_one() -> None:
    assert tracking(5).needs_base(BlockNumber(7))
    _, head = tracking(5).look(header(9), header(5))
    assert head == header(9).stamp


def test_a_lagging_node_teaches_nothing() -> None:
    assert tracking(9).wanted(BlockNumber(8)) is None
    assert tracking(9).look(None, None) == (tracking(9), None)
    assert tracking(5).look(header(9), None) == (tracking(5), None)


def test_the_same_head_is_not_told_twice() -> None:
    assert tracking(9).look(header(9), None) == (tracking(9), None)


def test_with_confirmations_the_newest_height_alone_teaches_nothing() -> None:
    assert tracking(7, confirmations=3).wanted(BlockNumber(10)) is None
    assert tracking(7, confirmations=3).wanted(BlockNumber(11)) == 8


@pytest.mark.parametrize(
    ("candidate", "base"),
    [
        (header(6, "b"), None),  # a child of another block
        (header(9, "b"), header(5, "b")),  # later, and the height carries another hash
        (header(5, "b"), None),  # the same height, another block
    ],
)
def test_a_contradiction_seen_twice_is_a_reorganisation(candidate: Header, base: Header | None) -> None:
    suspect, head = tracking(5).look(candidate, base)
    assert head is None
    assert suspect.is_suspect
    with pytest.raises(ChainReorganised, match="confirmed block 5") as caught:
        suspect.look(candidate, base)
    assert caught.value.believed == header(5).stamp
    assert str(block_hash(5)) in str(caught.value)


def test_a_contradiction_seen_once_is_forgotten() -> None:
    suspect, _ = tracking(5).look(header(6, "b"), None)
    tracker, head = suspect.look(header(6), None)
    assert head == header(6).stamp
    assert not tracker.is_suspect


def test_a_reorg_above_the_confirmed_block_is_invisible() -> None:
    tracker = tracking(5, confirmations=2)
    tracker, head = tracker.look(header(6, "b", parent="a"), None)
    assert head == header(6, "b").stamp
