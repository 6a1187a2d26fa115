"""PostgreSQL's notifications as wake-ups: a follower reads changes at once rather than at its next look.

A notification may be lost and is never more than a hint; the table tells what changed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import structlog

from poolwright.market.storage import Storage
from poolwright.market.turns import CHANNEL

log: structlog.stdlib.BoundLogger = structlog.get_logger()

LOOK_SECONDS: Final = 0.5
"""How often a thread that listens looks whether it should end."""
LONGEST_WAIT: Final = 10.0
"""Seconds between attempts to listen again."""


class WakeUps:
    """A thread that listens as long as the block lasts; does nothing on a database that is not shared."""

    def __init__(self, storage: Storage, hear: Callable[[int, int], None]) -> None:
        """`hear` is called in the thread with a chain and the number of its last change."""
        self._storage = storage
        self._hear = hear
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="market-wake-ups", daemon=True)

    def __enter__(self) -> Self:
        if self._storage.is_shared:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _listen(self) -> None:
        import psycopg  # here: a market on SQLite starts a fifth of a second sooner without it
        from psycopg import sql

        wait = LOOK_SECONDS
        while not self._over.is_set():
            try:
                with psycopg.connect(self._storage.dsn, autocommit=True) as connection:
                    connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(CHANNEL)))
                    wait = LOOK_SECONDS
                    while not self._over.is_set():
                        for heard in connection.notifies(timeout=LOOK_SECONDS):
                            self._take(heard.payload)
            except psycopg.Error as problem:
                log.warning("no wake-ups from the database", reason=str(problem).splitlines()[:1])
                self._over.wait(wait)
                wait = min(wait * 2, LONGEST_WAIT)

    def _take(self, payload: str) -> None:
        chain, _, number = payload.partition(" ")
        if chain.isdecimal() and number.isdecimal():
            self._hear(int(chain), int(number))
