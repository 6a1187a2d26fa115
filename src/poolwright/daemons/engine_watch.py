"""The worker's eye on its container engine, which may go away for minutes and come back.

It is said once when the engine goes and once when it is back. Meanwhile what needs it waits here, and not in
the lanes, where each effect would count its tries and log each of them; what does not need it goes on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar

import structlog

from poolwright.compute.port import Engine, EngineFacts, EngineUnavailable
from poolwright.daemons.lanes import LOOK_SECONDS, Retries

log = structlog.get_logger(__name__)

PING_SECONDS: Final = 20.0
"""An engine that takes longer to say what it is counts as away; a busy one takes seconds."""
LOOKS: Final = Retries(first_pause=0.25, longest_pause=5.0)
"""Pauses between looks at an engine that is away."""
CALM_SECONDS: Final = 30.0
"""How often one that answers is looked at."""

T = TypeVar("T")


class EngineWatch:
    """Whether the engine answers. `on_answer` is called whenever it does so for the first time, or again."""

    def __init__(
        self, engine: Engine, on_answer: Callable[[], Awaitable[None]], *, looks: Retries = LOOKS
    ) -> None:
        self._engine = engine
        self._on_answer = on_answer
        self._looks = looks
        self._looking = asyncio.Lock()
        self._answers = asyncio.Event()
        self._is_gone = asyncio.Event()
        self._gone_at = time.monotonic()
        self.trouble: str | None = None
        """Why it does not answer; None while it does, and before the first look."""
        self.facts: EngineFacts | None = None
        """What it said last; None before it has answered."""

    @property
    def is_up(self) -> bool:
        """Whether it answered when it was looked at last."""
        return self._answers.is_set()

    async def look(self) -> bool:
        """Ask the engine, note whether it answers, and say so when that has changed."""
        async with self._looking:
            try:
                async with asyncio.timeout(PING_SECONDS):
                    self.facts = await self._engine.ping()
                if not self.is_up:
                    await self._on_answer()
            except EngineUnavailable as problem:
                self._note_gone(str(problem))
            except TimeoutError:
                self._note_gone(f"the container engine does not answer within {PING_SECONDS:g} s")
            else:
                self._note_answer(self.facts)
        return self.is_up

    async def watch(self) -> None:
        """Look for ever."""
        attempt = 0
        while True:
            if self.is_up:
                attempt = 0
                with suppress(TimeoutError):
                    async with asyncio.timeout(CALM_SECONDS):
                        await self._is_gone.wait()
            else:
                attempt += 1
                await asyncio.sleep(self._looks.pause(attempt))
            await self.look()

    async def answered(self) -> None:
        """Return when the engine answers."""
        await self._answers.wait()

    async def patiently(self, call: Callable[[], Awaitable[T]], *, is_wanted: Callable[[], bool]) -> T:
        """What the call answers, made again when an engine that has gone is back.

        Raises EngineUnavailable when the engine is there and cannot do it, and once it is wanted no more.
        """
        while True:
            try:
                return await call()
            except EngineUnavailable:
                if await self.look():
                    raise
                while not self.is_up:
                    if not is_wanted():
                        raise
                    with suppress(TimeoutError):
                        async with asyncio.timeout(LOOK_SECONDS):
                            await self._answers.wait()

    def _note_gone(self, why: str) -> None:
        if self.trouble is None:
            self._gone_at = time.monotonic()
            log.warning("container engine is away; what needs it waits", reason=why)
        self.trouble = why
        self._answers.clear()
        self._is_gone.set()

    def _note_answer(self, facts: EngineFacts) -> None:
        if not self.is_up:
            away = 0.0 if self.trouble is None else time.monotonic() - self._gone_at
            log.info(
                "container engine answers",
                version=facts.version,
                cpus=facts.cpus,
                away_seconds=round(away, 1),
            )
        self.trouble = None
        self._is_gone.clear()
        self._answers.set()
