"""The operator's way into a scheduler that runs: drain, resume, allow, bar; and what workers hear of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from pair import CHAIN_ID, OWNER, WORKERPOOL, Pairs, SchedulerSide, pairs
from stranger import KEY, raw_session, receive, send

from poolwright.chain.wallet import Wallet
from poolwright.cli.workers import worker_lines
from poolwright.daemons.operator_client import read_workers, say
from poolwright.daemons.scheduler_mind import SchedulerMind
from poolwright.poco.errors import InputError, PeerError, Unavailable
from poolwright.poco.types import Address
from poolwright.scheduler.standing import Rules
from poolwright.wire.messages import Heartbeat, Notice


@pytest.fixture
async def sides() -> AsyncIterator[Pairs]:
    async with pairs() as made:
        yield made


WORKER = Wallet(KEY).address


async def told(scheduler: SchedulerSide, word: str, worker: Address = WORKER, text: str = "") -> object:
    answer = await say(
        scheduler.url,
        OWNER,
        chain_id=CHAIN_ID,
        workerpool=WORKERPOOL,
        word=word,
        worker=worker,
        text=text,
    )
    known = answer["worker"]
    return known["hold"]["code"] if known and known["hold"] else answer["isAllowed"]


async def login_status(scheduler: SchedulerSide, http: aiohttp.ClientSession) -> int:
    """What the worker is answered when it wants to log in."""
    async with http.get(
        f"{scheduler.url}/workers/challenge", params={"walletAddress": str(WORKER)}
    ) as answer:
        return answer.status


async def test_a_drained_worker_is_told_so_and_again_when_it_is_resumed(sides: Pairs) -> None:
    scheduler = await sides.scheduler()
    socket = await raw_session(scheduler, sides.http, slots=2)

    assert await told(scheduler, "drain", text="new disk") == "draining"
    await send(socket, Heartbeat())
    drained = await receive(socket)
    assert await told(scheduler, "resume") is True
    await send(socket, Heartbeat())
    resumed = await receive(socket)

    assert isinstance(drained, Notice)
    assert "new disk" in drained.message
    assert resumed == Notice(code="", message="this worker gets new tasks again")


async def test_who_connects_while_held_is_told_at_once(sides: Pairs) -> None:
    scheduler = await sides.scheduler()
    first = await raw_session(scheduler, sides.http, slots=2)
    await told(scheduler, "drain")
    await first.close()

    socket = await raw_session(scheduler, sides.http, slots=2)

    notice = await receive(socket)
    assert isinstance(notice, Notice)
    assert notice.code == "draining"


async def test_the_list_shows_what_workers_offer_and_why_one_gets_no_work(sides: Pairs) -> None:
    scheduler = await sides.scheduler()
    await raw_session(scheduler, sides.http, slots=2)
    await told(scheduler, "drain", text="new disk")

    lines = worker_lines(await read_workers(scheduler.url))

    assert len(lines) == 3
    assert str(WORKER) in lines[1]
    assert "0/2" in lines[1]
    assert lines[1].endswith("draining")
    assert "new disk" in lines[2]
    assert worker_lines({"workers": []}) == ["No worker has connected yet."]


async def test_a_wallet_that_the_operator_allows_may_join_and_one_that_he_bars_may_not(sides: Pairs) -> None:
    scheduler = await sides.scheduler(rules=Rules(allowed=frozenset({OWNER.address})))
    assert await login_status(scheduler, sides.http) == 401

    assert await told(scheduler, "allow") is True
    await raw_session(scheduler, sides.http)
    assert await told(scheduler, "bar") == "not-allowed"
    assert await login_status(scheduler, sides.http) == 401


async def test_an_owner_is_named_listed_and_kept_over_a_restart(sides: Pairs) -> None:
    scheduler = await sides.scheduler()
    await raw_session(scheduler, sides.http, slots=2)

    await told(scheduler, "owner", text=" a house ")
    assert "a house" in worker_lines(await read_workers(scheduler.url))[1]
    mind = SchedulerMind()
    assert mind.load(b"".join(mind.save(scheduler.runner.state))).owners == {WORKER: "a house"}

    await told(scheduler, "owner")
    assert scheduler.runner.state.owners == {}


async def test_only_the_owner_of_the_workerpool_is_the_operator(sides: Pairs) -> None:
    scheduler = await sides.scheduler()
    stranger = Wallet(b"\x07" * 32)

    with pytest.raises(PeerError, match=f"only the workerpool's owner {OWNER.address} may do that"):
        await say(
            scheduler.url, stranger, chain_id=CHAIN_ID, workerpool=WORKERPOOL, word="bar", worker=WORKER
        )
    async with sides.http.post(f"{scheduler.url}/workers/{WORKER}/bar") as answer:
        assert answer.status == 401
    assert scheduler.runner.state.words == {}


async def test_what_makes_no_sense_is_explained(sides: Pairs) -> None:
    scheduler = await sides.scheduler()

    with pytest.raises(InputError, match="has never connected"):
        await told(scheduler, "drain")
    with pytest.raises(InputError, match="expected drain, resume, allow, bar or owner"):
        await told(scheduler, "praise")
    await scheduler.stop()
    with pytest.raises(Unavailable, match="does not answer"):
        await read_workers(scheduler.url)


async def test_a_worker_that_is_too_old_ends_with_a_clear_message(sides: Pairs) -> None:
    scheduler = await sides.scheduler(rules=Rules(min_version="999.1"))
    worker = await sides.worker(scheduler)

    assert worker.linked is not None
    with pytest.raises(InputError, match=r"expected version 999\.1 or newer") as refused:
        await asyncio.wait_for(worker.linked, 5)
    assert refused.value.code == "version-too-old"
    assert scheduler.runner.state.workers == {}
