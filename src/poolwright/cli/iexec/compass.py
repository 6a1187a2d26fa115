"""The compass: which URL the scheduler of a workerpool answers at (reference: market-sdk.md 6.3)."""

from __future__ import annotations

from typing import Final

import aiohttp

from poolwright.cli.iexec.session import Session
from poolwright.poco.types import Address

TIMEOUT: Final = aiohttp.ClientTimeout(total=5)


async def pool_url(session: Session, pool: Address) -> str | None:
    """The pool's URL, or None: no compass is configured, it does not answer, or does not know the pool.

    Warns people when it is configured and does not answer as it should.
    """
    compass, chain_id = session.chain.compass, session.chain.id
    if compass is None or chain_id is None:
        return None
    url = f"{_origin(compass)}/{chain_id}/workerpools/{pool}"
    try:
        async with session.rpc.session.get(url, timeout=TIMEOUT) as response:
            if response.status == 404:
                return None
            response.raise_for_status()
            answer = await response.json(content_type=None)
            found = answer.get("apiUrl")
            return found if isinstance(found, str) else None
    except (aiohttp.ClientError, TimeoutError, ValueError, AttributeError) as problem:
        session.run.out.warn(f"compass {url} gave no answer: {problem or type(problem).__name__}")
        return None


def _origin(url: str) -> str:
    """Scheme, host and port; the official client drops the path, so one URL fits both."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"
