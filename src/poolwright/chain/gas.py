"""What to pay for gas: the network's price times a multiplier, never above a cap.

Operators know the two numbers as IEXEC_GAS_PRICE_MULTIPLIER and IEXEC_GAS_PRICE_CAP (parsed by the
daemons); their rule is price = min(network price x multiplier, cap), and the cap when the network's price is
unknown.  A price of 0 is a price: side chains without fees work.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from poolwright.poco.types import Wei

DEFAULT_MULTIPLIER: Final = Fraction(13, 10)
DEFAULT_CAP: Final = Wei(22_000_000_000)
"""22 gwei, the operators' long-standing default."""

REPLACEMENT_STEP: Final = Fraction(9, 8)
"""Nodes want at least +10 % to replace a transaction; some count +12.5 %, so take that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPrice:
    """What the network asks at one moment, wei per gas; None is "the node does not tell"."""

    gas_price: Wei | None
    """eth_gasPrice: on an EIP-1559 chain base fee plus usual tip."""
    base_fee: Wei | None
    """Base fee of the newest block; None on a chain without EIP-1559."""
    tip: Wei | None
    """eth_maxPriorityFeePerGas."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fees:
    """The price fields of a transaction, wei per gas; `tip` is None in a legacy transaction."""

    max_fee: Wei
    tip: Wei | None

    def cost(self, gas_limit: int) -> Wei:
        """The most that `gas_limit` gas can cost."""
        return Wei(self.max_fee * gas_limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class GasPolicy:
    """The operator's price rule; `cap` in wei per gas."""

    multiplier: Fraction | float = DEFAULT_MULTIPLIER
    cap: Wei = DEFAULT_CAP

    def price(self, network: Wei | None) -> Wei:
        """min(network x multiplier, cap); the cap when the network's price is unknown."""
        if network is None:
            return self.cap
        return Wei(min(int(network * Fraction(str(self.multiplier))), self.cap))

    def fees(self, network: NetworkPrice) -> Fees:
        """The fields of a new transaction: EIP-1559 when the chain has a base fee, else legacy."""
        price = self.price(network.gas_price)
        if network.base_fee is None:
            return Fees(max_fee=price, tip=None)
        usual = network.tip if network.tip is not None else Wei(max(price - network.base_fee, 0))
        return Fees(max_fee=price, tip=Wei(min(usual, price)))

    def is_too_dear(self, network: NetworkPrice) -> bool:
        """Whether nothing that pays the cap at most can be mined now."""
        asked = network.gas_price if network.base_fee is None else network.base_fee
        return asked is not None and asked > self.cap

    def bumped(self, old: Fees, fresh: Fees) -> Fees | None:
        """The fields that replace a transaction paying `old`, when the network now asks `fresh`.

        Each field grows by an eighth at least.  None when that would pass the cap, and when the
        price is 0 and nobody asks for more: then only patience or sending again helps.
        """
        if old.max_fee == 0 and fresh.max_fee == 0:
            return None
        max_fee = Wei(max(_step_up(old.max_fee), fresh.max_fee))
        if max_fee > self.cap:
            return None
        if old.tip is None:
            return Fees(max_fee=max_fee, tip=None)
        tip = max(_step_up(old.tip), fresh.tip or 0)
        return Fees(max_fee=max_fee, tip=Wei(min(tip, max_fee)))


def _step_up(price: Wei) -> Wei:
    """The smallest integer price at least an eighth above, and at least one wei."""
    return Wei(max(-(-price * REPLACEMENT_STEP.numerator // REPLACEMENT_STEP.denominator), price + 1))
