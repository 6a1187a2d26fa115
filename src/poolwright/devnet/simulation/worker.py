"""A worker's process: the worker's mind, what it does on its machine and on the chain, and its connection.

The decisions are those of `daemons.worker_hands`, `daemons.task_terms` and `daemons.scheduler_link`, and
where they are functions of values, they are the same functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
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
    CHAIN_LANE,
    COMPUTE_LANE,
    FILES_LANE,
    PURGE_LANE,
    SCHEDULER_LANE,
    is_finalizable_at_once,
    lane_widths,
    pull_seconds,
)
from poolwright.daemons.worker_mind import WorkerMind
from poolwright.devnet.simulation.chain import Chain, Run, Tx
from poolwright.devnet.simulation.clock import SECOND
from poolwright.devnet.simulation.links import Connection, Letters, SchedulerEnd
from poolwright.devnet.simulation.machine import App, Habits, Machine, computed, result_of
from poolwright.devnet.simulation.process import Disk, Process, Work
from poolwright.devnet.simulation.repository import Repository
from poolwright.devnet.simulation.sender import Sender
from poolwright.poco.authorization import verify_authorization
from poolwright.poco.deadlines import contribution_deadline, final_deadline
from poolwright.poco.errors import InvariantBroken, PeerError, PoolwrightError, Unavailable
from poolwright.poco.keccak import keccak
from poolwright.poco.model import Call, Emitted, Poco
from poolwright.poco.records import ContributionStatus
from poolwright.poco.results import result_hash, result_seal
from poolwright.poco.tags import TEE
from poolwright.poco.types import Address, Hash32, NRlc, TaskId, WorkerAddress
from poolwright.results.checks import PoolLeave
from poolwright.wire.messages import (
    PROTOCOL,
    Capacity,
    Confirm,
    Hello,
    Instructed,
    Notice,
    Refused,
    Reported,
    SchedulerMessage,
    Welcome,
)
from poolwright.wire.statuses import MOVES, Mover, ReplicateStatus
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
    SchedulerInstructed,
    TaskDescribed,
    TaskPurged,
    TaskRefused,
)
from poolwright.worker.outcomes import DISK, given_up
from poolwright.worker.terms import Terms

S = ReplicateStatus
_RECEIVED = "received"


class WorkerProcess(Process[Attempts, Event, Effect]):
    """One worker of the pool. Between two connections it waits for a while, longer after each failure."""

    def __init__(
        self,
        disk: Disk[Event, Effect],
        *,
        address: WorkerAddress,
        habits: Habits,
        chain: Chain,
        scheduler: SchedulerEnd,
        workerpool: Address,
        repository: Repository,
        machine: Machine,
        **parts: Any,  # those of Process
    ) -> None:
        self.address = address
        self.habits = habits
        self.machine = machine
        self._chain = chain
        self._scheduler = scheduler
        self._workerpool = workerpool
        self._repository = repository
        self.offline_until = 0
        self._link: Connection | None = None
        self._letters: Letters[Report] = Letters()
        self._said: dict[TaskId, ReplicateStatus] = {}
        super().__init__(mind=WorkerMind(), disk=disk, **parts)
        self._sender = self._new_sender()

    # --- life ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        if not self.is_up:
            self._letters = Letters()
        super().start()

    def woken(self) -> None:
        self._sender = self._new_sender()
        self._sender.resume()
        self._connect_soon(3 * SECOND)

    def ended(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.cut(noticed=True)

    def lose_disk(self, name: Hash32) -> None:
        """While it is dead: its disk and its machine's are replaced by empty ones."""
        self.disk = Disk(name=name)
        self.machine.replace_disk()
        self.forget()

    def compare(self, restored: Attempts, lost: Attempts) -> bool:
        return restored == lost

    def _new_sender(self) -> Sender:
        journal = self.disk.journal
        return Sender(self._chain, self.node, self.chance, self.address, journal, self.guarded)

    # --- the connection -----------------------------------------------------------------------------------

    def torn(self) -> None:
        """Nothing more goes over the line: it breaks for some minutes, or we die at this instant."""
        if self.chance.of("tears").random() < 0.7:
            self.offline_until = self._clock.now + self.chance.of("tears").randint(20, 200) * SECOND
            self.cut()
        else:
            self.crash()

    @property
    def is_connected(self) -> bool:
        return self._link is not None and self._link.is_welcome and self._link.is_open

    def cut(self) -> None:
        """The connection breaks."""
        if self._link is not None:
            self._link.cut()

    def lost(self, link: Connection) -> None:
        if self._link is link:
            self._link = None
            self._connect_soon(15 * SECOND)

    def _connect_soon(self, most: int) -> None:
        self._clock.after(self.chance.of("reconnects").randint(100, most), self.guarded(self._connect))

    def _connect(self) -> None:
        if self._link is not None:
            return
        if self._clock.now < self.offline_until and not self.chance.is_calm:
            self._connect_soon(15 * SECOND)
            return
        link = self._link = Connection(self.address, (self._scheduler, self), self._clock, self.chance)
        ledger, received = self.disk.marks.get(_RECEIVED, (None, 0))
        link.to_scheduler(
            Hello(
                protocol=PROTOCOL,
                journal=self.disk.name,
                ledger=ledger,
                received=received,
                capacity=Capacity(
                    name=self.name,
                    version="simulated",
                    slots=self.habits.slots,
                    cpus=4,
                    memory_gib=8,
                    gpu=self.habits.gpu,
                    tee_frameworks=("scone",) if self.habits.enclave else (),
                ),
            )
        )

    def hear(self, link: Connection, message: SchedulerMessage) -> None:
        """A message of the scheduler has arrived; a process that is down hears nothing."""
        if self._link is link:
            self.guarded(lambda: self._take(link, message))()

    def _take(self, link: Connection, message: SchedulerMessage) -> None:
        match message:
            case Welcome():
                ledger, received = self.disk.marks.get(_RECEIVED, (None, 0))
                link.received = received if ledger == message.ledger else 0
                link.ledger = message.ledger
                self._confirm(message.received)
                for number, report in list(self._letters):
                    self._send(link, number, report)
            case Instructed(sequence=sequence, instruction=instruction):
                if sequence > link.received:
                    link.received = sequence
                    event = SchedulerInstructed(at=self.now(), instruction=instruction)
                    self.put(event, marks={_RECEIVED: (link.ledger, sequence)})
                link.to_scheduler(Confirm(upto=link.received))
            case Confirm(upto=upto):
                self._confirm(upto)
            case Notice():
                pass  # it gets no work, and need not do anything about it
            case Refused():
                link.cut(noticed=True)
            case _:
                assert_never(message)

    def _confirm(self, upto: int) -> None:
        for number in self._letters.confirm(upto):
            self.disk.finish(number)

    def _send(self, link: Connection, number: int, report: Report) -> None:
        details, status = report.details, report.status
        if details.callback is not None and self.chance.hits("bad_callbacks"):
            details = replace(details, callback=b"another one")
        if self.habits.babbles and not self.chance.is_calm and self.chance.of("babble").random() < 0.2:
            said = sorted(MOVES[Mover.WORKER].get(self._said.get(report.task_id, S.CREATED), {status}))
            status = self.chance.of("babble").choice(said)
        self._said[report.task_id] = status
        link.to_scheduler(Reported(sequence=number, task_id=report.task_id, status=status, details=details))

    def babble(self, task_id: TaskId, status: ReplicateStatus) -> None:
        """Say something about a task that is not so."""
        number = -self.chance.of("babble").randint(100, 10**9)
        report = Report(task_id=task_id, status=status, number=number)
        effect_id = self.disk.add(SCHEDULER_LANE, report)
        if effect_id is not None:
            self.post(SCHEDULER_LANE, effect_id, report)

    # --- effects ------------------------------------------------------------------------------------------

    def lane_of(self, effect: Effect) -> str:
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

    def width_of(self, lane: str) -> int | None:
        return lane_widths(self.habits.slots).get(lane)

    def post(self, lane: str, number: int, effect: Effect) -> None:
        if not isinstance(effect, Report):
            raise InvariantBroken(f"{type(effect).__name__} is not a message")
        self._letters.post(number, effect)
        if self._link is not None and self._link.is_welcome and self._link.ledger:
            self._send(self._link, number, effect)

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

    def gave_up(self, effect: Effect, error: PoolwrightError) -> Sequence[Event]:
        return [given_up(effect, error, self.now())]

    # --- before the contribution --------------------------------------------------------------------------

    def _describe(self, effect: DescribeTask) -> Work[Event]:
        start = effect.start
        self._start_twin(effect)
        while self.node.head().number < start.block:
            yield self._chain.next_block
        terms = self._terms(effect)
        if isinstance(terms, Refusal):
            return [
                TaskRefused(
                    at=self.now(),
                    task_id=effect.task_id,
                    status=terms.status,
                    cause=terms.cause,
                    message=terms.message,
                )
            ]
        return [TaskDescribed(at=self.now(), task_id=effect.task_id, terms=terms)]

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
                worker=self.address,
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
        obstacle = obstacle_to_contribution(standing, self.address, stake=stake, now=self.now())
        if obstacle is not None:
            return obstacle
        if self._chain.coins.get(self.address, 0) < 2:
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
        if not self.chance.hits("twins"):
            return
        start, digest = effect.start, Hash32(keccak(f"twin at {effect.task_id}".encode()))
        contribution = SubmitContribute(
            task_id=effect.task_id,
            digest=digest,
            enclave_challenge=start.enclave_challenge,
            authorization=start.authorization,
        )
        its_hash, seal = result_hash(start.task_id, digest), result_seal(self.address, start.task_id, digest)
        run = _contribution(contribution, its_hash, seal)
        key = f"twin at {start.task_id} at {self._clock.now}"
        tx = Tx(key=key, sender=self.address, run=run, task_id=start.task_id)
        wait = self.chance.of("twins").randint(0, 200) * SECOND
        self._clock.after(wait if wait > 60 * SECOND else 0, lambda: self._chain.send(tx))

    def _standing(self, task_id: TaskId) -> Standing:
        return Standing(
            task=self.node.task(task_id),
            contribution=self.node.contribution(task_id, self.address),
            account=self.node.account(self.address),
        )

    def _download_app(self, effect: DownloadApp) -> Work[Event]:
        app = App(effect.terms.command)
        is_missing = app is App.NO_IMAGE or (
            app is App.FLAKY_IMAGE and self.chance.of("images").random() < 0.5
        )
        if is_missing:
            yield self.pause(int(pull_seconds(effect.terms.timeref) * SECOND) // 10)
            return [
                AppDownloadFailed(
                    at=self.now(),
                    task_id=effect.task_id,
                    cause="APP_IMAGE_DOWNLOAD_FAILED",
                    message="no such image",
                )
            ]
        if effect.terms.image not in self.machine.images:
            yield self.pause(self._takes(20))
            self._write()
            self.machine.images.add(effect.terms.image)
        return [AppDownloaded(at=self.now(), task_id=effect.task_id)]

    def _download_data(self, effect: DownloadData) -> Work[Event]:
        yield self.pause(self._takes(5))
        self._write()
        if App(effect.terms.command) is App.NO_DATA:
            return [
                DataDownloadFailed(
                    at=self.now(),
                    task_id=effect.task_id,
                    cause="INPUT_FILES_DOWNLOAD_FAILED",
                    message="no such file",
                )
            ]
        return [DataDownloaded(at=self.now(), task_id=effect.task_id)]

    def _compute(self, effect: Compute) -> Work[Event]:
        terms, task_id = effect.terms, effect.task_id
        app, limit = App(terms.command), terms.timeref * SECOND
        takes = limit + 1 if app is App.HANGS else self._takes(terms.timeref // 3)
        container = self.machine.run(task_id, takes, limit)
        while self._clock.now < container.ends_at and self.machine.containers.get(task_id) is container:
            yield container.waiting.append
        if self.machine.containers.get(task_id) is not container:
            return []  # we were told to abort; the purge says the rest
        if container.is_late:
            return [self._compute_failed(task_id, "APP_COMPUTE_TIMEOUT")]
        if app is App.CRASHES:
            return [self._compute_failed(task_id, "APP_COMPUTE_FAILED", exit_code=1)]
        self._write()
        result = computed(task_id, self.address, app, self.habits.honesty, has_callback=terms.has_callback)
        self.machine.folders[task_id] = result
        return [AppComputed(at=self.now(), task_id=task_id, result=result, exit_code=0, milliseconds=takes)]

    def _compute_failed(self, task_id: TaskId, cause: str, exit_code: int | None = None) -> Event:
        return AppComputeFailed(
            at=self.now(),
            task_id=task_id,
            cause=cause,
            message=cause,
            exit_code=exit_code,
            milliseconds=0,
        )

    def _describe_failure(self, effect: DescribeFailure) -> Work[Event]:
        yield self.pause(self._takes(1))
        self._write()
        text = f"{effect.task_id} failed: {effect.cause} {effect.exit_code}"
        result = result_of(text, has_callback=effect.terms.has_callback)
        self.machine.folders[effect.task_id] = result
        return [FailureDescribed(at=self.now(), task_id=effect.task_id, result=result)]

    # --- the contribution and the reveal ------------------------------------------------------------------

    def _check_contribution(self, effect: CheckContribution) -> Work[Event]:
        yield self.pause(self._takes(1))
        task_id, now = effect.task_id, self.now()
        standing = self._standing(task_id)
        at_once = is_finalizable_at_once(effect, standing)
        if self._sender.has_sent(f"contributeAndFinalize:{task_id}"):
            obstacle, at_once = None, True
        elif self._sender.has_sent(f"contribute:{task_id}"):
            obstacle, at_once = None, False
        else:
            stake = NRlc(0) if at_once else effect.terms.stake
            obstacle = obstacle_to_contribution(standing, self.address, stake=stake, now=now)
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
        seal = result_seal(self.address, task_id, effect.digest)
        if self.habits.hides_seal:
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
            tx = yield from self._send_tx(key, run, task_id)
        except OutOfGas as problem:
            return [self._contribution_failed(task_id, S.OUT_OF_GAS, problem)]
        except TxReverted as problem:
            if self.node.contribution(task_id, self.address).status is ContributionStatus.UNSET:
                return [self._contribution_failed(task_id, S.CONTRIBUTE_FAILED, problem)]
            return [ContributionMined(at=self.now(), task_id=task_id, tx_hash=None, block=None)]
        if self.chance.hits("lost_results"):
            self.machine.folders.pop(task_id, None)
        block = self._chain.stamp(tx.mined_in or 1).number
        return [ContributionMined(at=self.now(), task_id=task_id, tx_hash=tx.tx_hash, block=block)]

    def _check_reveal(self, effect: CheckReveal) -> Work[Event]:
        task_id = effect.task_id
        while self.node.head().number < effect.reveal.block:
            yield self._chain.next_block
        task = self.node.task(task_id)
        contribution = self.node.contribution(task_id, self.address)
        problem = obstacle_to_reveal(effect, task, contribution, worker=self.address, now=self.now())
        return [RevealChecked(at=self.now(), task_id=task_id, can_reveal=not problem, message=problem)]

    def _reveal(self, effect: SubmitReveal) -> Work[Event]:
        task_id, digest = effect.task_id, effect.digest

        def run(poco: Poco, call: Call) -> tuple[Emitted, ...]:
            return poco.reveal(call, task_id, digest)

        try:
            tx = yield from self._send_tx(f"reveal:{task_id}", run, task_id)
        except OutOfGas as problem:
            return [RevealFailed(at=self.now(), task_id=task_id, status=S.OUT_OF_GAS, message=str(problem))]
        except TxReverted as problem:
            if self.node.contribution(task_id, self.address).status is not ContributionStatus.PROVED:
                return [
                    RevealFailed(at=self.now(), task_id=task_id, status=S.REVEAL_FAILED, message=str(problem))
                ]
            return [RevealMined(at=self.now(), task_id=task_id, tx_hash=None, block=None)]
        block = self._chain.stamp(tx.mined_in or 1).number
        return [RevealMined(at=self.now(), task_id=task_id, tx_hash=tx.tx_hash, block=block)]

    def _send_tx(self, key: str, run: Run, task_id: TaskId) -> Any:
        tx: Tx = yield from self._sender.submit(key, run, task_id, self.die_at_effect)
        return tx

    def _contribution_failed(self, task_id: TaskId, status: ReplicateStatus, problem: Exception) -> Event:
        return ContributionFailed(at=self.now(), task_id=task_id, status=status, message=str(problem))

    # --- the result ---------------------------------------------------------------------------------------

    def _deliver(self, effect: DeliverResult) -> Work[Event]:
        try:
            return (yield from self._upload(effect))
        except Unavailable as problem:
            if self.now() < effect.until:
                raise
            return [ResultUploadFailed(at=self.now(), task_id=effect.task_id, message=str(problem))]

    def _upload(self, effect: UploadResult | DeliverResult) -> Work[Event]:
        task_id = effect.task_id
        result = self.machine.folders.get(task_id)
        if result is None:
            message = "the result's archive is no longer on this worker's disk"
            return [ResultUploadFailed(at=self.now(), task_id=task_id, message=message)]
        yield self.pause(self._takes(20))
        skew = 0 if self.chance.is_calm else self.habits.clock_skew
        try:
            self._repository.admit(AUTHORIZATION_SECONDS + skew)
        except PeerError as problem:
            return [ResultUploadFailed(at=self.now(), task_id=task_id, message=str(problem))]
        if isinstance(effect, DeliverResult):
            leave = PoolLeave(challenge=effect.enclave_challenge, signature=effect.authorization)
            cid = self._repository.deliver(task_id, self.address, result.digest, leave)
        else:
            cid = self._repository.keep(task_id, self.address, result.digest)
        link = result_link(cid).decode()
        return [ResultUploaded(at=self.now(), task_id=task_id, link=link, bytes_count=1000)]

    def _purge(self, effect: Purge) -> Work[Event]:
        yield self.pause(self._takes(1))
        self.machine.remove(effect.task_id)
        return [TaskPurged(at=self.now(), task_id=effect.task_id)]

    def _write(self) -> None:
        """Write to the task's folder. Raises Unavailable while the disk is full."""
        if self.is_disk_full:
            raise Unavailable("the worker's folder", got="no space left on the device", code=DISK)

    def _takes(self, seconds: int) -> int:
        """Milliseconds that a piece of work takes which usually takes up to so many seconds."""
        most = max(seconds, 1) * SECOND * (10 if self.habits.is_slow else 1)
        return self.chance.of(f"speed of {self.name}").randint(most // 10, most)


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
