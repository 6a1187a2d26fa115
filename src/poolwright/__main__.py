"""`poolwright` and `python -m poolwright`: the one place that knows all doors and opens the right one.

The doors do not know each other: `cli` has the frame and the daemons, `devnet` the local network.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from poolwright import __version__

FORKED_COMMANDS = (
    "poolwright.cli.main",
    "poolwright.devnet.commands",
    "poolwright.results.service",
    "poolwright.daemons.worker",
    "poolwright.daemons.scheduler",
    "poolwright.market.service",
    # and what these load as they start
    "poolwright.chain.aiohttp_carrier",
    "uvicorn.lifespan.off",
    "uvicorn.protocols.websockets.websockets_sansio_impl",
    "uvloop",
)
"""What the local network's fork server loads: the commands that it will run."""

FORK_SERVER = "fork-server"
"""The first word of `devnet.fork_server.COMMAND`, which is for no person to type."""

INTERRUPTED = 130
"""Exit code of a command ended by Ctrl-C, as shells have it: 128 + SIGINT."""


def main(words: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    words = list(sys.argv[1:] if words is None else words)
    if words == ["--version"]:
        print(f"poolwright {__version__}")  # noqa: T201  at once, without loading a command
        return
    try:
        if words[:1] == [FORK_SERVER]:
            from poolwright.devnet import fork_server

            words = fork_server.serve(int(words[1]), FORKED_COMMANDS)
        from poolwright.cli.main import run
        from poolwright.devnet import commands

        run(words, commands.add_to)
    except KeyboardInterrupt:  # also while the commands are still being loaded
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
