"""Builders of listings for the book's tests: a test names only what it is about."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import Any

from blank_orders import APP_ORDER, DATASET_ORDER, POOL_ORDER, REQUEST_ORDER
from factories import address
from poolwright.orderbook.book import Book, Change, Fact, ResourceOwned, StakeRead
from poolwright.orderbook.listing import Kind, Listing, kind_of, listing_of
from poolwright.poco.keccak import keccak
from poolwright.poco.orders import Domain, Order, order_hash
from poolwright.poco.types import Address, Hash32, NRlc

DOMAIN = Domain(chain_id=31337, hub=address("hub"))
NOBODY = Address.zero()
APP, DATASET, POOL = address("the app"), address("the dataset"), address("the pool")
OWNER, REQUESTER = address("owner"), address("requester")
START = 1_700_000_000_000
_numbers = count()


def listing(kind: Kind, *, at: int = 0, signer: Address | None = None, **fields: Any) -> Listing:
    """An order published `at` milliseconds after START, its fields by the contract's names."""
    expires = fields.pop("expires", 0)
    remaining = fields.pop("remaining", None)
    usual: dict[Kind, Order] = {
        Kind.APP: replace(APP_ORDER, app=APP),
        Kind.DATASET: replace(DATASET_ORDER, dataset=DATASET),
        Kind.WORKERPOOL: replace(POOL_ORDER, workerpool=POOL),
        Kind.REQUEST: replace(REQUEST_ORDER, app=APP, requester=signer or REQUESTER),
    }
    salt = Hash32(keccak(str(next(_numbers)).encode()))
    order = replace(usual[kind], **{"salt": salt, "sign": bytes(65), **fields})
    assert kind_of(order) is kind
    return listing_of(
        order,
        order_hash(order, DOMAIN),
        signer=signer or (REQUESTER if kind is Kind.REQUEST else OWNER),
        remaining=order.volume if remaining is None else remaining,
        published=START + at,
        expires=expires,
    )


def app(**fields: Any) -> Listing:
    return listing(Kind.APP, **fields)


def dataset(**fields: Any) -> Listing:
    return listing(Kind.DATASET, **fields)


def pool(**fields: Any) -> Listing:
    return listing(Kind.WORKERPOOL, **fields)


def request(**fields: Any) -> Listing:
    return listing(Kind.REQUEST, **fields)


def publish(book: Book, offer: Listing, *, stake: int = 10**15) -> list[Change]:
    """Publish with what a market reads of the chain: the owner is the signer, the stake is enough."""
    facts: list[Fact] = [StakeRead(wallet=offer.signer, stake=NRlc(stake))]
    if offer.kind is not Kind.REQUEST:
        facts.append(ResourceOwned(resource=offer.terms.resource, owner=offer.signer))
    return book.publish(offer, facts)


def book_of(*offers: Listing, stake: int = 10**15) -> Book:
    book = Book()
    for offer in offers:
        publish(book, offer, stake=stake)
    return book


def news_of(changes: list[Change]) -> list[tuple[Listing, str]]:
    return [(change.listing, change.news.value) for change in changes]
