"""RLP against the rlp package of the Ethereum Foundation, typed messages against eth-account."""

from __future__ import annotations

from typing import Any

import rlp as oracle_rlp
from eth_account.messages import encode_typed_data
from eth_utils import keccak
from hypothesis import given
from hypothesis import strategies as st

from poolwright.poco import rlp
from poolwright.poco.typed_data import TypedDomain, typed_digest
from poolwright.poco.types import Address

addresses = st.binary(min_size=20, max_size=20).map(Address)
items = st.recursive(st.binary(max_size=80), lambda inner: st.lists(inner, max_size=5), max_leaves=20)
MEMBERS: dict[str, st.SearchStrategy[Any]] = {
    "string": st.text(),
    "bytes": st.binary(),
    "address": addresses,
    "uint256": st.integers(0, 2**256 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "bool": st.booleans(),
    "bytes32": st.binary(min_size=32, max_size=32),
}


@given(items)
def test_rlp_equals_the_oracle(item: Any) -> None:
    assert rlp.encode(item) == oracle_rlp.encode(item)


@given(st.lists(st.integers(0, 2**256 - 1)))
def test_rlp_of_numbers_equals_the_oracle(numbers: list[int]) -> None:
    assert rlp.encode(numbers) == oracle_rlp.encode(numbers)


@given(
    domain=st.builds(
        TypedDomain,
        name=st.none() | st.text(),
        version=st.none() | st.text(),
        chain_id=st.none() | st.integers(0, 2**256 - 1),
        verifying_contract=st.none() | addresses,
    ),
    types=st.lists(st.sampled_from(sorted(MEMBERS)), min_size=1, max_size=6),
    data=st.data(),
)
def test_a_typed_digest_equals_the_one_of_eth_account(
    domain: TypedDomain, types: list[str], data: st.DataObject
) -> None:
    members = [(type_, f"member{index}") for index, type_ in enumerate(types)]
    values = {name: data.draw(MEMBERS[type_]) for type_, name in members}
    oracle_domain = {
        name: value
        for name, value in (
            ("name", domain.name),
            ("version", domain.version),
            ("chainId", domain.chain_id),
            ("verifyingContract", domain.verifying_contract and bytes(domain.verifying_contract)),
        )
        if value is not None
    }

    signable = encode_typed_data(
        full_message={
            "types": {
                "EIP712Domain": [
                    {"name": name, "type": type_}
                    for name, type_ in (
                        ("name", "string"),
                        ("version", "string"),
                        ("chainId", "uint256"),
                        ("verifyingContract", "address"),
                    )
                    if name in oracle_domain
                ],
                "Message": [{"name": name, "type": type_} for type_, name in members],
            },
            "primaryType": "Message",
            "domain": oracle_domain,
            "message": {
                name: bytes(value) if isinstance(value, bytes) else value for name, value in values.items()
            },
        }
    )

    struct = f"Message({','.join(f'{type_} {name}' for type_, name in members)})"
    assert typed_digest(domain, struct, values) == keccak(
        b"\x19" + signable.version + signable.header + signable.body
    )
