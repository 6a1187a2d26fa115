"""The news by Socket.IO v4 at /ws, as existing clients listen to them (reference 4.10).

A client emits `join {chainId, topic}` and is answered true; topic is `orders` or `deals`, the room is
`<chainId>:<topic>`. `leave {chainId, topic}` leaves it again, which the reference's own service intends and
does not do. There is no authentication: all of it is public.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import socketio  # type: ignore[import-untyped]  # ships no types
from starlette.types import ASGIApp

from poolwright.market.app import TOPICS, Marketplace
from poolwright.market.feed import Piece

PATH: Final = "ws"
_WAITING: Final = 20_000


def with_sockets(app: ASGIApp, marketplace: Marketplace) -> ASGIApp:
    """The application with Socket.IO before it."""
    server = socketio.AsyncServer(
        async_mode="asgi", cors_allowed_origins="*", max_http_buffer_size=64 * 1024, logger=False
    )
    waiting: asyncio.Queue[Piece] = asyncio.Queue(_WAITING)
    pumps: set[asyncio.Task[None]] = set()

    async def pump() -> None:
        while True:
            piece = await waiting.get()
            await server.emit(piece.name, json.loads(piece.text), room=f"{piece.chain_id}:{piece.topic}")

    def hear(piece: Piece) -> None:
        if pumps and not waiting.full():
            waiting.put_nowait(piece)

    def room_of(wish: Any) -> str | None:
        if not isinstance(wish, dict) or wish.get("topic") not in TOPICS:
            return None
        chain = str(wish.get("chainId", ""))
        is_known = chain.isdecimal() and len(chain) < 20 and int(chain) in marketplace.markets
        return f"{int(chain)}:{wish['topic']}" if is_known else None

    async def join(sid: str, wish: Any = None) -> bool:
        room = room_of(wish)
        if room is None:
            return False
        if not pumps:
            pumps.add(asyncio.create_task(pump(), name="socket-news"))
        await server.enter_room(sid, room)
        return True

    async def leave(sid: str, wish: Any = None) -> bool:
        room = room_of(wish)
        if room is None:
            return False
        await server.leave_room(sid, room)
        return True

    async def leave_all(sid: str, wish: Any = None) -> bool:
        for room in list(server.rooms(sid)):
            if room != sid:
                await server.leave_room(sid, room)
        return True

    server.on("join", join)
    server.on("leave", leave)
    server.on("leaveAll", leave_all)
    marketplace.feed.hooks.append(hear)
    together: ASGIApp = socketio.ASGIApp(server, app, socketio_path=PATH)
    return together
