"""The words of Ethereum's JSON-RPC: quantities (`0x1f4`), data (`0x00ff…`), hashes and addresses.

Reading is strict: a node that answers something else broke the protocol, so a PeerError names the
field, what was expected, and what came.  Source: the execution API specification, "hex value encoding".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast

from poolwright.poco.errors import InputError, PeerError
from poolwright.poco.types import Address, Hash32

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"

_SHOWN = 120
"""How many characters of a wrong answer an error message shows."""


def quantity(number: int) -> str:
    """Write a non-negative integer as a JSON-RPC quantity: `0x0`, `0x1f4`."""
    return hex(number)


def hex_data(raw: bytes) -> str:
    """Write bytes as JSON-RPC data: `0x`, `0x00ff`."""
    return "0x" + raw.hex()


def read_quantity(answer: Json, what: str) -> int:
    """Read a quantity; raises PeerError naming `what` when it is none."""
    if isinstance(answer, str) and answer[:2] in ("0x", "0X"):
        try:
            return int(answer, 16)
        except ValueError:
            pass
    raise _wrong(answer, what, "a quantity such as 0x1f4")


def read_data(answer: Json, what: str) -> bytes:
    """Read data bytes; raises PeerError naming `what` when they are none."""
    if isinstance(answer, str) and answer.startswith(("0x", "0X")):
        try:
            return bytes.fromhex(answer[2:])
        except ValueError:
            pass
    raise _wrong(answer, what, "0x and an even number of hexadecimal digits")


def read_hash(answer: Json, what: str) -> Hash32:
    """Read a 32-byte hash; raises PeerError naming `what` when it is none."""
    try:
        return Hash32(read_data(answer, what))
    except InputError as problem:
        raise _wrong(answer, what, "a 32-byte hash") from problem


def read_address(answer: Json, what: str) -> Address:
    """Read a 20-byte address; raises PeerError naming `what` when it is none."""
    try:
        return Address(read_data(answer, what))
    except InputError as problem:
        raise _wrong(answer, what, "a 20-byte address") from problem


def read_object(answer: Json, what: str) -> Mapping[str, Json]:
    """Read a JSON object; raises PeerError naming `what` when it is none."""
    if isinstance(answer, dict):
        return cast("Mapping[str, Json]", answer)
    raise _wrong(answer, what, "an object")


def read_array(answer: Json, what: str) -> Sequence[Json]:
    """Read a JSON array; raises PeerError naming `what` when it is none."""
    if isinstance(answer, list):
        return cast("Sequence[Json]", answer)
    raise _wrong(answer, what, "an array")


def _wrong(answer: Json, what: str, expected: str) -> PeerError:
    return PeerError(
        f"node answered a wrong {what}",
        code="bad-rpc-answer",
        expected=expected,
        got=repr(answer)[:_SHOWN],
        next_step="check that the RPC URL is an Ethereum node",
    )
