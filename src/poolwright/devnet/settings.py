"""The settings of one part of a local network, for commands that a manager runs beside it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from urllib.parse import urlsplit

from poolwright.devnet.folder import StateFolder
from poolwright.devnet.parts import Ports, market_program, results_program, scheduler_program, worker_program
from poolwright.devnet.record import NetworkRecord, require_network
from poolwright.poco.errors import InputError


def settings_of(folder: StateFolder, part: str) -> Mapping[str, str]:
    """The environment variables of a part as it runs, or ran last; those without a value are left out.

    Raises InputError when there is no network in the folder, or no such part with settings.
    """
    record = require_network(folder)
    ports = _ports(record)
    programs = {
        "scheduler": scheduler_program(folder, ports),
        "results": results_program(folder, ports),
        "market": market_program(folder, ports),
    }
    for number in range(1, sum(name.startswith("worker-") for name in record.wallets) + 1):
        programs[f"worker-{number}"] = worker_program(
            folder, ports, number, slots=1, engine="", record_of=lambda: record
        )
    if part not in programs:
        raise InputError(
            f"part {part!r} has no settings",
            code="unknown-part",
            expected=", ".join(sorted(programs)),
            next_step="name one of these",
        )
    return {name: value for name, value in programs[part].environment(record).items() if value}


def export_lines(settings: Mapping[str, str]) -> list[str]:
    """The settings as a shell takes them."""
    return [f"export {name}={shlex.quote(value)}" for name, value in settings.items()]


def _ports(record: NetworkRecord) -> Ports:
    chain, results, scheduler, market = (
        urlsplit(url).port or 0
        for url in (record.chain_url, record.results_url, record.scheduler_url, record.market_url)
    )
    return Ports(chain=chain, results=results, scheduler=scheduler, market=market)
