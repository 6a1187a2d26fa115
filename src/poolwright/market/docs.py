"""The market's description for people: one table of routes and their parameters, made from the OpenAPI."""

from __future__ import annotations

from html import escape
from typing import Final

from poolwright.market.openapi import openapi

ROUTES: Final = frozenset(path.split("/")[1] for path in openapi()["paths"]) - {"{chainId}"}
"""First words of the paths, by which requests are counted."""


def page() -> str:
    """The page at /docs."""
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
