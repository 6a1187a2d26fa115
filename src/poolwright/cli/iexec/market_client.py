"""The marketplace, as the official client talks to it (reference: market-sdk.md 4).

    async with MarketClient(url, chain_id) as market:
        page = await market.orders("workerpoolorder", {"category": "0"})
        hash_ = await market.publish("workerpoolorder", order, wallet)

Publishing and unpublishing need an authorization: a challenge of the market, signed as typed data. The market
keeps one challenge per wallet, so two commands of one wallet may take each other's; such a refusal is tried
again with a fresh one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self
from urllib.parse import urlencode, urljoin

from poolwright.chain.carrier import AnswerTooLong
from poolwright.cli.iexec.errors import IexecError
from poolwright.cli.iexec.http import NOT_IMPLEMENTED, Answer, Http, Request
from poolwright.poco.typed_data import TypedDomain, typed_digest
from poolwright.poco.types import Address

if TYPE_CHECKING:
    from poolwright.chain.wallet import Wallet

TIMEOUT_SECONDS: Final = 30.0
PAGE_SIZE: Final = 20
RAW_RECORDS: Final = 80
"""A program gets pages until it has more than this many records, as from the official client."""
AUTHORIZATION_ATTEMPTS: Final = 5
MAX_BODY: Final = 16 * 1024 * 1024


class MarketCallError(IexecError):
    """The marketplace does not answer, or has trouble; check `iexecGateway` of chain.json, or try later."""

    name: ClassVar[str] = "MarketCallError"


class ApiError(IexecError):
    """The service refuses the request; its words are in the message."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        self.text = text
        super().__init__(f"API error: {text}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page of a list."""

    orders: tuple[dict[str, Any], ...]
    count: int
    """Of all pages."""
    has_more: bool


class HttpService:
    """An HTTP service of the network; paths are resolved on the URL's origin (reference: market-sdk.md 0.4).

    Args:
        url: of the service, from chain.json.
        prefix: how errors call it, such as "Market API".
        error: the class of its failures.
    """

    def __init__(self, url: str, prefix: str, error: type[IexecError]) -> None:
        self.url: Final = url
        self._prefix = prefix
        self._error = error
        self._http: Final = Http()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close()

    async def json(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        authorization: str | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> dict[str, Any]:
        """Exchange JSON. Raises ApiError when refused, the service's error class when it has trouble."""
        got = await self.exchange(
            method,
            path,
            query=query,
            body=body,
            authorization=authorization,
            timeout_seconds=timeout_seconds,
        )
        if "json" not in got.kind:
            if got.status >= 400:
                raise ApiError(got.status, f"{got.status} {_first_line(got.body)}")
            raise IexecError("The http response is not of JSON type", got=got.kind or "no content type")
        try:
            answer = json.loads(got.body)
        except (ValueError, RecursionError) as problem:
            raise self._failed("answered with broken JSON", str(problem)) from problem
        if not isinstance(answer, dict):
            raise self._failed("answered with JSON that is no object", type(answer).__name__)
        if got.status >= 400:
            raise ApiError(got.status, str(answer.get("error") or got.status))
        return answer

    async def exchange(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        authorization: str | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> Answer:
        """One request and its answer, refusals included. Raises the service's error class."""
        headers = {"accept": "application/json"}
        url = urljoin(self.url, path)
        if query:
            url = f"{url}?{urlencode(query)}"
        if body is not None:
            headers["content-type"] = "application/json"
        if authorization is not None:
            headers["authorization"] = authorization
        request = Request(
            method=method,
            url=url,
            headers=headers,
            body=None if body is None else json.dumps(body).encode(),
            timeout_seconds=timeout_seconds,
            most_bytes=MAX_BODY,
        )
        try:
            answer = await self._http.exchange(request)
        except (OSError, ValueError, AnswerTooLong) as problem:
            raise self._error(
                f"{self._prefix} error: Connection to {self.url} failed with a network error",
                got=str(problem) or type(problem).__name__,
                next_step="check that the service runs and that its URL in chain.json is right",
            ) from problem
        if answer.status >= 500 and answer.status != NOT_IMPLEMENTED:
            raise self._failed("encountered an internal error", f"{answer.status} {_first_line(answer.body)}")
        return answer

    def _failed(self, what: str, got: str) -> IexecError:
        return self._error(
            f"{self._prefix} error: Server at {self.url} {what}", got=got[:300], next_step="try again later"
        )


class MarketClient(HttpService):
    """The marketplace's orders of one chain."""

    def __init__(self, url: str, chain_id: str) -> None:
        super().__init__(url, "Market API", MarketCallError)
        self.chain_id: Final = chain_id

    # --- reads ----------------------------------------------------------------------------------------------

    async def orders(
        self, kind: str, filters: Mapping[str, str], *, page: int = 0, size: int = PAGE_SIZE
    ) -> Page:
        """One page of open orders of a kind ("apporder"), the best price first."""
        query = {"chainId": self.chain_id, **filters, "pageIndex": str(page), "pageSize": str(size)}
        answer = await self.json("GET", f"/{kind}s", query=query)
        orders, count = answer.get("orders"), answer.get("count")
        if not isinstance(orders, list) or not all(isinstance(one, dict) for one in orders):
            raise self._failed("answered with a list that is none", repr(orders)[:100])
        if not isinstance(count, int):
            raise self._failed("answered without a count", repr(count)[:100])
        return Page(orders=tuple(orders), count=count, has_more=bool(answer.get("nextPage")))

    async def pages(self, kind: str, filters: Mapping[str, str]) -> AsyncIterator[Page]:
        """All pages, one after the other."""
        number, has_more = 0, True
        while has_more:
            page = await self.orders(kind, filters, page=number)
            yield page
            number, has_more = number + 1, page.has_more

    async def order(self, kind: str, hash_: str) -> dict[str, Any]:
        """A published order by its hash, whatever its status. Raises ApiError when there is none."""
        return await self.json("GET", f"/{kind}s/{hash_}", query={"chainId": self.chain_id})

    async def deals(self, filters: Mapping[str, str]) -> dict[str, Any]:
        """The first page of deals, the newest first: `deals` and `count`."""
        query = {"chainId": self.chain_id, **filters, "pageIndex": "0", "pageSize": str(PAGE_SIZE)}
        return await self.json("GET", "/deals", query=query)

    # --- writes ---------------------------------------------------------------------------------------------

    async def publish(self, kind: str, order: Mapping[str, str], wallet: Wallet) -> str:
        """Publish a signed order; returns its hash as the market computed it, from its document or bare."""
        answer = await self._authorized("POST", kind, {"order": order}, wallet)
        published = answer.get("published")
        return str(published.get("orderHash") if isinstance(published, dict) else published)

    async def unpublish(self, kind: str, hash_: str, wallet: Wallet) -> str:
        """Take one order off the market; returns its hash."""
        body = {"target": "unpublish_orderHash", "orderHash": hash_}
        return self._hashes(await self._authorized("PUT", kind, body, wallet))[0]

    async def unpublish_of(
        self, kind: str, address: Address, wallet: Wallet, *, all_of_them: bool
    ) -> tuple[str, ...]:
        """Take the newest or all of the wallet's open orders about a resource off the market."""
        part = "requester" if kind == "requestorder" else kind.removesuffix("order")
        body = {"target": f"unpublish_{'all' if all_of_them else 'last'}", part: str(address)}
        return self._hashes(await self._authorized("PUT", kind, body, wallet))

    def _hashes(self, answer: Mapping[str, Any]) -> tuple[str, ...]:
        hashes = answer.get("unpublished")
        if not isinstance(hashes, list) or not hashes:
            raise self._failed("answered without the unpublished orders", repr(hashes)[:100])
        return tuple(map(str, hashes))

    async def _authorized(
        self, method: str, kind: str, body: Mapping[str, Any], wallet: Wallet
    ) -> dict[str, Any]:
        for attempt in range(1, AUTHORIZATION_ATTEMPTS + 1):
            authorization = await self._authorization(wallet)
            try:
                return await self.json(
                    method,
                    f"/{kind}s",
                    query={"chainId": self.chain_id},
                    body=body,
                    authorization=authorization,
                )
            except ApiError as refusal:
                if attempt == AUTHORIZATION_ATTEMPTS or not _is_stale(refusal):
                    raise
                await asyncio.sleep(0.05 * attempt)  # another command used our challenge
        raise AssertionError("the last attempt returns or raises")

    async def _authorization(self, wallet: Wallet) -> str:
        query = {"chainId": self.chain_id, "address": str(wallet.address)}
        answer = await self.json("GET", "/challenge", query=query)
        return authorization_of(answer.get("data"), wallet)


def authorization_of(challenge: object, wallet: Wallet) -> str:
    """The header for a challenge: `<digest>_<signature>_<address>` (reference: market-sdk.md 4.6).

    Only a challenge is signed, never other typed data that a service may send. Raises MarketCallError.
    """
    try:
        typed: Any = challenge
        domain, text = typed["domain"], typed["message"]["challenge"]
        is_challenge = (
            typed["primaryType"] == "Challenge"
            and typed["types"]["Challenge"] == [{"name": "challenge", "type": "string"}]
            and set(domain) == {"name", "version", "chainId"}
            and isinstance(text, str)
        )
        if not is_challenge:
            raise ValueError("other typed data than a challenge")
        digest = typed_digest(
            TypedDomain(
                name=str(domain["name"]), version=str(domain["version"]), chain_id=int(domain["chainId"])
            ),
            "Challenge(string challenge)",
            {"challenge": text},
        )
    except (KeyError, TypeError, ValueError) as problem:
        raise MarketCallError(
            "Market API error: the challenge is not understood",
            expected="typed data of type Challenge(string challenge)",
            got=f"{type(problem).__name__}: {problem}"[:200],
            next_step="check that iexecGateway in chain.json is a marketplace",
        ) from problem
    return f"{digest}_0x{wallet.sign_digest(digest).hex()}_{wallet.address}"


def _is_stale(refusal: ApiError) -> bool:
    return refusal.status == 403 and "authorization" in refusal.text


def _first_line(content: bytes) -> str:
    lines = content[:300].decode("utf-8", "replace").splitlines()
    return lines[0].strip() if lines else ""
