"""Removes what came for tasks and is not their result: the zips of workers that lost, of tasks that failed.

A task whose final deadline has passed by MARGIN_SECONDS can change no more, whatever branch of the chain
wins. Then its files are looked at once:

    COMPLETED            the file that the on-chain link names stays, and so does what is told as the task's
                         result; everything else that came for it goes
    FAILED, or claimable nobody was paid and nobody will be: everything goes, the entry first
    not there            the node knows less than we were told once: it stays, and is looked at again

A file that came for several tasks, or was added by hand, always stays (`claims`). The sweep works beside the
requests, some tasks at a time: killed at any moment, the next one goes on.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from poolwright.poco.errors import InvariantBroken, PoolwrightError
from poolwright.poco.records import OnchainTask, TaskStatus
from poolwright.poco.types import Timestamp
from poolwright.results.checks import named_cid
from poolwright.results.claims import Claim
from poolwright.results.ledger import Ledger
from poolwright.results.metrics import Metrics
from poolwright.results.storage import Removed, Storage

log: structlog.stdlib.BoundLogger = structlog.get_logger()

MARGIN_SECONDS: Final = 3_600
"""Chain time after a final deadline in which a reorganisation could still bring another end."""
MOST_TASKS: Final = 200
"""Tasks that the chain is asked about at once."""


class Sweep:
    """Looks at tasks that are over every `every_seconds`, some at a time."""

    def __init__(
        self,
        storage: Storage,
        ledger: Ledger,
        metrics: Metrics,
        *,
        every_seconds: float,
        most_tasks: int = MOST_TASKS,
    ) -> None:
        self._storage = storage
        self._ledger = ledger
        self._metrics = metrics
        self._every_seconds = every_seconds
        self._most_tasks = most_tasks

    async def run(self) -> None:
        """Sweep again and again until cancelled; chain and disk may fail meanwhile."""
        while True:
            await asyncio.sleep(self._every_seconds)
            try:
                while await self.once() == self._most_tasks:
                    pass
            except PoolwrightError as problem:
                log.warning("sweep put off", reason=str(problem))

    async def once(self) -> int:
        """Settle some tasks that are over; returns how many were. Raises what chain and disk raise."""
        block = await self._ledger.newest_block()
        before = Timestamp(max(block.timestamp - MARGIN_SECONDS, 0))
        due = await asyncio.to_thread(self._storage.due, before, self._most_tasks)
        if not due:
            return 0
        tasks = await self._ledger.tasks_at([claim.task_id for claim in due], block)
        settled, removed = 0, Removed()
        for claim, task in zip(due, tasks, strict=True):
            if task.status is TaskStatus.UNSET:
                log.warning("task of a stored file is not on the chain", task=str(claim.task_id))
                continue
            try:
                removed += await asyncio.to_thread(self._conclude, claim, task)
            except InvariantBroken as problem:
                log.error("task cannot be swept", task=str(claim.task_id), reason=str(problem))
                continue
            settled += 1
        self._metrics.swept_files.inc(removed.files)
        self._metrics.swept_bytes.inc(removed.size)
        log.info("swept", tasks=settled, files=removed.files, bytes=removed.size)
        return settled

    def _conclude(self, claim: Claim, task: OnchainTask) -> Removed:
        if task.status is not TaskStatus.COMPLETED:
            return self._storage.forget(claim)
        return self._storage.conclude(claim, named_cid(task.results))
