"""The decisions of the transaction sender, by values: nonces, gaps, waiting, sending again, replacing.

A wallet's transactions are mined in nonce order.  So one that does not move holds up all behind it, and two
transactions with one nonce can never both be mined.  Everything here follows from these two facts.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum, unique
from fractions import Fraction
from typing import Final, TypeAlias

from poolwright.chain.gas import Fees, GasPolicy
from poolwright.poco.types import Wei

GAS_MARGIN: Final = Fraction(3, 2)
GAS_RESERVE: Final = 50_000
"""A contribution that turns out to be the deciding one costs half as much again as was estimated."""

FILLER_GAS: Final = 21_000
"""What a transfer to oneself costs; it fills a nonce gap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a transaction may stay unmined before something is done about it: whichever comes first."""

    blocks: int = 5
    seconds: float = 60.0

    def is_over(self, *, blocks: int, seconds: float) -> bool:
        return blocks >= self.blocks or seconds >= self.seconds


@unique
class Move(Enum):
    """What to do about a transaction that is overdue."""

    WAIT = "wait"
    """The node has it and a better price is not needed or not allowed."""
    SEND_AGAIN = "send again"
    """The node dropped it."""


NextMove: TypeAlias = Move | Fees
"""Fees: replace it by the same transaction at this price."""


def next_move(*, is_known: bool, is_first: bool, fees: Fees, fresh: Fees, policy: GasPolicy) -> NextMove:
    """What to do about an overdue transaction that pays `fees` while a new one would pay `fresh`.

    `is_known`: the node has it in its pool.  `is_first`: it is the next nonce to be mined, so only its
    price can hold it up; the others wait for it, and get a better price only when the market moved.
    """
    wants_more = fees.max_fee < fresh.max_fee or (is_known and is_first)
    better = policy.bumped(fees, fresh) if wants_more else None
    if better is not None:
        return better
    return Move.WAIT if is_known else Move.SEND_AGAIN


def first_nonce(*, pending_count: int, journaled: Collection[int]) -> int:
    """The nonce of the next new transaction: above the node's pool and above our own records."""
    return max(pending_count, max(journaled, default=-1) + 1)


def gaps(*, mined_count: int, nonces: Collection[int]) -> Sequence[int]:
    """Nonces that nobody we know of will use, below one that waits for them."""
    return [nonce for nonce in range(mined_count, max(nonces, default=0)) if nonce not in nonces]


def gas_limit(estimate: int, block_gas_limit: int) -> int:
    """The gas to allow for what was estimated; unused gas costs nothing."""
    return min(int(estimate * GAS_MARGIN) + GAS_RESERVE, block_gas_limit)


@unique
class Afford(Enum):
    """Whether a wallet can pay one more transaction."""

    YES = "yes"
    LATER = "later"
    """When those in flight are mined and cost less than they might."""
    NO = "no"


def can_afford(*, balance: Wei, cost: Wei, in_flight: Wei) -> Afford:
    """Compare what the wallet has with what this transaction and those in flight may cost at most."""
    if cost > balance:
        return Afford.NO
    return Afford.YES if cost + in_flight <= balance or not cost else Afford.LATER
