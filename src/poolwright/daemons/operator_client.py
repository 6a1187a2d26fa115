"""How the operator's commands reach a scheduler that runs: its routes, with the owner's wallet."""

from __future__ import annotations

import json
from typing import Any, Final

import aiohttp

from poolwright.chain.wallet import Wallet
from poolwright.poco.errors import InputError, PeerError, Unavailable
from poolwright.poco.types import Address, WorkerAddress
from poolwright.serving.http import explanation
from poolwright.wire import codec
from poolwright.wire.login import Challenge, Login, Token, login_digest

TIMEOUT: Final = aiohttp.ClientTimeout(total=20)
MAX_ANSWER_BYTES: Final = 32 * 1024**2


async def read_workers(url: str) -> dict[str, Any]:
    """All workers as the scheduler at `url` knows them. Raises InputError, Unavailable."""
    async with aiohttp.ClientSession(timeout=TIMEOUT) as http:
        answer: dict[str, Any] = json.loads(await _ask(http, "GET", f"{url}/workers"))
        return answer


async def say(
    url: str,
    wallet: Wallet,
    *,
    chain_id: int,
    workerpool: Address,
    word: str,
    worker: Address,
    text: str = "",
) -> dict[str, Any]:
    """Drain, resume, allow or bar a worker, or name its owner; how it stands then.

    `text` is the reason for draining, or the owner's name. Raises InputError, PeerError, Unavailable.
    """
    async with aiohttp.ClientSession(timeout=TIMEOUT) as http:
        owner = WorkerAddress(wallet.address)
        asked = await _ask(http, "GET", f"{url}/workers/challenge", {"walletAddress": str(owner)})
        challenge = codec.decode(Challenge, asked)
        login = Login(
            wallet_address=owner,
            nonce=challenge.nonce,
            expires_at=challenge.expires_at,
            signature=wallet.sign_digest(login_digest(chain_id, workerpool, owner, challenge)),
        )
        answer = await _ask(http, "POST", f"{url}/workers/login", body=codec.encode(login))
        token = codec.decode(Token, answer).token
        told = await _ask(
            http, "POST", f"{url}/workers/{worker}/{word}", {"text": text} if text else {}, token=token
        )
        result: dict[str, Any] = json.loads(told)
        return result


async def _ask(
    http: aiohttp.ClientSession,
    method: str,
    url: str,
    params: dict[str, str] | None = None,
    *,
    body: bytes | None = None,
    token: str | None = None,
) -> bytes:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        async with http.request(method, url, params=params, data=body, headers=headers) as answer:
            content = await answer.content.read(MAX_ANSWER_BYTES)
            if answer.status == 200:
                return content
            code, message = explanation(content.decode("utf-8", "replace"))
            if 400 <= answer.status < 500:
                raise (PeerError if answer.status in (401, 403) else InputError)(message, code=code)
            raise Unavailable(f"scheduler at {url}", got=f"HTTP {answer.status}: {message}", code="scheduler")
    except (aiohttp.ClientError, TimeoutError, OSError) as problem:
        raise Unavailable(
            f"scheduler at {url} does not answer: {problem}",
            code="scheduler",
            next_step="start it, or name another one with --url",
        ) from problem
