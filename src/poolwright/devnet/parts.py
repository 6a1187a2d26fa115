"""The parts of a local network: how each is started, what it is told, and how one knows that it answers.

A daemon is told everything through its environment, under the names that operators of the network know, and
gets nothing of the caller's that bears one of those names: a stray IEXEC_HUB_ADDRESS in a shell must not
reach into the local network.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from signal import Signals
from typing import Any
from urllib.parse import urlsplit

from poolwright.devnet import toolchain
from poolwright.devnet.anvil import AnvilSettings, anvil_command
from poolwright.devnet.folder import StateFolder
from poolwright.devnet.record import NetworkRecord, WalletRecord
from poolwright.devnet.supervisor import Part

HOST = "127.0.0.1"
"""The local network listens on loopback only: its wallets are toys."""

GAS_PRICE_MULTIPLIER = "1.3"
GAS_PRICE_CAP = "22000000000"
"""Wei; the official services' defaults (reference: scheduler-worker.md section 10)."""

MARKET_CHAIN = "POOLWRIGHT_LOCAL"
"""The local chain's name among the market's settings."""

OPERATOR_PREFIXES = (
    *("IEXEC_", "POOL_ADDRESS", "POOLWRIGHT_STORE_URL", "POOLWRIGHT_MARKET_", f"{MARKET_CHAIN}_"),
    *("RATE_LIMIT_", "MAX_OPEN_ORDERS_PER_WALLET"),
)
PROBE_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where the network's four services listen."""

    chain: int
    results: int
    scheduler: int
    market: int

    @property
    def chain_url(self) -> str:
        return f"http://{HOST}:{self.chain}"

    @property
    def results_url(self) -> str:
        return f"http://{HOST}:{self.results}"

    @property
    def scheduler_url(self) -> str:
        return f"http://{HOST}:{self.scheduler}"

    @property
    def market_url(self) -> str:
        return f"http://{HOST}:{self.market}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A part as a process: its place in the network, its command line, its environment and its pulse."""

    part: Part
    words: tuple[str, ...] = ()
    """The command of `poolwright` that it is; () when it is another's program."""
    command: Callable[[], list[str]] = list
    """The command line of another's program."""
    environment: Callable[[NetworkRecord], dict[str, str]]
    """What is added to the inherited environment; asked for when the network is provisioned."""
    answers: Callable[[], bool]
    """Whether it does its work now; may take PROBE_SECONDS."""
    url: str = ""


def results_program(folder: StateFolder, ports: Ports) -> Program:
    """The result repository; on a local network anybody may add files to it."""

    def environment(record: NetworkRecord) -> dict[str, str]:
        return chain_environment(record) | {
            "IEXEC_RESULT_PROXY_HOST": HOST,
            "IEXEC_RESULT_PROXY_PORT": str(ports.results),
            "POOLWRIGHT_RESULTS_DIR": str(folder.part("results")),
            "POOLWRIGHT_RESULTS_OPEN_ADD": "1",
        }

    return Program(
        part=Part(name="results", rank=1, needs=frozenset({"chain"})),
        words=("results", "run"),
        environment=environment,
        answers=lambda: health(ports.results_url),
        url=ports.results_url,
    )


def market_program(folder: StateFolder, ports: Ports) -> Program:
    """The marketplace, which also tells clients where the pool's scheduler listens (compass)."""

    def environment(record: NetworkRecord) -> dict[str, str]:
        return {
            "CHAINS": MARKET_CHAIN,
            f"{MARKET_CHAIN}_CHAIN_ID": str(record.chain_id),
            f"{MARKET_CHAIN}_ETH_RPC_HOST": record.chain_url,
            f"{MARKET_CHAIN}_IEXEC_ADDRESS": str(record.hub),
            f"{MARKET_CHAIN}_START_BLOCK": str(record.start_block),
            f"{MARKET_CHAIN}_POLL_SECONDS": f"{min(record.block_time, 1.0):g}",
            f"{MARKET_CHAIN}_WORKERPOOL_API_URLS": f"{record.workerpool}={ports.scheduler_url}",
            "POOLWRIGHT_MARKET_HOST": HOST,
            "PORT": str(ports.market),
            "POOLWRIGHT_MARKET_DATABASE_URL": f"sqlite:///{folder.part('market') / 'market.db'}",
        }

    return Program(
        part=Part(name="market", rank=1, needs=frozenset({"chain"})),
        words=("market", "run"),
        environment=environment,
        answers=lambda: health(ports.market_url),
        url=ports.market_url,
    )


def scheduler_program(folder: StateFolder, ports: Ports) -> Program:
    """The scheduler of the network's one workerpool, in the manager's name."""

    def environment(record: NetworkRecord) -> dict[str, str]:
        return (
            chain_environment(record)
            | wallet_environment("IEXEC_CORE_WALLET", record.wallets["manager"])
            | {
                "IEXEC_CORE_HOST": HOST,
                "IEXEC_CORE_PORT": str(ports.scheduler),
                "POOL_ADDRESS": str(record.workerpool),
                "IEXEC_START_BLOCK_NUMBER": str(record.start_block),
                "IEXEC_RESULT_REPOSITORY_URL": ports.results_url,
                "POOLWRIGHT_SCHEDULER_DIR": str(folder.part("scheduler")),
            }
        )

    return Program(
        part=Part(name="scheduler", rank=2, needs=frozenset({"chain"})),
        words=("scheduler", "run"),
        environment=environment,
        answers=lambda: health(ports.scheduler_url),
        url=ports.scheduler_url,
    )


def worker_program(
    folder: StateFolder,
    ports: Ports,
    number: int,
    *,
    slots: int,
    engine: str,
    record_of: Callable[[], NetworkRecord],
) -> Program:
    """Worker `number` with so many slots; it is ready when the scheduler has it among its workers."""
    name = f"worker-{number}"

    def environment(record: NetworkRecord) -> dict[str, str]:
        return (
            chain_environment(record)
            | wallet_environment("IEXEC_WORKER_WALLET", record.wallets[name])
            | {
                "IEXEC_CORE_URL": ports.scheduler_url,
                "POOL_ADDRESS": str(record.workerpool),
                "IEXEC_WORKER_NAME": name,
                "IEXEC_WORKER_BASE_DIR": str(folder.part(name)),
                "IEXEC_WORKER_OVERRIDE_AVAILABLE_CPU_COUNT": str(slots),
                "IEXEC_WORKER_IPFS_GATEWAY": ports.results_url,
                "DOCKER_HOST": engine,
                "POOLWRIGHT_NETWORK_ID": record.network_id,
            }
        )

    return Program(
        part=Part(name=name, rank=3, needs=frozenset({"chain"})),
        words=("worker", "run"),
        environment=environment,
        answers=lambda: is_connected(ports.scheduler_url, str(record_of().wallets[name].address)),
    )


def chain_program(folder: StateFolder, settings: AnvilSettings, answers: Callable[[], bool]) -> Program:
    """anvil; what counts as its answer is the network's to say, because it is provisioned there."""
    return Program(
        part=Part(name="chain", rank=0, stop_signal=Signals.SIGINT),
        command=lambda: anvil_command(settings, toolchain.anvil_path()),
        environment=lambda record: {},
        answers=answers,
        url=settings.url,
    )


def poolwright_command(*words: str) -> list[str]:
    """Ourselves with other words, by the Python that runs now."""
    return [sys.executable, "-m", "poolwright", *words]


def inherited_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment without the names by which operators configure daemons."""
    kept = {name: value for name, value in variables.items() if not name.startswith(OPERATOR_PREFIXES)}
    return kept | {"PYTHONUNBUFFERED": "1"}


def chain_environment(record: NetworkRecord) -> dict[str, str]:
    """What every daemon hears of the chain."""
    return {
        "IEXEC_BLOCKCHAIN_NODE_ADDRESS": record.chain_url,
        "IEXEC_CHAIN_ID": str(record.chain_id),
        "IEXEC_HUB_ADDRESS": str(record.hub),
        "IEXEC_BLOCK_TIME": f"{record.block_time:g}",
        "IEXEC_GAS_PRICE_MULTIPLIER": GAS_PRICE_MULTIPLIER,
        "IEXEC_GAS_PRICE_CAP": GAS_PRICE_CAP,
    }


def wallet_environment(prefix: str, wallet: WalletRecord) -> dict[str, str]:
    """A daemon's wallet, under its prefix."""
    return {
        f"{prefix}_PATH": str(wallet.keystore),
        f"{prefix}_PASSWORD_FILE": str(wallet.password_file),
    }


def slots_per_worker(workers: int) -> int:
    """Share the machine's CPUs among the workers, at least one each."""
    return max(1, (os.cpu_count() or 1) // max(1, workers))


def health(url: str) -> bool:
    """Whether the service at `url` says that it is well."""
    return _get(f"{url}/health") is not None


def is_connected(scheduler_url: str, worker: str) -> bool:
    """Whether the scheduler has this wallet among its workers and hears it."""
    pool = _get(f"{scheduler_url}/pool")
    workers = pool.get("workers", []) if isinstance(pool, dict) else []
    return any(
        each.get("walletAddress", "").lower() == worker.lower() and not each.get("isSilent")
        for each in workers
    )


def _get(url: str) -> Any | None:
    """The JSON of a 200 answer; None for anything else."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or HOST, parts.port, timeout=PROBE_SECONDS)
    try:
        connection.request("GET", parts.path)
        answer = connection.getresponse()
        body = answer.read()
        return json.loads(body) if answer.status == 200 else None
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
