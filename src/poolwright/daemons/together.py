"""Small things for what runs side by side: ending together, seeing through, waiting for a value."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Generic, TypeVar

T = TypeVar("T")


async def first_of(*coroutines: Coroutine[object, object, object]) -> None:
    """Run all until one ends, cancel the others, and raise what the one raised.

    When several have failed, the first in the order of the arguments is raised.
    """
    aio_tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        await asyncio.wait(aio_tasks, return_when=asyncio.FIRST_COMPLETED)
        ended = [aio_task for aio_task in aio_tasks if aio_task.done()]
    finally:
        for aio_task in aio_tasks:
            aio_task.cancel()
        await asyncio.gather(*aio_tasks, return_exceptions=True)
    for aio_task in ended:
        aio_task.result()


async def see_through(coroutine: Coroutine[object, object, T]) -> T:
    """Run to the end even when the caller is cancelled meanwhile; the caller is cancelled then."""
    aio_task = asyncio.create_task(coroutine)
    try:
        return await asyncio.shield(aio_task)
    except asyncio.CancelledError:
        await asyncio.wait({aio_task})
        raise


class Latest(Generic[T]):
    """A value that is not known at first and may change later."""

    def __init__(self) -> None:
        self._values: list[T] = []
        self._is_known = asyncio.Event()

    def set(self, value: T) -> None:
        self._values = [value]
        self._is_known.set()

    async def get(self) -> T:
        """The value, once there is one."""
        await self._is_known.wait()
        return self._values[0]
