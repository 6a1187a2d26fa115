"""What the market's operator may set, read once from the environment.

Names are those of the network's own market API (reference 4.12); what it lacks begins with POOLWRIGHT_.

    CHAINS=DEV                         names of the chains that are served
    DEV_CHAIN_ID, DEV_IEXEC_ADDRESS    the chain and its hub
    DEV_ETH_RPC_HOST                   http(s) URLs of its nodes, comma between
    DEV_WORKERPOOL_API_URLS            0xpool=http://core:13000, comma between: what compass answers
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from poolwright.poco.types import Address
from poolwright.serving.environment import Environment, http_url, separated

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
    stall_seconds: float = 10.0
    """How long a client may take to send a request head, its body, or to read what waits for it."""
    checks_invariants: bool = False


def from_environment(environment: Mapping[str, str]) -> MarketConfig:
    """Read the configuration. Raises InputError naming the variable that is wrong."""
    env = Environment(environment)
    names = env.read("CHAINS", _names, "names of chains such as DEV, separated by commas")
    return MarketConfig(
        chains=tuple(_chain(env, name) for name in names),
        host=env.text("POOLWRIGHT_MARKET_HOST", "127.0.0.1", expected="a host name or address"),
        port=env.port("PORT", 3000),
        database_url=env.text(
            "POOLWRIGHT_MARKET_DATABASE_URL", "sqlite:///market/market.db", expected="a URL of a database"
        ),
        max_open_orders=env.integer("MAX_OPEN_ORDERS_PER_WALLET", 50, minimum=1),
        rate_limit=env.integer("RATE_LIMIT_MAX", 100),
        rate_period_seconds=env.integer("RATE_LIMIT_PERIOD", 60_000, minimum=1) / 1000,
        trusts_proxy=env.flag("POOLWRIGHT_MARKET_TRUST_PROXY"),
        stall_seconds=env.seconds("POOLWRIGHT_MARKET_STALL_SECONDS", 10.0),
        checks_invariants=env.flag("POOLWRIGHT_CHECK_INVARIANTS"),
    )


def _chain(env: Environment, name: str) -> ChainSettings:
    start = f"{name}_START_BLOCK"
    return ChainSettings(
        name=name,
        chain_id=env.integer(f"{name}_CHAIN_ID", minimum=1),
        hub=env.address(f"{name}_IEXEC_ADDRESS"),
        node_urls=env.urls(f"{name}_ETH_RPC_HOST"),
        confirmations=env.integer(f"{name}_CONFIRMATIONS", 0),
        poll_seconds=env.seconds(f"{name}_POLL_SECONDS", 1.0),
        start_block=None if env.optional(start) is None else env.integer(start),
        workerpool_urls=env.read(
            f"{name}_WORKERPOOL_API_URLS", _pools, "0xpool=http://host:port, separated by commas", {}
        ),
    )


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.upper().replace("-", "_") for name in separated(text))
    if not names or not all(_NAME.fullmatch(name) for name in names) or len(set(names)) < len(names):
        raise ValueError
    return names


def _pools(text: str) -> Mapping[Address, str]:
    pairs = [entry.partition("=") for entry in separated(text)]
    return {Address.parse(pool.strip()): http_url(url.strip()) for pool, _, url in pairs}
