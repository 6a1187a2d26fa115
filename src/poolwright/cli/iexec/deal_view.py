"""Deals and tasks as `--raw` tells them, and what can be claimed (reference: market-sdk.md 1.6). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from poolwright.cli.iexec.errors import IexecError
from poolwright.poco import ids
from poolwright.poco.deadlines import final_deadline
from poolwright.poco.records import Deal, OnchainTask, Resource, TaskStatus
from poolwright.poco.types import DealId, Seconds, TaskId, Timestamp
from poolwright.wire.uploads import ResultLink, parse_result_link

CLAIM_GAS: Final = 55_000
INITIALIZE_AND_CLAIM_GAS: Final = 250_000
"""Gas per task, by which claims are cut into transactions."""
TIMEOUT: Final = "TIMEOUT"


@dataclass(frozen=True, slots=True, kw_only=True)
class DealAt:
    """A deal at one moment."""

    deal_id: DealId
    deal: Deal
    timeref: Seconds
    now: Timestamp

    @property
    def final_time(self) -> Timestamp:
        """When everything that is not finished can be claimed."""
        return final_deadline(self.deal.start_time, self.timeref)

    @property
    def is_over(self) -> bool:
        """The final time is reached."""
        return self.now >= self.final_time

    @property
    def task_ids(self) -> dict[int, TaskId]:
        """Index to id of all tasks of the deal."""
        first = self.deal.bot_first
        return {index: ids.task_id(self.deal_id, index) for index in range(first, first + self.deal.bot_size)}


def deal_json(at: DealAt) -> dict[str, Any]:
    """The deal as `--raw` tells it: numbers as decimal strings."""
    deal = at.deal
    return {
        "dealid": str(at.deal_id),
        "app": _resource(deal.app),
        "dataset": _resource(deal.dataset),
        "workerpool": _resource(deal.workerpool),
        "trust": str(deal.trust),
        "category": str(deal.category),
        "tag": str(deal.tag),
        "requester": str(deal.requester),
        "beneficiary": str(deal.beneficiary),
        "callback": str(deal.callback),
        "params": deal.params,
        "startTime": str(deal.start_time),
        "botFirst": str(deal.bot_first),
        "botSize": str(deal.bot_size),
        "workerStake": str(deal.worker_stake),
        "schedulerRewardRatio": str(deal.scheduler_reward_ratio),
        "sponsor": str(deal.sponsor),
        "finalTime": str(at.final_time),
        "deadlineReached": at.is_over,
        "tasks": [str(task_id) for task_id in at.task_ids.values()],
    }


def task_json(task_id: TaskId, task: OnchainTask, now: Timestamp) -> dict[str, Any]:
    """The task as `--raw` tells it."""
    return {
        "taskid": str(task_id),
        "status": int(task.status),
        "dealid": str(task.deal_id),
        "idx": str(task.index),
        "timeref": str(task.timeref),
        "contributionDeadline": str(task.contribution_deadline),
        "revealDeadline": str(task.reveal_deadline),
        "finalDeadline": str(task.final_deadline),
        "consensusValue": str(task.consensus),
        "revealCounter": str(task.reveal_counter),
        "winnerCounter": str(task.winner_counter),
        "contributors": [str(one) for one in task.contributors],
        "resultDigest": str(task.result_digest),
        "results": link_json(parse_result_link(task.results)),
        "resultsTimestamp": "0",
        "resultsCallback": f"0x{task.results_callback.hex()}",
        "statusName": status_name(task, now),
        "taskTimedOut": is_timed_out(task, now),
    }


def link_json(link: ResultLink | None) -> dict[str, str]:
    """Where a result lies, as `--raw` tells it."""
    if link is None:
        return {"storage": "none"}
    return {"storage": link.storage, "location": link.location}


def status_name(task: OnchainTask, now: Timestamp) -> str:
    """The task's status in words; TIMEOUT when it is not completed and its time is over."""
    return TIMEOUT if is_timed_out(task, now) else task.status.name


def is_timed_out(task: OnchainTask, now: Timestamp) -> bool:
    """The final deadline came before the result."""
    is_finished = task.status is TaskStatus.COMPLETED
    return not is_finished and task.status is not TaskStatus.UNSET and now >= task.final_deadline


def is_claimable(task: OnchainTask, now: Timestamp) -> bool:
    """Anybody may claim it now."""
    return task.status in (TaskStatus.ACTIVE, TaskStatus.REVEALING) and now >= task.final_deadline


def check_claimable(task: OnchainTask, now: Timestamp) -> None:
    """Raise IexecError in the official client's words when a task cannot be claimed."""
    if task.status in (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.UNSET):
        raise IexecError(
            f"Cannot claim a task having status {task.status.name}", expected="ACTIVE or REVEALING"
        )
    if now < task.final_deadline:
        raise IexecError(
            "Cannot claim a task before reaching the consensus deadline date: "
            f"{script_date(task.final_deadline)}",
            next_step=f"wait {span(task.final_deadline - now)}",
        )


# --- claiming a whole deal ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimBatch:
    """One transaction of `deal claim`."""

    indexes: tuple[int, ...]
    is_initializing: bool
    """These tasks were never initialized."""

    @property
    def type(self) -> str:
        """The contract's function, as `--raw` names it."""
        return "initializeAndClaimArray" if self.is_initializing else "claimArray"


def claim_batches(tasks: Mapping[int, OnchainTask], block_gas_limit: int) -> tuple[ClaimBatch, ...]:
    """The transactions that claim all of a deal that can be claimed. Raises IexecError when it is nothing."""
    started = [
        index for index, task in tasks.items() if task.status in (TaskStatus.ACTIVE, TaskStatus.REVEALING)
    ]
    unset = [index for index, task in tasks.items() if task.status is TaskStatus.UNSET]
    if not started and not unset:
        raise IexecError("Nothing to claim", got="only tasks that are finished or claimed already")
    return tuple(
        ClaimBatch(indexes=tuple(indexes[at : at + size]), is_initializing=is_initializing)
        for indexes, gas, is_initializing in (
            (started, CLAIM_GAS, False),
            (unset, INITIALIZE_AND_CLAIM_GAS, True),
        )
        for size in (max(block_gas_limit // gas, 1),)
        for at in range(0, len(indexes), size)
    )


def check_deal_claimable(at: DealAt) -> None:
    """Raise IexecError in the official client's words before the deal's final time."""
    if not at.is_over:
        raise IexecError(
            f"Cannot claim a deal before reaching the final time: {script_date(at.final_time)}",
            next_step=f"wait {span(at.final_time - at.now)}",
        )


# --- how far a deal is --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How many of some tasks are where."""

    total: int
    completed: int
    failed: int
    """Claimed, or out of time."""

    @property
    def is_over(self) -> bool:
        """Nothing more will happen by itself."""
        return self.completed + self.failed >= self.total


def progress_of(tasks: Sequence[OnchainTask], deal_is_over: bool, now: Timestamp) -> Progress:
    """Count tasks; one that was never initialized fails with its deal's final time."""
    failed = sum(
        task.status is TaskStatus.FAILED
        or is_timed_out(task, now)
        or (task.status is TaskStatus.UNSET and deal_is_over)
        for task in tasks
    )
    completed = sum(task.status is TaskStatus.COMPLETED for task in tasks)
    return Progress(total=len(tasks), completed=completed, failed=failed)


def progress_text(progress: Progress, tasks: Sequence[OnchainTask], left: int) -> str:
    """One line for people: `1/3 tasks completed, 1 active, 1 revealing, time left 12m 3s`."""
    parts = [f"{progress.completed}/{progress.total} tasks completed"]
    if progress.failed:
        parts.append(f"{progress.failed} failed")
    for status, word in (
        (TaskStatus.UNSET, "waiting"),
        (TaskStatus.ACTIVE, "active"),
        (TaskStatus.REVEALING, "revealing"),
    ):
        count = sum(task.status is status for task in tasks)
        if count and left > 0:
            parts.append(f"{count} {word}")
    if left > 0 and not progress.is_over:
        parts.append(f"time left {span(left)}")
    return ", ".join(parts)


# --- times --------------------------------------------------------------------------------------------------


def script_date(at: Timestamp) -> str:
    """A date as the official client's messages write it, in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime(
        "%a %b %d %Y %H:%M:%S GMT+0000 (Coordinated Universal Time)"
    )


def span(seconds: int) -> str:
    """A span in its two largest units: `2h 5m`, `40s`."""
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, seconds = divmod(max(seconds, 0), size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def _resource(resource: Resource) -> dict[str, str]:
    return {"pointer": str(resource.pointer), "owner": str(resource.owner), "price": str(resource.price)}
