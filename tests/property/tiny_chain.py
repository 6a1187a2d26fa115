"""A chain small enough to read: only what moves a task, with the contract's own rules from `poco`.

Money, orders and signatures are left out; `poolwright.poco.model` has them. A refused call raises Refused and
changes nothing. Logs are the scheduler's events, in the order of the chain.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from factories import chain_ref, task_of
from poolwright.poco import deadlines
from poolwright.poco.consensus import Consensus
from poolwright.poco.results import result_hash
from poolwright.poco.types import Hash32, TaskId, Timestamp, WorkerAddress
from poolwright.scheduler import events
from poolwright.scheduler.effects import Submission, Submit
from poolwright.scheduler.events import DealTerms
from poolwright.scheduler.task import Phase


class Refused(Exception):
    """The contract reverts."""


def require(condition: bool, reason: str) -> None:
    if not condition:
        raise Refused(reason)


@dataclass(kw_only=True)
class ChainTask:
    deal: DealTerms
    phase: Phase = Phase.RECEIVED
    consensus: Hash32 | None = None
    reveal_deadline: int = 0
    tally: Consensus = field(default_factory=Consensus)
    contributions: dict[WorkerAddress, Hash32] = field(default_factory=dict)
    rejected: set[WorkerAddress] = field(default_factory=set)
    revealed: set[WorkerAddress] = field(default_factory=set)

    @property
    def winners(self) -> set[WorkerAddress]:
        won = {worker for worker, result in self.contributions.items() if result == self.consensus}
        return won - self.rejected

    @property
    def contribution_deadline(self) -> int:
        return deadlines.contribution_deadline(self.deal.start_time, self.deal.timeref)

    @property
    def final_deadline(self) -> int:
        return deadlines.final_deadline(self.deal.start_time, self.deal.timeref)


@dataclass(kw_only=True)
class TinyChain:
    now: int
    block: int = 1
    txs: int = 0
    tasks: dict[TaskId, ChainTask] = field(default_factory=dict)
    #: Written and not yet told to the scheduler.
    logs: deque[events.PoolEvent] = field(default_factory=deque)

    def pass_time(self, seconds: int) -> None:
        self.now += seconds
        self.block += 1

    def match(self, deal: DealTerms) -> None:
        for index in range(deal.bot_first, deal.bot_first + deal.bot_size):
            self.tasks[task_of(deal, index)] = ChainTask(deal=deal)
        self.logs.append(events.ChainDealMatched(at=self._at, terms=deal, ref=self._tx()))

    def contribute(self, task_id: TaskId, worker: WorkerAddress, digest: Hash32, weight: int) -> None:
        task = self.tasks[task_id]
        require(task.phase is Phase.ACTIVE, "not active")
        require(self.now < task.contribution_deadline, "after the contribution deadline")
        require(worker not in task.contributions, "contributed before")
        result = result_hash(task_id, digest)
        task.contributions[worker] = result
        task.tally = task.tally.add(result, weight)
        ref = self._tx()
        self.logs.append(
            events.ChainTaskContributed(
                at=self._at, task_id=task_id, worker=worker, result_hash=result, weight=weight, ref=ref
            )
        )
        if task.tally.is_reached(result, task.deal.trust):
            task.phase, task.consensus, task.revealed = Phase.REVEALING, result, set()
            task.reveal_deadline = deadlines.reveal_deadline(self._at, task.deal.timeref)
            self.logs.append(
                events.ChainTaskConsensusReached(
                    at=self._at,
                    task_id=task_id,
                    consensus=result,
                    reveal_deadline=Timestamp(task.reveal_deadline),
                    ref=ref,
                )
            )

    def contribute_and_finalize(
        self, task_id: TaskId, worker: WorkerAddress, digest: Hash32, weight: int, results: bytes
    ) -> None:
        task = self.tasks[task_id]
        require(task.phase is Phase.ACTIVE, "not active")
        require(self.now < task.contribution_deadline, "after the contribution deadline")
        require(not task.contributions, "somebody contributed before")
        require(task.deal.trust <= 1, "more than trust 1")
        result = result_hash(task_id, digest)
        task.contributions[worker], task.consensus, task.phase = result, result, Phase.COMPLETED
        self.logs.append(
            events.ChainTaskContributedAndFinalized(
                at=self._at,
                task_id=task_id,
                worker=worker,
                result_hash=result,
                weight=weight,
                results=results,
                ref=self._tx(),
            )
        )

    def can_reveal(self, task_id: TaskId, worker: WorkerAddress, digest: Hash32) -> bool:
        task = self.tasks[task_id]
        return (
            task.phase is Phase.REVEALING
            and self.now < task.reveal_deadline
            and worker in task.winners - task.revealed
            and task.consensus == result_hash(task_id, digest)
        )

    def reveal(self, task_id: TaskId, worker: WorkerAddress, digest: Hash32) -> None:
        require(self.can_reveal(task_id, worker, digest), "cannot reveal")
        self.tasks[task_id].revealed.add(worker)
        self.logs.append(
            events.ChainTaskRevealed(
                at=self._at, task_id=task_id, worker=worker, digest=digest, ref=self._tx()
            )
        )

    def submit(self, submit: Submit) -> None:
        task_id, task = submit.task_id, self.tasks[submit.task_id]
        match submit.submission:
            case Submission.INITIALIZE:
                self._initialize(task_id, task, self._tx())
            case Submission.INITIALIZE_AND_CLAIM:
                require(
                    task.phase is Phase.RECEIVED and self.now >= task.final_deadline, "too early or known"
                )
                ref = self._tx()
                self._initialize(task_id, task, ref)
                self._claim(task_id, task, ref)
            case Submission.CLAIM:
                self._claim(task_id, task, self._tx())
            case Submission.REOPEN:
                self._reopen(task_id, task)
            case Submission.FINALIZE:
                self._finalize(task_id, task, submit.results.encode())

    def _initialize(self, task_id: TaskId, task: ChainTask, ref: events.ChainRef) -> None:
        require(task.phase is Phase.RECEIVED, "initialized before")
        task.phase = Phase.ACTIVE
        self.logs.append(events.ChainTaskInitialized(at=self._at, task_id=task_id, ref=ref))

    def _claim(self, task_id: TaskId, task: ChainTask, ref: events.ChainRef) -> None:
        require(task.phase in (Phase.ACTIVE, Phase.REVEALING), "not open")
        require(self.now >= task.final_deadline, "before the final deadline")
        task.phase = Phase.FAILED
        self.logs.append(events.ChainTaskClaimed(at=self._at, task_id=task_id, ref=ref))

    def _reopen(self, task_id: TaskId, task: ChainTask) -> None:
        require(task.phase is Phase.REVEALING and not task.revealed, "nothing to reopen")
        require(task.reveal_deadline <= self.now < task.final_deadline, "not the time")
        assert task.consensus is not None
        task.rejected |= task.winners
        task.tally = task.tally.drop(task.consensus)
        task.phase, task.consensus = Phase.ACTIVE, None
        self.logs.append(events.ChainTaskReopened(at=self._at, task_id=task_id, ref=self._tx()))

    def _finalize(self, task_id: TaskId, task: ChainTask, results: bytes) -> None:
        require(task.phase is Phase.REVEALING and self.now < task.final_deadline, "not the time")
        is_late = self.now >= task.reveal_deadline
        require(
            task.revealed == task.winners or (bool(task.revealed) and is_late), "somebody may still reveal"
        )
        task.phase = Phase.COMPLETED
        self.logs.append(
            events.ChainTaskFinalized(at=self._at, task_id=task_id, results=results, ref=self._tx())
        )

    @property
    def _at(self) -> Timestamp:
        return Timestamp(self.now)

    def _tx(self) -> events.ChainRef:
        self.txs += 1
        return chain_ref(self.block, f"transaction {self.txs}")
