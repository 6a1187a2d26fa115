"""EIP-712 digests of small messages, such as the challenge of a login.

Orders have their own, faster code; this serves messages whose members are simple: string, bytes, bytesN,
uintN, intN, bool and address. The type string is the single source: its member order is the order of values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from poolwright.poco import abi
from poolwright.poco.errors import InputError
from poolwright.poco.keccak import keccak
from poolwright.poco.types import Address, Hash32


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedDomain:
    """Who asks for the signature; members that are None are left out, as EIP-712 allows."""

    name: str | None = None
    version: str | None = None
    chain_id: int | None = None
    verifying_contract: Address | None = None

    @property
    def separator(self) -> Hash32:
        """hashStruct of the domain. Raises InputError for a chain id outside uint256."""
        return _separator(self)


def struct_hash(struct: str, values: Mapping[str, object]) -> Hash32:
    """hashStruct of a type string such as "Login(address worker,string challenge)" and its members' values.

    Raises InputError when a member is missing, one is too many, or a value does not fit its type.
    """
    typehash, members = _members_of(struct)
    names = [name for _, name in members]
    if set(values) != set(names):
        raise InputError(
            f"wrong members for {struct.partition('(')[0]}",
            code="bad-typed-data",
            expected=", ".join(names),
            got=", ".join(map(str, values)),
        )
    words = b"".join(_word(type_, name, values[name]) for type_, name in members)
    return Hash32(keccak(typehash + words))


def typed_digest(domain: TypedDomain, struct: str, values: Mapping[str, object]) -> Hash32:
    """What is signed for this message: keccak(0x1901, domain separator, hashStruct).

    Raises InputError as `struct_hash`.
    """
    return Hash32(keccak(b"\x19\x01" + domain.separator + struct_hash(struct, values)))


@lru_cache(maxsize=64)
def _separator(domain: TypedDomain) -> Hash32:
    named = {
        member: value
        for member, value in (
            ("string name", domain.name),
            ("string version", domain.version),
            ("uint256 chainId", domain.chain_id),
            ("address verifyingContract", domain.verifying_contract),
        )
        if value is not None
    }
    struct = f"EIP712Domain({','.join(named)})"
    return struct_hash(struct, {member.split()[1]: value for member, value in named.items()})


_HASHED: Final = ("string", "bytes")
"""Types that stand in the struct as the hash of their content."""


def _word(type_: str, name: str, value: object) -> bytes:
    if type_ == "string" and isinstance(value, str):
        try:
            return keccak(value.encode())
        except UnicodeEncodeError as problem:
            raise InputError(
                f"member {name!r} refused",
                code="bad-typed-data",
                expected="Unicode text without lone surrogates",
            ) from problem
    if type_ == "bytes" and isinstance(value, bytes):
        return keccak(value)
    if type_ in _HASHED:
        raise InputError(
            f"member {name!r} refused", code="bad-typed-data", expected=type_, got=type(value).__name__
        )
    return abi.encode([type_], [value])


@lru_cache(maxsize=64)
def _members_of(struct: str) -> tuple[bytes, tuple[tuple[str, str], ...]]:
    """Type hash and (type, name) pairs of a type string."""
    name, bracket, inside = struct.partition("(")
    pairs = [member.split(" ") for member in inside.removesuffix(")").split(",") if member]
    if not name or not bracket or not inside.endswith(")") or any(len(pair) != 2 for pair in pairs):
        raise _no_struct(struct)
    for type_, _ in pairs:
        if type_.endswith("]") or type_.startswith("("):
            raise _no_struct(struct)
    return keccak(struct.encode()), tuple((type_, member) for type_, member in pairs)


def _no_struct(struct: str) -> InputError:
    return InputError(
        "not a type string of simple members",
        code="bad-typed-data",
        expected='such as "Login(address worker,string challenge)"',
        got=struct[:100],
    )
