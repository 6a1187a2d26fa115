"""Bad input drawn from the market's own OpenAPI: never a 5xx, never an answer that breaks the description.

    as described          whatever the description allows and whatever it forbids, as a stranger sends it
    behind the door       the same with our chain and a good authorization, so that it gets further

The examples are the same in every run and bounded; a failure prints the request as a curl line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import checks
from schemathesis.specs.openapi import checks as openapi_checks

from conftest import CHAIN_ID, KEY_OF, MANAGER, PROVIDER, REQUESTER, Chain
from poolwright.devnet.anvil import free_port
from poolwright.market.login import digest_of
from poolwright.market.openapi import openapi
from poolwright.poco import calls
from poolwright.poco.orders import NULL_DATASETORDER, Order
from poolwright.poco.signatures import sign_digest
from poolwright.poco.types import Address

pytestmark = pytest.mark.chain
EXAMPLES = 4
"""Of each operation and test."""
START_SECONDS = 60
ENDLESS = "/events"
"""Its answer has no end; it is heard in test_market_on_chain."""
DRAWN = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
WITH_EDGES = settings(DRAWN, phases=[Phase.explicit, Phase.generate])
"""Also each edge of each parameter's schema, one after the other."""


@dataclass
class Market:
    """A market process with something of everything in it."""

    url: str
    known: dict[str, str]
    """A real value of each name in a path."""

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        raw = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data=raw, method=method, headers=headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    def authorization(self, wallet: Address) -> str:
        typed = self.ask("GET", f"/challenge?chainId={CHAIN_ID}&address={wallet}")["data"]
        digest = digest_of(CHAIN_ID, typed["message"]["challenge"])
        return f"{digest}_0x{sign_digest(KEY_OF[wallet], digest).hex()}_{wallet}"

    def publish(self, order: Order, wallet: Address) -> None:
        self.ask(
            "POST",
            f"/{order.KIND}s?chainId={CHAIN_ID}",
            {"order": order.to_json()},
            authorization=self.authorization(wallet),
        )


@pytest.fixture(scope="module")
def market(deployed: Chain, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    """A process, because what is tried is the whole door: server, limits, routes, database."""
    folder, port = tmp_path_factory.mktemp("market"), free_port()
    environment = {
        **os.environ,
        "CHAINS": "DEV",
        "DEV_CHAIN_ID": str(CHAIN_ID),
        "DEV_IEXEC_ADDRESS": str(deployed.contracts.hub),
        "DEV_ETH_RPC_HOST": deployed.url,
        "DEV_POLL_SECONDS": "0.1",
        "DEV_WORKERPOOL_API_URLS": f"{deployed.entries['pool']}=http://127.0.0.1:13000",
        "PORT": str(port),
        "MAX_OPEN_ORDERS_PER_WALLET": "1000",
        "POOLWRIGHT_MARKET_DATABASE_URL": f"sqlite:///{folder}/market.db",
        "POOLWRIGHT_CHECK_INVARIANTS": "1",
    }
    log = folder / "log"
    with log.open("wb") as output:
        words = (sys.executable, "-m", "poolwright", "market", "run")
        process = subprocess.Popen(words, env=environment, stdout=output, stderr=output)
    try:
        market = Market(f"http://127.0.0.1:{port}", {})
        _until_it_answers(market, process, log)
        _fill(market, deployed)
        yield market
        assert process.poll() is None, log.read_text()
        assert "request failed" not in log.read_text()
    finally:
        process.kill()
        process.wait()


def _until_it_answers(market: Market, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        assert process.poll() is None, log.read_text()
        try:
            market.ask("GET", "/version")
            return
        except OSError:
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)


def _fill(market: Market, chain: Chain) -> None:
    """Orders of the four kinds, and a deal of them."""
    app, data, pool = chain.app_order(), chain.dataset_order(), chain.pool_order()
    request = chain.request_order(volume=2)
    for order, wallet in ((app, PROVIDER), (data, PROVIDER), (pool, MANAGER), (request, REQUESTER)):
        market.publish(order, wallet)
    once = chain.request_order()
    chain.send(PROVIDER, chain.contracts.hub, calls.match_orders(app, NULL_DATASETORDER, pool, once))
    end = time.monotonic() + START_SECONDS
    while not (deals := market.ask("GET", f"/deals?chainId={CHAIN_ID}")["deals"]):
        assert time.monotonic() < end
        time.sleep(0.1)
    market.known |= {
        "dealid": deals[0]["dealid"],
        "catid": "1",
        "chainId": str(CHAIN_ID),
        "address": str(chain.entries["pool"]),
        **{f"/{order.KIND}s": str(chain.hash(order)) for order in (app, data, pool, request)},
        "requestorder": str(chain.hash(request)),
    }


schema = schemathesis.openapi.from_dict(openapi((CHAIN_ID,))).exclude(path=ENDLESS)


def test_the_running_market_serves_this_description(market: Market) -> None:
    assert market.ask("GET", "/openapi.json") == openapi((CHAIN_ID,))


CONTRACT = (
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.response_schema_conformance,
)


@schema.parametrize()
@WITH_EDGES
def test_whatever_comes_is_answered_as_described(case: Any, market: Market) -> None:
    # A missing authorization is 403, as in the reference; and that one of two filters is needed, OpenAPI
    # has no words for.
    unsaid = [openapi_checks.missing_required_header]
    if case.path in ("/apporders", "/datasetorders") and case.method == "GET":
        unsaid.append(openapi_checks.positive_data_acceptance)
    case.call_and_validate(base_url=market.url, excluded_checks=unsaid, timeout=30)


@schema.parametrize()
@DRAWN
def test_whatever_comes_behind_the_door_is_answered_as_described(case: Any, market: Market) -> None:
    real = market.known
    if "chainId" in (case.query or {}):
        case.query["chainId"] = CHAIN_ID
    for name in case.path_parameters or {}:
        case.path_parameters[name] = real.get(name, real.get(f"/{case.path.split('/')[1]}"))
    if case.method in ("POST", "PUT"):
        wallet = {"/workerpoolorders": MANAGER, "/requestorders": REQUESTER}.get(case.path, PROVIDER)
        case.headers["authorization"] = market.authorization(wallet)
    case.call_and_validate(base_url=market.url, checks=CONTRACT, timeout=30)
