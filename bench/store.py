"""Durable events: each with an effect in the outbox and the end of an earlier effect, fsync on.

Floor of SQLite: a raw file to which the bytes of one such event are appended and flushed by fdatasync, one
after the other. A caller alone should come near to it; many at the same time pass it: one flush serves them
all. Floor of PostgreSQL: the same bytes by plain INSERTs into one table, as many in a transaction as there
are callers, on the same server, which flushes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import psycopg
import structlog
from tests.databases import lead, postgresql

from bench.harness import Figure, bench
from poolwright.daemons.mind import Step
from poolwright.daemons.runner import Runner
from poolwright.poco.errors import PoolwrightError
from poolwright.poco.types import Hash32, TaskId, Timestamp
from poolwright.store.port import Commit, EffectId, EffectRow, EventRow, Store
from poolwright.store.sqlite import SqliteStore

GOAL_PER_SECOND = 5_000
POSTGRES_GOAL_PER_SECOND = 3_000
SECONDS = 1.5
ROUNDS = 3
CALLERS = 1_000
EVENTS_PER_TASK = 10
UNDER_LOAD = f"store.events_{CALLERS}_callers"
BODY = b"x" * 400


def _task(caller: int, count: int) -> TaskId:
    """A task as scattered as real ones, for ten events of one caller."""
    return TaskId(Hash32(sha256(b"%d.%d" % (caller, count // EVENTS_PER_TASK)).digest()))


def _appends(folder: Path) -> float:
    """Appends and flushes of one event's bytes per second."""
    row = b"x" * (2 * len(BODY) + 200)
    with (folder / "floor").open("ab", buffering=0) as file:
        started, count = time.perf_counter(), 0
        while time.perf_counter() - started < SECONDS:
            file.write(row)
            os.fdatasync(file.fileno())
            count += 1
        return count / (time.perf_counter() - started)


async def _commit_for_a_while(store: Store, name: int, until: float) -> int:
    count = 0
    done: tuple[EffectId, ...] = ()
    while time.perf_counter() < until:
        task_id = _task(name, count)
        effect = EffectRow(lane="chain", key=f"{name}.{count}", body=BODY, task_id=task_id, cause=0)
        event = EventRow(kind="Bench", at=Timestamp(count), body=BODY, task_id=task_id)
        committed = await store.commit(Commit(events=[event], effects=[effect], done=done))
        done = committed.effect_ids
        count += 1
    return count


async def _sqlite_commits(path: Path, callers: int) -> float:
    return await _commits(await SqliteStore.open(path), callers)


async def _postgres_commits(url: str, callers: int) -> float:
    return await _commits(await lead(url), callers)


def _inserts(url: str, together: int) -> float:
    """Plain INSERTs of one event's bytes per second, so many in each transaction."""
    row = b"x" * (2 * len(BODY) + 200)
    with psycopg.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS floor (id bigserial PRIMARY KEY, body bytea NOT NULL)")
        started, count = time.perf_counter(), 0
        while time.perf_counter() - started < SECONDS:
            with connection.transaction():
                cursor.executemany("INSERT INTO floor (body) VALUES (%b)", [(row,)] * together)
            count += together
        return count / (time.perf_counter() - started)


async def _commits(store: Store, callers: int) -> float:
    started = time.perf_counter()
    counts = await asyncio.gather(
        *[_commit_for_a_while(store, name, started + SECONDS) for name in range(callers)]
    )
    rate = sum(counts) / (time.perf_counter() - started)
    await store.close()
    return rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    at: Timestamp
    task_id: TaskId
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    at: Timestamp
    task_id: TaskId


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    task_id: TaskId
    attempt: int
    reason: str


class _CountingMind:
    """The least that a mind can do, so that what is measured is the loop, the codec and the store."""

    name = "bench"
    event_type = Wanted | Ended
    effect_type: object = Deed

    def initial(self) -> int:
        return 0

    def step(self, state: int, event: Wanted | Ended) -> Step[int, Deed]:
        if isinstance(event, Wanted):
            return Step(state + 1, (Deed(task_id=event.task_id, attempt=event.at, reason=event.reason),))
        return Step(state + 1)

    def is_wanted(self, state: int, effect: Deed) -> bool:
        return True

    def next_deadline(self, state: int) -> Timestamp | None:
        return None

    def tick(self, at: Timestamp) -> Ended:
        return Ended(at=at, task_id=_task(0, 0))

    def save(self, state: int) -> Iterable[bytes]:
        return [b"%d" % state]

    def load(self, body: bytes) -> int:
        return int(body)


class _IdleHands:
    def lane_of(self, effect: Deed) -> str:
        return "deeds"

    def key_of(self, effect: Deed) -> str:
        return f"{effect.task_id}:{effect.attempt}"

    def post(self, effect: Deed, number: EffectId) -> None:
        raise AssertionError("no message is sent here")

    async def carry_out(self, effect: Deed, effect_id: EffectId) -> Sequence[Ended]:
        return [Ended(at=Timestamp(0), task_id=effect.task_id)]

    def gave_up(self, effect: Deed, error: PoolwrightError) -> Sequence[Ended]:
        raise AssertionError("nothing fails here")


class _StoppedClock:
    def now(self) -> Timestamp:
        return Timestamp(0)

    async def wait_until(self, at: Timestamp) -> None:
        await asyncio.Event().wait()


async def _run_mind(path: Path, callers: int) -> float:
    """Events per second through the whole loop: put, step, commit, carry out, record the outcome."""
    store = await SqliteStore.open(path)
    runner: Runner[int, Wanted | Ended, Deed] = Runner(
        _CountingMind(), _IdleHands(), store, _StoppedClock(), lanes={"deeds": 64}
    )
    await runner.start()
    started = time.perf_counter()

    async def caller(name: int) -> None:
        count = 0
        while time.perf_counter() - started < SECONDS:
            task_id = _task(name, count)
            await runner.put(Wanted(at=Timestamp(count), task_id=task_id, reason="r" * 200))
            count += 1

    await asyncio.gather(*[caller(name) for name in range(callers)])
    rate = await store.last_event_id() / (time.perf_counter() - started)
    await runner.stop()
    await store.close()
    return rate


@bench("store")
def store() -> Iterator[Figure]:
    """Durable events per second: one caller, many callers, and through the loop of a mind."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    measures: dict[str, Callable[[Path], Coroutine[object, object, float]]] = {
        "store.events_one_caller": lambda path: _sqlite_commits(path, 1),
        UNDER_LOAD: lambda path: _sqlite_commits(path, CALLERS),
        f"store.mind_events_{CALLERS}_callers": lambda path: _run_mind(path, CALLERS),
    }
    best = dict.fromkeys(measures, 0.0)
    floor = 0.0
    for _ in range(ROUNDS):
        # On the disk of the working folder: /tmp may be memory, where a flush costs nothing.
        with tempfile.TemporaryDirectory(prefix=".bench-", dir=Path.cwd()) as folder:
            floor = max(floor, _appends(Path(folder)))
            for number, (name, measure) in enumerate(measures.items()):
                best[name] = max(best[name], asyncio.run(measure(Path(folder) / f"{number}.sqlite")))
    for name, rate in best.items():
        wants = f"over {GOAL_PER_SECOND:,}/s under load" if name == UNDER_LOAD else ""
        yield Figure(
            name=name,
            value=rate,
            unit="1/s",
            floor=floor,
            goal=wants,
            is_met=not wants or rate > GOAL_PER_SECOND,
        )
    yield from _postgres()


def _postgres() -> Iterator[Figure]:
    """The same on PostgreSQL, by one caller and by many."""
    best: dict[int, float] = dict.fromkeys((1, CALLERS), 0.0)
    floors = dict(best)
    with postgresql(fsync=True, beside=Path.cwd()) as cluster:
        for _ in range(ROUNDS):
            for callers in best:
                floors[callers] = max(floors[callers], _inserts(cluster.url, callers))
                rate = asyncio.run(_postgres_commits(cluster.database(), callers))
                best[callers] = max(best[callers], rate)
    yield Figure(name="store.postgres_one_caller", value=best[1], unit="1/s", floor=floors[1])
    yield Figure(
        name=f"store.postgres_{CALLERS}_callers",
        value=best[CALLERS],
        unit="1/s",
        floor=floors[CALLERS],
        goal=f"over {POSTGRES_GOAL_PER_SECOND:,}/s under load",
        is_met=best[CALLERS] > POSTGRES_GOAL_PER_SECOND,
    )
