"""`poolwright scheduler workers|drain|resume|allow|bar|owner`: who computes for the pool, and who may."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from typing import Annotated, Any

import typer

from poolwright.poco.types import Address

UrlOption = Annotated[
    str,
    typer.Option(
        "--url",
        metavar="URL",
        help="Of the scheduler; else IEXEC_CORE_HOST and IEXEC_CORE_PORT say where it is.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="For programs.")]
WorkerArgument = Annotated[str, typer.Argument(metavar="WALLET", help="The worker's address.")]
COLUMNS = ("wallet", "name", "owner", "version", "slots", "cpus", "memory", "offers", "weight", "state")


def verbs() -> dict[str, Callable[..., None]]:
    """The commands by their names, to stand beside `scheduler run`."""
    return {
        "workers": list_workers,
        "drain": drain,
        "resume": resume,
        "allow": allow,
        "bar": bar,
        "owner": name_owner,
    }


def list_workers(url: UrlOption = "", as_json: JsonOption = False) -> None:
    """List workers: what they offer, what they do, and why one gets no work."""
    from poolwright.daemons.operator_client import read_workers

    told = asyncio.run(read_workers(url or _url()))
    if as_json:
        typer.echo(json.dumps(told, indent=2))
        return
    for line in worker_lines(told):
        typer.echo(line)


def drain(
    worker: WorkerArgument,
    reason: Annotated[str, typer.Option("--reason", help="Told to the worker's owner.")] = "",
    url: UrlOption = "",
) -> None:
    """Give a worker no new tasks; it finishes what it has. `resume` ends it."""
    _say("drain", worker, url, reason)


def resume(worker: WorkerArgument, url: UrlOption = "") -> None:
    """Give a worker tasks again that was drained, or is in quarantine."""
    _say("resume", worker, url)


def allow(worker: WorkerArgument, url: UrlOption = "") -> None:
    """Let a wallet join, whatever the allow list says."""
    _say("allow", worker, url)


def bar(worker: WorkerArgument, url: UrlOption = "") -> None:
    """Let a wallet not join, or get no new tasks if it has, whatever the allow list says."""
    _say("bar", worker, url)


def name_owner(
    worker: WorkerArgument,
    name: Annotated[str, typer.Argument(help="Any name; left out, the owner is not known.")] = "",
    url: UrlOption = "",
) -> None:
    """Say whose a worker is: a task that several must agree on is spread over owners where it can be."""
    _say("owner", worker, url, name)


def worker_lines(told: dict[str, Any]) -> list[str]:
    """The table for people, and below it why workers are held."""
    rows = [COLUMNS, *(_row(worker) for worker in told["workers"])]
    if len(rows) == 1:
        return ["No worker has connected yet."]
    widths = [max(len(row[number]) for row in rows) for number in range(len(COLUMNS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    held = [worker for worker in told["workers"] if worker["hold"]]
    return [*lines, *(f"{worker['walletAddress']}: {worker['hold']['message']}" for worker in held)]


def _row(worker: dict[str, Any]) -> tuple[str, ...]:
    offers = [*(["gpu"] if worker["gpu"] else []), *worker["teeFrameworks"]]
    held = worker["hold"]
    state = "silent" if worker["isSilent"] else held["code"] if held else "ready"
    return (
        worker["walletAddress"],
        worker["name"],
        worker["owner"] or "-",
        worker["version"],
        f"{len(worker['computing'])}/{worker['slots']}",
        str(worker["cpus"]),
        f"{worker['memoryGib']} GiB",
        ",".join(offers) or "-",
        str(worker["weight"]),
        state,
    )


def _url() -> str:
    from poolwright.serving.environment import Environment

    env = Environment(os.environ)
    return f"http://{env.text('IEXEC_CORE_HOST', '127.0.0.1')}:{env.port('IEXEC_CORE_PORT', 13000)}"


def _say(word: str, worker: str, url: str, text: str = "") -> None:
    from poolwright.daemons.config import scheduler_config

    told = asyncio.run(_said(scheduler_config(os.environ), word, Address.parse(worker), url or _url(), text))
    if word == "owner":
        typer.echo(f"{told['walletAddress']}: owner {told['owner'] or 'not known'}")
        return
    held = told["worker"]["hold"] if told["worker"] else None
    if held:
        typer.echo(f"{told['walletAddress']}: {held['message']}")
    else:
        typer.echo(f"{told['walletAddress']}: {'gets tasks' if told['isAllowed'] else 'may not join'}")


async def _said(config: Any, word: str, worker: Address, url: str, text: str) -> dict[str, Any]:
    from poolwright.daemons.home import open_wallet
    from poolwright.daemons.operator_client import say

    wallet = await open_wallet(config.wallet, os.environ)
    return await say(
        url,
        wallet,
        chain_id=config.chain.chain_id,
        workerpool=config.workerpool,
        word=word,
        worker=worker,
        text=text,
    )
