"""The supervisor's mind: which process to start, signal or kill, and when. Pure; no process is touched here.

A network is a row of parts. A part starts when the parts it needs are ready. At the end the ranks are
stopped from the highest to the lowest, each one wholly before the next: workers, then the scheduler, then
the result repository, then the chain.

    WAITING ──start──► STARTING ──answered──► READY
       ▲                   │                    │
       └───── back-off ────┴───── exited ───────┘          a crash is restarted, later and later
                           │
                           └── exited with 2, or too often in a row ──► FAILED
    any ──stop──► STOPPING ──exited──► STOPPED             killed when it takes too long

Exit code 2 is `InputError`: the part was told something wrong, and telling it again cannot help. A part that
was ready for STEADY_SECONDS has proved itself, and its back-off starts anew.

Times are seconds of one monotonic clock, given by the caller with every event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from signal import Signals
from typing import assert_never

FIRST_BACK_OFF_SECONDS = 0.25
LONGEST_BACK_OFF_SECONDS = 15.0
STEADY_SECONDS = 30.0
CRASH_LIMIT = 8
FIRST_CRASH_LIMIT = 3
"""For a part that never answered: it will not, and somebody waits for it."""
STOP_SECONDS = 15.0
INPUT_ERROR_EXIT = 2


class Phase(Enum):
    """Where a part is in its life."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


RUNNING = frozenset({Phase.STARTING, Phase.READY, Phase.STOPPING})
"""The phases in which a part has a process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One supervised process and what is known of it."""

    name: str
    rank: int
    """Parts of a higher rank are stopped first."""
    needs: frozenset[str] = frozenset()
    """Names of the parts that must have answered before this one is started for the first time."""
    stop_signal: Signals = Signals.SIGTERM
    phase: Phase = Phase.WAITING
    restarts: int = 0
    crashes_in_a_row: int = 0
    has_answered: bool = False
    start_at: float = 0.0
    """Not started before this time."""
    since: float = 0.0
    """When it entered its phase."""
    last_exit: int | None = None
    """Exit code of the last process; negative for a signal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """All parts, and whether the network is going down."""

    parts: Mapping[str, Part]
    is_stopping: bool = False

    @property
    def is_ready(self) -> bool:
        return all(part.phase is Phase.READY for part in self.parts.values())

    @property
    def is_over(self) -> bool:
        return self.is_stopping and not any(part.phase in RUNNING for part in self.parts.values())

    @property
    def failed(self) -> tuple[Part, ...]:
        return tuple(part for part in self.parts.values() if part.phase is Phase.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartAnswered:
    """The part's health check succeeded."""

    name: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PartExited:
    """The part's process ended."""

    name: str
    code: int
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StopAsked:
    """The user wants the network to end."""

    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Time has passed."""

    at: float


Event = PartAnswered | PartExited | StopAsked | Tick


@dataclass(frozen=True, slots=True, kw_only=True)
class StartPart:
    """Start the part's process."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalPart:
    """Ask the part's process to end."""

    name: str
    signal: Signals


@dataclass(frozen=True, slots=True, kw_only=True)
class KillPart:
    """End the part's process and all that it started, now."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tell:
    """Say a line to the user."""

    line: str


Effect = StartPart | SignalPart | KillPart | Tell


@dataclass(slots=True)
class _Draft:
    """The step in the making: parts are swapped, effects are added."""

    parts: dict[str, Part]
    is_stopping: bool
    effects: list[Effect] = field(default_factory=list)

    def swap(self, part: Part) -> None:
        self.parts[part.name] = part


def step(network: Network, event: Event) -> tuple[Network, tuple[Effect, ...]]:
    """Advance the network by one event. Total: what does not apply changes nothing."""
    draft = _Draft(dict(network.parts), network.is_stopping)
    match event:
        case PartAnswered(name=name, at=now):
            part = draft.parts[name]
            if part.phase is Phase.STARTING:
                draft.swap(replace(part, phase=Phase.READY, since=now, has_answered=True))
        case PartExited(name=name, code=code, at=now):
            if draft.parts[name].phase in RUNNING:
                _exited(draft, draft.parts[name], code, now)
        case StopAsked():
            draft.is_stopping = True
        case Tick():
            pass
        case _:
            assert_never(event)
    if draft.is_stopping:
        _stop_highest_rank(draft, event.at)
    else:
        _start_what_may_start(draft, event.at)
    return Network(parts=draft.parts, is_stopping=draft.is_stopping), tuple(draft.effects)


def next_deadline(network: Network) -> float | None:
    """When the next Tick is due; None when only an event can change anything."""
    times = []
    for part in network.parts.values():
        if part.phase is Phase.WAITING and not network.is_stopping and _is_unblocked(network.parts, part):
            times.append(part.start_at)
        elif part.phase is Phase.STOPPING:
            times.append(part.since + STOP_SECONDS)
    return min(times, default=None)


def back_off_seconds(crashes_in_a_row: int) -> float:
    """How long to wait before the next start after so many crashes in a row."""
    return min(LONGEST_BACK_OFF_SECONDS, FIRST_BACK_OFF_SECONDS * 2.0 ** max(0, crashes_in_a_row - 1))


def _exited(draft: _Draft, part: Part, code: int, now: float) -> None:
    if draft.is_stopping:
        draft.swap(replace(part, phase=Phase.STOPPED, since=now, last_exit=code))
        return
    was_steady = part.phase is Phase.READY and now - part.since >= STEADY_SECONDS
    crashes = 1 if was_steady else part.crashes_in_a_row + 1
    part = replace(part, since=now, last_exit=code, crashes_in_a_row=crashes)
    limit = CRASH_LIMIT if part.has_answered else FIRST_CRASH_LIMIT
    if code == INPUT_ERROR_EXIT or crashes >= limit:
        why = "it was given something wrong" if code == INPUT_ERROR_EXIT else f"{crashes} times in a row"
        draft.effects.append(Tell(line=f"{part.name} ended ({_exit_text(code)}): {why}; not started again"))
        draft.swap(replace(part, phase=Phase.FAILED))
        return
    wait = back_off_seconds(crashes)
    draft.effects.append(
        Tell(line=f"{part.name} ended ({_exit_text(code)}); starting it again in {wait:g} s")
    )
    draft.swap(replace(part, phase=Phase.WAITING, start_at=now + wait, restarts=part.restarts + 1))


def _start_what_may_start(draft: _Draft, now: float) -> None:
    for part in tuple(draft.parts.values()):
        if part.phase is Phase.WAITING and now >= part.start_at and _is_unblocked(draft.parts, part):
            draft.swap(replace(part, phase=Phase.STARTING, since=now))
            draft.effects.append(StartPart(name=part.name))


def _is_unblocked(parts: Mapping[str, Part], part: Part) -> bool:
    """A restarted part does not wait: the others are there, or come back by themselves."""
    return part.restarts > 0 or all(parts[name].phase is Phase.READY for name in part.needs)


def _stop_highest_rank(draft: _Draft, now: float) -> None:
    for part in tuple(draft.parts.values()):
        if part.phase in (Phase.WAITING, Phase.FAILED):
            draft.swap(replace(part, phase=Phase.STOPPED, since=now))
    running = [part for part in draft.parts.values() if part.phase in RUNNING]
    highest = max((part.rank for part in running), default=0)
    for part in running:
        if part.rank < highest:
            continue
        if part.phase is not Phase.STOPPING:
            draft.swap(replace(part, phase=Phase.STOPPING, since=now))
            draft.effects.append(SignalPart(name=part.name, signal=part.stop_signal))
        elif now >= part.since + STOP_SECONDS:
            draft.swap(replace(part, since=now))
            draft.effects.append(KillPart(name=part.name))


def _exit_text(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return Signals(-code).name
    except ValueError:
        return f"signal {-code}"
