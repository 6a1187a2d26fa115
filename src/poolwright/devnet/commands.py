"""`poolwright setup|up|down|status|logs|env|demo`: the local network's commands, added to the command line.

Each imports what it does when it does it: the daemons start through the same program, and quickly.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from poolwright.devnet.demo_command import demo

state_option = click.option(
    "--state",
    metavar="DIR",
    type=click.Path(path_type=Path),
    default=".poolwright",
    help="Folder in which the network lives.",
)
"""Its default is `devnet.network.DEFAULT_FOLDER`; said here so that `--help` need not import it."""


def add_to(root: click.Group) -> None:
    """Add the network's commands."""
    for command in (setup, up, down, status, logs, env, demo):
        root.add_command(command)


@click.command("setup")
def setup() -> None:
    """Install what the local network needs: anvil, the official contracts, a container engine."""
    from poolwright.devnet import engine, toolchain

    tools = toolchain.ensure(click.echo)
    host = engine.ensure(click.echo)
    click.echo(f"Ready: chain tools in {tools.root}, container engine at {host}.")


@click.command("up")
@state_option
@click.option("--workers", default=2, help="How many workers.")
@click.option("--block-time", default=1.0, help="Seconds between blocks.")
@click.option("--chain-port", default=8545, help="Port of the chain; 0 = any free.")
@click.option("--results-port", default=13200, help="Port of the result repository; 0 = any free.")
@click.option("--scheduler-port", default=13000, help="Port of the scheduler; 0 = any free.")
@click.option("--market-port", default=3000, help="Port of the marketplace; 0 = any free.")
@click.option("--fresh", is_flag=True, help="Forget the network in the folder.")
@click.option("--detach", is_flag=True, help="Run in the background.")
def up(
    state: Path,
    workers: int,
    block_time: float,
    chain_port: int,
    results_port: int,
    scheduler_port: int,
    market_port: int,
    fresh: bool,
    detach: bool,
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


@click.command("down")
@state_option
def down(state: Path) -> None:
    """End the network, with every process and container of it."""
    from poolwright.devnet import network

    if network.down(state, say):
        say("The network is down.")
    else:
        say(f"No network is up in {state}.")


@click.command("status")
@state_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(state: Path, as_json: bool) -> None:
    """Show each part with its state, pid, restarts and URL. Exit code 1 when the network is not up."""
    from poolwright.devnet import network

    found = network.status(state)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        for line in status_lines(found):
            click.echo(line)
    if found["state"] != network.READY:
        sys.exit(1)


@click.command("logs")
@click.argument("part", required=False)
@state_option
@click.option("-f", "--follow", is_flag=True, help="Go on as lines come.")
@click.option("-n", "--lines", type=click.IntRange(min=0), default=50, help="How many old lines.")
def logs(part: str | None, state: Path, follow: bool, lines: int) -> None:
    """Show the logs of one part, or of all with the part's name before each line.

    Parts are chain, results, market, scheduler, worker-1, and so on.
    """
    from poolwright.devnet import logs as part_logs
    from poolwright.devnet.folder import StateFolder

    for line in part_logs.read(StateFolder(state.absolute()), part, lines=lines, follow=follow):
        say(line)


@click.command("env")
@click.argument("part")
@state_option
def env(part: str, state: Path) -> None:
    """Print a part's settings for a shell: eval "$(poolwright env scheduler)".

    Parts are scheduler, results, market, worker-1, and so on.
    """
    from poolwright.devnet.folder import StateFolder
    from poolwright.devnet.settings import export_lines, settings_of

    for line in export_lines(settings_of(StateFolder(state.absolute()), part)):
        say(line)


def say(line: str) -> None:
    """Print a line at once, also into a pipe."""
    click.echo(line)
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
