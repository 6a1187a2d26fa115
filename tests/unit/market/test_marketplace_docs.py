"""docs/marketplace.md says what the code does: settings with their defaults, routes, limits, headers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from factories import address
from poolwright.market import app, groups, openapi, service
from poolwright.market.config import from_environment
from poolwright.orderbook import match
from poolwright.orderbook.listing import MAX_SAFE
from poolwright.serving import patience
from recorder import Recorder

PAGE = (Path(__file__).parents[3] / "docs/marketplace.md").read_text()
LEAST = {
    "CHAINS": "DEV",
    "DEV_CHAIN_ID": "31337",
    "DEV_IEXEC_ADDRESS": str(address("hub")),
    "DEV_ETH_RPC_HOST": "http://a:1",
}


def table(title: str) -> list[list[str]]:
    """The cells of the rows of the first table under this title, without its head."""
    section = PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in row] for row in rows[2:]]


def test_every_setting_is_there_and_no_other() -> None:
    recorder = Recorder({**LEAST, "DEV_START_BLOCK": "1"})

    from_environment(recorder)

    assert {row[0].replace("<NAME>", "DEV") for row in table("Settings")} == recorder.asked


@pytest.mark.parametrize("row", table("Settings"), ids=lambda row: row[0])
def test_each_default_is_what_comes_without_the_setting(row: list[str]) -> None:
    name, default = row[0].replace("<NAME>", "DEV"), row[1]
    match default:
        case "required":
            assert name in LEAST
        case "the hub's" | "none":
            [chain] = from_environment(LEAST).chains
            assert (chain.start_block, chain.workerpool_urls) == (None, {})
        case _:
            assert name not in LEAST
            assert from_environment({**LEAST, name: default}) == from_environment(LEAST)


def test_every_route_is_there_and_no_other() -> None:
    described = {
        f"{verb.upper()} {path}" for path, verbs in openapi.openapi()["paths"].items() for verb in verbs
    }

    assert {row[0] for row in table("Routes")} == described


def test_limits_and_headers_are_those_of_the_code() -> None:
    bounds = {row[0]: row[1] for row in table("Limits")}

    assert bounds["target and headers"] == f"{patience.MAX_HEAD_BYTES} bytes"
    assert bounds["a body"] == f"{app.MAX_BODY_BYTES} bytes"
    assert bounds["connections"] == str(service.MAX_CONNECTIONS)
    assert bounds["a number in an order or a query"] == str(MAX_SAFE)
    assert bounds["combinations that a match looks at"] == str(match.MOST_LOOKED)
    assert bounds["memberships of groups asked per request"] == str(groups.MOST_AT_ONCE)
    exposed = dict(app.CORS)[b"access-control-expose-headers"].decode().split(", ")
    assert {name.lower() for name in re.findall(r"\| `([A-Za-z-]+)` \|", PAGE)} >= set(exposed)
