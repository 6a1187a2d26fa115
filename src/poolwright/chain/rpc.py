"""JSON-RPC over HTTP: time-outs, retries with an end, batches, several nodes, bounded answers.

Two kinds of failure, because different people act on them:

    RpcError      the node answered, and the answer is "no": a revert, a bad request, a limit
    Unavailable   nobody answered within the bound: connection, time-out, HTTP 429/5xx, garbage

Only the second is retried.  Several URLs are several doors to the same chain (`doors`): one that fails is
left for the next, and they are compared with each other now and then: one that is of another chain or behind
the others is not used.  Which door and how long to wait are the pure `Doors` and `back_off`; the class `Rpc`
only moves bytes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Final, Self, TypeAlias
from urllib.parse import urlsplit

from poolwright.chain.carrier import AnswerTooLong, Carrier, NotReached
from poolwright.chain.doors import Doors, Sight
from poolwright.chain.encoding import Json, read_object, read_quantity
from poolwright.poco.errors import InputError, PoolwrightError, Unavailable
from poolwright.poco.types import Timestamp

log = logging.getLogger(__name__)

Request: TypeAlias = tuple[str, Sequence[Json]]
"""A JSON-RPC method and its parameters."""

LOOK_SECONDS: Final = 3.0
"""Bound of the exchange by which several endpoints are compared."""
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
        chain_id: of the chain; a URL of another one is not used. None believes the first URL.
        max_lag_seconds: a URL whose newest block is older than another's by more is not used.
        compare_seconds: how often several URLs are compared with each other.
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
        chain_id: int | None = None,
        max_lag_seconds: float = 15.0,
        compare_seconds: float = 5.0,
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
        self._doors = Doors(
            count=len(self.urls), home_after_seconds=home_after_seconds, max_lag_seconds=max_lag_seconds
        )
        self._chain_id = chain_id
        self._compare_seconds = compare_seconds
        self._compared_at: float | None = None
        self._comparing: asyncio.Task[None] | None = None
        self._next_id = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; the client can be used again afterwards."""
        if self._comparing is not None:
            self._comparing.cancel()
            await asyncio.gather(self._comparing, return_exceptions=True)
        await self._carrier.close()

    @property
    def endpoints(self) -> Mapping[str, str]:
        """Host and port of each URL, and why it is not used ("" when it may be). For health pages."""
        now = asyncio.get_running_loop().time()
        return {_host(url): self._doors.why_not(door, now) for door, url in enumerate(self.urls)}

    def distrust(self, why: str) -> None:
        """What the present URL told contradicts what was believed: ask another one for a while."""
        now = asyncio.get_running_loop().time()
        door = self._doors.best(now)
        if door is not None and self._doors.count > 1:
            log.warning("leaving the endpoint %s: %s", _host(self.urls[door]), why)
            self._doors = self._doors.failed(door, now)

    async def call(self, method: str, *params: Json) -> Json:
        """Call one method; returns its result.

        Raises RpcError when the node answers an error, Unavailable when no node answers.
        """
        self._next_id += 1
        body = {"jsonrpc": "2.0", "id": self._next_id, "method": method, "params": list(params)}
        answer = await self._exchange(json.dumps(body).encode(), method, is_repeatable(method), ())
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
            ids = range(first, first + len(requests))
            answers = await self._exchange(json.dumps(body).encode(), name, repeatable, ids)
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

    async def _exchange(self, body: bytes, name: str, repeatable: bool, ids: Sequence[int]) -> Json:
        """Send one HTTP body until a node answers JSON-RPC, at most `attempts` times.

        `ids` are those of a batch, each of which must be answered.
        """
        problem = _NoAnswer("not tried", reached=False)
        for attempt in range(self._attempts):
            if attempt >= len(self.urls):  # every door was tried once
                await asyncio.sleep(back_off(attempt - len(self.urls) + 1, random.random()))  # noqa: S311
            door = await self._door()
            try:
                return _answered(await self._post(self.urls[door], body, name), ids)
            except _NoAnswer as failure:
                problem = failure
                self._doors = self._doors.failed(door, asyncio.get_running_loop().time())
                if failure.reached and not repeatable:
                    break
        raise Unavailable(
            f"no answer to {name} from {', '.join(map(_host, self.urls))}",
            code="rpc-unavailable",
            expected=f"an answer within {self._timeout_seconds:g} s",
            got=problem.reason,
            next_step="check that the node runs and that the URL is right",
        )

    # --- several doors ------------------------------------------------------------------------------------

    async def _door(self) -> int:
        """The door to use now. Raises InputError when all lead to other chains."""
        now = asyncio.get_running_loop().time()
        if len(self.urls) > 1:
            is_due = self._compared_at is None or now - self._compared_at >= self._compare_seconds
            if is_due and (self._comparing is None or self._comparing.done()):
                self._comparing = asyncio.create_task(self._compare(), name="rpc-endpoints")
            if self._compared_at is None and self._comparing is not None:
                await asyncio.shield(self._comparing)
        door = self._doors.best(now)
        if door is None:
            raise InputError(
                "every RPC endpoint is of another chain",
                code="wrong-chain",
                expected=f"chain id {self._chain_id}",
                got=", ".join(_host(url) for url in self.urls),
                next_step="correct the RPC URLs or the chain id",
            )
        return door

    async def _compare(self) -> None:
        """Look through all doors at once; the answers count together."""
        sights = await asyncio.gather(*(self._look(url) for url in self.urls))
        now = asyncio.get_running_loop().time()
        before, self._doors = self._doors, self._doors.seen(sights, now, self._chain_id)
        self._compared_at = now
        for door, url in enumerate(self.urls):
            was, is_now = before.why_not(door, now), self._doors.why_not(door, now)
            if was != is_now:
                log.warning("endpoint %s: %s", _host(url), is_now or "used again")

    async def _look(self, url: str) -> Sight | None:
        """What a door leads to; None when it does not say."""
        body = [
            {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []},
            {"jsonrpc": "2.0", "id": 2, "method": "eth_getBlockByNumber", "params": ["latest", False]},
        ]
        try:
            async with asyncio.timeout(min(self._timeout_seconds, LOOK_SECONDS)):
                answers = _answered(await self._post(url, json.dumps(body).encode(), "a look"), (1, 2))
            if not isinstance(answers, list):
                return None
            found = {answer["id"]: answer.get("result") for answer in answers if isinstance(answer, dict)}
            block = read_object(found[2], "block")
            return Sight(
                chain_id=read_quantity(found[1], "chain id"),
                number=read_quantity(block.get("number"), "block number"),
                timestamp=Timestamp(read_quantity(block.get("timestamp"), "block timestamp")),
            )
        except (_NoAnswer, TimeoutError, PoolwrightError):
            return None

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


def _answered(answer: Json, ids: Sequence[int]) -> Json:
    """The answer, when it is one to what was asked: a refusal counts, nonsense does not."""
    if isinstance(answer, list):
        told = {one.get("id") for one in answer if isinstance(one, dict)}
        missing = [number for number in ids if number not in told]
        if missing or not ids:
            raise _NoAnswer(f"{len(missing)} of {len(ids)} requests of a batch are not answered")
    elif isinstance(answer, dict) and not ("result" in answer or isinstance(answer.get("error"), dict)):
        raise _NoAnswer(f"neither result nor error in the answer: {answer!r}"[:200])
    return answer


def _host(url: str) -> str:
    """What may be shown of a URL: the rest may be a key."""
    return urlsplit(url).netloc.rpartition("@")[2]


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
