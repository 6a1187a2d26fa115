"""A scheduler that waits: it says who leads, sends workers on, and leads when the lease is free."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest
from pair import PATIENCE_SECONDS, Pairs, pairs, until

from databases import Cluster, lead, postgresql
from poolwright.daemons.scheduler import http_server
from poolwright.daemons.standby import Doors, Standby
from poolwright.serving.http import listen, serve, url_of
from poolwright.store.lease import Candidate


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
