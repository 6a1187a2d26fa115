"""Tags: 256 requirement flags of orders and deals.

Bit 0 is the least significant. A pool's tag lists what it offers; the others' tags what they demand; the
deal carries the union of the demands.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Self

from poolwright.poco.errors import InputError
from poolwright.poco.types import Hash32

_BIT_TO_NAME: Final = {0: "tee", 1: "scone", 2: "gramine", 3: "tdx", 8: "gpu"}
_NAME_TO_BIT: Final = {name: bit for bit, name in _BIT_TO_NAME.items()}


class Tag(int):
    """A set of requirement flags as a 256-bit number; prints as 0x and 64 hex digits.

    `a | b` and `a & b` are tags again. Raises InputError when made from a number outside 256 bits.
    """

    __slots__ = ()

    def __new__(cls, bits: int = 0) -> Self:
        if not 0 <= bits < 1 << 256:
            raise InputError("not a tag", code="bad-tag", expected="a number of 256 bits", got=hex(bits)[:80])
        return super().__new__(cls, bits)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read 0x and 64 hex digits. Raises InputError."""
        return cls(int.from_bytes(Hash32.parse(text), "big"))

    @classmethod
    def of_names(cls, names: Iterable[str]) -> Self:
        """Read flag names such as ["tee", "tdx"]. Raises InputError on a name nobody defined."""
        bits = 0
        for name in names:
            if name not in _NAME_TO_BIT:
                raise InputError(
                    f"unknown tag {name!r}", code="unknown-tag", expected=" or ".join(_NAME_TO_BIT)
                )
            bits |= 1 << _NAME_TO_BIT[name]
        return cls(bits)

    @property
    def names(self) -> tuple[str, ...]:
        """The flags that are set, lowest bit first; a bit without a name appears as "bit-<n>"."""
        return tuple(
            _BIT_TO_NAME.get(bit, f"bit-{bit}") for bit in range(self.bit_length()) if self >> bit & 1
        )

    @property
    def word(self) -> Hash32:
        """The tag as the contract's bytes32."""
        return Hash32(self.to_bytes(32, "big"))

    def lacks(self, demanded: Tag) -> Tag:
        """The flags of `demanded` that this tag does not have."""
        return Tag(demanded & ~self)

    def __or__(self, other: int) -> Tag:
        return Tag(int(self) | other)

    def __and__(self, other: int) -> Tag:
        return Tag(int(self) & other)

    def __str__(self) -> str:
        return f"0x{int(self):064x}"

    def __repr__(self) -> str:
        return f"Tag({', '.join(self.names) or '0'})"


NO_TAG: Final = Tag(0)
TEE: Final = Tag(1 << 0)
"""Must run in an enclave: a contribution needs an enclave challenge."""
SCONE: Final = Tag(1 << 1)
GRAMINE: Final = Tag(1 << 2)
TDX: Final = Tag(1 << 3)
GPU: Final = Tag(1 << 8)
TEE_FRAMEWORKS: Final = SCONE | GRAMINE | TDX
