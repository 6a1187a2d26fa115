"""The life of one deal as people watch it: chain facts and replicate statuses, task by task.

Two sources are merged, each of which may be read again from its beginning: the chain's logs, which say what
happened, and the scheduler's account of each task, which says what its workers are doing. An entry is known
by its source (log position; worker and place in the replicate's life), so reading twice changes nothing and
a scheduler that was restarted goes on where it was. Everything here is pure; `seconds` is the age of the
deal at the moment when the demo saw something.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from poolwright.poco import ids
from poolwright.poco.errors import InputError, PeerError
from poolwright.poco.events import (
    TOPICS,
    HubEvent,
    Log,
    OrdersMatched,
    TaskClaimed,
    TaskConsensus,
    TaskContribute,
    TaskFinalize,
    TaskInitialize,
    TaskReopen,
    TaskReveal,
    decode_log,
)
from poolwright.poco.types import Address, BlockNumber, DealId, Hash32, TaskId, Timestamp, TxHash
from poolwright.wire.statuses import FINAL, ReplicateStatus


class Phase(StrEnum):
    """Where a task stands on the chain, in the contract's words."""

    RECEIVED = "RECEIVED"
    ACTIVE = "ACTIVE"
    REVEALING = "REVEALING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


_PHASE_AFTER: Final[Mapping[type[HubEvent], Phase]] = {
    TaskInitialize: Phase.ACTIVE,
    TaskConsensus: Phase.REVEALING,
    TaskReopen: Phase.ACTIVE,
    TaskFinalize: Phase.COMPLETED,
    TaskClaimed: Phase.FAILED,
}
TASK_TOPICS: Final[tuple[Hash32, ...]] = tuple(
    TOPICS[kind] for kind in (*_PHASE_AFTER, TaskContribute, TaskReveal)
)
"""First topics of the logs that a timeline takes, besides OrdersMatched."""

_COMPUTE_FAILURES: Final = frozenset(
    {
        ReplicateStatus.APP_DOWNLOAD_FAILED,
        ReplicateStatus.DATA_DOWNLOAD_FAILED,
        ReplicateStatus.COMPUTE_FAILED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One log of the deal."""

    task: int | None
    """Index of the task; None for the deal itself."""
    name: str
    """The event's name in the contract."""
    worker: str
    """Who did it, for contributions and reveals; else empty."""
    block: BlockNumber
    date: Timestamp
    tx_hash: TxHash
    log_index: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One status of one replicate."""

    task: int
    worker: str
    place: int
    """In the replicate's life, from 0."""
    status: str
    cause: str
    date: Timestamp
    seconds: float


Entry = Fact | Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Everything seen of one deal so far, in the order in which it was seen."""

    deal_id: DealId
    started: Timestamp
    """Block time of the match."""
    tasks: Mapping[TaskId, int]
    names: Mapping[Address, str]
    """Names of the workers; another one is called by its address."""
    entries: tuple[Entry, ...] = ()
    phases: Mapping[int, Phase]
    setbacks: Mapping[int, str]
    """What the scheduler says is in the way, by task."""

    @property
    def is_ended(self) -> bool:
        """Whether every task is COMPLETED or FAILED on the chain."""
        return all(phase in (Phase.COMPLETED, Phase.FAILED) for phase in self.phases.values())

    @property
    def is_quiet(self) -> bool:
        """Whether nothing more is to come: every task ended, every known replicate closed."""
        return self.is_ended and all(
            life[-1].status in FINAL for index in self.phases for life in self.replicates(index).values()
        )

    @property
    def last_block(self) -> BlockNumber:
        """The block of the newest chain fact."""
        return max(each.block for each in self.entries if isinstance(each, Fact))

    def facts(self, index: int | None) -> tuple[Fact, ...]:
        """The chain facts of a task, or of the deal for None."""
        return tuple(each for each in self.entries if isinstance(each, Fact) and each.task == index)

    def replicates(self, index: int) -> dict[str, list[Status]]:
        """The statuses of each worker's replicate of a task."""
        lives: dict[str, list[Status]] = {}
        for each in self.entries:
            if isinstance(each, Status) and each.task == index:
                lives.setdefault(each.worker, []).append(each)
        return lives

    def name_of(self, worker: Address) -> str:
        return self.names.get(worker, short(worker))


def short(raw: bytes) -> str:
    """The beginning of a hash or address, for people."""
    return f"0x{raw[:4].hex()}…"


def opened(
    deal_id: DealId, first: int, size: int, names: Mapping[Address, str], match_logs: Iterable[Log]
) -> Timeline:
    """The timeline of a deal, from the logs of the transaction that matched it.

    Raises PeerError when the deal is not among them.
    """
    for log in match_logs:
        event = decode_log(log)
        if isinstance(event, OrdersMatched) and event.deal_id == deal_id:
            indexes = range(first, first + size)
            timeline = Timeline(
                deal_id=deal_id,
                started=log.block.timestamp,
                tasks={ids.task_id(deal_id, index): index for index in indexes},
                names=names,
                phases=dict.fromkeys(indexes, Phase.RECEIVED),
                setbacks={},
            )
            return replace(timeline, entries=(_fact(log, "OrdersMatched", None, "", 0.0),))
    raise PeerError(f"the match has no log of deal {deal_id}", code="no-deal")


def with_logs(timeline: Timeline, logs: Iterable[Log], seconds: float) -> Timeline:
    """The timeline after some logs of the hub, of which those of other deals are ignored."""
    known = {(each.block, each.log_index) for each in timeline.entries if isinstance(each, Fact)}
    entries, phases = list(timeline.entries), dict(timeline.phases)
    for log in logs:
        event = decode_log(log)
        if event is None or TOPICS[type(event)] not in TASK_TOPICS:
            continue
        task_id: TaskId = getattr(event, "task_id")  # noqa: B009  every kind of TASK_TOPICS has one
        if task_id not in timeline.tasks:
            continue
        if (log.block.number, log.log_index) in known:
            continue
        index = timeline.tasks[task_id]
        worker = getattr(event, "worker", None)
        name = "" if worker is None else timeline.name_of(worker)
        entries.append(_fact(log, type(event).__name__, index, name, seconds))
        phases[index] = _PHASE_AFTER.get(type(event), phases[index])
    return replace(timeline, entries=tuple(entries), phases=phases)


def with_report(timeline: Timeline, report: Any, seconds: float) -> Timeline:
    """The timeline after the scheduler's account of one task (`scheduler.view.task_model`).

    Raises PeerError when it cannot be understood.
    """
    try:
        index = timeline.tasks[TaskId(Hash32.parse(report["chainTaskId"]))]
        setback = report.get("setback") or ""
        entries = list(timeline.entries)
        for replicate in report["replicates"]:
            worker = timeline.name_of(Address.parse(replicate["walletAddress"]))
            known = len(timeline.replicates(index).get(worker, ()))
            for place, update in enumerate(replicate["statusUpdateList"]):
                if place >= known:
                    entries.append(_status(index, worker, place, update, seconds))
    except (KeyError, TypeError, AttributeError, ValueError, InputError) as problem:
        raise PeerError(
            "the scheduler's account of a task is not understood",
            code="bad-task-report",
            got=f"{type(problem).__name__}: {problem}"[:200],
            next_step="use a scheduler of the same version",
        ) from problem
    return replace(
        timeline, entries=tuple(entries), setbacks={**timeline.setbacks, index: str(setback)[:300]}
    )


def last_known(timeline: Timeline, index: int) -> str:
    """Where a task stands, in one line, for when it did not end well."""
    phase = timeline.phases[index]
    words = [f"task {index} is {phase} on the chain"]
    facts = timeline.facts(index)
    if facts:
        words.append(f"last fact {facts[-1].name} in block {facts[-1].block}")
    lives = timeline.replicates(index)
    words += [f"{worker} {_last(life)}" for worker, life in lives.items()]
    if not lives:
        words.append("no worker has it")
    if timeline.setbacks.get(index):
        words.append(f"the scheduler says: {timeline.setbacks[index]}")
    return "; ".join(words)


def failures(timeline: Timeline, index: int) -> dict[str, str]:
    """What failed, app or inputs, of each worker that contributed to a task all the same."""
    contributed = {fact.worker for fact in timeline.facts(index) if fact.name == "TaskContribute"}
    return {
        worker: f"{each.status} ({each.cause})" if each.cause else each.status
        for worker, life in timeline.replicates(index).items()
        for each in life
        if worker in contributed and each.status in _COMPUTE_FAILURES
    }


def _last(life: list[Status]) -> str:
    """The last status of a replicate, with the last cause that was given."""
    cause = next((each.cause for each in reversed(life) if each.cause), "")
    return f"{life[-1].status} ({cause})" if cause else life[-1].status


def _fact(log: Log, name: str, task: int | None, worker: str, seconds: float) -> Fact:
    return Fact(
        task=task,
        name=name,
        worker=worker,
        block=log.block.number,
        date=log.block.timestamp,
        tx_hash=log.tx_hash,
        log_index=log.log_index,
        seconds=seconds,
    )


def _status(index: int, worker: str, place: int, update: Mapping[str, Any], seconds: float) -> Status:
    return Status(
        task=index,
        worker=worker,
        place=place,
        status=ReplicateStatus(update["status"]).value,
        cause=str(update.get("cause") or "")[:200],
        date=Timestamp(int(datetime.fromisoformat(update["date"]).timestamp())),
        seconds=seconds,
    )
