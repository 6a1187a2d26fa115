"""Orders before they are signed: templates, what people write in iexec.json, and the params of a request.

A draft differs from an order in three places: its tag may be a list of names, a request's params an object,
and salt and signature are missing. `read_draft` turns it into an order with an empty salt. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Final, TypeAlias

from poolwright.cli.iexec.errors import IexecError, ValidationError
from poolwright.cli.iexec.values import address_of, number_of
from poolwright.poco.errors import InputError
from poolwright.poco.orders import AppOrder, DatasetOrder, Order, RequestOrder, WorkerpoolOrder
from poolwright.poco.tags import NO_TAG, Tag
from poolwright.poco.types import Address, Hash32, NRlc

NOBODY: Final = str(Address.zero())
PARTS: Final = ("app", "dataset", "workerpool", "request")
"""The options that choose orders; `<part>order` is the kind."""

KIND_TO_CLASS: Final[dict[str, type[Order]]] = {
    "apporder": AppOrder,
    "datasetorder": DatasetOrder,
    "workerpoolorder": WorkerpoolOrder,
    "requestorder": RequestOrder,
}
_PRICE_FIELDS: Final = {
    "apporder": ("appprice",),
    "datasetorder": ("datasetprice",),
    "workerpoolorder": ("workerpoolprice",),
    "requestorder": ("appmaxprice", "datasetmaxprice", "workerpoolmaxprice"),
}


# --- templates ----------------------------------------------------------------------------------------------


def template(kind: str, *, resource: str = NOBODY, wallet: str = NOBODY) -> dict[str, Any]:
    """What `order init` writes: a free order that restricts nobody, for `resource` or by `wallet`."""
    match kind:
        case "apporder":
            return {
                "app": resource,
                "appprice": "0",
                "volume": "1000000",
                "tag": [],
                **_restrictions("dataset", "workerpool", "requester"),
            }
        case "datasetorder":
            return {
                "dataset": resource,
                "datasetprice": "0",
                "volume": "1000000",
                "tag": [],
                **_restrictions("app", "workerpool", "requester"),
            }
        case "workerpoolorder":
            return {
                "workerpool": resource,
                "workerpoolprice": "0",
                "volume": "1",
                "category": "0",
                "trust": "0",
                "tag": [],
                **_restrictions("app", "dataset", "requester"),
            }
        case _:
            return {
                "app": NOBODY,
                "appmaxprice": "0",
                "dataset": NOBODY,
                "datasetmaxprice": "0",
                "workerpool": NOBODY,
                "workerpoolmaxprice": "0",
                "volume": "1",
                "category": "0",
                "trust": "0",
                "tag": [],
                "beneficiary": wallet,
                "callback": NOBODY,
                "params": {"iexec_args": "", "iexec_input_files": [], "iexec_result_encryption": False},
                "requester": wallet,
            }


def _restrictions(*names: str) -> dict[str, str]:
    return {f"{name}restrict": NOBODY for name in names}


# --- drafts -------------------------------------------------------------------------------------------------


def read_draft(kind: str, document: Mapping[str, Any], salt: Hash32) -> Order:
    """Read an unsigned order as people write it. Raises ValidationError naming the field."""
    order_class = KIND_TO_CLASS[kind]
    known = [each.name for each in fields(order_class)]
    for name in document:
        if name not in known:
            raise ValidationError(
                f"{kind} has an unknown field {str(name)[:40]!r}", expected=", ".join(known[:-2])
            )
    values: dict[str, Any] = {"salt": salt}
    for each in fields(order_class):
        if each.name not in ("salt", "sign"):
            written = document.get(each.name, _DEFAULTS.get(each.name, NOBODY))
            values[each.name] = _READERS[str(each.type)](written, each.name)
    if kind == "requestorder":
        values["params"] = signed_params(values["params"], values["callback"], values["tag"])
    return order_class(**values)


def read_signed(kind: str, document: Mapping[str, Any]) -> Order:
    """Read a signed order of orders.json or of the market. Raises ValidationError naming the field."""
    try:
        return KIND_TO_CLASS[kind].from_json(document)
    except InputError as problem:
        raise ValidationError(problem.what, expected=problem.expected, got=problem.got) from problem


def prices(order: Order) -> dict[str, NRlc]:
    """The order's prices by field, nRLC per task."""
    return {name: getattr(order, name) for name in _PRICE_FIELDS[order.KIND]}


def read_tag(value: Any, what: str = "tag") -> Tag:
    """Read a tag: a list of names, names with commas, or 32 bytes in hex. Raises ValidationError."""
    names = value
    try:
        if isinstance(value, str):
            if value.startswith("0x"):
                return Tag.parse(value)
            names = [name.strip() for name in value.split(",") if name.strip()]
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            return Tag.of_names(names)
    except InputError as problem:
        unknown = problem.code == "unknown-tag"
        shown = ",".join(names) if unknown else value
        why = problem.what.replace("unknown tag ", "Unknown tag ").replace("'", "") if unknown else ""
        raise ValidationError(
            f"{shown} is not a valid tag{f'. {why}' if why else ''}", expected=problem.expected
        ) from problem
    raise ValidationError(
        f"{json.dumps(value)[:100]} is not a valid tag",
        expected=f'{what} as names such as ["tee", "tdx"], or as 0x and 64 hexadecimal digits',
    )


def _text_or_object(value: Any, what: str) -> Any:
    if isinstance(value, str | Mapping):
        return value
    raise ValidationError(f"{what} must be an object or a JSON text", got=type(value).__name__)


def _uint256(value: Any, what: str) -> int:
    try:
        return number_of(value, what, least=1 if what == "volume" else 0)
    except ValidationError as problem:
        raise ValidationError(
            f"{value} is not a valid uint256",
            expected=f"{what} as a whole number from {int(what == 'volume')}",
        ) from problem


_DEFAULTS: Final[dict[str, Any]] = {
    **dict.fromkeys(("appprice", "datasetprice", "workerpoolprice"), "0"),
    **dict.fromkeys(("appmaxprice", "datasetmaxprice", "workerpoolmaxprice"), "0"),
    **dict.fromkeys(("category", "trust"), "0"),
    "volume": "1",
    "tag": [],
    "params": {},
}
"""What a draft may leave out; addresses are zero, which is nobody."""

_READERS: Final[dict[str, Callable[[Any, str], Any]]] = {
    "Address": lambda value, what: address_of(value),
    "NRlc": _uint256,
    "int": _uint256,
    "Tag": read_tag,
    "str": _text_or_object,
}


# --- the params of a request --------------------------------------------------------------------------------

Params: TypeAlias = dict[str, Any]

_STORAGES: Final = ("ipfs", "dropbox")


def signed_params(params: str | Mapping[str, Any], callback: Address, tag: Tag) -> str:
    """The JSON text that goes into a request (reference: market-sdk.md 3.4). Raises ValidationError.

    A result goes to IPFS unless the request says otherwise or has it called back.
    """
    checked = read_params(params)
    if checked.get("iexec_secrets") and not tag & 1:
        raise ValidationError(
            "iexec_secrets is not supported for non TEE tasks",
            expected="a tag with tee",
            got=", ".join(tag.names) or "no flag",
        )
    if not callback:
        checked.setdefault("iexec_result_storage_provider", "ipfs")
    if checked.get("iexec_result_storage_provider") == "dropbox" and not tag & 1:
        raise ValidationError(
            '"dropbox" is not supported for non TEE tasks',
            expected='params.iexec_result_storage_provider "ipfs", or a tag with tee',
        )
    return json.dumps(checked, separators=(",", ":"), ensure_ascii=False)


def read_params(params: str | Mapping[str, Any]) -> Params:
    """Read params from their JSON text, from an object, or from plain text, which is the arguments.

    Raises ValidationError naming the key.
    """
    if isinstance(params, str):
        try:
            params = json.loads(params) if params else {}
        except (ValueError, RecursionError):
            return {"iexec_args": params}
        if not isinstance(params, dict):
            return {"iexec_args": str(params)}
    checked: Params = {}
    for key, value in params.items():
        if key not in _PARAMS:
            raise ValidationError(f'Unknown key "{key}" in params', expected=", ".join(_PARAMS))
        checked[key] = _PARAMS[key](value, f"params.{key}")
    return checked


def _param_text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise ValidationError(f"{what} must be a string", got=json.dumps(value)[:100])
    return value


def _param_files(value: Any, what: str) -> list[str]:
    urls = [url.strip() for url in value.split(",") if url.strip()] if isinstance(value, str) else value
    if not isinstance(urls, list):
        raise ValidationError(f"{what} must be a list of URLs", got=json.dumps(value)[:100])
    for url in urls:
        if not isinstance(url, str) or not url.startswith(("http://", "https://")):
            raise ValidationError(
                f"{what} has something that is no URL", expected="http(s)://…", got=str(url)
            )
    return urls


def _param_truth(value: Any, what: str) -> bool:
    if not isinstance(value, bool):
        raise ValidationError(f"{what} must be true or false", got=json.dumps(value)[:100])
    return value


def _param_secrets(value: Any, what: str) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise ValidationError(f"{what} must map numbers to names of secrets", got=json.dumps(value)[:100])
    for number, name in value.items():
        if not str(number).isdigit() or int(number) < 1 or not isinstance(name, str):
            raise ValidationError(
                f"{what} must map positive numbers to names of secrets", got=f"{number}: {name!r}"[:100]
            )
    return {str(number): name for number, name in value.items()}


def _param_storage(value: Any, what: str) -> str:
    if value not in _STORAGES:
        raise ValidationError(f"{what} {value!r} is unknown", expected=" or ".join(_STORAGES))
    return str(value)


_PARAMS: Final[dict[str, Callable[[Any, str], Any]]] = {
    "iexec_args": _param_text,
    "iexec_input_files": _param_files,
    "iexec_secrets": _param_secrets,
    "iexec_result_encryption": _param_truth,
    "iexec_result_storage_provider": _param_storage,
    "bulk_cid": _param_text,
}


def parse_secrets(words: list[str]) -> dict[str, str]:
    """Read `--secret 1=name 2=other`. Raises IexecError."""
    secrets: dict[str, str] = {}
    for word in words:
        number, equals, name = word.partition("=")
        if not equals or not number.isdigit() or int(number) < 1 or not name:
            raise IexecError(f"{word} is not a valid secret", expected="<number>=<name>, such as 1=my-secret")
        secrets[number] = name
    return secrets


def free_order(kind: str, **values: Any) -> Order:
    """An order that restricts nobody and costs nothing but for `values`; salt and sign are empty."""
    defaults: dict[str, Any] = {
        "volume": 1, "tag": NO_TAG, "category": 0, "trust": 0, "params": "", "salt": Hash32.zero(),
    }  # fmt: skip
    order_class = KIND_TO_CLASS[kind]
    made = {
        each.name: values.pop(
            each.name, defaults.get(each.name, 0 if each.type == "NRlc" else Address.zero())
        )
        for each in fields(order_class)
        if each.name != "sign"
    }
    if values:
        raise TypeError(f"{kind} has no {', '.join(values)}")
    return order_class(**made)
