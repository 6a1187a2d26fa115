"""The operators' price rule and the price of a replacement."""

from __future__ import annotations

from fractions import Fraction

import pytest

from poolwright.chain.gas import Fees, GasPolicy, NetworkPrice
from poolwright.poco.types import Wei

GWEI = 10**9
POLICY = GasPolicy()


def fees(max_fee: int, tip: int | None = None) -> Fees:
    return Fees(max_fee=Wei(max_fee), tip=None if tip is None else Wei(tip))


def network(gas_price: int | None, base_fee: int | None = None, tip: int | None = None) -> NetworkPrice:
    wei = [None if price is None else Wei(price) for price in (gas_price, base_fee, tip)]
    return NetworkPrice(gas_price=wei[0], base_fee=wei[1], tip=wei[2])


@pytest.mark.parametrize(
    ("asked", "paid"), [(10 * GWEI, 13 * GWEI), (20 * GWEI, 22 * GWEI), (0, 0), (None, 22 * GWEI), (1, 1)]
)
def test_price_is_network_times_multiplier_under_the_cap(asked: int | None, paid: int) -> None:
    assert POLICY.price(None if asked is None else Wei(asked)) == paid


def test_a_multiplier_may_be_written_as_a_float_and_stays_exact() -> None:
    asked = Wei(10**18 + 10)
    exact = GasPolicy(multiplier=Fraction(13, 10), cap=Wei(10**20)).price(asked)
    assert GasPolicy(multiplier=1.3, cap=Wei(10**20)).price(asked) == exact == 13 * 10**17 + 13


def test_a_chain_without_base_fee_gets_legacy_fields() -> None:
    assert POLICY.fees(network(GWEI)) == fees(1_300_000_000)


def test_a_chain_with_base_fee_gets_both_fields() -> None:
    assert POLICY.fees(network(2 * GWEI, GWEI, GWEI)) == fees(2_600_000_000, GWEI)
    assert POLICY.fees(network(2 * GWEI, GWEI)) == fees(2_600_000_000, 1_600_000_000)


def test_the_tip_never_passes_the_price() -> None:
    assert POLICY.fees(network(30 * GWEI, 25 * GWEI, 50 * GWEI)) == fees(22 * GWEI, 22 * GWEI)


def test_a_chain_without_fees_costs_nothing() -> None:
    assert POLICY.fees(network(0)).cost(1_000_000) == 0
    assert POLICY.fees(network(0, 0, 0)) == fees(0, 0)


def test_a_replacement_grows_every_field_by_an_eighth() -> None:
    assert POLICY.bumped(fees(8 * GWEI, 800), fees(GWEI, 1)) == fees(9 * GWEI, 900)
    assert POLICY.bumped(fees(8 * GWEI), fees(GWEI)) == fees(9 * GWEI)
    assert POLICY.bumped(fees(9), fees(1)) == fees(11)


def test_a_replacement_follows_the_network_when_that_asks_more() -> None:
    assert POLICY.bumped(fees(8 * GWEI, 0), fees(20 * GWEI, 2 * GWEI)) == fees(20 * GWEI, 2 * GWEI)


def test_no_replacement_above_the_cap() -> None:
    assert POLICY.bumped(fees(20 * GWEI, 1), fees(22 * GWEI, 1)) is None


def test_no_replacement_of_a_free_transaction_while_the_chain_is_free() -> None:
    assert POLICY.bumped(fees(0, 0), fees(0, 0)) is None
    assert POLICY.bumped(fees(0, 0), fees(GWEI, 5)) == fees(GWEI, 5)


def test_gas_is_too_dear_when_the_base_fee_is_above_the_cap() -> None:
    assert POLICY.is_too_dear(network(30 * GWEI, 23 * GWEI, GWEI))
    assert not POLICY.is_too_dear(network(30 * GWEI, 22 * GWEI, GWEI))
    assert POLICY.is_too_dear(network(23 * GWEI))
    assert not POLICY.is_too_dear(network(None))
    assert not POLICY.is_too_dear(network(0, 0, 0))
