"""An order book for people: best price, depth and trust at a glance; and for programs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from poolwright.cli.iexec.amounts import format_rlc
from poolwright.cli.iexec.order_forms import NOBODY
from poolwright.cli.iexec.preflight import both
from poolwright.cli.iexec.render import short, table
from poolwright.poco.errors import InputError
from poolwright.poco.tags import Tag

_RESTRICTIONS: Final = ("apprestrict", "datasetrestrict", "workerpoolrestrict", "requesterrestrict")
_KEPT: Final = {
    "apporder": ("app", "tag", *_RESTRICTIONS[1:]),
    "datasetorder": ("dataset", "tag", "apprestrict", *_RESTRICTIONS[2:]),
    "workerpoolorder": ("category", "tag", "trust", "workerpool", *_RESTRICTIONS[:2], "requesterrestrict"),
    "requestorder": ("app", "dataset", "workerpool", "requester", "beneficiary", "category", "tag", "trust"),
}
_PRICE: Final = {
    "apporder": "appprice",
    "datasetorder": "datasetprice",
    "workerpoolorder": "workerpoolprice",
    "requestorder": "workerpoolmaxprice",
}


def raw_item(kind: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """One order as `--raw` lists it (reference: market-sdk.md 1.6)."""
    order = entry.get("order") or {}
    market = {"price": order.get(_PRICE[kind]), "remaining": entry.get("remaining")}
    terms = {name: order.get(name) for name in _KEPT[kind]}
    listed = {**terms, **market} if kind == "requestorder" else {**market, **terms}
    return {"orderHash": entry.get("orderHash"), **listed}


def summary(kind: str, items: Sequence[Mapping[str, Any]], count: int) -> str:
    """The book in one line: best price, tasks at that price, depth, trust."""
    if not items:
        return "no open order"
    best = items[0]["price"]
    at_best = sum(item["remaining"] for item in items if item["price"] == best)
    depth = sum(item["remaining"] for item in items)
    name = "best offer" if kind == "requestorder" else "best price"
    parts = [
        f"{name} {both(best)} for {_tasks(at_best)}",
        f"depth {_tasks(depth)} in {_orders(len(items))}{f' of {count}' if count > len(items) else ''}",
    ]
    if "trust" in items[0]:
        low, high = min(item["trust"] for item in items), max(item["trust"] for item in items)
        parts.append(f"trust {low}" if low == high else f"trust {low} to {high}")
    return ", ".join(parts)


def book_table(kind: str, items: Sequence[Mapping[str, Any]], *, is_full: bool = False) -> str:
    """The orders, best first; `depth` is how many tasks can be had up to that line."""
    who = {"requestorder": "requester"}.get(kind, kind.removesuffix("order"))
    show = str if is_full else short
    has_trust = "trust" in _KEPT[kind]
    header = ["RLC", "tasks", "depth", *(("category", "trust") if has_trust else ()), "tag", who, "only for"]
    rows, depth = [], 0
    for item in items:
        depth += item["remaining"]
        rows.append(
            [
                format_rlc(item["price"]),
                str(item["remaining"]),
                str(depth),
                *((str(item["category"]), str(item["trust"])) if has_trust else ()),
                tag_words(item["tag"]),
                show(str(item[who])),
                only_for(kind, item, is_full=is_full),
                str(item["orderHash"]),
            ]
        )
    right = ("RLC", "tasks", "depth", "category", "trust")
    return table([*header, "orderHash"], rows, right=right)


def tag_words(tag: object) -> str:
    """A tag as names: `tee,tdx`; `standard` for none."""
    try:
        return ",".join(Tag.parse(str(tag)).names) or "standard"
    except InputError:
        return str(tag)


def only_for(kind: str, item: Mapping[str, Any], *, is_full: bool = False) -> str:
    """Whom an order allows besides everybody: `app 0x1234…abcd`."""
    show = str if is_full else short
    if kind == "requestorder":
        parties = [(name, item.get(name)) for name in ("app", "dataset", "workerpool")]
    else:
        parties = [(name.removesuffix("restrict"), item.get(name)) for name in _RESTRICTIONS]
    named = [f"{name} {show(str(party))}" for name, party in parties if party not in (None, NOBODY)]
    return ", ".join(named) or "anyone"


def _tasks(number: int) -> str:
    return f"{number} task{'' if number == 1 else 's'}"


def _orders(number: int) -> str:
    return f"{number} order{'' if number == 1 else 's'}"
