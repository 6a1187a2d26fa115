"""Fixed-length bytes: the EIP-55 examples, and what is no address."""

from __future__ import annotations

import pytest

from poolwright.poco.errors import InputError
from poolwright.poco.types import Address, Hash32

EIP55_EXAMPLES = [
    "0x52908400098527886E0F7030069857D2E4169EE7",
    "0xde709f2102306220921060314715629080e2fb77",
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
    "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
]


@pytest.mark.parametrize("text", EIP55_EXAMPLES)
def test_an_address_prints_with_the_checksum_of_eip_55(text: str) -> None:
    assert str(Address.parse(text.lower())) == text
    assert Address.parse(text) == Address.parse("0x" + text[2:].upper()) == Address.parse(text.lower())


def test_a_typing_error_in_a_checksummed_address_is_noticed() -> None:
    wrong = EIP55_EXAMPLES[2].replace("aA", "Aa")

    with pytest.raises(InputError, match=r"checksum.*expected 0x5aAeb.*lower case"):
        Address.parse(wrong)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0x",
        "5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0x" + "0" * 39,
        "0x" + "0" * 41,
        "0x" + " 0" * 20,
    ],
)
def test_text_that_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="expected 0x and 40 hexadecimal digits"):
        Address.parse(text)


def test_white_space_around_the_digits_is_refused() -> None:
    with pytest.raises(InputError):
        Hash32.parse("0x" + "00" * 32 + " ")


def test_a_wrong_number_of_bytes_is_refused() -> None:
    with pytest.raises(InputError, match=r"not a Hash32, expected 32 bytes, got 3 bytes \(0x616263\)"):
        Hash32(b"abc")


def test_all_zero_bytes_read_as_none() -> None:
    assert not Address.zero()
    assert Hash32(b"\0" * 31 + b"\1")
