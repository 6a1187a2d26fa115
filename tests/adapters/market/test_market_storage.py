"""What the market's database promises, the same on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
import pytest
from sqlalchemy import create_engine, text

from databases import postgresql
from factories import address, hash32
from offers import app, dataset, pool, request
from poolwright.market import migrations
from poolwright.market.leases import release_lease, renew_lease, take_lease
from poolwright.market.rows import (
    PARTY_COLUMNS,
    CategoryRow,
    ChangeRow,
    Commit,
    DealQuery,
    DealRow,
    MemberRow,
    OrderRow,
    OwnerRow,
    StakeRow,
    pack_order,
)
from poolwright.market.storage import KEPT_CHANGES, Known, Storage, StorageFailed
from poolwright.market.turns import KEPT_BLOCKS, Turn
from poolwright.orderbook.groups import Membership
from poolwright.orderbook.listing import Block, Kind, Listing, Status, order_of
from poolwright.poco.errors import InputError
from poolwright.poco.types import BlockHash, BlockNumber, BlockStamp, DealId, NRlc, Timestamp

CHAIN = 31337
HUB = address("hub")


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
    for chain_id in (CHAIN, CHAIN + 1):
        opened.begin_chain(chain_id, HUB, BlockNumber(5))
    yield opened
    opened.close()


def row(listing: Listing, status: Status = Status.OPEN, blocks: int = 0, read_at: int = 0) -> OrderRow:
    return OrderRow(
        listing=listing,
        status=status,
        remaining=listing.remaining,
        blocks=blocks,
        read_at=BlockNumber(read_at),
    )


def store(storage: Storage, *, chain_id: int = CHAIN, orders: Iterable[OrderRow] = (), **parts: Any) -> None:
    commit = Commit(chain_id=chain_id, **parts)
    for each in orders:
        commit.keep(each)
    Turn.begin(storage, chain_id, after=number(storage, chain_id)).write(commit)


def number(storage: Storage, chain_id: int = CHAIN) -> int:
    return storage.snapshot(chain_id).number


def load(storage: Storage, chain_id: int = CHAIN) -> list[Listing]:
    return storage.snapshot(chain_id).listings


def deal(number: int, **parties: bytes) -> DealRow:
    nothing = {name: bytes(32 if name.endswith("hash") else 20) for name in PARTY_COLUMNS}
    return DealRow(
        deal_id=DealId(hash32(f"deal {number}")),
        block_number=BlockNumber(number),
        category=number % 2,
        parties=nothing | parties,
        document=f'{{"n":{number}}}',
    )


def stamp(number: int) -> BlockStamp:
    return BlockStamp(BlockNumber(number), BlockHash(hash32(f"block {number}")), Timestamp(1_700_000_000))


def test_orders_of_every_kind_come_back_as_they_were_signed(storage: Storage) -> None:
    offers = [app(at=1), dataset(at=2, volume=2**53 - 1), pool(at=3), request(at=4, params='{"é":1}')]

    store(storage, orders=[row(each) for each in offers])

    loaded = load(storage)
    assert [(each.hash, order_of(each), each.signer) for each in loaded] == [
        (each.hash, order_of(each), each.signer) for each in offers
    ]
    assert load(storage, CHAIN + 1) == []


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

    assert [(each.hash, each.blocks) for each in load(storage)] == [
        (opened.hash, 0),
        (waiting.hash, Block.STAKE),
    ]
    found = storage.order(CHAIN, Kind.WORKERPOOL, canceled.hash)
    assert found is not None
    assert found.status is Status.CANCELED
    assert storage.order(CHAIN, Kind.APP, canceled.hash) is None


def test_an_order_that_changes_for_another_reason_keeps_the_block_of_its_reading(storage: Storage) -> None:
    order = pool()

    for read_at in (7, 0, 6):
        store(storage, orders=[row(order, read_at=read_at)])

    found = storage.order(CHAIN, Kind.WORKERPOOL, order.hash)
    assert found is not None
    assert found.read_at == 7


def test_a_bad_commit_leaves_nothing_of_it_and_lets_go_of_the_chain(storage: Storage) -> None:
    good = pool()
    bad = StakeRow(wallet=address("w"), stake=NRlc(1 << 80), read_at=BlockNumber(1))

    with pytest.raises(StorageFailed) as refusal:
        store(storage, orders=[row(pool(at=1))], stakes={bad.wallet: bad})

    assert refusal.value.code == "storage-failed"
    store(storage, orders=[row(good)])
    assert [each.hash for each in load(storage)] == [good.hash]


def test_cursor_and_facts_survive_a_new_start(url: str) -> None:
    storage = Storage.open(url)
    assert storage.begin_chain(CHAIN, HUB, None) is None
    started = storage.begin_chain(CHAIN, HUB, BlockNumber(5))
    assert started is not None
    assert (started.start_block, started.cursor) == (5, None)
    stake = StakeRow(wallet=address("w"), stake=NRlc(9), read_at=BlockNumber(7))
    owner = OwnerRow(resource=address("pool"), owner=address("w"), read_at=BlockNumber(6))
    members = [
        MemberRow(pair=(address("group"), address(f"w{each}")), membership=each, read_at=BlockNumber(6))
        for each in Membership
    ]
    store(
        storage,
        stakes={stake.wallet: stake},
        owners={owner.resource: owner},
        members={each.pair: each for each in members},
        cursor=stamp(7),
    )
    store(storage, members={members[0].pair: None, (address("never"), address("stored")): None})
    storage.close()

    again = Storage.open(url)
    found = again.begin_chain(CHAIN, HUB, BlockNumber(6))
    assert found is not None
    assert (found.start_block, found.cursor) == (5, stamp(7))
    snapshot = again.snapshot(CHAIN)
    assert (snapshot.stakes, snapshot.owners, snapshot.cursor) == ([stake], [owner], stamp(7))
    assert sorted(snapshot.members, key=lambda each: each.membership) == members[1:]
    with pytest.raises(InputError, match="holds chain 31337 of another hub"):
        again.begin_chain(CHAIN, address("another hub"), None)
    again.close()


def test_a_database_of_the_first_version_goes_on(url: str) -> None:
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    if url.startswith("sqlite"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir()
    order = pool(volume=5, remaining=3)
    values: dict[str, Any] = {"chain": CHAIN, "hub": HUB, "hash": stamp(9).hash, "order": order.hash}
    values |= {"signer": order.signer, "document": pack_order(order), "published": order.published}
    with engine.begin() as connection:
        config = alembic.config.Config()
        config.set_main_option("script_location", str(Path(str(migrations.__file__)).parent))
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "0001")
        connection.execute(text("INSERT INTO cursors VALUES (:chain, :hub, 5, 9, :hash, 1700000000)"), values)
        connection.execute(
            text(
                "INSERT INTO orders VALUES (:chain, :order, 'workerpoolorder', :signer, :document, 3, 'open',"
                " 0, :published, 0)"
            ),
            values,
        )
        connection.execute(text("INSERT INTO categories VALUES (:chain, 0, 300, '{}')"), values)
    engine.dispose()

    storage = Storage.open(url)

    started = storage.begin_chain(CHAIN, HUB, None)
    assert started is not None
    assert started.cursor == stamp(9)
    assert storage.passed(CHAIN) == [stamp(9)]
    assert [(each.hash, each.remaining) for each in load(storage)] == [(order.hash, 3)]
    assert storage.category(CHAIN, 0) == "{}"
    store(storage, cursor=stamp(10))
    assert take_lease(storage, CHAIN, "one") == 1
    storage.close()


def test_a_schema_that_the_url_names_is_used(server: str) -> None:
    engine = create_engine(server.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA IF EXISTS apart CASCADE"))
        connection.execute(text("CREATE SCHEMA apart"))
    storage = Storage.open(f"{server}?options=-csearch_path%3Dapart&application_name=ours")
    with engine.connect() as connection:
        tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'apart'"
        assert connection.execute(text(tables)).scalar_one() > 5
    assert "search_path" in storage.dsn
    assert storage.dsn.count("application_name") == 1
    storage.close()
    engine.dispose()


def test_a_second_process_on_the_same_file_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/market.db"
    storage = Storage.open(url)
    with pytest.raises(InputError, match="another market process works on this database"):
        Storage.open(url)
    storage.close()
    Storage.open(url).close()


def test_changes_are_read_by_number_and_the_oldest_are_pruned(storage: Storage) -> None:
    start = number(storage)
    for first in range(start + 1, start + 3 * KEPT_CHANGES, KEPT_CHANGES // 4):
        last = first + KEPT_CHANGES // 4 - 1
        store(storage, changes=[ChangeRow(first=first, number=last, body=f"{first}")])

    kept = storage.snapshot(CHAIN).changes
    assert number(storage) == last
    assert kept == storage.changes(CHAIN, kept[0].first - 1)
    assert [each.body for each in kept[1:]] == [str(each.number + 1) for each in kept[:-1]]
    assert kept[-1].number - kept[0].number < KEPT_CHANGES
    assert storage.changes(CHAIN, kept[-2].number) == kept[-1:]
    assert storage.changes(CHAIN, kept[-1].number) == []


def test_a_turn_sees_what_came_after_the_number_that_its_process_was_at(storage: Storage) -> None:
    start = number(storage)
    change = ChangeRow(first=start + 1, number=start + 3, body="{}")
    filled = pool(at=3)
    store(storage, changes=[change], orders=[row(filled, Status.FILLED)])

    turn = Turn.begin(storage, CHAIN, after=start, names=[filled.hash, pool(at=4).hash])
    turn.abandon()

    assert (turn.number, turn.changes) == (start + 3, [change])
    assert turn.known == {filled.hash: Known(status=Status.FILLED, published=filled.published)}


def test_passed_blocks_are_kept_from_the_first_on_with_gaps(storage: Storage) -> None:
    start = number(storage)
    for block in range(10, 10 + KEPT_BLOCKS + 20):
        change = ChangeRow(first=start + 1, number=start + 1, body="{}")
        Turn.begin(storage, CHAIN, after=start).write(
            Commit(chain_id=CHAIN, cursor=stamp(block), changes=[change])
        )
        start += 1
    store(storage, changes=[ChangeRow(first=start + 1, number=start + 1000, body="{}")])

    passed = [each.number for each in storage.passed(CHAIN)]

    assert passed == [*range(10 + KEPT_BLOCKS + 19, 19 + 10, -1), 10]


def test_what_was_read_above_a_block_is_found_and_rolled_back(storage: Storage) -> None:
    old, filled, dead, expired = (pool(at=each) for each in range(4))
    stakes = [StakeRow(wallet=address(f"w{at}"), stake=NRlc(9), read_at=BlockNumber(at)) for at in (7, 8)]
    owners = [
        OwnerRow(resource=address(f"p{at}"), owner=address("w"), read_at=BlockNumber(at)) for at in (7, 9)
    ]
    members = [
        MemberRow(
            pair=(address("group"), address(f"w{at}")),
            membership=Membership.MEMBER,
            read_at=BlockNumber(at),
        )
        for at in (7, 8)
    ]
    store(
        storage,
        members={each.pair: each for each in members},
        orders=[
            row(old, read_at=7),
            row(filled, Status.FILLED, read_at=8),
            row(dead, Status.DEAD, Block.STAKE, read_at=9),
            row(expired, Status.DEAD, read_at=9),
        ],
        stakes={each.wallet: each for each in stakes},
        owners={each.resource: each for each in owners},
        deals=[deal(7), deal(8)],
        categories=[
            CategoryRow(category=at, timeref=at, block_number=BlockNumber(at), document=str(at))
            for at in (7, 8)
        ],
        cursor=stamp(7),
    )
    store(storage, cursor=stamp(9))

    turn = Turn.begin(storage, CHAIN, after=number(storage))
    stale = turn.stale(BlockNumber(7))
    turn.write(Commit(chain_id=CHAIN, rolled_back_to=BlockNumber(7), cursor=stamp(7)))

    assert set(stale.orders) == {filled.hash, dead.hash}
    assert (stale.wallets, stale.resources) == ({address("w8")}, {address("p9")})
    assert stale.members == {members[1].pair}
    assert stale.deals == ('{"n":8}',)
    assert storage.deals(CHAIN, DealQuery(parties={}), skip=0, count=9) == (['{"n":7}'], 1)
    assert storage.categories(CHAIN, least=0, most=None, skip=0, count=9) == (["7"], 1)
    assert (storage.passed(CHAIN), storage.snapshot(CHAIN).cursor) == ([stamp(7)], stamp(7))


def test_one_process_has_the_lease_until_it_lets_go(storage: Storage) -> None:
    first = take_lease(storage, CHAIN, "one")
    assert first is not None
    assert take_lease(storage, CHAIN, "two") is None
    assert take_lease(storage, CHAIN + 1, "two") is not None
    assert renew_lease(storage, CHAIN, first)

    release_lease(storage, CHAIN, first)
    second = take_lease(storage, CHAIN, "two")

    assert second == first + 1
    assert not renew_lease(storage, CHAIN, first)
    release_lease(storage, CHAIN, first)  # too late to matter
    assert take_lease(storage, CHAIN, "three") is None
    turn = Turn.begin(storage, CHAIN, after=number(storage))
    turn.abandon()
    assert turn.term == second


def test_deals_are_found_by_party_and_category_the_newest_first(storage: Storage) -> None:
    ours = address("ours")
    store(storage, deals=[deal(1, app=ours), deal(2), deal(3, app=ours), deal(5, app=ours)])

    documents, count = storage.deals(CHAIN, DealQuery(parties={"app": ours}), skip=1, count=1)
    assert (documents, count) == (['{"n":3}'], 3)
    assert storage.deals(CHAIN, DealQuery(parties={}, category=0), skip=0, count=9)[0] == ['{"n":2}']
    assert storage.deal(CHAIN, hash32("deal 5")) == '{"n":5}'
    assert storage.deal(CHAIN, hash32("deal 6")) is None


def test_categories_are_sorted_by_their_clock_within_bounds(storage: Storage) -> None:
    rows = [
        CategoryRow(category=number, timeref=timeref, block_number=BlockNumber(0), document=str(number))
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


def test_an_order_that_was_found_unchanged_on_another_branch_is_known_at_its_block(storage: Storage) -> None:
    """A second reorganisation, between the block it was filled at first and the one on the new branch."""
    filled, later = app(signer=address("owner"), volume=1), app(signer=address("owner"), volume=2)
    filled.remaining = 0
    store(storage, orders=[row(filled, Status.FILLED, read_at=47), row(later, read_at=60)])

    store(storage, reread={filled.hash: BlockNumber(55), later.hash: BlockNumber(55)})

    turn = Turn.begin(storage, CHAIN, after=number(storage))
    found = {at: set(turn.stale(BlockNumber(at)).orders) for at in (50, 55, 60)}
    turn.abandon()
    assert found == {50: {filled.hash, later.hash}, 55: {later.hash}, 60: set()}


def test_a_restart_remembers_what_was_read_above_the_cursor_and_left(storage: Storage) -> None:
    """Until the cursor is there, the block may be one of a branch that loses; then they are read again."""
    orders = [app(signer=address("owner"), volume=volume) for volume in (1, 2, 3, 4)]
    for order in orders[:3]:
        order.remaining = 0
    filled, cancelled, long_filled, still_open = orders
    store(
        storage,
        orders=[
            row(filled, Status.FILLED, read_at=47),
            row(cancelled, Status.CANCELED, read_at=46),
            row(long_filled, Status.FILLED, read_at=45),
            row(still_open, read_at=48),
        ],
        cursor=stamp(45),
    )

    snapshot = storage.snapshot(CHAIN)

    assert snapshot.ahead == {filled.hash: 47, cancelled.hash: 46, still_open.hash: 48}
    assert [listing.hash for listing in snapshot.listings] == [still_open.hash]
