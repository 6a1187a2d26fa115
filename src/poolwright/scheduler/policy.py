"""Whom to pick: which worker may take a task, and which of them gets it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from poolwright.poco.tags import GPU, NO_TAG, TEE, TEE_FRAMEWORKS, Tag
from poolwright.poco.types import WorkerAddress

if TYPE_CHECKING:
    from poolwright.scheduler.pool import Worker
    from poolwright.scheduler.task import Task

_FRAMEWORKS: Final = {name: TEE | Tag.of_names([name]) for name in TEE_FRAMEWORKS.names}


def may_take(worker: Worker, task: Task) -> bool:
    """Whether the worker can run the task: once per worker, and every demanded tag bit offered."""
    return task.replicate_of(worker.address) is None and not offers(worker).lacks(task.deal.tag)


def offers(worker: Worker) -> Tag:
    """The tag bits that the worker can serve."""
    return _offers(worker.capacity.gpu, worker.capacity.tee_frameworks)


@lru_cache(maxsize=256)
def _offers(gpu: bool, tee_frameworks: tuple[str, ...]) -> Tag:
    tag = GPU if gpu else NO_TAG
    for framework in tee_frameworks:
        tag |= _FRAMEWORKS.get(framework.lower(), NO_TAG)  # a name nobody knows offers nothing
    return tag


def choose(task: Task, free: Iterable[Worker], owners: Mapping[WorkerAddress, str]) -> Worker | None:
    """The first in line that may take the task, of an owner who has no other in it where there is one.

    The pool keeps the line in turn; `owners` are those that the operator knows.
    """
    fitting = (worker for worker in free if may_take(worker, task))
    first = next(fitting, None)
    if first is None or not has_owner_in(task, first.address, owners):
        return first
    return next((worker for worker in fitting if not has_owner_in(task, worker.address, owners)), first)


def has_owner_in(task: Task, address: WorkerAddress, owners: Mapping[WorkerAddress, str]) -> bool:
    """Whether the worker's owner has another worker whose result counts in the task, or may come to."""
    owner = owners.get(address)
    return owner is not None and any(
        owners.get(replicate.worker) == owner
        for replicate in task.replicates
        if replicate.result_hash is not None or not replicate.is_finished
    )
