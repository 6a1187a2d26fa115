"""The operator's routes of the scheduler: who computes here, and what the pool's owner says about it.

Reading is open to all, as the pool is. What changes something is for the wallet that owns the workerpool: it
logs in as a worker does (`wire/login.py`), and its token opens these routes instead of the workers' door.
Nothing has to be configured for that, and nothing is remembered: whoever holds the wallet is the operator.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from poolwright.poco.types import Address, Timestamp, WorkerAddress
from poolwright.scheduler import view
from poolwright.scheduler.events import (
    OperatorAllowedWorker,
    OperatorDrainedWorker,
    OperatorEvent,
    OperatorNamedOwner,
    OperatorResumedWorker,
)
from poolwright.scheduler.pool import Pool
from poolwright.scheduler.standing import MAX_WORD, is_admitted
from poolwright.wire.login import LoginRefused, check_token

MAX_WORDS = 100_000
"""Wallets on which the operator's word is kept, and as many whose owners are."""


class OperatorApi:
    """Routes about workers. `tell` makes an event durable; `owner` is the wallet that may change things."""

    def __init__(
        self,
        *,
        pool: Callable[[], Pool],
        tell: Callable[[OperatorEvent], Awaitable[object]],
        chain_now: Callable[[], Timestamp],
        token_key: bytes,
        owner: Address,
    ) -> None:
        self._pool = pool
        self._tell = tell
        self._chain_now = chain_now
        self._token_key = token_key
        self.owner = owner

    def routes(self) -> list[Route]:
        return [
            Route("/workers", self.workers),
            Route("/workers/{worker}/{word:str}", self.say, methods=["POST"]),
        ]

    async def workers(self, _: Request) -> Response:
        """All workers that ever connected, and the operator's word on wallets."""
        return await asyncio.to_thread(lambda: JSONResponse(view.workers_model(self._pool())))

    async def say(self, request: Request) -> Response:
        """Drain, resume, allow or bar one worker, or name its owner; the answer is how it stands then."""
        self._check_operator(request)
        worker = WorkerAddress(Address.parse(request.path_params["worker"]))
        event = self._event(request.path_params["word"], worker, request.query_params.get("text", ""))
        await self._tell(event)
        pool = self._pool()
        known = pool.workers.get(worker)
        return JSONResponse(
            {
                "walletAddress": str(worker),
                "isAllowed": is_admitted(pool.rules, pool.words, worker),
                "owner": pool.owners.get(worker),
                "worker": None if known is None else view.worker_model(known, pool.owners.get(worker)),
            }
        )

    def _check_operator(self, request: Request) -> None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer":
            raise LoginRefused("no token", code="no-token", next_step="log in as the workerpool's owner")
        wallet = check_token(self._token_key, token, int(time.time()))
        if wallet != self.owner:
            raise HTTPException(403, f"only the workerpool's owner {self.owner} may do that, not {wallet}")

    def _event(self, word: str, worker: WorkerAddress, text: str) -> OperatorEvent:
        at = self._chain_now()
        if word in ("drain", "resume") and worker not in self._pool().workers:
            raise HTTPException(404, f"worker {worker} has never connected to this scheduler")
        match word:
            case "drain":
                return OperatorDrainedWorker(at=at, worker=worker, reason=text[:MAX_WORD])
            case "resume":
                return OperatorResumedWorker(at=at, worker=worker)
            case "allow" | "bar":
                if len(self._pool().words) >= MAX_WORDS:
                    raise HTTPException(409, f"the operator's word is kept on {MAX_WORDS} wallets at most")
                return OperatorAllowedWorker(at=at, worker=worker, is_allowed=word == "allow")
            case "owner":
                if text and len(self._pool().owners) >= MAX_WORDS:
                    raise HTTPException(409, f"the owners of {MAX_WORDS} wallets at most are kept")
                return OperatorNamedOwner(at=at, worker=worker, owner=text.strip()[:MAX_WORD])
            case _:
                raise HTTPException(404, f"expected drain, resume, allow, bar or owner, got {word!r}")
