"""`poolwright scheduler|worker|results|market …`: the daemons, configured through their environment."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from poolwright.cli import workers

if TYPE_CHECKING:
    from poolwright.daemons.checks import Finding
    from poolwright.daemons.config import SchedulerConfig
    from poolwright.daemons.resync import Resynced
    from poolwright.poco.types import BlockNumber

json_option = click.option("--json", "as_json", is_flag=True, help="For programs.")


def add_to(root: click.Group) -> None:
    """Add the daemons' commands."""
    for group in (scheduler, worker, results, market):
        root.add_command(group)
    workers.add_to(scheduler)


@click.group("scheduler")
def scheduler() -> None:
    """The scheduler of one workerpool."""


@click.group("worker")
def worker() -> None:
    """A worker of a workerpool."""


@click.group("results")
def results() -> None:
    """The result repository."""


@click.group("market")
def market() -> None:
    """The marketplace of signed orders."""


@scheduler.command("run")
def run_scheduler() -> None:
    """Run the scheduler in the foreground; settings are IEXEC_CORE_*, POOL_ADDRESS, ... (see docs)."""
    from poolwright.daemons.config import scheduler_config
    from poolwright.daemons.scheduler import run

    run(scheduler_config(os.environ))


@scheduler.command("check")
@json_option
def check_scheduler(as_json: bool) -> None:
    """Test what the scheduler needs, before it starts or beside it: exit code 1 when something failed."""
    from poolwright.daemons import checks

    _report(asyncio.run(checks.check_scheduler(os.environ)), as_json=as_json)


@worker.command("check")
@json_option
def check_worker(as_json: bool) -> None:
    """Test what the worker needs, before it starts or beside it: exit code 1 when something failed."""
    from poolwright.daemons import checks

    _report(asyncio.run(checks.check_worker(os.environ)), as_json=as_json)


@scheduler.command("resync")
@click.option(
    "--from",
    "first",
    metavar="BLOCK",
    type=click.IntRange(min=0),
    required=True,
    help="The next block to read.",
)
@click.option("--skip", is_flag=True, help="Skip blocks that were not read, for good.")
def resync_scheduler(first: int, skip: bool) -> None:
    """Let a stopped scheduler read the chain from another block on when it starts again.

    Reading blocks again changes nothing that is known. Skipping some must be asked for.
    """
    from poolwright.daemons.config import scheduler_config
    from poolwright.poco.types import BlockNumber

    for line in _resync_lines(asyncio.run(_resync(scheduler_config(os.environ), BlockNumber(first), skip))):
        click.echo(line)


async def _resync(config: SchedulerConfig, first: BlockNumber, skip: bool) -> Resynced:
    from poolwright.chain.blocks import check_chain
    from poolwright.chain.rpc import Rpc
    from poolwright.daemons.resync import held_store, resync

    async with Rpc(config.chain.rpc_urls) as rpc:
        await check_chain(rpc, config.chain.chain_id, config.chain.hub)
        async with held_store(config) as store:
            return await resync(store, rpc, config.chain, config.workerpool, first, skip=skip)


def _resync_lines(done: Resynced) -> list[str]:
    before = "nothing" if done.before is None else f"up to block {done.before.number}"
    lines = [f"The chain had been read {before}; the scheduler reads on from block {done.first}."]
    return [*lines, f"WARNING: {done.skipped}."] if done.skipped else lines


def _report(findings: Sequence[Finding], *, as_json: bool) -> None:
    """One line for each finding; exit code 1 when one of them is a failure."""
    from poolwright.daemons.checks import Verdict

    if as_json:
        rows = [
            {"name": f.name, "verdict": f.verdict, "message": f.message, "nextStep": f.next_step}
            for f in findings
        ]
        click.echo(json.dumps(rows, indent=2))
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            step = f" -> {finding.next_step}" if finding.next_step else ""
            click.echo(f"{finding.verdict:<8} {finding.name:<{width}}  {finding.message}{step}")
    if any(finding.verdict is Verdict.FAILED for finding in findings):
        sys.exit(1)


@worker.command("run")
def run_worker() -> None:
    """Run a worker in the foreground; settings are IEXEC_WORKER_*, POOL_ADDRESS, ... (see docs)."""
    from poolwright.daemons.config import worker_config
    from poolwright.daemons.worker import run

    run(worker_config(os.environ))


@results.command("run")
def run_results() -> None:
    """Run the result repository in the foreground; settings are IEXEC_RESULT_PROXY_*, ... (see docs)."""
    from poolwright.results.config import from_environment
    from poolwright.results.service import run

    run(from_environment(os.environ))


@market.command("run")
def run_market() -> None:
    """Run the marketplace in the foreground; settings are CHAINS, <NAME>_CHAIN_ID, PORT, ... (see docs)."""
    from poolwright.market.config import from_environment
    from poolwright.market.service import run

    run(from_environment(os.environ))
