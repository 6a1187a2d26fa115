"""What the daemons are told by their operator: environment variables, parsed once into frozen values.

Names are those that operators of the network know (reference `scheduler-worker.md` section 10). A value that
cannot be read is an InputError that names the variable.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Final

from poolwright.chain.budget import FeeLimits
from poolwright.chain.gas import DEFAULT_CAP, DEFAULT_MULTIPLIER, GasPolicy
from poolwright.poco.errors import InputError
from poolwright.poco.types import Address, BlockNumber, Seconds, Wei
from poolwright.scheduler.standing import DEFAULT_RULES, Rules
from poolwright.serving.environment import Environment

GIB: Final = 1024**3
MAX_SLOTS: Final = 4_096
"""A worker that offers more is not believed by its scheduler."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainConfig:
    """Which chain, and how to pay on it. `block_seconds` is how often a block is expected."""

    rpc_urls: tuple[str, ...]
    chain_id: int
    hub: Address
    block_seconds: float
    confirmations: int
    gas: GasPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class WalletConfig:
    """An encrypted keystore and where its password stands."""

    path: Path
    password_file: Path | None
    password_variable: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerConfig:
    """Configuration of `poolwright scheduler run`."""

    chain: ChainConfig
    wallet: WalletConfig
    workerpool: Address
    host: str
    port: int
    start_block: BlockNumber
    results_url: str
    folder: Path
    store_url: str | None = field(repr=False)
    """PostgreSQL that several schedulers share; None keeps the store in `folder`. It may hold a password."""
    silence_seconds: int
    """A worker that says nothing for longer is lost (reference 1.4: one minute)."""
    rules: Rules
    """Who may join, and whom the pool trusts with work."""
    fees: FeeLimits
    """Of the pool owner's transactions."""
    contribute_and_finalize: bool
    """Whether workers may end a task of trust 1 in one transaction."""
    check_invariants: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """Configuration of `poolwright worker run`. Limits are per task."""

    chain: ChainConfig
    wallet: WalletConfig
    workerpool: Address
    core_urls: tuple[str, ...]
    """Where the pool's schedulers listen: one leads, the others stand by."""
    host: str
    port: int | None
    """Where its health and metrics are shown; None: nowhere."""
    name: str
    folder: Path
    slots: int
    memory_bytes: int
    output_bytes: int
    """Of an app's output; one that writes more is ended."""
    gateways: tuple[str, ...]
    docker_host: str | None
    network_id: str
    app_network: bool
    """Whether apps may use the network (docs/adr/0010-app-network-off.md)."""
    private_downloads: bool
    """Whether datasets and input files may come from addresses that are not public."""
    gpu: bool


def chain_config(env: Environment) -> ChainConfig:
    """Read what scheduler and worker both need of the chain."""
    return ChainConfig(
        rpc_urls=env.urls("IEXEC_BLOCKCHAIN_NODE_ADDRESS"),
        chain_id=env.integer("IEXEC_CHAIN_ID", minimum=1),
        hub=env.address("IEXEC_HUB_ADDRESS"),
        block_seconds=float(env.number("IEXEC_BLOCK_TIME", Fraction(5))),
        confirmations=env.integer("POOLWRIGHT_CONFIRMATIONS", 0),
        gas=GasPolicy(
            multiplier=env.number("IEXEC_GAS_PRICE_MULTIPLIER", Fraction(DEFAULT_MULTIPLIER)),
            cap=Wei(env.integer("IEXEC_GAS_PRICE_CAP", DEFAULT_CAP)),
        ),
    )


def scheduler_config(variables: Mapping[str, str]) -> SchedulerConfig:
    """Read the scheduler's configuration. Raises InputError naming the variable that is wrong."""
    env = Environment(variables)
    return SchedulerConfig(
        chain=chain_config(env),
        wallet=_wallet(env, "IEXEC_CORE_WALLET"),
        workerpool=env.address("POOL_ADDRESS"),
        host=env.text("IEXEC_CORE_HOST", "127.0.0.1"),
        port=env.port("IEXEC_CORE_PORT", 13000),
        start_block=BlockNumber(env.integer("IEXEC_START_BLOCK_NUMBER", 0)),
        results_url=env.url("IEXEC_RESULT_REPOSITORY_URL"),
        folder=env.path("POOLWRIGHT_SCHEDULER_DIR", "scheduler"),
        store_url=env.optional("POOLWRIGHT_STORE_URL"),
        silence_seconds=env.integer("POOLWRIGHT_WORKER_SILENCE_SECONDS", 60, minimum=2),
        rules=_rules(env),
        fees=FeeLimits(
            per_transaction=_limit(env, "POOLWRIGHT_FEE_PER_TRANSACTION"),
            per_hour=_limit(env, "POOLWRIGHT_FEES_PER_HOUR"),
            per_day=_limit(env, "POOLWRIGHT_FEES_PER_DAY"),
        ),
        contribute_and_finalize=env.flag("POOLWRIGHT_CONTRIBUTE_AND_FINALIZE", True),
        check_invariants=env.flag("POOLWRIGHT_CHECK_INVARIANTS"),
    )


def _rules(env: Environment) -> Rules:
    quarantine = env.integer("POOLWRIGHT_QUARANTINE_SECONDS", 600, minimum=1)
    return Rules(
        allowed=env.addresses("IEXEC_WORKERS_WHITELIST"),
        min_version=env.text("IEXEC_CORE_REQUIRED_WORKER_VERSION", ""),
        faults=env.integer("POOLWRIGHT_QUARANTINE_FAULTS", 5, maximum=100),
        quarantine=Seconds(quarantine),
        max_quarantine=Seconds(max(quarantine, DEFAULT_RULES.max_quarantine)),
    )


def worker_config(variables: Mapping[str, str]) -> WorkerConfig:
    """Read the worker's configuration. Raises InputError naming the variable that is wrong."""
    env = Environment(variables)
    override = env.integer("IEXEC_WORKER_OVERRIDE_AVAILABLE_CPU_COUNT", 0, maximum=MAX_SLOTS)
    return WorkerConfig(
        chain=chain_config(env),
        wallet=_wallet(env, "IEXEC_WORKER_WALLET"),
        workerpool=env.address("POOL_ADDRESS"),
        core_urls=env.urls("IEXEC_CORE_URL"),
        host=env.text("IEXEC_WORKER_HOST", "127.0.0.1"),
        port=None if env.optional("IEXEC_WORKER_PORT") is None else env.port("IEXEC_WORKER_PORT", 0),
        name=env.text("IEXEC_WORKER_NAME", "worker"),
        folder=env.path("IEXEC_WORKER_BASE_DIR", "worker"),
        # One CPU is left to the machine itself (reference 9.11).
        slots=override if override > 0 else max((os.cpu_count() or 2) - 1, 1),
        memory_bytes=env.integer("POOLWRIGHT_WORKER_TASK_MEMORY_BYTES", GIB, minimum=8 * 1024**2),
        output_bytes=env.integer("POOLWRIGHT_WORKER_TASK_OUTPUT_BYTES", GIB, minimum=1024**2),
        gateways=env.urls("IEXEC_WORKER_IPFS_GATEWAY", ()),
        docker_host=env.optional("DOCKER_HOST"),
        network_id=env.text("POOLWRIGHT_NETWORK_ID", "default"),
        app_network=env.flag("POOLWRIGHT_APP_NETWORK"),
        private_downloads=env.flag("POOLWRIGHT_PRIVATE_DOWNLOADS"),
        gpu=env.flag("IEXEC_WORKER_GPU_ENABLED"),
    )


def password_of(wallet: WalletConfig, variables: Mapping[str, str]) -> str:
    """The keystore's password, from its file or its variable. Raises InputError."""
    if wallet.password_file is not None:
        try:
            return wallet.password_file.read_text().rstrip("\n")
        except OSError as problem:
            raise InputError(
                f"cannot read the password file {wallet.password_file}",
                code="unreadable-password",
                got=problem.strerror or str(problem),
                next_step=f"correct {wallet.password_variable}_FILE",
            ) from problem
    return Environment(variables).secret(wallet.password_variable)


def _limit(env: Environment, name: str) -> Wei | None:
    """A limit on fees, wei; None when it is not set."""
    return None if env.optional(name) is None else Wei(env.integer(name))


def _wallet(env: Environment, prefix: str) -> WalletConfig:
    file = env.optional(f"{prefix}_PASSWORD_FILE")
    return WalletConfig(
        path=env.path(f"{prefix}_PATH"),
        password_file=None if file is None else Path(file),
        password_variable=f"{prefix}_PASSWORD",
    )
