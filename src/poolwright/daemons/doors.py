"""What daemons show of themselves over HTTP: a server, what stands behind it, and the routes all have."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine, Mapping

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from poolwright import __version__
from poolwright.daemons.together import first_of
from poolwright.serving.http import SHUTDOWN_SECONDS, serve
from poolwright.serving.patience import CLIENT_SECONDS, patient_protocol
from poolwright.wire.messages import MAX_MESSAGE_BYTES

Health = Callable[[], Mapping[str, object]]
"""What works; `status` is "ok" or "degraded"."""


class Doors:
    """The ASGI application that the server knows: whatever stands behind it now."""

    def __init__(self, behind: ASGIApp) -> None:
        self.behind = behind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.behind(scope, receive, send)


def watch_routes(health: Health, metrics: Callable[[], Awaitable[bytes]]) -> list[Route]:
    """For whoever watches a daemon: `/health` is 503 while it does not do its work."""

    async def show_health(_: Request) -> Response:
        report = health()
        return JSONResponse(report, 200 if report["status"] == "ok" else 503)

    async def show_metrics(_: Request) -> Response:
        return Response(await metrics(), media_type=CONTENT_TYPE_LATEST)

    async def show_version(_: Request) -> Response:
        return PlainTextResponse(__version__)

    return [
        Route("/health", show_health),
        Route("/version", show_version),
        Route("/metrics", show_metrics),
    ]


def http_server(app: ASGIApp) -> uvicorn.Server:
    """A daemon's server: it refuses long messages and notices dead connections."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=patient_protocol(CLIENT_SECONDS),
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            ws_max_size=MAX_MESSAGE_BYTES,
            ws_ping_interval=20,
            ws_ping_timeout=20,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
    )


async def serve_beside(
    server: uvicorn.Server, listener: socket.socket, *helpers: Coroutine[object, object, object]
) -> None:
    """Serve until told to stop, or until a helper fails: then let requests end, and raise what it raised."""
    serving = asyncio.create_task(serve(server, listener))
    helping = asyncio.create_task(first_of(*helpers))
    try:
        await asyncio.wait({serving, helping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        server.should_exit = True
        helping.cancel()
        await asyncio.wait({serving, helping})
    serving.result()
    if not helping.cancelled():
        helping.result()
