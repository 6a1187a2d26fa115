"""The engine port on a Docker or Podman engine, through its HTTP API.

The hot path of a task is four calls: create, start, wait, and after the end one look at the container
beside one read of its log. A container that an engine's or a machine's end cut off is followed by another,
which its label counts. Whether the container exists already is asked by creating it: the name is the
task's, so the engine itself answers "409, there is one", and only then is it looked at. Removal is in the
background. Where the engine runs is DOCKER_HOST, the client's context, or the usual sockets.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from datetime import datetime

import aiohttp
import structlog
from aiodocker import Docker, DockerError
from aiodocker.containers import DockerContainer

from poolwright.compute import answers
from poolwright.compute.disk import disk_at, give_to, make_empty, size_of
from poolwright.compute.hardening import (
    LABEL_NETWORK,
    LABEL_RUN,
    LABEL_TASK,
    LABEL_WORKER,
    container_config,
    user_for,
)
from poolwright.compute.logs import LogSplitter
from poolwright.compute.port import (
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
from poolwright.poco.errors import InputError
from poolwright.poco.types import Address, Hash32, TaskId

log = structlog.get_logger(__name__)

IMAGE_FRESH_SECONDS = 60.0
"""An image seen on this host is not looked up again for so long."""
MEASURE_SECONDS = 0.5
"""How often the output of a running app is measured; RLIMIT_FSIZE bounds each file in between."""
CALL_SECONDS = 120.0
"""Bound of one engine call that should be quick; a busy engine takes seconds."""
KILL_SECONDS = 60.0
"""How long a killed container may take to be gone before the engine counts as broken."""
CUT_OFF_SECONDS = 2.0
"""Pause between a container that was cut off and the next."""

_NEVER_STARTED = ("created", "configured", "initialized")
_RUNNING = ("running", "paused", "stopping")
_NAME_ATTEMPTS = 100
_NAME_SECONDS = 0.1
_ENGINE_NEXT_STEP = "start Docker or Podman, or set DOCKER_HOST to where it listens"
_ANSWERED_NEXT_STEP = "mend what the engine names; its own log says more"


class DockerEngine:
    """Runs one worker's containers on one engine; see `port.Engine`.

    `worker_name` begins every container's name, `network` tells apart networks that share an engine.
    """

    def __init__(self, *, worker_name: str, worker: Address, network: str, host: str | None = None) -> None:
        self._worker_name = worker_name
        self._labels = {LABEL_WORKER: str(worker), LABEL_NETWORK: network}
        self._host = host
        self._client: Docker | None = None
        self._user: int | None = None
        self._images: dict[str, tuple[float, ImageRef]] = {}
        self._stopped: set[TaskId] = set()
        self._starts: defaultdict[TaskId, asyncio.Lock] = defaultdict(asyncio.Lock)
        """Two calls for one task do not both make, or both begin, its container."""
        self._removals: set[asyncio.Task[bool]] = set()

    async def ping(self) -> EngineFacts:
        async with _engine_call("ask the container engine what it is"):
            facts = await self._docker.system.info()
        return EngineFacts(
            version=f"{facts.get('ServerVersion', 'unknown')}",
            cpus=int(facts["NCPU"]),
            memory_bytes=int(facts["MemTotal"]),
            rootless=any("rootless" in str(option) for option in facts.get("SecurityOptions") or ()),
        )

    async def pull(
        self, image: str, *, expected_checksum: str | None = None, timeout_seconds: float = 1800.0
    ) -> ImageRef:
        found = await self._local_image(image)
        if found is not None and (expected_checksum is None or found.matches(expected_checksum)):
            return found
        problem = await self._fetch(image, timeout_seconds)
        fetched = await self._local_image(image) or found
        if fetched is None:
            raise ImageUnavailable(
                f"image {image} cannot be had",
                expected="the image on this host or in the registry that its name names",
                got=problem or "no image after a pull without error",
                next_step="check the app's image name, or build or load the image on this host",
            )
        if expected_checksum is not None and not fetched.matches(expected_checksum):
            raise ImageUnavailable(
                f"image {image} is not the one that the app's owner registered",
                code="image-checksum-mismatch",
                expected=f"checksum {expected_checksum}",
                got=" or ".join((*fetched.digests, fetched.id)),
                next_step="register the app with the image's digest, or name the image by its digest",
            )
        return fetched

    async def run(self, spec: RunSpec) -> RunEnded:
        user = await self._container_user()
        give_to(spec.output_dir, user)
        spec.input_dir.mkdir(parents=True, exist_ok=True)
        run_number = 1
        async with _engine_call(f"run task {spec.task_id}", image=spec.image):
            while spec.task_id not in self._stopped:
                async with self._starts[spec.task_id]:
                    container, seconds_left = await self._begun(spec, user, run_number)
                killed_for = None
                if seconds_left is not None:
                    killed_for = await self._watch(container, spec, seconds_left)
                ended, run_number = await self._collect(container, spec, killed_for)
                if not ended.is_cut_off or run_number >= MOST_RUNS:
                    return ended
                log.warning(
                    "app was cut off and begins once more",
                    task=str(spec.task_id),
                    exit_code=ended.exit_code,
                    run=run_number,
                )
                await self._clear_away(container, spec)
                run_number += 1
        return RunEnded(task_id=spec.task_id, exit_code=None, reason=RunReason.STOPPED)

    async def stop(self, task_id: TaskId) -> None:
        self._stopped.add(task_id)
        async with _engine_call(f"stop task {task_id}"):
            await _kill(self._docker.containers.container(self._container_name(task_id)))

    async def forget(self, task_id: TaskId) -> None:
        self._stopped.discard(task_id)
        self._starts.pop(task_id, None)
        container = self._docker.containers.container(self._container_name(task_id))
        removal = asyncio.create_task(_remove(container), name=f"remove {task_id}")
        self._removals.add(removal)
        removal.add_done_callback(self._removals.discard)

    async def running(self) -> tuple[TaskId, ...]:
        async with _engine_call("list this worker's containers"):
            return tuple(task_id for task_id, _ in await self._own(only_running=True))

    async def sweep(self, keep: Collection[TaskId]) -> tuple[TaskId, ...]:
        kept = frozenset(keep)
        async with _engine_call("remove left-over containers"):
            left_over = [(task_id, it) for task_id, it in await self._own() if task_id not in kept]
            await asyncio.gather(*(_remove(container) for _, container in left_over))
        return tuple(task_id for task_id, _ in left_over)

    async def close(self) -> None:
        if self._removals:
            await asyncio.wait(self._removals, timeout=KILL_SECONDS)
        if self._client is not None:
            await self._client.close()
            self._client = None

    # -- one run ---------------------------------------------------------------------------------------

    async def _begun(self, spec: RunSpec, user: int, run_number: int) -> tuple[DockerContainer, float | None]:
        """The task's container, made and started where need be, and its seconds left; None: it has ended."""
        labels = {**self._labels, LABEL_TASK: str(spec.task_id)}
        config = container_config(spec, labels=labels | {LABEL_RUN: str(run_number)}, user=user)
        for _ in range(_NAME_ATTEMPTS):
            try:
                container = await self._docker.containers.create(
                    config, name=self._container_name(spec.task_id)
                )
            except DockerError as problem:
                if not answers.is_name_taken(problem):
                    raise
            else:
                with disk_at(spec.output_dir):
                    await asyncio.to_thread(make_empty, spec.output_dir, user)
                await container.start()
                return container, spec.limits.execution_seconds
            found = await self._existing(spec.task_id, labels)
            if found is None:
                await asyncio.sleep(_NAME_SECONDS)  # it is being made or removed at this moment
            elif found["State"]["Status"] in _NEVER_STARTED:
                # What has kept it from starting, such as an engine that died over it, may keep it for ever.
                await _remove(found)
            else:
                return found, await self._seconds_left(found, spec)
        raise EngineUnavailable(
            f"container {self._container_name(spec.task_id)} neither exists nor can be made",
            expected=f"one of both within {_NAME_ATTEMPTS * _NAME_SECONDS:g} s",
            next_step="look at the engine's log",
        )

    async def _seconds_left(self, container: DockerContainer, spec: RunSpec) -> float | None:
        """Of a container that an earlier call, perhaps of an earlier process, started; None: it has ended."""
        state = container["State"]
        if state["Status"] not in _RUNNING:
            return None
        ran = await self._engine_now() - _seconds(state["StartedAt"])
        return spec.limits.execution_seconds - ran

    async def _watch(
        self, container: DockerContainer, spec: RunSpec, seconds_left: float
    ) -> RunReason | None:
        """Wait for the end; kill on the time limit, on too much output, or when stopped meanwhile.

        Answers why it was killed, None when it ended without us.
        """
        end = asyncio.create_task(container.wait(condition="not-running"))
        try:
            deadline = time.monotonic() + seconds_left
            killed_for: RunReason | None = None
            while killed_for is None:
                until_deadline = max(0.0, deadline - time.monotonic())
                await asyncio.wait({end}, timeout=min(MEASURE_SECONDS, until_deadline))
                if end.done():
                    break
                if spec.task_id in self._stopped:
                    killed_for = RunReason.STOPPED
                elif time.monotonic() >= deadline:
                    killed_for = RunReason.TIMED_OUT
                elif await asyncio.to_thread(size_of, spec.output_dir) > spec.limits.output_bytes:
                    killed_for = RunReason.OUTPUT_TOO_LARGE
            if killed_for is not None:
                await _kill(container)
                await asyncio.wait({end}, timeout=KILL_SECONDS)
                if not end.done():
                    raise EngineUnavailable(
                        f"container of task {spec.task_id} does not die",
                        expected=f"its end within {KILL_SECONDS:g} s of a kill",
                        next_step="look at the engine's log",
                    )
            await end
        finally:
            end.cancel()
        return killed_for

    async def _collect(
        self, container: DockerContainer, spec: RunSpec, killed_for: RunReason | None
    ) -> tuple[RunEnded, int]:
        """How the container ended, and the number of its run (`LABEL_RUN`)."""
        shown, splitter, output_bytes = await asyncio.gather(
            container.show(),
            self._read_log(container.id, spec.limits.log_bytes),
            asyncio.to_thread(size_of, spec.output_dir),
        )
        with disk_at(spec.log_dir):
            stdout_tail, stderr_tail = splitter.write(spec.log_dir)
        state = shown["State"]
        started_at, finished_at = _seconds(state["StartedAt"]), _seconds(state["FinishedAt"])
        exit_code = int(state["ExitCode"])
        ended = RunEnded(
            task_id=spec.task_id,
            exit_code=exit_code,
            reason=reason_of(
                stopped=spec.task_id in self._stopped,
                killed_for=killed_for,
                oom_killed=bool(state["OOMKilled"]),
                output_bytes=output_bytes,
                exit_code=exit_code,
                seconds=finished_at - started_at,
                limits=spec.limits,
            ),
            stdout_tail=stdout_tail,
            stderr_tail=stderr_tail,
            started_at=started_at,
            finished_at=finished_at,
        )
        return ended, int(shown["Config"]["Labels"].get(LABEL_RUN, "1"))

    async def _clear_away(self, container: DockerContainer, spec: RunSpec) -> None:
        """Remove a container that was cut off; later, as an engine that ends kills its containers first."""
        await asyncio.sleep(CUT_OFF_SECONDS)
        if not await _remove(container):
            raise EngineUnavailable(
                f"container of task {spec.task_id} cannot be removed", next_step="look at the engine's log"
            )

    async def _read_log(self, container_id: str, limit_bytes: int) -> LogSplitter:
        """One raw read: the client's own log call merges the two streams and asks twice more."""
        splitter = LogSplitter(limit_bytes)
        url = f"{self._docker.docker_host}/{self._docker.api_version}/containers/{container_id}/logs"
        async with self._docker.session.get(url, params={"stdout": "1", "stderr": "1"}) as answer:
            if answer.status != 200:
                raise DockerError(answer.status, await answer.text())
            async for chunk in answer.content.iter_chunked(1 << 16):
                splitter.feed(chunk)
        return splitter

    # -- the engine ------------------------------------------------------------------------------------

    @property
    def _docker(self) -> Docker:
        if self._client is None:
            self._client = connect(self._host)
        return self._client

    def _container_name(self, task_id: TaskId) -> str:
        return f"{self._worker_name}-{task_id}"

    async def _container_user(self) -> int:
        if self._user is None:
            self._user = user_for(worker_uid=os.geteuid(), rootless=(await self.ping()).rootless)
        return self._user

    async def _engine_now(self) -> float:
        """The engine's clock, which stamped the container's start; it may run on another host."""
        return _seconds((await self._docker.system.info())["SystemTime"])

    async def _existing(self, task_id: TaskId, expected: Mapping[str, str]) -> DockerContainer | None:
        """The container of that name, None while it is made or removed; refuses one that is not ours."""
        name = self._container_name(task_id)
        try:
            container = await self._docker.containers.get(name)
        except DockerError as problem:
            if answers.is_gone(problem):
                return None
            raise
        labels: dict[str, str] = container["Config"]["Labels"] or {}
        if not expected.items() <= labels.items():
            raise InputError(
                f"container name {name} is taken by a container of somebody else",
                code="container-name-taken",
                expected=f"labels {expected}",
                got=f"labels {labels}",
                next_step=f"give this worker another name, or remove it: docker rm -f {name}",
            )
        if container["State"]["Status"] in ("removing", "dead"):
            return None
        return container

    async def _own(self, *, only_running: bool = False) -> list[tuple[TaskId, DockerContainer]]:
        filters: dict[str, list[str]] = {"label": [f"{name}={it}" for name, it in self._labels.items()]}
        if only_running:
            filters["status"] = ["running"]
        return [
            (TaskId(Hash32.parse(container["Labels"][LABEL_TASK])), container)
            for container in await self._docker.containers.list(
                all=not only_running, filters=json.dumps(filters)
            )
        ]

    async def _local_image(self, image: str) -> ImageRef | None:
        seen_at, found = self._images.get(image, (0.0, None))
        if found is not None and time.monotonic() - seen_at < IMAGE_FRESH_SECONDS:
            return found
        async with _engine_call(f"look for image {image}"):
            found = await local_image(self._docker, image)
        if found is not None:
            self._images[image] = (time.monotonic(), found)
        return found

    async def _fetch(self, image: str, timeout_seconds: float) -> str | None:
        """Ask the registry. Answers what went wrong; the engine's word for it is the best there is."""
        self._images.pop(image, None)
        try:
            async with asyncio.timeout(timeout_seconds), _engine_call(f"pull image {image}"):
                async for _ in self._docker.images.pull(image, stream=True):
                    pass
        except TimeoutError:
            return f"no end of the download within {timeout_seconds:g} s"
        except EngineUnavailable as problem:
            if not isinstance(problem.__cause__, DockerError) or answers.is_nobody_there(problem.__cause__):
                raise
            return problem.__cause__.message
        return None


class _UnixClient(Docker):
    """A client that closes the connector it was given; Docker leaves that to whoever gave it."""

    async def close(self) -> None:
        await super().close()
        await self.connector.close()


def connect(host: str | None = None) -> Docker:
    """A client of the engine at `host`, or of the one that DOCKER_HOST, the context or a socket names.

    Must be called inside a running event loop. Raises EngineUnavailable when there is none to be found.
    """
    host = host or os.environ.get("DOCKER_HOST")
    try:
        if host is not None and host.startswith("unix://"):
            # Each wait holds a connection, so their number is the number of containers: no bound here.
            path = host.removeprefix("unix://")
            return _UnixClient(url="unix://localhost", connector=aiohttp.UnixConnector(path, limit=0))
        return Docker(url=host)
    except (AssertionError, ValueError, OSError) as problem:
        raise EngineUnavailable(
            "no container engine found",
            expected="DOCKER_HOST, or a socket such as /var/run/docker.sock",
            got=str(problem) or "neither",
            next_step=_ENGINE_NEXT_STEP,
        ) from problem


async def local_image(docker: Docker, image: str) -> ImageRef | None:
    """The image of that name on the engine's host, None when there is none. Raises DockerError."""
    try:
        shown = await docker.images.inspect(image)
    except DockerError as problem:
        if answers.is_unknown_image(problem):
            return None
        raise
    return ImageRef(
        name=image,
        id=shown["Id"],
        digests=tuple(digest.rsplit("@", 1)[-1] for digest in shown.get("RepoDigests") or ()),
        size_bytes=int(shown["Size"]),
    )


async def _kill(container: DockerContainer) -> None:
    try:
        async with asyncio.timeout(CALL_SECONDS):
            await container.kill()
    except DockerError as problem:
        if not answers.is_not_running(problem):
            raise


async def _remove(container: DockerContainer) -> bool:
    """Remove, whatever state it is in; False after three failures, it stays for the next sweep then."""
    for seconds in (0.5, 2.0, 0.0):
        try:
            await container.delete(force=True, v=True)
            return True
        except DockerError as problem:
            if answers.is_gone(problem):
                return True
            await asyncio.sleep(seconds)
    return False


@asynccontextmanager
async def _engine_call(purpose: str, *, image: str | None = None) -> AsyncIterator[None]:
    """Turn the client's errors into ours, with what we wanted of the engine."""
    try:
        yield
    except DockerError as problem:
        if image is not None and answers.is_image_missing(problem):
            raise ImageUnavailable(
                f"cannot {purpose}: image {image} is not on this host",
                got=problem.message,
                next_step="pull it first",
            ) from problem
        if image is not None and answers.is_image_unfit(problem):
            raise ImageUnavailable(
                f"cannot {purpose}: the engine refuses to run image {image}",
                code="image-cannot-run",
                got=problem.message,
                next_step="mend the image: it needs an entrypoint, and no files at its mount points",
            ) from problem
        raise EngineUnavailable(
            f"cannot {purpose}",
            got=f"{problem.message} (status {problem.status})",
            next_step=_ENGINE_NEXT_STEP if answers.is_nobody_there(problem) else _ANSWERED_NEXT_STEP,
        ) from problem
    except (aiohttp.ClientError, OSError) as problem:
        got = f"{type(problem).__name__}: {problem}"
        raise EngineUnavailable(f"cannot {purpose}", got=got, next_step=_ENGINE_NEXT_STEP) from problem


_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)")


def _seconds(text: str) -> float:
    """The engine's RFC 3339 time with nanoseconds, as seconds UTC; "never" (year 1) is 0."""
    found = _TIME.fullmatch(text)
    if found is None or text.startswith("0001"):
        return 0.0
    whole, fraction, zone = found.groups()
    moment = datetime.fromisoformat(whole + zone.replace("Z", "+00:00"))
    return moment.timestamp() + float(fraction or 0)
