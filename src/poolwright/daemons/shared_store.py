"""A store that several schedulers share: follow it, wait for its lease, then write it.

A standby replays what the leader logs, a second behind, so that it leads as soon as it has the lease however
large the pool is. Only a scheduler with a store URL loads this module: the database's client would cost every
daemon time and memory.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Final, Generic

import structlog

from poolwright.daemons.config import ChainConfig
from poolwright.daemons.home import check_identity
from poolwright.daemons.mind import Effect, Event, Mind, State
from poolwright.daemons.restore import Past, recall
from poolwright.daemons.standby import Standby
from poolwright.poco.errors import InputError, Unavailable
from poolwright.poco.types import Address
from poolwright.store.lease import Candidate
from poolwright.store.postgresql import PostgresStore
from poolwright.store.postgresql_reads import PostgresReads

log = structlog.get_logger(__name__)

FOLLOW_SECONDS: Final = 1.0
"""How often a standby reads what is new."""


async def at_server(
    stack: AsyncExitStack,
    url: str,
    holder: str,
    standby: Standby,
    mind: Mind[State, Event, Effect],
    chain: ChainConfig,
    workerpool: Address,
    wallet: Address,
) -> tuple[PostgresStore, Past[State] | None]:
    """The store at `url`, once it is this scheduler's turn to write it, and what is known of its past.

    `holder` is what others call this scheduler. Raises InputError when the store is another pool's, chain's
    or wallet's.
    """
    candidate = await Candidate.enter(url, holder)
    follower = Follower(mind, url)
    following = asyncio.create_task(follower.run())
    try:
        term = await standby.wait(candidate)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await candidate.close()
    store = await PostgresStore.lead(url, term)
    stack.push_async_callback(store.close)
    await check_identity(store, f"store {store.name}", chain, workerpool, wallet)
    return store, follower.past


class Follower(Generic[State, Event, Effect]):
    """Replays another process's log as it grows; `past` is how far it has come.

    It looks for news every `pause_seconds`.
    """

    def __init__(
        self, mind: Mind[State, Event, Effect], url: str, *, pause_seconds: float = FOLLOW_SECONDS
    ) -> None:
        self._mind = mind
        self._url = url
        self._pause_seconds = pause_seconds
        self.past: Past[State] | None = None

    async def run(self) -> None:
        """Follow until cancelled; what cannot be followed is replayed when this scheduler leads."""
        while True:
            try:
                reads = await PostgresReads.open(self._url)
                try:
                    while True:
                        self.past = await recall(self._mind, reads, self.past)
                        await asyncio.sleep(self._pause_seconds)
                finally:
                    await reads.close()
            except (Unavailable, InputError) as problem:  # it is away, or of another version
                log.info("log is not followed for now", reason=str(problem))
                await asyncio.sleep(self._pause_seconds)
            except Exception as problem:  # what is half replayed is not to be led with
                log.warning("log cannot be followed", reason=str(problem), exc_info=problem)
                self.past = None
                return
