"""Orders as people write them: templates, tags, params, and what is refused."""

from __future__ import annotations

import json

import pytest

from poolwright.cli.iexec.errors import IexecError, ValidationError
from poolwright.cli.iexec.files import ORDER_KINDS
from poolwright.cli.iexec.order_forms import (
    KIND_TO_CLASS,
    NOBODY,
    free_order,
    parse_secrets,
    prices,
    read_draft,
    read_params,
    read_signed,
    read_tag,
    signed_params,
    template,
)
from poolwright.poco.orders import RequestOrder, WorkerpoolOrder
from poolwright.poco.tags import NO_TAG, TEE, Tag
from poolwright.poco.types import Address, Hash32

SALT = Hash32(b"\7" * 32)
POOL = "0x8C3eD5749ac8b8B39fAf17da38a6B0eeA1dDE038"
SOMEBODY = Address(b"\1" * 20)


def test_the_workerpool_template_is_the_official_client_s() -> None:
    assert template("workerpoolorder", resource=POOL) == {
        "workerpool": POOL,
        "workerpoolprice": "0",
        "volume": "1",
        "category": "0",
        "trust": "0",
        "tag": [],
        "apprestrict": NOBODY,
        "datasetrestrict": NOBODY,
        "requesterrestrict": NOBODY,
    }


@pytest.mark.parametrize("kind", ORDER_KINDS)
def test_every_template_is_a_valid_draft(kind: str) -> None:
    order = read_draft(kind, template(kind, resource=POOL, wallet=POOL), SALT)
    assert isinstance(order, KIND_TO_CLASS[kind])
    assert set(prices(order).values()) == {0}


def test_a_draft_may_leave_restrictions_out() -> None:
    order = read_draft("workerpoolorder", {"workerpool": POOL, "trust": "1"}, SALT)
    assert order == free_order("workerpoolorder", workerpool=Address.parse(POOL), trust=1, salt=SALT)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("volume", "abc", "abc is not a valid uint256"),
        ("volume", "0", "0 is not a valid uint256"),
        ("workerpoolprice", "-1", "-1 is not a valid uint256"),
        ("workerpoolprice", 1.5, "1.5 is not a valid uint256"),
        ("apprestrict", "foo", "foo is not a valid ethereum address"),
        ("tag", ["foo"], "foo is not a valid tag. Unknown tag foo"),
        ("tag", "0x12", "0x12 is not a valid tag"),
        ("tag", 3, "3 is not a valid tag"),
        ("price", "1", "workerpoolorder has an unknown field 'price'"),
    ],
)
def test_a_wrong_field_is_refused_by_its_value(field: str, value: object, message: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        read_draft("workerpoolorder", {**template("workerpoolorder", resource=POOL), field: value}, SALT)
    assert refusal.value.what == message


def test_a_tag_is_read_from_names_and_from_hex() -> None:
    assert read_tag(["tee", "tdx"]) == read_tag("tee,tdx") == read_tag(f"0x{9:064x}") == Tag(9)
    assert read_tag("") == NO_TAG


def test_params_of_an_object_become_one_compact_text() -> None:
    text = signed_params({"iexec_args": "a b"}, Address.zero(), NO_TAG)
    assert json.loads(text) == {"iexec_args": "a b", "iexec_result_storage_provider": "ipfs"}
    assert ": " not in text


def test_params_with_a_callback_name_no_storage() -> None:
    assert json.loads(signed_params({"iexec_args": "x"}, SOMEBODY, NO_TAG)) == {"iexec_args": "x"}


def test_plain_text_params_are_the_arguments() -> None:
    assert read_params("--loud 1") == {"iexec_args": "--loud 1"}


def test_input_files_may_be_one_text_with_commas() -> None:
    params = read_params({"iexec_input_files": "https://a.org/1, https://a.org/2"})
    assert params == {"iexec_input_files": ["https://a.org/1", "https://a.org/2"]}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"iexec_arg": "x"}, 'Unknown key "iexec_arg" in params'),
        ({"iexec_args": 3}, "params.iexec_args must be a string"),
        ({"iexec_result_encryption": "yes"}, "params.iexec_result_encryption must be true or false"),
        ({"iexec_input_files": ["ftp://x"]}, "params.iexec_input_files has something that is no URL"),
        ({"iexec_secrets": {"0": "x"}}, "params.iexec_secrets must map positive numbers to names of secrets"),
    ],
)
def test_wrong_params_are_refused_by_their_key(params: dict, message: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        read_params(params)
    assert refusal.value.what == message


def test_secrets_need_a_tee_tag() -> None:
    with pytest.raises(ValidationError, match="iexec_secrets is not supported for non TEE tasks"):
        signed_params({"iexec_secrets": {"1": "name"}}, Address.zero(), NO_TAG)
    assert '"1":"name"' in signed_params({"iexec_secrets": {1: "name"}}, Address.zero(), TEE)


def test_secret_options_are_numbers_and_names() -> None:
    assert parse_secrets(["1=a", "2=b=c"]) == {"1": "a", "2": "b=c"}
    with pytest.raises(IexecError, match="x=1 is not a valid secret"):
        parse_secrets(["x=1"])


def test_a_signed_order_with_numbers_is_read_as_from_the_market() -> None:
    document = {**free_order("workerpoolorder", workerpoolprice=5).to_json(), "volume": 3, "sign": "0x12"}
    order = read_signed("workerpoolorder", document)
    assert isinstance(order, WorkerpoolOrder)
    assert (order.volume, order.workerpoolprice, order.sign) == (3, 5, b"\x12")


def test_a_broken_signed_order_is_refused_with_its_field() -> None:
    document = free_order("requestorder").to_json()
    del document["callback"]
    with pytest.raises(ValidationError, match="requestorder: field 'callback' refused"):
        read_signed("requestorder", document)


def test_the_prices_of_a_request_are_its_three_caps() -> None:
    order = free_order("requestorder", appmaxprice=1, datasetmaxprice=2, workerpoolmaxprice=3)
    assert isinstance(order, RequestOrder)
    assert prices(order) == {"appmaxprice": 1, "datasetmaxprice": 2, "workerpoolmaxprice": 3}
