"""HTTP for one command: the standard library's client, because it loads in a tenth of the time of others.

A command asks a handful of questions and ends, so its start counts more than many connections at once. Each
exchange blocks a thread of its own; the deadline is the exchange's, not only each read's, and a cancelled
exchange closes its connection, so Ctrl-C ends it at once. `Http` is also the `Carrier` of a command's `Rpc`.
"""

from __future__ import annotations

import asyncio
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import SplitResult, urljoin, urlsplit

from poolwright.chain.carrier import AnswerTooLong, NotReached

if TYPE_CHECKING:
    import ssl

T = TypeVar("T")

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
MOST_REDIRECTS: Final = 5
PIECE_BYTES: Final = 256 * 1024
OK: Final = 200
NOT_IMPLEMENTED: Final = 501
"""The server will never do this, unlike with other 5xx; so it is an answer like a 4xx."""

Take = Callable[[bytes, int], None]
"""Takes the next piece of a body, and the length of the whole (0 when the server does not tell)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP answer."""

    status: int
    reason: str
    kind: str
    """The content type."""
    location: str
    body: bytes
    """Empty when it was taken piece by piece."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked for, and within which bounds."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    timeout_seconds: float = 30.0
    silence_seconds: float | None = None
    """When given, the bound of each wait for the server instead of the whole exchange's."""
    most_bytes: int = 16 * 1024 * 1024
    take: Take | None = None
    """Gets the body of an answer 200 piece by piece; `most_bytes` does not bound it."""


class Http:
    """Keeps connections for the next question to the same server."""

    def __init__(self) -> None:
        self._idle: dict[tuple[str, str], list[HTTPConnection]] = {}

    async def close(self) -> None:
        """Close all connections; it can be used again afterwards."""
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()

    async def post(
        self, url: str, body: bytes, *, timeout_seconds: float, most_bytes: int
    ) -> tuple[int, bytes]:
        """See Carrier."""
        headers = {"content-type": "application/json"}
        request = Request(
            method="POST",
            url=url,
            headers=headers,
            body=body,
            timeout_seconds=timeout_seconds,
            most_bytes=most_bytes,
        )
        answer = await self.exchange(request)
        return answer.status, answer.body

    async def exchange(self, request: Request) -> Answer:
        """One question and its answer; a question without a body follows redirects.

        Raises TimeoutError, NotReached, AnswerTooLong, and OSError when the connection fails on the way.
        """
        url, headers = request.url, dict(request.headers)
        for _ in range(MOST_REDIRECTS):
            answer = await self._one(request, url, headers)
            if answer.status not in REDIRECTS or request.body is not None or not answer.location:
                return answer
            target = urljoin(url, answer.location)
            if _place(urlsplit(target)) != _place(urlsplit(url)):
                headers.pop("authorization", None)
            url = target
        raise OSError(f"more than {MOST_REDIRECTS} redirects from {request.url}")

    async def _one(self, request: Request, url: str, headers: Mapping[str, str]) -> Answer:
        parts = urlsplit(url)
        place = _place(parts)
        connection = self._kept(place) or _new_connection(parts)
        try:
            answer, is_reusable = await _in_thread(lambda: _talk(connection, request, parts, headers))
        except BaseException:
            _abort(connection)
            raise
        if is_reusable:
            self._idle.setdefault(place, []).append(connection)
        else:
            connection.close()
        return answer

    def _kept(self, place: tuple[str, str]) -> HTTPConnection | None:
        """An open connection to the server; those that it closed meanwhile are dropped."""
        kept = self._idle.get(place, [])
        while kept:
            connection = kept.pop()
            if connection.sock is not None and not select.select([connection.sock], [], [], 0)[0]:
                return connection
            connection.close()
        return None


def _talk(
    connection: HTTPConnection, request: Request, parts: SplitResult, headers: Mapping[str, str]
) -> tuple[Answer, bool]:
    """The exchange itself, blocking; tells also whether the connection may be used again."""
    end = time.monotonic() + request.timeout_seconds

    def bound() -> None:
        """Bound the next wait for the server."""
        left = end - time.monotonic() if request.silence_seconds is None else request.silence_seconds
        if left <= 0:
            raise TimeoutError
        connection.timeout = left
        if connection.sock is not None:
            connection.sock.settimeout(left)

    try:
        if connection.sock is None:
            bound()
            try:
                connection.connect()
            except OSError as problem:
                raise NotReached(f"cannot connect to {parts.netloc}: {problem}") from problem
        bound()
        path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        connection.request(request.method, path, body=request.body, headers=dict(headers))
        bound()
        response = connection.getresponse()
        take = request.take if response.status == OK else None
        body = _read(response, bound, take, request.most_bytes)
    except HTTPException as problem:
        raise OSError(f"{type(problem).__name__} {problem}".strip()) from problem
    answer = Answer(
        status=response.status,
        reason=response.reason,
        kind=response.headers.get("content-type", ""),
        location=response.headers.get("location", ""),
        body=body,
    )
    return answer, connection.sock is not None and not response.will_close


def _read(response: HTTPResponse, bound: Callable[[], None], take: Take | None, most_bytes: int) -> bytes:
    """The whole body, or nothing when `take` gets its pieces."""
    total = int(response.headers.get("content-length") or 0) if take is not None else 0
    pieces: list[bytes] = []
    length = 0
    while True:
        bound()
        piece = response.read1(PIECE_BYTES)
        if not piece:
            break
        length += len(piece)
        if take is not None:
            take(piece, total)
        elif length > most_bytes:
            raise AnswerTooLong
        else:
            pieces.append(piece)
    if response.length:  # the server promised more
        raise OSError(f"the answer ended {response.length} bytes too early")
    response.close()  # after `read1` the connection waits for this before it takes the next question
    return b"".join(pieces)


async def _in_thread(work: Callable[[], T]) -> T:
    """Run blocking work in a thread that does not keep the process alive."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(name: str, value: Any) -> None:
        if not future.done():
            getattr(future, name)(value)

    def run() -> None:
        try:
            outcome: tuple[str, Any] = ("set_result", work())
        except Exception as problem:  # noqa: BLE001  raised again where it is awaited
            outcome = ("set_exception", problem)
        with suppress(RuntimeError):  # the command has ended meanwhile
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=run, daemon=True).start()
    return await future


def _abort(connection: HTTPConnection) -> None:
    """Wake the thread that waits on the connection, and close it."""
    if connection.sock is not None:
        with suppress(OSError):  # it is closed already
            connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()


def _new_connection(parts: SplitResult) -> HTTPConnection:
    if parts.hostname is None or parts.scheme not in ("http", "https"):
        raise NotReached(f"not a URL: {parts.geturl()!r}")
    if parts.scheme == "http":
        return HTTPConnection(parts.hostname, parts.port)
    from http.client import HTTPSConnection

    return HTTPSConnection(parts.hostname, parts.port, context=_tls())


@cache
def _tls() -> ssl.SSLContext:
    """The system's certificates; reading them takes longer than a question to a node."""
    import ssl

    return ssl.create_default_context()


def _place(parts: SplitResult) -> tuple[str, str]:
    return parts.scheme, parts.netloc
