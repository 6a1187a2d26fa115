"""What the market's operator may set, read once from the environment.

Names are those of the network's own market API (reference 4.12); what it lacks begins with POOLWRIGHT_.

    CHAINS=DEV                         names of the chains that are served
    DEV_CHAIN_ID, DEV_IEXEC_ADDRESS    the chain and its hub
    DEV_ETH_RPC_HOST                   http(s) URLs of its nodes, comma between
    DEV_WORKERPOOL_API_URLS            0xpool=http://core:13000, comma between: what compass answers
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from poolwright.poco.errors import InputError
from poolwright.poco.types import Address

T = TypeVar("T")
_NAME: Final = re.compile(r"[A-Z][A-Z0-9_]*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainSettings:
    """One chain that the market serves."""

    name: str
    chain_id: int
    hub: Address
    node_urls: tuple[str, ...]
    confirmations: int = 0
    """Blocks on top of a block before the watcher believes it."""
    poll_seconds: float = 1.0
    start_block: int | None = None
    """First block to read; None finds the block in which the hub was created."""
    workerpool_urls: Mapping[Address, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketConfig:
    """The market's settings; `from_environment` gives the variable of each."""

    chains: tuple[ChainSettings, ...]
    host: str = "127.0.0.1"
    port: int = 3000
    """0 lets the system choose; the log line `listening` says which."""
    database_url: str = "sqlite:///market/market.db"
    max_open_orders: int = 50
    """Of one wallet and kind."""
    rate_limit: int = 100
    """Requests of one client in one period; 0 for no limit."""
    rate_period_seconds: float = 60.0
    trusts_proxy: bool = False
    """Whether x-real-ip and x-forwarded-for name the client."""
    checks_invariants: bool = False


def from_environment(environment: Mapping[str, str]) -> MarketConfig:
    """Read the configuration. Raises InputError naming the variable that is wrong."""

    def read(name: str, parse: Callable[[str], T], default: T | None, expected: str) -> T:
        text = environment.get(name, "").strip()
        if not text and default is not None:
            return default
        try:
            return parse(text)
        except (ValueError, InputError) as problem:
            raise InputError(
                f"setting {name}",
                code="bad-setting",
                expected=expected,
                got=repr(text)[:100] if text else "nothing",
                next_step=f"set {name} and start again",
            ) from problem

    def chain(name: str) -> ChainSettings:
        start = environment.get(f"{name}_START_BLOCK", "").strip()
        return ChainSettings(
            name=name,
            chain_id=read(f"{name}_CHAIN_ID", _at_least(1), None, "the chain id, a whole number"),
            hub=read(f"{name}_IEXEC_ADDRESS", Address.parse, None, "the hub's address, 0x and 40 hex digits"),
            node_urls=read(f"{name}_ETH_RPC_HOST", _urls, None, "http(s) URLs, comma between"),
            confirmations=read(f"{name}_CONFIRMATIONS", _at_least(0), 0, "blocks, 0 or more"),
            poll_seconds=read(f"{name}_POLL_SECONDS", _seconds, 1.0, "seconds, above 0"),
            start_block=read(f"{name}_START_BLOCK", _at_least(0), None, "a block number") if start else None,
            workerpool_urls=read(
                f"{name}_WORKERPOOL_API_URLS", _pools, {}, "0xpool=http://host:port, comma between"
            ),
        )

    names = read("CHAINS", _names, None, "names of chains such as DEV, comma between")
    return MarketConfig(
        chains=tuple(chain(name) for name in names),
        host=read("POOLWRIGHT_MARKET_HOST", str, "127.0.0.1", "a host name or address"),
        port=read("PORT", _port, 3000, "a port, 0 to 65535"),
        database_url=read(
            "POOLWRIGHT_MARKET_DATABASE_URL", str, "sqlite:///market/market.db", "a URL of a database"
        ),
        max_open_orders=read("MAX_OPEN_ORDERS_PER_WALLET", _at_least(1), 50, "a number, 1 or more"),
        rate_limit=read("RATE_LIMIT_MAX", _at_least(0), 100, "requests, 0 for no limit"),
        rate_period_seconds=read("RATE_LIMIT_PERIOD", _at_least(1), 60_000, "milliseconds") / 1000,
        trusts_proxy=read("POOLWRIGHT_MARKET_TRUST_PROXY", _switch, False, "0 or 1"),
        checks_invariants=read("POOLWRIGHT_CHECK_INVARIANTS", _switch, False, "0 or 1"),
    )


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip().upper().replace("-", "_") for name in text.split(","))
    if not all(_NAME.fullmatch(name) for name in names) or len(set(names)) < len(names):
        raise ValueError
    return names


def _at_least(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        number = int(text)
        if number < least:
            raise ValueError
        return number

    return parse


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < 3600:
        raise ValueError
    return seconds


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise ValueError
    return port


def _switch(text: str) -> bool:
    if text.lower() not in ("0", "1", "true", "false"):
        raise ValueError
    return text.lower() in ("1", "true")


def _urls(text: str) -> tuple[str, ...]:
    urls = tuple(url.strip() for url in text.split(","))
    if not all(url.startswith(("http://", "https://")) for url in urls):
        raise ValueError
    return urls


def _pools(text: str) -> Mapping[Address, str]:
    pairs = [entry.strip().partition("=") for entry in text.split(",") if entry.strip()]
    return {Address.parse(pool.strip()): _urls(url)[0] for pool, _, url in pairs}
