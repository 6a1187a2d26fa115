"""Whether a worker is given work: what the operator says of it, and what its own record says.

A worker is *held* (it keeps its connection and finishes what it has, and gets nothing new) when

- the operator drains it, to take it out of the pool without loss, until he resumes it;
- it is not, or no longer, on the allow list;
- it is in quarantine: too many of its attempts went wrong by its own doing within a short time. A quarantine
  ends by itself; the next one lasts twice as long, up to a day. A task completed clears the record.

What counts as a fault is what a sound worker avoids: to vanish, to run out of gas or stake, to contribute
what others do not agree with, to keep a result back. That a task cannot be computed, or that the repository
does not answer, is not the worker's fault. Faults of one kind at one moment count once: a lost connection is
one fault, however many tasks it takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from poolwright.poco.errors import PeerError
from poolwright.poco.frozen import replace
from poolwright.poco.types import Address, Seconds, TaskId, Timestamp, WorkerAddress
from poolwright.wire.messages import Capacity, Notice
from poolwright.wire.statuses import ReplicateStatus

S = ReplicateStatus

FAULTS: Final = frozenset(
    {
        S.CANT_CONTRIBUTE_SINCE_STAKE_TOO_LOW,
        S.CONTRIBUTE_FAILED,
        S.CANT_REVEAL,
        S.REVEAL_FAILED,
        S.REVEAL_TIMEOUT,
        S.RESULT_UPLOAD_REQUEST_FAILED,
        S.OUT_OF_GAS,
        S.WORKER_LOST,
    }
)
"""Statuses that a sound worker's replicate does not come to."""
DISSENT: Final = "DISSENT"
"""The word for a contribution that lost the consensus."""
MAX_WORD: Final = 200
"""Characters of the operator's reason that are kept."""
_TEN_MINUTES: Final = Seconds(600)
_HOUR: Final = Seconds(3_600)
_DAY: Final = Seconds(86_400)


class HoldCode(StrEnum):
    """Why a worker gets no new work."""

    DRAINING = "draining"
    NOT_ALLOWED = "not-allowed"
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The operator's settings that decide who gets work. They enter the mind as an event, so that a replay
    judges as was judged live."""

    allowed: frozenset[Address] = frozenset()
    """Wallets that may join; empty: everybody."""
    min_version: str = ""
    """Oldest version of a worker that may connect, such as "0.2.0"; empty: any."""
    faults: int = 5
    """Faults within `fault_window` that bring a quarantine; 0: no quarantine ever."""
    fault_window: Seconds = _HOUR
    quarantine: Seconds = _TEN_MINUTES
    """How long the first one lasts; each further one lasts twice as long."""
    max_quarantine: Seconds = _DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What went wrong, in a word, and when."""

    at: Timestamp
    what: str
    task_id: TaskId


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is known for or against one worker. `faults` are those of the window, or of the quarantine."""

    draining: str | None = None
    """The operator's reason."""
    is_barred: bool = False
    faults: tuple[Fault, ...] = ()
    quarantines: int = 0
    """In a row, with no completed task between them."""
    quarantined_until: Timestamp | None = None

    @property
    def is_held(self) -> bool:
        return self.draining is not None or self.is_barred or self.quarantined_until is not None


BLANK: Final = Standing()
DEFAULT_RULES: Final = Rules()


def is_admitted(rules: Rules, words: Mapping[WorkerAddress, bool], wallet: WorkerAddress) -> bool:
    """Whether a wallet may join: the operator's last word on it, else the allow list."""
    word = words.get(wallet)
    return word if word is not None else not rules.allowed or wallet in rules.allowed


def with_fault(standing: Standing, fault: Fault, rules: Rules) -> Standing:
    """The standing after one more fault; with the last one that is borne the quarantine begins."""
    if rules.faults == 0 or standing.quarantined_until is not None:
        return standing
    since = fault.at - rules.fault_window
    if any((known.at, known.what) == (fault.at, fault.what) for known in standing.faults):
        return standing
    faults = (*(known for known in standing.faults if known.at > since), fault)[-rules.faults :]
    if len(faults) < rules.faults:
        return replace(standing, faults=faults)
    lasts = min(rules.quarantine * 2 ** min(standing.quarantines, 16), rules.max_quarantine)
    return replace(
        standing,
        faults=faults,
        quarantines=standing.quarantines + 1,
        quarantined_until=Timestamp(fault.at + lasts),
    )


def after_quarantine(standing: Standing) -> Standing:
    """The standing when a quarantine is over: another chance, not a blank record."""
    return replace(standing, faults=(), quarantined_until=None)


def after_success(standing: Standing) -> Standing:
    """The standing after a completed task."""
    if standing.quarantined_until is not None or not (standing.faults or standing.quarantines):
        return standing
    return replace(standing, faults=(), quarantines=0)


def resumed(standing: Standing) -> Standing:
    """The standing when the operator gives a worker work again: neither drained nor in quarantine."""
    return replace(standing, draining=None, faults=(), quarantines=0, quarantined_until=None)


def notice(standing: Standing) -> Notice | None:
    """What the worker's owner should know: why it gets no work, and what would change that."""
    if standing.is_barred:
        text = "the operator has taken this wallet off the allow list; ask the workerpool's manager"
        return Notice(code=HoldCode.NOT_ALLOWED.value, message=text)
    if standing.draining is not None:
        because = f": {standing.draining}" if standing.draining else ""
        text = f"the operator drains this worker{because}; it finishes its tasks and gets no new ones"
        return Notice(code=HoldCode.DRAINING.value, message=text)
    if standing.quarantined_until is not None:
        until, faults = standing.quarantined_until, standing.faults
        told = ", ".join(f"{fault.what} of task {fault.task_id} at {fault.at}" for fault in faults)
        text = (
            f"no new tasks until chain time {until}, after {len(faults)} faults: {told}; "
            "look into the worker's log, its gas, its stake and its network"
        )
        return Notice(code=HoldCode.QUARANTINED.value, message=text)
    return None


def check_version(rules: Rules, capacity: Capacity) -> None:
    """Return when the worker is new enough for the pool. Raises PeerError."""
    if rules.min_version and version_key(capacity.version) < version_key(rules.min_version):
        raise PeerError(
            "this worker is too old for the workerpool",
            code="version-too-old",
            expected=f"version {rules.min_version} or newer",
            got=repr(capacity.version)[:60],
            next_step="install a newer version of Poolwright and start the worker again",
        )


def version_key(version: str) -> tuple[int, ...]:
    """The numbers at the front of a version, for comparison: "0.10.1rc2" is (0, 10, 1); nonsense is ()."""
    numbers: list[int] = []
    for part in version.strip().lstrip("v").split(".")[:4]:
        digits = part[: len(part) - len(part.lstrip("0123456789"))][:9]
        if not digits:
            break
        numbers.append(int(digits))
        if digits != part:
            break
    while numbers and numbers[-1] == 0:
        numbers.pop()  # 1.0 and 1.0.0 are the same
    return tuple(numbers)
