"""Amounts as people write and read them."""

from __future__ import annotations

import pytest

from poolwright.devnet.amounts import format_ether, format_rlc, parse_rlc
from poolwright.poco.errors import InputError
from poolwright.poco.types import Wei


@pytest.mark.parametrize(
    ("text", "nrlc"), [("1", 10**9), ("0", 0), ("0.5", 5 * 10**8), ("12.000000001", 12 * 10**9 + 1)]
)
def test_rlc_is_read_and_written_exactly(text: str, nrlc: int) -> None:
    assert parse_rlc(text, "--price") == nrlc
    assert format_rlc(nrlc) == text


@pytest.mark.parametrize("text", ["", "-1", "1,5", "1e3", ".5", "0.0000000001", "²", "1 "])
def test_what_is_no_amount_is_refused_by_name(text: str) -> None:
    with pytest.raises(InputError, match="option --price is no amount of RLC, expected a decimal number"):
        parse_rlc(text, "option --price")


def test_negative_amounts_are_written_with_their_sign() -> None:
    assert format_rlc(-1) == "-0.000000001"
    assert format_rlc(-(10**9)) == "-1"


def test_ether_is_rounded_for_people() -> None:
    assert format_ether(Wei(1_234_567_000_000_000)) == "0.001235"
    assert format_ether(Wei(-(10**18))) == "-1"
    assert format_ether(Wei(1)) == "0"
