"""`poolwright demo`: the command; what it does is in `demo`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

APPS = ("mandelbrot-poster", "clock-history")
"""The same as `devnet.examples.EXAMPLES`; said here so that `--help` need not import it."""


def demo(
    state: Annotated[
        Path, typer.Option("--state", metavar="DIR", help="Folder in which the network lives.")
    ] = Path(".poolwright"),
    app: Annotated[str, typer.Option(help=f"Example app: {' or '.join(APPS)}.")] = APPS[0],
    arguments: Annotated[str | None, typer.Option("--args", help="Other arguments for the app.")] = None,
    tasks: Annotated[int, typer.Option(help="How many tasks the bag has.")] = 3,
    trust: Annotated[int, typer.Option(help="Confidence asked for; 2 workers agree for 4.")] = 1,
    category: Annotated[int, typer.Option(help="Size class of the tasks, 0 (XS) to 4 (XL).")] = 0,
    price: Annotated[str, typer.Option(help="RLC per task for the workerpool.")] = "1",
    timeout: Annotated[float | None, typer.Option(help="Give up after so many seconds.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave a network up that this started.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: one document at the end.")] = False,
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
        typer.echo(json.dumps(document(outcome), indent=2))
