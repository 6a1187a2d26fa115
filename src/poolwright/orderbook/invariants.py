"""What holds of a book after every batch; shared by unit tests, property tests and a debug switch."""

from __future__ import annotations

from collections import defaultdict

from poolwright.orderbook.book import Book
from poolwright.orderbook.listing import Block, Kind, Listing, place_of, serves
from poolwright.poco.errors import InvariantBroken
from poolwright.poco.types import Address


def check_book(book: Book) -> None:
    """Raise InvariantBroken naming the first rule that does not hold. Looks at every order."""
    open_orders: dict[Kind, list[Listing]] = {kind: [] for kind in Kind}
    by_wallet: dict[Address, list[Listing]] = defaultdict(list)
    for listing in book.listings():
        _require(0 < listing.remaining <= listing.volume, "an order in the book has something left", listing)
        if listing.is_open:
            open_orders[listing.kind].append(listing)
        if listing.need_per_task:
            by_wallet[listing.signer].append(listing)
        _check_owner(book, listing)
    for kind, listings in open_orders.items():
        found = list(book.shelves[kind].all())
        _require(
            found == sorted(listings, key=place_of),
            f"the shelf of {kind.value}s has exactly the open ones, sorted",
            None,
        )
    for listing in book.listings():
        if listing.kind is Kind.REQUEST:
            is_missing = bool(listing.blocks & Block.PARTNER)
            _require(
                is_missing == (not _is_served(book, listing, open_orders)),
                "a request waits exactly while no open app and dataset order serves it",
                listing,
            )
    for wallet, listings in by_wallet.items():
        _check_wallet(book, wallet, listings)


def _check_owner(book: Book, listing: Listing) -> None:
    if listing.kind is Kind.REQUEST:
        return
    is_foreign = book.owner(listing.terms.resource) != listing.signer
    _require(
        bool(listing.blocks & Block.OWNER) == is_foreign,
        "an order waits exactly while its signer does not own the resource",
        listing,
    )


def _is_served(book: Book, request: Listing, open_orders: dict[Kind, list[Listing]]) -> bool:
    groups = book.memberships()
    wanted = [Kind.APP, Kind.DATASET] if request.terms.dataset else [Kind.APP]
    return all(any(serves(offer, request.terms, groups) for offer in open_orders[kind]) for kind in wanted)


def _check_wallet(book: Book, wallet: Address, listings: list[Listing]) -> None:
    """Stake covers the oldest orders that fit; what is open never takes more than there is."""
    stake = book.stake(wallet)
    _require(stake is not None, "the stake of a wallet with such orders is known", listings[0])
    assert stake is not None
    left: int = stake
    payable = [each for each in listings if not each.blocks & ~Block.STAKE]
    _require(book.need(wallet) == sum(each.need for each in payable), "a wallet's need adds up", listings[0])
    for listing in sorted(payable, key=lambda each: (each.published, each.hash)):
        fits = listing.need <= left
        _require(listing.is_open == fits, "stake covers a wallet's orders from the oldest on", listing)
        if fits:
            left -= listing.need
    for listing in listings:
        if listing not in payable:
            _require(not listing.blocks & Block.STAKE, "what is not payable is not short of stake", listing)


def _require(holds: bool, rule: str, listing: Listing | None) -> None:
    if not holds:
        place = f" ({listing.kind.value} {listing.hash})" if listing is not None else ""
        raise InvariantBroken(f"order book: {rule}{place}", code="book-invariant")
