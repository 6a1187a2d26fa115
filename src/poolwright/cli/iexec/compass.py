"""The compass: which URL the scheduler of a workerpool answers at (reference: market-sdk.md 6.3)."""

from __future__ import annotations

from typing import ClassVar, Final

from poolwright.cli.iexec.errors import IexecError
from poolwright.cli.iexec.market_client import ApiError, HttpService
from poolwright.cli.iexec.session import Session
from poolwright.poco.types import Address

TIMEOUT_SECONDS: Final = 5.0
NOT_FOUND: Final = 404


class CompassCallError(IexecError):
    """The compass does not answer, or has trouble; check `compass` of chain.json, or try later."""

    name: ClassVar[str] = "CompassCallError"


async def pool_url(session: Session, pool: Address) -> str | None:
    """The pool's URL, or None: no compass is configured, it does not answer, or does not know the pool.

    Warns people when it is configured and does not answer as it should.
    """
    compass, chain_id = session.chain.compass, session.chain.id
    if compass is None or chain_id is None:
        return None
    try:
        async with HttpService(compass, "Compass API", CompassCallError) as service:
            answer = await service.json(
                "GET", f"/{chain_id}/workerpools/{pool}", timeout_seconds=TIMEOUT_SECONDS
            )
    except IexecError as problem:
        if not (isinstance(problem, ApiError) and problem.status == NOT_FOUND):
            session.run.out.warn(f"compass {compass} gave no answer: {problem}")
        return None
    found = answer.get("apiUrl")
    return found if isinstance(found, str) else None
