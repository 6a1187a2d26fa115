"""What a worker's process does on its machine, on the chain and at the result repository.

The decisions are those of `daemons.worker_hands` and `daemons.task_terms`, and where they are functions of
values, they are the same functions.
"""

from __future__ import annotations

from typing import Any, assert_never

from poolwright.chain.outcomes import OutOfGas, TxReverted
from poolwright.daemons.task_terms import (
    Refusal,
    Standing,
    obstacle_to_contribution,
    obstacle_to_reveal,
    read_params,
)
from poolwright.daemons.worker_hands import (
    AUTHORIZATION_SECONDS,
    is_finalizable_at_once,
    pull_seconds,
)
from poolwright.devnet.simulation.chain import Chain, Run, Tx
from poolwright.devnet.simulation.clock import SECOND, Clock
from poolwright.devnet.simulation.machine import App, Habits, Machine, computed, result_of
from poolwright.devnet.simulation.process import Process, Work
from poolwright.devnet.simulation.repository import Repository
from poolwright.devnet.simulation.sender import Sender
from poolwright.poco.authorization import verify_authorization
from poolwright.poco.deadlines import contribution_deadline, final_deadline
from poolwright.poco.errors import InvariantBroken, PeerError, Unavailable
from poolwright.poco.keccak import keccak
from poolwright.poco.model import Call, Emitted, Poco
from poolwright.poco.records import ContributionStatus
from poolwright.poco.results import result_hash, result_seal
from poolwright.poco.tags import TEE
from poolwright.poco.types import Address, Hash32, NRlc, TaskId, WorkerAddress
from poolwright.results.checks import PoolLeave
from poolwright.wire.statuses import ReplicateStatus
from poolwright.wire.uploads import result_link
from poolwright.worker.attempts import Attempts
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
    ResultUploaded,
    ResultUploadFailed,
    RevealChecked,
    RevealFailed,
    RevealMined,
    TaskDescribed,
    TaskPurged,
    TaskRefused,
)
from poolwright.worker.outcomes import DISK
from poolwright.worker.terms import Terms

S = ReplicateStatus


class WorkerHands:
    """Carries out what the worker's mind asks for; `sender` is that of the process's present life."""

    def __init__(
        self,
        process: Process[Attempts, Event, Effect],
        sender: Sender,
        *,
        address: WorkerAddress,
        habits: Habits,
        chain: Chain,
        workerpool: Address,
        repository: Repository,
        machine: Machine,
        clock: Clock,
    ) -> None:
        self.sender = sender
        self._chance = process.chance
        self._node = process.node
        self._now = process.now
        self._process = process
        self._address = address
        self._habits = habits
        self._chain = chain
        self._workerpool = workerpool
        self._repository = repository
        self._machine = machine
        self._clock = clock

    def carry_out(self, effect: Effect) -> Work[Event]:
        match effect:
            case DescribeTask():
                return self._describe(effect)
            case DownloadApp():
                return self._download_app(effect)
            case DownloadData():
                return self._download_data(effect)
            case Compute():
                return self._compute(effect)
            case DescribeFailure():
                return self._describe_failure(effect)
            case DeliverResult():
                return self._deliver(effect)
            case CheckContribution():
                return self._check_contribution(effect)
            case SubmitContribute():
                return self._contribute(effect)
            case SubmitContributeAndFinalize():
                return self._contribute_and_finalize(effect)
            case CheckReveal():
                return self._check_reveal(effect)
            case SubmitReveal():
                return self._reveal(effect)
            case UploadResult():
                return self._upload(effect)
            case Purge():
                return self._purge(effect)
            case Report():
                raise InvariantBroken("a report is a message and is not carried out")
            case _:
                assert_never(effect)

    # --- before the contribution --------------------------------------------------------------------------

    def _describe(self, effect: DescribeTask) -> Work[Event]:
        start = effect.start
        self._start_twin(effect)
        while self._node.head().number < start.block:
            yield self._chain.next_block
        terms = self._terms(effect)
        if isinstance(terms, Refusal):
            return [
                TaskRefused(
                    at=self._now(),
                    task_id=effect.task_id,
                    status=terms.status,
                    cause=terms.cause,
                    message=terms.message,
                )
            ]
        return [TaskDescribed(at=self._now(), task_id=effect.task_id, terms=terms)]

    def _terms(self, effect: DescribeTask) -> Terms | Refusal:
        """As `task_terms.read_terms`, from the model's records. Raises Unavailable, PeerError."""
        start, poco = effect.start, self._chain.poco
        standing = self._standing(effect.task_id)
        deal = poco.deal(start.deal_id)
        if deal.workerpool.pointer != self._workerpool:
            return Refusal(status=S.FAILED, cause="FOREIGN_DEAL", message="a deal of another pool")
        try:
            verify_authorization(
                start.authorization,
                signer=deal.workerpool.owner,
                worker=self._address,
                task_id=start.task_id,
                enclave_challenge=start.enclave_challenge,
            )
        except PeerError as problem:
            cause = "WORKERPOOL_AUTHORIZATION_NOT_FOUND"
            return Refusal(status=S.FAILED, cause=cause, message=str(problem))
        if deal.tag & TEE:
            return Refusal(status=S.FAILED, cause="TEE_NOT_SUPPORTED", message="the task demands an enclave")
        at_once = start.contribute_and_finalize and deal.trust == 1
        stake = NRlc(0) if at_once else deal.worker_stake
        obstacle = obstacle_to_contribution(standing, self._address, stake=stake, now=self._now())
        if obstacle is not None:
            return obstacle
        if self._chain.coins.get(self._address, 0) < 2:
            return Refusal(status=S.OUT_OF_GAS, cause="OUT_OF_GAS", message="two transactions cost more")
        app = poco.app(deal.app.pointer)
        command, input_files = read_params(deal.params)
        timeref = poco.category(deal.category).timeref
        return Terms(
            deal_id=start.deal_id,
            index=start.index,
            bot_first=deal.bot_first,
            bot_size=deal.bot_size,
            tag=deal.tag,
            timeref=timeref,
            contribution_deadline=contribution_deadline(deal.start_time, timeref),
            final_deadline=final_deadline(deal.start_time, timeref),
            stake=deal.worker_stake,
            image=app.multiaddr.decode(),
            image_checksum=app.checksum,
            command=command,
            dataset=deal.dataset.pointer,
            dataset_location="",
            dataset_checksum=Hash32.zero(),
            input_files=input_files,
            has_callback=bool(deal.callback),
            contribute_and_finalize=at_once,
        )

    def _start_twin(self, effect: DescribeTask) -> None:
        """A copy of this machine is at the same task: one of the two contributions will be refused."""
        if not self._chance.hits("twins"):
            return
        start, digest = effect.start, Hash32(keccak(f"twin at {effect.task_id}".encode()))
        contribution = SubmitContribute(
            task_id=effect.task_id,
            digest=digest,
            enclave_challenge=start.enclave_challenge,
            authorization=start.authorization,
        )
        its_hash, seal = result_hash(start.task_id, digest), result_seal(self._address, start.task_id, digest)
        run = _contribution(contribution, its_hash, seal)
        key = f"twin at {start.task_id} at {self._clock.now}"
        tx = Tx(key=key, sender=self._address, run=run)
        wait = self._chance.of("twins").randint(0, 200) * SECOND
        self._clock.after(wait if wait > 60 * SECOND else 0, lambda: self._chain.send(tx))

    def _standing(self, task_id: TaskId) -> Standing:
        return Standing(
            task=self._node.task(task_id),
            contribution=self._node.contribution(task_id, self._address),
            account=self._node.account(self._address),
        )

    def _download_app(self, effect: DownloadApp) -> Work[Event]:
        app = App(effect.terms.command)
        is_missing = app is App.NO_IMAGE or (
            app is App.FLAKY_IMAGE and self._chance.of("images").random() < 0.5
        )
        if is_missing:
            yield self._process.pause(int(pull_seconds(effect.terms.timeref) * SECOND) // 10)
            return [
                AppDownloadFailed(
                    at=self._now(),
                    task_id=effect.task_id,
                    cause="APP_IMAGE_DOWNLOAD_FAILED",
                    message="no such image",
                )
            ]
        if effect.terms.image not in self._machine.images:
            yield self._process.pause(self._takes(20))
            self._write()
            self._machine.images.add(effect.terms.image)
        return [AppDownloaded(at=self._now(), task_id=effect.task_id)]

    def _download_data(self, effect: DownloadData) -> Work[Event]:
        yield self._process.pause(self._takes(5))
        self._write()
        if App(effect.terms.command) is App.NO_DATA:
            return [
                DataDownloadFailed(
                    at=self._now(),
                    task_id=effect.task_id,
                    cause="INPUT_FILES_DOWNLOAD_FAILED",
                    message="no such file",
                )
            ]
        return [DataDownloaded(at=self._now(), task_id=effect.task_id)]

    def _compute(self, effect: Compute) -> Work[Event]:
        terms, task_id = effect.terms, effect.task_id
        app, limit = App(terms.command), terms.timeref * SECOND
        takes = limit + 1 if app is App.HANGS else self._takes(terms.timeref // 3)
        container = self._machine.run(task_id, takes, limit)
        while self._clock.now < container.ends_at and self._machine.containers.get(task_id) is container:
            yield container.waiting.append
        if self._machine.containers.get(task_id) is not container:
            return []  # we were told to abort; the purge says the rest
        if container.is_late:
            return [self._compute_failed(task_id, "APP_COMPUTE_TIMEOUT")]
        if app is App.CRASHES:
            return [self._compute_failed(task_id, "APP_COMPUTE_FAILED", exit_code=1)]
        self._write()
        result = computed(task_id, self._address, app, self._habits.honesty, has_callback=terms.has_callback)
        self._machine.folders[task_id] = result
        return [AppComputed(at=self._now(), task_id=task_id, result=result, exit_code=0, milliseconds=takes)]

    def _compute_failed(self, task_id: TaskId, cause: str, exit_code: int | None = None) -> Event:
        return AppComputeFailed(
            at=self._now(),
            task_id=task_id,
            cause=cause,
            message=cause,
            exit_code=exit_code,
            milliseconds=0,
        )

    def _describe_failure(self, effect: DescribeFailure) -> Work[Event]:
        yield self._process.pause(self._takes(1))
        self._write()
        text = f"{effect.task_id} failed: {effect.cause} {effect.exit_code}"
        result = result_of(text, has_callback=effect.terms.has_callback)
        self._machine.folders[effect.task_id] = result
        return [FailureDescribed(at=self._now(), task_id=effect.task_id, result=result)]

    # --- the contribution and the reveal ------------------------------------------------------------------

    def _check_contribution(self, effect: CheckContribution) -> Work[Event]:
        yield self._process.pause(self._takes(1))
        task_id, now = effect.task_id, self._now()
        standing = self._standing(task_id)
        at_once = is_finalizable_at_once(effect, standing)
        if self.sender.has_sent(f"contributeAndFinalize:{task_id}"):
            obstacle, at_once = None, True
        elif self.sender.has_sent(f"contribute:{task_id}"):
            obstacle, at_once = None, False
        else:
            stake = NRlc(0) if at_once else effect.terms.stake
            obstacle = obstacle_to_contribution(standing, self._address, stake=stake, now=now)
        if obstacle is not None:
            message = obstacle.message
            return [ContributionChecked(at=now, task_id=task_id, verdict=obstacle.status, message=message)]
        return [
            ContributionChecked(
                at=now, task_id=task_id, verdict=S.CAN_CONTRIBUTE, contribute_and_finalize=at_once
            )
        ]

    def _contribute(self, effect: SubmitContribute) -> Work[Event]:
        task_id = effect.task_id
        seal = result_seal(self._address, task_id, effect.digest)
        if self._habits.hides_seal:
            seal = Hash32.zero()
        run = _contribution(effect, result_hash(task_id, effect.digest), seal)
        return (yield from self._mined(f"contribute:{task_id}", run, task_id))

    def _contribute_and_finalize(self, effect: SubmitContributeAndFinalize) -> Work[Event]:
        def run(poco: Poco, call: Call) -> tuple[Emitted, ...]:
            return poco.contribute_and_finalize(
                call,
                effect.task_id,
                effect.digest,
                effect.link.encode(),
                effect.callback,
                effect.enclave_challenge,
                bytes(32),
                effect.authorization,
            )

        key = f"contributeAndFinalize:{effect.task_id}"
        return (yield from self._mined(key, run, effect.task_id))

    def _mined(self, key: str, run: Run, task_id: TaskId) -> Work[Event]:
        try:
            tx = yield from self._send_tx(key, run)
        except OutOfGas as problem:
            return [self._contribution_failed(task_id, S.OUT_OF_GAS, problem)]
        except TxReverted as problem:
            if self._node.contribution(task_id, self._address).status is ContributionStatus.UNSET:
                return [self._contribution_failed(task_id, S.CONTRIBUTE_FAILED, problem)]
            return [ContributionMined(at=self._now(), task_id=task_id, tx_hash=None, block=None)]
        if self._chance.hits("lost_results"):
            self._machine.folders.pop(task_id, None)
        block = self._chain.stamp(tx.mined_in or 1).number
        return [ContributionMined(at=self._now(), task_id=task_id, tx_hash=tx.tx_hash, block=block)]

    def _check_reveal(self, effect: CheckReveal) -> Work[Event]:
        task_id = effect.task_id
        while self._node.head().number < effect.reveal.block:
            yield self._chain.next_block
        task = self._node.task(task_id)
        contribution = self._node.contribution(task_id, self._address)
        problem = obstacle_to_reveal(effect, task, contribution, worker=self._address, now=self._now())
        return [RevealChecked(at=self._now(), task_id=task_id, can_reveal=not problem, message=problem)]

    def _reveal(self, effect: SubmitReveal) -> Work[Event]:
        task_id, digest = effect.task_id, effect.digest

        def run(poco: Poco, call: Call) -> tuple[Emitted, ...]:
            return poco.reveal(call, task_id, digest)

        try:
            tx = yield from self._send_tx(f"reveal:{task_id}", run)
        except OutOfGas as problem:
            return [RevealFailed(at=self._now(), task_id=task_id, status=S.OUT_OF_GAS, message=str(problem))]
        except TxReverted as problem:
            if self._node.contribution(task_id, self._address).status is not ContributionStatus.PROVED:
                return [
                    RevealFailed(
                        at=self._now(), task_id=task_id, status=S.REVEAL_FAILED, message=str(problem)
                    )
                ]
            return [RevealMined(at=self._now(), task_id=task_id, tx_hash=None, block=None)]
        block = self._chain.stamp(tx.mined_in or 1).number
        return [RevealMined(at=self._now(), task_id=task_id, tx_hash=tx.tx_hash, block=block)]

    def _send_tx(self, key: str, run: Run) -> Any:
        tx: Tx = yield from self.sender.submit(key, run, self._process.die_at_effect)
        return tx

    def _contribution_failed(self, task_id: TaskId, status: ReplicateStatus, problem: Exception) -> Event:
        return ContributionFailed(at=self._now(), task_id=task_id, status=status, message=str(problem))

    # --- the result ---------------------------------------------------------------------------------------

    def _deliver(self, effect: DeliverResult) -> Work[Event]:
        try:
            return (yield from self._upload(effect))
        except Unavailable as problem:
            if self._now() < effect.until:
                raise
            return [ResultUploadFailed(at=self._now(), task_id=effect.task_id, message=str(problem))]

    def _upload(self, effect: UploadResult | DeliverResult) -> Work[Event]:
        task_id = effect.task_id
        result = self._machine.folders.get(task_id)
        if result is None:
            message = "the result's archive is no longer on this worker's disk"
            return [ResultUploadFailed(at=self._now(), task_id=task_id, message=message)]
        yield self._process.pause(self._takes(20))
        skew = 0 if self._chance.is_calm else self._habits.clock_skew
        try:
            self._repository.admit(AUTHORIZATION_SECONDS + skew)
        except PeerError as problem:
            return [ResultUploadFailed(at=self._now(), task_id=task_id, message=str(problem))]
        if isinstance(effect, DeliverResult):
            leave = PoolLeave(challenge=effect.enclave_challenge, signature=effect.authorization)
            cid = self._repository.deliver(task_id, self._address, result.digest, leave)
        else:
            cid = self._repository.keep(task_id, self._address, result.digest)
        link = result_link(cid).decode()
        return [ResultUploaded(at=self._now(), task_id=task_id, link=link, bytes_count=1000)]

    def _purge(self, effect: Purge) -> Work[Event]:
        yield self._process.pause(self._takes(1))
        self._machine.remove(effect.task_id)
        return [TaskPurged(at=self._now(), task_id=effect.task_id)]

    def _write(self) -> None:
        """Write to the task's folder. Raises Unavailable while its disk, or the whole machine's, is full."""
        is_full = self._clock.now < self._machine.full_until and not self._chance.is_calm
        if is_full or self._process.is_disk_full:
            raise Unavailable("the worker's folder", got="no space left on the device", code=DISK)

    def _takes(self, seconds: int) -> int:
        """Milliseconds that a piece of work takes which usually takes up to so many seconds."""
        most = max(seconds, 1) * SECOND * (10 if self._habits.is_slow else 1)
        return self._chance.of(f"speed of {self._process.name}").randint(most // 10, most)


def _contribution(effect: SubmitContribute, its_hash: Hash32, seal: Hash32) -> Run:
    def run(poco: Poco, call: Call) -> tuple[Emitted, ...]:
        return poco.contribute(
            call,
            effect.task_id,
            its_hash,
            seal,
            effect.enclave_challenge,
            bytes(32),
            effect.authorization,
        )

    return run
