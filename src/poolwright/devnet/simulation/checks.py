"""What must hold: after each step, after each block, and at the end (field notes C3, I1 to I10).

After each step     every task that the event touched has ended, waits for a transaction or has something to
                    wake up for (I3); a fact is one of a confirmed block (I6); now and then the pool's rules
After each block    of what is newly confirmed: at most one contribution, reveal and payment of each worker
                    and one end of each task (I1), each contribution in time and asked for (I2); the money
                    (I10); containers are gone a minute after their task (I9)
At each restart     what is restored is what was accepted (I5), see `process`
At the end          every task of every deal has ended, here as on the chain (I3, I6), slots are free,
                    containers gone (I9), every transaction is through and nonces have no gap (I7)

Each message        the pool owner's key is not in it, and an authorization is for its receiver (I4)
Each limit          fees of what may wait stay below the limit per hour; who is held gets no work

The market's orders (I8) are in `market_checks`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from poolwright.chain.budget import HOUR_SECONDS, MINUTE_SECONDS, Priority
from poolwright.devnet.simulation.chain import CONFIRMATIONS, Block, Chain, Tx
from poolwright.devnet.simulation.pool import SchedulerProcess
from poolwright.devnet.simulation.story import Story
from poolwright.devnet.simulation.worker import WorkerProcess
from poolwright.poco import events as hub_events
from poolwright.poco import ids
from poolwright.poco.deadlines import contribution_deadline
from poolwright.poco.events import decode_log
from poolwright.poco.records import TaskStatus
from poolwright.poco.types import Address, NRlc, TaskId, Timestamp, WorkerAddress
from poolwright.scheduler import invariants
from poolwright.scheduler.effects import Effect, TellWorkerStart
from poolwright.scheduler.events import (
    ChainTaskContributed,
    ChainTaskContributedAndFinalized,
    ChainTaskRevealed,
    PoolEvent,
    Tick,
    WorkerConnected,
    WorkerReported,
    WorkerWentSilent,
)
from poolwright.scheduler.pool import Pool
from poolwright.scheduler.task import Phase, Task, next_deadline
from poolwright.wire import codec
from poolwright.wire.messages import Instruction, Start
from poolwright.wire.statuses import Mover, ReplicateStatus, is_legal
from poolwright.worker.attempt import Stage

FULL_EVERY: Final = 100
"""Fewest steps between two checks of the whole pool."""
STEPS_A_TASK: Final = 10
"""More steps between them for each task that the pool keeps: what a check costs grows with them."""
CONTAINER_SECONDS: Final = 60
"""Longest time that a container may stand after its attempt has ended, on a worker that runs."""

FEE_SECONDS: Final = HOUR_SECONDS - MINUTE_SECONDS
"""The span for which the limit per hour is exact: fees are kept by the minute."""

_ENDS: Final = (hub_events.TaskFinalize, hub_events.TaskClaimed)
_PHASES: Final = {
    TaskStatus.UNSET: Phase.RECEIVED,
    TaskStatus.ACTIVE: Phase.ACTIVE,
    TaskStatus.REVEALING: Phase.REVEALING,
    TaskStatus.COMPLETED: Phase.COMPLETED,
    TaskStatus.FAILED: Phase.FAILED,
}


class Checks:
    """Watches a world; raises AssertionError or InvariantBroken with what does not hold."""

    def __init__(
        self,
        chain: Chain,
        scheduler: SchedulerProcess,
        crew: Sequence[WorkerProcess],
        story: Story,
        supply: NRlc,
        *,
        secret: bytes,
    ) -> None:
        self._chain = chain
        self._scheduler = scheduler
        self._crew = crew
        self._pool_owner = chain.poco.workerpool(scheduler.workerpool).owner
        self._processes: tuple[SchedulerProcess | WorkerProcess, ...] = (scheduler, *crew)
        self._story = story
        self._supply = supply
        self._secret = secret.hex()
        self._steps = 0
        self._full_at = FULL_EVERY
        self._known: dict[TaskId, Task] = {}
        """Tasks as they were last looked at: what has not changed need not be looked at again."""
        self._seen: dict[tuple[TaskId, WorkerAddress], int] = {}
        """How much of each replicate's life has been counted."""
        self._asked: set[tuple[TaskId, Address]] = set()
        """Who was ever handed which task."""
        self._audited = 0
        """Up to which block the chain's facts have been looked at."""
        self._counts: Counter[tuple[str, TaskId, Address]] = Counter()
        self._deadlines: dict[TaskId, Timestamp] = {}
        self._fees: deque[tuple[Timestamp, int]] = deque()
        """What ordinary transactions of the scheduler have cost within the hour."""
        self._leftovers: dict[tuple[str, TaskId], int] = {}
        """Containers without an attempt, and since when."""

    def forget(self) -> None:
        """The scheduler has lost its disk: what it will know of replicates begins again."""
        self._seen.clear()
        self._known.clear()
        self._fees.clear()

    # --- after each step ----------------------------------------------------------------------------------

    def after_step(self, pool: Pool, event: PoolEvent, effects: Sequence[Effect]) -> None:
        self._steps += 1
        self._asked.update((one.task_id, one.worker) for one in effects if isinstance(one, TellWorkerStart))
        self._check_fact(event)
        self._check_held(pool, effects)
        for task in self._touched(pool, event):
            self._count_moves(task, event)
            is_awaited = task.is_ended or task.in_flight is not None or task.setback is not None
            if not is_awaited and next_deadline(task) is None:
                raise AssertionError(f"task {task.id}: has not ended, and nothing will ever wake it up")
        if self._steps >= self._full_at:
            self._full_at = self._steps + FULL_EVERY + STEPS_A_TASK * len(pool.tasks)
            invariants.check(pool)

    def _check_fact(self, event: PoolEvent) -> None:
        """I6: what the mind is told of the chain stands in a confirmed block."""
        ref = getattr(event, "ref", None)
        if ref is None:
            return
        blocks = self._chain.blocks
        if ref.block > len(blocks) - CONFIRMATIONS:
            raise AssertionError(f"{event}: block {ref.block} is not confirmed")
        if all(tx.tx_hash != ref.tx_hash for tx in blocks[ref.block - 1].txs):
            raise AssertionError(f"{event}: no such transaction in block {ref.block}")

    def _check_held(self, pool: Pool, effects: Sequence[Effect]) -> None:
        """Who is drained, barred or in quarantine gets no new work."""
        for effect in effects:
            if isinstance(effect, TellWorkerStart) and pool.workers[effect.worker].standing.is_held:
                raise AssertionError(f"task {effect.task_id}: {effect.worker} is held and gets new work")

    def _touched(self, pool: Pool, event: PoolEvent) -> Iterator[Task]:
        """The tasks that an event has moved, of those that it can have moved."""
        task_id: TaskId | None = getattr(event, "task_id", None)
        if task_id is not None:
            tasks: Iterable[Task | None] = (pool.tasks.get(task_id),)
        elif isinstance(event, WorkerConnected | WorkerWentSilent | Tick):
            tasks = pool.tasks.values()
        else:
            tasks = ()
        for task in tasks:
            if task is not None and self._known.get(task.id) is not task:
                self._known[task.id] = task
                yield task

    def _count_moves(self, task: Task, event: PoolEvent) -> None:
        coverage = self._story.coverage
        for replicate in task.replicates:
            life, place = replicate.life, (task.id, replicate.worker)
            known = self._seen.get(place, 0)
            if known == len(life):
                continue
            if known == 0:
                coverage.statuses.add(life[0].status)
                known = 1
            for before, after in zip(life[known - 1 :], life[known:], strict=False):
                coverage.statuses.add(after.status)
                mover = _mover(event, task.id, replicate.worker, before.status, after.status)
                coverage.moves.add((mover, before.status, after.status))
            self._seen[place] = len(life)

    def after_message(self, worker: WorkerAddress, instruction: Instruction) -> None:
        """I4: the pool's key leaves in no message, and an authorization goes to whom it is for alone."""
        self._require_no_secret(codec.encode(instruction).decode(), f"an instruction to {worker}")
        if isinstance(instruction, Start) and (instruction.task_id, worker) not in self._asked:
            raise AssertionError(f"task {instruction.task_id}: {worker} is given another one's authorization")

    def _require_no_secret(self, text: str, where: str) -> None:
        if self._secret in text.lower():
            raise AssertionError(f"the workerpool owner's key stands in {where}")

    # --- after each block ---------------------------------------------------------------------------------

    def after_block(self) -> None:
        if self._chain.blocks[-1].logs:
            self._check_money()
        confirmed = len(self._chain.blocks) - CONFIRMATIONS
        for block in self._chain.blocks[self._audited : max(confirmed, 0)]:
            for log in block.logs:
                event = decode_log(log)
                if event is not None:
                    self._audit(event, block.stamp.timestamp)
            self._check_fees(block)
        self._audited = max(confirmed, 0)
        self._check_containers()

    def _audit(self, event: hub_events.HubEvent, at: Timestamp) -> None:
        """I1: nothing happens twice. I2: contributions are in time, by workers that were asked."""
        match event:
            case hub_events.TaskContribute(task_id=task_id, worker=worker):
                self._count("contribution", task_id, worker)
                if (task_id, worker) not in self._asked:
                    raise AssertionError(f"task {task_id}: {worker} contributed and was never asked to")
                if at >= self._deadline_of(task_id):
                    raise AssertionError(f"task {task_id}: {worker} contributed after the deadline")
            case hub_events.TaskReveal(task_id=task_id, worker=worker):
                self._count("reveal", task_id, worker)
            case hub_events.TaskFinalize(task_id=task_id) | hub_events.TaskClaimed(task_id=task_id):
                self._count("end", task_id, Address.zero())
            case hub_events.Reward(owner=paid, ref=ref) if paid != self._pool_owner:
                self._count("payment", TaskId(ref), paid)
            case _:
                pass

    def _check_fees(self, block: Block) -> None:
        """The breaker: what may wait has cost no more in an hour than the operator's limit."""
        journal, limit = self._scheduler.disk.journal, self._scheduler.policy.fees.per_hour
        for tx in block.txs:
            if tx.priority is Priority.ORDINARY and journal.get(tx.key) is tx and tx.data:
                self._fees.append((block.stamp.timestamp, tx.cost))
        while self._fees and self._fees[0][0] <= block.stamp.timestamp - FEE_SECONDS:
            self._fees.popleft()
        spent = sum(cost for _, cost in self._fees)
        if limit is not None and spent > limit:
            raise AssertionError(f"fees: expected at most {limit} wei in an hour, got {spent}")

    def _count(self, what: str, task_id: TaskId, who: Address) -> None:
        self._counts[what, task_id, who] += 1
        if self._counts[what, task_id, who] > 1:
            raise AssertionError(f"task {task_id}: a second {what} of {who}")

    def _deadline_of(self, task_id: TaskId) -> Timestamp:
        found = self._deadlines.get(task_id)
        if found is None:
            poco = self._chain.poco
            deal = poco.deal(poco.task(task_id).deal_id)
            timeref = poco.category(deal.category).timeref
            found = self._deadlines[task_id] = contribution_deadline(deal.start_time, timeref)
        return found

    def _check_containers(self) -> None:
        """I9: a container stands no longer than a minute after its attempt, while its worker runs."""
        present: dict[tuple[str, TaskId], int] = {}
        now = self._chain.now
        for worker in self._crew:
            if not worker.is_up:
                continue
            for task_id in worker.machine.containers:
                attempt = worker.state.by_task.get(task_id)
                is_over = attempt is None or attempt.stage is Stage.PURGING
                if is_over:
                    since = present[worker.name, task_id] = self._leftovers.get((worker.name, task_id), now)
                    if now - since > CONTAINER_SECONDS:
                        raise AssertionError(f"task {task_id}: {worker.name} still has its container")
        self._leftovers = present

    def _check_money(self) -> None:
        """I10: not one nRLC comes or goes, and what is frozen is there."""
        poco = self._chain.poco
        rlc = sum(amount for _, amount in poco.rlc.balances.items())
        escrow = poco.escrow
        free = sum(amount for _, amount in escrow.balances.items())
        frozen = sum(amount for _, amount in escrow.frozen.items())
        if rlc != self._supply:
            raise AssertionError(f"RLC: expected {self._supply} nRLC in all, got {rlc}")
        if free != escrow.supply:
            raise AssertionError(f"stakes: expected {escrow.supply} nRLC in all, got {free}")
        if escrow.balances[poco.hub] != frozen:
            raise AssertionError(f"frozen: expected {frozen} nRLC, the hub has {escrow.balances[poco.hub]}")

    def count(self) -> tuple[int, int, int]:
        """How many tasks the chain has ended, how many of them with a result, how many stakes were lost."""
        logged = [event for _, event in self._events()]
        ends = [event for event in logged if isinstance(event, _ENDS)]
        completed = sum(isinstance(event, hub_events.TaskFinalize) for event in ends)
        return len(ends), completed, sum(isinstance(event, hub_events.FaultyContribution) for event in logged)

    # --- at the end ---------------------------------------------------------------------------------------

    def is_quiet(self) -> bool:
        """Whether nothing is under way any more."""
        return next(self._unrest(), None) is None

    def unrest(self) -> str:
        """What is still under way."""
        return "; ".join(list(self._unrest())[:5])

    def _unrest(self) -> Iterator[str]:
        if not self._scheduler.is_up:
            yield "the scheduler is down"
            return
        waiting = [tx for tx in self._chain.mempool.values() if not self._is_forgotten(tx)]
        if waiting:
            yield f"{len(waiting)} transactions wait to be mined"
        head = self._chain.head.number
        if any(block.logs for block in self._chain.blocks[-CONFIRMATIONS:]):
            yield f"block {head} has news that are not confirmed"
        pool = self._scheduler.state
        for task in pool.tasks.values():
            if not task.is_ended:
                yield f"task {task.id} is {task.phase}"
        lonely = {f"worker:{worker.address}" for worker in self._crew if worker.is_gone}
        for lane, effect in self._scheduler.disk.pending.values():
            if lane not in lonely:
                yield f"scheduler: {effect} is pending"
        for worker in self._crew:
            if worker.is_gone:
                continue
            if not worker.is_connected:
                yield f"{worker.name} is not connected"
            for _, todo in worker.disk.pending.values():
                yield f"{worker.name}: {todo} is pending"

    def _is_forgotten(self, tx: Tx) -> bool:
        """Whether it stands behind a gap and in the journal of a disk that was lost: nobody fills the gap."""
        if tx.nonce is None or tx.nonce == self._chain.nonces.get(tx.sender, 0):
            return False
        return not any(tx is known for each in self._processes for known in each.disk.journal.values())

    def at_the_end(self) -> None:
        """Everything that must hold once nothing is under way."""
        pool = self._scheduler.state
        invariants.check(pool)
        self._check_money()
        self._check_tasks(pool)
        self._check_workers(pool)
        self._check_transactions()
        saved = self._scheduler.disk.snapshot
        if saved is not None:
            self._require_no_secret(saved.decode(), "the scheduler's snapshot")

    def _check_tasks(self, pool: Pool) -> None:
        """I3: every task of every deal has ended, here as on the chain. I6: by facts of this chain only."""
        deals = [
            event.deal_id for _, event in self._events() if isinstance(event, hub_events.SchedulerNotice)
        ]
        poco = self._chain.poco
        mined = {(tx.tx_hash, block.stamp.number) for block in self._chain.blocks for tx in block.txs}
        for deal_id in deals:
            deal = poco.deal(deal_id)
            for index in range(deal.bot_first, deal.bot_first + deal.bot_size):
                task_id = ids.task_id(deal_id, index)
                task = pool.tasks.get(task_id)
                status = poco.task(task_id).status
                if status not in (TaskStatus.COMPLETED, TaskStatus.FAILED):
                    raise AssertionError(f"task {task_id}: expected an end, the chain has it {status.name}")
                if task is None or task.phase is not _PHASES[status]:
                    phase = None if task is None else task.phase
                    raise AssertionError(f"task {task_id}: {status.name} on the chain, {phase} in the pool")
                for fact in task.facts:
                    if (fact.ref.tx_hash, fact.ref.block) not in mined:
                        raise AssertionError(f"task {task_id}: {fact.name} stands in no block of this chain")

    def _check_workers(self, pool: Pool) -> None:
        """Slots are free, attempts forgotten, containers and folders gone (I9)."""
        for worker in self._crew:
            if worker.is_gone or worker.habits.babbles:
                continue  # who says of itself that it has failed is told nothing more
            known = pool.workers[worker.address]
            if known.computing or known.tasks or known.is_silent:
                raise AssertionError(f"{worker.name}: expected it free, the pool has {known}")
            if worker.state.by_task:
                raise AssertionError(f"{worker.name}: still at {list(worker.state.by_task.values())}")
            if worker.machine.containers or worker.machine.folders:
                raise AssertionError(f"{worker.name}: leaves containers or folders behind")

    def _check_transactions(self) -> None:
        """I7: every transaction that was written down is through, and nonces have no gap."""
        for process in self._processes:
            if process.is_gone:
                continue
            nonces = [tx.nonce for tx in process.disk.journal.values()]
            if len(set(nonces)) != len(nonces):
                raise AssertionError(f"{process.name}: two transactions have one nonce")
            for tx in process.disk.journal.values():
                if tx.mined_in is None:
                    raise AssertionError(f"{process.name}: transaction {tx.key} was never mined")

    def _events(self) -> Iterator[tuple[int, hub_events.HubEvent]]:
        for block in self._chain.blocks:
            for log in block.logs:
                event = decode_log(log)
                if event is not None:
                    yield block.stamp.number, event


def _mover(
    event: PoolEvent,
    task_id: TaskId,
    worker: WorkerAddress,
    before: ReplicateStatus,
    after: ReplicateStatus,
) -> Mover:
    """Who made a move, told by the event in whose step it was made."""
    match event:
        case WorkerReported(status=status):
            is_its = event.worker == worker and event.task_id == task_id and status is after
            return Mover.WORKER if is_its and is_legal(Mover.WORKER, before, after) else Mover.POOL
        case ChainTaskContributed() if after is ReplicateStatus.CONTRIBUTED:
            return Mover.CHAIN
        case ChainTaskRevealed() if after is ReplicateStatus.REVEALED:
            return Mover.CHAIN
        case ChainTaskContributedAndFinalized() if after in (
            ReplicateStatus.CONTRIBUTED,
            ReplicateStatus.REVEALED,
        ):
            return Mover.CHAIN
        case _:
            return Mover.POOL
