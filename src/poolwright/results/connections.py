"""Patience with slow clients, as an HTTP protocol class for uvicorn.

uvicorn waits for ever for a client that sends half a request head, or that stops reading a download. Here
each gets `stall_seconds`: to send its head, from the first byte that is missing, and to read the 64 KiB or
so that wait in the send buffer. Then the connection is cut, which is all that such a client notices. The
body of an upload has its own bound in `intake`, because there a proper answer can be given.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol


class _Fuse:
    """Cuts a connection unless it is put out in time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None

    def light(self, transport: asyncio.Transport) -> None:
        """Start burning; a fuse that burns already goes on."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, transport.abort)

    def put_out(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def patient_protocol(stall_seconds: float) -> type[H11Protocol]:
    """Return the protocol class for this patience, in seconds."""

    class PatientProtocol(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
            super().connection_made(transport)
            self._head = _Fuse(stall_seconds)
            self._reader = _Fuse(stall_seconds)
            self._head.light(transport)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            is_answering = self.cycle is not None and not self.cycle.response_complete
            if is_answering or self.timeout_keep_alive_task is not None:
                self._head.put_out()
            else:
                self._head.light(self.transport)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._reader.light(self.transport)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._reader.put_out()

        def connection_lost(self, exc: Exception | None) -> None:
            self._head.put_out()
            self._reader.put_out()
            super().connection_lost(exc)

    return PatientProtocol
