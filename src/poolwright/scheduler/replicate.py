"""A replicate: one worker's attempt at a task, as the scheduler knows it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from poolwright.poco.frozen import replace
from poolwright.poco.types import Hash32, Timestamp, WorkerAddress
from poolwright.wire.statuses import (
    AHEAD,
    BEFORE_CONTRIBUTION,
    FINAL,
    INTERLUDES,
    MOVES,
    SLOT_HOLDING,
    UPLOAD_FAILED,
    Mover,
    ReplicateStatus,
    is_legal,
)

S = ReplicateStatus

ASKED_FOR_RESULT: Final = frozenset({S.RESULT_UPLOAD_REQUESTED, S.RESULT_UPLOADING, S.RESULT_UPLOADED})
CAN_UPLOAD: Final = UPLOAD_FAILED | {S.REVEALED}
_RECOVERING: Final = S.RECOVERING
KNOWN_STAGES: Final = 4_096
"""Stages without explanation that are shared: there are some dozens for each second of chain time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One line of a replicate's life: entered `status` at `at`.

    `cause` is a word for programs, `message` a sentence for people, when there is something to explain.
    """

    status: ReplicateStatus
    at: Timestamp
    cause: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicate:
    """Facts about one attempt. `weight` is the worker's consensus weight, at last as it contributed.

    `life` is never empty; its last line is the present. `result_hash` and `revealed` are chain facts.
    """

    worker: WorkerAddress
    weight: int
    life: tuple[Stage, ...]
    exit_code: int | None = None
    """Of the app, once the worker has reported it."""
    result_hash: Hash32 | None = None
    revealed: bool = False
    rejected: bool = False
    """Taken out of the consensus by a reopen."""
    is_covered: bool = False
    """Was too slow once: another worker has its place in the forecast; it may still be the faster one."""

    @property
    def status(self) -> ReplicateStatus:
        return self.life[-1].status

    @property
    def since(self) -> Timestamp:
        return self.life[-1].at

    @property
    def reached(self) -> ReplicateStatus:
        """How far it has come: the last status that is neither WORKER_LOST nor RECOVERING."""
        status = self.life[-1].status
        if status not in INTERLUDES:
            return status
        return next(stage.status for stage in reversed(self.life) if stage.status not in INTERLUDES)

    @property
    def is_finished(self) -> bool:
        return self.life[-1].status in FINAL

    @property
    def is_lost(self) -> bool:
        return self.life[-1].status is S.WORKER_LOST

    def has_come_to(self, statuses: frozenset[ReplicateStatus]) -> bool:
        """Whether it stands at one of these statuses, neither lost nor finished."""
        status = self.life[-1].status
        if status is _RECOVERING:
            status = self.reached
        return status in statuses and status not in FINAL

    @property
    def holds_slot(self) -> bool:
        """Whether its container may still take one of the worker's slots."""
        return self.has_come_to(SLOT_HOLDING)

    @property
    def is_expected(self) -> bool:
        """Whether its contribution is still to come in good time: it counts in the consensus forecast."""
        return self.result_hash is None and not self.is_covered and self.has_come_to(BEFORE_CONTRIBUTION)

    @property
    def is_asked(self) -> bool:
        """Whether it has been asked for the result and may still bring it."""
        return self.has_come_to(ASKED_FOR_RESULT)

    @property
    def can_upload(self) -> bool:
        """Whether it has revealed, is not busy with an upload, and can hear us."""
        return self.has_come_to(CAN_UPLOAD)

    def may_report(self, status: ReplicateStatus) -> bool:
        """Whether the worker may say this now; one that comes back goes on from where it was."""
        if not is_legal(Mover.WORKER, self.status, status):
            return False
        return self.status is not S.RECOVERING or status in AHEAD.get(self.reached, ())

    @property
    def uploads(self) -> int:
        """How often it has said that the result is in the repository."""
        return sum(stage.status is S.RESULT_UPLOADED for stage in self.life)

    @property
    def failed_uploads(self) -> int:
        """How often it was asked for the result and did not bring it."""
        return len([stage for stage in self.life if stage.status in UPLOAD_FAILED])


@lru_cache(maxsize=KNOWN_STAGES)
def plain_stage(status: ReplicateStatus, at: Timestamp) -> Stage:
    """A line without explanation. Equal ones are one object: copies would be most of a pool's memory."""
    return Stage(status=status, at=at)


def compact(replicate: Replicate) -> Replicate:
    """The same, sharing its plain stages: for what was read from a store."""
    life = (
        plain_stage(stage.status, stage.at) if stage.cause is stage.message is None else stage
        for stage in replicate.life
    )
    return replace(replicate, life=tuple(life))


def created(worker: WorkerAddress, weight: int, at: Timestamp) -> Replicate:
    """A new replicate, assigned at `at`."""
    return Replicate(worker=worker, weight=weight, life=(plain_stage(S.CREATED, at),))


def moved(
    replicate: Replicate,
    mover: Mover,
    status: ReplicateStatus,
    at: Timestamp,
    cause: str | None = None,
    message: str | None = None,
) -> Replicate | None:
    """The replicate after one legal move, or None when the table has no such move."""
    before = replicate.life[-1].status
    if status not in MOVES[mover].get(before, ()):
        return None
    if before is _RECOVERING and mover is Mover.WORKER and not replicate.may_report(status):
        return None
    is_plain = cause is None and message is None
    stage = plain_stage(status, at) if is_plain else Stage(status=status, at=at, cause=cause, message=message)
    return replace(replicate, life=(*replicate.life, stage))
