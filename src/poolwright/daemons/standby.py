"""A scheduler that waits for its turn: it holds its address, says who leads, and turns workers away.

One server listens from the start to the end of the process. What stands behind it changes once: first this
module's answers, then, when the store is ours to write, the scheduler's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from poolwright import __version__
from poolwright.poco.errors import PoolwrightError, Unavailable
from poolwright.serving.http import error_body

if TYPE_CHECKING:
    from poolwright.store.lease import Candidate, Leader, Term

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 0.5
"""How often it is looked whether the lease is free."""
EVERY_METHOD: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class Standby:
    """What is known of the leader, and the ASGI application that tells it."""

    def __init__(self) -> None:
        self._leader: Leader | None = None
        self._trouble: PoolwrightError | None = None

    async def wait(self, candidate: Candidate) -> Term:
        """Look until the lease is ours; a store that does not answer meanwhile is asked again."""
        while True:
            try:
                term = await candidate.take()
                if term is not None:
                    self._say_leading(candidate, term)
                    return term
                self._saw(candidate, await candidate.leader())
            except Unavailable as problem:
                if self._trouble is None:
                    log.warning("store does not answer", store=candidate.name, reason=str(problem))
                self._trouble = problem
            await asyncio.sleep(LOOK_SECONDS)

    def app(self) -> Starlette:
        """The answers of a scheduler that does not lead."""
        return Starlette(
            routes=[
                Route("/health", self.health),
                Route("/version", _version),
                WebSocketRoute("/{path:path}", _Refusal(self)),
                Route("/{path:path}", self.refuse, methods=EVERY_METHOD),
            ]
        )

    async def health(self, _: Request) -> Response:
        """200 while it waits as it should; 503 while it is starting or the store does not answer."""
        is_well = self._trouble is None and self._leader is not None
        report = self._report() | {"status": "ok" if is_well else "degraded"}
        return JSONResponse(report, 200 if is_well else 503)

    async def refuse(self, _: Request) -> Response:
        """503 and who leads: whoever asked tries the next address, or this one again."""
        return JSONResponse(error_body(self._refusal()), 503)

    def _saw(self, candidate: Candidate, leader: Leader) -> None:
        known = self._leader
        if self._trouble is not None or known is None or known.term != leader.term:
            log.info("standing by", store=candidate.name, leader=leader.holder, term=leader.term)
        self._leader, self._trouble = leader, None

    def _say_leading(self, candidate: Candidate, term: Term) -> None:
        before = self._leader.holder if self._leader is not None else None
        log.info("leading", store=candidate.name, term=term, instead_of=before)

    def _report(self) -> dict[str, object]:
        leader = self._leader
        return {
            "role": "starting" if leader is None else "standby",
            "leader": None if leader is None else leader.holder,
            "term": None if leader is None else leader.term,
            "trouble": None if self._trouble is None else str(self._trouble),
            "version": __version__,
        }

    def _refusal(self) -> Unavailable:
        if self._leader is None:
            return Unavailable(
                "this scheduler is starting", code="starting", next_step="ask again in a moment"
            )
        return Unavailable(
            "this scheduler stands by",
            code="standby",
            expected=f"the one that leads: {self._leader.holder}",
            next_step="ask that one; this one answers when it leads",
        )


class _Refusal:
    """The WebSocket route as a raw ASGI endpoint."""

    def __init__(self, standby: Standby) -> None:
        self._standby = standby

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        socket = WebSocket(scope, receive, send)
        await socket.receive()  # its request to connect
        await socket.send_denial_response(JSONResponse(error_body(self._standby._refusal()), 503))


async def _version(_: Request) -> Response:
    return PlainTextResponse(__version__)
