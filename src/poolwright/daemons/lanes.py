"""Carries out committed effects, each kind of lane so many at a time, until there is an outcome.

An outcome goes back to the runner, which records it together with the effect's being done. Whatever dies
before that, the effect is still in the outbox and comes again after the restart; so hands first look whether
the world has it already.

An effect may wait long, for its turn or for the world to answer, and what asked for it may be over meanwhile.
So the mind is asked before each try: one that was not begun is dropped, one that was tried is given up.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic

import structlog

from poolwright.daemons.mind import Effect, Event, Hands, Observer, task_id_of
from poolwright.poco.errors import InvariantBroken, PoolwrightError, Unavailable
from poolwright.store.port import EffectId

LOOK_SECONDS: Final = 1.0
"""How often an effect that pauses between two tries is looked at, whether it is still wanted."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How often an effect is tried when the world does not answer, and the pauses between, in seconds.

    The defaults hold out for about eight minutes.
    """

    attempts: int = 20
    first_pause: float = 0.5
    longest_pause: float = 30.0

    def pause(self, attempt: int) -> float:
        """Seconds to wait after a failed attempt; they count from 1."""
        return min(self.first_pause * 2.0 ** min(attempt - 1, 30), self.longest_pause)


@dataclass(slots=True)
class _Kind(Generic[Effect]):
    name: str
    width: int
    waiting: deque[tuple[EffectId, Effect]] = field(default_factory=deque)
    active: int = 0


class Lanes(Generic[Event, Effect]):
    """The outgoing side of a runner.

    `widths` says how many effects of a kind of lane are carried out side by side; other kinds are messages.
    `is_wanted` says whether what asked for an effect still stands (`Mind.is_wanted`).
    `record` takes an outcome and returns when it is accepted; `broken` takes an effect that hands failed on.
    """

    def __init__(
        self,
        hands: Hands[Event, Effect],
        widths: Mapping[str, int],
        *,
        retries: Retries,
        observer: Observer,
        is_wanted: Callable[[Effect], bool],
        record: Callable[[EffectId, Sequence[Event]], Awaitable[None]],
        broken: Callable[[Effect, InvariantBroken], Awaitable[None]],
    ) -> None:
        self._hands = hands
        self._kinds = {name: _Kind[Effect](name, width) for name, width in widths.items()}
        self._retries = retries
        self._observer = observer
        self._is_wanted = is_wanted
        self._record = record
        self._broken = broken
        self._aio_tasks: set[asyncio.Task[None]] = set()
        self._is_open = True

    @property
    def in_flight(self) -> dict[str, int]:
        """Effects being carried out or waiting for their turn, by kind of lane."""
        return {name: kind.active + len(kind.waiting) for name, kind in self._kinds.items()}

    def release(self, lane: str, effect_id: EffectId, effect: Effect) -> None:
        """Let a committed effect go."""
        if not self._is_open:
            return
        kind = self._kinds.get(lane.partition(":")[0])
        if kind is None:
            self._hands.post(effect, effect_id)
            return
        kind.waiting.append((effect_id, effect))
        if kind.active < kind.width:
            kind.active += 1
            aio_task = asyncio.create_task(self._work_off(kind))
            self._aio_tasks.add(aio_task)
            aio_task.add_done_callback(self._aio_tasks.discard)

    async def close(self) -> None:
        """Cancel what is under way; it stays in the outbox."""
        self._is_open = False
        for aio_task in tuple(self._aio_tasks):
            aio_task.cancel()
        await asyncio.gather(*self._aio_tasks, return_exceptions=True)

    async def _work_off(self, kind: _Kind[Effect]) -> None:
        try:
            while kind.waiting:
                await self._finish(kind.name, *kind.waiting.popleft())
        finally:
            kind.active -= 1

    async def _finish(self, kind: str, effect_id: EffectId, effect: Effect) -> None:
        if not self._is_wanted(effect):
            log.info("effect dropped", **_named(effect_id, effect))
            self._observer.carried_out(kind, outcome="dropped", seconds=0.0)
            await self._record(effect_id, ())
            return
        started = time.monotonic()
        try:
            outcome, events = await self._outcome(effect_id, effect)
        except Exception as problem:  # noqa: BLE001  a bug of ours stops its task and no other
            error = problem if isinstance(problem, InvariantBroken) else _bug(effect_id, effect, problem)
            self._observer.carried_out(kind, outcome="broken", seconds=time.monotonic() - started)
            await self._broken(effect, error)
            return
        self._observer.carried_out(kind, outcome=outcome, seconds=time.monotonic() - started)
        await self._record(effect_id, events)

    async def _outcome(self, effect_id: EffectId, effect: Effect) -> tuple[str, Sequence[Event]]:
        try:
            return "done", await self._patiently(effect_id, effect)
        except InvariantBroken:
            raise
        except PoolwrightError as problem:
            log.warning(
                "effect given up", **_named(effect_id, effect), code=problem.code, reason=str(problem)
            )
            return "gave up", self._hands.gave_up(effect, problem)

    async def _patiently(self, effect_id: EffectId, effect: Effect) -> Sequence[Event]:
        """Try until the world answers, with growing pauses.

        Raises Unavailable after the last attempt, and after any once nobody wants the effect any more: it may
        have left something behind, so its mind is told.
        """
        attempt = 1
        while True:
            try:
                return await self._hands.carry_out(effect, effect_id)
            except Unavailable as problem:
                if attempt >= self._retries.attempts or not self._is_wanted(effect):
                    raise
                pause = self._retries.pause(attempt)
                log.info(
                    "effect retried",
                    **_named(effect_id, effect),
                    attempt=attempt,
                    pause_seconds=pause,
                    reason=str(problem),
                )
                if not await self._pause(pause, effect):
                    raise
            attempt += 1

    async def _pause(self, seconds: float, effect: Effect) -> bool:
        """Wait so long while the effect is wanted, and say whether it still is."""
        while True:
            part = min(seconds, LOOK_SECONDS)
            await asyncio.sleep(part)
            seconds -= part
            is_wanted = self._is_wanted(effect)
            if seconds <= 0 or not is_wanted:
                return is_wanted


def _named(effect_id: EffectId, effect: object) -> dict[str, object]:
    """How a log line names an effect."""
    named: dict[str, object] = {"effect": type(effect).__name__, "effect_id": effect_id}
    task_id = task_id_of(effect)
    return named if task_id is None else named | {"task": str(task_id)}


def _bug(effect_id: EffectId, effect: object, problem: Exception) -> InvariantBroken:
    log.error("hands failed", **_named(effect_id, effect), exc_info=problem)
    return InvariantBroken(
        f"carrying out {type(effect).__name__} (effect {effect_id})",
        code="hands-failed",
        expected="an outcome or one of our errors",
        got=repr(problem)[:200],
    )
