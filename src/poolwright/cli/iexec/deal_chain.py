"""Deals and tasks read from the chain, once or until they are over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from poolwright.chain.blocks import Header, header_request, read_header
from poolwright.cli.iexec.deal_view import (
    DealAt,
    Progress,
    is_timed_out,
    progress_of,
    progress_text,
    task_json,
)
from poolwright.cli.iexec.errors import ObjectNotFoundError
from poolwright.poco.errors import InputError, Unavailable
from poolwright.poco.records import OnchainTask, TaskStatus
from poolwright.poco.types import DealId, Hash32, TaskId, Timestamp

if TYPE_CHECKING:
    from poolwright.cli.iexec.session import Session

WATCH_SECONDS: Final = 2.0
"""How often a watched deal is looked at."""


async def newest_header(session: Session) -> Header:
    """The newest block's header. Raises Unavailable."""
    method, params = header_request(None)
    header = read_header(await session.rpc.call(method, *params))
    if header is None:
        raise Unavailable("the node has no block", code="no-chain")
    return header


async def chain_now(session: Session) -> Timestamp:
    """The time that the next block will have at least: the wall clock's, or the newest block's if later."""
    return Timestamp(max((await newest_header(session)).stamp.timestamp, int(time.time())))


async def read_deal(session: Session, deal_id: Hash32) -> DealAt:
    """A deal now. Raises ObjectNotFoundError."""
    try:
        deal = await session.reader.deal(DealId(deal_id))
    except InputError as problem:
        raise ObjectNotFoundError("deal", str(deal_id), session.chain.id) from problem
    category = await session.reader.category(deal.category)
    return DealAt(deal_id=DealId(deal_id), deal=deal, timeref=category.timeref, now=await chain_now(session))


async def read_task(session: Session, task_id: Hash32) -> OnchainTask:
    """A task. Raises ObjectNotFoundError when there is none or it was never initialized."""
    task = await session.reader.task(TaskId(task_id))
    if task.status is TaskStatus.UNSET:
        raise ObjectNotFoundError(
            "task",
            str(task_id),
            session.chain.id,
            next_step="a task that was bought a moment ago waits for its scheduler to initialize it",
        )
    return task


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A deal's tasks, as the last look found them."""

    at: DealAt
    tasks: tuple[OnchainTask, ...]
    progress: Progress

    def tasks_json(self) -> list[dict[str, Any]]:
        """All tasks that were initialized, as `--raw` tells them."""
        return [
            task_json(task_id, task, self.at.now)
            for task_id, task in zip(self.at.task_ids.values(), self.tasks, strict=True)
            if task.status is not TaskStatus.UNSET
        ]

    def failed_json(self) -> list[dict[str, Any]]:
        """Those of them that failed or are out of time."""
        return [
            task_json(task_id, task, self.at.now)
            for task_id, task in zip(self.at.task_ids.values(), self.tasks, strict=True)
            if task.status is TaskStatus.FAILED or is_timed_out(task, self.at.now)
        ]

    def fields(self) -> dict[str, Any]:
        """What a watch adds to `--raw`."""
        return {
            "tasksCount": self.progress.total,
            "completedTasksCount": self.progress.completed,
            "failedTasksCount": self.progress.failed,
            "tasks": self.tasks_json(),
            "failedTasks": self.failed_json(),
        }


async def look_at_deal(session: Session, deal_id: Hash32) -> Watched:
    """A deal with all its tasks. Raises ObjectNotFoundError."""
    at = await read_deal(session, deal_id)
    tasks = await session.reader.tasks(list(at.task_ids.values()))
    return Watched(at=at, tasks=tuple(tasks), progress=progress_of(tasks, at.is_over, at.now))


async def watch_deals(session: Session, deal_ids: Sequence[Hash32]) -> list[Watched]:
    """Look at deals until nothing more happens to them; tells people each change on the way."""
    told = ""
    while True:
        looks = [await look_at_deal(session, deal_id) for deal_id in deal_ids]
        tasks = [task for look in looks for task in look.tasks]
        progress = Progress(
            total=len(tasks),
            completed=sum(look.progress.completed for look in looks),
            failed=sum(look.progress.failed for look in looks),
        )
        left = max((look.at.final_time - look.at.now for look in looks), default=0)
        text = progress_text(progress, tasks, left)
        state = text.partition(", time left")[0]
        if state != told:
            session.run.out.note(text)
            told = state
        if progress.is_over:
            return looks
        with session.run.out.working(f"Watching: {text}"):
            await asyncio.sleep(WATCH_SECONDS)
