"""The RPC client against nodes that misbehave: real HTTP on the loopback interface."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from poolwright.chain.rpc import ResponseTooLarge, Rpc, RpcError
from poolwright.poco.errors import Unavailable

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start a node made of one handler; returns its URL."""
    servers: list[TestServer] = []

    async def start(handler: Handler) -> str:
        app = web.Application()
        app.router.add_post("/", handler)
        server = TestServer(app)
        await server.start_server()
        servers.append(server)
        return str(server.make_url("/"))

    yield start
    for server in servers:
        await server.close()


async def good(request: web.Request) -> web.StreamResponse:
    asked = await request.json()
    if isinstance(asked, list):
        answers = [{"id": one["id"], "result": one["method"]} for one in reversed(asked)]
        return web.json_response(answers)
    return web.json_response({"id": asked["id"], "result": asked["method"]})


async def broken(request: web.Request) -> web.StreamResponse:
    return web.Response(status=503, text="try later")


async def test_answers_of_a_batch_come_in_the_order_asked(serve: Serve) -> None:
    async with Rpc(await serve(good), batch_size=2) as rpc:
        assert await rpc.batch([("a", []), ("b", []), ("c", [])]) == ["a", "b", "c"]
        assert await rpc.batch([]) == []


async def test_the_next_url_answers_when_the_first_fails(serve: Serve) -> None:
    async with Rpc([await serve(broken), await serve(good)]) as rpc:
        assert await rpc.call("hello") == "hello"


async def test_a_busy_node_is_asked_again(serve: Serve) -> None:
    asked = 0

    async def busy_twice(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        return await (broken(request) if asked <= 2 else good(request))

    async with Rpc(await serve(busy_twice)) as rpc:
        assert await rpc.call("hello") == "hello"
    assert asked == 3


async def test_asking_ends(serve: Serve) -> None:
    async with Rpc(await serve(broken), attempts=3) as rpc:
        with pytest.raises(Unavailable, match="HTTP status 503"):
            await rpc.call("hello")


async def test_nobody_there_is_unavailable() -> None:
    async with Rpc("http://127.0.0.1:9", attempts=2) as rpc:
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9"):
            await rpc.call("hello")


async def test_a_silent_node_is_left_after_the_timeout(serve: Serve) -> None:
    async def silent(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    async with Rpc(await serve(silent), timeout_seconds=0.05, attempts=2) as rpc:
        with pytest.raises(Unavailable, match="time-out"):
            await rpc.call("hello")


async def test_a_page_instead_of_json_is_unavailable(serve: Serve) -> None:
    async def page(request: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>welcome</html>")

    async with Rpc(await serve(page), attempts=2) as rpc:
        with pytest.raises(Unavailable, match="no JSON"):
            await rpc.call("hello")


async def test_the_nodes_refusal_is_told_and_not_repeated(serve: Serve) -> None:
    asked = 0

    async def refuse(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        error = {"code": 3, "message": "execution reverted", "data": "0x08c379a0"}
        return web.json_response({"id": (await request.json())["id"], "error": error})

    async with Rpc(await serve(refuse)) as rpc:
        with pytest.raises(RpcError, match="execution reverted") as caught:
            await rpc.call("eth_call")
    assert (caught.value.rpc_code, caught.value.data) == (3, "0x08c379a0")
    assert asked == 1


async def test_a_too_long_answer_is_cut_off(serve: Serve) -> None:
    async def long(request: web.Request) -> web.StreamResponse:
        return web.Response(text=json.dumps({"id": 1, "result": "0x" + "00" * 5000}))

    async with Rpc(await serve(long), max_response_bytes=1000) as rpc:
        with pytest.raises(ResponseTooLarge):
            await rpc.call("hello")


async def test_a_node_without_batches_is_asked_one_by_one(serve: Serve) -> None:
    async def singles_only(request: web.Request) -> web.StreamResponse:
        asked = json.loads(await request.text())
        if isinstance(asked, list):
            error = {"code": -32600, "message": "batches are not supported"}
            return web.json_response({"id": None, "error": error})
        return await good(request)

    async with Rpc(await serve(singles_only)) as rpc:
        assert await rpc.batch([("a", []), ("b", [])]) == ["a", "b"]


async def test_a_call_that_acts_is_not_repeated_once_the_node_may_have_seen_it(serve: Serve) -> None:
    asked = 0

    async def fails(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        return web.Response(status=500)

    async with Rpc(await serve(fails)) as rpc:
        with pytest.raises(Unavailable):
            await rpc.call("evm_mine")
    assert asked == 1
