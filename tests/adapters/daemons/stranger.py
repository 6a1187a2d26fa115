"""The other end of a connection when it is not one of ours: whatever a program with a wallet may send."""

from __future__ import annotations

import aiohttp
from pair import CHAIN_ID, WORKERPOOL, SchedulerSide

from factories import capacity, hash32
from poolwright.chain.wallet import Wallet
from poolwright.poco.types import WorkerAddress
from poolwright.wire import codec
from poolwright.wire.login import Challenge, Login, Token, login_digest
from poolwright.wire.messages import PROTOCOL, Hello, SchedulerMessage, Welcome, WorkerMessage

KEY = b"\x02" * 32


def hello(*, protocol: int = PROTOCOL, slots: int = 0) -> Hello:
    return Hello(
        protocol=protocol,
        journal=hash32("raw"),
        ledger=hash32("ledger"),
        received=0,
        capacity=capacity(slots=slots),
    )


async def logged_in(scheduler: SchedulerSide, http: aiohttp.ClientSession, key: bytes = KEY) -> str:
    """A token, got as any program would get it: two requests."""
    wallet = Wallet(key)
    worker = WorkerAddress(wallet.address)
    async with http.get(f"{scheduler.url}/workers/challenge?walletAddress={worker}") as answer:
        challenge = codec.decode(Challenge, await answer.read())
    digest = login_digest(CHAIN_ID, WORKERPOOL, worker, challenge)
    login = Login(
        wallet_address=worker,
        nonce=challenge.nonce,
        expires_at=challenge.expires_at,
        signature=wallet.sign_digest(digest),
    )
    async with http.post(f"{scheduler.url}/workers/login", data=codec.encode(login)) as answer:
        return codec.decode(Token, await answer.read()).token


async def raw_socket(
    scheduler: SchedulerSide, http: aiohttp.ClientSession, key: bytes = KEY
) -> aiohttp.ClientWebSocketResponse:
    token = await logged_in(scheduler, http, key)
    return await http.ws_connect(
        f"{scheduler.url}/workers/connect", headers={"Authorization": f"Bearer {token}"}
    )


async def raw_session(
    scheduler: SchedulerSide, http: aiohttp.ClientSession, key: bytes = KEY, *, slots: int = 0
) -> aiohttp.ClientWebSocketResponse:
    socket = await raw_socket(scheduler, http, key)
    await send(socket, hello(slots=slots))
    assert isinstance(await receive(socket), Welcome)
    return socket


async def send(socket: aiohttp.ClientWebSocketResponse, message: WorkerMessage) -> None:
    await socket.send_str(codec.encode(message).decode())


async def receive(socket: aiohttp.ClientWebSocketResponse) -> SchedulerMessage:
    message: SchedulerMessage = codec.decode(SchedulerMessage, await socket.receive_str(timeout=5))
    return message
