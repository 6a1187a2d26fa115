"""What an operator may set, read once from the environment.

Read by hand rather than with pydantic-settings: it is a dozen values, the messages name the variable and
the next step, and the process starts 10 MB smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from poolwright.poco.errors import InputError
from poolwright.poco.types import Address
from poolwright.results.archive import ZipLimits

T = TypeVar("T")
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
    folder: Path = Path("results")
    max_bytes: int = 1024 * MIB
    """Of one zip or file."""
    max_uploads: int = 8
    """At the same time; more are told to come back."""
    keep_free_bytes: int = 64 * MIB
    """Of the disk, never filled by uploads."""
    stall_seconds: float = 30.0
    """How long a client may take to send a request head, to send 1 MiB of body, or to read 64 KiB."""
    open_add: bool = False
    """Whether anybody may add files with `POST /ipfs`; for the local network."""
    zip_limits: ZipLimits = field(default_factory=ZipLimits)


def from_environment(environment: Mapping[str, str]) -> ResultsConfig:
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

    return ResultsConfig(
        chain_id=read("IEXEC_CHAIN_ID", _at_least(1), None, "the chain id, a whole number"),
        hub=read("IEXEC_HUB_ADDRESS", Address.parse, None, "the hub's address, 0x and 40 hex digits"),
        node_urls=read(
            "IEXEC_BLOCKCHAIN_NODE_ADDRESS", _urls, ("http://localhost:8545",), "http(s) URLs, comma between"
        ),
        host=read("IEXEC_RESULT_PROXY_HOST", str, "127.0.0.1", "a host name or address"),
        port=read("IEXEC_RESULT_PROXY_PORT", _port, 13200, "a port, 0 to 65535"),
        folder=read("POOLWRIGHT_RESULTS_DIR", Path, Path("results"), "a folder"),
        max_bytes=read("POOLWRIGHT_RESULTS_MAX_BYTES", _at_least(1), 1024 * MIB, "bytes, 1 or more"),
        max_uploads=read("POOLWRIGHT_RESULTS_MAX_UPLOADS", _at_least(1), 8, "a number, 1 or more"),
        keep_free_bytes=read(
            "POOLWRIGHT_RESULTS_KEEP_FREE_BYTES", _at_least(0), 64 * MIB, "bytes, 0 or more"
        ),
        stall_seconds=read("POOLWRIGHT_RESULTS_STALL_SECONDS", _at_least(1), 30, "seconds, 1 or more"),
        open_add=read("POOLWRIGHT_RESULTS_OPEN_ADD", _switch, False, "0 or 1"),
        zip_limits=ZipLimits(
            max_entries=read("POOLWRIGHT_RESULTS_MAX_ENTRIES", _at_least(1), 10_000, "a number, 1 or more"),
            max_inflated_bytes=read(
                "POOLWRIGHT_RESULTS_MAX_INFLATED_BYTES", _at_least(1), 16 * 1024 * MIB, "bytes, 1 or more"
            ),
        ),
    )


def _at_least(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        number = int(text)
        if number < least:
            raise ValueError
        return number

    return parse


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise ValueError
    return port


def _switch(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError
    return text == "1"


def _urls(text: str) -> tuple[str, ...]:
    urls = tuple(url.strip() for url in text.split(","))
    if not all(url.startswith(("http://", "https://")) for url in urls):
        raise ValueError
    return urls
