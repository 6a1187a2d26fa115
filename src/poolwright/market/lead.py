"""The duties of a chain's leader: its lease, its watch of the chain, the orders whose time is over.

Every process tries to lead each chain; the database lets one (`leases`). Who is deposed, or loses the
database, stops leading and tries again; it goes on to serve what it has.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final

import structlog

from poolwright.chain.rpc import back_off
from poolwright.market.chain_market import ChainMarket
from poolwright.market.leases import LEASE_SECONDS, RENEWED_EVERY, release_lease, renew_lease, take_lease
from poolwright.market.storage import StorageFailed
from poolwright.market.turns import Deposed
from poolwright.market.watch import Watcher
from poolwright.poco.errors import Unavailable
from poolwright.poco.types import BlockNumber

log: structlog.stdlib.BoundLogger = structlog.get_logger()

LONGEST_NAP: Final = 1.0
"""Seconds between two looks for a nearer end of an order."""


class Lead:
    """Leads one chain whenever no other process does."""

    def __init__(self, market: ChainMarket, watcher: Watcher, start_block: BlockNumber) -> None:
        self._market = market
        self._watcher = watcher
        self._start_block = start_block
        self._storage = market.storage
        self._name = f"{socket.gethostname()}:{os.getpid()}"

    async def run(self) -> None:
        """For ever. Raises what a leader cannot go on from, such as ChainReorganised."""
        attempt = 0
        while True:
            try:
                term = await asyncio.to_thread(take_lease, self._storage, self._market.chain_id, self._name)
                if term is None:
                    attempt = 0
                    await asyncio.sleep(RENEWED_EVERY)
                    continue
                await self._lead(term)
            except Deposed as over:
                log.warning("deposed", chain=self._market.chain_id, reason=str(over))
            except Unavailable as failure:
                log.warning("cannot lead", chain=self._market.chain_id, reason=str(failure))
            attempt += 1
            await asyncio.sleep(back_off(attempt, 0.5))

    async def _lead(self, term: int) -> None:
        log.info("leading", chain=self._market.chain_id, term=term)
        self._market.leads = True
        duties: list[Coroutine[Any, Any, None]] = [
            self._renew(term),
            self._watcher.run(term, self._start_block),
            self._expire(term),
        ]
        tasks = [asyncio.create_task(duty, name="leader") for duty in duties]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            self._market.leads = False
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with suppress(StorageFailed):
                await asyncio.to_thread(release_lease, self._storage, self._market.chain_id, term)

    async def _renew(self, term: int) -> None:
        """Raises Deposed, and StorageFailed when the lease ended before the database answered."""
        chain_id = self._market.chain_id
        until = time.monotonic() + LEASE_SECONDS
        while True:
            await asyncio.sleep(RENEWED_EVERY)
            asked = time.monotonic()
            try:
                if not await asyncio.to_thread(renew_lease, self._storage, chain_id, term):
                    raise Deposed("another process took the lead", got=f"after term {term}")
                until = asked + LEASE_SECONDS
            except StorageFailed:
                if time.monotonic() >= until:
                    raise

    async def _expire(self, term: int) -> None:
        """Wake at the next order's end, and look for a nearer one each second."""
        while True:
            end = self._market.book.next_end()
            wait = LONGEST_NAP
            if end is not None:
                wait = min(max((end - self._market.now()) / 1000, 0.01), LONGEST_NAP)
            await asyncio.sleep(wait)
            if end is not None and end <= self._market.now():
                await self._market.expire(term)
