"""Who leads: one at a time, the next one soon, and an old leader can make nothing durable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest

from databases import Cluster, lead
from poolwright.poco.types import Timestamp
from poolwright.store.lease import Candidate, LeadershipLost
from poolwright.store.port import Commit, EventId, EventRow
from poolwright.store.postgresql import PostgresStore

EVENT = EventRow(kind="Tick", at=Timestamp(0), body=b"{}")


@pytest.fixture
def url(cluster: Cluster) -> str:
    return cluster.database()


@pytest.fixture
async def candidate(url: str) -> AsyncIterator[Candidate]:
    made = await Candidate.enter(url, "host-b")
    yield made
    await made.close()


def let_lease_run_out(url: str) -> None:
    """What the server's clock does when a leader is silent."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE lease SET expires_at = clock_timestamp() - interval '1 second'")


async def succeed(url: str, candidate: Candidate) -> PostgresStore:
    """Take the lease of a leader that lives, between two of its renewals, and lead in the new term."""
    term = None
    while term is None:
        let_lease_run_out(url)
        term = await candidate.take()
    return await PostgresStore.lead(url, term)


async def test_nobody_leads_a_new_store(candidate: Candidate) -> None:
    leader = await candidate.leader()
    assert (leader.term, leader.holder) == (0, "")
    assert leader.seconds_left <= 0


async def test_a_lease_that_runs_cannot_be_taken(url: str, candidate: Candidate) -> None:
    store = await lead(url, "host-a")
    assert await candidate.take() is None
    leader = await candidate.leader()
    assert (leader.term, leader.holder) == (1, "host-a")
    assert leader.seconds_left > 0
    await store.close()


async def test_an_idle_leader_keeps_its_lease(url: str, candidate: Candidate) -> None:
    store = await lead(url, "host-a")
    let_lease_run_out(url)
    async with asyncio.timeout(60):
        while (await candidate.leader()).seconds_left <= 0:  # noqa: ASYNC110  nobody announces it
            await asyncio.sleep(0.05)
    assert await candidate.take() is None
    await store.close()


async def test_a_leader_that_closes_is_succeeded_at_once(url: str, candidate: Candidate) -> None:
    store = await lead(url, "host-a")
    await store.commit(Commit(events=[EVENT]))
    await store.close()
    assert await candidate.take() == 2


async def test_a_fenced_leader_can_make_nothing_durable(url: str, candidate: Candidate) -> None:
    old = await lead(url, "host-a")
    await old.commit(Commit(events=[EVENT]))
    new = await succeed(url, candidate)

    for call in (
        old.commit(Commit(events=[EVENT])),
        old.commit(Commit(records={("transaction", "t"): b"raw"})),
        old.commit(Commit()),
        old.snapshot(b"state", EventId(1)),
    ):
        with pytest.raises(LeadershipLost, match=r"term 1\).*got host-b leads in term 2.*start it again"):
            await call
    with pytest.raises(LeadershipLost, match="host-b leads in term 2"):
        await old.watch()

    assert (await new.commit(Commit(events=[EVENT]))).event_ids == (2,)
    assert await new.records("transaction") == {}
    assert await new.latest_snapshot() is None
    await old.close()
    assert await candidate.take() is None  # the old one's end let nothing of the new one's go
    await new.close()


async def test_commits_that_wait_when_the_term_ends_are_all_refused(url: str, candidate: Candidate) -> None:
    old = await lead(url, "host-a")
    new = await succeed(url, candidate)
    answers = await asyncio.gather(
        *[old.commit(Commit(events=[EVENT])) for _ in range(200)], return_exceptions=True
    )
    assert {type(answer) for answer in answers} == {LeadershipLost}
    assert [event async for event in new.replay()] == []
    await old.close()
    await new.close()


async def test_a_leader_nobody_succeeded_goes_on_after_its_lease_ran_out(url: str) -> None:
    store = await lead(url, "host-a")
    let_lease_run_out(url)
    assert (await store.commit(Commit(events=[EVENT]))).event_ids == (1,)
    await store.close()


async def test_the_term_that_is_over_cannot_be_opened(url: str, candidate: Candidate) -> None:
    term = await candidate.take()
    assert term is not None
    let_lease_run_out(url)
    assert await candidate.take() == term + 1
    with pytest.raises(LeadershipLost):
        await PostgresStore.lead(url, term)


async def test_of_two_leaders_writing_against_each_other_one_history_results(url: str) -> None:
    """Terms change hands under load; what each was told is durable, is there, and nothing else is."""
    told: list[str] = []

    async def write(store: PostgresStore, name: str) -> None:
        for turn in range(10_000):
            kind = f"{name}.{turn}"
            await store.commit(Commit(events=[EventRow(kind=kind, at=Timestamp(0), body=b"{}")]))
            told.append(kind)

    store = await lead(url, "host-0")
    for number in range(1, 4):
        callers = [asyncio.create_task(write(store, f"{number}.{caller}")) for caller in range(5)]
        await asyncio.sleep(0.1)
        heir = Candidate(url, f"host-{number}")
        successor = await succeed(url, heir)
        for ended in await asyncio.gather(*callers, return_exceptions=True):
            assert isinstance(ended, LeadershipLost)
        await heir.close()
        await store.close()
        store = successor
    logged = [event async for event in store.replay()]
    assert [event.id for event in logged] == list(range(1, len(logged) + 1))
    assert sorted(event.kind for event in logged) == sorted(told)
    await store.close()
