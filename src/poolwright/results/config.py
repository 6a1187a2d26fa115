"""What the result repository's operator may set, read once from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from poolwright.poco.types import Address
from poolwright.results.archive import ZipLimits
from poolwright.serving.environment import Environment

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultsConfig:
    """The result repository's settings; `from_environment` gives the variable of each."""

    chain_id: int
    hub: Address
    node_urls: tuple[str, ...] = ("http://localhost:8545",)
    """The preferred one first."""
    host: str = "127.0.0.1"
    port: int = 13200
    """0 lets the system choose; the log line `listening` says which."""
    folder: Path = field(default_factory=lambda: Path("results").absolute())
    max_bytes: int = 1024 * MIB
    """Of one zip or file."""
    max_uploads: int = 8
    """At the same time; more are told to come back."""
    keep_free_bytes: int = 64 * MIB
    """Of the disk, never filled by uploads."""
    stall_seconds: float = 30.0
    """How long a client may take to send a request head, to send 1 MiB of body, or to read 64 KiB."""
    sweep_seconds: int = 600
    """How often it is looked for files of tasks that are over and not their result; 0: never."""
    open_add: bool = False
    """Whether anybody may add files with `POST /ipfs`; for the local network."""
    zip_limits: ZipLimits = field(default_factory=ZipLimits)


def from_environment(environment: Mapping[str, str]) -> ResultsConfig:
    """Read the configuration. Raises InputError naming the variable that is wrong."""
    env = Environment(environment)
    return ResultsConfig(
        chain_id=env.integer("IEXEC_CHAIN_ID", minimum=1),
        hub=env.address("IEXEC_HUB_ADDRESS"),
        node_urls=env.urls("IEXEC_BLOCKCHAIN_NODE_ADDRESS", ("http://localhost:8545",)),
        host=env.text("IEXEC_RESULT_PROXY_HOST", "127.0.0.1", expected="a host name or address"),
        port=env.port("IEXEC_RESULT_PROXY_PORT", 13200),
        folder=env.path("POOLWRIGHT_RESULTS_DIR", "results"),
        max_bytes=env.integer("POOLWRIGHT_RESULTS_MAX_BYTES", 1024 * MIB, minimum=1),
        max_uploads=env.integer("POOLWRIGHT_RESULTS_MAX_UPLOADS", 8, minimum=1),
        keep_free_bytes=env.integer("POOLWRIGHT_RESULTS_KEEP_FREE_BYTES", 64 * MIB),
        stall_seconds=env.seconds("POOLWRIGHT_RESULTS_STALL_SECONDS", 30.0),
        sweep_seconds=env.integer("POOLWRIGHT_RESULTS_SWEEP_SECONDS", 600, maximum=86_400),
        open_add=env.flag("POOLWRIGHT_RESULTS_OPEN_ADD"),
        zip_limits=ZipLimits(
            max_entries=env.integer("POOLWRIGHT_RESULTS_MAX_ENTRIES", 10_000, minimum=1),
            max_inflated_bytes=env.integer(
                "POOLWRIGHT_RESULTS_MAX_INFLATED_BYTES", 16 * 1024 * MIB, minimum=1
            ),
        ),
    )
