"""One change of a chain's book as a value, and as the text by which the other processes follow.

A step is what was decided: an order that was accepted, facts with the block at which each was read, how far
the chain is taken. Every process makes the same steps in the same order, so every book is the same; the news
are written beside the step by who decided it, so everybody tells the same news under the same numbers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, assert_never

from poolwright.market.rows import NEVER_READ, ChangeRow, listing_from, pack_order
from poolwright.orderbook.book import (
    Fact,
    MembershipRead,
    OrderClosed,
    OrderConsumed,
    OrderReread,
    OrderUnpublished,
    ResourceOwned,
    StakeRead,
    TimePassed,
)
from poolwright.orderbook.groups import Membership
from poolwright.orderbook.listing import Kind, Listing
from poolwright.poco.types import (
    Address,
    BlockHash,
    BlockNumber,
    BlockStamp,
    Hash32,
    NRlc,
    OrderHash,
    Timestamp,
)

Dated: TypeAlias = tuple[Fact, BlockNumber]
"""A fact and the block at which it was read, 0 for one that is not of the chain."""


_BODY: Final = json.JSONEncoder(separators=(",", ":"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One change of the book."""

    listing: Listing | None = None
    """An order that was accepted, found on the chain at block `read_at`."""
    read_at: BlockNumber = NEVER_READ
    facts: tuple[Dated, ...] = ()
    cursor: BlockStamp | None = None
    """How far the chain is taken with this step."""
    is_rewind: bool = False
    """The cursor goes back: the chain was reorganised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """One piece of news, not numbered yet; `text` is JSON."""

    topic: str
    name: str
    text: str


def write_change(step: Step, news: Sequence[News], after: int) -> ChangeRow:
    """The change that follows number `after`; one without news takes a number too."""
    body: dict[str, Any] = {"facts": [[*_write_fact(fact), at] for fact, at in step.facts]}
    if step.listing is not None:
        body["listing"] = _write_listing(step.listing)
        body["readAt"] = step.read_at
    if step.cursor is not None:
        body["cursor"] = [step.cursor.number, str(step.cursor.hash), step.cursor.timestamp]
    if step.is_rewind:
        body["isRewind"] = True
    body["news"] = [[each.topic, each.name, each.text] for each in news]
    return ChangeRow(first=after + 1, number=after + max(len(news), 1), body=_BODY.encode(body))


def read_change(row: ChangeRow) -> tuple[Step, list[News]]:
    """What `write_change` wrote."""
    body = json.loads(row.body)
    listing, cursor = body.get("listing"), body.get("cursor")
    step = Step(
        listing=None if listing is None else _read_listing(listing),
        read_at=BlockNumber(body.get("readAt", 0)),
        facts=tuple((_read_fact(words), BlockNumber(at)) for *words, at in body["facts"]),
        cursor=None
        if cursor is None
        else BlockStamp(BlockNumber(cursor[0]), BlockHash(Hash32.parse(cursor[1])), Timestamp(cursor[2])),
        is_rewind=body.get("isRewind", False),
    )
    return step, _read_news(body)


def read_news(row: ChangeRow) -> list[News]:
    """The news of a change alone, for who has the book from elsewhere."""
    return _read_news(json.loads(row.body))


def _read_news(body: dict[str, Any]) -> list[News]:
    return [News(topic=topic, name=name, text=text) for topic, name, text in body["news"]]


def _write_fact(fact: Fact) -> list[Any]:
    match fact:
        case StakeRead(wallet=wallet, stake=stake):
            return ["stake", wallet.hex(), stake]
        case ResourceOwned(resource=resource, owner=owner):
            return ["owner", resource.hex(), owner.hex()]
        case MembershipRead(group=group, account=account, membership=membership):
            return ["member", group.hex(), account.hex(), int(membership)]
        case OrderConsumed(order_hash=name, consumed=consumed):
            return ["consumed", name.hex(), consumed]
        case OrderClosed(order_hash=name):
            return ["closed", name.hex()]
        case OrderUnpublished(order_hash=name):
            return ["unpublished", name.hex()]
        case OrderReread(listing=listing):
            return ["reread", _write_listing(listing)]
        case TimePassed(now=now):
            return ["time", now]
        case _:
            assert_never(fact)


def _read_fact(words: list[Any]) -> Fact:
    match words:
        case ["stake", wallet, stake]:
            return StakeRead(wallet=_address(wallet), stake=NRlc(stake))
        case ["owner", resource, owner]:
            return ResourceOwned(resource=_address(resource), owner=_address(owner))
        case ["member", group, account, membership]:
            return MembershipRead(
                group=_address(group), account=_address(account), membership=Membership(membership)
            )
        case ["consumed", name, consumed]:
            return OrderConsumed(order_hash=_order(name), consumed=consumed)
        case ["closed", name]:
            return OrderClosed(order_hash=_order(name))
        case ["unpublished", name]:
            return OrderUnpublished(order_hash=_order(name))
        case ["reread", listing]:
            return OrderReread(listing=_read_listing(listing))
        case ["time", now]:
            return TimePassed(now=now)
        case _:
            raise ValueError(f"not a fact of this version: {words!r:.100}")


def _write_listing(listing: Listing) -> dict[str, Any]:
    return {
        "kind": listing.kind.value,
        "hash": listing.hash.hex(),
        "order": pack_order(listing),
        "signer": listing.signer.hex(),
        "remaining": listing.remaining,
        "published": listing.published,
        "expires": listing.expires,
    }


def _read_listing(body: dict[str, Any]) -> Listing:
    return listing_from(
        Kind(body["kind"]),
        bytes.fromhex(body["hash"]),
        document=body["order"],
        signer=bytes.fromhex(body["signer"]),
        remaining=body["remaining"],
        published=body["published"],
        blocks=0,
        expires=body["expires"],
    )


def _address(text: str) -> Address:
    return Address(bytes.fromhex(text))


def _order(text: str) -> OrderHash:
    return OrderHash(Hash32(bytes.fromhex(text)))
