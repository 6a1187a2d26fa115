"""The worker's hands: chain reads and transactions, the container, files and the upload.

Every effect may come a second time after a crash, so each looks first at what is there: a container that runs
is waited for, a result that was taken is taken again to the same digest, a contribution that stands on the
chain is not sent twice.

A task's folder:

    <folder>/tasks/<task id>/input          mounted at /iexec_in
                            /output         mounted at /iexec_out
                            /logs           stdout.txt, stderr.txt
                            /result.zip     what is uploaded
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, assert_never

import aiohttp
import structlog

from poolwright.chain.heads import Heads
from poolwright.chain.reads import HubReader
from poolwright.chain.sender import OutOfGas, Receipt, TxJournal, TxRequest, TxReverted, TxSender
from poolwright.chain.wallet import Wallet
from poolwright.compute import outputs
from poolwright.compute.disk import disk_at, remove_tree
from poolwright.compute.environment import app_environment, split_arguments
from poolwright.compute.inputs import DataUnavailable, DownloadPolicy, fetch_dataset, fetch_input_files
from poolwright.compute.port import (
    Engine,
    EngineUnavailable,
    ImageUnavailable,
    Limits,
    RunEnded,
    RunReason,
    RunSpec,
)
from poolwright.daemons.config import WorkerConfig
from poolwright.daemons.engine_watch import EngineWatch
from poolwright.daemons.mailbox import Mailbox
from poolwright.daemons.scheduler_link import LogQueue
from poolwright.daemons.task_terms import (
    Refusal,
    Standing,
    obstacle_to_contribution,
    obstacle_to_reveal,
    read_standing,
    read_terms,
)
from poolwright.daemons.together import Latest
from poolwright.poco import calls
from poolwright.poco.errors import InputError, InvariantBroken, PoolwrightError, Unavailable
from poolwright.poco.records import ContributionStatus
from poolwright.poco.results import result_hash, result_seal
from poolwright.poco.types import NRlc, TaskId, Timestamp, WorkerAddress
from poolwright.serving.http import explanation
from poolwright.store.port import EffectId
from poolwright.wire.messages import MAX_CALLBACK_BYTES
from poolwright.wire.statuses import ReplicateStatus
from poolwright.wire.task_logs import ComputeLogs
from poolwright.wire.uploads import (
    WORKERPOOL_AUTHORIZATION,
    UploadAuthorization,
    authorization_header,
    result_link,
    upload_digest,
    workerpool_header,
)
from poolwright.worker.effects import (
    CheckContribution,
    CheckReveal,
    Compute,
    DeliverResult,
    DescribeFailure,
    DescribeTask,
    DownloadApp,
    DownloadData,
    Effect,
    Purge,
    Report,
    SubmitContribute,
    SubmitContributeAndFinalize,
    SubmitReveal,
    UploadResult,
)
from poolwright.worker.events import (
    AppComputed,
    AppComputeFailed,
    AppDownloaded,
    AppDownloadFailed,
    ContributionChecked,
    ContributionFailed,
    ContributionMined,
    DataDownloaded,
    DataDownloadFailed,
    Event,
    FailureDescribed,
    FailureNotDescribed,
    Result,
    ResultUploaded,
    ResultUploadFailed,
    RevealChecked,
    RevealFailed,
    RevealMined,
    TaskDescribed,
    TaskPurged,
    TaskRefused,
)
from poolwright.worker.outcomes import given_up
from poolwright.worker.terms import Terms

log = structlog.get_logger(__name__)
S = ReplicateStatus

SCHEDULER_LANE: Final = "scheduler"
COMPUTE_LANE: Final = "compute"
CHAIN_LANE: Final = "chain"
FILES_LANE: Final = "files"
PURGE_LANE: Final = "purge"
"""Apart from the other work on files, which may take an hour: a purge frees a slot."""
CHAIN_WIDTH: Final = 64
FILES_WIDTH: Final = 8
PURGE_WIDTH: Final = 8

STOP_SECONDS: Final = 120.0
"""How long a run that was stopped may take to end; the engine gives a killed container half of it."""
AUTHORIZATION_SECONDS: Final = 900
UPLOAD_TIMEOUT: Final = aiohttp.ClientTimeout(total=3600, sock_connect=10, sock_read=120)
UPLOAD_CHUNK_BYTES: Final = 1 << 18
#: Words for why a run has no usable result (reference 3.8, and ours for the limits that it lacks).
_CAUSES: Final = {
    RunReason.EXITED: "APP_COMPUTE_FAILED",
    RunReason.TIMED_OUT: "APP_COMPUTE_TIMEOUT",
    RunReason.OUT_OF_MEMORY: "APP_OUT_OF_MEMORY",
    RunReason.OUTPUT_TOO_LARGE: "APP_OUTPUT_TOO_LARGE",
}

MAX_PROBLEM: Final = 2_000
"""Characters of a problem's message that are kept and reported; the log has the whole of it."""
_PROBLEMS: Final[Mapping[type[Event], str]] = {
    TaskRefused: "task not taken",
    AppDownloadFailed: "app not downloaded",
    DataDownloadFailed: "data not downloaded",
    AppComputeFailed: "app failed",
    FailureNotDescribed: "failure not described",
    ContributionChecked: "cannot contribute",
    ContributionFailed: "contribution failed",
    RevealChecked: "cannot reveal",
    RevealFailed: "reveal failed",
    ResultUploadFailed: "result not uploaded",
}


def lanes_of(config: WorkerConfig) -> Mapping[str, int]:
    """How many effects of each lane are carried out side by side; reports are messages."""
    return lane_widths(config.slots)


def lane_widths(slots: int) -> Mapping[str, int]:
    """The same for so many slots."""
    return {
        COMPUTE_LANE: slots,
        CHAIN_LANE: CHAIN_WIDTH,
        FILES_LANE: FILES_WIDTH,
        PURGE_LANE: PURGE_WIDTH,
    }


def lane_of(effect: Effect) -> str:
    """The lane in which an effect is carried out."""
    match effect:
        case Report():
            return SCHEDULER_LANE
        case Compute():
            return COMPUTE_LANE
        case DownloadApp() | DownloadData() | DescribeFailure():
            return FILES_LANE
        case DeliverResult() | UploadResult():
            return FILES_LANE
        case Purge():
            return PURGE_LANE
        case DescribeTask() | CheckContribution() | CheckReveal():
            return CHAIN_LANE
        case SubmitContribute() | SubmitContributeAndFinalize() | SubmitReveal():
            return CHAIN_LANE
        case _:
            assert_never(effect)


class WorkerHands:
    """Carries out what the worker's mind asks for."""

    def __init__(
        self,
        *,
        config: WorkerConfig,
        wallet: Wallet,
        hub: HubReader,
        heads: Heads,
        sender: TxSender,
        journal: TxJournal,
        engine: Engine,
        engine_watch: EngineWatch,
        is_wanted: Callable[[Effect], bool],
        http: aiohttp.ClientSession,
        mailbox: Mailbox[Report],
        results_url: Latest[str],
        logs: LogQueue,
        reported: Callable[[ReplicateStatus], None] | None = None,
    ) -> None:
        self._config = config
        self._wallet = wallet
        self._worker = WorkerAddress(wallet.address)
        self._hub = hub
        self._heads = heads
        self._sender = sender
        self._journal = journal
        self._engine = engine
        self._engine_watch = engine_watch
        self._is_wanted = is_wanted
        self._http = http
        self._mailbox = mailbox
        self._results_url = results_url
        self._logs = logs
        self._reported = reported
        self._runs: dict[TaskId, asyncio.Event] = {}
        """Set at the end of the run that is under way."""
        self._unpaid: set[TaskId] = set()
        """Tasks taken by this process whose contribution is not mined yet."""
        self._policy = DownloadPolicy(
            gateways=config.gateways, public_addresses_only=not config.private_downloads
        )

    @property
    def running(self) -> int:
        """Containers that are waited for."""
        return len(self._runs)

    # --- what the runner asks -----------------------------------------------------------------------------

    def lane_of(self, effect: Effect) -> str:
        return lane_of(effect)

    def key_of(self, effect: Effect) -> str:
        if isinstance(effect, Report | UploadResult):
            return f"{type(effect).__name__}:{effect.task_id}:{effect.number}"
        return f"{type(effect).__name__}:{effect.task_id}"

    def post(self, effect: Effect, number: EffectId) -> None:
        if not isinstance(effect, Report):
            raise InvariantBroken(f"{type(effect).__name__} is not a message")
        self._mailbox.post(number, effect)
        if self._reported is not None:
            self._reported(effect.status)

    async def carry_out(self, effect: Effect, effect_id: EffectId) -> Sequence[Event]:
        return [_told(event) for event in await self._carry_out(effect)]

    def gave_up(self, effect: Effect, error: PoolwrightError) -> Sequence[Event]:
        if isinstance(effect, Purge):
            log.error("task not purged", task=str(effect.task_id), reason=str(error))
        return [_told(given_up(effect, error, self._now()))]

    async def _carry_out(self, effect: Effect) -> Sequence[Event]:
        match effect:
            case DescribeTask():
                return [await self._describe(effect)]
            case DownloadApp():
                return [await self._download_app(effect)]
            case DownloadData():
                return [await self._download_data(effect)]
            case Compute():
                return await self._compute(effect)
            case DescribeFailure():
                return [await self._describe_failure(effect)]
            case DeliverResult():
                return [await self._deliver(effect)]
            case CheckContribution():
                return [await self._check_contribution(effect)]
            case SubmitContribute():
                return [await self._contribute(effect)]
            case SubmitContributeAndFinalize():
                return [await self._contribute_and_finalize(effect)]
            case CheckReveal():
                return [await self._check_reveal(effect)]
            case SubmitReveal():
                return [await self._reveal(effect)]
            case UploadResult():
                return [await self._upload(effect)]
            case Purge():
                return [await self._purge(effect)]
            case Report():
                raise InvariantBroken("a report is a message and is not carried out")
            case _:
                assert_never(effect)

    # --- before the contribution --------------------------------------------------------------------------

    async def _describe(self, effect: DescribeTask) -> Event:
        start = effect.start
        head = await self._heads.beyond(start.block - 1)
        terms = await read_terms(
            self._hub,
            start,
            worker=self._worker,
            workerpool=self._config.workerpool,
            now=head.timestamp,
            gas=self._config.chain.gas,
            under_way=len(self._unpaid - {effect.task_id}),
        )
        if isinstance(terms, Refusal):
            return self._refused(effect.task_id, terms)
        self._unpaid.add(effect.task_id)
        return TaskDescribed(at=self._now(), task_id=effect.task_id, terms=terms)

    async def _download_app(self, effect: DownloadApp) -> Event:
        terms = effect.terms
        try:
            await self._engine_watch.patiently(
                lambda: self._engine.pull(
                    terms.image,
                    expected_checksum=str(terms.image_checksum) if terms.image_checksum else None,
                    timeout_seconds=pull_seconds(terms.timeref),
                ),
                is_wanted=lambda: self._is_in_time(effect),
            )
        except ImageUnavailable as problem:
            return AppDownloadFailed(
                at=self._now(),
                task_id=effect.task_id,
                cause="APP_IMAGE_DOWNLOAD_FAILED",
                message=str(problem),
            )
        return AppDownloaded(at=self._now(), task_id=effect.task_id)

    async def _download_data(self, effect: DownloadData) -> Event:
        terms, folder = effect.terms, self._folder(effect.task_id) / "input"
        try:
            with disk_at(folder):
                folder.mkdir(parents=True, exist_ok=True)
                await fetch_dataset(
                    terms.dataset, terms.dataset_location, terms.dataset_checksum, folder, self._policy
                )
                await fetch_input_files(terms.input_files, folder, self._policy)
        except DataUnavailable as problem:
            return DataDownloadFailed(
                at=self._now(), task_id=effect.task_id, cause=problem.code, message=str(problem)
            )
        return DataDownloaded(at=self._now(), task_id=effect.task_id)

    async def _compute(self, effect: Compute) -> Sequence[Event]:
        task_id, folder = effect.task_id, self._folder(effect.task_id)
        try:
            with disk_at(folder):
                spec = self._run_spec(effect)
        except InputError as problem:
            return [self._compute_failed(task_id, "TASK_DESCRIPTION_INVALID", str(problem))]
        try:
            with disk_at(folder):
                ended = await self._run(spec, lambda: self._is_in_time(effect))
        except ImageUnavailable as problem:
            return [self._compute_failed(task_id, "APP_NOT_FOUND_LOCALLY", str(problem))]
        self._pass_on_logs(task_id, ended)
        if ended.reason is RunReason.STOPPED:
            return []  # we were told to abort; the purge says the rest
        if not ended.succeeded:
            why = ended.explain(spec.limits)
            return [self._compute_failed(task_id, _CAUSES[ended.reason], why, ended)]
        try:
            with disk_at(folder):
                result = await asyncio.to_thread(self._take_result, folder, effect.terms)
        except (outputs.NoDeterminismHash, outputs.NotArchivable) as problem:
            return [self._compute_failed(task_id, problem.code, str(problem), ended)]
        if len(result.callback) > MAX_CALLBACK_BYTES:
            why = f"callback: expected at most {MAX_CALLBACK_BYTES} bytes, got {len(result.callback)}"
            return [self._compute_failed(task_id, "CALLBACK_TOO_LONG", why, ended)]
        return [
            AppComputed(
                at=self._now(),
                task_id=task_id,
                result=result,
                exit_code=ended.exit_code or 0,
                milliseconds=_milliseconds(ended),
            )
        ]

    def _is_in_time(self, effect: DownloadApp | Compute) -> bool:
        """Whether to wait for an engine that is away: its outcome is wanted and could be contributed."""
        return self._is_wanted(effect) and self._now() < effect.terms.contribution_deadline

    async def _run(self, spec: RunSpec, is_wanted: Callable[[], bool]) -> RunEnded:
        """Run the app; a purge meanwhile can wait for the end."""
        ended = self._runs[spec.task_id] = asyncio.Event()
        try:
            return await self._engine_watch.patiently(lambda: self._engine.run(spec), is_wanted=is_wanted)
        finally:
            del self._runs[spec.task_id]
            ended.set()

    def _pass_on_logs(self, task_id: TaskId, ended: RunEnded) -> None:
        try:
            self._logs.put_nowait((task_id, ComputeLogs(stdout=ended.stdout_tail, stderr=ended.stderr_tail)))
        except asyncio.QueueFull:
            log.warning("logs not passed on: too many wait for the scheduler", task=str(task_id))

    def _run_spec(self, effect: Compute) -> RunSpec:
        terms, folder = effect.terms, self._folder(effect.task_id)
        folder.mkdir(parents=True, exist_ok=True)
        return RunSpec(
            task_id=effect.task_id,
            image=terms.image,
            command=split_arguments(terms.command),
            env=app_environment(
                task_id=effect.task_id,
                deal_id=terms.deal_id,
                index=terms.index,
                bot_first=terms.bot_first,
                bot_size=terms.bot_size,
                dataset=terms.dataset,
                input_files=terms.input_files,
            ),
            input_dir=folder / "input",
            output_dir=folder / "output",
            log_dir=folder / "logs",
            limits=Limits(
                memory_bytes=self._config.memory_bytes,
                output_bytes=self._config.output_bytes,
                execution_seconds=float(terms.timeref),
                network=self._config.app_network,
            ),
        )

    @staticmethod
    def _take_result(folder: Path, terms: Terms) -> Result:
        output = folder / "output"
        outputs.add_logs(output, folder / "logs")
        computed = outputs.read_result(output, has_callback=terms.has_callback)
        outputs.write_archive(output, folder / "result.zip")
        return Result(digest=computed.digest, callback=computed.callback)

    async def _describe_failure(self, effect: DescribeFailure) -> Event:
        folder = self._folder(effect.task_id)

        def describe() -> Result:
            folder.mkdir(parents=True, exist_ok=True)
            computed = outputs.describe_failure(
                folder / "output",
                cause=effect.cause,
                exit_code=effect.exit_code,
                log_dir=folder / "logs",
                has_callback=effect.terms.has_callback,
            )
            outputs.write_archive(folder / "output", folder / "result.zip")
            return Result(digest=computed.digest, callback=computed.callback)

        with disk_at(folder):
            result = await asyncio.to_thread(describe)
        return FailureDescribed(at=self._now(), task_id=effect.task_id, result=result)

    # --- the contribution and the reveal ------------------------------------------------------------------

    async def _check_contribution(self, effect: CheckContribution) -> Event:
        task_id, now = effect.task_id, self._now()
        standing = await read_standing(self._hub, task_id, self._worker)
        at_once = is_finalizable_at_once(effect, standing)
        # What this store has sent already is our own that the chain shows.
        if await self._journal.get(_finalize_key(task_id)) is not None:
            obstacle, at_once = None, True
        elif await self._journal.get(_contribute_key(task_id)) is not None:
            obstacle, at_once = None, False
        else:
            stake = NRlc(0) if at_once else effect.terms.stake
            obstacle = obstacle_to_contribution(standing, self._worker, stake=stake, now=now)
        if obstacle is not None:
            return ContributionChecked(
                at=now,
                task_id=task_id,
                verdict=obstacle.status,
                message=obstacle.message,
                cause=obstacle.cause,
            )
        return ContributionChecked(
            at=now, task_id=task_id, verdict=S.CAN_CONTRIBUTE, contribute_and_finalize=at_once
        )

    async def _contribute(self, effect: SubmitContribute) -> Event:
        data = calls.contribute(
            effect.task_id,
            result_hash(effect.task_id, effect.digest),
            result_seal(self._worker, effect.task_id, effect.digest),
            effect.enclave_challenge,
            bytes(32),
            effect.authorization,
        )
        return await self._mined(effect.task_id, _contribute_key(effect.task_id), data)

    async def _contribute_and_finalize(self, effect: SubmitContributeAndFinalize) -> Event:
        data = calls.contribute_and_finalize(
            effect.task_id,
            effect.digest,
            effect.link.encode(),
            effect.callback,
            effect.enclave_challenge,
            bytes(32),
            effect.authorization,
        )
        return await self._mined(effect.task_id, _finalize_key(effect.task_id), data)

    async def _mined(self, task_id: TaskId, key: str, data: bytes) -> Event:
        """What becomes of a contribution, of either kind; one that stands on the chain is ours."""
        try:
            receipt = await self._send(key, data)
        except OutOfGas as problem:
            return self._contribution_failed(task_id, S.OUT_OF_GAS, problem)
        except (TxReverted, InputError) as problem:
            contribution = await self._hub.contribution(task_id, self._worker)
            if contribution.status is ContributionStatus.UNSET:
                return self._contribution_failed(task_id, S.CONTRIBUTE_FAILED, problem)
            receipt = None
        self._unpaid.discard(task_id)
        return ContributionMined(
            at=self._now(),
            task_id=task_id,
            tx_hash=receipt.tx_hash if receipt else None,
            block=receipt.block.number if receipt else None,
        )

    async def _check_reveal(self, effect: CheckReveal) -> Event:
        head = await self._heads.beyond(effect.reveal.block - 1)
        task = await self._hub.task(effect.task_id)
        contribution = await self._hub.contribution(effect.task_id, self._worker)
        problem = obstacle_to_reveal(effect, task, contribution, worker=self._worker, now=head.timestamp)
        return RevealChecked(at=self._now(), task_id=effect.task_id, can_reveal=not problem, message=problem)

    async def _reveal(self, effect: SubmitReveal) -> Event:
        try:
            receipt = await self._send(
                f"reveal:{effect.task_id}", calls.reveal(effect.task_id, effect.digest)
            )
        except OutOfGas as problem:
            return self._reveal_failed(effect.task_id, S.OUT_OF_GAS, problem)
        except (TxReverted, InputError) as problem:
            contribution = await self._hub.contribution(effect.task_id, self._worker)
            if contribution.status is not ContributionStatus.PROVED:
                return self._reveal_failed(effect.task_id, S.REVEAL_FAILED, problem)
            receipt = None
        return RevealMined(
            at=self._now(),
            task_id=effect.task_id,
            tx_hash=receipt.tx_hash if receipt else None,
            block=receipt.block.number if receipt else None,
        )

    async def _send(self, key: str, data: bytes) -> Receipt:
        return await self._sender.submit(TxRequest(key=key, to=self._hub.hub, data=data))

    # --- the result ---------------------------------------------------------------------------------------

    async def _deliver(self, effect: DeliverResult) -> Event:
        """Upload before the contribution. A repository that is down is waited for, but not too long."""
        try:
            return await self._upload(effect)
        except Unavailable as problem:
            if self._now() < effect.until:
                raise
            return ResultUploadFailed(at=self._now(), task_id=effect.task_id, message=str(problem))

    async def _upload(self, effect: UploadResult | DeliverResult) -> Event:
        """Stream the archive to the repository; once there, it answers the same link again."""
        archive = self._folder(effect.task_id) / "result.zip"
        if not archive.exists():
            message = "the result's archive is no longer on this worker's disk"
            return ResultUploadFailed(at=self._now(), task_id=effect.task_id, message=message)
        url = f"{await self._results_url.get()}/v1/results/{effect.task_id}"
        size = archive.stat().st_size
        headers = {
            "Authorization": self._upload_authorization(effect.task_id),
            "Content-Type": "application/zip",
            "Content-Length": str(size),
        }
        if isinstance(effect, DeliverResult):
            leave = workerpool_header(effect.enclave_challenge, effect.authorization)
            headers[WORKERPOOL_AUTHORIZATION] = leave
        try:
            async with self._http.post(
                url, data=_chunks(archive), headers=headers, timeout=UPLOAD_TIMEOUT, expect100=True
            ) as answer:
                text = (await answer.content.read(4096)).decode("utf-8", "replace").strip()
                kept = answer.headers.get("Location", "")
        except (aiohttp.ClientError, TimeoutError, OSError) as problem:
            raise Unavailable(f"result repository at {url}", got=repr(problem), code="results") from problem
        # A conflict that names a file: another revealer's archive of the same result is there already.
        location = text if answer.status == 200 else kept if answer.status == 409 else ""
        if location.startswith("/ipfs/"):
            link = result_link(location.removeprefix("/ipfs/")).decode()
            return ResultUploaded(at=self._now(), task_id=effect.task_id, link=link, bytes_count=size)
        _, why = explanation(text)
        # A full disk may take hours: the scheduler is told, and asks again.
        if (400 <= answer.status < 500 and answer.status != 408) or answer.status == 507:
            message = f"the result repository refuses the result: HTTP {answer.status} {why}"
            return ResultUploadFailed(at=self._now(), task_id=effect.task_id, message=message)
        # Everything else may soon pass: a node that lags behind our reveal, a slow line, a restart.
        raise Unavailable(f"result repository at {url}", got=f"HTTP {answer.status} {why}", code="results")

    def _upload_authorization(self, task_id: TaskId) -> str:
        expires_at = Timestamp(int(time.time()) + AUTHORIZATION_SECONDS)
        digest = upload_digest(self._config.chain.chain_id, self._hub.hub, task_id, self._worker, expires_at)
        signature = self._wallet.sign_digest(digest)
        return authorization_header(
            UploadAuthorization(worker=self._worker, expires_at=expires_at, signature=signature)
        )

    async def _purge(self, effect: Purge) -> Event:
        self._unpaid.discard(effect.task_id)
        try:
            await self._engine.stop(effect.task_id)
        except EngineUnavailable:
            if await self._engine_watch.look():
                raise
            # Its container is swept when the engine is back; the slot is free now.
        await self._end_of_run(effect.task_id)
        await self._engine.forget(effect.task_id)
        folder = self._folder(effect.task_id)
        with disk_at(folder):
            await asyncio.to_thread(remove_tree, folder)
        return TaskPurged(at=self._now(), task_id=effect.task_id)

    async def _end_of_run(self, task_id: TaskId) -> None:
        """Wait for a run that was stopped, so that the engine still knows that it was when it asks.

        A container that was just being made would else be started when it is forgotten already.
        """
        run = self._runs.get(task_id)
        if run is None:
            return
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await run.wait()
        except TimeoutError as problem:
            raise Unavailable(
                f"container of task {task_id}",
                code="engine",
                expected=f"its end within {STOP_SECONDS:g} s of the order to stop",
                next_step="look at the container engine's log",
            ) from problem

    # --- small things -------------------------------------------------------------------------------------

    def _folder(self, task_id: TaskId) -> Path:
        return self._config.folder / "tasks" / str(task_id)

    def _now(self) -> Timestamp:
        head = self._heads.current
        return head.timestamp if head else Timestamp(0)

    def _refused(self, task_id: TaskId, refusal: Refusal) -> Event:
        return TaskRefused(
            at=self._now(),
            task_id=task_id,
            status=refusal.status,
            cause=refusal.cause,
            message=refusal.message,
        )

    def _compute_failed(
        self, task_id: TaskId, cause: str, message: str, ended: RunEnded | None = None
    ) -> Event:
        return AppComputeFailed(
            at=self._now(),
            task_id=task_id,
            cause=cause,
            message=message,
            exit_code=ended.exit_code if ended else None,
            milliseconds=_milliseconds(ended) if ended else 0,
        )

    def _contribution_failed(self, task_id: TaskId, status: ReplicateStatus, problem: Exception) -> Event:
        return ContributionFailed(at=self._now(), task_id=task_id, status=status, message=str(problem))

    def _reveal_failed(self, task_id: TaskId, status: ReplicateStatus, problem: Exception) -> Event:
        return RevealFailed(at=self._now(), task_id=task_id, status=status, message=str(problem))


def _told(event: Event) -> Event:
    """The outcome; a problem in it is cut to what a message may carry, and said in the log, once, here."""
    match event:
        case (
            TaskRefused(message=message)
            | AppDownloadFailed(message=message)
            | DataDownloadFailed(message=message)
            | AppComputeFailed(message=message)
            | FailureNotDescribed(message=message)
            | ContributionChecked(message=message)
            | ContributionFailed(message=message)
            | RevealChecked(message=message)
            | RevealFailed(message=message)
            | ResultUploadFailed(message=message)
        ) if message:
            log.warning(
                _PROBLEMS[type(event)],
                task=str(event.task_id),
                cause=getattr(event, "cause", None),
                reason=message,
            )
            return replace(event, message=message[:MAX_PROBLEM])
        case _:
            return event


def pull_seconds(timeref: int) -> float:
    """How long an image may take: 5 to 30 minutes, growing with the category (reference 9.6, in seconds)."""
    minutes = round(10 * math.log10(max(timeref / 60 / 10, 1)))
    return 60.0 * min(max(minutes, 5), 30)


def is_finalizable_at_once(effect: CheckContribution, standing: Standing) -> bool:
    """Whether the task can be ended in one transaction now (contract `contributeAndFinalize`)."""
    return effect.is_delivered and effect.terms.contribute_and_finalize and not standing.task.contributors


def _contribute_key(task_id: TaskId) -> str:
    return f"contribute:{task_id}"


def _finalize_key(task_id: TaskId) -> str:
    return f"contributeAndFinalize:{task_id}"


def _milliseconds(ended: RunEnded) -> int:
    return max(int((ended.finished_at - ended.started_at) * 1000), 0)


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:  # local disk, small reads, each handed to a thread
        while chunk := await asyncio.to_thread(file.read, UPLOAD_CHUNK_BYTES):
            yield chunk
