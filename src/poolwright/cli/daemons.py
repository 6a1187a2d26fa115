"""`poolwright scheduler|worker|results|market run`: the daemons, configured through their environment."""

from __future__ import annotations

import os

import typer


def add_to(app: typer.Typer) -> None:
    """Add the daemons' commands."""
    for name, run, help_text in (
        ("scheduler", run_scheduler, "The scheduler of one workerpool."),
        ("worker", run_worker, "A worker of a workerpool."),
        ("results", run_results, "The result repository."),
        ("market", run_market, "The marketplace of signed orders."),
    ):
        daemon = typer.Typer(help=help_text, no_args_is_help=True)
        daemon.callback()(_group)
        daemon.command("run")(run)
        app.add_typer(daemon, name=name)


def _group() -> None:
    """A noun on its own does nothing; its verbs do."""


def run_scheduler() -> None:
    """Run the scheduler in the foreground; settings are IEXEC_CORE_*, POOL_ADDRESS, ... (see docs)."""
    from poolwright.daemons.config import scheduler_config
    from poolwright.daemons.scheduler import run

    run(scheduler_config(os.environ))


def run_worker() -> None:
    """Run a worker in the foreground; settings are IEXEC_WORKER_*, POOL_ADDRESS, ... (see docs)."""
    from poolwright.daemons.config import worker_config
    from poolwright.daemons.worker import run

    run(worker_config(os.environ))


def run_results() -> None:
    """Run the result repository in the foreground; settings are IEXEC_RESULT_PROXY_*, ... (see docs)."""
    from poolwright.results.config import from_environment
    from poolwright.results.service import run

    run(from_environment(os.environ))


def run_market() -> None:
    """Run the marketplace in the foreground; settings are CHAINS, <NAME>_CHAIN_ID, PORT, ... (see docs)."""
    from poolwright.market.config import from_environment
    from poolwright.market.service import run

    run(from_environment(os.environ))
