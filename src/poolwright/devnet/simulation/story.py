"""What happened, line by line, and which statuses and moves were reached.

The hash over all lines is the proof that a seed always tells the same story.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from poolwright.devnet.simulation.clock import Clock
from poolwright.poco.types import TaskId
from poolwright.wire.statuses import MOVES, Mover, ReplicateStatus

Move = tuple[Mover, ReplicateStatus, ReplicateStatus]
ALL_MOVES: Final[frozenset[Move]] = frozenset(
    (mover, before, after)
    for mover, table in MOVES.items()
    for before, targets in table.items()
    for after in targets
)
_DETAILS: Final = ("status", "submission", "worker", "reason", "cause", "verdict", "message", "instruction")


class Line(NamedTuple):
    """One thing that happened: when, in which process, what, to which task, and what was asked for then."""

    at: int
    who: str
    what: str
    item: Any
    effects: Sequence[Any]
    ignored: str | None

    def __str__(self) -> str:
        text = f"{self.at / 1000:>10.3f} s  {self.who:<10} {self.what}"
        for name in _DETAILS:
            value = getattr(self.item, name, None)
            if value is not None and value != "":
                text += f" {name}={_short(value)}"
        if self.ignored is not None:
            return f"{text}  (ignored: {self.ignored})"
        return text + "".join(f"\n{'':>26}-> {_effect(effect)}" for effect in self.effects)


@dataclass(slots=True, kw_only=True)
class Coverage:
    """Statuses and moves that were reached."""

    statuses: set[ReplicateStatus] = field(default_factory=set)
    moves: set[Move] = field(default_factory=set)

    def add(self, other: Coverage) -> None:
        self.statuses |= other.statuses
        self.moves |= other.moves

    def lines(self) -> tuple[str, str]:
        return (
            f"statuses reached {len(self.statuses)}/{len(ReplicateStatus)}",
            f"moves reached {len(self.moves)}/{len(ALL_MOVES)}",
        )

    def missing(self) -> Iterator[str]:
        """What was not reached, in words."""
        for status in ReplicateStatus:
            if status not in self.statuses:
                yield f"status {status}"
        for mover, before, after in sorted(ALL_MOVES - self.moves):
            yield f"{mover}: {before} -> {after}"


class Story:
    """Everything that the processes were told, in order."""

    def __init__(self, clock: Clock) -> None:
        self.lines: list[Line] = []
        self.coverage = Coverage()
        self._clock = clock
        self._digest = hashlib.blake2b(digest_size=16)

    def note(
        self,
        who: str,
        what: str,
        item: Any,
        effects: Sequence[Any] = (),
        ignored: str | None = None,
    ) -> None:
        task_id = getattr(item, "task_id", None)
        self.lines.append(Line(self._clock.now, who, what, item, effects, ignored))
        about = "" if task_id is None else task_id.hex()
        self._digest.update(f"{self._clock.now} {who} {what} {about} {len(effects)} {ignored}\n".encode())

    @property
    def hash(self) -> str:
        return self._digest.hexdigest()

    def of(self, task_id: TaskId | None, last: int = 200) -> list[Line]:
        """The lines of a task, and every start and death; the last ones only."""
        chosen = [
            line
            for line in self.lines
            if task_id is None or line.item is None or getattr(line.item, "task_id", None) == task_id
        ]
        return chosen[-last:]


def _short(value: Any) -> str:
    text = type(value).__name__ if hasattr(value, "__dataclass_fields__") else str(value)
    return text if len(text) <= 100 else text[:97] + "..."


def _effect(effect: Any) -> str:
    text = type(effect).__name__
    for name in ("worker", "submission", "attempt", "status", "cause", "number"):
        value = getattr(effect, name, None)
        if value is not None:
            text += f" {name}={_short(value)}"
    return text
