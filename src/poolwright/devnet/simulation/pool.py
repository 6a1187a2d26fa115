"""The scheduler's process: the pool's mind, its transactions, its sessions, and the chain that it follows.

The decisions are those of `daemons.scheduler_hands`, `daemons.sessions` and `daemons.chain_watch`, and where
they are functions of values, they are the same functions.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final, TypeVar, assert_never, cast

from poolwright.chain.budget import FeeBudget, FeeLimits, OverBudget
from poolwright.chain.logs import LogBatch
from poolwright.chain.reads import HubReader
from poolwright.chain.wallet import Wallet
from poolwright.daemons import sessions
from poolwright.daemons.chain_watch import ChainWatch
from poolwright.daemons.scheduler_hands import (
    HELD_SECONDS,
    LANES,
    RESULTS_LANE,
    instruction_of,
    tx_lane_of,
)
from poolwright.daemons.scheduler_mind import SchedulerMind
from poolwright.devnet.simulation.aio import VirtualLoop
from poolwright.devnet.simulation.chain import Chain
from poolwright.devnet.simulation.clock import SECOND
from poolwright.devnet.simulation.links import (
    HEARTBEAT_SECONDS,
    SILENCE_SECONDS,
    Connection,
    Letters,
)
from poolwright.devnet.simulation.process import Disk, Process, Work
from poolwright.devnet.simulation.repository import Repository
from poolwright.devnet.simulation.sender import Sender
from poolwright.devnet.simulation.transactions import batches_of
from poolwright.poco import consensus
from poolwright.poco.errors import InvariantBroken, PoolwrightError
from poolwright.poco.records import Category, Deal
from poolwright.poco.types import Address, BlockStamp, DealId, Hash32, WorkerAddress
from poolwright.scheduler.effects import Effect, Submission, Submit, TellWorker, VerifyUpload
from poolwright.scheduler.events import (
    OperatorEvent,
    OperatorSetRules,
    PoolEvent,
    WorkerConnected,
    WorkerReported,
    WorkerWentSilent,
)
from poolwright.scheduler.outcomes import given_up, submission_failed, upload_checked
from poolwright.scheduler.pool import Pool
from poolwright.scheduler.standing import Rules
from poolwright.wire.messages import (
    Confirm,
    Heartbeat,
    Hello,
    Instructed,
    Instruction,
    Reported,
    Welcome,
    WorkerMessage,
)
from poolwright.wire.uploads import result_link

RESULTS_URL: Final = "http://results"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The operator's settings."""

    contribute_and_finalize: bool
    rules: Rules
    fees: FeeLimits


class SchedulerProcess(Process[Pool, PoolEvent, Effect]):
    """The daemon of a workerpool's owner."""

    def __init__(
        self,
        disk: Disk[PoolEvent, Effect],
        *,
        chain: Chain,
        wallet: Wallet,
        workerpool: Address,
        repository: Repository,
        observer: Observer,
        policy: Policy,
        **parts: Any,  # those of Process
    ) -> None:
        super().__init__("scheduler", SchedulerMind(), disk, **parts)
        self.workerpool = workerpool
        self._chain = chain
        self._wallet = wallet
        self._repository = repository
        self._observer = observer
        self.policy = policy
        self._sessions: dict[WorkerAddress, Connection] = {}
        self._heard: dict[WorkerAddress, int] = {}
        """When each worker that is not silent was last heard."""
        self._letters: dict[str, Letters[TellWorker]] = {}
        hub = cast("HubReader", _Hub(chain))
        self._watch = ChainWatch(hub, workerpool, lambda task_id: self.state.tasks.get(task_id))
        self._begin_life()
        chain.followers.append(self._follow)

    # --- life ---------------------------------------------------------------------------------------------

    def woken(self) -> None:
        self._begin_life()
        self._sender.resume()
        self.command(OperatorSetRules(at=self.now(), rules=self.policy.rules))
        for worker in self.state.workers.values():
            if not worker.is_silent:
                self._heard[worker.address] = self._clock.now
                self._watch_silence(worker.address, SILENCE_SECONDS * SECOND)

    def ended(self) -> None:
        self._loop.close()
        sessions, self._sessions = self._sessions, {}
        self._heard = {}
        self._letters = {}
        for session in sessions.values():
            session.cut(noticed=True)

    def start(self) -> None:
        if not self.is_up:
            self._letters = {}
        super().start()

    def lose_disk(self, name: Hash32) -> None:
        """While it is dead: it will begin again, and knows what the chain knows."""
        self.disk = Disk(name=name)
        self.forget()

    def compare(self, restored: Pool, lost: Pool) -> bool:
        return facts(restored) == facts(lost)

    def stepped(self, event: PoolEvent, effects: Sequence[Effect], ignored: str | None) -> None:
        self._observer.stepped(self.state, event, effects)

    def _begin_life(self) -> None:
        address, journal = self._wallet.address, self.disk.journal
        budget = FeeBudget(self.policy.fees)
        self._loop = VirtualLoop(self._clock)
        self._sender = Sender(self._chain, self.node, self.chance, address, journal, self.guarded, budget)
        self._batches = batches_of(self, self._chain, self.chance, self._sender, self._loop)

    def command(self, event: OperatorEvent) -> None:
        """The operator's word; a process that is down does not hear it."""
        self.guarded(lambda: self.put(event))()

    def set_limits(self, fees: FeeLimits) -> None:
        """The operator sets other limits on fees."""
        self.policy = replace(self.policy, fees=fees)
        self._sender.budget.limits = fees

    # --- the chain ----------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """A new block: turn the logs of what it confirms into facts, and act on deadlines."""
        self.guarded(self._catch_up)()

    def _catch_up(self) -> None:
        if self.node.is_down:
            return
        head = self.node.head()
        while self.disk.cursor < head.number:
            upto = min(head.number, self.disk.cursor + self.chance.of("batches").randint(1, 20))
            logs = tuple(log for block in self._chain.blocks[self.disk.cursor : upto] for log in block.logs)
            batch = LogBatch(upto=self._chain.stamp(upto), logs=logs)
            found = finished(self._watch.facts(batch)) if logs else []
            if found:
                self.put(*found, cursor=upto)
            else:
                self.disk.cursor = upto
        self.tick()

    # --- effects ------------------------------------------------------------------------------------------

    def lane_of(self, effect: Effect) -> str:
        match effect:
            case Submit():
                return tx_lane_of(effect.submission)
            case VerifyUpload():
                return RESULTS_LANE
            case _:
                return lane_of(effect.worker)

    def width_of(self, lane: str) -> int | None:
        return LANES.get(lane)

    def carry_out(self, effect: Effect) -> Work[PoolEvent]:
        match effect:
            case Submit():
                return self._submit(effect)
            case VerifyUpload():
                return self._verify(effect)
            case _:
                raise InvariantBroken(f"{type(effect).__name__} is a message and is not carried out")

    def gave_up(self, effect: Effect, error: PoolwrightError) -> Sequence[PoolEvent]:
        return [given_up(effect, error, self.now())]

    def _submit(self, effect: Submit) -> Work[PoolEvent]:
        if effect.submission is not Submission.FINALIZE and self.chance.hits("front_runs"):
            self._observer.front_run(effect)
        while True:
            try:
                failure = yield from self._loop.outcome(self._batches.submit(effect))
            except OverBudget as problem:
                yield self.pause(int(HELD_SECONDS * SECOND))
                if not self.is_wanted(effect):
                    return [submission_failed(effect, str(problem), self.now())]
            else:
                return [submission_failed(effect, failure, self.now())] if failure else []

    def _verify(self, effect: VerifyUpload) -> Work[PoolEvent]:
        at = self.now()
        yield self.pause(self.chance.of("hands").randint(5, 500))
        cid = self._repository.look_up(effect.task_id)
        link = None if cid is None else result_link(cid).decode()
        return [upload_checked(effect, link, at)]

    # --- sessions -----------------------------------------------------------------------------------------

    def post(self, lane: str, number: int, effect: Effect) -> None:
        if isinstance(effect, Submit | VerifyUpload):
            raise InvariantBroken(f"{type(effect).__name__} is not a message")
        self._letters.setdefault(lane, Letters()).post(number, effect)
        session = self._sessions.get(effect.worker)
        if session is not None and session.is_welcome:
            self._send(session, number, effect)

    def hear(self, link: Connection, message: WorkerMessage) -> None:
        """A message of a worker has arrived; a process that is down hears nothing."""
        self.guarded(lambda: self._take(link, message))()
        if not self.is_up:
            link.cut(noticed=True)

    def lost(self, link: Connection) -> None:
        if self._sessions.get(link.worker) is link:
            del self._sessions[link.worker]
        if link.worker in self._heard:
            since = self.chance.of("notice").randint(0, HEARTBEAT_SECONDS * SECOND)
            heard = self._heard[link.worker] = max(self._heard[link.worker], self._clock.now - since)
            self._watch_silence(link.worker, heard + SILENCE_SECONDS * SECOND - self._clock.now)

    def _take(self, link: Connection, message: WorkerMessage) -> None:
        worker = link.worker
        if isinstance(message, Hello):
            self._welcome(link, message)
            return
        self._heard[worker] = self._clock.now
        match message:
            case Reported(sequence=sequence):
                journal, received = self.disk.marks[_mark_of(worker)]
                if sequence > received:
                    received = sequence
                    self.put(
                        WorkerReported(
                            at=self.now(),
                            worker=worker,
                            task_id=message.task_id,
                            status=message.status,
                            details=message.details,
                        ),
                        marks={_mark_of(worker): (journal, received)},
                    )
                link.to_worker(Confirm(upto=received))
            case Confirm(upto=upto):
                self._confirm(worker, upto)
            case Heartbeat():
                pass
            case _:
                assert_never(message)

    def _welcome(self, link: Connection, hello: Hello) -> None:
        worker = link.worker
        older = self._sessions.pop(worker, None)
        if older is not None:
            older.cut(noticed=True)
        journal, received = self.disk.marks.get(_mark_of(worker), (hello.journal, 0))
        if journal != hello.journal:
            received = 0
        try:
            weight = consensus.weight(self.node.score(worker))
        except PoolwrightError:
            link.cut(noticed=True)
            return
        self._heard[worker] = self._clock.now
        connected = WorkerConnected(
            at=self.now(), worker=worker, journal=hello.journal, capacity=hello.capacity, weight=weight
        )
        self.put(connected, marks={_mark_of(worker): (hello.journal, received)})
        self._sessions[worker] = link
        link.to_worker(
            Welcome(
                ledger=self.disk.name,
                received=received,
                heartbeat_seconds=HEARTBEAT_SECONDS,
                results_url=RESULTS_URL,
            )
        )
        link.is_welcome = True
        if hello.ledger == self.disk.name:
            self._confirm(worker, hello.received)
        for number, effect in list(self._letters.get(lane_of(worker), ())):
            self._send(link, number, effect)

    def _send(self, link: Connection, number: int, effect: TellWorker) -> None:
        told = instruction_of(
            effect, self._wallet, contribute_and_finalize=self.policy.contribute_and_finalize
        )
        self._observer.told(link.worker, told)
        link.to_worker(Instructed(sequence=number, instruction=told))

    def _confirm(self, worker: WorkerAddress, upto: int) -> None:
        letters = self._letters.get(lane_of(worker))
        if letters is not None:
            for number in letters.confirm(upto):
                self.disk.finish(number)

    def _watch_silence(self, worker: WorkerAddress, milliseconds: int) -> None:
        self._clock.after(milliseconds, self.guarded(lambda: self._check_silence(worker)))

    def _check_silence(self, worker: WorkerAddress) -> None:
        """A session that stands is heard all the time: its heartbeats need not be played."""
        heard = self._heard.get(worker)
        if heard is None or worker in self._sessions or self._clock.now - heard < SILENCE_SECONDS * SECOND:
            return
        del self._heard[worker]
        self.put(WorkerWentSilent(at=self.now(), worker=worker))


class Observer:
    """Who watches the scheduler's steps and hears of its transactions; the world overrides it."""

    def stepped(self, pool: Pool, event: PoolEvent, effects: Sequence[Effect]) -> None:
        """The mind has taken an event."""

    def told(self, worker: WorkerAddress, instruction: Instruction) -> None:
        """An instruction goes out to a worker."""

    def front_run(self, effect: Submit) -> None:
        """A stranger saw this transaction and is faster."""


class _Hub:
    """The reads of `chain.reads.HubReader` that the chain watch makes; they are answered at once."""

    def __init__(self, chain: Chain) -> None:
        self._poco = chain.poco

    async def deal(self, deal_id: DealId, at: BlockStamp | None = None) -> Deal:
        return self._poco.deal(deal_id)

    async def category(self, category: int, at: BlockStamp | None = None) -> Category:
        return self._poco.category(category)

    async def score(self, worker: Address, at: BlockStamp | None = None) -> int:
        return self._poco.score(worker)


@lru_cache(maxsize=1000)
def lane_of(worker: WorkerAddress) -> str:
    """The outbox lane of a worker's instructions; an address's checksum is worth remembering."""
    return sessions.lane_of(worker)


@lru_cache(maxsize=1000)
def _mark_of(worker: WorkerAddress) -> str:
    return f"received:{worker}"


T = TypeVar("T")


def finished(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never has to wait."""
    try:
        work.send(None)
    except StopIteration as result:
        value: T = result.value
        return value
    raise InvariantBroken("a coroutine of the simulation waited")


def facts(pool: Pool) -> object:
    """All that a pool knows, its derived lines included, whatever stale entries its heaps hold."""
    supply = pool.supply
    return (
        pool.now,
        pool.deals,
        list(pool.tasks.items()),
        list(pool.workers.items()),
        supply.needy,
        {tag: list(group) for tag, group in supply.free.items()},
        pool.ended,
        pool.kept_of_deal,
        pool.rules,
        pool.words,
    )


def new_ledger(name: Hash32) -> Disk[PoolEvent, Effect]:
    """An empty disk for a scheduler."""
    return Disk(name=name)
