"""Orders: golden type hashes, the official client's JSON, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from poolwright.poco.errors import InputError
from poolwright.poco.orders import (
    NULL_DATASETORDER,
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
from poolwright.poco.tags import GPU, NO_TAG, TDX, TEE
from poolwright.poco.types import Address, Hash32, NRlc

A, B, C, D = (Address(bytes([n]) * 20) for n in (0xA1, 0xB2, 0xC3, 0xD4))
NOBODY = Address.zero()
SALT = Hash32(b"\xee" * 32)
DOMAIN = Domain(chain_id=65535, hub=Address.parse("0x5FC8d32690cc91D4c39d9d3abcBD16989F875707"))

APP = AppOrder(
    app=A,
    appprice=NRlc(1000),
    volume=10,
    tag=TEE | TDX,
    datasetrestrict=NOBODY,
    workerpoolrestrict=B,
    requesterrestrict=C,
    salt=SALT,
    sign=b"\x01\x02",
)
POOL = WorkerpoolOrder(
    workerpool=B,
    workerpoolprice=NRlc(25000),
    volume=3,
    tag=GPU,
    category=2,
    trust=5,
    apprestrict=A,
    datasetrestrict=NOBODY,
    requesterrestrict=NOBODY,
    salt=SALT,
)
REQUEST = RequestOrder(
    app=A,
    appmaxprice=NRlc(1000),
    dataset=NOBODY,
    datasetmaxprice=NRlc(0),
    workerpool=B,
    workerpoolmaxprice=NRlc(25000),
    requester=C,
    volume=3,
    tag=NO_TAG,
    category=2,
    trust=1,
    beneficiary=D,
    callback=NOBODY,
    params='{"iexec_args":"é"}',
    salt=SALT,
)


@pytest.mark.parametrize(
    ("kind", "typehash", "operation_typehash"),
    [
        (AppOrder, "60815a0e…d008", "0638bb07"),
        (DatasetOrder, "6cfc932a…d47c", "075eb6f7"),
        (WorkerpoolOrder, "aa3429fb…22bb", "322d980b"),
        (RequestOrder, "f24e8530…fae0", "0ded7b52"),
    ],
)
def test_type_hashes_are_those_of_the_contract(
    kind: type[Order], typehash: str, operation_typehash: str
) -> None:
    first, last = typehash.split("…")

    assert kind.TYPEHASH.hex().startswith(first)
    assert kind.TYPEHASH.hex().endswith(last)
    assert kind.OPERATION_TYPEHASH.hex().startswith(operation_typehash)


def test_the_signature_is_not_part_of_the_hash() -> None:
    assert order_hash(APP, DOMAIN) == order_hash(replace(APP, sign=b"other"), DOMAIN)


def test_the_hash_depends_on_hub_and_chain() -> None:
    elsewhere = replace(DOMAIN, chain_id=134)

    assert elsewhere.separator != DOMAIN.separator
    assert order_hash(APP, elsewhere) != order_hash(APP, DOMAIN)
    assert operation_hash(APP, OrderOperation.CLOSE, DOMAIN) != operation_hash(
        APP, OrderOperation.SIGN, DOMAIN
    )


def test_an_order_prints_as_the_official_client_writes_it() -> None:
    assert APP.to_json() == {
        "app": str(A),
        "appprice": "1000",
        "volume": "10",
        "tag": "0x" + "0" * 63 + "9",
        "datasetrestrict": "0x" + "0" * 40,
        "workerpoolrestrict": str(B),
        "requesterrestrict": str(C),
        "salt": "0x" + "ee" * 32,
        "sign": "0x0102",
    }


@pytest.mark.parametrize("order", [APP, NULL_DATASETORDER, POOL, REQUEST], ids=lambda order: order.KIND)
def test_an_order_reads_back_from_its_json(order: Order) -> None:
    assert type(order).from_json(order.to_json()) == order


def test_numbers_may_come_as_integers_as_the_market_writes_them() -> None:
    document = POOL.to_json() | {"workerpoolprice": 25000, "volume": 3, "category": 2, "trust": 5}

    assert WorkerpoolOrder.from_json(document) == POOL


def test_an_order_without_a_signature_may_leave_the_field_out() -> None:
    document = POOL.to_json()
    del document["sign"]

    assert WorkerpoolOrder.from_json(document) == POOL


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("volume", "-1", "a whole number from 0 to 2^256-1, as a decimal string, got '-1'"),
        ("volume", "1.5", "got '1.5'"),
        ("volume", "0x10", "got '0x10'"),
        ("volume", "٣", "got"),
        ("volume", 1.0, "got 1.0"),
        ("volume", True, "got True"),
        ("volume", None, "got None"),
        ("volume", str(1 << 256), "got '1157"),
        ("appmaxprice", -1, "got -1"),
        ("app", "0x12", "expected 0x and 40 hexadecimal digits, got '0x12'"),
        ("app", 5, "expected 0x-prefixed hex, got 5"),
        ("tag", "0x9", "expected 0x and 64 hexadecimal digits"),
        ("tag", ["tee"], "got list"),
        ("salt", "0x", "expected 0x and 64 hexadecimal digits"),
        ("sign", "0x1", "hexadecimal digits in pairs, got '0x1'"),
        ("sign", "0x1 ", "hexadecimal digits in pairs"),
        ("params", {"iexec_args": ""}, "expected a string, got dict"),
        ("params", "\ud800", "surrogates"),
    ],
)
def test_a_wrong_value_is_refused_with_the_name_of_its_field(
    field: str, value: object, complaint: str
) -> None:
    with pytest.raises(InputError) as caught:
        RequestOrder.from_json({**REQUEST.to_json(), field: value})

    assert f"requestorder: field '{field}' refused" in str(caught.value)
    assert complaint in str(caught.value)


def test_a_missing_field_is_refused_with_its_name() -> None:
    document = APP.to_json()
    del document["volume"]

    with pytest.raises(InputError, match="apporder: field 'volume' refused, expected a value, got nothing"):
        AppOrder.from_json(document)


def test_an_unknown_field_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"apporder: unknown field 'price', expected app, appprice"):
        AppOrder.from_json({**APP.to_json(), "price": "1"})


@pytest.mark.parametrize("document", [None, [], "order", 5])
def test_a_document_that_is_no_object_is_refused(document: object) -> None:
    with pytest.raises(InputError, match="apporder refused, expected an object"):
        AppOrder.from_json(document)


@pytest.mark.parametrize("order", [APP, NULL_DATASETORDER, POOL, REQUEST], ids=lambda order: order.KIND)
def test_a_number_that_does_not_fit_cannot_be_hashed(order: Order) -> None:
    with pytest.raises(InputError, match="field 'volume' refused, expected 0 to 2\\^256-1"):
        order_hash(replace(order, volume=1 << 256), DOMAIN)


def test_params_that_are_no_unicode_cannot_be_hashed() -> None:
    with pytest.raises(InputError, match="field 'params' refused"):
        order_hash(replace(REQUEST, params="\ud800"), DOMAIN)


def test_a_chain_id_outside_uint256_makes_no_domain() -> None:
    with pytest.raises(InputError, match="chain id"):
        Domain(chain_id=-1, hub=A)
