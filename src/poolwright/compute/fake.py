"""The engine's in-memory twin: apps are coroutines, the "host" they run on survives a restarted worker.

An app gets an `AppRun` (arguments, environment, the real input and output folders, `print_out`), answers its
exit code, and may raise `MemoryExceeded`. It is bounded as a container is: time, output size, logs.

The host's engine goes down as a real one does: calls under way break, containers go on without it, and are
killed when it starts again, unless it is one that keeps them (`live-restore`); without power they are lost.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from poolwright.compute.disk import give_to, make_empty, size_of
from poolwright.compute.logs import STDERR, STDOUT, tail_of
from poolwright.compute.port import (
    KILLED,
    LOST,
    MOST_RUNS,
    EngineFacts,
    EngineUnavailable,
    ImageRef,
    ImageUnavailable,
    RunEnded,
    RunReason,
    RunSpec,
    reason_of,
)
from poolwright.poco.types import Address, TaskId

MEASURE_SECONDS = 0.02


class MemoryExceeded(Exception):
    """Raised by an app of the twin that uses more than it may."""


@dataclass(slots=True)
class AppRun:
    """What an app sees of its run."""

    spec: RunSpec
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)

    def print_out(self, text: str) -> None:
        self.stdout += text.encode()

    def print_err(self, text: str) -> None:
        self.stderr += text.encode()


App = Callable[[AppRun], Awaitable[int]]


@dataclass(slots=True)
class _Container:
    worker: Address
    network: str
    run: AppRun
    started_at: float
    program: asyncio.Future[int]
    run_number: int
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    finished_at: float = 0.0
    exit_code: int = 0
    oom_killed: bool = False
    killed_for: RunReason | None = None
    dies_with: int = KILLED
    """Exit code when it is killed."""


@dataclass(slots=True)
class FakeHost:
    """The machine: its images, its containers, and whether its engine answers."""

    apps: Mapping[str, App]
    """By image name."""
    is_up: bool = True
    clock: Callable[[], float] = time.time
    """Seconds UTC; a simulation gives its own."""
    starts: list[TaskId] = field(default_factory=list)
    """Every start ever, for the claim that no task runs twice."""
    containers: dict[TaskId, _Container] = field(default_factory=dict)
    guards: set[asyncio.Task[None]] = field(default_factory=set)
    calls: set[asyncio.Task[bool]] = field(default_factory=set)
    """Calls that wait; broken when the engine goes down."""

    def go_down(self, *, without_power: bool = False) -> None:
        """The engine ends at once, alone or with everything that runs."""
        self.is_up = False
        for call in self.calls:
            call.cancel()
        if without_power:
            self._kill_all(LOST)

    def come_back(self, *, keeps_containers: bool = False) -> None:
        """The engine starts again."""
        self.is_up = True
        if not keeps_containers:
            self._kill_all(KILLED)

    def _kill_all(self, exit_code: int) -> None:
        for container in self.containers.values():
            if not container.program.done():
                container.dies_with = exit_code
                container.program.cancel()

    async def close(self) -> None:
        """Kill what still runs; for the end of a test."""
        for container in self.containers.values():
            container.program.cancel()
        if self.guards:
            await asyncio.wait(self.guards)


class FakeEngine:
    """See `port.Engine`. Several engines may share one host, one after the other or at once."""

    def __init__(self, host: FakeHost, *, worker: Address, network: str) -> None:
        self._host = host
        self._worker = worker
        self._network = network
        self._stopped: set[TaskId] = set()

    async def ping(self) -> EngineFacts:
        self._require_up()
        return EngineFacts(version="twin", cpus=2, memory_bytes=1 << 33, rootless=False)

    async def pull(
        self, image: str, *, expected_checksum: str | None = None, timeout_seconds: float = 1800.0
    ) -> ImageRef:
        self._require_up()
        if image not in self._host.apps:
            raise ImageUnavailable(
                f"image {image} cannot be had",
                expected="the image on this host or in the registry that its name names",
                got="no such image",
                next_step="check the app's image name, or build or load the image on this host",
            )
        found = ImageRef(
            name=image, id="sha256:" + sha256(image.encode()).hexdigest(), digests=(), size_bytes=len(image)
        )
        if expected_checksum is not None and not found.matches(expected_checksum):
            raise ImageUnavailable(
                f"image {image} is not the one that the app's owner registered",
                code="image-checksum-mismatch",
                expected=f"checksum {expected_checksum}",
                got=found.id,
                next_step="register the app with the image's digest, or name the image by its digest",
            )
        return found

    async def run(self, spec: RunSpec) -> RunEnded:
        self._require_up()
        run_number = 1
        while spec.task_id not in self._stopped:
            container = self._host.containers.get(spec.task_id)
            if container is None:
                await self.pull(spec.image)
                container = self._create(spec, run_number)
            await self._end_of(container)
            ended = self._collect(container, spec)
            if not ended.is_cut_off or container.run_number >= MOST_RUNS:
                return ended
            if self._host.containers.get(spec.task_id) is container:
                del self._host.containers[spec.task_id]
            run_number = container.run_number + 1
        return RunEnded(task_id=spec.task_id, exit_code=None, reason=RunReason.STOPPED)

    async def _end_of(self, container: _Container) -> None:
        """Wait for it. Raises EngineUnavailable at once when the engine goes down meanwhile."""
        call = asyncio.create_task(container.ended.wait())
        self._host.calls.add(call)
        try:
            await asyncio.wait({call})
        finally:
            self._host.calls.discard(call)
            call.cancel()
        self._require_up()

    async def stop(self, task_id: TaskId) -> None:
        self._require_up()
        self._stopped.add(task_id)
        container = self._host.containers.get(task_id)
        if container is not None:
            container.program.cancel()

    async def forget(self, task_id: TaskId) -> None:
        self._stopped.discard(task_id)
        container = self._host.containers.pop(task_id, None)
        if container is not None:
            container.program.cancel()

    async def running(self) -> tuple[TaskId, ...]:
        self._require_up()
        return tuple(task_id for task_id, it in self._own().items() if not it.ended.is_set())

    async def sweep(self, keep: Collection[TaskId]) -> tuple[TaskId, ...]:
        self._require_up()
        left_over = tuple(task_id for task_id in self._own() if task_id not in keep)
        for task_id in left_over:
            self._host.containers.pop(task_id).program.cancel()
        return left_over

    async def close(self) -> None:
        """Nothing to let go of: containers are the host's."""

    def _require_up(self) -> None:
        if not self._host.is_up:
            raise EngineUnavailable("cannot reach the container engine", next_step="start it")

    def _own(self) -> dict[TaskId, _Container]:
        return {
            task_id: container
            for task_id, container in self._host.containers.items()
            if (container.worker, container.network) == (self._worker, self._network)
        }

    def _create(self, spec: RunSpec, run_number: int) -> _Container:
        user = os.geteuid()
        give_to(spec.output_dir, user)
        make_empty(spec.output_dir, user)
        spec.input_dir.mkdir(parents=True, exist_ok=True)
        run = AppRun(spec)
        self._host.starts.append(spec.task_id)
        container = _Container(
            worker=self._worker,
            network=self._network,
            run=run,
            started_at=self._host.clock(),
            program=asyncio.ensure_future(self._host.apps[spec.image](run)),
            run_number=run_number,
        )
        guard = asyncio.create_task(_guard(self._host.clock, container))
        self._host.guards.add(guard)
        guard.add_done_callback(self._host.guards.discard)
        self._host.containers[spec.task_id] = container
        return container

    def _collect(self, container: _Container, spec: RunSpec) -> RunEnded:
        spec.log_dir.mkdir(parents=True, exist_ok=True)
        tails = {}
        for name, kept in ((STDOUT, container.run.stdout), (STDERR, container.run.stderr)):
            last = bytes(kept[-spec.limits.log_bytes :])
            (spec.log_dir / name).write_bytes(last)
            tails[name] = tail_of(last)
        return RunEnded(
            task_id=spec.task_id,
            exit_code=container.exit_code,
            reason=reason_of(
                stopped=spec.task_id in self._stopped,
                killed_for=container.killed_for,
                oom_killed=container.oom_killed,
                output_bytes=size_of(spec.output_dir),
                exit_code=container.exit_code,
                seconds=container.finished_at - container.started_at,
                limits=spec.limits,
            ),
            stdout_tail=tails[STDOUT],
            stderr_tail=tails[STDERR],
            started_at=container.started_at,
            finished_at=container.finished_at,
        )


async def _guard(clock: Callable[[], float], container: _Container) -> None:
    """What the kernel and the real adapter's watch do for a container, until its program ends."""
    limits = container.run.spec.limits
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limits.execution_seconds
    while not container.program.done():
        until_deadline = max(0.0, deadline - loop.time())
        await asyncio.wait({container.program}, timeout=min(MEASURE_SECONDS, until_deadline))
        if container.program.done():
            break
        if loop.time() >= deadline:
            container.killed_for = RunReason.TIMED_OUT
            container.program.cancel()
        elif size_of(container.run.spec.output_dir) > limits.output_bytes:
            container.killed_for = RunReason.OUTPUT_TOO_LARGE
            container.program.cancel()
    container.finished_at = clock()
    _record_end(container)
    container.ended.set()


def _record_end(container: _Container) -> None:
    if container.program.cancelled():
        container.exit_code = container.dies_with
        return
    match container.program.exception():
        case None:
            container.exit_code = container.program.result()
        case MemoryExceeded():
            container.exit_code, container.oom_killed = KILLED, True
        case problem:
            container.exit_code = 1
            container.run.print_err(f"{type(problem).__name__}: {problem}\n")
