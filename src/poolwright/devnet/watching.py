"""Watches a deal from outside until its tasks have ended: the chain by its logs, the scheduler by asking.

The chain alone decides when a task has ended. The scheduler is asked again and again what its workers are
doing; while it does not answer, because it was killed and comes back, nothing is lost but a few statuses
that arrive later.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from poolwright.chain.heads import Heads
from poolwright.chain.logs import follow
from poolwright.chain.rpc import Rpc
from poolwright.devnet.dealing import fetch_json
from poolwright.devnet.timeline import (
    TASK_TOPICS,
    Entry,
    Phase,
    Timeline,
    failures,
    last_known,
    with_logs,
    with_report,
)
from poolwright.poco.errors import PeerError, PoolwrightError, Unavailable
from poolwright.poco.types import Address, BlockNumber, Seconds, Timestamp

POLL_SECONDS = 0.15
QUIET_SECONDS = 3.0
"""How long the last statuses are waited for once every task has ended."""
CLAIM_SECONDS = Seconds(30)
"""How long after the final deadline a claim may take to appear."""

OnChange = Callable[[Timeline, Sequence[Entry]], None]
"""Called with the timeline and what is new in it."""


class DealFailed(PoolwrightError):
    """A task of the deal did not complete; the message says where it stands and the logs say why."""


@dataclass(slots=True, kw_only=True)
class Watch:
    """One deal under watch. `started` is the moment of the match on the monotonic clock."""

    rpc: Rpc
    http: aiohttp.ClientSession
    heads: Heads
    hub: Address
    scheduler_url: str
    timeline: Timeline
    first_block: BlockNumber
    """The block of the match."""
    final_deadline: Timestamp
    on_change: OnChange
    timeout_seconds: float | None = None
    """A shorter patience than the deal's final deadline."""
    started: float = field(default_factory=time.monotonic)
    _quiet: asyncio.Event = field(default_factory=asyncio.Event)

    async def until_ended(self) -> Timeline:
        """Watch until every task has ended, and a moment longer for the last statuses.

        Raises DealFailed when the deal's final deadline or `timeout_seconds` passes before that,
        ChainReorganised when the chain takes back what was shown.
        """
        asking = asyncio.create_task(self._ask_scheduler())
        try:
            async with asyncio.timeout(self._patience()):
                await self._follow_chain()
            with suppress(TimeoutError):
                async with asyncio.timeout(QUIET_SECONDS):
                    await self._quiet.wait()
        except TimeoutError:
            raise self._too_late("no end within the time that was given") from None
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        return self.timeline

    def _patience(self) -> float:
        """Wall seconds; the chain's clock decides, this one is for a chain that stands still."""
        if self.timeout_seconds is not None:
            return self.timeout_seconds
        return self.final_deadline - self.timeline.started + 2.0 * CLAIM_SECONDS

    async def _follow_chain(self) -> None:
        topics = [TASK_TOPICS]
        async for batch in follow(self.rpc, self.hub, topics, None, self.first_block, self.heads):
            self._show(with_logs(self.timeline, batch.logs, self._age()))
            if self.timeline.is_ended:
                return
            if batch.upto.timestamp >= self.final_deadline + CLAIM_SECONDS:
                raise self._too_late(f"the deal's final deadline {self.final_deadline} has passed")

    async def _ask_scheduler(self) -> None:
        url = f"{self.scheduler_url}/deals/{self.timeline.deal_id}/tasks"
        while True:
            with suppress(Unavailable, PeerError):  # it restarts, or does not know the deal yet
                answer = await fetch_json(self.http, url, "scheduler")
                for report in _reports(answer):
                    self._show(with_report(self.timeline, report, self._age()))
            await asyncio.sleep(POLL_SECONDS)

    def _age(self) -> float:
        return time.monotonic() - self.started

    def _show(self, timeline: Timeline) -> None:
        fresh = timeline.entries[len(self.timeline.entries) :]
        self.timeline = timeline
        if fresh:
            self.on_change(timeline, fresh)
        if timeline.is_quiet:
            self._quiet.set()

    def _too_late(self, why: str) -> DealFailed:
        return DealFailed(f"the deal did not end: {why}\n{unfinished(self.timeline)}", code="deal-not-ended")


def unfinished(timeline: Timeline) -> str:
    """A line for each task that is not COMPLETED."""
    return "\n".join(
        f"  {last_known(timeline, index)}"
        for index, phase in timeline.phases.items()
        if phase is not Phase.COMPLETED
    )


def require_completed(timeline: Timeline) -> None:
    """Raise DealFailed when a task of the ended deal failed."""
    if any(phase is not Phase.COMPLETED for phase in timeline.phases.values()):
        raise DealFailed(
            f"not every task was completed\n{unfinished(timeline)}",
            code="task-failed",
            next_step="see `poolwright logs`",
        )


def require_successful_apps(timeline: Timeline) -> None:
    """Raise DealFailed when an app failed, of which the task's result is then only the report.

    The protocol pays for such a task like for any other: the workers agreed on its result.
    """
    failed = [
        f"  task {index}: {worker} {failure}"
        for index in timeline.phases
        for worker, failure in failures(timeline, index).items()
    ]
    if failed:
        raise DealFailed(
            "the app failed; the result of the task is the report of that\n" + "\n".join(failed),
            code="app-failed",
            next_step="see the files above and `poolwright logs`",
        )


def _reports(answer: Any) -> list[Any]:
    found = answer.get("tasks") if isinstance(answer, dict) else None
    if not isinstance(found, list):
        raise PeerError("the scheduler's list of tasks is none", code="bad-task-list")
    return found
