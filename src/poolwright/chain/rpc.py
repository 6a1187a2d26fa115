"""JSON-RPC over HTTP: time-outs, retries with an end, batches, several nodes, bounded answers.

Two kinds of failure, because different people act on them:

    RpcError      the node answered, and the answer is "no": a revert, a bad request, a limit
    Unavailable   nobody answered within the bound: connection, time-out, HTTP 429/5xx, garbage

Only the second is retried.  Several URLs are several doors to the same chain: a door that fails is left
for the next one, and after `home_after_seconds` the first is tried again.  Which door and how long to wait
are the pure `Doors` and `back_off`; a `Carrier` moves the bytes.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, Self, TypeAlias

from poolwright.chain.carrier import AnswerTooLong, Carrier, NotReached
from poolwright.chain.encoding import Json
from poolwright.poco.errors import InputError, PoolwrightError, Unavailable

Request: TypeAlias = tuple[str, Sequence[Json]]
"""A JSON-RPC method and its parameters."""

FIRST_WAIT_SECONDS: Final = 0.05
LONGEST_WAIT_SECONDS: Final = 5.0
NOT_REPEATABLE: Final = ("evm_", "anvil_", "hardhat_", "eth_sendTransaction")
"""Methods that do something new each time: not retried once the node may have seen them."""


class RpcError(PoolwrightError):
    """The node answered with an error; asking the same again gives the same answer."""

    def __init__(self, rpc_code: int, message: str, data: Json = None, *, method: str = "") -> None:
        self.rpc_code = rpc_code
        self.rpc_message = message
        self.data = data
        super().__init__(
            f"node refused {method or 'the request'}", code="rpc-error", got=f"{rpc_code} {message}"[:600]
        )


class ResponseTooLarge(RpcError):
    """The answer is longer than the bound; ask for less at once."""

    def __init__(self, bound: int, *, method: str) -> None:
        super().__init__(0, f"answer longer than {bound} bytes", method=method)


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """Which of several URLs to use: stay while it works, next on failure, home again after a while.

    All times are seconds of one monotonic clock.
    """

    count: int
    home_after_seconds: float
    current: int = 0
    left_home_at: float = 0.0

    def at(self, now: float) -> Doors:
        """Return home when the time away is over."""
        if self.current and now - self.left_home_at >= self.home_after_seconds:
            return replace(self, current=0)
        return self

    def failed(self, door: int, now: float) -> Doors:
        """Leave `door`, unless another call left it already."""
        if door != self.current or self.count == 1:
            return self
        return replace(self, current=(door + 1) % self.count, left_home_at=now)


def back_off(attempt: int, jitter: float) -> float:
    """Seconds to wait before retry number `attempt` (from 1); `jitter` in [0, 1) spreads the callers."""
    longest = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** (attempt - 1))
    return longest * (0.5 + jitter / 2)


class _NoAnswer(Exception):
    """One attempt failed; `reached` tells whether the node may have seen the request."""

    def __init__(self, reason: str, *, reached: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.reached = reached


class Rpc:
    """A JSON-RPC client of one chain behind one or more URLs.

    Args:
        urls: http:// or https:// URLs of nodes of the same chain, the preferred one first.
        timeout_seconds: bound of one HTTP exchange.
        attempts: how often a request is tried in all, over all URLs.
        home_after_seconds: after that long on another URL, the first one is tried again.
        max_response_bytes: longer answers raise ResponseTooLarge.
        batch_size: longest batch sent in one HTTP exchange.
        carrier: moves the bytes; an `AiohttpCarrier` if none is given.

    Raises InputError when a URL is none.
    """

    def __init__(
        self,
        urls: Sequence[str] | str,
        *,
        timeout_seconds: float = 10.0,
        attempts: int = 5,
        home_after_seconds: float = 60.0,
        max_response_bytes: int = 64 * 1024 * 1024,
        batch_size: int = 100,
        carrier: Carrier | None = None,
    ) -> None:
        self.urls: Final = (urls,) if isinstance(urls, str) else tuple(urls)
        for url in self.urls:
            if not url.startswith(("http://", "https://")):
                raise InputError(
                    "not an RPC URL",
                    code="bad-rpc-url",
                    expected="http://… or https://…",
                    got=repr(url)[:200],
                )
        if not self.urls:
            raise InputError("no RPC URL", code="bad-rpc-url", expected="at least one", got="none")
        if carrier is None:
            from poolwright.chain.aiohttp_carrier import AiohttpCarrier

            carrier = AiohttpCarrier()
        self._carrier: Final = carrier
        self._timeout_seconds = timeout_seconds
        self._attempts = attempts
        self._max_response_bytes = max_response_bytes
        self._batch_size = batch_size
        self._doors = Doors(count=len(self.urls), home_after_seconds=home_after_seconds)
        self._next_id = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; the client can be used again afterwards."""
        await self._carrier.close()

    async def call(self, method: str, *params: Json) -> Json:
        """Call one method; returns its result.

        Raises RpcError when the node answers an error, Unavailable when no node answers.
        """
        self._next_id += 1
        body = {"jsonrpc": "2.0", "id": self._next_id, "method": method, "params": list(params)}
        answer = await self._exchange(json.dumps(body).encode(), method, is_repeatable(method))
        return _result_of(answer, method)

    async def batch(self, requests: Sequence[Request]) -> list[Json]:
        """Call several methods in few exchanges; returns the results in the order of the requests.

        Raises the first RpcError among the answers, Unavailable when no node answers.
        """
        results: list[Json] = []
        for outcome in await self.batch_outcomes(requests):
            if isinstance(outcome, RpcError):
                raise outcome
            results.append(outcome)
        return results

    async def batch_outcomes(self, requests: Sequence[Request]) -> list[Json | RpcError]:
        """Like `batch`, but each answer is a result or its RpcError; raises Unavailable only."""
        outcomes: list[Json | RpcError] = []
        for start in range(0, len(requests), self._batch_size):
            outcomes += await self._one_batch(requests[start : start + self._batch_size])
        return outcomes

    async def _one_batch(self, requests: Sequence[Request]) -> list[Json | RpcError]:
        if len(requests) == 1:
            return [await self._outcome(*requests[0])]
        first = self._next_id + 1
        self._next_id += len(requests)
        body = [
            {"jsonrpc": "2.0", "id": first + place, "method": method, "params": list(params)}
            for place, (method, params) in enumerate(requests)
        ]
        name = f"batch of {len(requests)} ({requests[0][0]}…)"
        repeatable = all(is_repeatable(method) for method, _ in requests)
        try:
            answers = await self._exchange(json.dumps(body).encode(), name, repeatable)
        except ResponseTooLarge:
            answers = None
        if not isinstance(answers, list):  # no batches here, or too long together: one by one
            return [await self._outcome(method, params) for method, params in requests]
        by_id = {answer.get("id"): answer for answer in answers if isinstance(answer, dict)}
        outcomes: list[Json | RpcError] = []
        for place, (method, _) in enumerate(requests):
            try:
                outcomes.append(_result_of(by_id.get(first + place), method))
            except RpcError as refusal:
                outcomes.append(refusal)
        return outcomes

    async def _outcome(self, method: str, params: Sequence[Json]) -> Json | RpcError:
        try:
            return await self.call(method, *params)
        except RpcError as refusal:
            return refusal

    async def _exchange(self, body: bytes, name: str, repeatable: bool) -> Json:
        """Send one HTTP body until a node answers JSON, at most `attempts` times."""
        problem = _NoAnswer("not tried", reached=False)
        for attempt in range(self._attempts):
            if attempt >= len(self.urls):  # every door was tried once
                await asyncio.sleep(back_off(attempt - len(self.urls) + 1, random.random()))  # noqa: S311
            now = asyncio.get_running_loop().time()
            self._doors = self._doors.at(now)
            door = self._doors.current
            try:
                return await self._post(self.urls[door], body, name)
            except _NoAnswer as failure:
                problem = failure
                self._doors = self._doors.failed(door, asyncio.get_running_loop().time())
                if failure.reached and not repeatable:
                    break
        raise Unavailable(
            f"no answer to {name} from {', '.join(self.urls)}",
            code="rpc-unavailable",
            expected=f"an answer within {self._timeout_seconds:g} s",
            got=problem.reason,
            next_step="check that the node runs and that the URL is right",
        )

    async def _post(self, url: str, body: bytes, name: str) -> Json:
        try:
            status, raw = await self._carrier.post(
                url, body, timeout_seconds=self._timeout_seconds, most_bytes=self._max_response_bytes
            )
        except TimeoutError as problem:
            raise _NoAnswer(f"time-out after {self._timeout_seconds:g} s") from problem
        except AnswerTooLong as problem:
            raise ResponseTooLarge(self._max_response_bytes, method=name) from problem
        except OSError as problem:
            raise _NoAnswer(str(problem), reached=not isinstance(problem, NotReached)) from problem
        if status == 429 or status >= 500:
            raise _NoAnswer(f"HTTP status {status}")
        try:
            answer: Json = json.loads(raw)
        except ValueError as problem:
            raise _NoAnswer(f"HTTP status {status} and no JSON: {raw[:80]!r}") from problem
        if not isinstance(answer, dict | list):
            raise _NoAnswer(f"HTTP status {status} and no JSON-RPC: {raw[:80]!r}")
        return answer


def is_repeatable(method: str) -> bool:
    """Whether asking twice does no more than asking once.

    `eth_sendRawTransaction` is: the same raw transaction has one hash and one nonce.
    """
    return not method.startswith(NOT_REPEATABLE)


def _result_of(answer: Json, method: str) -> Json:
    if isinstance(answer, dict):
        refusal = answer.get("error")
        if isinstance(refusal, dict):
            code = refusal.get("code")
            message = refusal.get("message")
            raise RpcError(
                code if isinstance(code, int) else 0, str(message), refusal.get("data"), method=method
            )
        if "result" in answer:
            result: Json = answer["result"]
            return result
    raise RpcError(0, f"neither result nor error in the answer: {answer!r}"[:200], method=method)
