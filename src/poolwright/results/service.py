"""The result repository as a process: settings, folder, port, server, signals, log.

Logs are JSON lines on standard output. SIGTERM and Ctrl-C let running requests end, within a bound. What
stops it from starting (bad setting, port taken, folder in use, another chain) is one line on standard
error and exit code 2; a chain that does not answer is not among them: results are served without it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
import uvicorn

from poolwright.chain.rpc import Rpc
from poolwright.poco.errors import InputError, PoolwrightError
from poolwright.results.app import Repository, create_app
from poolwright.results.config import ResultsConfig, from_environment
from poolwright.results.connections import patient_protocol
from poolwright.results.intake import Intake
from poolwright.results.ledger import HubLedger, Ledger
from poolwright.results.metrics import Metrics
from poolwright.results.storage import Storage

log: structlog.stdlib.BoundLogger = structlog.get_logger()

FIRST_LOOK_SECONDS = 2.0
"""How long the start waits for the chain before it goes on without."""
SHUTDOWN_SECONDS = 10
MAX_CONNECTIONS = 1000
NODE_SECONDS = 5.0
"""Bound of one exchange with a node."""


def main() -> int:
    """Run with the settings of the environment and return the exit code."""
    try:
        run(from_environment(os.environ))
    except PoolwrightError as problem:
        sys.stderr.write(f"results: {problem}\n")
        return problem.exit_code
    return 0


def run(config: ResultsConfig) -> None:
    """Serve until SIGTERM or SIGINT. Raises InputError when it cannot start."""
    _log_json()
    asyncio.run(_serve_hub(config))


async def _serve_hub(config: ResultsConfig) -> None:
    async with Rpc(config.node_urls, timeout_seconds=NODE_SECONDS, attempts=3) as rpc:
        ledger = HubLedger(rpc, chain_id=config.chain_id, hub=config.hub)
        async with serving(config, ledger) as server:
            await server.ended()


class RunningServer:
    """A server that answers, from `serving`."""

    def __init__(self, url: str, server: uvicorn.Server, task: asyncio.Task[None]) -> None:
        self.url = url
        self._server = server
        self._aio_task = task

    async def ended(self) -> None:
        """Return when the server has stopped."""
        await asyncio.shield(self._aio_task)

    def stop(self) -> None:
        """Let running requests end, then stop."""
        self._server.should_exit = True


@asynccontextmanager
async def serving(config: ResultsConfig, ledger: Ledger) -> AsyncIterator[RunningServer]:
    """Serve the repository over `ledger` until the block ends. Raises InputError when it cannot start."""
    storage = Storage.open(config.folder, keep_free_bytes=config.keep_free_bytes)
    try:
        listener = _listen(config)
        try:
            await _look_at_chain(ledger)
            running = _start(config, storage, ledger, listener)
        except BaseException:
            listener.close()
            raise
        try:
            yield running
        finally:
            running.stop()
            await running.ended()
            log.info("stopped")
    finally:
        storage.close()


def _start(config: ResultsConfig, storage: Storage, ledger: Ledger, listener: socket.socket) -> RunningServer:
    metrics = Metrics()
    intake = Intake(config, storage, ledger, metrics)
    app = create_app(
        Repository(config=config, storage=storage, ledger=ledger, intake=intake, metrics=metrics)
    )
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=patient_protocol(config.stall_seconds),
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
    )
    metrics.connections.set_function(lambda: len(server.server_state.connections))
    task = asyncio.create_task(_serve(server, listener))
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    log.info("listening", url=url, folder=str(config.folder), results=storage.count(), pid=os.getpid())
    return RunningServer(url, server, task)


async def _serve(server: uvicorn.Server, listener: socket.socket) -> None:
    """Run uvicorn, which sends itself the caught signal again once it has stopped; that one is for nobody."""
    caught = (signal.SIGTERM, signal.SIGINT)
    previous = [signal.signal(each, lambda *_: None) for each in caught]
    try:
        await server.serve(sockets=[listener])
    finally:
        for each, handler in zip(caught, previous, strict=True):
            signal.signal(each, handler)


async def _look_at_chain(ledger: Ledger) -> None:
    try:
        async with asyncio.timeout(FIRST_LOOK_SECONDS):
            block = await ledger.newest_block()
        log.info("chain answers", block=block.number)
    except InputError:
        raise
    except (PoolwrightError, TimeoutError) as problem:
        log.warning("chain does not answer; serving results, uploads wait", reason=str(problem))


def _listen(config: ResultsConfig) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((config.host, config.port))
        listener.listen(1024)
    except OSError as problem:
        listener.close()
        is_taken = problem.errno == errno.EADDRINUSE
        raise InputError(
            f"cannot listen on {config.host}:{config.port}",
            code="port-taken" if is_taken else "cannot-listen",
            expected="a free port" if is_taken else "an address of this machine and a port this user may use",
            got="another program listens there" if is_taken else problem.strerror or str(problem),
            next_step=("stop that program, or " if is_taken else "")
            + "set IEXEC_RESULT_PROXY_HOST and IEXEC_RESULT_PROXY_PORT",
        ) from problem
    return listener


def _log_json() -> None:
    """One JSON line per event on standard output, for ours and for uvicorn's warnings."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
