"""How the demo looks: the timeline while it happens, the results, the ledger.

Everything is lines of text made by pure functions. On a terminal the timeline is redrawn in place; without
one each new entry is one appended line.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from poolwright.devnet.amounts import format_ether, format_rlc
from poolwright.devnet.ledger import Balance, Line, Movement, by_reason
from poolwright.devnet.picture import Picture, half_blocks, read_png, scaled, side_by_side
from poolwright.devnet.retrieval import Result
from poolwright.devnet.timeline import Entry, Fact, Phase, Status, Timeline, short
from poolwright.poco.errors import InputError
from poolwright.poco.types import NRlc, Wei

PREVIEW_LINES = 16
PREVIEW_COLUMNS = 100
PREVIEW_FILES_MOST = 50_000_000
TEXT_SUFFIXES = (".txt", ".md", ".csv", ".log", ".json")
NOT_SHOWN = "computed.json"

_STYLES = {
    Phase.RECEIVED: "dim",
    Phase.ACTIVE: "yellow",
    Phase.REVEALING: "cyan",
    Phase.COMPLETED: "green",
    Phase.FAILED: "red",
}


class Display(Protocol):
    """Where a demo shows itself."""

    @property
    def colours(self) -> bool:
        """Whether it can show a picture."""

    def say(self, line: str) -> None: ...

    def show(self, timeline: Timeline, fresh: Sequence[Entry]) -> None:
        """Show the timeline, of which `fresh` is new."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class PlainDisplay:
    """Appends a line for each entry."""

    colours = False

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def say(self, line: str) -> None:
        print(line, file=self._out, flush=True)

    def show(self, timeline: Timeline, fresh: Sequence[Entry]) -> None:
        for entry in fresh:
            self.say(entry_line(entry))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return


class LiveDisplay:
    """Redraws the timeline in place; what is said goes above it."""

    colours = True

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._timeline: Timeline | None = None

    def say(self, line: str) -> None:
        self._console.print(Text.from_ansi(line), soft_wrap=True)

    def show(self, timeline: Timeline, fresh: Sequence[Entry]) -> None:
        self._timeline = timeline
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        room = max(4, self._console.height // max(1, len(timeline.phases)) - 2)
        self._live.update(timeline_block(timeline, room), refresh=True)

    def finish_timeline(self) -> None:
        """Leave the whole timeline on the screen."""
        if self._live is not None and self._timeline is not None:
            self._live.stop()
            self._live = None
            self._console.print(timeline_block(self._timeline, None))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish_timeline()


# --- the timeline -------------------------------------------------------------------------------------------


def entry_line(entry: Entry) -> str:
    """One entry as a line: age of the deal, task, who, what, block, transaction."""
    age = f"{entry.seconds:+7.1f} s"
    match entry:
        case Fact(task=None):
            return f"{age}  deal    chain     {entry.name:16} {_place(entry)}"
        case Fact():
            what = f"{entry.name} by {entry.worker}" if entry.worker else entry.name
            return f"{age}  task {entry.task:<2} chain     {what:28} {_place(entry)}"
        case Status():
            cause = f"  {entry.cause}" if entry.cause else ""
            return f"{age}  task {entry.task:<2} {entry.worker:9} {entry.status}{cause}"


def timeline_block(timeline: Timeline, room: int | None) -> Group:
    """The timeline task by task; `room` is how many lines each may take, None for as many as it needs."""
    blocks = [Text(f"deal {timeline.deal_id}", style="bold")]
    blocks += [Text(entry_line(each), style="dim") for each in timeline.facts(None)]
    for index in timeline.phases:
        blocks += task_lines(timeline, index, room)
    return Group(*blocks)


def task_lines(timeline: Timeline, index: int, room: int | None) -> list[Text]:
    """A task's phase, its facts, and a line for each of its replicates."""
    phase = timeline.phases[index]
    head = Text.assemble((f"task {index}  ", "bold"), (phase.value, _STYLES[phase]))
    facts = [
        Text(
            f"  {each.seconds:6.1f} s  {f'{each.name} by {each.worker}' if each.worker else each.name:28} "
            f"{_place(each)}"
        )
        for each in timeline.facts(index)
    ]
    lives = [_life_line(worker, life, room) for worker, life in timeline.replicates(index).items()]
    lines = [head, *facts, *lives]
    if room is None or len(lines) <= room:
        return lines
    kept = max(1, room - 1 - len(lives))
    return [head, *facts[-kept:], *lives][:room]


def _life_line(worker: str, life: Sequence[Status], room: int | None) -> Text:
    shown = life if room is None else life[-3:]
    steps = " › ".join(f"{each.status} {each.seconds:.1f}" for each in shown)
    more = "" if len(shown) == len(life) else "… › "
    return Text(f"  {worker:9} {more}{steps}", style="dim")


def _place(fact: Fact) -> str:
    return f"block {fact.block:<6} tx {short(fact.tx_hash)}"


# --- the results --------------------------------------------------------------------------------------------


def result_lines(result: Result) -> list[str]:
    """What was downloaded and where it is."""
    names = ", ".join(str(path) for path in result.files if path.name != NOT_SHOWN)
    return [
        f"task {result.index}  /ipfs/{result.cid}",
        f"  digest {result.digest} is the one of the chain's consensus",
        f"  unpacked to {result.folder}: {names}",
    ]


def preview(results: Sequence[Result], *, colours: bool) -> list[str]:
    """A look at the results: their pictures where they can be shown, or the first lines of a text."""
    paths = [result.folder / name for result in results for name in result.files]
    pictures = [path for path in paths if path.suffix.lower() == ".png"]
    if pictures and colours:
        return picture_preview(pictures)
    texts = [path for path in paths if path.suffix.lower() in TEXT_SUFFIXES and path.name != NOT_SHOWN]
    if not texts:
        return []
    first = min(texts, key=lambda path: TEXT_SUFFIXES.index(path.suffix.lower()))
    return [f"{first}:", *(f"  {line}" for line in _first_lines(first))]


def picture_preview(paths: Sequence[Path]) -> list[str]:
    """Pictures as half blocks: side by side when they are equally high, else the first one."""
    size = shutil.get_terminal_size()
    try:
        pictures = [_picture(path) for path in paths]
        try:
            whole = side_by_side(pictures)
        except InputError:
            whole = pictures[0]
    except InputError as problem:
        return [f"no preview of {paths[0].name}: {problem}"]
    return half_blocks(scaled(whole, min(size.columns - 1, 120), max(8, size.lines - 4)))


def _picture(path: Path) -> Picture:
    if path.stat().st_size > PREVIEW_FILES_MOST:
        raise InputError(f"{path.name} is large", code="large-picture", next_step="open it in a viewer")
    return read_png(path.read_bytes())


def _first_lines(path: Path) -> list[str]:
    with path.open(encoding="utf-8", errors="replace") as text:
        found = [
            line.rstrip("\n")[:PREVIEW_COLUMNS] for line, _ in zip(text, range(PREVIEW_LINES), strict=False)
        ]
        more = text.readline()
    printable = ["".join(c if c.isprintable() else " " for c in line) for line in found]
    return [*printable, "…"] if more else printable


# --- the ledger ---------------------------------------------------------------------------------------------


def ledger_lines(lines: Sequence[Line], expected: Sequence[Movement], first: int, last: int) -> list[str]:
    """The ledger as a table in RLC and ETH: each account before and after, and why.

    What `expected` says of this deal is told apart where other deals moved money in the same blocks.
    """
    rows = [("", "", "wallet", "free stake", "locked", "together", "gas, ETH")]
    for line in lines:
        rows.append((line.name, "before", *_amounts(line.before), ""))
        rows.append(("", "after", *_amounts(line.after), format_ether(line.gas) if line.gas else ""))
    before, after = (_sum([getattr(line, side) for line in lines]) for side in ("before", "after"))
    rows.append(("all", "before", *_amounts(before), ""))
    rows.append(("", "after", *_amounts(after), ""))
    widths = [max(len(row[column]) for row in rows) for column in range(7)]
    table = [_row(row, widths) for row in rows]
    found = [f"Ledger of blocks {first} to {last}, in RLC", table[0]]
    for number, line in enumerate(lines):
        found += table[1 + 2 * number : 3 + 2 * number]
        all_of_it = _reasons(line.movements)
        of_deal = _reasons([each for each in expected if each.account == line.address])
        found.append(f"{'':{widths[0]}}  {all_of_it}")
        if all_of_it != of_deal:
            found.append(f"{'':{widths[0]}}  of which this deal: {of_deal}")
    return [*found, *table[-2:]]


def _reasons(moved: Sequence[Movement]) -> str:
    sums = by_reason(moved)
    told = ", ".join(f"{reason} {format_rlc(amount)}" for reason, amount in sums.items())
    return told or "nothing moved"


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    align: list[Callable[[str, int], str]] = [str.ljust, str.ljust, *[str.rjust] * 5]
    return "  ".join(
        place(cell, width) for place, cell, width in zip(align, cells, widths, strict=True)
    ).rstrip()


def _amounts(balance: Balance) -> tuple[str, str, str, str]:
    return (
        format_rlc(balance.wallet),
        format_rlc(balance.stake),
        format_rlc(balance.locked),
        format_rlc(balance.total),
    )


def _sum(balances: Sequence[Balance]) -> Balance:
    return Balance(
        wallet=NRlc(sum(each.wallet for each in balances)),
        stake=NRlc(sum(each.stake for each in balances)),
        locked=NRlc(sum(each.locked for each in balances)),
        ether=Wei(sum(each.ether for each in balances)),
    )
