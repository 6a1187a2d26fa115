"""`poolwright scheduler|worker|results|market …`: the daemons, configured through their environment."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from poolwright.cli import workers

if TYPE_CHECKING:
    from poolwright.daemons.checks import Finding
    from poolwright.daemons.config import SchedulerConfig
    from poolwright.daemons.resync import Resynced
    from poolwright.poco.types import BlockNumber

JsonOption = Annotated[bool, typer.Option("--json", help="For programs.")]


def add_to(app: typer.Typer) -> None:
    """Add the daemons' commands."""
    verbs: dict[str, tuple[str, dict[str, Callable[..., None]]]] = {
        "scheduler": (
            "The scheduler of one workerpool.",
            {
                "run": run_scheduler,
                "check": check_scheduler,
                "resync": resync_scheduler,
                **workers.verbs(),
            },
        ),
        "worker": ("A worker of a workerpool.", {"run": run_worker, "check": check_worker}),
        "results": ("The result repository.", {"run": run_results}),
        "market": ("The marketplace of signed orders.", {"run": run_market}),
    }
    for name, (help_text, commands) in verbs.items():
        daemon = typer.Typer(help=help_text, no_args_is_help=True)
        daemon.callback()(_group)
        for verb, command in commands.items():
            daemon.command(verb)(command)
        app.add_typer(daemon, name=name)


def _group() -> None:
    """A noun on its own does nothing; its verbs do."""


def run_scheduler() -> None:
    """Run the scheduler in the foreground; settings are IEXEC_CORE_*, POOL_ADDRESS, ... (see docs)."""
    from poolwright.daemons.config import scheduler_config
    from poolwright.daemons.scheduler import run

    run(scheduler_config(os.environ))


def check_scheduler(as_json: JsonOption = False) -> None:
    """Test what the scheduler needs, before it starts or beside it: exit code 1 when something failed."""
    from poolwright.daemons import checks

    _report(asyncio.run(checks.check_scheduler(os.environ)), as_json=as_json)


def check_worker(as_json: JsonOption = False) -> None:
    """Test what the worker needs, before it starts or beside it: exit code 1 when something failed."""
    from poolwright.daemons import checks

    _report(asyncio.run(checks.check_worker(os.environ)), as_json=as_json)


def resync_scheduler(
    first: Annotated[int, typer.Option("--from", metavar="BLOCK", min=0, help="The next block to read.")],
    skip: Annotated[bool, typer.Option("--skip", help="Skip blocks that were not read, for good.")] = False,
) -> None:
    """Let a stopped scheduler read the chain from another block on when it starts again.

    Reading blocks again changes nothing that is known. Skipping some must be asked for.
    """
    from poolwright.daemons.config import scheduler_config
    from poolwright.poco.types import BlockNumber

    for line in _resync_lines(asyncio.run(_resync(scheduler_config(os.environ), BlockNumber(first), skip))):
        typer.echo(line)


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
        typer.echo(json.dumps(rows, indent=2))
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            step = f" -> {finding.next_step}" if finding.next_step else ""
            typer.echo(f"{finding.verdict:<8} {finding.name:<{width}}  {finding.message}{step}")
    if any(finding.verdict is Verdict.FAILED for finding in findings):
        raise typer.Exit(1)


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
