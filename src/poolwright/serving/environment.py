"""What an operator sets: environment variables, read once and typed.

Every service of ours reads its settings here, so that the same mistake is told in the same words everywhere:

    PORT is not set, expected a whole number from 0 to 65535; export PORT and start again
    cannot read PORT, expected a whole number from 0 to 65535, got 'http'; correct PORT and start again

Blanks around a value do not count, and a variable that is empty counts as not set. Read by hand rather than
with pydantic-settings: it is a few dozen values, and the processes start 10 MB smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

from poolwright.poco.errors import InputError
from poolwright.poco.types import Address

T = TypeVar("T")

_ON = ("1", "true", "yes")
_OFF = ("0", "false", "no")


class Environment:
    """Typed reads of environment variables; every problem is an InputError that names the variable.

    A read without a default must find a value.
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    def read(self, name: str, parse: Callable[[str], T], expected: str, default: T | None = None) -> T:
        """What `parse` makes of the value; it raises ValueError or InputError for what is not `expected`."""
        text = self.optional(name)
        if text is None:
            if default is None:
                raise InputError(
                    f"{name} is not set",
                    code="missing-variable",
                    expected=expected,
                    next_step=f"export {name} and start again",
                )
            return default
        try:
            return parse(text)
        except (ValueError, InputError) as problem:
            raise InputError(
                f"cannot read {name}",
                code="bad-variable",
                expected=expected,
                got=repr(text)[:100],
                next_step=f"correct {name} and start again",
            ) from problem

    def optional(self, name: str) -> str | None:
        """The value, or None when there is none."""
        return self._variables.get(name, "").strip() or None

    def secret(self, name: str) -> str:
        """A value that is taken as it stands, blanks too."""
        value = self._variables.get(name, "")
        return value or self.text(name, expected="a password")

    def text(self, name: str, default: str | None = None, *, expected: str = "a text") -> str:
        return self.read(name, str, expected, default)

    def integer(
        self, name: str, default: int | None = None, *, minimum: int = 0, maximum: int | None = None
    ) -> int:
        """A whole number between the bounds, both included."""

        def parse(text: str) -> int:
            value = int(text)
            if value < minimum or (maximum is not None and value > maximum):
                raise ValueError
            return value

        bounds = f"of at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"
        return self.read(name, parse, f"a whole number {bounds}", default)

    def port(self, name: str, default: int) -> int:
        """A port to listen on; 0 lets the system choose."""
        return self.integer(name, default, maximum=65_535)

    def number(self, name: str, default: Fraction) -> Fraction:
        """A number that need not be whole, at least 0."""

        def parse(text: str) -> Fraction:
            try:
                value = Fraction(text)
            except ZeroDivisionError:
                raise ValueError from None
            if value < 0:
                raise ValueError
            return value

        return self.read(name, parse, "a number of at least 0 such as 1.3", default)

    def seconds(self, name: str, default: float) -> float:
        """A time above 0 and below an hour."""

        def parse(text: str) -> float:
            seconds = float(text)
            if not 0 < seconds < 3600:
                raise ValueError
            return seconds

        return self.read(name, parse, "seconds, above 0 and below 3600", default)

    def flag(self, name: str, default: bool = False) -> bool:
        def parse(text: str) -> bool:
            if text.lower() not in (*_ON, *_OFF):
                raise ValueError
            return text.lower() in _ON

        return self.read(name, parse, "true or false", default)

    def address(self, name: str) -> Address:
        return self.read(name, Address.parse, "an address: 0x and 40 hexadecimal digits")

    def addresses(self, name: str) -> frozenset[Address]:
        """Addresses with commas between them; none when the variable is not set."""

        def parse(text: str) -> frozenset[Address]:
            return frozenset(Address.parse(part) for part in separated(text))

        return self.read(name, parse, "addresses separated by commas", frozenset())

    def url(self, name: str) -> str:
        """One http(s) URL, without a slash at its end."""
        return self.read(name, http_url, "a URL such as http://host:13000")

    def urls(self, name: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """http(s) URLs with commas between them, without slashes at their ends."""

        def parse(text: str) -> tuple[str, ...]:
            urls = tuple(http_url(part) for part in separated(text))
            if not urls:
                raise ValueError
            return urls

        return self.read(
            name, parse, "one or more URLs such as http://host:port, separated by commas", default
        )

    def path(self, name: str, default: str | None = None) -> Path:
        """A file or folder, absolute; a default counts from the folder the process starts in."""
        return Path(self.text(name, default, expected="a path")).expanduser().absolute()


def separated(text: str) -> list[str]:
    """The parts between commas, without blanks around them and without empty ones."""
    return [part.strip() for part in text.split(",") if part.strip()]


def http_url(text: str) -> str:
    """The URL without a slash at its end. Raises ValueError for what is no http(s) URL."""
    if not text.startswith(("http://", "https://")) or not text.partition("://")[2].strip("/"):
        raise ValueError
    return text.rstrip("/")
