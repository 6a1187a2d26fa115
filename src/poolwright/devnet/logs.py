"""The logs of the parts: their last lines, and the next ones as they come."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from poolwright.devnet.folder import StateFolder
from poolwright.poco.errors import InputError

FOLLOW_PAUSE_SECONDS = 0.2
CHUNK_BYTES = 64 * 1024


def read(folder: StateFolder, part: str | None, *, lines: int, follow: bool) -> Iterator[str]:
    """Yield the last `lines` of one part's log, or of each; then, when following, every new line.

    Lines of several parts carry the part's name. Raises InputError when there is no such log.
    """
    paths = _paths(folder, part)
    width = max(len(path.stem) for path in paths)
    offsets = {}
    for path in paths:
        offsets[path] = path.stat().st_size
        yield from (_named(path, line, part, width) for line in last_lines(path, lines))
    while follow:
        for path in _paths(folder, part):
            fresh, offsets[path] = _since(path, offsets.get(path, 0))
            yield from (_named(path, line, part, width) for line in fresh)
        time.sleep(FOLLOW_PAUSE_SECONDS)


def last_lines(path: Path, count: int, *, chunk_bytes: int = CHUNK_BYTES) -> list[str]:
    """The last `count` lines, reading the file from its end in chunks."""
    if count == 0:
        return []
    with path.open("rb") as file:
        position = file.seek(0, 2)
        text = b""
        while position > 0 and text.count(b"\n") <= count:
            size = min(chunk_bytes, position)
            position -= size
            file.seek(position)
            text = file.read(size) + text
    return text.decode(errors="replace").splitlines()[-count:]


def _since(path: Path, offset: int) -> tuple[list[str], int]:
    """The whole lines written after `offset`, and where the next ones start. A log that was emptied, because
    it had grown too long, is read from its start."""
    with path.open("rb") as file:
        end = file.seek(0, 2)
        file.seek(offset if offset <= end else 0)
        start = file.tell()
        whole, newline, _ = file.read().rpartition(b"\n")
    return whole.decode(errors="replace").splitlines(), start + len(whole) + len(newline)


def _paths(folder: StateFolder, part: str | None) -> list[Path]:
    logs = sorted((folder.root / "logs").glob("*.log"))
    if part is None and logs:
        return [path for path in logs if not path.stem.endswith(".out")]
    found = [path for path in logs if path.stem == part]
    if not found:
        known = ", ".join(path.stem for path in logs if not path.stem.endswith(".out"))
        raise InputError(
            f"there is no log of {part or 'any part'} in {folder.root / 'logs'}",
            code="no-log",
            expected=f"one of: {known}" if known else "a network that was up",
            next_step="" if known else "start one with `poolwright up`",
        )
    return found


def _named(path: Path, line: str, part: str | None, width: int) -> str:
    return line if part else f"{path.stem.ljust(width)} | {line}"
