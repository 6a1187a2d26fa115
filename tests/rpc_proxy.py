"""A faulty proxy in front of a node: one fault until it is repaired, or faults at given rates from a seed."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

LAG_BLOCKS = 2
"""How far a stale answer of the random kind is behind."""


class Proxy:
    """An endpoint in front of a node.

    `fault` is how it misbehaves now; with `rates` (fault to probability) each exchange draws one from `seed`.
    """

    def __init__(self, node: str, *, seed: int = 0, slow_seconds: float = 2.0) -> None:
        self.node = node
        self._session = aiohttp.ClientSession()
        self._frozen = 0
        self.rates: Mapping[str, float] = {}
        self._random = random.Random(seed)
        self._slow_seconds = slow_seconds
        self.fault = "none"
        self.answered = 0
        self.shown: Counter[str] = Counter()
        """How often each fault was there."""
        app = web.Application(client_max_size=64 * 1024**2)
        app.router.add_post("/", self._handle)
        self._server = TestServer(app)

    async def start(self) -> str:
        await self._server.start_server()
        return str(self._server.make_url("/"))

    async def close(self) -> None:
        await self._server.close()
        await self._session.close()

    async def break_down(self, fault: str) -> None:
        """Show this fault from now on; `stale` answers stay at the present block."""
        self._frozen = await self._newest()
        self.fault = fault

    async def _newest(self) -> int:
        answer = await self._ask({"id": 1, "method": "eth_blockNumber", "params": []})
        return int(answer["result"], 16)

    async def _ask(self, body: Any) -> Any:
        async with self._session.post(self.node, json={"jsonrpc": "2.0"} | body) as answer:
            return await answer.json()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        asked = json.loads(await request.text())
        fault = self._draw() if self.rates else self.fault
        self.shown[fault] += 1
        match fault:
            case "slow":
                await asyncio.sleep(self._slow_seconds)
            case "500":
                return web.Response(status=500, text="try later")
            case "garbage":
                return web.Response(text="<html>maintenance")
            case "half an answer":
                return web.json_response([] if isinstance(asked, list) else {"jsonrpc": "2.0", "id": 1})
            case "cut":
                self._cut(request)
            case "stale" if self.rates:
                self._frozen = max(await self._newest() - LAG_BLOCKS, 0)
        many = asked if isinstance(asked, list) else [asked]
        answers = [await self._one(one, fault) for one in many]
        self.answered += 1
        if fault == "cut after":
            self._cut(request)
        return web.json_response(answers if isinstance(asked, list) else answers[0])

    def _draw(self) -> str:
        lot = self._random.random()
        for fault, rate in self.rates.items():
            if lot < rate:
                return fault
            lot -= rate
        return "none"

    def _cut(self, request: web.Request) -> None:
        """The connection ends without an answer."""
        if request.transport is not None:
            request.transport.abort()

    async def _one(self, asked: dict[str, Any], fault: str) -> dict[str, Any]:
        if fault == "stale":
            asked = asked | {"params": self._as_of_old(asked["method"], asked["params"])}
        answer: dict[str, Any] = await self._ask(asked)
        if fault == "stale" and asked["method"] == "eth_blockNumber":
            answer["result"] = hex(self._frozen)
        if fault == "wrong block" and asked["method"] == "eth_getBlockByNumber" and answer.get("result"):
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
        if method in ("eth_call", "eth_getBalance", "eth_getTransactionCount", "eth_estimateGas"):
            return [newest if each in ("latest", "pending") else each for each in params]
        return params
