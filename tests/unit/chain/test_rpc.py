"""Waits of the RPC client and what it reads, by values."""

from __future__ import annotations

import pytest

from poolwright.chain.encoding import quantity, read_address, read_data, read_hash, read_quantity
from poolwright.chain.rpc import Rpc, back_off, is_repeatable
from poolwright.poco.errors import InputError, PeerError


def test_waits_double_up_to_a_bound_and_are_spread() -> None:
    assert [back_off(attempt, 0.0) for attempt in (1, 2, 3)] == [0.025, 0.05, 0.1]
    assert back_off(100, 0.999) < 5.0
    assert back_off(3, 0.0) < back_off(3, 0.5)


def test_only_methods_that_may_be_asked_twice_are_repeated() -> None:
    assert is_repeatable("eth_sendRawTransaction")
    assert not is_repeatable("evm_mine")
    assert not is_repeatable("eth_sendTransaction")


@pytest.mark.parametrize("urls", ["ftp://x", "", [], ["http://ok", "ws://no"]])
def test_an_url_that_is_none_is_the_callers_error(urls: list[str] | str) -> None:
    with pytest.raises(InputError):
        Rpc(urls)


def test_quantities_read_as_written() -> None:
    assert [read_quantity(quantity(number), "x") for number in (0, 1, 500, 2**256)] == [0, 1, 500, 2**256]
    assert read_data("0x00ff", "x") == b"\x00\xff"


@pytest.mark.parametrize("answer", [None, 5, "5", "0x", "0xzz", {}, []])
def test_what_is_no_quantity_names_the_field(answer: int | str | dict[str, str] | list[str] | None) -> None:
    with pytest.raises(PeerError, match="wrong gas price"):
        read_quantity(answer, "gas price")


def test_hashes_and_addresses_have_their_length() -> None:
    with pytest.raises(PeerError, match="32-byte hash"):
        read_hash("0x00", "block hash")
    with pytest.raises(PeerError, match="20-byte address"):
        read_address("0x" + "00" * 21, "hub")
