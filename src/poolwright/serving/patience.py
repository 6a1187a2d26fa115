"""Patience with slow and boundless clients, as an HTTP protocol class for uvicorn.

uvicorn waits for ever for a client that sends half a request head, or that stops reading an answer, and its
fast parser takes a head of any length. Here each has a bound:

    a head        `stall_seconds` from its first missing byte, MAX_HEAD_BYTES; then 408 or 431, and the end
    an answer     `stall_seconds` to read the 64 KiB or so that wait in the send buffer; then the connection
                  is cut, which is all that such a client notices

An answer's head leaves together with the beginning of its body: one packet and one system call, not two.

The body of a request is bounded where it is read (`serving.bodies`), because there a proper answer is given.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES: Final = 32 * 1024
"""Of a request's target and headers together."""
CLIENT_SECONDS: Final = 10.0
"""Patience where the operator does not set one."""


class _Fuse:
    """Ends a connection unless it is put out in time."""

    def __init__(self, seconds: float, end: Callable[[], None]) -> None:
        self._seconds = seconds
        self._end = end
        self._timer: asyncio.TimerHandle | None = None

    def light(self) -> None:
        """Start burning; a fuse that burns already goes on."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._end)

    def put_out(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Joining:
    """The transport of one answer: the head waits for a next piece that comes in this turn of the loop."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._held = b""
        self._timer: asyncio.Handle | None = None
        self._is_begun = False

    def write(self, data: bytes) -> None:
        if not self._is_begun:
            self._is_begun, self._held = True, data
            self._timer = asyncio.get_running_loop().call_soon(self._flush)
        elif self._held:
            self._held += data
            self._flush()
        else:
            self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._held:
            held, self._held = self._held, b""
            self._transport.write(held)


class _HeadTooLong(Exception):
    """Raised inside the parser, which then gives the request up."""


def patient_protocol(stall_seconds: float) -> type[HttpToolsProtocol]:
    """Return the protocol class for this patience, in seconds."""

    class PatientProtocol(HttpToolsProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
            super().connection_made(transport)
            self._late_head = _Fuse(stall_seconds, self._give_head_up)
            self._late_reader = _Fuse(stall_seconds, transport.abort)
            self._is_in_head = False
            self._is_refused = False
            self._named_bytes = 0
            """Of the target and the headers that the parser has told of."""
            self._waiting_bytes = 0
            """Of pieces that came and did not end the head."""
            self._late_head.light()

        def data_received(self, data: bytes) -> None:
            if self._is_refused:
                return
            was_in_head = self._is_in_head
            super().data_received(data)
            if self._is_over():
                self._late_head.put_out()
                return
            if self.cycle is not None and not self.cycle.response_complete:
                self._late_head.put_out()
                return
            self._late_head.light()
            if was_in_head and self._is_in_head:
                self._waiting_bytes += len(data)
                if self._waiting_bytes > MAX_HEAD_BYTES:
                    self._refuse_long_head()

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._is_in_head, self._named_bytes, self._waiting_bytes = True, 0, 0

        def on_url(self, url: bytes) -> None:
            self._count(len(url))
            super().on_url(url)

        def on_header(self, name: bytes, value: bytes) -> None:
            self._count(len(name) + len(value))
            super().on_header(name, value)

        def on_headers_complete(self) -> None:
            self._is_in_head = False
            before = self.cycle
            super().on_headers_complete()
            if self.cycle is not before:  # a request of HTTP, which nobody has begun to answer
                self.cycle.transport = _Joining(self.transport)  # type: ignore[assignment] # as far as it is used

        def send_400_response(self, msg: str) -> None:
            if self._named_bytes > MAX_HEAD_BYTES:
                self._refuse_long_head()
            else:
                super().send_400_response(msg)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._late_reader.light()

        def resume_writing(self) -> None:
            super().resume_writing()
            if not self._is_refused:
                self._late_reader.put_out()

        def connection_lost(self, exc: Exception | None) -> None:
            self._late_head.put_out()
            self._late_reader.put_out()
            super().connection_lost(exc)

        def _is_over(self) -> bool:
            """Whether nothing more is expected here: refused, ended, or a WebSocket now."""
            transport = self.transport
            return self._is_refused or transport.is_closing() or transport.get_protocol() is not self

        def _count(self, more: int) -> None:
            self._named_bytes += more
            if self._named_bytes > MAX_HEAD_BYTES:
                raise _HeadTooLong

        def _give_head_up(self) -> None:
            if self._is_in_head:
                self._refuse(408, f"the request head did not come within {stall_seconds:g} seconds")
            else:
                self.transport.abort()

        def _refuse_long_head(self) -> None:
            self._refuse(431, f"target and headers are longer than {MAX_HEAD_BYTES} bytes together")

        def _refuse(self, status: int, text: str) -> None:
            """Answer without the application; the connection ends with the client, or a patience later.

            What it still sends is thrown away: a connection closed on unread bytes is reset, and the reset
            can overtake the answer.
            """
            self._is_refused = True
            self._late_head.put_out()
            self._late_reader.light()
            head = (
                f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: text/plain\r\n"
                f"content-length: {len(text)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write((head + text).encode())
            self.transport.write_eof()

    return PatientProtocol
