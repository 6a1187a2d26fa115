"""Group commit: many callers wait, one thread writes what has gathered, and one flush serves them all.

A `write` puts a change in a queue and waits. The writing thread takes what has gathered while the disk was
busy with the previous group, writes it as one transaction, and answers all of them at once. So a lone commit
costs one flush, and a thousand at the same time cost a few.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Final

from poolwright.poco.errors import Unavailable
from poolwright.store.port import Commit, Snapshot

MAX_WAITING: Final = 1_024
"""Changes that may wait for the writer; a further caller waits before it enters (back-pressure)."""
MAX_GROUP_ROWS: Final = 5_000
"""Rows in one transaction; more wait for the next one, so that nobody waits long."""

Change = Commit | Snapshot


@dataclass(frozen=True, slots=True)
class _Request:
    """One caller's change and the future that it waits on."""

    change: Change
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


class GroupWriter(ABC):
    """The thread that owns a writing connection. `idle_seconds`: how long it may have nothing to do."""

    def __init__(self, name: str, *, idle_seconds: float | None = None) -> None:
        self._name = name
        self._idle_seconds = idle_seconds
        self._queue: SimpleQueue[_Request | None] = SimpleQueue()
        self._room = asyncio.Semaphore(MAX_WAITING)
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name=f"write-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    async def write(self, change: Change) -> Any:
        """Queue a change and wait for its answer; cancelling the wait does not take the change back."""
        self._check_open()
        await self._room.acquire()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        future.add_done_callback(lambda _: self._room.release())
        self._check_open()
        self._queue.put(_Request(change, future, loop))
        return await asyncio.shield(future)

    async def close(self) -> None:
        """Write what was accepted, then end. Closing twice is harmless."""
        if not self._is_closed:
            self._is_closed = True
            self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    @abstractmethod
    def write_group(self, changes: Sequence[Change]) -> Sequence[object]:
        """Make the changes durable; the answers are results or exceptions, one per change. Never raises."""

    @abstractmethod
    def idle(self) -> None:
        """Called on the thread when nothing came for `idle_seconds`. Never raises."""

    @abstractmethod
    def end(self) -> None:
        """Called on the thread as the last thing. Never raises."""

    def _run(self) -> None:
        is_open = True
        while is_open:
            group, is_open = self._take_group()
            if group:
                _answer(group, self.write_group([request.change for request in group]))
        self.end()

    def _take_group(self) -> tuple[list[_Request], bool]:
        """Wait for one request, then take all that are there, up to MAX_GROUP_ROWS."""
        group: list[_Request] = []
        rows = 0
        request = self._first()
        while request is not None:
            group.append(request)
            rows += request.change.size if isinstance(request.change, Commit) else MAX_GROUP_ROWS
            if rows >= MAX_GROUP_ROWS:
                return group, True
            try:
                request = self._queue.get_nowait()
            except Empty:
                return group, True
        return group, False

    def _first(self) -> _Request | None:
        """The next request; `idle` is called whenever none came in time."""
        if self._idle_seconds is None:
            return self._queue.get()
        while True:
            try:
                return self._queue.get(timeout=self._idle_seconds)
            except Empty:
                self.idle()

    def _check_open(self) -> None:
        if self._is_closed:
            raise Unavailable(f"store {self._name} is closed", code="store-closed")


def _answer(group: list[_Request], answers: Sequence[object]) -> None:
    """Hand each caller its answer, with one wake-up per event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], object]]] = {}
    for request, answer in zip(group, answers, strict=True):
        by_loop.setdefault(request.loop, []).append((request.future, answer))
    for loop, settlements in by_loop.items():
        with contextlib.suppress(RuntimeError):  # that loop is closed: nobody waits for the answer any more
            loop.call_soon_threadsafe(_settle, settlements)


def _settle(settlements: list[tuple[asyncio.Future[Any], object]]) -> None:
    for future, answer in settlements:
        if isinstance(answer, BaseException):
            future.set_exception(answer)
        else:
            future.set_result(answer)
