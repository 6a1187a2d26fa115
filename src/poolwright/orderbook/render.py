"""An order's public JSON, made directly as bytes: pages of orders are what the market is asked for most.

The shape is reference 4.4: numbers are JSON numbers, addresses carry the checksum, hashes are lower case.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from poolwright.orderbook.listing import PRICE_NAME, Kind, Listing, Status, Terms
from poolwright.orderbook.match import BestMatch
from poolwright.poco.types import Address

_DAY: Final = 86_400_000


def render(listing: Listing, *, chain_id: str, status: Status | None = None, is_item: bool = True) -> bytes:
    """The order document; `chain_id` is JSON text (a number in lists, a string for one order, "" for none).

    `is_item` adds what only list items have.
    """
    bulk = f',"bulk":{_BOOL[listing.is_bulk]}' if is_item and listing.kind is Kind.DATASET else ""
    chain = f'"chainId":{chain_id},' if chain_id else ""
    expires = f',"expiresAt":"{iso_time(listing.expires)}"' if listing.expires else ""
    return b"".join(
        (
            f'{{"orderHash":"0x{listing.hash.hex()}",{chain}"order":'.encode(),
            render_order(listing),
            (
                f',"remaining":{listing.remaining},"status":"{(status or listing.status).value}",'
                f'"publicationTimestamp":"{iso_time(listing.published)}",'
                f'"signer":"{checksummed(listing.signer)}"{bulk}{expires}}}'
            ).encode(),
        )
    )


def render_order(listing: Listing) -> bytes:
    """The signed order alone, as it was published."""
    terms, secret = listing.terms, listing.secret
    if not terms.text:
        terms.text.append(_terms_json(terms))
    return b"".join(
        (
            b"{",
            terms.text[0],
            (
                f'"{PRICE_NAME[terms.kind]}":{listing.price},"volume":{listing.volume},'
                f'"salt":"0x{secret[:32].hex()}","sign":"0x{secret[32:].hex()}"}}'
            ).encode(),
        )
    )


def render_page(listings: Iterable[Listing], chain_id: int) -> bytes:
    """A JSON array of list items."""
    text = str(chain_id)
    return b"[" + b",".join([render(listing, chain_id=text) for listing in listings]) + b"]"


def render_match(match: BestMatch | None, chain_id: int) -> bytes:
    """An answer that holds a match, or null where there is none. A wish that nobody published is left out."""
    if match is None:
        return b'{"ok":true,"match":null}'
    text = str(chain_id)
    orders = {"apporder": match.app, "datasetorder": match.dataset, "workerpoolorder": match.workerpool}
    if match.request.published:
        orders["requestorder"] = match.request
    documents = (
        b'"%s":%s' % (name.encode(), b"null" if order is None else render(order, chain_id=text))
        for name, order in orders.items()
    )
    return b'{"ok":true,"match":{"price":%d,"volume":%d,%s}}' % (
        match.price,
        match.volume,
        b",".join(documents),
    )


@lru_cache(maxsize=100_000)
def checksummed(address: Address) -> str:
    """The address with its EIP-55 checksum; hashing it is half of the work of a page."""
    return str(address)


def iso_time(milliseconds: int) -> str:
    """A moment as `2026-11-22T03:04:05.678Z`."""
    days, rest = divmod(milliseconds, _DAY)
    seconds, millis = divmod(rest, 1000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return f"{_date(days)}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z"


@lru_cache(maxsize=1000)
def _date(days: int) -> str:
    """Gregorian date of a day since 1970-01-01 (H. Hinnant, chrono-compatible low-level date algorithms)."""
    era, day_of_era = divmod(days + 719_468, 146_097)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted_month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * shifted_month + 2) // 5 + 1
    month = shifted_month + 3 if shifted_month < 10 else shifted_month - 9
    year = year_of_era + era * 400 + (month <= 2)
    return f"{year:04}-{month:02}-{day:02}"


_BOOL: Final = {True: "true", False: "false"}


def _terms_json(terms: Terms) -> bytes:
    """The members that the terms give, with a comma behind the last."""
    fields: dict[str, object] = {}
    own = terms.kind.value.removesuffix("order")
    for party in ("app", "dataset", "workerpool", "requester"):
        is_own = party == own or terms.request is not None
        fields[party if is_own else f"{party}restrict"] = str(getattr(terms, party))
    fields["tag"] = str(terms.tag)
    if terms.kind in (Kind.WORKERPOOL, Kind.REQUEST):
        fields |= {"category": terms.category, "trust": terms.trust}
    if terms.request is not None:
        fields |= {
            "appmaxprice": terms.request.appmaxprice,
            "datasetmaxprice": terms.request.datasetmaxprice,
            "beneficiary": str(terms.request.beneficiary),
            "callback": str(terms.request.callback),
            "params": terms.request.params,
        }
    return json.dumps(fields, separators=(",", ":"))[1:-1].encode() + b","
