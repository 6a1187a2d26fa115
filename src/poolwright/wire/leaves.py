"""The leaves of the codec: how text, numbers, bytes, ids and enums stand in JSON. See `codec`."""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, StrEnum
from functools import lru_cache
from typing import Any, Final, Protocol

from poolwright.poco.errors import InputError
from poolwright.poco.types import Address, FixedBytes

MAX_INT: Final = 2**53 - 1
"""Largest integer that every JSON reader keeps exactly (RFC 8259, section 6)."""
MAX_DIGITS: Final = 80
"""Longest decimal string read; 2^256 has 78 digits."""


@dataclass(frozen=True, slots=True)
class Coder:
    """One type, compiled: `write` gives its JSON form, `read` takes it back; both raise Mismatch."""

    write: Callable[[Any], Any]
    read: Callable[[Any], Any]
    is_text: bool = False  # the JSON form is always a string, so it can be the name of a member


class Mismatch(Exception):
    """A value does not fit; each level that this passes adds its step to the path."""

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(expected, got)
        self.expected = expected
        self.got = got
        self._steps: list[str] = []

    def at(self, step: str) -> Mismatch:
        self._steps.append(step)
        return self

    @property
    def path(self) -> str:
        """The place in the words of JSONPath, `$.orders[3].price`."""
        return "$" + "".join(reversed(self._steps))


def kind(value: object) -> str:
    """The name of a value's type, in the words of JSON where it has one."""
    return {dict: "object", list: "array", types.NoneType: "null"}.get(type(value), type(value).__name__)


def shown(value: object) -> str:
    """A value, short enough for one line."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _text(value: object) -> str:
    if type(value) is not str:
        raise Mismatch("str", kind(value))
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:  # a lone surrogate: no file, database or hash could hold it
            raise Mismatch("text of Unicode characters", shown(value)) from None
    return value


def _bool(value: object) -> bool:
    if type(value) is not bool:
        raise Mismatch("bool", kind(value))
    return value


def _int(value: object) -> int:
    if type(value) is not int:
        raise Mismatch("int", kind(value))
    if not -MAX_INT <= value <= MAX_INT:
        raise Mismatch("int within 2^53", shown(value))
    return value


def _write_decimal(value: object) -> str:
    if type(value) is not int:
        raise Mismatch("int", kind(value))
    return str(value)


def _read_decimal(data: object) -> int:
    if type(data) is not str:
        raise Mismatch("decimal string", kind(data))
    if not (data.isascii() and data.removeprefix("-").isdecimal() and len(data) <= MAX_DIGITS):
        raise Mismatch("decimal string", shown(data))
    return int(data)


def _write_int_name(value: object) -> str:
    return str(_int(value))


def _read_int_name(name: str) -> int:
    value = _read_decimal(name)
    if str(value) != name:  # "007" and "7" would be two names of one key
        raise Mismatch("int", shown(name))
    return _int(value)


def _write_bytes(value: object) -> str:
    if not isinstance(value, bytes):
        raise Mismatch("bytes", kind(value))
    return "0x" + value.hex()


def _read_bytes(data: object, expected: str = "0x and hexadecimal digits") -> bytes:
    if type(data) is not str:
        raise Mismatch(expected, kind(data))
    try:
        raw = bytes.fromhex(data[2:])
    except ValueError:
        raise Mismatch(expected, shown(data)) from None
    if not data.startswith("0x") or len(data) != 2 + 2 * len(raw):  # fromhex skips white space
        raise Mismatch(expected, shown(data))
    return raw


TEXT: Final = Coder(_text, _text, is_text=True)
BOOL: Final = Coder(_bool, _bool)
INT: Final = Coder(_int, _int)
INT_NAME: Final = Coder(_write_int_name, _read_int_name, is_text=True)
DECIMAL: Final = Coder(_write_decimal, _read_decimal, is_text=True)
BYTES: Final = Coder(_write_bytes, _read_bytes, is_text=True)


def fixed_bytes_coder(cls: type[FixedBytes]) -> Coder:
    """Ids and addresses: 0x and exactly as many digits as the class has."""
    # The checksum of an address costs a keccak; the same few addresses come again and again.
    print_text = lru_cache(maxsize=16_384)(cls.__str__) if issubclass(cls, Address) else cls.__str__
    expected = f"0x and {2 * cls.LENGTH} hexadecimal digits"

    def write(value: object) -> str:
        if not isinstance(value, cls):
            raise Mismatch(cls.__name__, kind(value))
        return print_text(value)

    def read(data: object) -> FixedBytes:
        raw = _read_bytes(data, expected)
        if len(raw) != cls.LENGTH:
            raise Mismatch(expected, shown(data))
        return bytes.__new__(cls, raw)  # the length is checked already

    return Coder(write, read, is_text=True)


def enum_coder(cls: type[Enum]) -> Coder:
    """Members by name; of a StrEnum by value, which is its name in this product."""
    member_to_text = {m: str(m.value) if issubclass(cls, StrEnum) else m.name for m in cls}
    text_to_member = {text: member for member, text in member_to_text.items()}
    expected = f"a {cls.__name__} ({', '.join(list(text_to_member)[:8])}{', ...' if len(cls) > 8 else ''})"

    def write(value: object) -> str:
        if type(value) is not cls:
            raise Mismatch(cls.__name__, kind(value))
        return member_to_text[value]

    def read(data: object) -> Enum:
        member = text_to_member.get(data) if type(data) is str else None
        if member is None:
            raise Mismatch(expected, shown(data) if type(data) is str else kind(data))
        return member

    return Coder(write, read, is_text=True)


class Parsed(Protocol):
    """A class with its own text form: `str(value)` prints it, `parse` reads it or raises InputError."""

    @classmethod
    def parse(cls, text: str, /) -> object: ...


def parsed_coder(cls: type[Parsed]) -> Coder:
    """The class's own text."""

    def write(value: object) -> str:
        if not isinstance(value, cls):
            raise Mismatch(cls.__name__, kind(value))
        return str(value)

    def read(data: object) -> object:
        try:
            return cls.parse(_text(data))
        except (InputError, ValueError):
            raise Mismatch(f"a {cls.__name__}", shown(data)) from None

    return Coder(write, read, is_text=True)


def literal_coder(values: tuple[object, ...]) -> Coder:
    """One of a few strings, integers or booleans."""
    known = {(type(value), value) for value in values}
    expected = " or ".join(repr(value) for value in values)

    def same(value: object) -> object:
        if type(value) not in (str, int, bool) or (type(value), value) not in known:
            raise Mismatch(expected, shown(value))
        return value

    return Coder(same, same, is_text=all(type(value) is str for value in values))
