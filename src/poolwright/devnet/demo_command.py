"""`poolwright demo`: the command; what it does is in `demo`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

APPS = ("mandelbrot-poster", "clock-history")
"""The same as `devnet.examples.EXAMPLES`; said here so that `--help` need not import it."""


@click.command("demo")
@click.option(
    "--state",
    metavar="DIR",
    type=click.Path(path_type=Path),
    default=".poolwright",
    help="Folder in which the network lives.",
)
@click.option("--app", default=APPS[0], help=f"Example app: {' or '.join(APPS)}.")
@click.option("--args", "arguments", help="Other arguments for the app.")
@click.option("--tasks", default=3, help="How many tasks the bag has.")
@click.option("--trust", default=1, help="Confidence asked for; 2 workers agree for 4.")
@click.option("--category", default=0, help="Size class of the tasks, 0 (XS) to 4 (XL).")
@click.option("--price", default="1", help="RLC per task for the workerpool.")
@click.option("--timeout", type=float, help="Give up after so many seconds.")
@click.option("--keep", is_flag=True, help="Leave a network up that this started.")
@click.option("--json", "as_json", is_flag=True, help="For programs: one document at the end.")
def demo(
    state: Path,
    app: str,
    arguments: str | None,
    tasks: int,
    trust: int,
    category: int,
    price: str,
    timeout: float | None,
    keep: bool,
    as_json: bool,
) -> None:
    """Pay a worker for a real task: orders, deal, timeline, results, ledger.

    Uses the network that is up in the folder; when none is, starts one and ends it afterwards.
    """
    from rich.console import Console

    from poolwright.devnet import demo as demos
    from poolwright.devnet import examples
    from poolwright.devnet.amounts import parse_rlc
    from poolwright.devnet.dealing import Terms
    from poolwright.devnet.demo_outcome import document
    from poolwright.devnet.demo_view import Display, LiveDisplay, PlainDisplay
    from poolwright.poco.types import NRlc

    options = demos.DemoOptions(
        state=state,
        app=app,
        terms=Terms(
            tasks=tasks,
            trust=trust,
            category=category,
            arguments=examples.find(app).arguments if arguments is None else arguments,
            app_price=NRlc(10**8),
            dataset_price=NRlc(5 * 10**7),
            pool_price=parse_rlc(price, "option --price"),
        ),
        timeout_seconds=timeout,
        keep=keep,
    )
    console = Console(highlight=False)
    is_live = console.is_terminal and not as_json
    display: Display = (
        LiveDisplay(console) if is_live else PlainDisplay(sys.stderr if as_json else sys.stdout)
    )
    outcome = demos.run(options, display)
    if as_json:
        click.echo(json.dumps(document(outcome), indent=2))
