"""The body of a request, if it is short and comes in time."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from poolwright.poco.errors import InputError


class BodyTooLong(InputError):
    """Send a shorter body."""

    http_status = 413


class BodyTooSlow(InputError):
    """Send the body again over a faster connection."""

    http_status = 408


async def read_bounded(request: Request, *, most_bytes: int, seconds: float) -> bytes:
    """The whole body. Raises BodyTooLong or BodyTooSlow, and ClientDisconnect when the client leaves."""
    chunks: list[bytes] = []
    length = 0
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                length += len(chunk)
                if length > most_bytes:
                    raise BodyTooLong(f"the body is longer than {most_bytes} bytes", code="too-large")
                chunks.append(chunk)
    except TimeoutError:
        raise BodyTooSlow(
            f"the body did not come within {seconds:g} seconds",
            code="too-slow",
            next_step="send it again over a faster connection",
        ) from None
    return b"".join(chunks)
