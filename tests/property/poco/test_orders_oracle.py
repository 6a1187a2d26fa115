"""Order and operation digests, signing and recovery equal those of eth-account for random fields."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from eth_account import Account
from eth_account.messages import SignableMessage, encode_typed_data
from eth_utils import keccak
from hypothesis import given
from hypothesis import strategies as st

from poolwright.poco.orders import (
    APPORDER_TYPE,
    DATASETORDER_TYPE,
    REQUESTORDER_TYPE,
    WORKERPOOLORDER_TYPE,
    AppOrder,
    DatasetOrder,
    Domain,
    Order,
    RequestOrder,
    WorkerpoolOrder,
    operation_hash,
    order_hash,
)
from poolwright.poco.records import OrderOperation
from poolwright.poco.signatures import address_of_key, recover, sign_digest
from poolwright.poco.tags import Tag
from poolwright.poco.types import Address, Hash32

uint256 = st.integers(0, 2**256 - 1) | st.integers(0, 10)
addresses = st.binary(min_size=20, max_size=20).map(Address)
BY_ANNOTATION: dict[str, st.SearchStrategy[Any]] = {
    "Address": addresses,
    "NRlc": uint256,
    "int": uint256,
    "Tag": uint256.map(Tag),
    "Hash32": st.binary(min_size=32, max_size=32).map(Hash32),
    "str": st.text(),
    "bytes": st.binary(max_size=65),
}
KIND_TO_TYPE: dict[type[Order], str] = {
    AppOrder: APPORDER_TYPE,
    DatasetOrder: DATASETORDER_TYPE,
    WorkerpoolOrder: WORKERPOOLORDER_TYPE,
    RequestOrder: REQUESTORDER_TYPE,
}
orders: st.SearchStrategy[Order] = st.one_of(
    [
        st.builds(kind, **{each.name: BY_ANNOTATION[str(each.type)] for each in fields(kind)})
        for kind in KIND_TO_TYPE
    ]
)
domains = st.builds(Domain, chain_id=uint256, hub=addresses)


def members(order: Order) -> list[dict[str, str]]:
    """The type string as eth-account wants it."""
    inside = KIND_TO_TYPE[type(order)].partition("(")[2][:-1]
    return [dict(zip(("type", "name"), member.split(), strict=True)) for member in inside.split(",")]


def message(order: Order) -> dict[str, object]:
    values = {name: getattr(order, name) for name in (member["name"] for member in members(order))}
    return {
        name: value.word if isinstance(value, Tag) else bytes(value) if isinstance(value, bytes) else value
        for name, value in values.items()
    }


def oracle_digest(signable: SignableMessage) -> bytes:
    return keccak(b"\x19" + signable.version + signable.header + signable.body)


def oracle_domain(domain: Domain) -> dict[str, object]:
    return {
        "name": "iExecODB",
        "version": "5.0.0",
        "chainId": domain.chain_id,
        "verifyingContract": bytes(domain.hub),
    }


@given(order=orders, domain=domains)
def test_order_hash_equals_the_typed_data_digest_of_eth_account(order: Order, domain: Domain) -> None:
    name = KIND_TO_TYPE[type(order)].partition("(")[0]

    signable = encode_typed_data(oracle_domain(domain), {name: members(order)}, message(order))

    assert order_hash(order, domain) == oracle_digest(signable)


@given(order=orders, domain=domains, operation=st.sampled_from(OrderOperation))
def test_operation_hash_equals_the_typed_data_digest_of_eth_account(
    order: Order, domain: Domain, operation: OrderOperation
) -> None:
    name = KIND_TO_TYPE[type(order)].partition("(")[0]
    types = {
        f"{name}Operation": [{"name": "order", "type": name}, {"name": "operation", "type": "uint256"}],
        name: members(order),
    }

    signable = encode_typed_data(
        oracle_domain(domain), types, {"order": message(order), "operation": int(operation)}
    )

    assert operation_hash(order, operation, domain) == oracle_digest(signable)


@given(order=orders, domain=domains, key=st.binary(min_size=31, max_size=31).map(lambda raw: b"\x01" + raw))
def test_a_signed_order_recovers_its_signer_here_and_in_eth_account(
    order: Order, domain: Domain, key: bytes
) -> None:
    digest = order_hash(order, domain)

    signature = sign_digest(key, digest)

    assert signature == Account.unsafe_sign_hash(digest, key).signature
    assert recover(digest, signature) == address_of_key(key)
    assert str(address_of_key(key)) == Account.from_key(key).address


@given(order=orders)
def test_json_gives_the_order_back(order: Order) -> None:
    assert type(order).from_json(order.to_json()) == order
