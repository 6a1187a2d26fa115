"""Contract ABI codec: typed values to call data and back.

Static values stand in the head, dynamic ones in a tail that the head points to. Decoding is strict, because
the bytes come from others: padding must be zero, every offset and length must stay inside, and each byte must
belong to exactly one value. The last rule (Solidity's own output keeps it) also bounds the work: a few bytes
that point at each other cannot unfold into gigabytes.

Values in Python: uintN and intN are int, bool bool, address Address, bytes32 Hash32, other bytesN and bytes
are bytes, string str, arrays and tuples tuple. A `string` that is no UTF-8 decodes with U+FFFD for the bad
bytes: the contracts store any bytes as a string, and no requester may make a deal unreadable.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Protocol

from poolwright.poco.errors import InputError, PeerError
from poolwright.poco.keccak import keccak
from poolwright.poco.types import Address, FixedBytes, Hash32

_WORD: Final = 32
_ONE_WORD: Final[dict[tuple[str, ...], type[FixedBytes]]] = {("address",): Address, ("bytes32",): Hash32}
"""Arguments of most questions to the hub: one value, which is right because of its class."""


def encode(types: Sequence[str], values: Sequence[object]) -> bytes:
    """Encode values by type strings such as "uint256", "(address,bytes)[]".

    Raises InputError naming the value that does not fit its type, or the type that is none.
    """
    return _tuple_of(tuple(types)).encode(values, "arguments")


def decode(types: Sequence[str], data: bytes) -> tuple[Any, ...]:
    """Decode data that holds exactly these types. Raises PeerError naming the position of what is wrong."""
    codec = _tuple_of(tuple(types))
    source = _Source(data)
    values: tuple[Any, ...] = codec.decode(source, 0)
    if source.taken != len(data):
        raise PeerError(
            f"ABI data for ({','.join(types)}) refused",
            code="bad-abi",
            expected=f"{source.taken} bytes",
            got=f"{len(data)} bytes",
        )
    return values


@lru_cache(maxsize=512)
def selector(signature: str) -> bytes:
    """First four bytes of the hash of a function or error signature such as "claim(bytes32)"."""
    return keccak(signature.encode())[:4]


def encode_call(signature: str, *values: object) -> bytes:
    """Call data of a function. Raises InputError as `encode`."""
    if len(values) == 1 and type(values[0]) is _ONE_WORD.get(argument_types(signature)):
        return selector(signature) + bytes(values[0]).rjust(_WORD, b"\0")
    return selector(signature) + _arguments_of(signature).encode(values, signature.partition("(")[0])


def decode_call(signature: str, data: bytes) -> tuple[Any, ...]:
    """Arguments of call data. Raises PeerError when it calls another function or is malformed."""
    if data[:4] != selector(signature):
        raise PeerError(
            f"not a call of {signature}",
            code="bad-selector",
            expected=f"0x{selector(signature).hex()}",
            got=f"0x{data[:4].hex()}",
        )
    return decode(argument_types(signature), data[4:])


@lru_cache(maxsize=512)
def argument_types(signature: str) -> tuple[str, ...]:
    """Types of the arguments of a signature. Raises InputError when it is none."""
    name, bracket, _ = signature.partition("(")
    if not bracket or not signature.endswith(")"):
        raise InputError("not a signature", code="bad-type", expected="name(types)", got=signature[:100])
    return tuple(_members(signature[len(name) + 1 : -1]))


class _Source:
    """The bytes to decode, and how many of them were taken."""

    __slots__ = ("data", "taken")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.taken = 0

    def take(self, position: int, size: int) -> bytes:
        end = position + size
        if end > len(self.data):
            raise _malformed(position, f"{size} bytes", f"{max(len(self.data) - position, 0)} bytes left")
        self.taken += size
        if self.taken > len(self.data):
            raise _malformed(position, "bytes of one value only", "bytes that another value holds")
        return self.data[position:end]

    def number(self, position: int) -> int:
        return int.from_bytes(self.take(position, _WORD), "big")

    def left(self, position: int) -> int:
        return len(self.data) - position


class _Codec(Protocol):
    """How one type is written and read; `size` counts the bytes in the head."""

    @property
    def is_dynamic(self) -> bool: ...
    @property
    def size(self) -> int: ...
    def encode(self, value: Any, where: str) -> bytes: ...
    def decode(self, source: _Source, position: int) -> Any:
        """Read the value that starts at `position`: for a dynamic type, where the offset led."""


@dataclass(frozen=True, slots=True)
class _Integer:
    name: str
    low: int
    high: int
    is_dynamic: bool = False
    size: int = _WORD

    def encode(self, value: Any, where: str) -> bytes:
        if not isinstance(value, int) or isinstance(value, bool) or not self.low <= value <= self.high:
            raise _unfit(where, self.name, value)
        return (value % (1 << 256)).to_bytes(_WORD, "big")

    def decode(self, source: _Source, position: int) -> int:
        number = int.from_bytes(source.take(position, _WORD), "big", signed=self.low < 0)
        if not self.low <= number <= self.high:
            raise _malformed(position, self.name, str(number))
        return number


@dataclass(frozen=True, slots=True)
class _Bool:
    is_dynamic: bool = False
    size: int = _WORD

    def encode(self, value: Any, where: str) -> bytes:
        if not isinstance(value, bool):
            raise _unfit(where, "bool", value)
        return value.to_bytes(_WORD, "big")

    def decode(self, source: _Source, position: int) -> bool:
        number = source.number(position)
        if number > 1:
            raise _malformed(position, "bool", str(number))
        return number == 1


@dataclass(frozen=True, slots=True)
class _Address:
    is_dynamic: bool = False
    size: int = _WORD

    def encode(self, value: Any, where: str) -> bytes:
        if not isinstance(value, bytes) or len(value) != Address.LENGTH:
            raise _unfit(where, "address (20 bytes)", value)
        return value.rjust(_WORD, b"\0")

    def decode(self, source: _Source, position: int) -> Address:
        word = source.take(position, _WORD)
        if any(word[:12]):
            raise _malformed(position, "address", "0x" + word.hex())
        return Address(word[12:])


@dataclass(frozen=True, slots=True)
class _FixedBytes:
    length: int
    is_dynamic: bool = False
    size: int = _WORD

    def encode(self, value: Any, where: str) -> bytes:
        if not isinstance(value, bytes) or len(value) != self.length:
            raise _unfit(where, f"bytes{self.length}", value)
        return value.ljust(_WORD, b"\0")

    def decode(self, source: _Source, position: int) -> bytes:
        word = source.take(position, _WORD)
        if self.length == _WORD:
            return Hash32(word)
        if any(word[self.length :]):
            raise _malformed(position, f"bytes{self.length}", "0x" + word.hex())
        return word[: self.length]


@dataclass(frozen=True, slots=True)
class _Bytes:
    is_dynamic: bool = True
    size: int = _WORD

    def encode(self, value: Any, where: str) -> bytes:
        if not isinstance(value, bytes):
            raise _unfit(where, "bytes", value)
        return len(value).to_bytes(_WORD, "big") + value.ljust(_padded(len(value)), b"\0")

    def decode(self, source: _Source, position: int) -> bytes:
        length = source.number(position)
        start = position + _WORD
        if length > source.left(start):
            raise _malformed(position, f"a length up to {source.left(start)}", str(length))
        padded = source.take(start, _padded(length))
        if any(padded[length:]):
            raise _malformed(start + length, "padding with zeros", "0x" + padded[length:].hex())
        return padded[:length]


@dataclass(frozen=True, slots=True)
class _String:
    is_dynamic: bool = True
    size: int = _WORD

    def encode(self, value: Any, where: str) -> bytes:
        if not isinstance(value, str):
            raise _unfit(where, "string", value)
        try:
            return _BYTES.encode(value.encode(), where)
        except UnicodeEncodeError as problem:
            raise _unfit(where, "string (Unicode without lone surrogates)", value) from problem

    def decode(self, source: _Source, position: int) -> str:
        return _BYTES.decode(source, position).decode(errors="replace")


@dataclass(frozen=True, slots=True)
class _Tuple:
    members: tuple[_Codec, ...]
    is_dynamic: bool
    size: int
    """In the parent's head: an offset when dynamic."""
    head: int
    """Of its own members."""

    @classmethod
    def of(cls, members: Sequence[_Codec]) -> _Tuple:
        head = sum(member.size for member in members)
        is_dynamic = any(member.is_dynamic for member in members)
        return cls(tuple(members), is_dynamic, _WORD if is_dynamic else head, head)

    def encode(self, value: Any, where: str) -> bytes:
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            raise _unfit(where, "a sequence", value)
        if len(value) != len(self.members):
            raise _wrong_count(where, len(self.members), len(value))
        return _encode_members(self.members, value, where, self.head)

    def decode(self, source: _Source, position: int) -> tuple[Any, ...]:
        return _decode_members(self.members, source, position)


@dataclass(frozen=True, slots=True)
class _Array:
    inner: _Codec
    length: int | None
    """None for a dynamic array."""
    is_dynamic: bool
    size: int

    @classmethod
    def of(cls, inner: _Codec, length: int | None) -> _Array:
        is_dynamic = length is None or inner.is_dynamic
        return cls(inner, length, is_dynamic, _WORD if is_dynamic else inner.size * (length or 0))

    def encode(self, value: Any, where: str) -> bytes:
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            raise _unfit(where, "a sequence", value)
        if self.length is not None and len(value) != self.length:
            raise _wrong_count(where, self.length, len(value))
        body = _encode_members((self.inner,) * len(value), value, where, self.inner.size * len(value))
        return body if self.length is not None else len(value).to_bytes(_WORD, "big") + body

    def decode(self, source: _Source, position: int) -> tuple[Any, ...]:
        length = self.length
        if length is None:
            length = source.number(position)
            position += _WORD
        if length * self.inner.size > source.left(position):
            raise _malformed(
                position, f"up to {max(source.left(position), 0) // self.inner.size} elements", str(length)
            )
        return _decode_members((self.inner,) * length, source, position)


def _encode_members(members: Sequence[_Codec], values: Sequence[Any], where: str, head_size: int) -> bytes:
    heads: list[bytes] = []
    tails: list[bytes] = []
    offset = head_size
    for index, (member, value) in enumerate(zip(members, values, strict=True)):
        encoded = member.encode(value, f"{where}[{index}]")
        if member.is_dynamic:
            heads.append(offset.to_bytes(_WORD, "big"))
            tails.append(encoded)
            offset += len(encoded)
        else:
            heads.append(encoded)
    return b"".join(heads + tails)


def _decode_members(members: Sequence[_Codec], source: _Source, base: int) -> tuple[Any, ...]:
    values: list[Any] = []
    position = base
    for member in members:
        if member.is_dynamic:
            offset = source.number(position)
            if offset > source.left(base):
                raise _malformed(position, f"an offset up to {source.left(base)}", str(offset))
            values.append(member.decode(source, base + offset))
        else:
            values.append(member.decode(source, position))
        position += member.size
    return tuple(values)


def _padded(length: int) -> int:
    return -(-length // _WORD) * _WORD


def _unfit(where: str, expected: str, value: object) -> InputError:
    return InputError(
        f"{where} does not fit its ABI type",
        code="bad-abi-value",
        expected=expected,
        got=f"{type(value).__name__} {repr(value)[:60]}",
    )


def _wrong_count(where: str, expected: int, got: int) -> InputError:
    return InputError(
        f"{where} does not fit its ABI type",
        code="bad-abi-value",
        expected=f"{expected} values",
        got=f"{got} values",
    )


def _malformed(position: int, expected: str, got: str) -> PeerError:
    return PeerError(f"ABI data refused at byte {position}", code="bad-abi", expected=expected, got=got[:100])


_BYTES: Final = _Bytes()
_SIMPLE: Final[dict[str, _Codec]] = {
    "bool": _Bool(),
    "address": _Address(),
    "bytes": _BYTES,
    "string": _String(),
}
_ARRAY: Final = re.compile(r"(.+)\[([0-9]{0,6})\]", re.ASCII)
_NUMBERED: Final = re.compile(r"(uint|int|bytes)([1-9][0-9]{0,2})", re.ASCII)


@lru_cache(maxsize=512)
def _codec_of(type_: str) -> _Codec:
    """The codec of one type string. Raises InputError."""
    if type_ in _SIMPLE:
        return _SIMPLE[type_]
    if array := _ARRAY.fullmatch(type_):
        length = int(array[2]) if array[2] else None
        if length == 0:
            raise _no_type(type_)
        return _Array.of(_codec_of(array[1]), length)
    if type_.startswith("(") and type_.endswith(")") and len(type_) > 2:
        return _Tuple.of([_codec_of(member) for member in _members(type_[1:-1])])
    if numbered := _NUMBERED.fullmatch(type_):
        kind, number = numbered[1], int(numbered[2])
        if kind == "bytes" and number <= _WORD:
            return _FixedBytes(number)
        if kind == "uint" and number % 8 == 0 and number <= 256:
            return _Integer(type_, 0, (1 << number) - 1)
        if kind == "int" and number % 8 == 0 and number <= 256:
            return _Integer(type_, -(1 << number - 1), (1 << number - 1) - 1)
    raise _no_type(type_)


@lru_cache(maxsize=512)
def _tuple_of(types: tuple[str, ...]) -> _Tuple:
    return _Tuple.of([_codec_of(type_) for type_ in types])


def _arguments_of(signature: str) -> _Tuple:
    return _tuple_of(argument_types(signature))


def _members(inside: str) -> list[str]:
    """Split "a,(b,c)[],d" at its outer commas."""
    members: list[str] = []
    depth = start = 0
    for index, character in enumerate(inside):
        if character == "(":
            depth += 1
        elif character == ")":
            depth -= 1
        elif character == "," and depth == 0:
            members.append(inside[start:index])
            start = index + 1
    if inside:
        members.append(inside[start:])
    return members


def _no_type(type_: str) -> InputError:
    return InputError(
        "not an ABI type", code="bad-type", expected="such as uint256 or (address,bytes)[]", got=type_[:100]
    )
