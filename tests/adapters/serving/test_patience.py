"""Clients that dribble, stop or send without end, over real sockets, and clients that behave."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from poolwright.poco.errors import InputError
from poolwright.serving.bodies import read_bounded
from poolwright.serving.http import error_body, listen, serve, status_of
from poolwright.serving.patience import MAX_HEAD_BYTES, patient_protocol

PATIENCE = 0.3
GET = b"GET /hello HTTP/1.1\r\nHost: x\r\n"


async def _hello(request: Request) -> Response:
    return PlainTextResponse("hello")


async def _echo(request: Request) -> Response:
    return PlainTextResponse(await read_bounded(request, most_bytes=1000, seconds=PATIENCE))


async def _much(request: Request) -> Response:
    return PlainTextResponse(b"x" * 8 * 1024 * 1024)


async def _speak(connection: WebSocket) -> None:
    await connection.accept()
    await connection.send_text(await connection.receive_text())


async def _refused(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, InputError)
    return PlainTextResponse(str(error_body(problem)), status_of(problem), headers={"Connection": "close"})


@asynccontextmanager
async def serving(patience: float = PATIENCE) -> AsyncIterator[tuple[uvicorn.Server, int]]:
    app = Starlette(
        routes=[
            Route("/hello", _hello),
            Route("/echo", _echo, methods=["POST"]),
            Route("/much", _much),
            WebSocketRoute("/speak", _speak),
        ],
        exception_handlers={InputError: _refused},
    )
    listener = listen("127.0.0.1", 0, setting="PORT")
    server = uvicorn.Server(
        uvicorn.Config(app, http=patient_protocol(patience), lifespan="off", log_config=None)
    )
    running = asyncio.create_task(serve(server, listener))
    try:
        yield server, listener.getsockname()[1]
    finally:
        server.should_exit = True
        await running
        listener.close()


async def dribbled(port: int, *pieces: bytes, forever: bytes = b"") -> bytes:
    """All that the server says to a client that sends these pieces, then one byte now and then."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    async with asyncio.timeout(20):
        with suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            while True:
                writer.write(forever)
                await writer.drain()
                try:
                    async with asyncio.timeout(0.02):
                        piece = await reader.read(65536)
                except TimeoutError:
                    continue
                if not piece:
                    break
                answer += piece
    writer.close()
    return answer


@pytest.mark.parametrize(
    ("pieces", "forever"),
    [
        ((b"GET /hel",), b""),
        ((b"GET /hel",), b"l"),
        ((GET, b"X-Slow: "), b"y"),
        ((GET, b"X-Slow: y\r\n"), b""),
    ],
    ids=["stops", "dribbles a target", "dribbles a header", "stops before the end"],
)
async def test_a_head_that_does_not_come_is_told_and_cut(pieces: tuple[bytes, ...], forever: bytes) -> None:
    async with serving() as (_, port):
        answer = await dribbled(port, *pieces, forever=forever)

    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert answer.endswith(b"the request head did not come within 0.3 seconds")


async def test_a_second_head_on_the_same_connection_has_the_same_bound() -> None:
    async with serving() as (_, port):
        answer = await dribbled(port, GET + b"\r\n", b"GET /hel", forever=b"l")

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"hello" in answer
    assert b"HTTP/1.1 408" in answer


async def test_a_silent_connection_is_cut_without_a_word() -> None:
    async with serving() as (_, port):
        assert await dribbled(port) == b""


@pytest.mark.parametrize(
    "pieces",
    [
        (GET + b"X-Long: " + b"y" * MAX_HEAD_BYTES + b"\r\n\r\n",),
        (b"GET /hello?" + b"y" * MAX_HEAD_BYTES + b" HTTP/1.1\r\n\r\n",),
        (GET, *(b"X-%d: y\r\n" % number for number in range(20_000))),
        (GET + b"X-Endless: ", *(b"y" * 1000 for _ in range(600))),
    ],
    ids=["a header", "a target", "many headers", "a header without end"],
)
async def test_a_head_without_measure_is_refused(pieces: tuple[bytes, ...]) -> None:
    async with serving(20) as (_, port):
        answer = await dribbled(port, *pieces)

    assert answer.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert answer.endswith(b"target and headers are longer than 32768 bytes together")


async def test_what_is_no_http_is_told_so() -> None:
    async with serving(20) as (_, port):
        assert (await dribbled(port, b"\x16\x03\x01 no http\r\n\r\n")).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    ("body", "forever", "status"),
    [
        (b"Content-Length: 900\r\n\r\nhalf", b"", b"408"),
        (b"Content-Length: 900\r\n\r\nhalf", b"x", b"408"),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", b"408"),
        (b"Content-Length: 1001\r\n\r\n" + b"x" * 1001, b"", b"413"),
    ],
    ids=["stops", "dribbles", "dribbles chunks", "too long"],
)
async def test_a_body_that_is_slow_or_long_is_refused(body: bytes, forever: bytes, status: bytes) -> None:
    async with serving() as (_, port):
        answer = await dribbled(port, b"POST /echo HTTP/1.1\r\nHost: x\r\n" + body, forever=forever)

    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b"the body" in answer


async def test_a_body_that_nobody_reads_does_not_hold_the_connection() -> None:
    """The answer came before the body's end; a client that goes on dribbling is cut."""
    async with serving() as (_, port):
        answer = await dribbled(port, GET + b"Content-Length: 9000\r\n\r\n", forever=b"x")

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_reader_that_stops_is_cut() -> None:
    loop = asyncio.get_running_loop()
    async with serving() as (server, port):
        with socket.socket() as stopping:
            stopping.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            stopping.setblocking(False)
            await loop.sock_connect(stopping, ("127.0.0.1", port))
            await loop.sock_sendall(stopping, b"GET /much HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await loop.sock_recv(stopping, 1) == b"H"
            await until(lambda: not server.server_state.connections)


async def test_those_who_behave_are_served_longer_than_anybodys_patience() -> None:
    async with serving(0.1) as (_, port), aiohttp.ClientSession() as http:
        url = f"http://127.0.0.1:{port}"
        async with http.ws_connect(f"{url}/speak") as talk:
            for _ in range(3):
                async with http.get(f"{url}/hello") as answer:
                    assert await answer.text() == "hello"
                async with http.post(f"{url}/echo", data=b"x" * 1000) as answer:
                    assert await answer.text() == "x" * 1000
                await asyncio.sleep(0.1)
            await talk.send_str("still here")
            assert await talk.receive_str() == "still here"


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_so():  # noqa: ASYNC110  the server tells nobody when a connection ends
            await asyncio.sleep(0.01)
