"""The routes of the marketplace (reference 4.2), and what it has beside them.

    GET  /<kind>s            open orders, filtered, sorted, by page or cursor
    GET  /<kind>s/{hash}     one order in whatever status
    POST /<kind>s            publish              authorization: a signed challenge
    PUT  /<kind>s            unpublish            authorization: a signed challenge
    GET  /challenge  /deals  /deals/{id}  /categories  /categories/{id}  /ohlc  /version  /docs
    GET  /match              the best match of a wish; of a published one /requestorders/{hash}/match
    GET  /metrics            with chainId the reference's counts, without it numbers for Prometheus
    GET  /events             the news as server-sent events
    GET  /{chainId}/workerpools/{address}      compass: where a pool's scheduler listens
    GET  /health             whether chain and book go on

<kind>s: apporders, datasetorders, workerpoolorders, requestorders.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qsl

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from poolwright.market import docs
from poolwright.market.chain_market import ChainMarket
from poolwright.market.challenges import HeldChallenges
from poolwright.market.config import MarketConfig
from poolwright.market.errors import MarketRefusal, as_refusal, invalid, not_found
from poolwright.market.feed import Feed, Missed
from poolwright.market.limits import RateLimit, client_of
from poolwright.market.login import Logins
from poolwright.market.metrics import Metrics
from poolwright.market.no_secrets import routes as no_secrets
from poolwright.market.openapi import openapi
from poolwright.market.params import (
    Params,
    read_body,
    read_deal_query,
    read_order,
    read_query,
    read_unpublication,
    read_window,
    read_wish,
    write_cursor,
)
from poolwright.market.routes import Handler, Route, Routes
from poolwright.market.rows import DealQuery
from poolwright.orderbook.listing import Kind, Listing, place_of
from poolwright.orderbook.query import Query
from poolwright.orderbook.render import render_match, render_page
from poolwright.orderbook.shelf import Shelf
from poolwright.poco.errors import PoolwrightError
from poolwright.poco.types import Address, BlockNumber, OrderHash
from poolwright.serving.bodies import read_bounded
from poolwright.serving.http import CLOSING

log: structlog.stdlib.BoundLogger = structlog.get_logger()

MAX_BODY_BYTES: Final = 256 * 1024
TOPICS: Final = frozenset({"orders", "deals"})
MOST_KEPT: Final = 1_000
LONGEST_KEPT: Final = 64 * 1024
"""Pages of a book that are kept as bytes until an order of their kind changes, and bytes of one."""
LONGEST_QUERY_KEPT: Final = 512
"""Bytes of a query that is kept as it was read; the same few are asked again and again."""
BEAT_SECONDS: Final = 15.0
"""How often a silent event stream says that it is alive."""

CORS: Final = (
    (b"access-control-allow-origin", b"*"),
    (
        b"access-control-expose-headers",
        b"retry-after, x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset",
    ),
)
_NOTHING_TOLD: Final[Mapping[str, str]] = {}
PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": "GET, POST, PUT",
    "Access-Control-Allow-Headers": "authorization, content-type",
    "Access-Control-Max-Age": "86400",
}


@dataclass(slots=True, kw_only=True)
class Marketplace:
    """The parts that the routes use."""

    config: MarketConfig
    markets: Mapping[int, ChainMarket]
    feed: Feed
    logins: Logins = field(default_factory=lambda: Logins(HeldChallenges()))
    metrics: Metrics = field(default_factory=Metrics)
    troubles: Callable[[], Mapping[int, str]] = dict
    """By chain, why its watcher does not go on; empty while it does."""


def create_app(marketplace: Marketplace) -> ASGIApp:
    """Return the ASGI application over these parts."""
    pages = _Pages(marketplace)
    routes = [
        Route("/challenge", pages.challenge),
        Route("/categories", pages.categories),
        Route("/categories/{catid}", pages.category),
        Route("/deals", pages.deals),
        Route("/deals/{dealid}", pages.deal),
        Route("/ohlc", pages.ohlc),
        Route("/version", pages.version),
        Route("/metrics", pages.metrics),
        Route("/health", pages.health),
        Route("/events", pages.events),
        Route("/match", pages.match),
        Route("/requestorders/{orderHash}/match", pages.match_of),
        Route("/docs", pages.docs),
        Route("/openapi.json", pages.openapi),
        Route("/{chainId}/workerpools/{address}", pages.compass),
    ]
    for kind in Kind:
        path = f"/{kind.value}s"
        routes += [
            Route(path, pages.order_book(kind)),
            Route(path, pages.publish(kind), ("POST",)),
            Route(path, pages.unpublish(kind), ("PUT",)),
            Route(f"{path}/{{orderHash}}", pages.order(kind)),
        ]
    return _Front(Routes([*routes, *no_secrets()]), marketplace)


class _Pages:
    """One method per route."""

    def __init__(self, marketplace: Marketplace) -> None:
        self._config = marketplace.config
        self._markets = marketplace.markets
        self._feed = marketplace.feed
        self._logins = marketplace.logins
        self._metrics = marketplace.metrics
        self._troubles = marketplace.troubles

    def _market(self, params: Params) -> ChainMarket:
        text = str(params.required("chainId"))
        market = self._markets.get(int(text)) if text.isdecimal() and len(text) < 20 else None
        if market is None:
            raise invalid(f"chainId {text[:80]} is not supported")
        return market

    # --- orders ---------------------------------------------------------------------------------------------

    def order_book(self, kind: Kind) -> Handler:
        kept: OrderedDict[bytes, tuple[Shelf, int, bytes]] = OrderedDict()

        async def page(request: Request) -> Response:
            asked: bytes = request.scope["query_string"]
            known = kept.get(asked)
            if known is not None and known[0].version == known[1]:
                return Response(known[2], media_type="application/json")
            params = Params(_asked(request))
            market = self._market(params)
            query, lasts = await market.groups.widened(market.book, _block(market), read_query(kind, params))
            shelf = market.book.shelves[kind]
            body = answer(market, query, params)
            if lasts and len(asked) + len(body) <= LONGEST_KEPT:
                kept[asked] = (shelf, shelf.version, body)
                if len(kept) > MOST_KEPT:
                    kept.popitem(last=False)
            return Response(body, media_type="application/json")

        def answer(market: ChainMarket, query: Query, params: Params) -> bytes:
            window = read_window(params)
            found = market.book.shelves[kind].page(
                query, skip=window.skip, after=window.after, count=window.count
            )
            parts = [b'{"ok":true,"count":%d' % found.count]
            if len(found.listings) == window.count:
                if window.after is None:
                    parts.append(b',"nextPage":%d' % (window.skip + window.count))
                parts.append(b',"nextCursor":"%s"' % write_cursor(place_of(found.listings[-1])).encode())
            parts += [b',"orders":', render_page(found.listings, market.chain_id), b"}"]
            return b"".join(parts)

        return page

    def order(self, kind: Kind) -> Handler:
        async def page(request: Request) -> Response:
            params = Params({**_asked(request), **request.path_params})
            market = self._market(params)
            document = await market.order(kind, OrderHash(params.hash("orderHash")), str(market.chain_id))
            return Response(b'{"ok":true,' + document[1:], media_type="application/json")

        return page

    async def match(self, request: Request) -> Response:
        params = Params(_asked(request))
        market = self._market(params)
        return await self._best_match(market, read_wish(params))

    async def match_of(self, request: Request) -> Response:
        params = Params({**_asked(request), **request.path_params})
        market = self._market(params)
        wanted = market.book.get(OrderHash(params.hash("orderHash")))
        if wanted is None or wanted.kind is not Kind.REQUEST or not wanted.is_open:
            raise not_found("open requestorder")
        return await self._best_match(market, wanted)

    async def _best_match(self, market: ChainMarket, wanted: Listing) -> Response:
        found = await market.groups.best_match(market.book, _block(market), wanted)
        return Response(render_match(found, market.chain_id), media_type="application/json")

    def publish(self, kind: Kind) -> Handler:
        async def page(request: Request) -> Response:
            market = self._market(Params(_asked(request)))
            raw = await self._body(request)
            wallet = await self._wallet(market, request)
            body = read_body(raw)
            order = read_order(kind, body)
            expires = Params(body).optional_number("expiresAt") or 0
            listing = await market.publish(order, wallet, expires=expires)
            document = await market.order(kind, listing.hash, str(market.chain_id))
            return Response(b'{"ok":true,"published":' + document + b"}", media_type="application/json")

        return page

    def unpublish(self, kind: Kind) -> Handler:
        async def page(request: Request) -> Response:
            market = self._market(Params(_asked(request)))
            raw = await self._body(request)
            wallet = await self._wallet(market, request)
            wanted = read_unpublication(kind, read_body(raw))
            if wanted.order_hash is not None:
                gone = await market.unpublish(kind, wanted.order_hash, wallet)
            else:
                assert wanted.resource is not None
                gone = await market.unpublish_of(kind, wanted.resource, wallet, only_last=wanted.only_last)
            return _json({"ok": True, "unpublished": [str(each) for each in gone]})

        return page

    async def _body(self, request: Request) -> bytes:
        return await read_bounded(request, most_bytes=MAX_BODY_BYTES, seconds=self._config.stall_seconds)

    async def _wallet(self, market: ChainMarket, request: Request) -> Address:
        header = request.headers.get("authorization")
        return await self._logins.redeem(market.chain_id, header, market.is_signature_of_contract)

    async def challenge(self, request: Request) -> Response:
        params = Params(_asked(request))
        market = self._market(params)
        typed = await self._logins.challenge(market.chain_id, params.address("address"))
        return Response(f'{{"ok":true,"data":{typed}}}', media_type="application/json")

    # --- what the watcher stored ----------------------------------------------------------------------------

    async def deals(self, request: Request) -> Response:
        params = Params(_asked(request))
        market, query, window = self._market(params), read_deal_query(params), read_window(params)
        documents, count = await asyncio.to_thread(
            market.storage.deals, market.chain_id, query, skip=window.skip, count=window.count
        )
        return _documents("deals", documents, count, window.skip, window.count)

    async def deal(self, request: Request) -> Response:
        params = Params({**_asked(request), **request.path_params})
        market = self._market(params)
        document = await asyncio.to_thread(market.storage.deal, market.chain_id, params.hash("dealid"))
        return _document(document, "deal")

    async def categories(self, request: Request) -> Response:
        params = Params(_asked(request))
        market, window = self._market(params), read_window(params)
        documents, count = await asyncio.to_thread(
            market.storage.categories,
            market.chain_id,
            least=params.optional_number("minWorkClockTimeRef") or 0,
            most=params.optional_number("maxWorkClockTimeRef"),
            skip=window.skip,
            count=window.count,
        )
        return _documents("categories", documents, count, window.skip, window.count)

    async def category(self, request: Request) -> Response:
        params = Params({**_asked(request), **request.path_params})
        market = self._market(params)
        document = await asyncio.to_thread(market.storage.category, market.chain_id, params.number("catid"))
        return _document(document, "category", {"chainId": market.chain_id})

    async def ohlc(self, request: Request) -> Response:
        params = Params(_asked(request))
        market, category = self._market(params), params.number("category")
        documents, _ = await asyncio.to_thread(
            market.storage.deals, market.chain_id, DealQuery(parties={}, category=category), skip=0, count=100
        )
        deals = [json.loads(document) for document in documents]
        rows = [[deal["blockTimestamp"], deal["workerpool"]["price"], deal["volume"]] for deal in deals]
        return _json({"ok": True, "ohlc": rows})

    # --- the market itself ----------------------------------------------------------------------------------

    async def version(self, request: Request) -> Response:
        return _json({"ok": True, "version": importlib.metadata.version("poolwright")})

    async def metrics(self, request: Request) -> Response:
        params = Params(_asked(request))
        if not params.has("chainId"):
            self._metrics.look(list(self._markets.values()), self._feed.listeners)
            return Response(generate_latest(self._metrics.registry), media_type=CONTENT_TYPE_LATEST)
        market = self._market(params)
        block = market.cursor.number if market.cursor else 0
        counts = {f"{kind.value}s": len(market.book.shelves[kind]) for kind in Kind}
        return _json({"ok": True, "lastBlock": block, "checkpointBlock": block, **counts})

    async def health(self, request: Request) -> Response:
        troubles = self._troubles()
        chains = [
            {
                "chainId": chain_id,
                "block": market.cursor.number if market.cursor else None,
                "orders": len(market.book),
                **({"trouble": troubles[chain_id]} if chain_id in troubles else {}),
            }
            for chain_id, market in self._markets.items()
        ]
        return _json({"ok": not troubles, "chains": chains}, 503 if troubles else 200)

    async def compass(self, request: Request) -> Response:
        params = Params(request.path_params)
        pool, chain = params.address("address"), params.text("chainId")
        market = self._markets.get(int(chain)) if chain.isdecimal() and len(chain) < 20 else None
        url = market.settings.workerpool_urls.get(pool) if market else None
        if url is None:
            raise not_found("workerpool")
        return _json({"apiUrl": url})

    async def events(self, request: Request) -> Response:
        params = Params(_asked(request))
        market = self._market(params)
        asked = params.text("topic", "orders")
        if asked not in TOPICS:
            raise invalid("topic must be one of the following values: orders, deals")
        last = request.headers.get("last-event-id", "")
        after = int(last) if last.isdecimal() and len(last) < 19 else None
        return StreamingResponse(
            _event_stream(self._feed, market.chain_id, frozenset({asked}), after),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    async def docs(self, request: Request) -> Response:
        return HTMLResponse(docs.page())

    async def openapi(self, request: Request) -> Response:
        return _json(openapi(tuple(sorted(self._markets))))


async def _event_stream(
    feed: Feed, chain_id: int, topics: frozenset[str], after: int | None
) -> AsyncIterator[bytes]:
    """News as server-sent events; `reset` says that some are missed and the market must be read again."""
    yield b": welcome\n\n"
    news = aiter(feed.listen(chain_id, topics, after))
    pending: asyncio.Task[Any] | None = None
    try:
        while True:
            pending = pending or asyncio.ensure_future(anext(news))
            done, _ = await asyncio.wait({pending}, timeout=BEAT_SECONDS)
            if not done:
                yield b": alive\n\n"
                continue
            piece = pending.result()
            pending = None
            yield f"id: {piece.number}\nevent: {piece.name}\ndata: {piece.text}\n\n".encode()
    except Missed:
        yield b"event: reset\ndata: {}\n\n"
    finally:
        if pending is not None:
            pending.cancel()


# --- the frame ----------------------------------------------------------------------------------------------


class _Front:
    """Before and after every request: rate limit, handler, CORS headers, counting."""

    def __init__(self, routes: Routes, marketplace: Marketplace) -> None:
        self._routes = routes
        self._limit = RateLimit(marketplace.config.rate_limit, marketplace.config.rate_period_seconds)
        self._trusts_proxy = marketplace.config.trusts_proxy
        self._metrics = marketplace.metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1000})
            return
        started = time.monotonic()
        told: Mapping[str, str] = _NOTHING_TOLD
        if scope["method"] == "OPTIONS":
            response = Response(status_code=204, headers=PREFLIGHT)
        else:
            try:
                if self._limit.limit:
                    told = self._limit.admit(self._client(scope), started)
                handler, places = self._routes.find(scope["method"], scope["path"])
                scope["path_params"] = places
                response = await handler(Request(scope, receive, send))
            except PoolwrightError as problem:
                response = _refused(scope["path"], problem)
            except ClientDisconnect:
                response = Response(status_code=400)
            except Exception as problem:  # a bug of ours: the client hears of it, and the log why
                log.error("request failed", path=scope["path"], exc_info=problem)
                response = _json({"ok": False, "error": "Internal error"}, 500)
        response.raw_headers += CORS
        response.raw_headers += [(name.lower().encode(), value.encode()) for name, value in told.items()]
        route, seconds = _route_of(scope["path"]), time.monotonic() - started
        self._metrics.answered(route, response.status_code, seconds)
        await response(scope, receive, send)

    def _client(self, scope: Scope) -> str:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        peer = (scope.get("client") or ("", 0))[0]
        return client_of(headers, peer, trusts_proxy=self._trusts_proxy)


def _block(market: ChainMarket) -> BlockNumber | None:
    return None if market.cursor is None else market.cursor.number


def _route_of(path: str) -> str:
    """The route's name for counting: never a value that a client chooses."""
    first = path.strip("/").partition("/")[0]
    return first if first in docs.ROUTES else "other"


def _asked(request: Request) -> Mapping[str, str]:
    """The query; of a name that comes twice the last value counts."""
    query: bytes = request.scope["query_string"]
    return _parsed(query) if len(query) <= LONGEST_QUERY_KEPT else _parsed.__wrapped__(query)


@lru_cache(maxsize=MOST_KEPT)
def _parsed(query: bytes) -> Mapping[str, str]:
    return dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))


def _json(body: object, status: int = 200) -> Response:
    return Response(json.dumps(body), status_code=status, media_type="application/json")


def _document(document: str | None, what: str, more: Mapping[str, object] | None = None) -> Response:
    if document is None:
        raise not_found(what)
    return _json({"ok": True, **json.loads(document), **(more or {})})


def _documents(name: str, documents: list[str], count: int, skip: int, size: int) -> Response:
    following = f',"nextPage":{skip + size}' if len(documents) == size else ""
    body = f'{{"ok":true,"{name}":[{",".join(documents)}],"count":{count}{following}}}'
    return Response(body, media_type="application/json")


def _answer(refusal: MarketRefusal) -> Response:
    headers = {} if refusal.retry_after is None else {"Retry-After": str(refusal.retry_after)}
    if refusal.status in (408, 413):
        headers |= CLOSING
    answer = _json({"ok": False, "error": refusal.text}, refusal.status)
    answer.headers.update(headers)
    return answer


def _refused(path: str, problem: PoolwrightError) -> Response:
    refusal = as_refusal(problem)
    if refusal is None:
        log.error("request failed", path=path, code=problem.code, reason=str(problem))
        return _json({"ok": False, "error": "Internal error"}, 500)
    if refusal.status >= 500:
        log.warning("request must wait", path=path, reason=str(problem))
    return _answer(refusal)
