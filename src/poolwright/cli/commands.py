"""All commands of `poolwright`, one module per noun."""

from __future__ import annotations

import typer

from poolwright.cli import daemons, network


def application() -> typer.Typer:
    """The root command with everything under it."""
    app = typer.Typer(
        name="poolwright",
        help="The workerpool side of the iExec network, and a whole local network in one command.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    network.add_to(app)
    daemons.add_to(app)
    return app


def _root(
    version: bool = typer.Option(False, "--version", help="Print the version and exit.", is_eager=True),
) -> None:
    if version:
        from poolwright import __version__

        typer.echo(f"poolwright {__version__}")
        raise typer.Exit
