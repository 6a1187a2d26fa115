"""The port to a container engine: run an untrusted app once, bounded, and say how it ended.

One `Engine` belongs to one worker of one network. Everything it does is keyed by the task: a container
carries the task's id as a label, so a worker that comes back after a crash finds what it had started.

    run(spec)     no container of the task: create and start one, wait
                  one that runs:            wait for it, with the time it has left
                  one that ended:           collect it, never run it twice
                  one that was cut off:     begin once more, from an empty output (`is_cut_off`)
    stop(task)    kill it now; `run` answers STOPPED
    forget(task)  remove it, once its end is safely recorded; until then it can be collected again
    sweep(keep)   after a restart: remove the containers of tasks that the worker no longer knows

Adapters: `docker.py` (Docker and Podman through the engine's API) and `fake.py` (the in-memory twin); both
pass `tests/adapters/compute/test_engine.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final, Protocol

from poolwright.poco.errors import InputError, Unavailable
from poolwright.poco.types import TaskId

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

IEXEC_IN = "/iexec_in"
IEXEC_OUT = "/iexec_out"

TAIL_CHARACTERS = 100_000
"""What a report carries of each log: its last characters (scheduler-worker.md section 1.8)."""

MOST_RUNS: Final = 3
"""Times that an app is begun at most. One that is cut off each time may well do it itself, and has failed."""
KILLED: Final = 137
"""Exit code of a container that was killed; an engine that restarts or ends kills ours, see `hardening`."""
LOST: Final = 255
"""Exit code that an engine makes up when a container is gone and nobody saw how: a power cut, a dead shim."""


class ImageUnavailable(InputError):
    """The app's image cannot be had, is not the expected one, or cannot be run at all."""


class EngineUnavailable(Unavailable):
    """No container engine answers, or it cannot do its part; start it or look at its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one run may use at most. Each bound is enforced by the kernel, the engine or the worker."""

    cpus: float = 1.0
    memory_bytes: int = 1 * GIB
    """Memory and swap together; the writable /tmp counts too."""
    pids: int = 512
    execution_seconds: float
    """From the engine's start time; protocol: the category's work clock."""
    tmp_bytes: int = 128 * MIB
    log_bytes: int = 1 * MIB
    """Of each of stdout and stderr; the last ones are kept."""
    output_bytes: int = 1 * GIB
    network: bool = False
    """False: the app sees no network at all but its own loopback (docs/adr/0010-app-network-off.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """One app, one task, ready to run."""

    task_id: TaskId
    image: str
    command: tuple[str, ...] = ()
    """Arguments after the image's entrypoint; empty: the image's own."""
    env: Mapping[str, str] = field(default_factory=dict)
    input_dir: Path
    """Mounted read-only at /iexec_in."""
    output_dir: Path
    """Mounted at /iexec_out; made when missing, and given to the app's user."""
    log_dir: Path
    """Gets stdout.txt and stderr.txt when the run has ended."""
    limits: Limits


class RunReason(Enum):
    """Why a run ended."""

    EXITED = "by itself"
    TIMED_OUT = "execution time limit reached"
    OUT_OF_MEMORY = "memory limit reached"
    OUTPUT_TOO_LARGE = "output size limit reached"
    STOPPED = "stopped by the worker"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded:
    """How a run ended; times are the engine's, in seconds UTC."""

    task_id: TaskId
    exit_code: int | None
    """None when the app never ran."""
    reason: RunReason
    stdout_tail: str = ""
    stderr_tail: str = ""
    started_at: float = 0.0
    finished_at: float = 0.0

    @property
    def succeeded(self) -> bool:
        return self.reason is RunReason.EXITED and self.exit_code == 0

    @property
    def is_cut_off(self) -> bool:
        """Killed by neither the app's limits nor this worker: its engine or its machine went down.

        The facts of the container are all there is to tell it by, as the worker may have gone down as well.
        """
        return self.reason is RunReason.EXITED and self.exit_code in (KILLED, LOST)

    def explain(self, limits: Limits) -> str:
        """One sentence for the person who reads the replicate's story: what happened and what to do."""
        match self.reason:
            case RunReason.EXITED if self.exit_code == 0:
                return "app ended with exit code 0"
            case RunReason.EXITED:
                return (
                    f"app failed: expected exit code 0, got {self.exit_code}; "
                    "its stderr is in the task's logs"
                )
            case RunReason.TIMED_OUT:
                return (
                    f"app ran longer than allowed: expected an end within {limits.execution_seconds:g} s; "
                    "order a larger category or make the app faster"
                )
            case RunReason.OUT_OF_MEMORY:
                return (
                    f"app used more memory than allowed: limit {limits.memory_bytes // MIB} MiB; "
                    "make it use less or find a worker that offers more"
                )
            case RunReason.OUTPUT_TOO_LARGE:
                return (
                    f"app wrote more than allowed to {IEXEC_OUT}: limit {limits.output_bytes // MIB} MiB; "
                    "write less or compress it"
                )
            case RunReason.STOPPED:
                return "app was stopped by the worker"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRef:
    """An image that is on this host."""

    name: str
    id: str
    """sha256:… of its configuration."""
    digests: tuple[str, ...]
    """sha256:… of its manifests, as registries name them; none for an image built here."""
    size_bytes: int

    def matches(self, checksum: str) -> bool:
        """Whether an on-chain checksum (0x and 64 hex digits, or sha256:…) names this image."""
        wanted = _bare_hex(checksum)
        return wanted in {_bare_hex(self.id), *(_bare_hex(digest) for digest in self.digests)}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """What the engine says about itself."""

    version: str
    cpus: int
    memory_bytes: int
    rootless: bool


class Engine(Protocol):
    """Runs apps for one worker. Every method may raise EngineUnavailable; retry with back-off."""

    async def ping(self) -> EngineFacts:
        """Answer at all; says what the engine is."""
        ...

    async def pull(
        self, image: str, *, expected_checksum: str | None = None, timeout_seconds: float = 1800.0
    ) -> ImageRef:
        """Have the image on this host. Raises ImageUnavailable."""
        ...

    async def run(self, spec: RunSpec) -> RunEnded:
        """Run the task's app once, however often it is asked. Raises ImageUnavailable.

        When cancelled, the container goes on; the next call waits for it. Every container begins with an
        empty output folder, and one that was cut off is followed by another, up to MOST_RUNS of them.
        """
        ...

    async def stop(self, task_id: TaskId) -> None:
        """Kill the task's container if there is one."""
        ...

    async def forget(self, task_id: TaskId) -> None:
        """Remove the task's container, in the background; its end must have been recorded."""
        ...

    async def running(self) -> tuple[TaskId, ...]:
        """The tasks of this worker whose container runs."""
        ...

    async def sweep(self, keep: Collection[TaskId]) -> tuple[TaskId, ...]:
        """Remove the containers of this worker whose task is not in `keep`; answers which."""
        ...

    async def close(self) -> None:
        """Finish removals under way and let go of the engine. Containers go on."""
        ...


def _bare_hex(digest: str) -> str:
    return digest.rsplit(":", 1)[-1].removeprefix("0x").lower()


def reason_of(
    *,
    stopped: bool,
    killed_for: RunReason | None,
    oom_killed: bool,
    output_bytes: int,
    exit_code: int,
    seconds: float,
    limits: Limits,
) -> RunReason:
    """Why a container ended, from facts that are the same before and after a restart of the worker.

    `killed_for` is known only to the process that killed it; the size of the output and the engine's times
    lead to the same answer when it is lost. A child killed for memory does not fail an app that ends with 0.
    """
    if stopped:
        return RunReason.STOPPED
    if killed_for is not None:
        return killed_for
    if output_bytes > limits.output_bytes:
        return RunReason.OUTPUT_TOO_LARGE
    if oom_killed and exit_code != 0:
        return RunReason.OUT_OF_MEMORY
    if seconds > limits.execution_seconds:
        return RunReason.TIMED_OUT
    return RunReason.EXITED
