"""Ids, tags, digests, hashes and seals against values computed by hand from their definitions."""

from __future__ import annotations

import hashlib

import pytest
from eth_utils import keccak

from poolwright.poco.errors import InputError
from poolwright.poco.ids import deal_id, task_id
from poolwright.poco.results import (
    callback_digest,
    directory_digest,
    file_digest,
    result_hash,
    result_seal,
    sha256_of,
)
from poolwright.poco.tags import GPU, NO_TAG, SCONE, TDX, TEE, Tag
from poolwright.poco.types import Address, DealId, Hash32, OrderHash, TaskId

ORDER_HASH = OrderHash(Hash32(bytes(range(32))))
TASK = TaskId(Hash32(b"\x11" * 32))
DIGEST = Hash32(b"\x22" * 32)
WORKER = Address(b"\x33" * 20)


def test_deal_id_is_the_hash_of_request_hash_and_consumed_volume() -> None:
    assert deal_id(ORDER_HASH, 3) == keccak(bytes(range(32)) + (3).to_bytes(32, "big"))


def test_task_id_is_the_hash_of_deal_and_index() -> None:
    deal = DealId(Hash32(b"\x01" * 32))

    assert task_id(deal, 7) == keccak(b"\x01" * 32 + (7).to_bytes(32, "big"))


@pytest.mark.parametrize("number", [-1, 1 << 256])
def test_a_number_outside_uint256_gives_no_id(number: int) -> None:
    with pytest.raises(InputError, match="out of range"):
        deal_id(ORDER_HASH, number)
    with pytest.raises(InputError, match="out of range"):
        task_id(DealId(Hash32.zero()), number)


def test_hash_and_seal_pack_their_parts_without_padding() -> None:
    assert result_hash(TASK, DIGEST) == keccak(b"\x11" * 32 + b"\x22" * 32)
    assert result_seal(WORKER, TASK, DIGEST) == keccak(b"\x33" * 20 + b"\x11" * 32 + b"\x22" * 32)


def test_digest_of_a_file_is_its_sha256() -> None:
    assert file_digest(sha256_of(b"result")) == hashlib.sha256(b"result").digest()


def test_digest_of_a_callback_is_its_keccak() -> None:
    assert callback_digest(b"result") == keccak(b"result")


def test_digest_of_a_directory_hashes_the_files_in_name_order() -> None:
    a, b = hashlib.sha256(b"a").digest(), hashlib.sha256(b"b").digest()

    assert directory_digest([("b.txt", b), ("a.txt", a)]) == keccak(a + b)


def test_directory_names_sort_by_utf16_units_as_in_java() -> None:
    """U+1F600 is two units starting with D83D, hence before U+FF5E, although its code point is higher."""
    emoji, tilde = sha256_of(b"1"), sha256_of(b"2")

    assert directory_digest([("\uff5e", tilde), ("\U0001f600", emoji)]) == keccak(emoji + tilde)


def test_an_empty_directory_has_no_digest() -> None:
    with pytest.raises(InputError, match="holds no file"):
        directory_digest([])


def test_a_file_name_given_twice_is_refused() -> None:
    with pytest.raises(InputError, match="given twice"):
        directory_digest([("a", sha256_of(b"")), ("a", sha256_of(b""))])


def test_a_tag_prints_as_64_digits_and_reads_back() -> None:
    tag = TEE | TDX

    assert str(tag) == "0x" + "0" * 63 + "9"
    assert Tag.parse(str(tag)) == tag
    assert tag.word == Hash32((9).to_bytes(32, "big"))


def test_a_tag_knows_the_names_of_its_flags() -> None:
    assert (TEE | GPU | Tag(1 << 200)).names == ("tee", "gpu", "bit-200")
    assert Tag.of_names(["tee", "gpu"]) == 0x101
    assert repr(NO_TAG) == "Tag(0)"
    assert repr(TEE | SCONE) == "Tag(tee, scone)"


def test_a_tag_says_what_it_lacks() -> None:
    assert TEE.lacks(TEE | GPU) == GPU
    assert (TEE | GPU).lacks(TEE) == NO_TAG


@pytest.mark.parametrize("text", ["0x1", "", "0x" + "g" * 64, "9" * 66])
def test_text_that_is_no_tag_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="expected 0x and 64"):
        Tag.parse(text)


def test_an_unknown_tag_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"unknown tag 'tpm'.*tee or scone"):
        Tag.of_names(["tpm"])


@pytest.mark.parametrize("bits", [-1, 1 << 256])
def test_a_number_outside_256_bits_is_no_tag(bits: int) -> None:
    with pytest.raises(InputError, match="not a tag"):
        Tag(bits)
