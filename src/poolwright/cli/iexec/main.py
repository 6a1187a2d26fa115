"""`iexec`: the frame. It names the nouns and loads the one that is called.

`iexec --version` answers without loading anything; the list of nouns below is what `iexec --help` shows, so
that it loads none of them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Final

from poolwright import __version__

if TYPE_CHECKING:
    import click

INTERRUPTED: Final = 130
"""Exit code of a command ended by Ctrl-C, as shells have it: 128 + SIGINT."""

NOUNS: Final = {
    "init": "Start a project: iexec.json, chain.json and a wallet.",
    "info": "Show the chain's contracts.",
    "wallet": "Make and show wallets, send RLC and ether.",
    "account": "RLC inside the hub: deposit, withdraw, approve.",
    "app": "Describe, deploy, show and transfer apps.",
    "dataset": "Describe, encrypt, deploy, show and transfer datasets.",
    "workerpool": "Describe, deploy, show and transfer workerpools.",
    "category": "Size classes of tasks.",
    "order": "Write, sign, publish, match and cancel orders.",
    "orderbook": "The marketplace's open orders.",
    "deal": "Show deals, get the money of failed ones back.",
    "task": "Show, debug and claim tasks, download their results.",
}
"""The module `nouns.<noun>` holds the command `COMMAND` of the noun."""


def main(words: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    words = sys.argv[1:] if words is None else words
    if list(words) in (["--version"], ["-V"]):
        print(__version__)  # noqa: T201  at once, without loading a command
        return
    try:
        root()(list(words))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def root() -> click.Group:
    """The root command; its nouns are loaded when they are called."""
    import click

    from poolwright.cli.iexec.command import TheirGroup

    class Root(TheirGroup):
        def list_commands(self, ctx: click.Context) -> list[str]:
            return list(NOUNS)

        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
            if cmd_name not in NOUNS:
                return None
            command = import_module(f"poolwright.cli.iexec.nouns.{cmd_name}").COMMAND
            assert isinstance(command, click.Command)
            return command

        def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
            with formatter.section("Commands"):
                formatter.write_dl(list(NOUNS.items()))

    return Root(
        name="iexec",
        help="Manage wallets, apps, datasets, workerpools and their orders on the iExec network.\n\n"
        'Shell completion: eval "$(_IEXEC_COMPLETE=bash_source iexec)" (or zsh_source, fish_source).',
        params=[click.Option(["--version", "-V"], is_flag=True, help="Print the version and exit.")],
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
