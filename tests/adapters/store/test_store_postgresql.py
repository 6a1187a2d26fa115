"""What only a server can do to a store: end, cut connections, refuse, be of another version."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress

import psycopg
import pytest

from databases import Cluster, lead, postgresql
from poolwright.poco.errors import InputError, InvariantBroken, Unavailable
from poolwright.poco.types import Hash32, TaskId, Timestamp
from poolwright.store.lease import Candidate, LeadershipLost
from poolwright.store.port import Commit, EffectRow, EventRow
from poolwright.store.postgresql import PostgresStore
from poolwright.store.postgresql_reads import PostgresReads
from poolwright.store.sql import migrations

EVENT = EventRow(kind="Tick", at=Timestamp(0), body=b"{}")
TASK = TaskId(Hash32(b"\x01" * 32))


@pytest.fixture
def url(cluster: Cluster) -> str:
    return cluster.database()


@pytest.fixture
async def store(url: str) -> AsyncIterator[PostgresStore]:
    made = await lead(url)
    yield made
    await made.close()


def cut_connections(url: str, role: str) -> int:
    """End the store's connections of a role at the server; how many there were."""
    with psycopg.connect(url, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name LIKE %s AND datname = current_database()",
            (f"poolwright {role}%",),
        ).fetchall()
        return len(rows)


async def kinds(store: PostgresReads) -> list[str]:
    return [event.kind async for event in store.replay()]


async def test_writing_goes_on_over_a_new_connection_when_the_old_one_is_cut(
    url: str, store: PostgresStore
) -> None:
    await store.commit(Commit(events=[EVENT]))
    assert cut_connections(url, "leader") == 1
    assert (await store.commit(Commit(events=[EVENT]))).event_ids == (2,)
    assert await kinds(store) == ["Tick"] * 2


async def test_no_commit_is_lost_or_doubled_while_connections_are_cut_again_and_again(
    url: str, store: PostgresStore
) -> None:
    is_cutting = True

    async def cut() -> None:
        while is_cutting:
            await asyncio.to_thread(cut_connections, url, "leader")
            await asyncio.sleep(0.05)

    async def caller(name: int) -> None:
        for turn in range(15):
            await store.commit(Commit(events=[EventRow(kind=f"{name}.{turn}", at=Timestamp(0), body=b"{}")]))

    cutting = asyncio.create_task(cut())
    await asyncio.gather(*[caller(name) for name in range(40)])
    is_cutting = False
    await cutting
    seen = await kinds(store)
    assert sorted(seen) == sorted(f"{name}.{turn}" for name in range(40) for turn in range(15))


async def test_a_commit_whose_answer_is_lost_is_found_written_and_not_repeated(
    url: str, store: PostgresStore
) -> None:
    """A relay that passes the question on and swallows the answer, then ends."""
    swallowing = False

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", int(port))

        async def forward(source: asyncio.StreamReader, sink: asyncio.StreamWriter, is_answer: bool) -> None:
            nonlocal swallowing
            with suppress(ConnectionError):
                while piece := await source.read(65_536):
                    if is_answer and swallowing:
                        swallowing = False
                        break
                    sink.write(piece)
                    await sink.drain()
            for each in (writer, back):
                each.close()

        await asyncio.gather(forward(reader, back, False), forward(there, writer, True))

    await store.close()
    port = url.rpartition(":")[2].partition("/")[0]
    door = await asyncio.start_server(relay, "127.0.0.1", 0)
    relayed = url.replace(port, str(door.sockets[0].getsockname()[1]))
    away = await lead(relayed)
    await away.commit(Commit(events=[EVENT]))

    swallowing = True
    committed = await away.commit(Commit(events=[EVENT], effects=[EffectRow(lane="l", key="k", body=b"")]))

    assert not swallowing
    assert (committed.event_ids, committed.is_new) == ((2,), (True,))
    assert await kinds(away) == ["Tick"] * 2
    await away.close()
    door.close()


async def test_a_server_that_is_restarted_within_the_lease_is_a_pause() -> None:
    with postgresql() as own:
        store = await lead(own.url, lease_seconds=120.0)  # however slow the machine
        reads = await PostgresReads.open(own.url)
        await store.commit(Commit(events=[EVENT]))
        own.stop()
        waiting = asyncio.create_task(store.commit(Commit(events=[EVENT])))
        await asyncio.to_thread(own.start)
        assert (await waiting).event_ids == (2,)
        assert await kinds(reads) == ["Tick"] * 2
        await reads.close()
        await store.close()


async def test_a_leader_whose_server_stays_away_ends_by_itself() -> None:
    with postgresql() as own:
        store = await lead(own.url, lease_seconds=0.5)
        own.stop()
        with pytest.raises(LeadershipLost, match=r"leads no more.*start it again: it stands by"):
            await store.watch()
        with pytest.raises(LeadershipLost):
            await store.commit(Commit(events=[EVENT]))
        await store.close()


async def test_a_leader_whose_server_says_nothing_ends_and_can_be_closed(url: str) -> None:
    """The server holds the lease's row for another session and so never answers the leader."""
    store = await lead(url, lease_seconds=0.5)
    with psycopg.connect(url) as other:
        other.execute("SELECT 1 FROM lease FOR UPDATE")
        waiting = asyncio.create_task(store.commit(Commit(events=[EVENT])))
        with pytest.raises(LeadershipLost, match="no answer of the store"):
            await store.watch()
        with pytest.raises(LeadershipLost):
            await waiting
        await store.close()
        other.rollback()


async def test_a_row_that_the_server_refuses_harms_no_neighbour(store: PostgresStore) -> None:
    def commit(number: int) -> Commit:
        kind = "zero\x00" if number == 5 else f"k{number}"
        return Commit(events=[EventRow(kind=kind, at=Timestamp(0), body=b"{}")])

    results = await asyncio.gather(*[store.commit(commit(n)) for n in range(20)], return_exceptions=True)
    refused = [n for n, result in enumerate(results) if isinstance(result, BaseException)]
    assert refused == [5]
    assert isinstance(results[5], InvariantBroken)
    assert sorted(await kinds(store)) == sorted(f"k{n}" for n in range(20) if n != 5)


async def test_a_number_too_large_is_refused_alone(store: PostgresStore) -> None:
    huge = Commit(events=[EventRow(kind="Tick", at=Timestamp(2**70), body=b"{}")])
    answers = await asyncio.gather(
        store.commit(huge), store.commit(Commit(events=[EVENT])), return_exceptions=True
    )
    assert isinstance(answers[0], InvariantBroken)
    assert await kinds(store) == ["Tick"]


async def test_an_effect_done_behind_our_back_is_found_and_the_group_refused(
    url: str, store: PostgresStore
) -> None:
    committed = await store.commit(Commit(effects=[EffectRow(lane="l", key="k", body=b"", task_id=TASK)]))
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("DELETE FROM pending")
    with pytest.raises(InvariantBroken, match="0 of 1 effects were pending"):
        await store.commit(Commit(done=committed.effect_ids))
    assert (await store.commit(Commit(events=[EVENT]))).event_ids == (1,)


async def test_reading_where_there_is_no_store_makes_none(url: str) -> None:
    with pytest.raises(InputError, match="no store at") as caught:
        await PostgresReads.open(url)
    assert caught.value.code == "no-store"
    with psycopg.connect(url) as other:
        assert other.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


async def test_a_store_of_a_newer_program_is_refused(url: str, store: PostgresStore) -> None:
    with psycopg.connect(url, autocommit=True) as newer:
        newer.execute("UPDATE store_version SET version = 99")
    with pytest.raises(InputError, match=r"expected version \d+, got version 99; upgrade Poolwright"):
        await PostgresReads.open(url)
    with pytest.raises(InputError, match=r"got version 99; upgrade Poolwright"):
        await Candidate.enter(url, "old")


async def test_only_who_leads_changes_the_tables(url: str) -> None:
    old = await lead(url, "old")
    scripts = [*migrations("postgresql"), "CREATE TABLE news (id bigint PRIMARY KEY)"]
    candidate = await Candidate.enter(url, "new", scripts)
    assert await candidate.take() is None
    await old.commit(Commit(events=[EVENT]))
    await old.close()

    term = await candidate.take()

    assert term == 2
    new = await PostgresStore.lead(url, term)
    with psycopg.connect(url) as other:
        assert other.execute("SELECT version FROM store_version").fetchone() == (len(scripts),)
        assert other.execute("SELECT count(*) FROM news").fetchone() == (0,)
    await new.close()
    await candidate.close()


async def test_many_schedulers_may_start_on_an_empty_database_at_once(url: str) -> None:
    candidates = await asyncio.gather(*[Candidate.enter(url, f"s{n}") for n in range(6)])
    terms = await asyncio.gather(*[candidate.take() for candidate in candidates])
    assert sorted(terms, key=lambda term: term or 0) == [None] * 5 + [1]
    for candidate in candidates:
        await candidate.close()


async def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        with pytest.raises(
            Unavailable, match=f"store postgresql://127.0.0.1:{port}/p does not answer"
        ) as told:
            await Candidate.enter(f"postgresql://me:secret@127.0.0.1:{port}/p", "x")
    assert "secret" not in str(told.value)


async def test_a_url_that_is_none_is_explained() -> None:
    with pytest.raises(InputError, match="cannot read the store's URL"):
        await Candidate.enter("a scheduler's store", "x")


async def test_a_user_without_rights_is_told_so(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("DROP ROLE IF EXISTS guest")
        other.execute("CREATE ROLE guest LOGIN")
    with pytest.raises(InputError, match="permission denied"):
        await Candidate.enter(url.replace("poolwright@", "guest@"), "x")
