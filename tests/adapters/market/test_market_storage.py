"""What the market's database promises, the same on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from databases import postgresql
from factories import address, hash32
from offers import app, dataset, pool, request
from poolwright.market.rows import (
    PARTY_COLUMNS,
    CategoryRow,
    Commit,
    DealQuery,
    DealRow,
    OrderRow,
    OwnerRow,
    StakeRow,
)
from poolwright.market.storage import Storage, StorageFailed
from poolwright.orderbook.listing import Block, Kind, Listing, Status, order_of
from poolwright.poco.errors import InputError
from poolwright.poco.types import BlockHash, BlockNumber, BlockStamp, DealId, NRlc, Timestamp

CHAIN = 31337
HUB = address("hub")
STAMP = BlockStamp(BlockNumber(7), BlockHash(hash32("block 7")), Timestamp(1_700_000_000))


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgresql() as cluster:
        yield cluster.url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/deep/market.db"
    server = str(request.getfixturevalue("server"))
    engine = create_engine(server.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return server


@pytest.fixture
def storage(url: str) -> Iterator[Storage]:
    opened = Storage.open(url)
    yield opened
    opened.close()


def row(listing: Listing, status: Status = Status.OPEN, blocks: int = 0) -> OrderRow:
    return OrderRow(listing=listing, status=status, remaining=listing.remaining, blocks=blocks)


def store(storage: Storage, **parts: Any) -> None:
    storage.submit(Commit(chain_id=parts.pop("chain_id", CHAIN), **parts)).result(timeout=30)


def test_orders_of_every_kind_come_back_as_they_were_signed(storage: Storage) -> None:
    offers = [app(at=1), dataset(at=2, volume=2**53 - 1), pool(at=3), request(at=4, params='{"é":1}')]

    store(storage, orders=[row(each) for each in offers])

    loaded = list(storage.load(CHAIN))
    assert [(each.hash, order_of(each), each.signer) for each in loaded] == [
        (each.hash, order_of(each), each.signer) for each in offers
    ]
    assert list(storage.load(CHAIN + 1)) == []


def test_only_orders_that_are_open_or_may_come_back_are_loaded(storage: Storage) -> None:
    opened, waiting, filled, over, canceled = (pool(at=number) for number in range(5))
    store(
        storage,
        orders=[
            row(opened),
            row(waiting, Status.DEAD, Block.STAKE),
            row(filled, Status.FILLED),
            row(over, Status.DEAD),
            row(canceled, Status.CANCELED),
        ],
    )

    assert [(each.hash, each.blocks) for each in storage.load(CHAIN)] == [
        (opened.hash, 0),
        (waiting.hash, Block.STAKE),
    ]
    found = storage.order(CHAIN, Kind.WORKERPOOL, canceled.hash)
    assert found is not None
    assert found.status is Status.CANCELED
    assert storage.order(CHAIN, Kind.APP, canceled.hash) is None


def test_the_last_of_many_waiting_commits_wins_for_each_order(storage: Storage) -> None:
    first, second, third = pool(at=1), pool(at=2), pool(at=3)
    commits = [
        Commit(chain_id=CHAIN, orders=[row(first), row(second)]),
        Commit(chain_id=CHAIN, unpublished=[first.hash]),
        Commit(chain_id=CHAIN, orders=[row(third)]),
        Commit(chain_id=CHAIN, unpublished=[third.hash]),
        Commit(chain_id=CHAIN, orders=[row(third, Status.FILLED)]),
        Commit(chain_id=CHAIN + 1, orders=[row(first)]),
    ]

    for done in [storage.submit(commit) for commit in commits]:
        done.result(timeout=30)

    assert [each.hash for each in storage.load(CHAIN)] == [second.hash]
    assert [each.hash for each in storage.load(CHAIN + 1)] == [first.hash]
    found = storage.order(CHAIN, Kind.WORKERPOOL, third.hash)
    assert found is not None
    assert found.status is Status.FILLED


def test_a_bad_commit_fails_alone(storage: Storage) -> None:
    good = pool()
    bad = StakeRow(wallet=address("w"), stake=NRlc(1 << 80), read_at=BlockNumber(1))

    futures = [
        storage.submit(Commit(chain_id=CHAIN, stakes=[bad])),
        storage.submit(Commit(chain_id=CHAIN, orders=[row(good)])),
    ]

    assert isinstance(futures[0].exception(timeout=30), StorageFailed)
    futures[1].result(timeout=30)
    assert [each.hash for each in storage.load(CHAIN)] == [good.hash]


def test_cursor_and_facts_survive_a_new_start(url: str) -> None:
    storage = Storage.open(url)
    assert storage.begin_chain(CHAIN, HUB, None) is None
    started = storage.begin_chain(CHAIN, HUB, BlockNumber(5))
    assert started is not None
    assert (started.start_block, started.cursor) == (5, None)
    stake = StakeRow(wallet=address("w"), stake=NRlc(9), read_at=BlockNumber(7))
    owner = OwnerRow(resource=address("pool"), owner=address("w"), read_at=BlockNumber(6))
    store(storage, stakes=[stake], owners=[owner], cursor=STAMP)
    storage.close()

    again = Storage.open(url)
    found = again.begin_chain(CHAIN, HUB, None)
    assert found is not None
    assert (found.start_block, found.cursor) == (5, STAMP)
    assert (again.stakes(CHAIN), again.owners(CHAIN)) == ([stake], [owner])
    with pytest.raises(InputError, match="holds chain 31337 of another hub"):
        again.begin_chain(CHAIN, address("another hub"), None)
    again.close()


def test_a_second_process_on_the_same_database_is_refused(storage: Storage, url: str) -> None:
    with pytest.raises(InputError, match="another market process works on this database"):
        Storage.open(url)


def test_deals_are_found_by_party_and_category_the_newest_first(storage: Storage) -> None:
    def deal(number: int, **parties: bytes) -> DealRow:
        nothing = {name: bytes(32 if name.endswith("hash") else 20) for name in PARTY_COLUMNS}
        return DealRow(
            deal_id=DealId(hash32(f"deal {number}")),
            block_number=BlockNumber(number),
            category=number % 2,
            parties=nothing | parties,
            document=f'{{"n":{number}}}',
        )

    ours = address("ours")
    store(storage, deals=[deal(1, app=ours), deal(2), deal(3, app=ours), deal(5, app=ours)])

    documents, count = storage.deals(CHAIN, DealQuery(parties={"app": ours}), skip=1, count=1)
    assert (documents, count) == (['{"n":3}'], 3)
    assert storage.deals(CHAIN, DealQuery(parties={}, category=0), skip=0, count=9)[0] == ['{"n":2}']
    assert storage.deal(CHAIN, hash32("deal 5")) == '{"n":5}'
    assert storage.deal(CHAIN, hash32("deal 6")) is None


def test_categories_are_sorted_by_their_clock_within_bounds(storage: Storage) -> None:
    rows = [
        CategoryRow(category=number, timeref=timeref, document=str(number))
        for number, timeref in enumerate((300, 36000, 1200))
    ]
    store(storage, categories=rows)

    assert storage.categories(CHAIN, least=0, most=None, skip=0, count=9) == (["0", "2", "1"], 3)
    assert storage.categories(CHAIN, least=301, most=35999, skip=0, count=9) == (["2"], 1)
    assert (storage.category(CHAIN, 1), storage.category(CHAIN, 7)) == ("1", None)


@pytest.mark.parametrize("wrong", ["nonsense", "mysql://host/db"])
def test_a_url_that_is_no_database_of_ours_is_refused(wrong: str) -> None:
    with pytest.raises(InputError, match="not a URL of a database"):
        Storage.open(wrong)
