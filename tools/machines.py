"""Draw the state machines from the tables in the code: `python tools/machines.py` writes docs/machines/.

The tables are what the program runs on, so the drawings cannot lie; a unit test fails when the committed
files are not what this writes.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from poolwright.scheduler.task import ENDED, PHASE_MOVES, Phase
from poolwright.wire.messages import Abort, Complete
from poolwright.wire.statuses import FINAL, MOVES, SLOT_HOLDING, UNCOMPLETABLE, Mover, ReplicateStatus
from poolwright.worker.attempt import STAGE_MOVES, Stage

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "machines"
GENERATED = "<!-- Written by tools/machines.py from the tables in the code; do not edit. -->"

S = ReplicateStatus
#: Moves that almost every status has would hide the path in a drawing; they stand in the table.
EVERYWHERE = frozenset(
    {S.WORKER_LOST, S.RECOVERING, S.FAILED, S.ABORTED_ON_CONSENSUS_REACHED, S.ABORTED_ON_CONTRIBUTION_TIMEOUT}
)
WHAT_THE_MOVER_DOES = {
    Mover.WORKER: "What a worker may report. From RECOVERING it goes on where it was before the loss.",
    Mover.CHAIN: "What a confirmed log decides, whatever the reports have reached.",
    Mover.POOL: "What the scheduler decides.",
}


def diagram(arrows: Iterable[tuple[str, str, str]]) -> list[str]:
    """A Mermaid state diagram of (from, to, label)."""
    lines = ["```mermaid", "stateDiagram-v2"]
    lines += [f"    {a} --> {b}{f': {label}' if label else ''}" for a, b, label in arrows]
    return [*lines, "```", ""]


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    names = list(head)
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def page(title: str, *parts: list[str] | str) -> str:
    lines = [GENERATED, "", f"# {title}", ""]
    for part in parts:
        lines += [part, ""] if isinstance(part, str) else part
    return "\n".join(lines).rstrip() + "\n"


def replicate_page() -> str:
    parts: list[list[str] | str] = [
        "The 36 statuses of a replicate, and who may make which move "
        "(`poolwright.wire.statuses.MOVES`). What is not listed changes nothing. The drawings leave out the "
        "moves to WORKER_LOST, RECOVERING, FAILED and ABORTED_..., and those of a recovering worker.",
        table(
            ["Group", "Statuses"],
            [
                ["hold a slot of their worker", names(SLOT_HOLDING)],
                ["closed as FAILED at once", names(UNCOMPLETABLE)],
                ["ends", names(FINAL)],
            ],
        ),
    ]
    for mover in Mover:
        moves = MOVES[mover]
        drawn = [
            (before.value, after.value, "")
            for before in S
            for after in S
            if after in moves.get(before, ()) and not {before, after} & EVERYWHERE
        ]
        rows = [[before.value, names(moves[before])] for before in S if moves.get(before)]
        parts += [f"## Moves of the {mover}", WHAT_THE_MOVER_DOES[mover], diagram(drawn)]
        parts.append(table(["From", "To"], rows))
    return page("Replicate statuses", *parts)


def names(statuses: Iterable[ReplicateStatus]) -> str:
    """The statuses in the order of the enumeration."""
    wanted = set(statuses)
    return ", ".join(status.value for status in S if status in wanted)


def task_page() -> str:
    moves = [(a.value, b.value, kind.__name__) for (a, kind), b in PHASE_MOVES.items()]
    ends = [(phase.value, "[*]", "") for phase in Phase if phase in ENDED]
    return page(
        "Task phases",
        "The phase of a task is the chain's word and moves on confirmed logs only "
        "(`poolwright.scheduler.task.PHASE_MOVES`). A log that is not listed for a phase changes nothing.",
        diagram([("[*]", Phase.RECEIVED.value, "ChainDealMatched"), *moves, *ends]),
        table(["Phase", "Log", "Next phase"], [[a, label, b] for a, b, label in moves]),
    )


def worker_page() -> str:
    arrows: dict[tuple[Stage, Stage], list[str]] = defaultdict(list)
    for (before, fact), afters in STAGE_MOVES.items():
        for after in (stage for stage in Stage if stage in afters):
            if fact not in (Abort, Complete):
                arrows[before, after].append(fact.__name__)
    drawn = [(a.value, b.value, ", ".join(facts)) for (a, b), facts in arrows.items()]
    rows = [
        [before.value, fact.__name__, ", ".join(stage.value for stage in Stage if stage in afters)]
        for (before, fact), afters in STAGE_MOVES.items()
    ]
    return page(
        "Worker stages",
        "What a worker's attempt at a task waits for, and what moves it on "
        "(`poolwright.worker.attempt.STAGE_MOVES`): the outcome of the one effect it asked for, or an "
        "instruction of the scheduler. Anything else changes nothing. The drawing leaves out Abort and "
        "Complete, which lead from every stage to PURGING.",
        diagram([("[*]", Stage.DESCRIBING.value, "Start"), *drawn, (Stage.PURGED.value, "[*]", "")]),
        table(["Stage", "Fact", "Next stage"], rows),
    )


def pages() -> dict[str, str]:
    """File name to text of every page."""
    return {"replicate.md": replicate_page(), "task.md": task_page(), "worker.md": worker_page()}


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text)
        sys.stdout.write(f"{FOLDER / name}\n")


if __name__ == "__main__":
    main()
