"""The scheduler's mind and many worker minds against a small chain, in any order of what can happen.

Hypothesis draws deals, connections, losses, deliveries, failures and the passing of time; workers are right,
wrong or reluctant, and lose their memory. After every step the pool's invariants hold. At the end everything
pending is carried out and time passes: then every task is COMPLETED or FAILED, as the chain says, a snapshot
equals the live state, and the recorded events give the same state and effects once more.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tiny_chain import Refused, TinyChain

import factories as f
from poolwright.devnet.simulation.pool import facts
from poolwright.poco.types import BlockNumber, Hash32, TaskId, Timestamp, WorkerAddress
from poolwright.scheduler import effects as asks
from poolwright.scheduler import events, invariants, policy
from poolwright.scheduler import pool as pools
from poolwright.scheduler.pool import Pool, Worker
from poolwright.scheduler.task import Phase, Task
from poolwright.wire import codec
from poolwright.wire.messages import Abort, Complete, Instruction, Reveal, Upload
from poolwright.wire.statuses import ReplicateStatus
from poolwright.worker import attempts as minds
from poolwright.worker import effects as deeds
from poolwright.worker import events as news
from poolwright.worker.attempts import Attempts

S = ReplicateStatus
NAMES = ("alice", "bob", "carol", "dave", "eve", "frank")
WEIGHTS = (2, 2, 3, 2, 5, 2)
KEPT_ENDED = 3
MAX_ROUNDS = 400


@dataclass(kw_only=True)
class SimWorker:
    """One worker: its mind, what it has yet to do and to say, and its habits."""

    address: WorkerAddress
    weight: int
    digest: Hash32 = f.DIGEST
    is_reluctant: bool = False
    """Fails every third thing it does."""
    deeds_done: int = 0
    journal: int = 0
    mind: Attempts = field(default_factory=Attempts)
    inbox: deque[Instruction] = field(default_factory=deque)
    todo: deque[deeds.Effect] = field(default_factory=deque)
    outbox: deque[deeds.Report] = field(default_factory=deque)

    def hear(self, event: news.Event) -> None:
        for effect in minds.step(self.mind, event).effects:
            if isinstance(effect, deeds.Report):
                self.outbox.append(effect)
            else:
                self.todo.append(effect)

    def forget(self) -> None:
        """Its disk was replaced; what was on its way to it still comes."""
        self.mind, self.journal = Attempts(), self.journal + 1
        self.todo.clear()
        self.outbox.clear()


def wish(submit: asks.Submit) -> tuple[TaskId, asks.Submission]:
    return submit.task_id, submit.submission


def instruction(effect: asks.TellWorker) -> Instruction:
    match effect:
        case asks.TellWorkerStart():
            return replace(f.start(effect.task_id), contribute_and_finalize=effect.contribute_and_finalize)
        case asks.TellWorkerReveal(block=block, deadline=deadline):
            return Reveal(task_id=effect.task_id, block=block, deadline=deadline)
        case asks.TellWorkerUpload():
            return Upload(task_id=effect.task_id)
        case asks.TellWorkerComplete():
            return Complete(task_id=effect.task_id)
        case asks.TellWorkerAbort(cause=cause):
            return Abort(task_id=effect.task_id, cause=cause)


@dataclass(frozen=True)
class Snapshot:
    now: Timestamp
    tasks: tuple[Task, ...]
    workers: tuple[Worker, ...]


def reloaded(pool: Pool) -> Pool:
    """The pool after a trip through its stored form."""
    snapshot = Snapshot(pool.now, tuple(pool.tasks.values()), tuple(pool.workers.values()))
    read = codec.decode(Snapshot, codec.encode(snapshot))
    return pools.restored(
        read.now,
        read.tasks,
        read.workers,
        kept_ended=KEPT_ENDED,
        rules=pool.rules,
        words=pool.words,
        owners=pool.owners,
    )


def check_spread(pool: Pool, given: asks.TellWorkerStart) -> None:
    """Whoever got a task in which its owner has another worker was the only choice."""
    task = pool.tasks[given.task_id]
    others = tuple(replicate for replicate in task.replicates if replicate.worker != given.worker)
    if policy.has_owner_in(replace(task, replicates=others), given.worker, pool.owners):
        better = [
            worker.address
            for worker in pool.workers.values()
            if worker.free_slots
            and policy.may_take(worker, task)
            and not policy.has_owner_in(task, worker.address, pool.owners)
        ]
        assert not better, f"{given.worker} was given {given.task_id}, not one of {better}"


class PoolMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.pool = Pool(kept_ended=KEPT_ENDED)
        self.chain = TinyChain(now=f.START)
        self.workers = {
            f.worker_address(name): SimWorker(address=f.worker_address(name), weight=weight)
            for name, weight in zip(NAMES, WEIGHTS, strict=True)
        }
        self.told: list[events.PoolEvent] = []
        self.asked: list[asks.Effect] = []
        self.txs: list[asks.Submit] = []
        self.verifications: list[asks.VerifyUpload] = []
        self.stored: set[tuple[TaskId, WorkerAddress]] = set()
        self.outcomes: dict[TaskId, Phase] = {}
        self.is_calm = False

    # The loop --------------------------------------------------------------------------------------

    def tell(self, event: events.PoolEvent) -> None:
        self.told.append(event)
        effects = pools.step(self.pool, event).effects
        invariants.check(self.pool)
        for effect in effects:
            self.asked.append(effect)
            match effect:
                case asks.Submit():
                    same = [tx for tx in self.txs if wish(tx) == wish(effect)]
                    assert not same, f"{effect.submission} asked for twice"
                    self.txs.append(effect)
                case asks.VerifyUpload():
                    self.verifications.append(effect)
                case _:
                    if isinstance(effect, asks.TellWorkerStart):
                        check_spread(self.pool, effect)
                    self.workers[effect.worker].inbox.append(instruction(effect))
        for task in self.pool.tasks.values():
            if task.is_ended:
                self.outcomes[task.id] = task.phase

    @property
    def now(self) -> Timestamp:
        return Timestamp(self.chain.now)

    def follow_chain(self) -> None:
        while self.chain.logs:
            self.tell(self.chain.logs.popleft())

    # What happens ----------------------------------------------------------------------------------

    @initialize(
        wrong=st.sets(st.sampled_from(NAMES), max_size=2),
        reluctant=st.sets(st.sampled_from(NAMES), max_size=3),
    )
    def choose_habits(self, wrong: set[str], reluctant: set[str]) -> None:
        for name in wrong:
            self.workers[f.worker_address(name)].digest = f.WRONG_DIGEST
        for name in reluctant:
            self.workers[f.worker_address(name)].is_reluctant = True

    @precondition(lambda self: len(self.chain.tasks) < 8)
    @rule(
        trust=st.sampled_from((1, 1, 2, 3, 5)),
        bot_size=st.integers(1, 3),
        age=st.sampled_from((0, 0, 0, 0, 1500, 2500, 4000)),
    )
    def deal(self, trust: int, bot_size: int, age: int) -> None:
        name = f"deal {len(self.chain.tasks)}"
        start = Timestamp(self.chain.now - age)
        self.chain.match(f.deal_terms(name, trust=trust, bot_size=bot_size, start=start))

    @rule(name=st.sampled_from(NAMES), slots=st.integers(0, 3), forgets=st.sampled_from((False, False, True)))
    def connect(self, name: str, slots: int, forgets: bool) -> None:
        worker = self.workers[f.worker_address(name)]
        if forgets:
            worker.forget()
        self.tell(
            f.connected(
                worker.address,
                at=self.now,
                slots=slots,
                weight=worker.weight,
                journal=f"{name} {worker.journal}",
            )
        )

    @precondition(lambda self: self.pool.workers)
    @rule(name=st.sampled_from(NAMES))
    def fall_silent(self, name: str) -> None:
        self.tell(f.silent(f.worker_address(name), at=self.now))

    @rule(count=st.integers(1, 4))
    def read_logs(self, count: int) -> None:
        for _ in range(min(count, len(self.chain.logs))):
            self.tell(self.chain.logs.popleft())

    @precondition(lambda self: self.pool.workers)
    @rule(name=st.sampled_from(NAMES), is_resumed=st.booleans())
    def drain_or_resume(self, name: str, is_resumed: bool) -> None:
        said = events.OperatorResumedWorker if is_resumed else events.OperatorDrainedWorker
        self.tell(said(at=self.now, worker=f.worker_address(name)))

    @rule(name=st.sampled_from(NAMES), is_allowed=st.sampled_from((True, True, False)))
    def allow_or_bar(self, name: str, is_allowed: bool) -> None:
        worker = f.worker_address(name)
        self.tell(events.OperatorAllowedWorker(at=self.now, worker=worker, is_allowed=is_allowed))

    @rule(name=st.sampled_from(NAMES), owner=st.sampled_from(("", "a house", "a house", "a lab")))
    def name_owner(self, name: str, owner: str) -> None:
        self.tell(events.OperatorNamedOwner(at=self.now, worker=f.worker_address(name), owner=owner))

    @rule(name=st.sampled_from(NAMES), count=st.integers(1, 12), doubled=st.booleans())
    def let_work(self, name: str, count: int, doubled: bool) -> None:
        for _ in range(count):
            self.work(self.workers[f.worker_address(name)], doubled=doubled)

    @rule(rounds=st.integers(1, 25))
    def let_all_work(self, rounds: int) -> None:
        """For a while everything goes on as it should."""
        for _ in range(rounds):
            self.follow_chain()
            for tx in list(self.txs):
                self.resolve(tx)
            for asked in list(self.verifications):
                self.look_up(asked)
            for worker in self.workers.values():
                self.work(worker)

    @precondition(lambda self: self.txs)
    @rule(choice=st.integers(0, 20), is_lost=st.sampled_from((False, False, False, True)))
    def mine(self, choice: int, is_lost: bool) -> None:
        self.resolve(self.txs[choice % len(self.txs)], is_lost=is_lost)

    @precondition(lambda self: self.verifications)
    @rule(choice=st.integers(0, 20), is_lost=st.sampled_from((False, False, True)))
    def verify(self, choice: int, is_lost: bool) -> None:
        self.look_up(self.verifications[choice % len(self.verifications)], is_lost=is_lost)

    @rule(seconds=st.sampled_from((1, 1, 5, 5, 30, 60, 120, 121, 300, 600, 1500)))
    def pass_time(self, seconds: int) -> None:
        self.follow_chain()
        self.chain.pass_time(seconds)
        self.tell(f.tick(self.chain.now))
        due = pools.next_deadline(self.pool)
        assert due is None or due > self.pool.now, "the tick left its deadline due"

    @precondition(lambda self: self.chain.tasks)
    @rule(choice=st.integers(0, 20), name=st.sampled_from(NAMES))
    def contribute_unasked(self, choice: int, name: str) -> None:
        """Anybody with an authorization of ours may contribute, whatever this store remembers."""
        worker = self.workers[f.worker_address(name)]
        try:
            self.chain.contribute(self.any_task(choice), worker.address, worker.digest, worker.weight)
        except Refused:
            return

    @precondition(lambda self: self.chain.tasks)
    @rule(choice=st.integers(0, 20), name=st.sampled_from(NAMES), status=st.sampled_from(list(S)))
    def report_nonsense(self, choice: int, name: str, status: ReplicateStatus) -> None:
        worker = f.worker_address(name)
        if worker in self.pool.workers:
            self.tell(f.reported(self.any_task(choice), worker, status, at=self.now))

    @precondition(lambda self: self.told)
    @rule(choice=st.integers(0, 200))
    def repeat(self, choice: int) -> None:
        """A log or a failure comes a second time."""
        event = self.told[choice % len(self.told)]
        if isinstance(event, events.ChainDealMatched) and event.terms.deal_id not in self.pool.deals:
            return  # forgotten with its last task; that no log comes twice is the cursor's duty
        if isinstance(event, events.SubmissionFailed) or type(event).__name__.startswith("Chain"):
            self.tell(event)

    @rule()
    def restart(self) -> None:
        again = reloaded(self.pool)
        invariants.check(again)
        assert facts(again) == facts(self.pool)
        self.pool = again

    @invariant()
    def phases_are_the_chains(self) -> None:
        if self.chain.logs:
            return
        for task in self.pool.tasks.values():
            assert task.phase is self.chain.tasks[task.id].phase

    # How it is carried out -------------------------------------------------------------------------

    def any_task(self, choice: int) -> TaskId:
        known = list(self.chain.tasks)
        return known[choice % len(known)]

    def resolve(self, tx: asks.Submit, *, is_lost: bool = False) -> None:
        self.txs.remove(tx)
        try:
            if is_lost:
                raise Refused("dropped")
            self.chain.submit(tx)
        except Refused:
            self.tell(f.submission_failed(tx.task_id, tx.submission, self.chain.now, tx.attempt))

    def look_up(self, asked: asks.VerifyUpload, *, is_lost: bool = False) -> None:
        self.verifications.remove(asked)
        if is_lost:
            self.stored.discard((asked.task_id, asked.worker))
        is_there = (asked.task_id, asked.worker) in self.stored
        answer = f.upload_verified if is_there else f.upload_missing
        self.tell(answer(asked.task_id, asked.worker, at=self.chain.now))

    def work(self, worker: SimWorker, *, doubled: bool = False) -> bool:
        """Let a worker do one thing: what it has to say, what it is told, what it has to do."""
        if worker.outbox and self.is_connected(worker):
            report = worker.outbox.popleft()
            event = f.reported(
                report.task_id, worker.address, report.status, at=self.now, details=report.details
            )
            for _ in range(1 + doubled):
                self.tell(event)
        elif worker.inbox and self.is_connected(worker):
            told = news.SchedulerInstructed(at=self.now, instruction=worker.inbox.popleft())
            for _ in range(1 + doubled):
                worker.hear(told)
        elif worker.todo:
            worker.hear(self.done(worker, worker.todo.popleft()))
        else:
            return False
        return True

    def is_connected(self, worker: SimWorker) -> bool:
        return worker.address in self.pool.workers

    def done(self, worker: SimWorker, deed: deeds.Effect) -> news.Event:
        at, task_id = self.now, deed.task_id
        worker.deeds_done += 1
        fails = worker.is_reluctant and worker.deeds_done % 3 == 0
        match deed:
            case deeds.DescribeTask(start=start):
                at_once = start.contribute_and_finalize
                its = replace(f.terms(), contribute_and_finalize=at_once)
                return news.TaskDescribed(at=at, task_id=task_id, terms=its)
            case deeds.DeliverResult():
                if fails:
                    return news.ResultUploadFailed(at=at, task_id=task_id, message="no room")
                return news.ResultUploaded(at=at, task_id=task_id, link=f.LINK, bytes_count=1)
            case deeds.DownloadApp():
                if fails:
                    return news.AppDownloadFailed(at=at, task_id=task_id, cause="X", message="gone")
                return news.AppDownloaded(at=at, task_id=task_id)
            case deeds.DownloadData():
                if fails:
                    return news.DataDownloadFailed(at=at, task_id=task_id, cause="X", message="gone")
                return news.DataDownloaded(at=at, task_id=task_id)
            case deeds.Compute():
                result = news.Result(digest=worker.digest)
                if fails:
                    return news.AppComputeFailed(
                        at=at, task_id=task_id, cause="X", message="crash", exit_code=1, milliseconds=1
                    )
                return news.AppComputed(at=at, task_id=task_id, result=result, exit_code=0, milliseconds=1)
            case deeds.DescribeFailure():
                return news.FailureDescribed(at=at, task_id=task_id, result=news.Result(digest=f.DIGEST))
            case deeds.CheckContribution(is_delivered=is_delivered):
                return news.ContributionChecked(
                    at=at,
                    task_id=task_id,
                    verdict=self.verdict(worker, task_id, fails=fails),
                    contribute_and_finalize=is_delivered and not self.chain.tasks[task_id].contributions,
                )
            case deeds.SubmitContributeAndFinalize(digest=digest, link=link):
                try:
                    if fails:
                        raise Refused("out of luck")
                    self.chain.contribute_and_finalize(
                        task_id, worker.address, digest, worker.weight, link.encode()
                    )
                except Refused as problem:
                    return news.ContributionFailed(
                        at=at, task_id=task_id, status=S.CONTRIBUTE_FAILED, message=str(problem)
                    )
                return news.ContributionMined(at=at, task_id=task_id, tx_hash=None, block=BlockNumber(1))
            case deeds.SubmitContribute(digest=digest):
                try:
                    if fails:
                        raise Refused("out of luck")
                    self.chain.contribute(task_id, worker.address, digest, worker.weight)
                except Refused as problem:
                    return news.ContributionFailed(
                        at=at, task_id=task_id, status=S.CONTRIBUTE_FAILED, message=str(problem)
                    )
                return news.ContributionMined(at=at, task_id=task_id, tx_hash=None, block=BlockNumber(1))
            case deeds.CheckReveal(digest=digest):
                can_reveal = self.chain.can_reveal(task_id, worker.address, digest) and not fails
                return news.RevealChecked(at=at, task_id=task_id, can_reveal=can_reveal)
            case deeds.SubmitReveal(digest=digest):
                try:
                    self.chain.reveal(task_id, worker.address, digest)
                except Refused as problem:
                    return news.RevealFailed(
                        at=at, task_id=task_id, status=S.REVEAL_FAILED, message=str(problem)
                    )
                return news.RevealMined(at=at, task_id=task_id, tx_hash=None, block=None)
            case deeds.UploadResult():
                if fails:
                    return news.ResultUploadFailed(at=at, task_id=task_id, message="no room")
                self.stored.add((task_id, worker.address))
                return news.ResultUploaded(at=at, task_id=task_id, link=f.LINK, bytes_count=1)
            case deeds.Purge():
                return news.TaskPurged(at=at, task_id=task_id)
            case _:
                raise AssertionError(deed)

    def verdict(self, worker: SimWorker, task_id: TaskId, *, fails: bool) -> ReplicateStatus:
        task = self.chain.tasks[task_id]
        if fails:
            return S.CANT_CONTRIBUTE_SINCE_STAKE_TOO_LOW if worker.deeds_done % 2 else S.OUT_OF_GAS
        if worker.address in task.contributions:
            return S.CANT_CONTRIBUTE_SINCE_CONTRIBUTION_ALREADY_SET
        if task.phase is not Phase.ACTIVE:
            return S.CANT_CONTRIBUTE_SINCE_TASK_NOT_ACTIVE
        if self.chain.now >= task.contribution_deadline:
            return S.CANT_CONTRIBUTE_SINCE_AFTER_DEADLINE
        return S.CAN_CONTRIBUTE

    # The end ---------------------------------------------------------------------------------------

    def teardown(self) -> None:
        self.come_to_an_end()
        for task_id in self.chain.tasks:
            assert self.outcomes.get(task_id) is self.chain.tasks[task_id].phase
        assert len(self.pool.tasks) <= KEPT_ENDED
        for worker in self.pool.workers.values():
            assert not worker.computing, "a slot is held though nothing is left to do"
        assert facts(reloaded(self.pool)) == facts(self.pool)
        self.replay()

    def come_to_an_end(self) -> None:
        for _ in range(MAX_ROUNDS):
            self.follow_chain()
            if self.txs:
                self.resolve(self.txs[0])
            elif self.verifications:
                self.look_up(self.verifications[0])
            elif not self.all_work():
                due = pools.next_deadline(self.pool)
                if due is None:
                    break
                self.chain.pass_time(max(due - self.chain.now, 1))
                self.tell(f.tick(self.chain.now))
        else:
            raise AssertionError("there is always something more to do")

    def all_work(self) -> bool:
        worked = [self.work(worker) for worker in self.workers.values()]
        return any(worked)

    def replay(self) -> None:
        pool, asked = Pool(kept_ended=KEPT_ENDED), []
        for event in self.told:
            asked += pools.step(pool, event).effects
        assert facts(pool) == facts(self.pool)
        assert asked == self.asked


TestPool = PoolMachine.TestCase
TestPool.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
