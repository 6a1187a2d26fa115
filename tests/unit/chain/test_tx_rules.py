"""The sender's decisions, by values."""

from __future__ import annotations

import pytest

from poolwright.chain.gas import Fees, GasPolicy
from poolwright.chain.tx_rules import (
    Afford,
    Move,
    NextMove,
    Patience,
    can_afford,
    first_nonce,
    gaps,
    gas_limit,
    next_move,
)
from poolwright.poco.types import Wei

GWEI = 10**9
POLICY = GasPolicy(cap=Wei(22 * GWEI))


def price(gwei: float) -> Fees:
    return Fees(max_fee=Wei(int(gwei * GWEI)), tip=None)


@pytest.mark.parametrize(
    ("is_known", "is_first", "paid", "fresh", "move"),
    [
        # the node dropped it
        (False, True, 10, 10, Move.SEND_AGAIN),
        (False, False, 10, 10, Move.SEND_AGAIN),
        (False, True, 10, 12, price(12)),  # and the network asks more now
        (False, True, 21, 22, Move.SEND_AGAIN),  # and the cap allows no more
        # the node has it
        (True, True, 8, 8, price(9)),  # only its price can hold it up
        (True, False, 8, 8, Move.WAIT),  # it waits for those before it
        (True, False, 8, 12, price(12)),  # the market moved
        (True, True, 20, 20, Move.WAIT),  # the cap allows no replacement
        (True, True, 0, 0, Move.WAIT),  # a chain without fees
        (False, True, 0, 0, Move.SEND_AGAIN),
    ],
)
def test_what_is_done_about_an_overdue_transaction(
    is_known: bool, is_first: bool, paid: float, fresh: float, move: NextMove
) -> None:
    assert move == next_move(
        is_known=is_known, is_first=is_first, fees=price(paid), fresh=price(fresh), policy=POLICY
    )


def test_patience_ends_by_blocks_or_by_seconds() -> None:
    patience = Patience(blocks=5, seconds=60)
    assert not patience.is_over(blocks=4, seconds=59.9)
    assert patience.is_over(blocks=5, seconds=0)
    assert patience.is_over(blocks=0, seconds=60)


def test_the_first_nonce_is_above_the_pool_and_the_journal() -> None:
    assert first_nonce(pending_count=7, journaled=[]) == 7
    assert first_nonce(pending_count=7, journaled=[5, 9]) == 10
    assert first_nonce(pending_count=7, journaled=[5, 6]) == 7
    assert first_nonce(pending_count=0, journaled=[0]) == 1


def test_gaps_are_the_nonces_that_nobody_uses() -> None:
    assert gaps(mined_count=5, nonces=[5, 6, 7]) == []
    assert gaps(mined_count=5, nonces=[7, 9]) == [5, 6, 8]
    assert gaps(mined_count=8, nonces=[7]) == []
    assert gaps(mined_count=5, nonces=[]) == []


def test_the_gas_limit_has_a_margin_within_the_block() -> None:
    assert gas_limit(300_000, 30_000_000) == 500_000
    assert gas_limit(25_000_000, 30_000_000) == 30_000_000


@pytest.mark.parametrize(
    ("balance", "cost", "in_flight", "expected"),
    [
        (100, 60, 0, Afford.YES),
        (100, 60, 40, Afford.YES),
        (100, 60, 41, Afford.LATER),
        (100, 101, 0, Afford.NO),
        (0, 0, 0, Afford.YES),
        (0, 0, 50, Afford.YES),
    ],
)
def test_what_a_wallet_can_pay(balance: int, cost: int, in_flight: int, expected: Afford) -> None:
    assert can_afford(balance=Wei(balance), cost=Wei(cost), in_flight=Wei(in_flight)) is expected
