"""Queries and bodies of the routes: read and checked, refused in the words that clients compare (4.3)."""

from __future__ import annotations

import base64
import binascii
import json
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache, partial
from typing import Any, Final, NoReturn

from poolwright.market.errors import invalid
from poolwright.market.rows import DealQuery
from poolwright.orderbook.listing import MAX_SAFE, ORDER_OF, Kind, Listing, Place, listing_of
from poolwright.orderbook.query import ALL_TAGS, ANYBODY, UNRESTRICTED, Parties, Query, exactly, usable_by
from poolwright.poco.errors import InputError
from poolwright.poco.orders import Order, RequestOrder
from poolwright.poco.tags import NO_TAG, Tag
from poolwright.poco.types import Address, Hash32, NRlc, OrderHash

_WHOLE: Final = re.compile(r"-?[0-9]{1,30}", re.ASCII)
_BYTES: Final = re.compile(r"0x(?:[0-9a-fA-F]{2}){0,4096}")
_PARTIES: Final = ("app", "dataset", "workerpool", "requester")
_CURSOR: Final = struct.Struct(">qQ32s")


class Params:
    """The query of one request, or one object of its body; every read names the field it refuses."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def has(self, name: str) -> bool:
        return self._values.get(name) is not None

    def required(self, name: str) -> Any:
        if self._values.get(name) in (None, ""):
            raise invalid(f"{name} is a required field")
        return self._values[name]

    def text(self, name: str, default: str = "") -> str:
        value = self._values.get(name)
        return default if value is None else str(value)

    def address(self, name: str) -> Address:
        value = self.required(name)
        return read_address(name, value)

    def optional_address(self, name: str) -> Address | None:
        return read_address(name, self._values[name]) if self.has(name) else None

    def parties(self, name: str, *, strict: bool) -> Parties:
        """A restriction filter: nothing, an address, or "any"."""
        if not self.has(name):
            return UNRESTRICTED
        party = self._address_or_any(name)
        if party is None:
            return ANYBODY
        return exactly(party) if strict else usable_by(party)

    def resource(self, name: str) -> Parties:
        """A filter by the thing itself: nothing or "any" for all, or an address."""
        party = self._address_or_any(name) if self.has(name) else None
        return ANYBODY if party is None else exactly(party)

    def hash(self, name: str) -> Hash32:
        return read_hash(name, self.required(name))

    def tag(self, name: str, default: Tag) -> Tag:
        return Tag(int.from_bytes(self.hash(name), "big")) if self.has(name) else default

    def flag(self, name: str) -> bool:
        value = self._values.get(name, False)
        if value in (None, False, "false", "0"):
            return False
        if value in (True, "true", "1"):
            return True
        raise invalid(f"{name} must be a `boolean` type, but the final value was: `{_shown(value)}`.")

    def number(self, name: str, *, least: int = 0, most: int = MAX_SAFE) -> int:
        return read_number(name, self.required(name), least=least, most=most)

    def optional_number(self, name: str, *, least: int = 0, most: int = MAX_SAFE) -> int | None:
        if not self.has(name):
            return None
        return read_number(name, self._values[name], least=least, most=most)

    def _address_or_any(self, name: str) -> Address | None:
        value = self._values[name]
        if value == "any":
            return None
        try:
            return Address.parse(value)
        except InputError:
            raise invalid(f'{name} is neither "any" nor a valid ethereum address') from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Which part of an answer: after the first `skip`, or behind a place; at most `count`."""

    skip: int
    count: int
    after: Place | None = None


def read_window(params: Params) -> Window:
    """Page, offset or cursor; each is looked at, whichever counts. Raises MarketRefusal."""
    size = params.optional_number("pageSize", least=10, most=1000) or 20
    index = params.optional_number("pageIndex", most=10**9) or 0
    offset = params.optional_number("page", most=10**12) or 0
    if params.has("cursor"):
        return Window(skip=0, count=size, after=read_cursor(params.text("cursor")))
    if params.has("pageIndex") or params.has("pageSize"):
        return Window(skip=index * size, count=size)
    return Window(skip=offset, count=20)


def write_cursor(place: Place) -> str:
    """A place as text for the next page's address."""
    return base64.urlsafe_b64encode(_CURSOR.pack(*place)).decode().rstrip("=")


def read_cursor(text: str) -> Place:
    """The place that `write_cursor` wrote. Raises MarketRefusal."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        price, published, order_hash = _CURSOR.unpack(raw)
    except (binascii.Error, ValueError, struct.error):
        raise invalid("cursor is not one of this market") from None
    return price, published, order_hash


def read_query(kind: Kind, params: Params) -> Query:
    """The filter of an order-book route. Raises MarketRefusal."""
    own = kind.value.removesuffix("order")
    if kind in (Kind.APP, Kind.DATASET) and not (params.has(own) or params.has(f"{own}Owner")):
        raise invalid(f"{own} or {own}Owner is required")
    parties: dict[str, Parties] = {}
    for name in _PARTIES:
        is_thing = name == own or (kind is Kind.REQUEST and name != "workerpool")
        parties[name] = (
            params.resource(name)
            if is_thing
            else params.parties(name, strict=params.flag(f"is{name.capitalize()}Strict"))
        )
    is_request, is_timed = kind is Kind.REQUEST, kind in (Kind.WORKERPOOL, Kind.REQUEST)
    return Query(
        kind=kind,
        **parties,
        beneficiary=params.optional_address("beneficiary") if is_request else None,
        signer=None if is_request else params.optional_address(f"{own}Owner"),
        category=params.optional_number("category") if is_timed else None,
        min_trust=(params.optional_number("minTrust") or 0) if kind is Kind.WORKERPOOL else 0,
        max_trust=params.optional_number("maxTrust") if is_request else None,
        min_tag=params.tag("minTag", Tag(0)),
        max_tag=params.tag("maxTag", ALL_TAGS),
        min_volume=params.optional_number("minVolume", least=1) or 1,
        bulk_only=params.flag("bulkOnly") if kind is Kind.DATASET else False,
    )


DEAL_PARAMS: Final[Mapping[str, str]] = {
    **{name: name for name in ("requester", "beneficiary", "app", "dataset", "workerpool")},
    "appOwner": "app_owner",
    "datasetOwner": "dataset_owner",
    "workerpoolOwner": "workerpool_owner",
    **{f"{kind.value}Hash": f"{kind.value}_hash" for kind in Kind},
}
"""Query parameter of the deals route -> column."""


def read_deal_query(params: Params) -> DealQuery:
    """The filter of the deals route. Raises MarketRefusal."""
    parties: dict[str, bytes] = {}
    for name, column in DEAL_PARAMS.items():
        if params.has(name):
            parties[column] = params.hash(name) if name.endswith("Hash") else params.address(name)
    return DealQuery(parties=parties, category=params.optional_number("category"))


def read_order(kind: Kind, body: Mapping[str, Any]) -> Order:
    """The signed order of a publication. Raises MarketRefusal naming the field."""
    document = body.get("order", {})
    if not isinstance(document, Mapping):
        raise invalid("order must be a `object` type")
    values: dict[str, Any] = {}
    for name, shown, read in _FIELDS[kind]:
        value = document.get(name)
        if value is None or (value == "" and name != "params"):
            raise invalid(f"{shown} is a required field")
        values[name] = read(shown, value)
    return ORDER_OF[kind](**values)


def _read_tag(name: str, value: object) -> Tag:
    return Tag(int.from_bytes(read_hash(name, value), "big"))


def _read_bytes(name: str, value: object) -> bytes:
    if not isinstance(value, str) or not _BYTES.fullmatch(value):
        raise invalid(f"{name} must be a hexstring")
    return bytes.fromhex(value[2:])


def _read_text(name: str, value: object) -> str:
    if not isinstance(value, str) or any("\ud800" <= each <= "\udfff" for each in value):
        raise invalid(f"{name} must be a `string` type of Unicode text")
    return value


def read_number(name: str, value: object, *, least: int = 0, most: int = MAX_SAFE) -> int:
    """A whole number, or its decimal digits. Raises MarketRefusal."""
    if isinstance(value, bool) or not isinstance(value, int | str) or not _WHOLE.fullmatch(str(value)):
        raise invalid(
            f"{name} must be a `number` type, but the final value was: `NaN` "
            f"(cast from the value `{_shown(value)}`)."
        )
    number = int(value)
    if number < least:
        raise invalid(f"{name} must be greater than or equal to {least}")
    if number > most:
        raise invalid(f"{name} must be less than or equal to {most}")
    return number


def read_address(name: str, value: object) -> Address:
    """An address; mixed case must be the checksum. Raises MarketRefusal."""
    try:
        return _parsed_address(value if isinstance(value, str) else "")
    except InputError:
        raise invalid(f"{name} is not a valid ethereum address") from None


@lru_cache(maxsize=16_384)
def _parsed_address(text: str) -> Address:
    """The same few come again and again: nobody's, a pool's, its owner's."""
    return Address.parse(text)


def read_hash(name: str, value: object) -> Hash32:
    """32 bytes. Raises MarketRefusal."""
    try:
        return Hash32.parse(value if isinstance(value, str) else "")
    except InputError:
        raise invalid(f"{name} must be a bytes32 hexstring") from None


_READERS: Final[Mapping[str, Callable[[str, object], Any]]] = {
    "Address": read_address,
    "Hash32": read_hash,
    "Tag": _read_tag,
    "bytes": _read_bytes,
    "str": _read_text,
}
_FIELDS: Final = {
    kind: [
        (
            each.name,
            f"order.{each.name}",
            _READERS.get(str(each.type), partial(read_number, least=1 if each.name == "volume" else 0)),
        )
        for each in fields(order_type)
    ]
    for kind, order_type in ORDER_OF.items()
}
"""Of each kind's order: the field, its name in refusals, and what reads it."""


def read_wish(params: Params) -> Listing:
    """A request that nobody published: what is wanted, of whom, at which prices. Raises MarketRefusal.

    Caps that are not given are the highest there are.
    """

    def cap(name: str) -> NRlc:
        given = params.optional_number(name)
        return NRlc(MAX_SAFE if given is None else given)

    def party(name: str) -> Address:
        return params.optional_address(name) or Address.zero()

    order = RequestOrder(
        app=params.address("app"),
        appmaxprice=cap("appmaxprice"),
        dataset=party("dataset"),
        datasetmaxprice=cap("datasetmaxprice"),
        workerpool=party("workerpool"),
        workerpoolmaxprice=cap("workerpoolmaxprice"),
        requester=party("requester"),
        volume=params.optional_number("volume", least=1) or 1,
        tag=params.tag("tag", NO_TAG),
        category=params.number("category"),
        trust=params.optional_number("trust") or 0,
        beneficiary=Address.zero(),
        callback=Address.zero(),
        params="",
        salt=Hash32.zero(),
    )
    nobody = OrderHash(Hash32.zero())
    return listing_of(order, nobody, signer=order.requester, remaining=order.volume, published=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpublication:
    """Which orders to take off: one by its hash, or the last or all on a resource."""

    order_hash: OrderHash | None = None
    resource: Address | None = None
    only_last: bool = False


def read_unpublication(kind: Kind, body: Mapping[str, Any]) -> Unpublication:
    """The body of an unpublication (reference 4.8). Raises MarketRefusal."""
    params = Params(body)
    target = params.text("target", "unpublish_orderHash")
    if target == "unpublish_orderHash":
        return Unpublication(order_hash=OrderHash(params.hash("orderHash")))
    if target not in ("unpublish_last", "unpublish_all"):
        raise invalid(
            "target must be one of the following values: unpublish_orderHash, unpublish_last, unpublish_all"
        )
    noun = "requester" if kind is Kind.REQUEST else kind.value.removesuffix("order")
    return Unpublication(resource=params.address(noun), only_last=target == "unpublish_last")


def read_body(raw: bytes) -> Mapping[str, Any]:
    """A JSON object. Raises MarketRefusal that says where the JSON breaks."""
    try:
        body = _BODY.decode(raw.decode(json.detect_encoding(raw), "surrogatepass"))
    except json.JSONDecodeError as problem:
        place = f"line {problem.lineno} column {problem.colno}"
        raise invalid(f"the body is not JSON: {problem.msg} at {place}") from None
    except (ValueError, RecursionError):
        raise invalid("the body is not JSON") from None
    if not isinstance(body, dict):
        raise invalid("the body must be a JSON object")
    return body


def _whole(digits: str) -> int | str:
    """A number too long for any field stays text, which its field then refuses by name."""
    return int(digits) if len(digits) <= 30 else digits


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


_BODY: Final = json.JSONDecoder(parse_constant=_no_constant, parse_int=_whole)


def _shown(value: object) -> str:
    return json.dumps(value)[:80] if isinstance(value, str | int | float | bool) else type(value).__name__
