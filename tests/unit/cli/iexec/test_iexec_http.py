"""The command's HTTP client against servers that behave, and servers that do not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from poolwright.chain.carrier import AnswerTooLong, NotReached
from poolwright.cli.iexec.http import Http, Request

Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(answer: Answering) -> AsyncIterator[str]:
    """The URL of a server that answers every request so."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def speaking(*said: bytes) -> AsyncIterator[str]:
    """The URL of a server that says these bytes to whoever connects, and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.writelines(said)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_one_connection_serves_one_question_after_the_other() -> None:
    callers: list[object] = []

    async def answer(request: web.Request) -> web.Response:
        assert request.transport is not None
        callers.append(request.transport.get_extra_info("peername"))
        return web.json_response({"asked": (await request.read()).decode()})

    http = Http()
    async with serving(answer) as url:
        for word in ("one", "two", "three"):
            status, body = await http.post(url, word.encode(), timeout_seconds=10, most_bytes=100)
            assert (status, body) == (200, f'{{"asked": "{word}"}}'.encode())
        await http.close()

    assert len(callers) == 3
    assert len(set(callers)) == 1


async def test_questions_at_once_have_connections_of_their_own() -> None:
    arrived = asyncio.Barrier(3)

    async def answer(request: web.Request) -> web.Response:
        await arrived.wait()  # all three are here, or none is answered
        return web.Response(text=request.path)

    http = Http()
    async with serving(answer) as url:
        answers = await asyncio.gather(
            *(http.exchange(Request(method="GET", url=f"{url}/{name}")) for name in "abc")
        )
        await http.close()

    assert [one.body for one in answers] == [b"/a", b"/b", b"/c"]


async def test_a_connection_that_the_server_closed_is_not_used_again() -> None:
    http = Http()
    said = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
    async with speaking(said) as url:
        first = await http.exchange(Request(method="GET", url=url))
        await asyncio.sleep(0)  # the server hangs up after its answer
        second = await http.exchange(Request(method="GET", url=url))
        await http.close()

    assert (first.body, second.body) == (b"ok", b"ok")


async def test_a_redirect_is_followed_and_takes_no_authorization_elsewhere() -> None:
    seen: list[tuple[str, str | None]] = []

    async def there(request: web.Request) -> web.Response:
        seen.append((request.path_qs, request.headers.get("authorization")))
        return web.Response(text="found")

    async with serving(there) as other:

        async def here(request: web.Request) -> web.Response:
            seen.append((request.path_qs, request.headers.get("authorization")))
            to = "/again?x=1" if request.path == "/start" else f"{other}/there"
            raise web.HTTPFound(to)

        async with serving(here) as url:
            http = Http()
            request = Request(method="GET", url=f"{url}/start", headers={"authorization": "secret"})
            answer = await http.exchange(request)
            await http.close()

    assert answer.body == b"found"
    assert seen == [("/start", "secret"), ("/again?x=1", "secret"), ("/there", None)]


async def test_redirects_have_an_end_and_a_body_is_not_sent_elsewhere() -> None:
    async def answer(request: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect(request.path)

    http = Http()
    async with serving(answer) as url:
        with pytest.raises(OSError, match="more than 5 redirects"):
            await http.exchange(Request(method="GET", url=f"{url}/x"))
        posted = await http.exchange(Request(method="POST", url=f"{url}/x", body=b"{}"))
        await http.close()

    assert posted.status == 307


async def test_an_answer_that_trickles_is_given_up_at_the_deadline() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b".")
            await asyncio.sleep(0.02)

    async with serving(answer) as url:
        with pytest.raises(TimeoutError):
            await Http().exchange(Request(method="GET", url=url, timeout_seconds=0.2))


async def test_a_cancelled_question_closes_its_connection() -> None:
    asked, hung_up = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        assert await reader.read() == b""
        hung_up.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        question = asyncio.create_task(Http().exchange(Request(method="GET", url=url, timeout_seconds=60)))
        await asked.wait()
        question.cancel()
        with pytest.raises(asyncio.CancelledError):
            await question
        await hung_up.wait()


async def test_too_long_answers_and_broken_ones_are_told_apart() -> None:
    long = b"HTTP/1.1 200 OK\r\ncontent-length: 200\r\n\r\n" + b"x" * 200
    short = b"HTTP/1.1 200 OK\r\ncontent-length: 200\r\n\r\nonly this"
    no_http = b"220 mail.example.com ESMTP\r\n"
    for said, error, words in (
        (long, AnswerTooLong, None),
        (short, OSError, "early|IncompleteRead"),
        (no_http, OSError, "BadStatusLine"),
        (b"", OSError, "RemoteDisconnected|closed|reset"),
    ):
        async with speaking(said) as url:
            with pytest.raises(error, match=words):
                await Http().exchange(Request(method="GET", url=url, most_bytes=100))


async def test_a_download_is_taken_in_pieces_with_its_length() -> None:
    content = bytes(range(256)) * 4000
    got = bytearray()
    totals: set[int] = set()

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=content) if request.path == "/file" else web.Response(status=404, text="no")

    def take(piece: bytes, total: int) -> None:
        got.extend(piece)
        totals.add(total)

    async with serving(answer) as url:
        found = await Http().exchange(
            Request(method="GET", url=f"{url}/file", silence_seconds=10, most_bytes=1, take=take)
        )
        refused = await Http().exchange(Request(method="GET", url=f"{url}/nothing", take=take))

    assert (found.status, found.body, bytes(got), totals) == (200, b"", content, {len(content)})
    assert (refused.status, refused.body) == (404, b"no")


async def test_nobody_at_the_port_and_no_url_are_not_reached() -> None:
    async with speaking() as url:
        pass
    for unreachable in (url, "ftp://example.com/x", "nothing"):
        with pytest.raises(NotReached):
            await Http().exchange(Request(method="GET", url=unreachable))
