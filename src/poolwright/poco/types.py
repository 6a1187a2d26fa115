"""Ids, amounts and times: bytes and integers inside, checksummed hex and decimal strings at the edges."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, NewType, Self

from poolwright.poco.errors import InputError
from poolwright.poco.keccak import keccak


class FixedBytes(bytes):
    """Bytes of one length, checked when made; prints as 0x-prefixed hex.

    Raises InputError when the length is wrong or the text is not hex.
    """

    LENGTH: ClassVar[int]
    __slots__ = ()

    def __new__(cls, raw: bytes) -> Self:
        if len(raw) != cls.LENGTH:
            raise InputError(
                f"not a {cls.__name__}",
                code="bad-length",
                expected=f"{cls.LENGTH} bytes",
                got=f"{len(raw)} bytes (0x{bytes(raw[:40]).hex()})",
            )
        return super().__new__(cls, raw)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read 0x-prefixed hex of exactly this length, in any letter case."""
        try:
            if len(text) != 2 + 2 * cls.LENGTH or not text.startswith(("0x", "0X")):
                raise ValueError
            raw = bytes.fromhex(text[2:])
            if len(raw) != cls.LENGTH:  # fromhex skips white space
                raise ValueError
        except (ValueError, AttributeError, TypeError) as problem:
            raise InputError(
                f"not a {cls.__name__}",
                code="bad-hex",
                expected=f"0x and {2 * cls.LENGTH} hexadecimal digits",
                got=repr(text)[:100],
            ) from problem
        return cls(raw)

    @classmethod
    def zero(cls) -> Self:
        return cls(bytes(cls.LENGTH))

    def __bool__(self) -> bool:
        """False for all-zero bytes, the contract's "none"."""
        return any(self)

    def __str__(self) -> str:
        return "0x" + self.hex()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self})"


class Hash32(FixedBytes):
    """32 bytes: a keccak-256 hash, a salt, a block hash."""

    LENGTH = 32
    __slots__ = ()


class Address(FixedBytes):
    """20 bytes: an account or a contract; prints with the EIP-55 checksum."""

    LENGTH = 20
    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read 0x-prefixed hex; mixed letter case must be the EIP-55 checksum, as typing errors break it.

        Raises InputError.
        """
        address = super().parse(text)
        digits = text[2:]
        if digits not in (digits.lower(), digits.upper()) and str(address)[2:] != digits:
            raise InputError(
                "not an Address: the letter case does not fit the EIP-55 checksum",
                code="bad-checksum",
                expected=str(address),
                got=text,
                next_step="check for a typing error, or write it in lower case",
            )
        return address

    def __str__(self) -> str:
        return _checksummed(bytes(self))


@lru_cache(maxsize=16_384)
def _checksummed(address: bytes) -> str:
    """The address with its EIP-55 checksum, which takes a hash; the same few are written again and again."""
    digits = address.hex()
    digest = keccak(digits.encode()).hex()
    return "0x" + "".join(
        c.upper() if nibble >= "8" else c for c, nibble in zip(digits, digest, strict=False)
    )


DealId = NewType("DealId", Hash32)
TaskId = NewType("TaskId", Hash32)
OrderHash = NewType("OrderHash", Hash32)
BlockHash = NewType("BlockHash", Hash32)
TxHash = NewType("TxHash", Hash32)
WorkerAddress = NewType("WorkerAddress", Address)

NRlc = NewType("NRlc", int)
"""Nano-RLC; 1 RLC = 10^9 nRLC."""
Wei = NewType("Wei", int)
Timestamp = NewType("Timestamp", int)
"""Chain seconds UTC, from block headers."""
Seconds = NewType("Seconds", int)
BlockNumber = NewType("BlockNumber", int)


@dataclass(frozen=True, slots=True, order=True)
class BlockStamp:
    """The block at which something was read or happened."""

    number: BlockNumber
    hash: BlockHash
    timestamp: Timestamp

    def __str__(self) -> str:
        return f"block {self.number} ({self.hash[:4].hex()}…)"
