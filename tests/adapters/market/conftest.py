"""A real chain with an app, a dataset and two pools, and a market on it that is started as in production."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from blank_orders import APP_ORDER, DATASET_ORDER, POOL_ORDER, REQUEST_ORDER
from poolwright.devnet.anvil import CHAIN_ID, Anvil
from poolwright.devnet.contracts import Deployment, deploy
from poolwright.devnet.node import Node
from poolwright.market import service
from poolwright.market.config import ChainSettings, MarketConfig
from poolwright.market.login import digest_of
from poolwright.poco import calls, views
from poolwright.poco.keccak import keccak
from poolwright.poco.orders import (
    AppOrder,
    DatasetOrder,
    Domain,
    Order,
    RequestOrder,
    WorkerpoolOrder,
    order_hash,
)
from poolwright.poco.signatures import address_of_key, sign_digest
from poolwright.poco.types import Address, Hash32, NRlc, OrderHash

NOBODY = Address.zero()
KEYS = [
    bytes.fromhex(text)
    for text in (
        "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
        "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
        "5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
    )
]
"""anvil's own accounts: the deployer, who owns the RLC and the app, the pool's owner, the requester."""
PROVIDER, MANAGER, REQUESTER = (address_of_key(key) for key in KEYS)
KEY_OF = dict(zip((PROVIDER, MANAGER, REQUESTER), KEYS, strict=True))
RLC = 10**9
_salts = count(1)


@dataclass
class Chain:
    """The official contracts, and what is registered on them."""

    node: Node
    contracts: Deployment
    url: str
    entries: dict[str, Address] = field(default_factory=dict)

    @property
    def domain(self) -> Domain:
        return Domain(chain_id=CHAIN_ID, hub=self.contracts.hub)

    def send(self, sender: Address, to: Address, data: bytes) -> None:
        tx = {"from": str(sender), "to": str(to), "data": f"0x{data.hex()}", "gas": hex(3_000_000)}
        [receipt] = self.node.receipts([self.node.call("eth_sendTransaction", tx)])
        assert int(receipt["status"], 16) == 1

    def ask(self, to: Address, data: bytes) -> bytes:
        return bytes.fromhex(
            self.node.call("eth_call", {"to": str(to), "data": f"0x{data.hex()}"}, "latest")[2:]
        )

    def create(self, name: str, registry: Address, predict: bytes, create: bytes) -> None:
        self.entries[name] = views.decode_address(self.ask(registry, predict))
        self.send(PROVIDER, registry, create)

    def deposit(self, wallet: Address, amount: int) -> None:
        rlc, hub = self.contracts.rlc, self.contracts.hub
        if wallet != PROVIDER:
            self.send(PROVIDER, rlc, calls.transfer(wallet, NRlc(amount)))
        self.send(wallet, rlc, calls.approve_and_call(hub, NRlc(amount), b""))

    def withdraw(self, wallet: Address, amount: int) -> None:
        self.send(wallet, self.contracts.hub, calls.withdraw(NRlc(amount)))

    def stake(self, wallet: Address) -> int:
        return views.decode_account(self.ask(self.contracts.hub, views.view_account(wallet))).stake

    # --- orders

    def app_order(self, **fields: Any) -> AppOrder:
        usual = {"app": self.entries["app"], "volume": 10, "salt": _salt()}
        return self.signed(replace(APP_ORDER, **{**usual, **fields}), PROVIDER)

    def dataset_order(self, **fields: Any) -> DatasetOrder:
        usual = {"dataset": self.entries["dataset"], "volume": 10, "salt": _salt()}
        return self.signed(replace(DATASET_ORDER, **{**usual, **fields}), PROVIDER)

    def pool_order(self, **fields: Any) -> WorkerpoolOrder:
        usual = {"workerpool": self.entries["pool"], "volume": 10, "trust": 1, "salt": _salt()}
        return self.signed(replace(POOL_ORDER, **{**usual, **fields}), MANAGER)

    def request_order(self, **fields: Any) -> RequestOrder:
        usual = {
            "app": self.entries["app"],
            "requester": REQUESTER,
            "trust": 1,
            "beneficiary": REQUESTER,
            "params": '{"iexec_args":"hello"}',
            "salt": _salt(),
        }
        return self.signed(replace(REQUEST_ORDER, **{**usual, **fields}), REQUESTER)

    def signed(self, order: Any, signer: Address) -> Any:
        return replace(order, sign=sign_digest(KEY_OF[signer], order_hash(order, self.domain)))

    def hash(self, order: Order) -> OrderHash:
        return order_hash(order, self.domain)


def _salt() -> Hash32:
    return Hash32(keccak(b"salt %d" % next(_salts)))


def register(chain: Chain) -> None:
    contracts = chain.contracts
    app = ("app", "DOCKER", b"app:1", Hash32.zero(), b"")
    chain.create(
        "app",
        contracts.app_registry,
        views.predict_app(PROVIDER, *app),
        calls.create_app(PROVIDER, *app),
    )
    data = ("data", b"/ipfs/data", Hash32.zero())
    chain.create(
        "dataset",
        contracts.dataset_registry,
        views.predict_dataset(PROVIDER, *data),
        calls.create_dataset(PROVIDER, *data),
    )
    chain.create(
        "pool",
        contracts.workerpool_registry,
        views.predict_workerpool(MANAGER, "pool"),
        calls.create_workerpool(MANAGER, "pool"),
    )


@pytest.fixture(scope="module")
def deployed() -> Iterator[Chain]:
    with Anvil.start() as anvil, Node(anvil.url, timeout_seconds=30) as node:
        chain = Chain(node=node, contracts=deploy(anvil.url), url=anvil.url)
        register(chain)
        yield chain


@pytest.fixture
def chain(deployed: Chain) -> Iterator[Chain]:
    """The chain as new for each test."""
    snapshot = deployed.node.call("evm_snapshot")
    yield deployed
    assert deployed.node.call("evm_revert", snapshot)


def settings_of(chain: Chain, database_url: str, **changes: Any) -> MarketConfig:
    settings = ChainSettings(
        name="DEV",
        chain_id=CHAIN_ID,
        hub=chain.contracts.hub,
        node_urls=(chain.url,),
        poll_seconds=0.1,
        workerpool_urls={chain.entries["pool"]: "http://127.0.0.1:13000"},
    )
    config = MarketConfig(chains=(settings,), port=0, database_url=database_url, checks_invariants=True)
    return replace(config, **changes)


@dataclass
class Client:
    """Talks to the market as the official client does."""

    http: aiohttp.ClientSession
    url: str
    chain: Chain

    async def get(self, path: str, **query: Any) -> tuple[int, Any]:
        query = {"chainId": CHAIN_ID, **query}
        async with self.http.get(f"{self.url}{path}", params=query) as answer:
            return answer.status, await answer.json()

    async def ok(self, path: str, **query: Any) -> Any:
        status, body = await self.get(path, **query)
        assert (status, body.get("ok")) == (200, True), body
        return body

    async def authorization(self, wallet: Address) -> str:
        typed = (await self.ok("/challenge", address=str(wallet)))["data"]
        digest = digest_of(int(typed["domain"]["chainId"]), typed["message"]["challenge"])
        return f"{digest}_0x{sign_digest(KEY_OF[wallet], digest).hex()}_{wallet}"

    async def send(self, verb: str, kind: str, body: Any, wallet: Address | str) -> tuple[int, Any]:
        header = wallet if isinstance(wallet, str) else await self.authorization(wallet)
        async with self.http.request(
            verb,
            f"{self.url}/{kind}s",
            params={"chainId": CHAIN_ID},
            json=body,
            headers={"authorization": header},
        ) as answer:
            return answer.status, await answer.json()

    async def publish(self, order: Order, wallet: Address, **more: Any) -> tuple[int, Any]:
        return await self.send("POST", order.KIND, {"order": order.to_json(), **more}, wallet)

    async def published(self, order: Order, wallet: Address, **more: Any) -> Any:
        status, body = await self.publish(order, wallet, **more)
        assert status == 200, body
        return body["published"]

    async def refused(self, order: Order, wallet: Address, **more: Any) -> str:
        status, body = await self.publish(order, wallet, **more)
        assert (status, body["ok"]) == (403, False), body
        return str(body["error"])

    async def order(self, order: Order) -> Any:
        return await self.ok(f"/{order.KIND}s/{self.chain.hash(order)}")

    async def until(self, order: Order, **wanted: Any) -> None:
        """Wait until the order's document holds these values."""
        async with asyncio.timeout(20):
            while True:
                found = await self.order(order)
                if {name: found[name] for name in wanted} == wanted:
                    return
                await asyncio.sleep(0.05)

    async def until_watched(self, node: Node) -> None:
        """Wait until the market has taken every block that the chain has now."""
        newest = int(node.call("eth_blockNumber"), 16)
        async with asyncio.timeout(20):
            while True:
                if (await self.ok("/metrics"))["lastBlock"] >= newest:
                    return
                await asyncio.sleep(0.05)


@pytest.fixture
async def market(chain: Chain, tmp_path: Path) -> AsyncIterator[Client]:
    """A market with its own SQLite file, and a client of it."""
    config = settings_of(chain, f"sqlite:///{tmp_path}/market.db")
    async with aiohttp.ClientSession() as http, service.serving(config) as running:
        yield Client(http=http, url=running.url, chain=chain)
        running.stop()
