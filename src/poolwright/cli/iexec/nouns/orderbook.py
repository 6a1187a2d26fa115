"""`iexec orderbook`: the open orders of the marketplace, best price first."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count as count_up
from typing import Any, Final

import click

from poolwright.cli.iexec.book_view import book_table, raw_item, summary
from poolwright.cli.iexec.command import Noun, Outcome, Run, Shared
from poolwright.cli.iexec.errors import IexecError
from poolwright.cli.iexec.order_forms import read_tag
from poolwright.cli.iexec.values import address_of, number_of

COMMAND = orderbook = Noun("orderbook", "The marketplace's open orders, the best price first.")


@dataclass(frozen=True, slots=True)
class Filter:
    """An option and the query parameter that it becomes."""

    option: str
    parameter: str
    read: Callable[[str, str], str]
    metavar: str
    help: str


def _address(text: str, option: str) -> str:
    return "any" if text == "any" else str(address_of(text, option))


def _number(least: int) -> Callable[[str, str], str]:
    return lambda text, option: str(number_of(text, option, least=least))


def _tag(text: str, option: str) -> str:
    return str(read_tag(text, option))


def _party(name: str, what: str = "orders for this") -> Filter:
    return Filter(f"--{name}", name, _address, "<address>", f"Include {what} {name}; `any`: no condition.")


_TAGS: Final = (
    Filter("--tag", "tag", _tag, "<tag>", "Exactly this tag, such as tee,tdx."),
    Filter("--require-tag", "minTag", _tag, "<tag>", "At least these tags."),
    Filter("--max-tag", "maxTag", _tag, "<tag>", "At most these tags."),
)
_VOLUME: Final = Filter("--min-volume", "minVolume", _number(1), "<integer>", "At least so many tasks left.")
_CATEGORY: Final = Filter("--category", "category", _number(0), "<id>", "Of this category.")
_MIN_TRUST: Final = Filter("--min-trust", "minTrust", _number(0), "<integer>", "At least this trust.")
_MAX_TRUST: Final = Filter("--max-trust", "maxTrust", _number(0), "<integer>", "At most this trust.")


@dataclass(frozen=True, slots=True)
class Book:
    """One of the four books and how it may be filtered."""

    kind: str
    resource: str
    """The parameter of the positional address."""
    filters: tuple[Filter, ...]
    strict: tuple[str, ...]
    """Parties with a `--<party>-strict` flag."""
    is_address_needed: bool = False
    listed_as: str = ""
    """The key of the list in --raw."""


BOOKS: Final = {
    "app": Book(
        "apporder",
        "app",
        (*_TAGS, _VOLUME, *map(_party, ("dataset", "workerpool", "requester"))),
        ("dataset", "workerpool", "requester"),
        True,
        "appOrders",
    ),
    "dataset": Book(
        "datasetorder",
        "dataset",
        (*_TAGS, _VOLUME, *map(_party, ("app", "workerpool", "requester"))),
        ("app", "workerpool", "requester"),
        True,
        "datasetOrders",
    ),
    "workerpool": Book(
        "workerpoolorder",
        "workerpool",
        (_CATEGORY, *_TAGS, _VOLUME, _MIN_TRUST, *map(_party, ("app", "dataset", "requester"))),
        ("app", "dataset", "requester"),
        False,
        "workerpoolOrders",
    ),
    "requester": Book(
        "requestorder",
        "requester",
        (
            *(_CATEGORY, *_TAGS, _VOLUME, _MAX_TRUST),
            *(_party(name, "only requests with this") for name in ("app", "dataset", "beneficiary")),
            _party("workerpool"),
        ),
        ("workerpool",),
        False,
        "requestOrders",
    ),
}


def query_of(book: Book, address: str | None, words: Mapping[str, Any]) -> dict[str, str]:
    """The market's query for a call's words. Raises IexecError naming the option."""
    query = {} if address is None else {book.resource: str(address_of(address))}
    for one in book.filters:
        text = words.get(_name(one.option))
        if text is None:
            continue
        if one.parameter == "tag":
            if words.get("require_tag") is not None or words.get("max_tag") is not None:
                raise IexecError("--tag excludes --require-tag and --max-tag", expected="one or the other")
            query["minTag"] = query["maxTag"] = one.read(text, one.option)
        else:
            query[one.parameter] = one.read(text, one.option)
    for party in book.strict:
        is_strict = bool(words.get(f"{party}_strict"))
        if is_strict and words.get(party) is None:
            raise IexecError(f"--{party}-strict needs --{party} <address>")
        query[f"is{party.capitalize()}Strict"] = "true" if is_strict else "false"
    return query


def _add(name: str, book: Book) -> None:
    async def work(run: Run, address: str | None, **words: Any) -> Outcome:
        return await _show(run, book, address, words)

    whose = "of an app" if name == "app" else "of a dataset" if name == "dataset" else f"of {name}s"
    work.__doc__ = f"Show the open orders {whose}, the best price first."
    decorated: Any = work
    decorated = click.option("--full", is_flag=True, help="Show whole addresses in the table.")(decorated)
    for party in reversed(book.strict):
        decorated = click.option(
            f"--{party}-strict", is_flag=True, help=f"Only orders made for the given {party} alone."
        )(decorated)
    for one in reversed(book.filters):
        decorated = click.option(one.option, metavar=one.metavar, help=one.help)(decorated)
    decorated = click.argument("address", required=book.is_address_needed)(decorated)
    example = f"iexec orderbook {name} 0x8c3e…38 --require-tag tee,tdx"
    orderbook.verb(name, Shared.CHAIN, example=example)(decorated)


async def _show(run: Run, book: Book, address: str | None, words: Mapping[str, Any]) -> Outcome:
    from poolwright.cli.iexec.market_client import RAW_RECORDS, MarketClient

    chain = run.chain()
    query = query_of(book, address, words)
    is_full = bool(words.get("full"))
    items: list[dict[str, Any]] = []
    new: list[dict[str, Any]] = []
    async with MarketClient(chain.require("iexecGateway"), str(chain.id)) as market:
        for number in count_up():
            with run.out.working("Reading the order book"):
                page = await market.orders(book.kind, query, page=number)
            new = [raw_item(book.kind, entry) for entry in page.orders]
            items += new
            if not page.has_more or (run.options.raw and len(items) > RAW_RECORDS):
                break
            if not run.options.raw and not _wants_more(book, new, page.count - len(items), is_full):
                break
    if len(items) < page.count:
        run.out.note(f"{page.count - len(items)} more orders are not shown")
    name = book.kind.removesuffix("order").capitalize()
    return Outcome(
        text=f"{name} orders: {summary(book.kind, items, page.count)}",
        fields={"count": page.count, book.listed_as: items},
        shown=book_table(book.kind, new, is_full=is_full) if new else None,
    )


def _wants_more(book: Book, shown: list[dict[str, Any]], left: int, is_full: bool) -> bool:
    """Show people on a terminal what came and ask whether to go on; elsewhere it is a no, as by default."""
    if left <= 0 or not sys.stdin.isatty():
        return False
    click.echo(book_table(book.kind, shown, is_full=is_full))
    sys.stderr.write(f"? Show more? {left} orders are left (y/N) ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _name(option: str) -> str:
    return option.removeprefix("--").replace("-", "_")


for _book_name, _book in BOOKS.items():
    _add(_book_name, _book)
