"""The carrier of the daemons: aiohttp with a pool of connections."""

from __future__ import annotations

from typing import Final

import aiohttp

from poolwright.chain.carrier import AnswerTooLong, NotReached

CONNECTIONS_PER_NODE: Final = 32
KEEP_SECONDS: Final = 30.0


class AiohttpCarrier:
    """See `Carrier`. Its HTTP session is made in the running event loop at first use."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """See Carrier."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def post(
        self, url: str, body: bytes, *, timeout_seconds: float, most_bytes: int
    ) -> tuple[int, bytes]:
        """See Carrier."""
        headers = {"content-type": "application/json"}
        timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        try:
            async with self._open().post(url, data=body, headers=headers, timeout=timeout) as response:
                return response.status, await _read_bounded(response, most_bytes)
        except TimeoutError:
            raise
        except aiohttp.ClientConnectorError as problem:
            raise NotReached(str(problem)) from problem
        except (aiohttp.ClientError, OSError) as problem:
            raise OSError(f"{type(problem).__name__} {problem}".strip()) from problem

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            connector = aiohttp.TCPConnector(
                limit_per_host=CONNECTIONS_PER_NODE, keepalive_timeout=KEEP_SECONDS
            )
            self._session = aiohttp.ClientSession(connector=connector)
        return self._session


async def _read_bounded(response: aiohttp.ClientResponse, most_bytes: int) -> bytes:
    chunks: list[bytes] = []
    length = 0
    async for chunk in response.content.iter_any():
        length += len(chunk)
        if length > most_bytes:
            response.close()
            raise AnswerTooLong
        chunks.append(chunk)
    return b"".join(chunks)
