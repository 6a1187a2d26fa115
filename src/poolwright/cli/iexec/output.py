"""How a command's outcome is told: one line of JSON to programs (`--raw`), words and tables to people.

    outcome        --raw                                  people
    success        {"ok":true,…} on stdout, exit 0        text and values on stdout, exit 0
    partly failed  {"ok":false,…} on stderr, exit 0       the same on stderr, exit 1
    failure        {"ok":false,"command",…} on stderr     Command "…" failed with …, on stderr; exit 1 in both

The official client ends a partly failed command with 0 and scripts know it, so `--raw` keeps that; for people
a failure is a failure.  Spinners, notes and questions go to stderr, so that stdout can be piped.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TextIO

from poolwright.cli.iexec.errors import message_of, name_of
from poolwright.cli.iexec.render import bar, tree
from poolwright.poco.errors import PoolwrightError

FRAMES: Final = "|/-\\"
FRAME_SECONDS: Final = 0.1
SPINNER_AFTER_SECONDS: Final = 0.3
"""What is quicker than that shows no spinner."""

BAR_AFTER_SECONDS: Final = 1.0
"""What is quicker than that shows no progress bar."""

_GREEN: Final = "32"
_RED: Final = "31"
_YELLOW: Final = "33"


class Progress(Protocol):
    """Tells how many bytes are done, and of how many when that was not known before."""

    def __call__(self, done: int, whole: int = ...) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a command found or did."""

    text: str = ""
    """For people: what happened, one or more lines."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """For programs: what `--raw` prints beside `ok`."""
    shown: Any = None
    """For people, below the text: a value as a tree, or a ready text such as a table."""
    ok: bool = True
    """False when a part of it failed; the parts are in `fields`."""


class Output:
    """Tells one command's outcome.

    Args:
        raw: JSON for programs instead of words.
        stdout: where outcomes go.
        stderr: where failures, notes and spinners go.
    """

    def __init__(
        self, *, raw: bool = False, stdout: TextIO | None = None, stderr: TextIO | None = None
    ) -> None:
        self.raw: Final = raw
        self._stdout = sys.stdout if stdout is None else stdout
        self._stderr = sys.stderr if stderr is None else stderr

    def tell(self, outcome: Outcome) -> int:
        """Tell an outcome; returns the exit code."""
        if self.raw:
            stream = self._stdout if outcome.ok else self._stderr
            _line(stream, raw_json({"ok": outcome.ok, **outcome.fields}))
            return 0
        stream, mark, colour = (self._stdout, "✔", _GREEN) if outcome.ok else (self._stderr, "✖", _RED)
        if outcome.text:
            _line(stream, f"{paint(stream, mark, colour)} {outcome.text}")
        if outcome.shown is not None:
            _line(stream, outcome.shown if isinstance(outcome.shown, str) else tree(outcome.shown))
        return 0 if outcome.ok else 1

    def fail(self, command: str, problem: PoolwrightError) -> int:
        """Tell a failure of `command` ("iexec app deploy"); returns the exit code."""
        if self.raw:
            error = {"name": name_of(problem), "message": message_of(problem)}
            _line(self._stderr, raw_json({"ok": False, "command": command, "error": error}))
        else:
            mark = paint(self._stderr, "✖", _RED)
            _line(self._stderr, f'{mark} Command "{command}" failed with {name_of(problem)}: {problem}')
        return 1

    def note(self, text: str) -> None:
        """Tell people something on the way; programs are not told."""
        if not self.raw:
            _line(self._stderr, f"{paint(self._stderr, 'ℹ', _GREEN)} {text}")

    def warn(self, text: str) -> None:
        """Warn people; programs are not told."""
        if not self.raw:
            _line(self._stderr, f"{paint(self._stderr, '⚠', _YELLOW)} {text}")

    @contextmanager
    def working(self, text: str) -> Iterator[None]:
        """Show people on a terminal that something takes its time."""
        if self.raw or not self._stderr.isatty():
            yield
            return
        done = threading.Event()
        spinner = threading.Thread(target=self._spin, args=(text, done), daemon=True)
        spinner.start()
        try:
            yield
        finally:
            done.set()
            spinner.join()

    @contextmanager
    def progress(self, text: str, total: int = 0) -> Iterator[Progress]:
        """Show people on a terminal how far a long work is; the caller tells how much of it is done."""
        started = time.monotonic()
        shown_at = started

        def told(done: int, whole: int = total) -> None:
            nonlocal shown_at
            now = time.monotonic()
            if now - started < BAR_AFTER_SECONDS or now - shown_at < FRAME_SECONDS:
                return
            shown_at = now
            self._stderr.write(f"\r{bar(text, done, whole, now - started)}\x1b[K")
            self._stderr.flush()

        if self.raw or not self._stderr.isatty():
            yield lambda done, whole=total: None
            return
        try:
            yield told
        finally:
            if shown_at != started:
                self._stderr.write("\r\x1b[K")
                self._stderr.flush()

    def _spin(self, text: str, done: threading.Event) -> None:
        if done.wait(SPINNER_AFTER_SECONDS):
            return
        count = 0
        with suppress(OSError, ValueError):  # the terminal went away
            while True:
                self._stderr.write(f"\r{FRAMES[count % len(FRAMES)]} {text}")
                self._stderr.flush()
                count += 1
                if done.wait(FRAME_SECONDS):
                    break
            self._stderr.write("\r\x1b[K")
            self._stderr.flush()


def raw_json(value: Any) -> str:
    """JSON in one line without spaces, as the official client prints it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def paint(stream: TextIO, text: str, colour: str) -> str:
    """Colour on a terminal that wants it, plain text elsewhere."""
    plain = not stream.isatty() or "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    return text if plain else f"\x1b[{colour}m{text}\x1b[0m"


def _line(stream: TextIO, text: str) -> None:
    stream.write(f"{text}\n")
    stream.flush()
