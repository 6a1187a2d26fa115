"""Words in which the stories of tasks are told: refused, accepted, who gained what."""

from __future__ import annotations

from typing import Any

from cast import PROVIDER, REQUESTER, SCHEDULER, WORKERS, Person
from stage import NOBODY, Stage, digest

from poolwright.poco.records import TaskStatus
from poolwright.poco.revert import Revert
from poolwright.poco.types import TaskId

NOVICES, CLERK, EXPERT, MASTER = WORKERS[:2], WORKERS[2], WORKERS[3], WORKERS[4]


def refused(result: object, reason: str = "") -> None:
    assert isinstance(result, Revert), f"expected a revert, got {result}"
    assert (result.reason, result.panic) == (reason, 0)


def accepted(result: object) -> None:
    assert not isinstance(result, Revert), result


def gains(stage: Stage, before: dict[str, int]) -> dict[str, int]:
    return {name: money - before[name] for name, money in money_of(stage).items() if money != before[name]}


def money_of(stage: Stage) -> dict[str, int]:
    """Free and locked SRLC of everybody, together."""
    return {each.name: total(stage, each) for each in (PROVIDER, SCHEDULER, REQUESTER, *WORKERS)}


def total(stage: Stage, who: Person) -> int:
    account = stage.poco.account(who.address)
    return account.stake + account.locked


def status(stage: Stage, task: TaskId) -> TaskStatus:
    return stage.poco.task(task).status


def at_once(stage: Stage, worker: Person, task: TaskId, **more: Any) -> Any:
    """The worker contributes and finalizes in one transaction."""
    sign = SCHEDULER.authorize(worker.address, task, NOBODY)
    return stage.contribute_and_finalize(
        worker.address, task, digest("a"), b"link", b"", NOBODY, b"", sign, **more
    )
