"""Coroutines of the daemons on the clock of the simulation: an event loop that never waits, without sockets.

One loop is one life of a process. What is scheduled on it becomes an action of the clock; when the process
dies, the loop is closed and nothing of it runs any more, as nothing of a killed process does.
"""

from __future__ import annotations

import asyncio
import inspect
from asyncio import events
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple

from poolwright.devnet.simulation.clock import SECOND, Clock
from poolwright.devnet.simulation.sender import Wait

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class VirtualLoop(asyncio.BaseEventLoop):
    """As much of an event loop as futures, tasks and timers need."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._is_closed = False
        self._problem: BaseException | None = None
        self._aio_tasks: set[asyncio.Task[Any]] = set()
        """Kept to the end of the simulation: what collects a task that was killed would run its clean-up."""

    # --- what a process does with it ----------------------------------------------------------------------

    def outcome(self, work: Coroutine[Any, Any, T]) -> Generator[Wait, None, T]:
        """Run a coroutine and wait for it as hands wait; raises what it raises."""
        aio_task = self.create_task(work)
        if not aio_task.done():
            yield lambda resume: aio_task.add_done_callback(lambda _: resume())
        return aio_task.result()

    def moment(self, wait: Wait) -> asyncio.Future[None]:
        """What comes when the wait of a hand is over."""
        future: asyncio.Future[None] = self.create_future()
        wait(lambda: None if self._is_closed or future.done() else future.set_result(None))
        return future

    def close(self) -> None:
        """The process is dead; what has not begun never will."""
        self._is_closed = True
        for aio_task in self._aio_tasks:
            work = aio_task.get_coro()
            if inspect.iscoroutine(work) and inspect.getcoroutinestate(work) == inspect.CORO_CREATED:
                work.close()

    def watch(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a coroutine beside everything else; what it breaks on breaks the simulation."""
        aio_task = self.create_task(work)
        aio_task.add_done_callback(lambda done: done.result())
        return aio_task

    def run_in_executor(self, executor: Any, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """There are no threads here: it is done at once, and told a moment later."""
        future: asyncio.Future[T] = self.create_future()
        future.set_result(func(*args))
        return future

    def __del__(self) -> None:
        """There is nothing that would have to be closed."""

    # --- what asyncio asks of a loop ----------------------------------------------------------------------

    def time(self) -> float:
        return self._clock.now / SECOND

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._clock.at(self._clock.now, lambda: self._run(handle))
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._clock.at(round(when * SECOND), lambda: self._run(handle))
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: Any = None,
    ) -> asyncio.Task[T]:
        aio_task = asyncio.Task(coro, loop=self, context=context)
        self._aio_tasks.add(aio_task)
        aio_task.add_done_callback(self._aio_tasks.discard)
        return aio_task

    def is_closed(self) -> bool:
        return self._is_closed

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """What broke in a callback is the finding; that nobody asked a dead task for its end is not."""
        if not self._is_closed and "handle" in context:
            self._problem = context.get("exception")

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It stays in the clock's queue and does nothing."""

    def _run(self, handle: asyncio.Handle) -> None:
        if self._is_closed or handle.cancelled():
            return
        before = events._get_running_loop()
        events._set_running_loop(self)
        try:
            handle._run()
        finally:
            events._set_running_loop(before)
        problem, self._problem = self._problem, None
        if problem is not None:
            raise problem
