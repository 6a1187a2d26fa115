"""`poolwright scheduler workers|drain|resume|allow|bar|owner`: who computes for the pool, and who may."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import click

from poolwright.poco.types import Address

url_option = click.option(
    "--url",
    metavar="URL",
    default="",
    show_default=False,
    help="Of the scheduler; else IEXEC_CORE_HOST and IEXEC_CORE_PORT say where it is.",
)
worker_argument = click.argument("worker", metavar="WALLET")
COLUMNS = ("wallet", "name", "owner", "version", "slots", "cpus", "memory", "offers", "weight", "state")


def add_to(group: click.Group) -> None:
    """Add the commands to those of the scheduler."""
    for command in (list_workers, drain, resume, allow, bar, name_owner):
        group.add_command(command)


@click.command("workers")
@url_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_workers(url: str, as_json: bool) -> None:
    """List workers: what they offer, what they do, and why one gets no work."""
    from poolwright.daemons.operator_client import read_workers

    told = asyncio.run(read_workers(url or _url()))
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    for line in worker_lines(told):
        click.echo(line)


@click.command("drain")
@worker_argument
@click.option("--reason", default="", help="Told to the worker's owner.")
@url_option
def drain(worker: str, reason: str, url: str) -> None:
    """Give a worker no new tasks; it finishes what it has. `resume` ends it."""
    _say("drain", worker, url, reason)


@click.command("resume")
@worker_argument
@url_option
def resume(worker: str, url: str) -> None:
    """Give a worker tasks again that was drained, or is in quarantine."""
    _say("resume", worker, url)


@click.command("allow")
@worker_argument
@url_option
def allow(worker: str, url: str) -> None:
    """Let a wallet join, whatever the allow list says."""
    _say("allow", worker, url)


@click.command("bar")
@worker_argument
@url_option
def bar(worker: str, url: str) -> None:
    """Let a wallet not join, or get no new tasks if it has, whatever the allow list says."""
    _say("bar", worker, url)


@click.command("owner")
@worker_argument
@click.argument("name", default="")
@url_option
def name_owner(worker: str, name: str, url: str) -> None:
    """Say whose a worker is, by any name; without one, that it is not known.

    A task that several workers must agree on is spread over owners where it can be.
    """
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
        click.echo(f"{told['walletAddress']}: owner {told['owner'] or 'not known'}")
        return
    held = told["worker"]["hold"] if told["worker"] else None
    if held:
        click.echo(f"{told['walletAddress']}: {held['message']}")
    else:
        click.echo(f"{told['walletAddress']}: {'gets tasks' if told['isAllowed'] else 'may not join'}")


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
