"""Amounts as people write and read them: RLC and ETH in decimal; inside they are integers of nRLC and wei."""

from __future__ import annotations

import re

from poolwright.poco.errors import InputError
from poolwright.poco.types import NRlc, Wei

RLC_DECIMALS = 9
ETH_DECIMALS = 18
_DECIMAL = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,9}))?", re.ASCII)


def parse_rlc(text: str, what: str) -> NRlc:
    """Read an amount of RLC such as `0.5`. Raises InputError naming `what` (an option, say)."""
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise InputError(
            f"{what} is no amount of RLC",
            code="bad-amount",
            expected="a decimal number with at most 9 decimals, such as 0.5",
            got=repr(text)[:60],
        )
    whole, fraction = match.group(1), match.group(2) or ""
    return NRlc(int(whole + fraction.ljust(RLC_DECIMALS, "0")))


def format_rlc(amount: int) -> str:
    """nRLC as RLC, exactly: `1`, `0.05`, `-0.000000001`."""
    return _decimal(amount, RLC_DECIMALS)


def format_ether(amount: Wei, decimals: int = 6) -> str:
    """Wei as ETH, rounded to so many decimals."""
    unit = 10 ** (ETH_DECIMALS - decimals)
    rounded = (abs(amount) + unit // 2) // unit
    return _decimal(-rounded if amount < 0 else rounded, decimals)


def _decimal(amount: int, decimals: int) -> str:
    whole, fraction = divmod(abs(amount), 10**decimals)
    text = f"{whole}.{fraction:0{decimals}}".rstrip("0").rstrip(".")
    return f"-{text}" if amount < 0 and text != "0" else text
