"""Words of the command line as typed values; each refusal names the word as it was given. Pure."""

from __future__ import annotations

from typing import Any

from poolwright.cli.iexec.errors import IexecError, ValidationError
from poolwright.poco.errors import InputError
from poolwright.poco.types import Address, Hash32

LARGEST_UINT256 = (1 << 256) - 1


def address_of(text: Any, what: str = "") -> Address:
    """Read an address; `what` names the field. Raises ValidationError."""
    try:
        return Address.parse(text)
    except InputError as problem:
        raise ValidationError(
            f"{f'{what} ' if what else ''}{text} is not a valid ethereum address",
            expected=problem.expected,
            next_step=problem.next_step,
        ) from problem


def hash_of(text: Any, what: str) -> Hash32:
    """Read 32 bytes; `what` names the field. Raises ValidationError."""
    try:
        return Hash32.parse(text)
    except InputError as problem:
        raise ValidationError(
            f"{what} must be a bytes32 hexstring", expected=problem.expected, got=str(text)[:100]
        ) from problem


def number_of(text: Any, what: str, *, least: int = 0) -> int:
    """Read a whole number; `what` names the field. Raises ValidationError."""
    if isinstance(text, int) and not isinstance(text, bool):
        number = text
    elif isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= 78:
        number = int(text)
    else:
        raise ValidationError(
            f"{what} must be a valid integer", expected=f"a whole number from {least}", got=str(text)[:100]
        )
    if not least <= number <= LARGEST_UINT256:
        raise ValidationError(f"{what} must be a valid integer", expected=f"at least {least}", got=str(text))
    return number


def text_of(value: Any, what: str) -> str:
    """Take a text; `what` names the field. Raises ValidationError."""
    if isinstance(value, str):
        return value
    raise ValidationError(f"{what} must be a string", got="nothing" if value is None else repr(value)[:100])


def bytes_of(value: Any, what: str) -> bytes:
    """Read 0x hex, or take a text as its UTF-8 bytes. Raises ValidationError."""
    text = text_of(value, what)
    if text.startswith("0x"):
        try:
            return bytes.fromhex(text[2:])
        except ValueError as problem:
            raise ValidationError(f"{what} must be a bytes hexstring", got=text[:100]) from problem
    return text.encode()


def require(value: str | None, option: str) -> str:
    """A value that must be given as an option. Raises IexecError."""
    if value is None:
        raise IexecError(f"Missing {option} option")
    return value
