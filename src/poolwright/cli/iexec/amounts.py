"""Amounts as typed: `<number> [unit]`, in two words or one (reference: market-sdk.md 1.1). Pure."""

from __future__ import annotations

import re
from typing import Final

from poolwright.cli.iexec.errors import IexecError
from poolwright.poco.types import NRlc, Wei

RLC_UNITS: Final = {"nRLC": 0, "RLC": 9}
ETHER_UNITS: Final = {
    "wei": 0,
    "kwei": 3,
    "mwei": 6,
    "gwei": 9,
    "szabo": 12,
    "finney": 15,
    "ether": 18,
    "eth": 18,
}
"""Decimal places of each unit."""

_AMOUNT: Final = re.compile(r"(\d{1,78}(?:\.\d{1,78})?)(?:\s+(\w+))?", re.ASCII)


def parse_rlc(amount: str, unit: str | None, default: str) -> NRlc:
    """Read nRLC; without a unit in either word, `default` is it. Raises IexecError."""
    return NRlc(_parse(amount, unit, default, RLC_UNITS))


def parse_ether(amount: str, unit: str | None, default: str) -> Wei:
    """Read wei; without a unit in either word, `default` is it. Raises IexecError."""
    return Wei(_parse(amount, unit, default, ETHER_UNITS))


def format_rlc(amount: int) -> str:
    """RLC without superfluous zeros: 1500000000 nRLC is 1.5."""
    return _format(amount, 9)


def format_ether(amount: int) -> str:
    """Ether without superfluous zeros."""
    return _format(amount, 18)


def decimal(amount: int, places: int) -> str:
    """As the official client prints amounts in `--raw`: at least one decimal, "10.0"."""
    text = _format(amount, places)
    return text if "." in text else f"{text}.0"


def _parse(amount: str, unit: str | None, default: str, units: dict[str, int]) -> int:
    text = amount if unit is None else f"{amount} {unit}"
    found = _AMOUNT.fullmatch(text.strip())
    places = {name.lower(): count for name, count in units.items()}.get(
        (found[2] or default).lower() if found else ""
    )
    if found is None or places is None:
        raise _refused(text, f"a number and {', '.join(units)}")
    whole, _, fraction = found[1].partition(".")
    fraction = fraction.rstrip("0")
    if len(fraction) > places:
        raise _refused(text, f"at most {places} decimal places")
    return int(whole + fraction.ljust(places, "0"))


def _refused(text: str, expected: str) -> IexecError:
    return IexecError(f"{text} is not a valid amount", expected=expected)


def _format(amount: int, places: int) -> str:
    whole, fraction = divmod(abs(amount), 10**places)
    decimals = f"{fraction:0{places}d}".rstrip("0")
    return f"{'-' if amount < 0 else ''}{whole}{'.' if decimals else ''}{decimals}"
