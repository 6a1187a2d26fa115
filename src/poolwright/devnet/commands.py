"""`poolwright setup|up|down|status|logs|env|demo`: the local network's commands, added to the command line.

Each imports what it does when it does it: the daemons start through the same program, and quickly.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from poolwright.devnet.demo_command import demo

StateOption = Annotated[
    Path, typer.Option("--state", metavar="DIR", help="Folder in which the network lives.")
]
DEFAULT_STATE = Path(".poolwright")
"""The same as `devnet.network.DEFAULT_FOLDER`; said here so that `--help` need not import it."""


def add_to(app: typer.Typer) -> None:
    """Add the network's commands."""
    app.command()(setup)
    app.command()(up)
    app.command()(down)
    app.command()(status)
    app.command()(logs)
    app.command()(env)
    app.command()(demo)


def setup() -> None:
    """Install what the local network needs: anvil, the official contracts, a container engine."""
    from poolwright.devnet import engine, toolchain

    tools = toolchain.ensure(typer.echo)
    host = engine.ensure(typer.echo)
    typer.echo(f"Ready: chain tools in {tools.root}, container engine at {host}.")


def up(
    state: StateOption = DEFAULT_STATE,
    workers: Annotated[int, typer.Option(help="How many workers.")] = 2,
    block_time: Annotated[float, typer.Option(help="Seconds between blocks.")] = 1.0,
    chain_port: Annotated[int, typer.Option(help="Port of the chain; 0 = any free.")] = 8545,
    results_port: Annotated[int, typer.Option(help="Port of the result repository; 0 = any free.")] = 13200,
    scheduler_port: Annotated[int, typer.Option(help="Port of the scheduler; 0 = any free.")] = 13000,
    market_port: Annotated[int, typer.Option(help="Port of the marketplace; 0 = any free.")] = 3000,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget the network in the folder.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Run in the background.")] = False,
) -> None:
    """Start the whole network: chain, contracts, wallets, results, market, scheduler, workers.

    Runs until Ctrl-C or `poolwright down`, and continues where it stopped when started again.
    """
    from poolwright.devnet import network

    options = network.UpOptions(
        state=state,
        workers=workers,
        block_time=block_time,
        chain_port=chain_port,
        results_port=results_port,
        scheduler_port=scheduler_port,
        market_port=market_port,
        fresh=fresh,
    )
    if detach:
        network.up_detached(options, say)
    else:
        network.up(options, say)


def down(state: StateOption = DEFAULT_STATE) -> None:
    """End the network, with every process and container of it."""
    from poolwright.devnet import network

    if network.down(state, say):
        say("The network is down.")
    else:
        say(f"No network is up in {state}.")


def status(
    state: StateOption = DEFAULT_STATE,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show each part with its state, pid, restarts and URL. Exit code 1 when the network is not up."""
    from poolwright.devnet import network

    found = network.status(state)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        for line in status_lines(found):
            typer.echo(line)
    if found["state"] != network.READY:
        raise typer.Exit(1)


def logs(
    part: Annotated[
        str | None, typer.Argument(help="chain, results, market, scheduler, worker-1, ...")
    ] = None,
    state: StateOption = DEFAULT_STATE,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as lines come.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", help="How many old lines.", min=0)] = 50,
) -> None:
    """Show the logs of one part, or of all with the part's name before each line."""
    from poolwright.devnet import logs as part_logs
    from poolwright.devnet.folder import StateFolder

    for line in part_logs.read(StateFolder(state.absolute()), part, lines=lines, follow=follow):
        say(line)


def env(
    part: Annotated[str, typer.Argument(help="scheduler, results, market, worker-1, ...")],
    state: StateOption = DEFAULT_STATE,
) -> None:
    """Print a part's settings for a shell: eval "$(poolwright env scheduler)"."""
    from poolwright.devnet.folder import StateFolder
    from poolwright.devnet.settings import export_lines, settings_of

    for line in export_lines(settings_of(StateFolder(state.absolute()), part)):
        say(line)


def say(line: str) -> None:
    """Print a line at once, also into a pipe."""
    typer.echo(line)
    sys.stdout.flush()


def status_lines(found: dict[str, Any]) -> list[str]:
    """The status as a table."""
    lines = [f"network {found['network'] or '-'} in {found['folder']}: {found['state']}"]
    if not found["parts"]:
        return lines
    rows = [("part", "state", "pid", "restarts", "url")]
    rows += [
        (part["name"], part["state"], str(part["pid"] or "-"), str(part["restarts"]), part["url"] or "-")
        for part in found["parts"]
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines += [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return lines
