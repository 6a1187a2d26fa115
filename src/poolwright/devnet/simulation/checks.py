"""What must hold: after each step, after each block, and at the end (field notes C3, I1 to I10)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from poolwright.devnet.simulation.chain import CONFIRMATIONS, Chain, Tx
from poolwright.devnet.simulation.pool import SchedulerProcess
from poolwright.devnet.simulation.story import Story
from poolwright.devnet.simulation.worker import WorkerProcess
from poolwright.poco import events as hub_events
from poolwright.poco import ids
from poolwright.poco.events import decode_log
from poolwright.poco.records import TaskStatus
from poolwright.poco.types import Address, NRlc, TaskId, WorkerAddress
from poolwright.scheduler import invariants
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
from poolwright.scheduler.task import Phase, Task
from poolwright.wire.statuses import Mover, ReplicateStatus, is_legal

FULL_EVERY: Final = 100
"""Steps between two checks of the whole pool."""
MONEY_EVERY: Final = 25
"""Blocks between two checks of all the money."""

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
    ) -> None:
        self._chain = chain
        self._scheduler = scheduler
        self._crew = crew
        self._processes: tuple[SchedulerProcess | WorkerProcess, ...] = (scheduler, *crew)
        self._story = story
        self._supply = supply
        self._steps = 0
        self._seen: dict[tuple[TaskId, WorkerAddress], int] = {}
        """How much of each replicate's life has been counted."""

    def forget(self) -> None:
        """The scheduler has lost its disk: what it will know of replicates begins again."""
        self._seen.clear()

    # --- after each step ----------------------------------------------------------------------------------

    def after_step(self, pool: Pool, event: PoolEvent) -> None:
        self._steps += 1
        for task in self._touched(pool, event):
            self._count_moves(task, event)
        if self._steps % FULL_EVERY == 0:
            invariants.check(pool)

    def _touched(self, pool: Pool, event: PoolEvent) -> Iterator[Task]:
        """The tasks that an event can have moved."""
        match event:
            case WorkerConnected() | WorkerWentSilent() | Tick():
                yield from pool.tasks.values()
            case WorkerReported(task_id=task_id):
                task = pool.tasks.get(task_id)
                if task is not None:
                    yield task
            case _:
                task = pool.tasks.get(getattr(event, "task_id", None))  # type: ignore[arg-type]  # None: a deal
                if task is not None:
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

    # --- after each block ---------------------------------------------------------------------------------

    def after_block(self) -> None:
        if len(self._chain.blocks) % MONEY_EVERY == 0:
            self._check_money()

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
        self._check_payments()
        self._check_transactions()

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

    def _check_payments(self) -> None:
        """I1: nobody contributes, reveals or is paid twice for a task, and a task ends once."""
        counts: Counter[tuple[str, TaskId, Address]] = Counter()
        owner = self._chain.poco.workerpool(self._scheduler.workerpool).owner
        for _, event in self._events():
            match event:
                case hub_events.TaskContribute(task_id=task_id, worker=worker):
                    counts["contribution", task_id, worker] += 1
                case hub_events.TaskReveal(task_id=task_id, worker=worker):
                    counts["reveal", task_id, worker] += 1
                case hub_events.TaskFinalize(task_id=task_id) | hub_events.TaskClaimed(task_id=task_id):
                    counts["end", task_id, Address.zero()] += 1
                case hub_events.Reward(owner=paid, ref=ref) if paid != owner:
                    counts["payment", TaskId(ref), paid] += 1
                case _:
                    pass
        for (what, task_id, who), count in counts.items():
            if count > 1:
                raise AssertionError(f"task {task_id}: {count} times a {what} of {who}")

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
