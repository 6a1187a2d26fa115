"""Doors and waits of the RPC client, by values."""

from __future__ import annotations

import pytest

from poolwright.chain.encoding import quantity, read_address, read_data, read_hash, read_quantity
from poolwright.chain.rpc import Doors, Rpc, back_off, is_repeatable
from poolwright.poco.errors import InputError, PeerError

HOME = Doors(count=3, home_after_seconds=60)


def test_a_failing_door_is_left_for_the_next() -> None:
    assert HOME.failed(0, now=5.0).current == 1
    assert HOME.failed(0, now=5.0).failed(1, now=6.0).current == 2


def test_the_last_door_leads_back_to_the_first() -> None:
    assert HOME.failed(0, 1.0).failed(1, 2.0).failed(2, 3.0).current == 0


def test_a_door_that_another_call_left_already_is_not_left_twice() -> None:
    assert HOME.failed(0, 5.0).failed(0, 5.1).current == 1


def test_the_only_door_stays() -> None:
    alone = Doors(count=1, home_after_seconds=60)
    assert alone.failed(0, 5.0) == alone


def test_home_again_after_a_while() -> None:
    away = HOME.failed(0, now=5.0)
    assert away.at(64.9).current == 1
    assert away.at(65.0).current == 0


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
