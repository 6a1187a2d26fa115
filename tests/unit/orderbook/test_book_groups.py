"""Which requests wait because the orders that could serve them are restricted to groups (ERC-734)."""

from __future__ import annotations

import pytest

from factories import address
from offers import APP, DATASET, POOL, REQUESTER, app, book_of, dataset, news_of, publish, request
from poolwright.orderbook.book import Book, Fact, MembershipRead, NoPartner, OrderUnpublished
from poolwright.orderbook.groups import Membership
from poolwright.orderbook.invariants import check_book
from poolwright.orderbook.listing import Listing
from poolwright.poco.types import Address, NRlc

GROUP, OTHER = address("a group"), address("another group")
NO_GROUP, OUTSIDER, MEMBER = Membership.NO_GROUP, Membership.OUTSIDER, Membership.MEMBER


def read(group: Address, account: Address, membership: Membership) -> Fact:
    return MembershipRead(group=group, account=account, membership=membership)


def tell(book: Book, *facts: Fact) -> list[tuple[Listing, str]]:
    changes = book.apply(facts)
    check_book(book)
    return news_of(changes)


def check(book: Book, offer: Listing, *known: tuple[Address, Address, Membership]) -> None:
    members = {(group, account): membership for group, account, membership in known}
    book.check(offer, stake=NRlc(10**15), max_open=9, members=members)


def test_a_request_waits_until_the_group_counts_its_requester() -> None:
    wanted = request()
    book = book_of(app(requesterrestrict=GROUP), wanted)

    assert not wanted.is_open
    assert list(book.unknown_memberships()) == [(GROUP, REQUESTER)]
    assert tell(book, read(GROUP, REQUESTER, OUTSIDER)) == []
    assert list(book.unknown_memberships()) == []
    assert tell(book, read(GROUP, REQUESTER, MEMBER)) == [(wanted, "published")]
    assert tell(book, read(GROUP, REQUESTER, MEMBER)) == []
    assert tell(book, read(GROUP, REQUESTER, OUTSIDER)) == [(wanted, "unpublished")]
    assert book.known_memberships()[GROUP, REQUESTER] is OUTSIDER


@pytest.mark.parametrize(
    ("restricted", "account"),
    [
        (app(requesterrestrict=GROUP), REQUESTER),
        (app(datasetrestrict=GROUP), DATASET),
        (app(workerpoolrestrict=GROUP), POOL),
        (dataset(requesterrestrict=GROUP), REQUESTER),
        (dataset(apprestrict=GROUP), APP),
        (dataset(workerpoolrestrict=GROUP), POOL),
    ],
)
def test_every_restriction_may_be_a_group(restricted: Listing, account: Address) -> None:
    wanted = request(dataset=DATASET, workerpool=POOL)
    partner = dataset() if restricted.kind.value == "apporder" else app()
    book = book_of(restricted, partner)

    with pytest.raises(NoPartner) as refusal:
        check(book, wanted)
    assert (GROUP, account) in refusal.value.unread
    check(book, wanted, (GROUP, account, MEMBER))
    for answer in (OUTSIDER, NO_GROUP):
        asked = {(*pair, answer if pair[0] == GROUP else NO_GROUP) for pair in refusal.value.unread}
        with pytest.raises(NoPartner, match="published for") as final:
            check(book, wanted, *asked)
        assert final.value.unread == ()


def test_a_request_for_a_group_of_pools_fits_an_order_for_one_of_them_or_for_another_group() -> None:
    wanted = request(workerpool=GROUP)
    book = book_of(app(workerpoolrestrict=POOL), wanted)
    assert tell(book, read(POOL, GROUP, NO_GROUP), read(GROUP, POOL, MEMBER)) == [(wanted, "published")]

    both = request(workerpool=GROUP)
    book = book_of(app(workerpoolrestrict=OTHER), both)
    assert tell(book, read(GROUP, OTHER, OUTSIDER)) == []
    assert tell(book, read(OTHER, GROUP, OUTSIDER)) == [(both, "published")]
    assert tell(book, read(OTHER, GROUP, NO_GROUP)) == [(both, "unpublished")]


def test_a_publication_does_not_trust_what_was_read_for_another() -> None:
    book = book_of(app(requesterrestrict=GROUP), request())
    tell(book, read(GROUP, REQUESTER, MEMBER))

    with pytest.raises(NoPartner) as refusal:
        check(book, request())

    assert refusal.value.unread == ((GROUP, REQUESTER),)


def test_nothing_is_asked_for_a_request_that_an_order_for_everybody_serves() -> None:
    book = book_of(app(requesterrestrict=GROUP), app(appprice=NRlc(1)))
    wanted = request(appmaxprice=NRlc(1))

    check(book, wanted)
    publish(book, wanted)

    assert wanted.is_open
    assert list(book.unknown_memberships()) == []


def test_the_price_of_a_groups_order_is_told_to_its_members_alone() -> None:
    book = book_of(app(requesterrestrict=GROUP, appprice=NRlc(5)))

    with pytest.raises(NoPartner, match="actual best price is 5 nRLC"):
        check(book, request(), (GROUP, REQUESTER, MEMBER))
    with pytest.raises(NoPartner, match="No apporder published"):
        check(book, request(), (GROUP, REQUESTER, OUTSIDER))


def test_memberships_are_forgotten_with_the_last_request_that_depends_on_them() -> None:
    first, second = request(), request()
    book = book_of(app(requesterrestrict=GROUP), first, second)
    tell(book, read(GROUP, REQUESTER, MEMBER), read(GROUP, address("stranger"), MEMBER))
    assert book.dropped_memberships() == [(GROUP, address("stranger"))]

    tell(book, OrderUnpublished(order_hash=first.hash))
    assert book.known_memberships()[GROUP, REQUESTER] is MEMBER
    tell(book, OrderUnpublished(order_hash=second.hash))

    assert (GROUP, REQUESTER) not in book.known_memberships()
    assert book.dropped_memberships() == [(GROUP, REQUESTER)]


def test_a_publication_brings_its_memberships_and_a_restored_book_has_them() -> None:
    offer, wanted = app(requesterrestrict=GROUP), request()
    book = book_of(offer)
    fact = read(GROUP, REQUESTER, MEMBER)

    assert news_of(book.publish(wanted, [fact])) == [(wanted, "published")]
    check_book(book)
    restored = Book()
    assert restored.restore([offer, wanted], [fact]) == []
    assert restored.known_memberships()[GROUP, REQUESTER] is MEMBER
