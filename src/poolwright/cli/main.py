"""The frame of the command line: how a command is run and how its errors are told.

Commands are thin, and what they do is imported when they do it, so that `poolwright --version` answers at
once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import click

from poolwright import __version__
from poolwright.cli import daemons, tasks
from poolwright.poco.errors import PoolwrightError


def run(words: Sequence[str], *add_commands: Callable[[click.Group], None]) -> None:
    """Run the command that `words` name and exit with its code.

    The one place where errors become words: an error that we raise on purpose is its message on standard
    error and its exit code, without a traceback; a bug of ours keeps its traceback. Wrong usage is told by
    click and is exit code 2.
    """
    try:
        application(*add_commands)(list(words), prog_name="poolwright")
    except PoolwrightError as problem:
        print(f"error: {problem}", file=sys.stderr)  # noqa: T201  the door is where we speak
        sys.exit(problem.exit_code)


def application(*add_commands: Callable[[click.Group], None]) -> click.Group:
    """The root command: the daemons, and what `add_commands` put beside them."""
    root = click.Group(
        "poolwright",
        help="The workerpool side of the iExec network, and a whole local network in one command.",
        no_args_is_help=True,
        context_settings={"show_default": True, "max_content_width": 100},
    )
    version = click.version_option(
        __version__, message="poolwright %(version)s", help="Print the version and exit."
    )
    for add_to in (*add_commands, daemons.add_to, tasks.add_to):
        add_to(root)
    return version(root)
