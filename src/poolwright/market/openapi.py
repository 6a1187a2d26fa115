"""The market's own description as OpenAPI 3.1: every route, parameter, status and body.

It is made from the same names as the code that reads queries and orders, and it is what the tests of bad
input are drawn from (tests/adapters/market/test_market_openapi.py), so what it says is what is done.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from typing import Any, Final

from poolwright.market.params import DEAL_PARAMS
from poolwright.orderbook.listing import MAX_SAFE, ORDER_OF, Kind

Schema = Mapping[str, Any]

_NUMBER: Final = {"type": "integer", "minimum": 0, "maximum": MAX_SAFE}
_CURSOR: Final = {"type": "string", "pattern": "^[A-Za-z0-9_-]{64}$"}
_ANY_NUMBER: Final = {"type": "integer"}
_POSITIVE: Final = {**_NUMBER, "minimum": 1}
_SIZE: Final = {"type": "integer", "minimum": 10, "maximum": 1000, "default": 20}
_ADDRESS: Final = {
    "type": "string",
    "pattern": "^0x([0-9a-f]{40}|[0-9A-F]{40})$",
    "format": "address",
    "description": "0x and 40 hexadecimal digits, in mixed case with the EIP-55 checksum",
}
_HASH: Final = {"type": "string", "pattern": "^0x[0-9a-fA-F]{64}$"}
_HEX: Final = {"type": "string", "pattern": "^0x([0-9a-fA-F]{2}){0,4096}$"}
_PARTY: Final = {"anyOf": [_ADDRESS, {"const": "any"}]}
_FLAG: Final = {"type": "boolean", "default": False}
_TEXT: Final = {"type": "string"}
_TIME: Final = {"type": "string", "format": "date-time"}
_SHOWN: Final = {"type": "string", "pattern": "^0x[0-9a-fA-F]{40}$"}
"""An address in an answer, with its checksum."""
_OK: Final = {"const": True}
_PAGING: Final[Mapping[str, Schema]] = {
    "pageIndex": {"type": "integer", "minimum": 0, "maximum": 10**9},
    "pageSize": _SIZE,
    "page": {"type": "integer", "minimum": 0, "maximum": 10**12, "description": "records to skip"},
}
_CHALLENGE: Final = {
    "type": "apiKey",
    "in": "header",
    "name": "authorization",
    "description": "<digest>_<signature>_<address>: the typed data of /challenge, signed by the address",
}
_LIMITS: Final = {
    "X-RateLimit-Limit": "requests in a period",
    "X-RateLimit-Remaining": "requests left in this period",
    "X-RateLimit-Reset": "seconds until the next period",
}
_WHY: Final = {
    "400": "the query or the body is not readable; `error` names the field",
    "403": "authorization, or a rule of the market",
    "404": "there is no such thing",
    "408": "the body did not come in time; the connection ends",
    "413": "the body is too long; the connection ends",
    "429": "too many requests; Retry-After says when to come back, in seconds",
    "500": "a mistake of this market; its log has the story",
    "503": "chain or database do not answer; Retry-After says when to come back, in seconds",
}


@lru_cache(maxsize=4)
def openapi(chain_ids: tuple[int, ...] = ()) -> dict[str, Any]:
    """The document of a market of these chains; without any, of all markets."""
    paths: dict[str, Any] = {}
    for kind in Kind:
        paths |= _order_paths(kind)
    paths |= _match_paths() | _chain_paths() | _own_paths()
    if chain_ids:
        for operation in (each for verbs in paths.values() for each in verbs.values()):
            for parameter in operation["parameters"]:
                if parameter["name"] == "chainId":
                    parameter["schema"] = {"type": "integer", "enum": list(chain_ids)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Poolwright marketplace",
            "version": importlib.metadata.version("poolwright"),
            "description": "Signed orders of the iExec network. News by Socket.IO at /ws too.",
        },
        "paths": paths,
        "components": {"schemas": _schemas(), "securitySchemes": {"challenge": _CHALLENGE}},
    }


# --- orders -------------------------------------------------------------------------------------------------


def _order_paths(kind: Kind) -> dict[str, Any]:
    own, path = kind.value.removesuffix("order"), f"/{kind.value}s"
    publication = {
        "type": "object",
        "required": ["order"],
        "properties": {
            "order": _ref(f"{kind.value}-signed"),
            "expiresAt": {
                **_NUMBER,
                "description": "milliseconds since 1970: the order dies then; 0 or nothing for never",
            },
        },
    }
    noun = "requester" if kind is Kind.REQUEST else own
    unpublication = {
        "oneOf": [
            _object({"target": {"const": "unpublish_orderHash"}, "orderHash": _HASH}, optional=("target",)),
            _object({"target": {"enum": ["unpublish_last", "unpublish_all"]}, noun: _ADDRESS}),
        ]
    }
    return {
        path: {
            "get": _get(
                f"Open {kind.value}s",
                {**_filters(kind), **_PAGING, "cursor": {**_CURSOR, "description": "`nextCursor` of a page"}},
                _page("orders", _ref(kind.value)),
            ),
            "post": _write(
                f"Publish a {kind.value}", publication, {"published": _ref(f"{kind.value}-alone")}
            ),
            "put": _write(
                f"Unpublish {kind.value}s", unpublication, {"unpublished": {"type": "array", "items": _HASH}}
            ),
        },
        f"{path}/{{orderHash}}": {
            "get": _get(
                f"One {kind.value} in whatever status",
                {},
                {"allOf": [_object({"ok": _OK}), _ref(f"{kind.value}-alone")]},
                path={"orderHash": _HASH},
            )
        },
    }


def _filters(kind: Kind) -> dict[str, Schema]:
    own = kind.value.removesuffix("order")
    filters: dict[str, Schema] = {}
    for party in ("app", "dataset", "workerpool", "requester"):
        filters[party] = _PARTY
        if party != own and (kind is not Kind.REQUEST or party == "workerpool"):
            filters[f"is{party.capitalize()}Strict"] = _FLAG
    filters |= {"minTag": _HASH, "maxTag": _HASH, "minVolume": _POSITIVE}
    match kind:
        case Kind.REQUEST:
            filters |= {"beneficiary": _ADDRESS, "category": _NUMBER, "maxTrust": _NUMBER}
        case Kind.WORKERPOOL:
            filters |= {"workerpoolOwner": _ADDRESS, "category": _NUMBER, "minTrust": _NUMBER}
        case Kind.DATASET:
            filters |= {"datasetOwner": _ADDRESS, "bulkOnly": _FLAG}
        case Kind.APP:
            filters |= {"appOwner": _ADDRESS}
    return filters


def _match_paths() -> dict[str, Any]:
    wish: dict[str, Schema] = {
        "app": _ADDRESS,
        "category": _NUMBER,
        **dict.fromkeys(("dataset", "workerpool", "requester"), _ADDRESS),
        "tag": _HASH,
        "trust": _NUMBER,
        "volume": _POSITIVE,
        **dict.fromkeys(("appmaxprice", "datasetmaxprice", "workerpoolmaxprice"), _NUMBER),
    }
    found = {
        "price": {**_NUMBER, "maximum": 3 * MAX_SAFE, "description": "nRLC per task, all together"},
        "volume": {**_POSITIVE, "description": "tasks that one deal would have"},
        "apporder": _ref("apporder"),
        "datasetorder": {"anyOf": [_ref("datasetorder"), {"type": "null"}]},
        "workerpoolorder": _ref("workerpoolorder"),
        "requestorder": _ref("requestorder"),
    }
    answer = _object(
        {"ok": _OK, "match": {"anyOf": [_object(found, optional=("requestorder",)), {"type": "null"}]}}
    )
    needed = ("app", "category")
    of_wish = _get("The cheapest, then oldest orders that would serve a wish", wish, answer, required=needed)
    of_request = _get(
        "The cheapest, then oldest orders that serve an open request", {}, answer, path={"orderHash": _HASH}
    )
    for operation in (of_wish, of_request):
        operation["responses"]["403"] = _response("too many orders to look through", _ref("Error"))
    return {"/match": {"get": of_wish}, "/requestorders/{orderHash}/match": {"get": of_request}}


# --- what the watcher stored --------------------------------------------------------------------------------


def _chain_paths() -> dict[str, Any]:
    deal_filter = {name: _HASH if name.endswith("Hash") else _ADDRESS for name in DEAL_PARAMS}
    clock = {"minWorkClockTimeRef": _NUMBER, "maxWorkClockTimeRef": _NUMBER}
    typed = _object({"ok": _OK, "data": {"type": "object", "description": "EIP-712 typed data to sign"}})
    rows = {"type": "array", "maxItems": 100, "items": {"type": "array", "minItems": 3, "maxItems": 3}}
    return {
        "/challenge": {
            "get": _get("Typed data to sign, good once", {"address": _ADDRESS}, typed, required=("address",))
        },
        "/deals": {
            "get": _get(
                "Deals, the newest first",
                {**deal_filter, "category": _NUMBER, **_PAGING},
                _page("deals", _ref("deal")),
            )
        },
        "/deals/{dealid}": {
            "get": _get(
                "One deal", {}, {"allOf": [_object({"ok": _OK}), _ref("deal")]}, path={"dealid": _HASH}
            )
        },
        "/categories": {
            "get": _get(
                "Categories, the shortest first", {**clock, **_PAGING}, _page("categories", _ref("category"))
            )
        },
        "/categories/{catid}": {
            "get": _get(
                "One category",
                {},
                {"allOf": [_object({"ok": _OK, "chainId": _NUMBER}), _ref("category")]},
                path={"catid": _NUMBER},
            )
        },
        "/ohlc": {
            "get": _get(
                "Time, workerpool price and volume of a category's last 100 deals",
                {"category": _NUMBER},
                _object({"ok": _OK, "ohlc": rows}),
                required=("category",),
            )
        },
        "/{chainId}/workerpools/{address}": {
            "get": _get(
                "Compass: where a pool's scheduler listens",
                {},
                _object({"apiUrl": _TEXT}),
                path={"chainId": _NUMBER, "address": _ADDRESS},
                needs_chain=False,
            )
        },
    }


# --- the market itself --------------------------------------------------------------------------------------


def _own_paths() -> dict[str, Any]:
    counts: dict[str, Schema] = {"ok": _OK, "lastBlock": _NUMBER, "checkpointBlock": _NUMBER}
    counts |= {f"{kind.value}s": _NUMBER for kind in Kind}
    chain = _object(
        {
            "chainId": _NUMBER,
            "block": {"type": ["integer", "null"]},
            "orders": _NUMBER,
            "trouble": _TEXT,
        },
        optional=("trouble",),
        is_open=True,
    )
    health = _object({"ok": {"type": "boolean"}, "chains": {"type": "array", "items": chain}})
    metrics = _get("Counts of a chain, or without chainId numbers for Prometheus", {}, _object(counts))
    metrics["parameters"][0]["required"] = False
    metrics["responses"]["200"]["content"]["text/plain"] = {"schema": _TEXT}
    events = _get(
        "News as server-sent events, without end",
        {"topic": {"enum": ["orders", "deals"], "default": "orders"}},
        _TEXT,
        media="text/event-stream",
    )
    events["parameters"].append(
        {
            "name": "Last-Event-ID",
            "in": "header",
            "required": False,
            "schema": {"type": "integer", "minimum": 0},
            "description": "the last piece of news that was heard; it goes on behind it",
        }
    )
    version = _get("Its version", {}, _object({"ok": _OK, "version": _TEXT}), needs_chain=False)
    page = _get("This description for people", {}, _TEXT, media="text/html", needs_chain=False)
    well = _get("Whether chains and books go on", {}, health, needs_chain=False)
    well["responses"]["503"] = _response("something does not go on; the body says what", health)
    return {
        "/version": {"get": version},
        "/health": {"get": well},
        "/metrics": {"get": metrics},
        "/events": {"get": events},
        "/docs": {"get": page},
        "/openapi.json": {"get": _get("This description", {}, {"type": "object"}, needs_chain=False)},
    }


# --- schemas ------------------------------------------------------------------------------------------------


def _schemas() -> dict[str, Any]:
    return {
        "Error": _object({"ok": {"const": False}, "error": _TEXT}),
        "deal": _deal(),
        "category": _object(
            {
                "catid": _NUMBER,
                "name": _TEXT,
                "description": _TEXT,
                "workClockTimeRef": _NUMBER,
                "transactionHash": _HASH,
                "blockNumber": _NUMBER,
                "blockTimestamp": _TIME,
            },
            is_open=True,
        ),
        **{f"{kind.value}-signed": _signed(kind, is_answer=False) for kind in Kind},
        **{f"{kind.value}-alone": _document(kind, is_item=False) for kind in Kind},
        **{kind.value: _document(kind, is_item=True) for kind in Kind},
    }


def _document(kind: Kind, *, is_item: bool) -> dict[str, Any]:
    """An order as the market tells of it, in a list or alone."""
    properties: dict[str, Any] = {
        "orderHash": _HASH,
        "chainId": _NUMBER if is_item else {"type": "string", "description": "as it was asked for"},
        "order": _signed(kind, is_answer=True),
        "remaining": _NUMBER,
        "status": {"const": "open"} if is_item else {"enum": ["open", "filled", "canceled", "dead"]},
        "publicationTimestamp": _TIME,
        "signer": _SHOWN,
        "expiresAt": _TIME,
    }
    if is_item and kind is Kind.DATASET:
        properties["bulk"] = {"type": "boolean"}
    return _object(properties, optional=("expiresAt",), is_open=not is_item)


def _signed(kind: Kind, *, is_answer: bool) -> dict[str, Any]:
    """A signed order, numbers as JSON numbers; in a publication also as decimal digits."""
    number = _NUMBER if is_answer else {"anyOf": [_NUMBER, {"type": "string", "pattern": "^[0-9]{1,15}$"}]}
    types: Mapping[str, Schema] = {
        "Address": _SHOWN if is_answer else _ADDRESS,
        "Hash32": _HASH,
        "Tag": _HASH,
        "bytes": _HEX,
        "str": _TEXT,
    }
    properties = {each.name: types.get(str(each.type), number) for each in fields(ORDER_OF[kind])}
    if not is_answer:
        properties["volume"] = {"anyOf": [_POSITIVE, {"type": "string", "pattern": "^[1-9][0-9]{0,14}$"}]}
    return _object(properties, is_open=not is_answer)


def _deal() -> dict[str, Any]:
    part = _object({"pointer": _SHOWN, "owner": _SHOWN, "price": {"type": "integer"}})
    numbers = (
        *("volume", "category", "trust", "startTime", "botFirst", "botSize"),
        *("schedulerRewardRatio", "workerStake", "blockNumber"),
    )
    return _object(
        {
            "dealid": _HASH,
            "chainId": _NUMBER,
            **dict.fromkeys(("app", "dataset", "workerpool"), part),
            **dict.fromkeys(("appHash", "datasetHash", "workerpoolHash", "requestHash"), _HASH),
            **dict.fromkeys(("requester", "beneficiary", "callback"), _SHOWN),
            "params": _TEXT,
            "tag": _HASH,
            **dict.fromkeys(numbers, _ANY_NUMBER),
            "blockTimestamp": _TIME,
            "transactionHash": _HASH,
        },
        is_open=True,
    )


def _page(name: str, item: Schema) -> dict[str, Any]:
    properties: dict[str, Schema] = {
        "ok": _OK,
        "count": {**_NUMBER, "description": "of all pages"},
        name: {"type": "array", "items": item},
        "nextPage": {**_NUMBER, "description": "only when this page is full"},
    }
    optional = ["nextPage"]
    if name == "orders":
        properties["nextCursor"] = {**_CURSOR, "description": "only when this page is full"}
        optional.append("nextCursor")
    return _object(properties, optional=tuple(optional))


def _object(
    properties: Mapping[str, Schema], *, optional: tuple[str, ...] = (), is_open: bool | None = None
) -> dict[str, Any]:
    """An object with these members and, unless `is_open` is said to be True, no others.

    One that is joined with another by allOf must be open.
    """
    found: dict[str, Any] = {
        "type": "object",
        "required": [name for name in properties if name not in optional],
        "properties": dict(properties),
    }
    if is_open is False:
        found["additionalProperties"] = False
    return found


# --- operations ---------------------------------------------------------------------------------------------


def _get(
    summary: str,
    query: Mapping[str, Schema],
    answer: Schema,
    *,
    path: Mapping[str, Schema] | None = None,
    required: tuple[str, ...] = (),
    needs_chain: bool = True,
    media: str = "application/json",
) -> dict[str, Any]:
    asked = {**({"chainId": _NUMBER} if needs_chain else {}), **query}
    parameters = [_parameter(name, "path", schema, required=True) for name, schema in (path or {}).items()]
    parameters += [
        _parameter(name, "query", schema, required=name in (*required, "chainId"))
        for name, schema in asked.items()
    ]
    refusals = ["400"] if asked or path else []
    if path:
        refusals.append("404")
    return {
        "summary": summary,
        "parameters": parameters,
        "responses": _responses(answer, *refusals, media=media),
    }


def _write(summary: str, body: Schema, answer: Mapping[str, Schema]) -> dict[str, Any]:
    return {
        "summary": summary,
        "parameters": [_parameter("chainId", "query", _NUMBER, required=True)],
        "security": [{"challenge": []}],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": _responses(_object({"ok": _OK, **answer}), "400", "403", "408", "413"),
    }


def _parameter(name: str, place: str, schema: Schema, *, required: bool) -> dict[str, Any]:
    return {"name": name, "in": place, "required": required, "schema": schema}


def _responses(answer: Schema, *refusals: str, media: str = "application/json") -> dict[str, Any]:
    found = {"200": _response("done", answer, media)}
    for status in (*refusals, "429", "500", "503"):
        found[status] = _response(_WHY[status], _ref("Error"))
        if status in ("429", "503"):
            found[status]["headers"]["Retry-After"] = _header("seconds")
    return found


def _response(why: str, body: Schema, media: str = "application/json") -> dict[str, Any]:
    return {
        "description": why,
        "headers": {name: _header(what) for name, what in _LIMITS.items()},
        "content": {media: {"schema": body}},
    }


def _header(what: str) -> dict[str, Any]:
    return {"description": what, "schema": {"type": "integer", "minimum": 0}}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}
