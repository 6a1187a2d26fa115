"""The result repository as a process: settings, folder, port, server, signals, log.

Logs are JSON lines on standard output. SIGTERM and Ctrl-C let running requests end, within a bound. What
stops it from starting (bad setting, port taken, folder in use, another chain) is one line on standard
error and exit code 2; a chain that does not answer is not among them: results are served without it.
"""

from __future__ import annotations

import asyncio
import os
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
from poolwright.results.intake import Intake
from poolwright.results.ledger import HubLedger, Ledger
from poolwright.results.metrics import Metrics
from poolwright.results.storage import Storage
from poolwright.results.sweep import Sweep
from poolwright.serving.http import listen, serve, url_of
from poolwright.serving.logs import log_json
from poolwright.serving.patience import patient_protocol

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
    log_json()
    asyncio.run(_serve_hub(config))


async def _serve_hub(config: ResultsConfig) -> None:
    nodes = Rpc(config.node_urls, timeout_seconds=NODE_SECONDS, attempts=3, chain_id=config.chain_id)
    async with nodes as rpc:
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
        listener = listen(
            config.host, config.port, setting="IEXEC_RESULT_PROXY_HOST and IEXEC_RESULT_PROXY_PORT"
        )
        try:
            await _look_at_chain(ledger)
            metrics = Metrics()
            running = _start(config, storage, ledger, listener, metrics)
        except BaseException:
            listener.close()
            raise
        sweep = Sweep(storage, ledger, metrics, every_seconds=config.sweep_seconds)
        sweeping = asyncio.create_task(sweep.run() if config.sweep_seconds else asyncio.sleep(0))
        sweeping.add_done_callback(_tell_end)
        try:
            yield running
        finally:
            sweeping.cancel()
            await asyncio.wait({sweeping})
            running.stop()
            await running.ended()
            log.info("stopped")
    finally:
        storage.close()


def _start(
    config: ResultsConfig, storage: Storage, ledger: Ledger, listener: socket.socket, metrics: Metrics
) -> RunningServer:
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
    task = asyncio.create_task(serve(server, listener))
    url = url_of(listener)
    log.info("listening", url=url, folder=str(config.folder), results=storage.count(), pid=os.getpid())
    return RunningServer(url, server, task)


def _tell_end(sweeping: asyncio.Task[None]) -> None:
    """A bug of ours ends the sweep and nothing else."""
    if not sweeping.cancelled() and (problem := sweeping.exception()) is not None:
        log.error("sweep stopped", reason=str(problem), exc_info=problem)


async def _look_at_chain(ledger: Ledger) -> None:
    try:
        async with asyncio.timeout(FIRST_LOOK_SECONDS):
            block = await ledger.newest_block()
        log.info("chain answers", block=block.number)
    except InputError:
        raise
    except (PoolwrightError, TimeoutError) as problem:
        log.warning("chain does not answer; serving results, uploads wait", reason=str(problem))
