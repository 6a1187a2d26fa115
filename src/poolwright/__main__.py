"""`poolwright` and `python -m poolwright`: the one place that knows all doors and opens the right one.

The doors do not know each other: `cli` has the frame and the daemons, `devnet` the local network.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from poolwright import __version__

INTERRUPTED = 130
"""Exit code of a command ended by Ctrl-C, as shells have it: 128 + SIGINT."""


def main(words: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    words = sys.argv[1:] if words is None else words
    if list(words) == ["--version"]:
        print(f"poolwright {__version__}")  # noqa: T201  at once, without loading a command
        return
    try:
        from poolwright.cli.main import run
        from poolwright.devnet import commands

        run(words, commands.add_to)
    except KeyboardInterrupt:  # also while the commands are still being loaded
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
