"""A scheduler that waits: it says who leads, sends workers on, and leads when the lease is free."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import aiohttp
import pytest
from pair import NOW, PATIENCE_SECONDS, Clock, Pairs, pairs, until

from databases import Cluster, lead, postgresql
from factories import address, capacity, hash32
from poolwright.daemons.doors import Doors, http_server
from poolwright.daemons.runner import Limits, Runner
from poolwright.daemons.scheduler_mind import SchedulerMind
from poolwright.daemons.shared_store import Follower
from poolwright.daemons.standby import Standby
from poolwright.poco.errors import PoolwrightError
from poolwright.poco.types import WorkerAddress
from poolwright.scheduler.events import WorkerConnected
from poolwright.serving.http import listen, serve, url_of
from poolwright.store.lease import Candidate
from poolwright.store.port import Commit, EffectId, EventId, EventRow
from poolwright.wire import codec


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with postgresql() as made:
        yield made


@pytest.fixture
async def sides() -> AsyncIterator[Pairs]:
    async with pairs() as made:
        yield made


class Waiting:
    """A standby with its server, and the term once it has it."""

    def __init__(self, candidate: Candidate) -> None:
        self.standby = Standby()
        self.doors = Doors(self.standby.app())
        self._listener = listen("127.0.0.1", 0, setting="")
        self.url = url_of(self._listener)
        self._server = http_server(self.doors)
        self._serving = asyncio.create_task(serve(self._server, self._listener))
        self.term = asyncio.create_task(self.standby.wait(candidate))

    async def close(self) -> None:
        self.term.cancel()
        self._server.should_exit = True
        await self._serving
        self._listener.close()


@pytest.fixture
async def waiting(cluster: Cluster) -> AsyncIterator[Waiting]:
    """A standby of a store that "host-a" leads until the test is over."""
    url = cluster.database()
    leader = await lead(url, "host-a")
    candidate = await Candidate.enter(url, "host-b")
    made = Waiting(candidate)
    yield made
    await made.close()
    await candidate.close()
    await leader.close()


async def health(http: aiohttp.ClientSession, url: str) -> tuple[int, dict[str, object]]:
    async with http.get(f"{url}/health") as answer:
        return answer.status, await answer.json()


async def until_well(http: aiohttp.ClientSession, url: str) -> dict[str, object]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            status, report = await health(http, url)
            if status == 200:
                return report
            await asyncio.sleep(0.02)


async def test_a_standby_is_well_and_says_who_leads(waiting: Waiting, sides: Pairs) -> None:
    report = await until_well(sides.http, waiting.url)
    assert (report["role"], report["status"], report["leader"]) == ("standby", "ok", "host-a")


async def test_a_standby_answers_everything_else_with_503_and_the_leader(
    waiting: Waiting, sides: Pairs
) -> None:
    await until_well(sides.http, waiting.url)
    for method, path in (("GET", "/workers/challenge"), ("POST", "/workers/login"), ("GET", "/pool")):
        async with sides.http.request(method, waiting.url + path) as answer:
            told = await answer.json()
        assert (answer.status, told["code"]) == (503, "standby")
        assert "host-a" in told["message"]
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await sides.http.ws_connect(f"{waiting.url}/workers/connect")
    assert refused.value.status == 503


async def test_a_standby_that_has_not_seen_its_store_is_starting(sides: Pairs) -> None:
    doors = Waiting(Candidate("postgresql://127.0.0.1:1/nothing", "host-b"))
    status, report = await health(sides.http, doors.url)
    assert (status, report["role"], report["leader"]) == (503, "starting", None)
    async with sides.http.get(f"{doors.url}/pool") as answer:
        assert (answer.status, (await answer.json())["code"]) == (503, "starting")
    await doors.close()


async def test_a_worker_that_meets_a_standby_goes_on_to_the_leader(waiting: Waiting, sides: Pairs) -> None:
    leader = await sides.scheduler()
    worker = await sides.worker(leader, tried_before=waiting.url)
    await until(lambda: worker.link.is_connected)
    assert worker.address in leader.sessions.connected


async def test_a_worker_whose_leader_ends_finds_the_next(sides: Pairs) -> None:
    first, second = await sides.scheduler(), await sides.scheduler()
    worker = await sides.worker(second, tried_before=first.url)
    await until(lambda: worker.address in first.sessions.connected)
    await first.kill()
    await until(lambda: worker.address in second.sessions.connected)


async def test_the_next_in_turn_leads_when_the_leader_ends(cluster: Cluster, sides: Pairs) -> None:
    url = cluster.database()
    leader = await lead(url, "host-a")
    candidates = [await Candidate.enter(url, f"host-{name}") for name in "bc"]
    waiting = [Waiting(candidate) for candidate in candidates]
    for each in waiting:
        await until_well(sides.http, each.url)
    assert not any(each.term.done() for each in waiting)
    await leader.close()
    done, still = await asyncio.wait(
        {each.term for each in waiting}, timeout=PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED
    )
    assert [aio_task.result() for aio_task in done] == [2]
    assert len(still) == 1
    for each in waiting:
        await each.close()
    for candidate in candidates:
        await candidate.close()


async def test_a_standby_waits_for_a_store_that_comes_back(sides: Pairs) -> None:
    with postgresql() as own:
        leader = await lead(own.url, "host-a")
        candidate = await Candidate.enter(own.url, "host-b")
        waiting = Waiting(candidate)
        await until_well(sides.http, waiting.url)
        own.stop()
        await leader.close()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await health(sides.http, waiting.url))[0] == 200:  # noqa: ASYNC110  nobody announces it
                await asyncio.sleep(0.02)
        assert "does not answer" in str((await health(sides.http, waiting.url))[1]["trouble"])
        own.start()
        assert await asyncio.wait_for(waiting.term, PATIENCE_SECONDS) >= 2
        await waiting.close()
        await candidate.close()


async def followed(follower: Follower[Any, Any, Any], event: EventId) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while follower.past is None or follower.past.last_event < event:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_standby_has_replayed_what_the_leader_logged(cluster: Cluster) -> None:
    url = cluster.database()
    store = await lead(url)
    leader: Runner[Any, Any, Any] = Runner(
        SchedulerMind(), IdleHands(), store, Clock(), lanes={}, limits=Limits(snapshot_every=10)
    )
    await leader.start()
    follower = Follower(SchedulerMind(), url, pause_seconds=0.01)
    following = asyncio.create_task(follower.run())
    for number in range(30):
        [event] = await leader.put(connected(number))
        await followed(follower, event)
    assert follower.past is not None
    assert follower.past.state.workers == leader.state.workers
    assert follower.past.snapshot_upto == 0  # it was there from the beginning and read no snapshot

    following.cancel()
    [last] = await leader.put(connected(30))
    await leader.abort()
    heir: Runner[Any, Any, Any] = Runner(SchedulerMind(), IdleHands(), store, Clock(), lanes={})
    await heir.start(follower.past)
    assert heir.state.workers == leader.state.workers
    assert len(heir.state.workers) == 31
    assert await heir.put(connected(31)) == (last + 1,)
    await heir.stop()
    await store.close()


async def test_a_log_that_cannot_be_followed_leaves_no_half_past(cluster: Cluster) -> None:
    url = cluster.database()
    store = await lead(url)
    follower = Follower(SchedulerMind(), url, pause_seconds=0.01)
    following = asyncio.create_task(follower.run())
    [event] = (await store.commit(Commit(events=[row(connected(1))]))).event_ids
    await followed(follower, event)
    await store.commit(Commit(events=[row(connected(2)), EventRow(kind="New", at=NOW, body=b"{}")]))
    await asyncio.wait_for(following, PATIENCE_SECONDS)
    assert follower.past is None
    await store.close()


class IdleHands:
    """Hands of a pool in which nothing is to be done."""

    def lane_of(self, effect: Any) -> str:
        return "worker:none"

    def key_of(self, effect: Any) -> str:
        return str(effect)

    def post(self, effect: Any, number: EffectId) -> None:
        raise AssertionError("nobody is told anything here")

    async def carry_out(self, effect: Any, effect_id: EffectId) -> Sequence[Any]:
        raise AssertionError("nothing is carried out here")

    def gave_up(self, effect: Any, error: PoolwrightError) -> Sequence[Any]:
        raise AssertionError("nothing fails here")


def connected(number: int) -> WorkerConnected:
    return WorkerConnected(
        at=NOW,
        worker=WorkerAddress(address(f"worker {number}")),
        journal=hash32(f"journal {number}"),
        capacity=capacity(slots=1),
        weight=1,
    )


def row(event: WorkerConnected) -> EventRow:
    return EventRow(kind="WorkerConnected", at=event.at, body=codec.encode(event))
