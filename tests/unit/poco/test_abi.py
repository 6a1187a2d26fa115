"""The ABI codec: what it refuses, and with which words."""

from __future__ import annotations

import pytest

from poolwright.poco.abi import argument_types, decode, decode_call, encode, encode_call, selector
from poolwright.poco.errors import InputError, PeerError
from poolwright.poco.types import Address, Hash32


def word(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_a_call_is_selector_and_arguments() -> None:
    task = Hash32(b"\x11" * 32)

    data = encode_call("claim(bytes32)", task)

    assert data == bytes.fromhex("bd66528a") + task
    assert decode_call("claim(bytes32)", data) == (task,)
    assert selector("reopen(bytes32)").hex() == "f6c68e10"


def test_a_call_of_another_function_is_refused() -> None:
    with pytest.raises(
        PeerError, match=r"not a call of reopen\(bytes32\), expected 0xf6c68e10, got 0xbd66528a"
    ):
        decode_call("reopen(bytes32)", encode_call("claim(bytes32)", bytes(32)))


def test_addresses_and_words_come_back_as_their_types() -> None:
    address, hash_ = decode(["address", "bytes32"], bytes(12) + b"\x01" * 20 + b"\x02" * 32)

    assert (type(address), type(hash_)) == (Address, Hash32)


def test_arguments_of_a_signature_split_at_outer_commas() -> None:
    assert argument_types("f((address,uint256[2])[],bytes)") == ("(address,uint256[2])[]", "bytes")
    assert argument_types("f()") == ()


@pytest.mark.parametrize(
    ("types", "data", "complaint"),
    [
        (["uint256"], b"", "byte 0, expected 32 bytes, got 0 bytes left"),
        (["uint256"], bytes(31), "byte 0, expected 32 bytes, got 31 bytes left"),
        (["uint256"], bytes(33), "expected 32 bytes, got 33 bytes"),
        (["uint8"], word(256), "byte 0, expected uint8, got 256"),
        (["int8"], word(128), "byte 0, expected int8, got 128"),
        (["bool"], word(2), "byte 0, expected bool, got 2"),
        (["address"], word(1 << 160), "byte 0, expected address, got 0x"),
        (["bytes4"], b"\x01" * 5 + bytes(27), "byte 0, expected bytes4"),
        (["uint8", "bytes"], word(1) + word(97) + word(0), "byte 32, expected an offset up to 96, got 97"),
        (["bytes"], word(33) + word(0), "byte 33, expected 32 bytes, got 31 bytes left"),
        (["bytes"], word(1 << 255) + word(0), "byte 0, expected an offset up to 64"),
        (["bytes"], word(32) + word(1 << 255), "byte 32, expected a length up to 0"),
        (["bytes"], word(32) + word(1) + b"a", "expected 32 bytes, got 1 bytes left"),
        (["bytes"], word(32) + word(1) + b"ab" + bytes(30), "byte 65, expected padding with zeros"),
        (["address[]"], word(32) + word(1 << 200), "expected up to 0 elements"),
        (["address[]"], word(32) + word(2) + word(1), "byte 64, expected up to 1 elements, got 2"),
    ],
)
def test_malformed_data_is_refused_with_its_position(types: list[str], data: bytes, complaint: str) -> None:
    with pytest.raises(PeerError) as caught:
        decode(types, data)

    assert complaint in str(caught.value)


def test_values_that_share_bytes_are_refused_before_they_unfold() -> None:
    """Ten levels of arrays that point at themselves would unfold to 9^10 elements."""
    level = word(9) + b"".join(word(9 * 32) for _ in range(9))
    data = word(32) + level * 10 + word(0)

    with pytest.raises(PeerError, match="bytes of one value only"):
        decode(["uint256" + "[]" * 10], data)


def test_a_string_that_is_no_utf8_stays_readable() -> None:
    data = word(32) + word(3) + b"a\xffb" + bytes(29)

    assert decode(["string"], data) == ("a\ufffdb",)


@pytest.mark.parametrize(
    ("type_", "value", "complaint"),
    [
        ("uint8", 256, "f[0] does not fit its ABI type, expected uint8, got int 256"),
        ("uint8", -1, "expected uint8"),
        ("uint8", True, "got bool True"),
        ("int8", 128, "expected int8"),
        ("bool", 1, "expected bool, got int 1"),
        ("address", b"\x01", "expected address (20 bytes)"),
        ("address", "0x" + "00" * 20, "expected address (20 bytes), got str"),
        ("bytes32", bytes(31), "expected bytes32"),
        ("bytes", "text", "expected bytes, got str 'text'"),
        ("string", b"text", "expected string"),
        ("string", "\ud800", "lone surrogates"),
        ("uint8[2]", [1], "expected 2 values, got 1 values"),
        ("uint8[]", [1, 300], "f[0][1] does not fit its ABI type"),
        ("uint8[]", "12", "expected a sequence, got str"),
        ("(uint8,bool)", (1,), "expected 2 values, got 1 values"),
        ("(uint8,bool)", 5, "expected a sequence, got int 5"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_its_place(
    type_: str, value: object, complaint: str
) -> None:
    with pytest.raises(InputError) as caught:
        encode_call(f"f({type_})", value)

    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    "type_",
    ["", "uint", "uint7", "uint264", "bytes33", "bytes0", "uint8[0]", "()", "(uint8", "uint8[-1]", "tuple"],
)
def test_what_is_no_type_is_refused(type_: str) -> None:
    with pytest.raises(InputError, match="not an ABI type"):
        encode([type_], [1])


@pytest.mark.parametrize("signature", ["claim", "claim(bytes32", ""])
def test_what_is_no_signature_is_refused(signature: str) -> None:
    with pytest.raises(InputError, match="not a signature"):
        argument_types(signature)
