"""RLP, the encoding of transactions. Writing only: nothing here reads RLP from others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from poolwright.poco.errors import InputError

Item: TypeAlias = "bytes | int | Sequence[Item]"


def encode(item: Item) -> bytes:
    """Encode bytes, a natural number (big endian without leading zeros), or a sequence of such items.

    Raises InputError for a negative number or any other type.
    """
    if isinstance(item, bytes):
        if len(item) == 1 and item[0] < 0x80:
            return bytes(item)
        return _header(0x80, len(item)) + item
    if isinstance(item, int) and not isinstance(item, bool):
        if item < 0:
            raise InputError("RLP holds no negative number", code="bad-rlp", got=str(item)[:80])
        return encode(item.to_bytes((item.bit_length() + 7) // 8, "big"))
    if isinstance(item, Sequence) and not isinstance(item, str):
        body = b"".join(map(encode, item))
        return _header(0xC0, len(body)) + body
    raise InputError(
        "RLP does not hold this", code="bad-rlp", expected="bytes, int or a sequence", got=type(item).__name__
    )


def _header(kind: int, length: int) -> bytes:
    if length < 56:
        return bytes((kind + length,))
    size = (length.bit_length() + 7) // 8
    return bytes((kind + 55 + size,)) + length.to_bytes(size, "big")
