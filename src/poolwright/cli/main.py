"""`poolwright`: the door to everything. Commands are thin; what they do is imported when they do it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from poolwright import __version__
from poolwright.poco.errors import PoolwrightError

INTERRUPTED = 130
"""Exit code of a command ended by Ctrl-C, as shells have it: 128 + SIGINT."""


def main(words: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code.

    The one place where errors become words: an error that we raise on purpose is its message on standard
    error and its exit code, without a traceback; a bug of ours keeps its traceback.
    """
    words = list(sys.argv[1:] if words is None else words)
    if words == ["--version"]:
        print(f"poolwright {__version__}")  # noqa: T201  the door is where we speak
        return
    from poolwright.cli.commands import application

    try:
        application()(words, prog_name="poolwright")  # wrong usage: Typer says so and exits with 2
    except PoolwrightError as problem:
        print(f"error: {problem}", file=sys.stderr)  # noqa: T201
        sys.exit(problem.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
