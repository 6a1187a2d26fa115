"""What the daemons are told by their operator: environment variables, parsed once into frozen values.

Names are those that operators of the network know (reference `scheduler-worker.md` section 10). A value that
cannot be read is an InputError that names the variable.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

from poolwright.chain.gas import DEFAULT_CAP, DEFAULT_MULTIPLIER, GasPolicy
from poolwright.poco.errors import InputError
from poolwright.poco.types import Address, BlockNumber, Wei

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
    silence_seconds: int
    """A worker that says nothing for longer is lost (reference 1.4: one minute)."""
    workers_allowed: frozenset[Address]
    """Empty: every wallet may join."""
    check_invariants: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """Configuration of `poolwright worker run`. Limits are per task."""

    chain: ChainConfig
    wallet: WalletConfig
    workerpool: Address
    core_url: str
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


class Environment:
    """Typed reads of environment variables; every problem is an InputError that names the variable."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    def text(self, name: str, default: str | None = None) -> str:
        value = self._variables.get(name, "")
        if value:
            return value
        if default is None:
            raise InputError(
                f"{name} is not set", code="missing-variable", next_step=f"export {name} and start again"
            )
        return default

    def optional(self, name: str) -> str | None:
        return self._variables.get(name) or None

    def integer(
        self, name: str, default: int | None = None, *, minimum: int = 0, maximum: int | None = None
    ) -> int:
        text = self.text(name, None if default is None else str(default))
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if value < minimum:
            raise _unreadable(name, f"a whole number of at least {minimum}", text)
        if maximum is not None and value > maximum:
            raise _unreadable(name, f"a whole number of at most {maximum}", text)
        return value

    def number(self, name: str, default: Fraction) -> Fraction:
        text = self.text(name, str(default))
        try:
            value = Fraction(text)
        except (ValueError, ZeroDivisionError):
            raise _unreadable(name, "a number such as 1.3", text) from None
        if value < 0:
            raise _unreadable(name, "a number of at least 0", text)
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        text = self.text(name, str(default)).lower()
        if text not in ("true", "false", "1", "0", "yes", "no"):
            raise _unreadable(name, "true or false", text)
        return text in ("true", "1", "yes")

    def address(self, name: str) -> Address:
        text = self.text(name)
        try:
            return Address.parse(text)
        except InputError as problem:
            raise _unreadable(name, "an address: 0x and 40 hexadecimal digits", text) from problem

    def addresses(self, name: str) -> frozenset[Address]:
        text = self.text(name, "")
        try:
            return frozenset(Address.parse(part.strip()) for part in text.split(",") if part.strip())
        except InputError as problem:
            raise _unreadable(name, "addresses separated by commas", text) from problem

    def path(self, name: str, default: str | None = None) -> Path:
        return Path(self.text(name, default)).expanduser().absolute()


def chain_config(env: Environment) -> ChainConfig:
    """Read what scheduler and worker both need of the chain."""
    return ChainConfig(
        rpc_urls=tuple(
            url.strip() for url in env.text("IEXEC_BLOCKCHAIN_NODE_ADDRESS").split(",") if url.strip()
        ),
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
        port=env.integer("IEXEC_CORE_PORT", 13000, maximum=65_535),
        start_block=BlockNumber(env.integer("IEXEC_START_BLOCK_NUMBER", 0)),
        results_url=env.text("IEXEC_RESULT_REPOSITORY_URL").rstrip("/"),
        folder=env.path("POOLWRIGHT_SCHEDULER_DIR", "scheduler"),
        silence_seconds=env.integer("POOLWRIGHT_WORKER_SILENCE_SECONDS", 60, minimum=2),
        workers_allowed=env.addresses("IEXEC_WORKERS_WHITELIST"),
        check_invariants=env.flag("POOLWRIGHT_CHECK_INVARIANTS"),
    )


def worker_config(variables: Mapping[str, str]) -> WorkerConfig:
    """Read the worker's configuration. Raises InputError naming the variable that is wrong."""
    env = Environment(variables)
    override = env.integer("IEXEC_WORKER_OVERRIDE_AVAILABLE_CPU_COUNT", 0, maximum=MAX_SLOTS)
    return WorkerConfig(
        chain=chain_config(env),
        wallet=_wallet(env, "IEXEC_WORKER_WALLET"),
        workerpool=env.address("POOL_ADDRESS"),
        core_url=env.text("IEXEC_CORE_URL").rstrip("/"),
        name=env.text("IEXEC_WORKER_NAME", "worker"),
        folder=env.path("IEXEC_WORKER_BASE_DIR", "worker"),
        # One CPU is left to the machine itself (reference 9.11).
        slots=override if override > 0 else max((os.cpu_count() or 2) - 1, 1),
        memory_bytes=env.integer("POOLWRIGHT_WORKER_TASK_MEMORY_BYTES", GIB, minimum=8 * 1024**2),
        output_bytes=env.integer("POOLWRIGHT_WORKER_TASK_OUTPUT_BYTES", GIB, minimum=1024**2),
        gateways=tuple(
            url.strip().rstrip("/")
            for url in env.text("IEXEC_WORKER_IPFS_GATEWAY", "").split(",")
            if url.strip()
        ),
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
    return Environment(variables).text(wallet.password_variable)


def _wallet(env: Environment, prefix: str) -> WalletConfig:
    file = env.optional(f"{prefix}_PASSWORD_FILE")
    return WalletConfig(
        path=env.path(f"{prefix}_PATH"),
        password_file=None if file is None else Path(file),
        password_variable=f"{prefix}_PASSWORD",
    )


def _unreadable(name: str, expected: str, got: str) -> InputError:
    return InputError(
        f"cannot read {name}",
        code="bad-variable",
        expected=expected,
        got=repr(got)[:100],
        next_step=f"correct {name} and start again",
    )
