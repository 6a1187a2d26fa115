"""docs/configuration.md names what the daemons read, and no more, with the defaults that they have."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from factories import address
from poolwright.daemons.config import password_of, scheduler_config, worker_config
from poolwright.results.config import from_environment as results_config
from recorder import Recorder

PAGE = (Path(__file__).parents[3] / "docs/configuration.md").read_text()
CHAIN = {
    "IEXEC_BLOCKCHAIN_NODE_ADDRESS": "http://a:1",
    "IEXEC_CHAIN_ID": "1",
    "IEXEC_HUB_ADDRESS": str(address("hub")),
}
POOL = {"POOL_ADDRESS": str(address("pool"))}
SCHEDULER = {
    **CHAIN,
    **POOL,
    "IEXEC_CORE_WALLET_PATH": "/key",
    "IEXEC_CORE_WALLET_PASSWORD": "pw",
    "IEXEC_RESULT_REPOSITORY_URL": "http://a:2",
}
WORKER = {
    **CHAIN,
    **POOL,
    "IEXEC_WORKER_WALLET_PATH": "/key",
    "IEXEC_WORKER_WALLET_PASSWORD": "pw",
    "IEXEC_CORE_URL": "http://a:3",
}
BOTH = "Scheduler and worker"
Read = Callable[[Mapping[str, str]], Any]
DAEMONS: list[tuple[str, Read, dict[str, str]]] = [
    ("`poolwright scheduler run`", scheduler_config, SCHEDULER),
    ("`poolwright worker run`", worker_config, WORKER),
    ("`poolwright results run`", results_config, CHAIN),
]


def table(title: str) -> list[tuple[list[str], list[str]]]:
    """The variables and defaults of each row below a title; two variables of a row have two defaults."""
    section = PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")][2:]
    return [
        (re.findall(r"`(\w+)`", row[0]), [each.strip() for each in row[1].split(",") if each.strip()])
        for row in rows
    ]


def named(title: str) -> set[str]:
    return {name for names, _ in table(title) for name in names}


@pytest.mark.parametrize(("title", "read", "least"), DAEMONS, ids=lambda value: str(value)[:25])
def test_every_variable_is_there_and_no_other(title: str, read: Read, least: dict[str, str]) -> None:
    recorder = Recorder(least)

    config = read(recorder)
    if hasattr(config, "wallet"):
        password_of(config.wallet, recorder)

    shared = named(BOTH) if "results" not in title else set()
    assert named(title) | shared == recorder.asked


@pytest.mark.parametrize(("title", "read", "least"), DAEMONS, ids=lambda value: str(value)[:25])
def test_each_default_is_what_comes_without_the_variable(
    title: str, read: Read, least: dict[str, str]
) -> None:
    rows = table(title) if "results" in title else [*table(title), *table(BOTH)]
    told = {name: default for names, defaults in rows for name, default in zip(names, defaults, strict=False)}
    values = {name: told[name] for name in told if not re.search("[a-z] |-", told[name])}
    values = {name: "" if value in ("empty", "no limit") else value for name, value in values.items()}

    assert values
    assert read({**least, **values}) == read(least)
