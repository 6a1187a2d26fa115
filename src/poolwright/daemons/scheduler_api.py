"""The scheduler's HTTP face: workers log in and connect here, everybody else reads.

Errors are `{code, message, details}`; the message says what was expected, what came and what to do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from poolwright.daemons.doors import Health, watch_routes
from poolwright.daemons.operator_api import OperatorApi
from poolwright.daemons.sessions import Sessions
from poolwright.poco.errors import InputError, PeerError, PoolwrightError
from poolwright.poco.types import Address, DealId, Hash32, TaskId, Timestamp, WorkerAddress
from poolwright.scheduler import view
from poolwright.scheduler.pool import Pool, tasks_of_deal
from poolwright.scheduler.standing import is_admitted
from poolwright.scheduler.task import Task
from poolwright.serving.bodies import read_bounded
from poolwright.serving.http import CLOSING, error_body, status_of
from poolwright.serving.patience import CLIENT_SECONDS
from poolwright.store.port import Commit, Store
from poolwright.wire import codec
from poolwright.wire.login import (
    Login,
    LoginRefused,
    Token,
    check_login,
    check_token,
    make_challenge,
    make_token,
)
from poolwright.wire.task_logs import (
    MAX_BODY_BYTES as MAX_LOGS_BYTES,
)
from poolwright.wire.task_logs import (
    ComputeLogs,
    challenge_of,
    reader_of,
    typed_challenge,
)

MAX_BODY_BYTES: Final = 4096
LOGS_KIND: Final = "logs"
"""Kind of the records that keep what apps printed, by task and worker."""

T = TypeVar("T")


class SchedulerApi:
    """Routes over the pool's state; `token_key` authenticates challenges and tokens (32 bytes).

    Answers about the whole of a large pool take long to write: that is done on a thread, of frozen values.
    """

    def __init__(
        self,
        *,
        pool: Callable[[], Pool],
        store: Store,
        sessions: Sessions,
        token_key: bytes,
        chain_id: int,
        workerpool: Address,
        operator: OperatorApi,
        metrics: Callable[[], Awaitable[bytes]],
        health: Health,
    ) -> None:
        self._pool = pool
        self._store = store
        self._sessions = sessions
        self._token_key = token_key
        self._chain_id = chain_id
        self._workerpool = workerpool
        self._operator = operator
        self._health = health
        self._metrics = metrics

    def app(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                *watch_routes(self._health, self._metrics),
                Route("/pool", self.pool),
                Route("/tasks/logs/challenge", self.logs_challenge),
                Route("/tasks/{task_id}", self.task),
                Route("/tasks/{task_id}/logs", self.read_logs),
                Route("/tasks/{task_id}/logs", self.take_logs, methods=["POST"]),
                Route("/deals/{deal_id}/tasks", self.deal_tasks),
                Route("/workers/challenge", self.challenge),
                Route("/workers/login", self.login, methods=["POST"]),
                WebSocketRoute("/workers/connect", _Connect(self)),
                *self._operator.routes(),
            ],
            exception_handlers={PoolwrightError: _explain, HTTPException: _explain_http},
        )

    async def pool(self, _: Request) -> Response:
        return await asyncio.to_thread(lambda: JSONResponse(view.pool_model(self._pool())))

    async def task(self, request: Request) -> Response:
        return JSONResponse(view.task_model(self._known_task(request), iso_date))

    async def logs_challenge(self, request: Request) -> Response:
        reader = Address.parse(request.query_params.get("address", ""))
        challenge = challenge_of(self._token_key, reader, int(time.time()))
        return JSONResponse(typed_challenge(self._chain_id, challenge))

    async def read_logs(self, request: Request) -> Response:
        """The logs of all workers of a task, for the deal's requester."""
        task = self._known_task(request)
        authorization = request.headers.get("authorization", "")
        reader = reader_of(self._token_key, self._chain_id, authorization, int(time.time()))
        if reader != task.deal.requester:
            raise HTTPException(403, f"the logs of this task are for its requester {task.deal.requester}")
        bodies = {
            replicate.worker: await self._store.record(LOGS_KIND, _logs_key(task.id, replicate.worker))
            for replicate in task.replicates
        }
        logs = [
            {"walletAddress": str(worker), "stdout": kept.stdout, "stderr": kept.stderr}
            for worker, body in bodies.items()
            if body is not None
            for kept in [codec.decode(ComputeLogs, body)]
        ]
        if not logs:
            raise HTTPException(404, f"there are no logs of task {task.id} yet")
        return JSONResponse({"chainTaskId": str(task.id), "computeLogsList": logs})

    async def take_logs(self, request: Request) -> Response:
        """What an app printed on a worker, from that worker."""
        worker = self._bearer(request.headers.get("authorization", ""))
        task = self._known_task(request)
        if task.replicate_of(worker) is None:
            raise HTTPException(403, f"worker {worker} has no part in task {task.id}")
        if not self._sessions.may_send_logs(worker):
            raise HTTPException(429, "too many logs at once; bring them later")
        logs = _read(ComputeLogs, await _body(request, MAX_LOGS_BYTES)).bounded()
        record = {(LOGS_KIND, _logs_key(task.id, worker)): codec.encode(logs)}
        await self._store.commit(Commit(records=record))
        return Response(status_code=204)

    async def deal_tasks(self, request: Request) -> Response:
        found = tasks_of_deal(self._pool(), DealId(Hash32.parse(request.path_params["deal_id"])))
        return await asyncio.to_thread(
            lambda: JSONResponse({"tasks": [view.task_model(task, iso_date) for task in found]})
        )

    async def challenge(self, request: Request) -> Response:
        worker = self._known(Address.parse(request.query_params.get("walletAddress", "")))
        challenge = make_challenge(self._token_key, worker, int(time.time()))
        return Response(codec.encode(challenge), media_type="application/json")

    async def login(self, request: Request) -> Response:
        login = _read(Login, await _body(request, MAX_BODY_BYTES))
        worker = self._known(login.wallet_address)
        now = int(time.time())
        check_login(self._token_key, self._chain_id, self._workerpool, login, now)
        token = Token(token=make_token(self._token_key, worker, now))
        return Response(codec.encode(token), media_type="application/json")

    async def connect(self, socket: WebSocket) -> None:
        """One worker's WebSocket, after its token."""
        try:
            worker = self._bearer(socket.headers.get("authorization", ""))
        except PoolwrightError as problem:
            self._sessions.refused[problem.code] += 1
            await socket.send_denial_response(_answer(problem))
            return
        await socket.accept()
        await self._sessions.serve(socket, worker)

    def _bearer(self, authorization: str) -> WorkerAddress:
        """The worker whose token this is. Raises LoginRefused."""
        scheme, _, token = authorization.partition(" ")
        if scheme != "Bearer":
            raise LoginRefused("no token", code="no-token", next_step="log in first")
        return self._allowed(check_token(self._token_key, token, int(time.time())))

    def _known_task(self, request: Request) -> Task:
        task_id = TaskId(Hash32.parse(request.path_params["task_id"]))
        task = self._pool().tasks.get(task_id)
        if task is None:
            raise HTTPException(404, f"task {task_id} is not one of this workerpool")
        return task

    def _known(self, wallet: Address) -> WorkerAddress:
        """Whoever may log in: workers that may join, and the operator. Raises LoginRefused."""
        return WorkerAddress(wallet) if wallet == self._operator.owner else self._allowed(wallet)

    def _allowed(self, worker: Address) -> WorkerAddress:
        pool = self._pool()
        if not is_admitted(pool.rules, pool.words, WorkerAddress(worker)):
            raise LoginRefused(
                f"wallet {worker} may not join this workerpool",
                code="not-allowed",
                next_step="ask the workerpool's manager to add it: `poolwright scheduler allow`",
            )
        return WorkerAddress(worker)


class _Connect:
    """The WebSocket route as a raw ASGI endpoint."""

    def __init__(self, api: SchedulerApi) -> None:
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._api.connect(WebSocket(scope, receive, send))


def iso_date(at: Timestamp) -> str:
    """Chain seconds as the read API's clients expect dates (reference: scheduler-worker.md 0)."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


def _logs_key(task_id: TaskId, worker: WorkerAddress) -> str:
    return f"{task_id}:{worker}"


async def _body(request: Request, most_bytes: int) -> bytes:
    return await read_bounded(request, most_bytes=most_bytes, seconds=CLIENT_SECONDS)


def _read(form: type[T], body: bytes) -> T:
    """A body of this form. Raises InputError."""
    try:
        return codec.decode(form, body)
    except PeerError as problem:
        raise InputError(
            f"the body is refused: {problem.what}",
            code=problem.code,
            expected=problem.expected,
            got=problem.got,
            next_step=problem.next_step,
        ) from problem


def _answer(problem: PoolwrightError) -> Response:
    status = status_of(problem)
    return JSONResponse(error_body(problem), status, headers=CLOSING if status in (408, 413) else None)


async def _explain(_: Request, problem: Exception) -> Response:
    assert isinstance(problem, PoolwrightError)
    return _answer(problem)


async def _explain_http(_: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)
    code = {
        404: "not-found",
        405: "method-not-allowed",
        429: "too-many-requests",
    }.get(problem.status_code, "http")
    body = {"code": code, "message": problem.detail, "details": {}}
    return JSONResponse(body, problem.status_code, headers=problem.headers)
