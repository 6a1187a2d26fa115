"""The socket that every service of ours listens on."""

from __future__ import annotations

import asyncio
import socket

from poolwright.serving.http import listen


async def test_an_accepted_connection_sends_small_answers_at_once() -> None:
    """Nagle's algorithm is off, so an answer in two writes does not wait for the client's acknowledgement."""
    accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        own: socket.socket = writer.get_extra_info("socket")
        accepted.set_result(own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    listener = listen("127.0.0.1", 0, setting="PORT")
    async with await asyncio.start_server(answered, sock=listener):
        _, writer = await asyncio.open_connection(*listener.getsockname())
        no_delay = await asyncio.wait_for(accepted, 10)
        writer.close()

    assert no_delay != 0
