"""Listening, serving until told to stop, and what an error looks like to a client."""

from __future__ import annotations

import errno
import json
import signal
import socket
from collections.abc import Mapping
from typing import Final

import uvicorn

from poolwright.poco.errors import InputError, PeerError, PoolwrightError, Unavailable

SHUTDOWN_SECONDS: Final = 5
MAX_UNKNOWN: Final = 200
"""Characters that are shown of an error that is not one of our services'."""
CLOSING: Final = {"Connection": "close"}
"""Headers of an answer to a body that was not read to its end."""
_STATUS: Final[Mapping[type[PoolwrightError], int]] = {InputError: 400, PeerError: 502, Unavailable: 503}


def listen(host: str, port: int, *, setting: str) -> socket.socket:
    """A listening socket. Raises InputError naming `setting` when the address cannot be had.

    The protocol is named because asyncio sets TCP_NODELAY only on sockets that name it; without that an
    answer in two writes waits some 40 ms for the client's delayed acknowledgement.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as problem:
        listener.close()
        is_taken = problem.errno == errno.EADDRINUSE
        raise InputError(
            f"cannot listen on {host}:{port}",
            code="port-taken" if is_taken else "cannot-listen",
            expected="a free port" if is_taken else "an address of this machine and a port this user may use",
            got="another program listens there" if is_taken else problem.strerror or str(problem),
            next_step=("stop that program, or " if is_taken else "") + f"set {setting}",
        ) from problem
    return listener


def url_of(listener: socket.socket) -> str:
    """The URL under which the socket is reached from this machine."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def serve(server: uvicorn.Server, listener: socket.socket) -> None:
    """Run uvicorn until its `should_exit`, or until SIGTERM or SIGINT comes.

    Uvicorn sends itself the caught signal again once it has stopped; that one is for nobody.
    """
    caught = (signal.SIGTERM, signal.SIGINT)
    previous = [signal.signal(each, lambda *_: None) for each in caught]
    try:
        await server.serve(sockets=[listener])
    finally:
        for each, handler in zip(caught, previous, strict=True):
            signal.signal(each, handler)


def status_of(problem: PoolwrightError) -> int:
    """The HTTP status that the error's class names as `http_status`, or else the one that says who must act.

    A PeerError without a status of its own comes from whom we asked, not from who asks us. What is none of
    the kinds is a bug of ours, 500.
    """
    own = getattr(problem, "http_status", None)
    by_kind = (status for kind, status in _STATUS.items() if isinstance(problem, kind))
    return own if isinstance(own, int) else next(by_kind, 500)


def error_body(problem: PoolwrightError) -> Mapping[str, object]:
    """`{code, message, details}`, as every service of ours answers."""
    details = {"expected": problem.expected, "got": problem.got, "nextStep": problem.next_step}
    return {
        "code": problem.code,
        "message": str(problem),
        "details": {name: value for name, value in details.items() if value},
    }


def explanation(body: str) -> tuple[str, str]:
    """Code and message of an `error_body` that came, or `unknown` and the beginning of whatever came."""
    try:
        fields = json.loads(body)
        return str(fields["code"]), str(fields["message"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return "unknown", body[:MAX_UNKNOWN]
