"""The routes of the result repository.

    POST /v1/results/{taskId}            store a result; body application/zip, answer /ipfs/<cid>
    HEAD /v1/results/{taskId}            204 stored, 404 not
    GET  /v1/results/{taskId}/ipfshash   the CID, as text
    GET  /ipfs/{cid}                     the file; also HEAD and Range
    POST /ipfs                           add any file (closed unless the operator opens it); answer the CID
    GET  /health /version /metrics       what works; which version; numbers for Prometheus

Every error is JSON {code, message, details}. What is public on IPFS is public here: no route that reads
asks who reads, and browsers of any origin may.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from poolwright.poco.errors import InputError, PoolwrightError, Unavailable
from poolwright.poco.types import Hash32, TaskId
from poolwright.results.config import ResultsConfig
from poolwright.results.downloads import RangeOutside, serve
from poolwright.results.errors import AlreadyStored, NotFound, WrongMediaType
from poolwright.results.intake import Intake
from poolwright.results.ledger import Ledger
from poolwright.results.metrics import Metrics
from poolwright.results.storage import Storage
from poolwright.serving.http import error_body, status_of
from poolwright.wire.uploads import WORKERPOOL_AUTHORIZATION

log: structlog.stdlib.BoundLogger = structlog.get_logger()

HEALTH_SECONDS = 3.0
DRAIN_BYTES = 4 * 1024 * 1024
DRAIN_SECONDS = 5.0
RETRY_SECONDS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """The parts that the routes use."""

    config: ResultsConfig
    storage: Storage
    ledger: Ledger
    intake: Intake
    metrics: Metrics


def create_app(repository: Repository) -> Starlette:
    """Return the ASGI application over these parts."""
    pages = _Pages(repository)
    return Starlette(
        routes=[
            Route("/v1/results/{task_id}", pages.upload, methods=["POST"]),
            Route("/v1/results/{task_id}", pages.is_stored, methods=["HEAD"]),
            Route("/v1/results/{task_id}/ipfshash", pages.cid_of_result, methods=["GET"]),
            Route("/ipfs/{cid}", pages.download, methods=["GET"]),
            Route("/ipfs", pages.add, methods=["POST"]),
            Route("/health", pages.health, methods=["GET"]),
            Route("/version", pages.version, methods=["GET"]),
            Route("/metrics", pages.metrics, methods=["GET"]),
        ],
        exception_handlers={
            PoolwrightError: _refused,
            HTTPException: _no_such_page,
            Exception: _our_bug,
        },
        middleware=[
            Middleware(_CountResponses, metrics=repository.metrics),
            Middleware(
                CORSMiddleware,
                allow_origins=["*"],
                allow_methods=["GET", "HEAD"],
                allow_headers=["Range", "If-Range", "If-None-Match"],
                expose_headers=["Content-Length", "Content-Range", "Content-Disposition", "ETag"],
            ),
        ],
    )


class _Pages:
    """One method per route."""

    def __init__(self, repository: Repository) -> None:
        self._config = repository.config
        self._storage = repository.storage
        self._ledger = repository.ledger
        self._intake = repository.intake
        self._metrics = repository.metrics

    async def upload(self, request: Request) -> Response:
        outcome = "internal"
        body = request.stream()
        with self._metrics.upload_seconds.time():
            try:
                task_id = _task_id(request)
                _check_is_zip(request)
                stored = await self._intake.take_result(
                    task_id,
                    request.headers.get("authorization", ""),
                    _announced(request),
                    body,
                    request.headers.get(WORKERPOOL_AUTHORIZATION, ""),
                )
                outcome = "stored"
            except PoolwrightError as problem:
                outcome = problem.code
                log.info("upload refused", path=request.url.path, code=problem.code, reason=str(problem))
                await _drain(request, body)
                raise
            except ClientDisconnect:
                outcome = "client-left"
                log.info("upload given up by the client", path=request.url.path)
                return Response(status_code=400)
            finally:
                self._metrics.uploads.labels(outcome).inc()
        log.info(
            "result stored",
            task=str(task_id),
            cid=stored.cid,
            bytes=stored.size,
            uploader=str(stored.uploader),
        )
        return PlainTextResponse(f"/ipfs/{stored.cid}")

    async def is_stored(self, request: Request) -> Response:
        await self._stored_cid(request)
        return Response(status_code=204)

    async def cid_of_result(self, request: Request) -> Response:
        return PlainTextResponse(await self._stored_cid(request))

    async def download(self, request: Request) -> Response:
        return serve(self._storage, request.path_params["cid"], request)

    async def add(self, request: Request) -> Response:
        body = request.stream()
        try:
            cid = await self._intake.take_file(_announced(request), body)
        except PoolwrightError as problem:
            log.info("file refused", code=problem.code, reason=str(problem))
            await _drain(request, body)
            raise
        except ClientDisconnect:
            return Response(status_code=400)
        log.info("file added", cid=cid)
        return PlainTextResponse(cid, status_code=201, headers={"Location": f"/ipfs/{cid}"})

    async def health(self, request: Request) -> Response:
        storage, chain = self._storage_health(), await self._chain_health()
        is_well = storage["ok"] is True and chain["ok"] is True
        uploads = {"running": self._intake.uploading, "limit": self._config.max_uploads}
        return JSONResponse(
            {
                "status": "ok" if is_well else "degraded",
                "storage": storage,
                "chain": chain,
                "uploads": uploads,
                "openAdd": self._config.open_add,
            },
            status_code=200 if is_well else 503,
        )

    async def version(self, request: Request) -> Response:
        return PlainTextResponse(importlib.metadata.version("poolwright"))

    async def metrics(self, request: Request) -> Response:
        self._metrics.stored.set(self._storage.count())
        self._metrics.free.set(self._storage.free_bytes())
        return Response(generate_latest(self._metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def _stored_cid(self, request: Request) -> str:
        task_id = _task_id(request)
        stored = await self._intake.find(task_id)
        if stored is None:
            raise NotFound(
                f"no result of task {task_id} here",
                expected="a task whose result was uploaded to this repository",
                next_step="wait for the upload, or look at the task on chain",
            )
        return stored.cid

    def _storage_health(self) -> dict[str, object]:
        try:
            free = self._storage.free_bytes()
        except Unavailable as problem:
            return {"ok": False, **error_body(problem)}
        return {"ok": free > 0, "folder": str(self._storage.folder), "freeBytes": free}

    async def _chain_health(self) -> dict[str, object]:
        try:
            async with asyncio.timeout(HEALTH_SECONDS):
                block = await self._ledger.newest_block()
        except PoolwrightError as problem:
            return {"ok": False, **error_body(problem)}
        except TimeoutError:
            return {"ok": False, "code": "chain-unavailable", "message": "the chain does not answer in time"}
        return {
            "ok": True,
            "chainId": self._config.chain_id,
            "hub": str(self._config.hub),
            "block": block.number,
            "blockTime": block.timestamp,
        }


class _CountResponses:
    """Counts answers by method and status."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "OPTIONS") else "other"
                self._metrics.responses.labels(method, str(message["status"])).inc()
            await send(message)

        await self._app(scope, receive, counting if scope["type"] == "http" else send)


def _task_id(request: Request) -> TaskId:
    text = request.path_params["task_id"]
    try:
        return TaskId(Hash32.parse(text))
    except InputError as problem:
        raise InputError(
            "not a task id",
            code="bad-task-id",
            expected="0x and 64 hexadecimal digits",
            got=repr(text)[:100],
            next_step="take the task id from the deal or from `iexec task show`",
        ) from problem


def _check_is_zip(request: Request) -> None:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/zip":
        raise WrongMediaType(
            "the body is not announced as a zip",
            expected="Content-Type: application/zip",
            got=repr(media_type[:100]) if media_type else "no Content-Type",
            next_step="send the zip itself, not a form",
        )


def _announced(request: Request) -> int:
    return int(request.headers.get("content-length", "0"))


async def _drain(request: Request, body: AsyncIterator[bytes]) -> None:
    """Read what is left of a refused body, for a moment.

    A connection closed on unread bytes is reset, and the reset can overtake our answer. A client that
    asked with `Expect: 100-continue` waits for the answer and has sent nothing.
    """
    if request.headers.get("expect", "").lower() == "100-continue":
        return
    drained = 0
    with suppress(TimeoutError, ClientDisconnect):
        async with asyncio.timeout(DRAIN_SECONDS):
            async for chunk in body:
                drained += len(chunk)
                if drained > DRAIN_BYTES:
                    return


async def _refused(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, PoolwrightError)
    if isinstance(problem, RangeOutside):
        headers = {"Content-Range": f"bytes */{problem.size}"}
        return JSONResponse(error_body(problem), status_code=416, headers=headers)
    status = status_of(problem)
    if status == 500:
        log.error("request failed", path=request.url.path, code=problem.code, reason=str(problem))
    headers = {"Retry-After": str(RETRY_SECONDS)} if status == 503 else {}
    if isinstance(problem, AlreadyStored):
        headers["Location"] = f"/ipfs/{problem.cid}"
    if status == 408:
        headers["Connection"] = "close"
    if status == 401:
        headers["WWW-Authenticate"] = "PoolwrightUpload"
    return JSONResponse(error_body(problem), status_code=status, headers=headers)


async def _no_such_page(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)
    code = {404: "no-such-page", 405: "method-not-allowed"}.get(problem.status_code, "bad-request")
    message = f"{request.method} {request.url.path[:200]}: {problem.detail}; see the documented routes"
    return JSONResponse(
        {"code": code, "message": message, "details": {}},
        status_code=problem.status_code,
        headers=problem.headers,
    )


async def _our_bug(request: Request, problem: Exception) -> Response:
    message = "this repository made a mistake; its log has the story; try again, then report it"
    return JSONResponse({"code": "internal", "message": message, "details": {}}, status_code=500)
