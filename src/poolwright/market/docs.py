"""The market's own description: OpenAPI, made from the same names as the routes, and a page that shows it."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from html import escape
from typing import Any, Final

from poolwright.market.params import DEAL_PARAMS
from poolwright.orderbook.listing import MAX_SAFE, ORDER_OF, Kind

ROUTES: Final = frozenset(
    (
        *(f"{kind.value}s" for kind in Kind),
        *("challenge", "categories", "deals", "ohlc", "version", "metrics", "health", "events", "docs"),
        "openapi.json",
    )
)
_NUMBER: Final = {"type": "integer", "minimum": 0, "maximum": MAX_SAFE}
_ADDRESS: Final = {"type": "string", "pattern": "^0x[0-9a-fA-F]{40}$"}
_HASH: Final = {"type": "string", "pattern": "^0x[0-9a-fA-F]{64}$"}
_PARTY: Final = {"oneOf": [_ADDRESS, {"const": "any"}]}
_FLAG: Final = {"type": "boolean"}
_TEXT: Final = {"type": "string"}
_ERROR: Final = {"$ref": "#/components/schemas/Error"}
_PAGING: Final[Mapping[str, Any]] = {
    "pageIndex": _NUMBER,
    "pageSize": {"type": "integer", "minimum": 10, "maximum": 1000},
    "page": _NUMBER,
}


@lru_cache(maxsize=1)
def openapi() -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    paths: dict[str, Any] = {}
    for kind in Kind:
        paths |= _order_paths(kind)
    deal_filter = {name: _HASH if name.endswith("Hash") else _ADDRESS for name in DEAL_PARAMS}
    clock = {"minWorkClockTimeRef": _NUMBER, "maxWorkClockTimeRef": _NUMBER}
    paths |= {
        "/challenge": {"get": _get("Typed data to sign", {"address": _ADDRESS}, required=("address",))},
        "/deals": {"get": _get("Deals, the newest first", {**deal_filter, "category": _NUMBER, **_PAGING})},
        "/deals/{dealid}": {"get": _get("One deal", {}, path={"dealid": _HASH})},
        "/categories": {"get": _get("Categories", {**clock, **_PAGING})},
        "/categories/{catid}": {"get": _get("One category", {}, path={"catid": _NUMBER})},
        "/ohlc": {"get": _get("The last 100 deals", {"category": _NUMBER}, required=("category",))},
        "/version": {"get": _get("The market's version", {}, needs_chain=False)},
        "/{chainId}/workerpools/{address}": {
            "get": _get(
                "Compass: where a pool's scheduler listens",
                {},
                path={"chainId": _NUMBER, "address": _ADDRESS},
                needs_chain=False,
            )
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Poolwright marketplace", "version": importlib.metadata.version("poolwright")},
        "paths": paths,
        "components": {
            "schemas": {
                "Error": {
                    "type": "object",
                    "required": ["ok", "error"],
                    "properties": {"ok": {"const": False}, "error": _TEXT},
                },
                "Ok": {"type": "object"},
                **{kind.value: _order_schema(kind) for kind in Kind},
            }
        },
    }


def page() -> str:
    """The same for people: one table of routes and their parameters."""
    rows = []
    for path, verbs in openapi()["paths"].items():
        for verb, operation in verbs.items():
            names = ", ".join(each["name"] for each in operation["parameters"])
            rows.append(
                f"<tr><td>{verb.upper()}</td><td><code>{escape(path)}</code></td>"
                f"<td>{escape(operation['summary'])}</td><td><code>{escape(names)}</code></td></tr>"
            )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        "<title>Poolwright marketplace</title><style>:root{color-scheme:light dark}body{font:15px/1.5 "
        "system-ui;margin:2rem;max-width:75rem}td{padding:.3rem .8rem .3rem 0;vertical-align:top;border-top:"
        "1px solid #8884}code{word-break:break-word}</style><h1>Poolwright marketplace</h1><p>For programs: "
        "<a href=/openapi.json>openapi.json</a>. News as they come: <code>/events?chainId=&amp;topic=orders"
        "|deals</code>, or Socket.IO at <code>/ws</code>.<table>" + "".join(rows) + "</table>"
    )


def _order_paths(kind: Kind) -> dict[str, Any]:
    own = kind.value.removesuffix("order")
    filters: dict[str, Any] = {}
    for party in ("app", "dataset", "workerpool", "requester"):
        filters[party] = _PARTY
        if party != own and (kind is not Kind.REQUEST or party == "workerpool"):
            filters[f"is{party.capitalize()}Strict"] = _FLAG
    filters |= {"minTag": _HASH, "maxTag": _HASH, "minVolume": {**_NUMBER, "minimum": 1}}
    match kind:
        case Kind.REQUEST:
            filters |= {"beneficiary": _ADDRESS, "category": _NUMBER, "maxTrust": _NUMBER}
        case Kind.WORKERPOOL:
            filters |= {"workerpoolOwner": _ADDRESS, "category": _NUMBER, "minTrust": _NUMBER}
        case Kind.DATASET:
            filters |= {"datasetOwner": _ADDRESS, "bulkOnly": _FLAG}
        case Kind.APP:
            filters |= {"appOwner": _ADDRESS}
    path = f"/{kind.value}s"
    publication = {
        "type": "object",
        "required": ["order"],
        "properties": {
            "order": {"$ref": f"#/components/schemas/{kind.value}"},
            "expiresAt": {**_NUMBER, "description": "milliseconds since 1970; the order dies then"},
        },
    }
    unpublication = {
        "type": "object",
        "properties": {
            "target": {"enum": ["unpublish_orderHash", "unpublish_last", "unpublish_all"]},
            "orderHash": _HASH,
            ("requester" if kind is Kind.REQUEST else own): _ADDRESS,
        },
    }
    return {
        path: {
            "get": _get(f"Open {kind.value}s", {**filters, **_PAGING, "cursor": _TEXT}),
            "post": _write(f"Publish a {kind.value}", publication),
            "put": _write(f"Unpublish {kind.value}s", unpublication),
        },
        f"{path}/{{orderHash}}": {"get": _get(f"One {kind.value}", {}, path={"orderHash": _HASH})},
    }


def _order_schema(kind: Kind) -> dict[str, Any]:
    types: Mapping[str, Any] = {
        "Address": _ADDRESS,
        "Hash32": _HASH,
        "Tag": _HASH,
        "bytes": {"type": "string", "pattern": "^0x([0-9a-fA-F]{2})*$"},
        "str": _TEXT,
    }
    properties = {each.name: types.get(str(each.type), _NUMBER) for each in fields(ORDER_OF[kind])}
    return {"type": "object", "required": list(properties), "properties": properties}


def _get(
    summary: str,
    query: Mapping[str, Any],
    *,
    path: Mapping[str, Any] | None = None,
    required: tuple[str, ...] = (),
    needs_chain: bool = True,
) -> dict[str, Any]:
    asked = {**({"chainId": _NUMBER} if needs_chain else {}), **query}
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": schema}
        for name, schema in (path or {}).items()
    ]
    parameters += [
        {"name": name, "in": "query", "required": name in (*required, "chainId"), "schema": schema}
        for name, schema in asked.items()
    ]
    return {"summary": summary, "parameters": parameters, "responses": _responses("400", "404")}


def _write(summary: str, body: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "summary": summary,
        "parameters": [
            {"name": "chainId", "in": "query", "required": True, "schema": _NUMBER},
            {
                "name": "authorization",
                "in": "header",
                "required": True,
                "schema": _TEXT,
                "description": "<digest>_<signature>_<address> of a challenge",
            },
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": _responses("400", "403", "408", "413"),
    }


def _responses(*refusals: str) -> dict[str, Any]:
    answer = {"application/json": {"schema": {"$ref": "#/components/schemas/Ok"}}}
    refused = {"application/json": {"schema": _ERROR}}
    return {
        "200": {"description": "done", "content": answer},
        **{status: {"description": "refused", "content": refused} for status in (*refusals, "429", "503")},
    }
