"""anvil, the local chain: how it is started, when it is ready, how it is stopped.

anvil does not complain when its port is taken by another node, and a client would then talk to that one
(reference: poco.md section 14). So the port is bind-tested first, and readiness means: our process lives
and answers with our chain id.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from poolwright.devnet import toolchain
from poolwright.devnet.node import Node
from poolwright.poco.errors import InputError, PeerError, Unavailable

CHAIN_ID = 31337
"""Chain id of the local network, anvil's own default."""

MNEMONIC = "test test test test test test test test test test test junk"
"""Everybody's test mnemonic. Its accounts are unlocked in anvil: nothing of value may ever be sent there."""

DEPLOYER_KEY = bytes.fromhex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
"""Key of the first account of MNEMONIC, as public as that is."""

KEPT_STATES = 256
"""Blocks at which the state can still be read. Without a bound anvil writes each block's whole state to disk
after some hundred blocks, half a megabyte a second on the local network."""
LONGEST_LOOK_BLOCKS = 200
READY_SECONDS = 20
STOP_SECONDS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class AnvilSettings:
    """How one anvil runs."""

    port: int
    host: str = "127.0.0.1"
    chain_id: int = CHAIN_ID
    block_time: float | None = None
    """Seconds between blocks; None mines a block for each transaction at once."""
    block_gas_limit: int | None = None
    """Gas per block; None leaves anvil's 30 million."""
    state: Path | None = None
    """File from which the chain continues, when it is there, and to which it is saved when it is stopped in
    order; None forgets everything."""

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"


def anvil_command(settings: AnvilSettings, anvil: Path) -> list[str]:
    """The command line of one anvil."""
    command = [
        str(anvil),
        "--host", settings.host,
        "--port", str(settings.port),
        "--chain-id", str(settings.chain_id),
        "--mnemonic", MNEMONIC,
        "--order", "fifo",
        "--prune-history", str(KEPT_STATES),
        "--quiet",
    ]  # fmt: skip
    if settings.block_time is not None:
        command += ["--block-time", f"{settings.block_time:g}"]
    if settings.block_gas_limit is not None:
        command += ["--gas-limit", str(settings.block_gas_limit)]
    if settings.state is not None and settings.state.exists():
        command += ["--load-state", str(settings.state)]
    return command


def save_chain(url: str, state: Path) -> None:
    """Write the chain's state, blocks and receipts to `state`, wholly or not at all.

    anvil's own `--dump-state` writes in place, and a kill in the middle would leave a torn file.
    What anvil does not keep: reads at blocks before the save (reference: poco.md section 14).
    Raises Unavailable when the chain does not answer.
    """
    with Node(url, timeout_seconds=60) as node:
        packed = bytes.fromhex(node.call("anvil_dumpState")[2:])
    partial = state.with_suffix(".partial")
    partial.write_bytes(gzip.decompress(packed))
    partial.replace(state)


def look_for_transactions(url: str, after_block: int) -> tuple[int, bool]:
    """The head's number, and whether any block after `after_block` up to it has transactions.

    A stretch of more than LONGEST_LOOK_BLOCKS counts as having some.
    Raises Unavailable when the chain does not answer.
    """
    with Node(url) as node:
        head = int(node.call("eth_blockNumber"), 16)
        if head - after_block > LONGEST_LOOK_BLOCKS:
            return head, True
        counts = [
            ("eth_getBlockTransactionCountByNumber", [hex(number)])
            for number in range(after_block + 1, head + 1)
        ]
        return head, bool(counts) and any(count not in (None, "0x0") for count in node.batch(counts))


class Anvil:
    """A running anvil of ours; use it as a context manager, so that it never outlives its user.

        with Anvil.start() as anvil:
            deployment = deploy(anvil.url)

    `start` raises InputError when the port is taken, Unavailable when anvil does not become ready.
    """

    def __init__(self, settings: AnvilSettings, process: subprocess.Popen[bytes]) -> None:
        self.settings = settings
        self.url = settings.url
        self.process = process

    @classmethod
    def start(cls, settings: AnvilSettings | None = None, *, log: Path | None = None) -> Self:
        """Start anvil (default: any free port, a block for each transaction) and wait until it answers."""
        settings = settings or AnvilSettings(port=free_port())
        refuse_taken_port(settings.host, settings.port, option="port")
        command = anvil_command(settings, toolchain.anvil_path())
        with open(log or os.devnull, "ab") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        running = cls(settings, process)
        try:
            wait_ready(settings, lambda: process.poll() is None)
        except BaseException:
            running.stop()
            raise
        return running

    def stop(self) -> None:
        """Save the state, if it has a file, and end anvil. Calling it again does nothing."""
        if self.process.poll() is None:
            if self.settings.state is not None:
                with contextlib.suppress(Unavailable):
                    save_chain(self.url, self.settings.state)
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def wait_ready(settings: AnvilSettings, is_alive: Callable[[], bool]) -> None:
    """Return when the anvil of `settings` answers with its own chain id.

    Raises Unavailable when the process ends (`is_alive` says no) or stays silent for READY_SECONDS, and
    PeerError when another chain answers at its port.
    """
    deadline = time.monotonic() + READY_SECONDS
    with Node(settings.url, timeout_seconds=5) as node:
        while not node.is_answering():
            if not is_alive():
                raise Unavailable(
                    "anvil ended at once", code="anvil-ended", next_step="read its log and try again"
                )
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"anvil does not answer at {settings.url}",
                    code="anvil-silent",
                    expected=f"an answer within {READY_SECONDS} s",
                )
            time.sleep(0.005)
        chain_id = int(node.call("eth_chainId"), 16)
    if chain_id != settings.chain_id:
        raise PeerError(
            f"another chain answers at {settings.url}",
            code="wrong-chain",
            expected=f"chain id {settings.chain_id}",
            got=str(chain_id),
        )


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that is free now, chosen by the kernel."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def refuse_taken_port(host: str, port: int, *, option: str) -> None:
    """Raise InputError, naming the `option` that changes it, when the port cannot be bound."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as problem:
            raise InputError(
                f"port {port} on {host} cannot be used",
                code="port-taken",
                expected="a free port",
                got=problem.strerror or str(problem),
                next_step=f"end the program that listens there, or choose another: {option} (0 = any free)",
            ) from problem
