"""How a JSON-RPC body travels to a node and back: the port of `Rpc`, and its usual hand.

Daemons keep many exchanges in the air at once and use aiohttp (`AiohttpCarrier`, imported when first needed:
it takes longer to load than a command-line call may take in all); the `iexec` command brings its own.
"""

from __future__ import annotations

from typing import Protocol


class NotReached(OSError):
    """No connection: the node has not seen the request."""


class AnswerTooLong(Exception):
    """The answer is longer than the bound; the rest was not read."""


class Carrier(Protocol):
    """Sends one HTTP POST after the other, or many at once."""

    async def post(
        self, url: str, body: bytes, *, timeout_seconds: float, most_bytes: int
    ) -> tuple[int, bytes]:
        """Send JSON; returns status and body of the answer.

        Raises TimeoutError when it is not complete in time, NotReached, AnswerTooLong, and OSError when
        the connection fails on the way.
        """
        ...

    async def close(self) -> None:
        """Close all connections; the carrier can be used again afterwards."""
        ...
