"""Several endpoints, one of them behind a faulty proxy: a watcher neither loses nor doubles a log."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from chain_market import DEPLOYER
from poolwright.chain.heads import Heads
from poolwright.chain.logs import follow
from poolwright.chain.rpc import Rpc
from poolwright.devnet.anvil import CHAIN_ID, Anvil, AnvilSettings, free_port
from poolwright.devnet.contracts import Deployment
from poolwright.poco import calls
from poolwright.poco.errors import InputError
from poolwright.poco.types import Address, BlockNumber, NRlc

pytestmark = pytest.mark.chain

BOUND = 40.0
BLOCK_SECONDS = 5


class Proxy:
    """An endpoint in front of a node; `fault` is how it misbehaves now."""

    def __init__(self, node: str) -> None:
        self.node = node
        self._session = aiohttp.ClientSession()
        self._frozen = 0
        self.fault = "none"
        self.answered = 0
        app = web.Application()
        app.router.add_post("/", self._handle)
        self._server = TestServer(app)

    async def start(self) -> str:
        await self._server.start_server()
        return str(self._server.make_url("/"))

    async def close(self) -> None:
        await self._server.close()
        await self._session.close()

    async def break_down(self, fault: str) -> None:
        self._frozen = int(
            (await self._ask({"id": 1, "method": "eth_blockNumber", "params": []}))["result"], 16
        )
        self.fault = fault

    async def _ask(self, body: Any) -> Any:
        async with self._session.post(self.node, json={"jsonrpc": "2.0"} | body) as answer:
            return await answer.json()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        asked = json.loads(await request.text())
        match self.fault:
            case "slow":
                await asyncio.sleep(2)
            case "500":
                return web.Response(status=500, text="try later")
            case "garbage":
                return web.Response(text="<html>maintenance")
            case "half an answer":
                return web.json_response([] if isinstance(asked, list) else {"jsonrpc": "2.0", "id": 1})
        many = asked if isinstance(asked, list) else [asked]
        answers = [await self._one(one) for one in many]
        self.answered += 1
        return web.json_response(answers if isinstance(asked, list) else answers[0])

    async def _one(self, asked: dict[str, Any]) -> dict[str, Any]:
        if self.fault == "stale":
            asked = asked | {"params": self._as_of_old(asked["method"], asked["params"])}
        answer: dict[str, Any] = await self._ask(asked)
        if self.fault == "wrong block" and asked["method"] == "eth_getBlockByNumber" and answer.get("result"):
            answer["result"]["hash"] = "0x" + "ab" * 32
            answer["result"]["parentHash"] = "0x" + "cd" * 32
        return answer

    def _as_of_old(self, method: str, params: list[Any]) -> list[Any]:
        """What a node asks itself that stopped following the chain."""
        newest = hex(self._frozen)
        if method == "eth_getBlockByNumber":
            number = self._frozen if params[0] == "latest" else int(params[0], 16)
            return [
                newest if params[0] == "latest" else hex(number if number <= self._frozen else 10**9),
                *params[1:],
            ]
        if method == "eth_getLogs" and "toBlock" in params[0]:
            return [params[0] | {"toBlock": hex(min(int(params[0]["toBlock"], 16), self._frozen))}]
        if method == "eth_getLogs":
            return [params[0] | {"blockHash": "0x" + "00" * 32}]  # not known here
        return params


Proxies = Callable[[int], Awaitable[list[tuple[Proxy, str]]]]


@pytest.fixture
async def proxies(anvil: Anvil) -> AsyncIterator[Proxies]:
    made: list[Proxy] = []

    async def start(count: int) -> list[tuple[Proxy, str]]:
        found = []
        for _ in range(count):
            proxy = Proxy(anvil.url)
            made.append(proxy)
            found.append((proxy, await proxy.start()))
        return found

    yield start
    for proxy in made:
        await proxy.close()


async def approve(node: Rpc, rlc: Address, amount: int) -> None:
    """One block with one log."""
    data = "0x" + calls.approve(Address(b"\x09" * 20), NRlc(amount)).hex()
    await node.call("eth_sendTransaction", {"from": str(DEPLOYER.address), "to": str(rlc), "data": data})


@pytest.mark.parametrize("fault", ["slow", "500", "garbage", "half an answer", "stale", "wrong block"])
async def test_logs_come_once_each_through_an_endpoint_that_fails_and_recovers(
    fault: str, rpc: Rpc, contracts: Deployment, proxies: Proxies
) -> None:
    (bad, bad_url), (_, good_url) = await proxies(2)
    await rpc.call("anvil_setBlockTimestampInterval", BLOCK_SECONDS)
    first = int(str(await rpc.call("eth_blockNumber")), 16) + 1
    amounts: list[int] = []
    doors = Rpc(
        [bad_url, good_url],
        chain_id=CHAIN_ID,
        timeout_seconds=0.5,
        home_after_seconds=0.5,
        compare_seconds=0.05,
        max_lag_seconds=BLOCK_SECONDS,
    )
    async with doors, Heads(doors, poll_seconds=0.02, use_websocket=False) as heads, asyncio.timeout(BOUND):

        async def watch() -> None:
            async for batch in follow(doors, contracts.rlc, [], None, BlockNumber(first), heads):
                amounts.extend(int.from_bytes(log.data, "big") for log in batch.logs)
                if len(amounts) >= 15:
                    return

        watching = asyncio.create_task(watch())
        for amount in range(1, 16):
            if amount == 5:
                await bad.break_down(fault)
            if amount == 11:
                while len(amounts) < 10:  # noqa: ASYNC110  all of it came through the other endpoint
                    await asyncio.sleep(0.01)
                bad.fault = "none"
            await approve(rpc, contracts.rlc, amount)
            await asyncio.sleep(0.05)
        await watching

        assert amounts == list(range(1, 16))
        before = bad.answered
        while bad.answered < before + 3 or any(doors.endpoints.values()):
            await doors.call("eth_blockNumber")
            await asyncio.sleep(0.02)


async def test_an_endpoint_of_another_chain_is_refused(anvil: Anvil) -> None:
    with Anvil.start(AnvilSettings(port=free_port(), chain_id=999)) as foreign:
        async with Rpc([foreign.url, anvil.url], chain_id=CHAIN_ID) as rpc:
            assert await rpc.call("eth_chainId") == hex(CHAIN_ID)
            assert list(rpc.endpoints.values()) == ["another chain", ""]
        async with Rpc([foreign.url, foreign.url], chain_id=CHAIN_ID) as rpc:
            with pytest.raises(InputError, match="another chain"):
                await rpc.call("eth_chainId")


async def test_an_endpoint_that_is_of_our_chain_again_is_used_again(anvil: Anvil, proxies: Proxies) -> None:
    """As after a wrong deployment of a provider: the same URL leads elsewhere for a while."""
    with Anvil.start(AnvilSettings(port=free_port(), chain_id=999)) as foreign:
        [(proxy, url)] = await proxies(1)
        ours = anvil.url
        async with (
            Rpc([url, anvil.url], chain_id=CHAIN_ID, compare_seconds=0.02) as rpc,
            asyncio.timeout(BOUND),
        ):
            await rpc.call("eth_chainId")
            for node, wanted in ((foreign.url, "another chain"), (ours, "")):
                proxy.node = node
                while next(iter(rpc.endpoints.values())) != wanted:
                    assert await rpc.call("eth_chainId") in (hex(CHAIN_ID), hex(999))
                    await asyncio.sleep(0.02)
