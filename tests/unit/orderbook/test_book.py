"""What the chain, the signers and time do to published orders."""

from __future__ import annotations

import pytest

from offers import (
    APP,
    DATASET,
    OWNER,
    POOL,
    REQUESTER,
    START,
    address,
    app,
    book_of,
    dataset,
    news_of,
    pool,
    publish,
    request,
)
from poolwright.orderbook.book import (
    Book,
    BookRefusal,
    OrderClosed,
    OrderConsumed,
    OrderReread,
    OrderUnpublished,
    ResourceOwned,
    StakeRead,
    TimePassed,
)
from poolwright.orderbook.invariants import check_book
from poolwright.orderbook.listing import Kind, Listing, Status, listing_of, order_of
from poolwright.poco.tags import TEE
from poolwright.poco.types import NRlc

STRANGER = address("stranger")


def open_orders(book: Book, kind: Kind) -> list[Listing]:
    check_book(book)
    return list(book.shelves[kind].all())


def test_orders_stand_by_price_then_time_then_hash() -> None:
    dear, young, old = (
        pool(workerpoolprice=NRlc(9)),
        pool(workerpoolprice=NRlc(5), at=2),
        pool(workerpoolprice=NRlc(5), at=1),
    )
    twins = sorted((pool(at=7), pool(at=7)), key=lambda each: each.hash)

    book = book_of(dear, young, twins[1], old, twins[0])

    assert open_orders(book, Kind.WORKERPOOL) == [*twins, old, young, dear]


def test_the_request_that_pays_most_stands_first() -> None:
    poor, rich = request(workerpoolmaxprice=NRlc(1)), request(workerpoolmaxprice=NRlc(2), at=9)

    book = book_of(app(), poor, rich)

    assert open_orders(book, Kind.REQUEST) == [rich, poor]


def test_a_deal_lowers_what_remains_and_never_raises_it() -> None:
    offer = pool(volume=10)
    book = book_of(offer)

    changes = book.apply([OrderConsumed(order_hash=offer.hash, consumed=4)])
    late = book.apply([OrderConsumed(order_hash=offer.hash, consumed=1)])

    assert news_of(changes) == [(offer, "updated")]
    assert (offer.remaining, late) == (6, [])
    check_book(book)


def test_an_order_whose_volume_is_used_up_leaves_as_filled() -> None:
    offer = pool(volume=10)
    book = book_of(offer)

    [change] = book.apply([OrderConsumed(order_hash=offer.hash, consumed=10)])

    assert (change.news.value, change.status) == ("unpublished", Status.FILLED)
    assert offer.hash not in book
    check_book(book)


def test_a_closed_order_leaves_as_canceled() -> None:
    offer = app()
    book = book_of(offer)

    [change] = book.apply([OrderClosed(order_hash=offer.hash)])

    assert (change.status, offer.remaining, len(book)) == (Status.CANCELED, 0, 0)


def test_an_order_read_again_has_more_left_or_less() -> None:
    offer = pool(volume=10, remaining=6)
    book = book_of(offer)

    for left in (10, 3):
        offer_now = relisted(offer, left)
        assert news_of(book.apply([OrderReread(listing=offer_now)])) == [(offer, "updated")]
        assert (offer.remaining, offer.is_open) == (left, True)
    assert book.apply([OrderReread(listing=relisted(offer, 3))]) == []
    assert news_of(book.apply([OrderReread(listing=relisted(offer, 0))])) == [(offer, "unpublished")]
    assert offer.hash not in book
    check_book(book)


def test_an_order_that_had_left_comes_back_when_it_is_read_again() -> None:
    offer = pool(volume=10, workerpoolprice=NRlc(100))
    book = book_of(offer)
    book.apply([OrderClosed(order_hash=offer.hash)])
    again = relisted(offer, 4)

    changes = book.apply([OrderReread(listing=again), StakeRead(wallet=OWNER, stake=NRlc(120))])

    assert news_of(changes) == [(again, "published")]
    assert open_orders(book, Kind.WORKERPOOL) == [again]
    assert book.apply([OrderReread(listing=relisted(pool(), 0))]) == []


def relisted(offer: Listing, remaining: int) -> Listing:
    return listing_of(
        order_of(offer),
        offer.hash,
        signer=offer.signer,
        remaining=remaining,
        published=offer.published,
        expires=offer.expires,
    )


def test_an_unpublished_order_leaves_without_a_status() -> None:
    offer = app(volume=3)
    book = book_of(offer)

    [change] = book.apply([OrderUnpublished(order_hash=offer.hash)])

    assert (change.news.value, change.status, offer.remaining) == ("unpublished", None, 3)


def test_orders_of_a_sold_resource_are_dead_until_it_comes_back() -> None:
    offer, other = pool(), pool(workerpool=address("another pool"))
    book = book_of(offer, other)

    sold = book.apply([ResourceOwned(resource=POOL, owner=STRANGER)])
    assert news_of(sold) == [(offer, "unpublished")]
    assert (offer.status, open_orders(book, Kind.WORKERPOOL)) == (Status.DEAD, [other])

    back = book.apply([ResourceOwned(resource=POOL, owner=OWNER)])
    assert news_of(back) == [(offer, "published")]
    assert offer.is_open


def test_stake_covers_a_wallets_orders_from_the_oldest_on() -> None:
    old, big, small = (
        pool(workerpoolprice=NRlc(100), at=1),
        pool(workerpoolprice=NRlc(100), volume=5, at=2),
        pool(workerpoolprice=NRlc(100), at=3),
    )
    book = book_of(big, small, old)

    changes = book.apply([StakeRead(wallet=OWNER, stake=NRlc(60))])

    assert news_of(changes) == [(big, "unpublished")]  # 30 + 150 + 30 are needed
    assert set(open_orders(book, Kind.WORKERPOOL)) == {old, small}


def test_an_order_comes_back_when_its_stake_does() -> None:
    offer = pool(workerpoolprice=NRlc(100))
    book = book_of(offer)
    book.apply([StakeRead(wallet=OWNER, stake=NRlc(29))])
    assert offer.status is Status.DEAD

    changes = book.apply([StakeRead(wallet=OWNER, stake=NRlc(30))])

    assert news_of(changes) == [(offer, "published")]
    check_book(book)


def test_a_deal_that_takes_volume_and_stake_together_kills_nothing() -> None:
    offer = pool(workerpoolprice=NRlc(100), volume=2)
    book = book_of(offer, stake=60)

    changes = book.apply(
        [StakeRead(wallet=OWNER, stake=NRlc(30)), OrderConsumed(order_hash=offer.hash, consumed=1)]
    )

    assert news_of(changes) == [(offer, "updated")]


def test_pool_orders_and_requests_of_a_wallet_share_its_stake() -> None:
    offer = pool(workerpoolprice=NRlc(100), at=1)
    wish = request(signer=OWNER, workerpoolmaxprice=NRlc(50), at=2)
    book = book_of(app(), offer, wish)

    book.apply([StakeRead(wallet=OWNER, stake=NRlc(79))])

    assert (offer.is_open, wish.is_open) == (True, False)
    check_book(book)


def test_a_request_waits_for_an_app_order_that_serves_it() -> None:
    offer, wish = app(), request()
    book = book_of(offer, wish)

    gone = book.apply([OrderUnpublished(order_hash=offer.hash)])
    assert news_of(gone) == [(offer, "unpublished"), (wish, "unpublished")]

    again = publish(book, app(at=5))
    assert [news for _, news in news_of(again)] == ["published", "published"]
    assert wish.is_open
    check_book(book)


def test_a_request_with_a_dataset_needs_both_orders() -> None:
    data = dataset()
    wish = request(dataset=DATASET)
    book = book_of(app(), data, wish)
    assert wish.is_open

    book.apply([OrderClosed(order_hash=data.hash)])

    assert not wish.is_open
    check_book(book)


def test_a_request_blocked_for_want_of_an_app_frees_its_stake() -> None:
    offer = app(app=address("app 2"))
    blocked = request(app=address("app 2"), workerpoolmaxprice=NRlc(60), at=1)
    other = request(workerpoolmaxprice=NRlc(60), at=2)
    book = book_of(app(), offer, blocked, other, stake=120)
    book.apply([StakeRead(wallet=REQUESTER, stake=NRlc(60))])
    assert (blocked.is_open, other.is_open) == (True, False)

    book.apply([OrderClosed(order_hash=offer.hash)])

    assert (blocked.is_open, other.is_open) == (False, True)
    check_book(book)


def test_an_order_with_an_end_dies_at_its_end() -> None:
    offer, other = pool(expires=START + 1000), pool()
    book = book_of(offer, other)
    assert book.next_end() == START + 1000

    assert book.apply([TimePassed(now=START + 999)]) == []
    [change] = book.apply([TimePassed(now=START + 1000)])

    assert (change.listing, change.status) == (offer, Status.DEAD)
    assert book.next_end() is None
    assert open_orders(book, Kind.WORKERPOOL) == [other]


def test_an_open_order_is_not_published_twice() -> None:
    offer = pool()
    book = book_of(offer)

    with pytest.raises(BookRefusal, match="order already published"):
        book.check(offer, stake=NRlc(0), max_open=50)
    with pytest.raises(BookRefusal, match="order already published"):
        book.publish(offer)


def test_a_dead_order_published_again_keeps_its_first_time() -> None:
    offer = pool(at=1)
    book = book_of(offer)
    book.apply([ResourceOwned(resource=POOL, owner=STRANGER)])
    again = pool(at=9)
    again.hash = offer.hash

    changes = publish(book, again)

    assert news_of(changes) == [(again, "published")]
    assert again.published == START + 1
    check_book(book)


def test_a_wallet_has_so_many_open_orders_of_a_kind() -> None:
    book = book_of(pool(), pool())

    book.check(app(), stake=NRlc(0), max_open=2)
    with pytest.raises(BookRefusal) as refusal:
        book.check(pool(), stake=NRlc(0), max_open=2)

    assert str(refusal.value) == (
        f"maximum of 2 published open workerpoolorder has been reached for wallet {OWNER}"
    )


def test_the_stake_check_counts_all_open_orders_of_the_wallet() -> None:
    book = book_of(pool(workerpoolprice=NRlc(100)), stake=45)

    book.check(pool(workerpoolprice=NRlc(50)), stake=NRlc(45), max_open=50)
    with pytest.raises(
        BookRefusal, match="workerpool owner's stake is too low to cover required workerpool lock"
    ):
        book.check(pool(workerpoolprice=NRlc(51 + 3)), stake=NRlc(45), max_open=50)


def test_a_request_beyond_the_stake_is_told_the_minimum() -> None:
    book = book_of(app(), request(workerpoolmaxprice=NRlc(10), volume=2), stake=20)

    with pytest.raises(BookRefusal, match="minimum stake required is 25 nRLC"):
        book.check(
            request(appmaxprice=NRlc(1), datasetmaxprice=NRlc(2), workerpoolmaxprice=NRlc(2)),
            stake=NRlc(24),
            max_open=50,
        )


@pytest.mark.parametrize(
    ("offers", "wish", "text"),
    [
        ([], {}, f"No apporder published for app {APP}"),
        ([{"requesterrestrict": STRANGER}], {}, f"No apporder published for app {APP}"),
        ([{"datasetrestrict": DATASET}], {}, f"No apporder published for app {APP}"),
        ([{}], {"tag": TEE}, f"No tee enabled apporder published for app {APP}"),
        (
            [{"appprice": NRlc(9)}, {"appprice": NRlc(7)}],
            {"appmaxprice": NRlc(6)},
            f"appmaxprice for app {APP} is too low, actual best price is 7 nRLC",
        ),
        ([{}], {"dataset": DATASET}, f"No datasetorder published for dataset {DATASET}"),
    ],
)
def test_a_request_that_no_open_order_serves_is_refused_with_the_reason(
    offers: list[dict[str, object]], wish: dict[str, object], text: str
) -> None:
    book = book_of(*(app(**fields) for fields in offers))

    with pytest.raises(BookRefusal) as refusal:
        book.check(request(**wish), stake=NRlc(10**9), max_open=50)

    assert str(refusal.value) == text


def test_a_restored_book_is_as_it_was_stored() -> None:
    stored = [pool(workerpoolprice=NRlc(100), at=1), pool(at=2)]
    book = Book()

    changes = book.restore(
        stored, [StakeRead(wallet=OWNER, stake=NRlc(30)), ResourceOwned(resource=POOL, owner=OWNER)]
    )

    assert changes == []
    assert set(open_orders(book, Kind.WORKERPOOL)) == set(stored)


def test_facts_about_strangers_change_nothing() -> None:
    book = book_of(pool())

    assert (
        book.apply(
            [
                StakeRead(wallet=STRANGER, stake=NRlc(1)),
                ResourceOwned(resource=address("x"), owner=STRANGER),
                OrderConsumed(order_hash=pool().hash, consumed=1),
                OrderClosed(order_hash=pool().hash),
                OrderUnpublished(order_hash=pool().hash),
            ]
        )
        == []
    )
    check_book(book)


def test_the_newest_open_order_of_a_resource_stands_first_for_its_signer() -> None:
    first, second = pool(at=1), pool(at=2)
    book = book_of(first, second, pool(workerpool=address("another pool"), at=3))

    assert book.open_of(Kind.WORKERPOOL, OWNER, POOL) == [second, first]
    assert book.open_of(Kind.WORKERPOOL, STRANGER, POOL) == []
