"""The market client against a server of the reference's answers: challenges, pages, refusals, trouble."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from eth_account import Account
from eth_account.messages import encode_typed_data

from poolwright.chain.wallet import Wallet
from poolwright.cli.iexec.market_client import ApiError, MarketCallError, MarketClient, authorization_of

KEY = b"\7" * 32
WALLET = Wallet(KEY)
CHALLENGE: dict[str, Any] = {
    "types": {
        "EIP712Domain": [
            {"name": "name", "type": "string"},
            {"name": "version", "type": "string"},
            {"name": "chainId", "type": "uint256"},
        ],
        "Challenge": [{"name": "challenge", "type": "string"}],
    },
    "domain": {"name": "iExec Gateway", "version": "1", "chainId": "31337"},
    "primaryType": "Challenge",
    "message": {"challenge": "Sign this message to log into iExec Gateway: abc"},
}


@asynccontextmanager
async def market(answer: Any) -> AsyncIterator[MarketClient]:
    """A client of a server that answers every request with `answer(request)`."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        async with MarketClient(f"http://127.0.0.1:{port}/dropped/path", "31337") as client:
            yield client
    finally:
        await runner.cleanup()


def test_the_authorization_is_what_eth_account_signs() -> None:
    signed = Account.sign_message(encode_typed_data(full_message=CHALLENGE), KEY)
    digest, signature, address = authorization_of(CHALLENGE, WALLET).split("_")
    assert (digest, signature) == (f"0x{signed.message_hash.hex()}", f"0x{signed.signature.hex()}")
    assert address == str(WALLET.address)


@pytest.mark.parametrize(
    "change",
    [
        {"primaryType": "Order"},
        {"message": {"challenge": 3}},
        {"types": {"Challenge": [{"name": "challenge", "type": "uint256"}]}},
        {"domain": {"name": "x", "version": "1", "chainId": "1", "verifyingContract": "0x00"}},
        {"message": None},
    ],
)
def test_nothing_but_a_challenge_is_signed(change: dict[str, Any]) -> None:
    with pytest.raises(MarketCallError, match="the challenge is not understood"):
        authorization_of({**CHALLENGE, **change}, WALLET)


async def test_pages_are_asked_one_after_the_other() -> None:
    asked = []

    async def answer(request: web.Request) -> web.Response:
        asked.append((request.path, dict(request.query)))
        number = int(request.query["pageIndex"])
        more = {"nextPage": 20} if number == 0 else {}
        return web.json_response({"ok": True, "orders": [{"orderHash": str(number)}], "count": 2, **more})

    async with market(answer) as client:
        pages = [page async for page in client.pages("apporder", {"app": "any"})]

    assert [page.orders[0]["orderHash"] for page in pages] == ["0", "1"]
    query = {"chainId": "31337", "app": "any", "pageIndex": "1", "pageSize": "20"}
    assert asked[1] == ("/apporders", query)


async def test_a_challenge_that_another_command_used_is_asked_again() -> None:
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(f"{request.method} {request.path}")
        if request.path == "/challenge":
            return web.json_response({"ok": True, "data": CHALLENGE})
        assert request.headers["authorization"].endswith(str(WALLET.address))
        assert await request.json() == {"order": {"app": "0x"}}
        if len(seen) < 4:
            return web.json_response({"ok": False, "error": "invalid authorization"}, status=403)
        return web.json_response({"ok": True, "published": {"orderHash": "0x12"}})

    async with market(answer) as client:
        assert await client.publish("apporder", {"app": "0x"}, WALLET) == "0x12"
    assert seen == ["GET /challenge", "POST /apporders"] * 2


async def test_a_refusal_is_told_in_the_market_s_words() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"ok": False, "error": "apporder not found"}, status=404)

    async with market(answer) as client:
        with pytest.raises(ApiError) as refusal:
            await client.order("apporder", "0x12")
    assert (refusal.value.what, refusal.value.status) == ("API error: apporder not found", 404)


@pytest.mark.parametrize(
    ("status", "kind", "body", "message"),
    [
        (500, "application/json", '{"ok":false}', "encountered an internal error"),
        (200, "text/html", "<html>", "The http response is not of JSON type"),
        (404, "text/plain", "Not Found", "API error: 404 Not Found"),
        (200, "application/json", "[1]", "answered with JSON that is no object"),
        (200, "application/json", "{", "answered with broken JSON"),
        (200, "application/json", '{"orders":[3],"count":1}', "answered with a list that is none"),
        (200, "application/json", '{"orders":[]}', "answered without a count"),
    ],
)
async def test_trouble_is_told_with_its_kind(status: int, kind: str, body: str, message: str) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status, body=body.encode(), content_type=kind)

    async with market(answer) as client:
        with pytest.raises(Exception, match=message):
            await client.orders("apporder", {})


async def test_a_market_that_is_not_there_is_a_network_error() -> None:
    async with MarketClient("http://127.0.0.1:1", "1") as client:
        with pytest.raises(MarketCallError) as failure:
            await client.orders("apporder", {})
    assert failure.value.what == (
        "Market API error: Connection to http://127.0.0.1:1 failed with a network error"
    )


async def test_the_last_and_all_orders_of_a_resource_are_unpublished() -> None:
    bodies = []

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/challenge":
            return web.json_response({"ok": True, "data": CHALLENGE})
        bodies.append(json.loads(await request.text()))
        return web.json_response({"ok": True, "unpublished": ["0x1", "0x2"]})

    async with market(answer) as client:
        hashes = await client.unpublish_of("workerpoolorder", WALLET.address, WALLET, all_of_them=True)
        assert await client.unpublish("workerpoolorder", "0x1", WALLET) == "0x1"

    assert hashes == ("0x1", "0x2")
    assert bodies == [
        {"target": "unpublish_all", "workerpool": str(WALLET.address)},
        {"target": "unpublish_orderHash", "orderHash": "0x1"},
    ]
