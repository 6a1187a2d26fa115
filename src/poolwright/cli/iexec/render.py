"""Values as text for people: trees of keys, tables, shortened ids. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SHORT_HEAD, SHORT_TAIL = 6, 4
"""Letters of a shortened address before and after its dots."""


def tree(value: Any, indent: int = 0) -> str:
    """A value as indented `key: value` lines, lists with dashes."""
    return "\n".join(_lines(value, " " * indent))


def table(header: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = ()) -> str:
    """Columns as wide as their widest cell; those named in `right` are aligned to the right."""
    cells = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]

    def line(row: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if name in right else cell.ljust(width)
            for cell, width, name in zip(row, widths, header, strict=True)
        )
        return "  ".join(padded).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join([line(cells[0]), rule, *map(line, cells[1:])])


def short(hex_id: str) -> str:
    """0x1234…abcd of an address or hash; shorter ones as they are."""
    if len(hex_id) <= SHORT_HEAD + SHORT_TAIL + 1:
        return hex_id
    return f"{hex_id[:SHORT_HEAD]}…{hex_id[-SHORT_TAIL:]}"


def bar(text: str, done: int, total: int, elapsed: float, *, width: int = 24) -> str:
    """A progress bar with percentage and the seconds that are left, judged by `elapsed` seconds.

    Without a total only what is done, in bytes.
    """
    if not total:
        return f"{text} {done:,} bytes"
    share = min(done / total, 1.0)
    full = int(share * width)
    left = f"{elapsed * (1 - share) / share:.0f} s left" if share else "…"
    return f"{text} [{'#' * full}{'.' * (width - full)}] {share:4.0%} {left}"


def _lines(value: Any, margin: str) -> list[str]:
    if isinstance(value, Mapping):
        width = max((len(str(key)) for key in value), default=0)
        lines: list[str] = []
        for key, part in value.items():
            if _is_leaf(part):
                lines.append(f"{margin}{f'{key}:'.ljust(width + 1)} {_leaf(part)}".rstrip())
            else:
                lines += [f"{margin}{key}:", *_lines(part, margin + "  ")]
        return lines
    if isinstance(value, (list, tuple)):
        lines = []
        for part in value:
            if _is_leaf(part):
                lines.append(f"{margin}- {_leaf(part)}".rstrip())
            else:
                first, *rest = _lines(part, margin + "  ")
                lines += [f"{margin}- {first.lstrip()}", *rest]
        return lines
    return [f"{margin}{_leaf(value)}"]


def _is_leaf(value: Any) -> bool:
    return not isinstance(value, (Mapping, list, tuple)) or not value


def _leaf(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case dict():
            return "{}"
        case list() | tuple():
            return "[]"
        case _:
            return str(value)
