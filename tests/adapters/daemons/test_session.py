"""Scheduler and worker over a real WebSocket: everything arrives once, wherever it is cut, whoever dies."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial

import aiohttp
import pytest
from pair import Pairs, SchedulerSide, WorkerSide, pairs, until
from stranger import KEY, hello, raw_session, raw_socket, receive, send

from factories import (
    DIGEST,
    TO_CONTRIBUTING,
    connected,
    consensus_reached,
    contributed,
    deal_matched,
    deal_terms,
    hash32,
    initialized,
    task_of,
)
from poolwright.chain.wallet import Wallet
from poolwright.daemons.sessions import Allowance, SessionBounds
from poolwright.poco.errors import InputError
from poolwright.poco.types import TaskId, WorkerAddress
from poolwright.scheduler.standing import Rules
from poolwright.store.memory import MemoryStore
from poolwright.wire import codec
from poolwright.wire.login import Login, make_token
from poolwright.wire.messages import (
    MAX_MESSAGE_BYTES,
    PROTOCOL,
    Confirm,
    Heartbeat,
    Refused,
    Reported,
    WorkerMessage,
)
from poolwright.wire.statuses import ReplicateStatus as S
from poolwright.worker.attempt import Stage

DEAL = deal_terms()
TASK = task_of(DEAL)
#: All that a worker reports of a task up to its contribution and that is kept, each once: that it has
#: contributed is not its word but the chain's.
REPORTS = Counter({status.value: 1 for status in TO_CONTRIBUTING})


@pytest.fixture
async def sides() -> AsyncIterator[Pairs]:
    async with pairs() as made:
        yield made


async def give_a_task(scheduler: SchedulerSide) -> None:
    await scheduler.runner.put(deal_matched(DEAL), initialized(TASK))


async def reported(scheduler: SchedulerSide) -> Counter[str]:
    return Counter({kind: n for kind, n in (await scheduler.told()).items() if not kind.startswith("Worker")})


async def until_contributed(worker: WorkerSide) -> None:
    """Until the worker has contributed and the scheduler has confirmed all reports."""
    await until(lambda: stage(worker) is Stage.CONTRIBUTED and not len(worker.mailbox))


def stage(worker: WorkerSide, task_id: TaskId = TASK) -> Stage | None:
    attempt = worker.runner.state.by_task.get(task_id)
    return attempt.stage if attempt else None


# --- both ends ours -----------------------------------------------------------------------------------------


async def test_task_travels_to_worker_and_its_reports_back_each_once(sides: Pairs) -> None:
    scheduler = await sides.scheduler()
    worker = await sides.worker(scheduler)
    await give_a_task(scheduler)

    await until_contributed(worker)

    assert await reported(scheduler) == REPORTS
    assert await worker.told() == Counter(Start=1)
    assert await worker.results_url.get() == "http://results.invalid"
    assert scheduler.sessions.connected == (worker.address,)


@pytest.mark.parametrize("nth", [4, 5, 6, 7, 9, 11, 13, 17])
async def test_nothing_is_lost_or_doubled_when_every_nth_message_is_cut_off(sides: Pairs, nth: int) -> None:
    scheduler = await sides.scheduler(cut_when=lambda n: n % nth == 0)
    worker = await sides.worker(scheduler)
    await give_a_task(scheduler)

    await until_contributed(worker)
    await scheduler.runner.put(contributed(TASK, worker.address, DIGEST), consensus_reached(TASK))
    await until(lambda: stage(worker) is Stage.REVEALED and not len(worker.mailbox))

    assert scheduler.scissors.cuts > 0
    assert await reported(scheduler) == REPORTS + Counter(REVEALING=1)
    assert await worker.told() == Counter(Start=1, Reveal=1)


async def test_both_die_again_and_again_at_any_moment_and_nothing_is_lost_or_doubled(sides: Pairs) -> None:
    scheduler = await sides.scheduler()
    worker = await sides.worker(scheduler)
    await give_a_task(scheduler)

    for life in range(6):
        # A later moment in each life: so many reports have come.
        await until(partial(_has_reported, scheduler, worker, 2 * life))
        if life % 2:
            worker = await sides.worker(scheduler, await worker.kill())
        else:
            scheduler = await sides.scheduler(await scheduler.kill(), port=scheduler.port)
    await until_contributed(worker)

    assert await reported(scheduler) == REPORTS
    assert await worker.told() == Counter(Start=1)


def _has_reported(scheduler: SchedulerSide, worker: WorkerSide, count: int) -> bool:
    task = scheduler.runner.state.tasks.get(TASK)
    replicate = task.replicate_of(worker.address) if task else None
    return replicate is not None and len(replicate.life) >= count


async def test_worker_that_lost_its_memory_starts_its_numbers_again(sides: Pairs) -> None:
    scheduler = await sides.scheduler()
    worker = await sides.worker(scheduler)
    await give_a_task(scheduler)
    await until_contributed(worker)
    await worker.kill()

    newcomer = await sides.worker(scheduler, MemoryStore(), journal="another journal")
    await until(lambda: newcomer.link.is_connected)
    other = deal_terms("another deal")
    await scheduler.runner.put(deal_matched(other), initialized(task_of(other)))
    await until(lambda: stage(newcomer, task_of(other)) is Stage.CONTRIBUTED and not len(newcomer.mailbox))

    assert (await reported(scheduler))[S.CONTRIBUTING] == 2


async def test_worker_learns_where_results_go_from_every_welcome(sides: Pairs) -> None:
    scheduler = await sides.scheduler()
    worker = await sides.worker(scheduler)
    assert await worker.results_url.get() == "http://results.invalid"

    moved = "http://elsewhere.invalid"
    again = await sides.scheduler(await scheduler.kill(), port=scheduler.port, results_url=moved)
    await until(lambda: again.sessions.connected)
    await until(lambda: worker.link.is_connected)

    assert await worker.results_url.get() == moved


async def test_same_wallet_a_second_time_replaces_the_first_which_is_told_why(sides: Pairs) -> None:
    scheduler = await sides.scheduler()
    first = await sides.worker(scheduler)
    await until(lambda: first.link.is_connected)

    second = await sides.worker(scheduler, MemoryStore(), journal="another journal")
    await until(lambda: second.link.is_connected)

    assert first.linked is not None
    with pytest.raises(InputError, match="the same wallet has connected again") as refused:
        await asyncio.wait_for(first.linked, 5)
    assert refused.value.code == "replaced"
    assert scheduler.sessions.refused["replaced"] == 1
    assert scheduler.sessions.connected == (second.address,)


async def test_wallet_that_is_not_allowed_ends_with_a_clear_message(sides: Pairs) -> None:
    stranger = Wallet(b"\x03" * 32)
    scheduler = await sides.scheduler(rules=Rules(allowed=frozenset({stranger.address})))
    worker = await sides.worker(scheduler)

    assert worker.linked is not None
    with pytest.raises(InputError, match="ask the workerpool's manager to add it") as refused:
        await asyncio.wait_for(worker.linked, 5)
    assert refused.value.exit_code == 2


async def test_silence_is_told_once_and_ends_when_the_worker_speaks_again(sides: Pairs) -> None:
    scheduler = await sides.scheduler(silence_seconds=0.2)
    silent = await raw_session(scheduler, sides.http)
    await until(lambda: scheduler.sessions.refused["silent"])
    refusal = await receive(silent)
    await asyncio.sleep(0.5)  # more than two further limits: silence must not be told again

    assert isinstance(refusal, Refused)
    assert refusal.code == "silent"
    assert (await scheduler.told())["WorkerWentSilent"] == 1
    [worker] = scheduler.runner.state.workers.values()
    assert worker.is_silent

    await raw_session(scheduler, sides.http)
    await until(lambda: not scheduler.runner.state.workers[worker.address].is_silent)
    assert (await scheduler.told())["WorkerConnected"] == 2


async def test_workers_known_before_a_restart_that_stay_away_are_silent(sides: Pairs) -> None:
    scheduler = await sides.scheduler()
    await scheduler.runner.put(connected())
    again = await sides.scheduler(await scheduler.kill(), silence_seconds=0.2)

    await until(lambda: all(worker.is_silent for worker in again.runner.state.workers.values()))

    assert (await again.told())["WorkerWentSilent"] == 1


# --- the other end is a stranger ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("this is no JSON", "bad-form"),
        ('{"type":"Rumour","upto":1}', "bad-form"),
        ('{"type":"Confirm","upto":"many"}', "bad-form"),
        ("[" * 20_000, "bad-form"),
        (b"\x00\x01", "not-text"),
        (codec.encode(hello()).decode(), "second-hello"),
    ],
    ids=["no JSON", "unknown message", "wrong type", "deep nesting", "bytes", "second Hello"],
)
async def test_garbage_is_refused_counted_and_explained_and_the_others_go_on(
    sides: Pairs, said: str | bytes, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler = await sides.scheduler()
    worker = await sides.worker(scheduler)
    stranger = await raw_session(scheduler, sides.http, b"\x05" * 32)

    with caplog.at_level(logging.ERROR):
        await (stranger.send_bytes(said) if isinstance(said, bytes) else stranger.send_str(said))
        refusal = await receive(stranger)
    await give_a_task(scheduler)
    await until_contributed(worker)

    assert isinstance(refusal, Refused)
    assert (refusal.code, scheduler.sessions.refused) == (code, {code: 1})
    assert (await stranger.receive()).type is aiohttp.WSMsgType.CLOSE
    assert caplog.records == []


async def test_too_long_message_closes_the_connection_with_1009_and_is_counted(sides: Pairs) -> None:
    scheduler = await sides.scheduler()
    stranger = await raw_session(scheduler, sides.http)

    await stranger.send_str("x" * (MAX_MESSAGE_BYTES + 1))
    farewell = await stranger.receive(timeout=5)
    await until(lambda: not scheduler.sessions.connected)

    assert (farewell.type, farewell.data) == (aiohttp.WSMsgType.CLOSE, 1009)
    assert scheduler.sessions.refused == {"message-too-long": 1}


@pytest.mark.parametrize(
    ("first", "code"),
    [
        (hello(protocol=PROTOCOL + 1), "wrong-protocol"),
        (hello(slots=-1), "bad-capacity"),
        (hello(slots=10**9), "bad-capacity"),
        (Heartbeat(), "no-hello"),
    ],
    ids=["protocol", "negative slots", "too many slots", "no Hello"],
)
async def test_session_that_begins_wrongly_is_refused(sides: Pairs, first: WorkerMessage, code: str) -> None:
    scheduler = await sides.scheduler()
    socket = await raw_socket(scheduler, sides.http)

    await send(socket, first)
    refusal = await receive(socket)

    assert isinstance(refusal, Refused)
    assert refusal.code == code
    assert scheduler.runner.state.workers == {}


async def test_connection_that_says_nothing_is_ended(sides: Pairs) -> None:
    scheduler = await sides.scheduler(bounds=SessionBounds(hello_seconds=0.05))
    socket = await raw_socket(scheduler, sides.http)

    refusal = await receive(socket)

    assert isinstance(refusal, Refused)
    assert refusal.message == "a session begins with Hello, expected it within 0.05 s, got nothing"


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        ("", "no-token"),
        ("Basic abc", "no-token"),
        ("Bearer nonsense", "bad-token"),
        ("Bearer \xff.\xff.\xff", "bad-token"),
        (f"Bearer {make_token(b'another scheduler key', Wallet(KEY).address, 2**33)}", "bad-token"),
        (f"Bearer {make_token(b'k' * 32, Wallet(KEY).address, 0)}", "token-expired"),
    ],
    ids=["none", "other scheme", "nonsense", "not ASCII", "foreign", "expired"],
)
async def test_connection_without_a_good_token_is_refused_before_it_opens(
    sides: Pairs, authorization: str, code: str
) -> None:
    scheduler = await sides.scheduler()
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "Authorization": authorization,
    }

    async with sides.http.get(f"{scheduler.url}/workers/connect", headers=upgrade) as answer:
        assert (answer.status, json.loads(await answer.read())["code"]) == (401, code)
    assert scheduler.sessions.refused == {code: 1}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "bad-form"),
        (b'{"walletAddress":"0x1","nonce":"","expiresAt":0,"signature":"0x"}', 400, "bad-form"),
        (b"x" * 5_000, 413, "too-large"),
        (
            codec.encode(
                Login(
                    wallet_address=WorkerAddress(Wallet(KEY).address),
                    nonce=hash32("not ours"),
                    expires_at=2**33,  # type: ignore[arg-type]  # a Timestamp
                    signature=bytes(65),
                )
            ),
            401,
            "foreign-challenge",
        ),
    ],
    ids=["no JSON", "no login", "too long", "foreign challenge"],
)
async def test_bad_login_is_refused_with_a_code(sides: Pairs, body: bytes, status: int, code: str) -> None:
    scheduler = await sides.scheduler()

    async with sides.http.post(f"{scheduler.url}/workers/login", data=body) as answer:
        assert (answer.status, (await answer.json())["code"]) == (status, code)


async def test_flood_of_messages_is_bounded_also_over_new_connections_and_others_go_on(sides: Pairs) -> None:
    scheduler = await sides.scheduler(bounds=SessionBounds(burst=500, per_second=0.001))
    worker = await sides.worker(scheduler)
    flooder = await raw_session(scheduler, sides.http, b"\x05" * 32)

    for _ in range(1_000):
        await send(flooder, Heartbeat())
    refusal = await receive(flooder)
    again = await raw_session(scheduler, sides.http, b"\x05" * 32)
    await give_a_task(scheduler)
    await until_contributed(worker)

    assert isinstance(refusal, Refused)
    assert refusal.code == "too-many-messages"
    assert scheduler.sessions.refused == {"too-many-messages": 1}
    for _ in range(250):  # the new connection has no new burst
        await send(again, Heartbeat())
    assert isinstance(await receive(again), Refused)


def test_allowance_is_a_burst_and_then_a_rate() -> None:
    allowance = Allowance(0.0, burst=1_000, per_second=50)

    assert all(allowance.spend(0.0) for _ in range(1_000))
    assert not allowance.spend(0.0)
    assert sum(allowance.spend(1.0) for _ in range(100)) == 50
    assert all(allowance.spend(1e6) for _ in range(1_000))
    assert not allowance.spend(1e6)


async def test_numbers_that_were_never_used_do_no_harm(sides: Pairs) -> None:
    scheduler = await sides.scheduler()
    await give_a_task(scheduler)
    liar = await raw_session(scheduler, sides.http, slots=1)

    await send(liar, Confirm(upto=2**53 - 1))
    await send(liar, Confirm(upto=-5))
    await send(liar, Reported(sequence=-5, task_id=TASK, status=S.RUNNING))
    await send(liar, Reported(sequence=2**53 - 1, task_id=TASK, status=S.RUNNING))
    await until(lambda: _raw_replicate(scheduler) is S.RUNNING)

    assert scheduler.sessions.refused == {}
    other = deal_terms("another deal")
    await scheduler.runner.put(deal_matched(other))
    assert scheduler.sessions.connected


def _raw_replicate(scheduler: SchedulerSide) -> S | None:
    replicate = scheduler.runner.state.tasks[TASK].replicate_of(WorkerAddress(Wallet(KEY).address))
    return replicate.status if replicate else None
