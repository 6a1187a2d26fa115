"""Builders of deals, tasks, events and workers with sensible defaults and ids that never change.

A test names only what it is about: `contributed(task_id, ALICE)` is a contribution of Alice with the right
result at a moment when that is possible. `replace` changes one thing of what a builder made.
"""

from __future__ import annotations

from collections.abc import Iterable

from poolwright.poco import ids
from poolwright.poco.keccak import keccak
from poolwright.poco.results import result_hash
from poolwright.poco.tags import NO_TAG, Tag
from poolwright.poco.types import (
    Address,
    BlockNumber,
    DealId,
    Hash32,
    NRlc,
    Seconds,
    TaskId,
    Timestamp,
    TxHash,
    WorkerAddress,
)
from poolwright.scheduler import events
from poolwright.scheduler import pool as pools
from poolwright.scheduler import task as tasks
from poolwright.scheduler.effects import Effect, Submission
from poolwright.scheduler.pool import Pool
from poolwright.scheduler.task import Task
from poolwright.wire.messages import Abort, AbortCause, Capacity, Complete, Details, Reveal, Start, Upload
from poolwright.wire.statuses import ReplicateStatus
from poolwright.worker.terms import Terms

START = Timestamp(1_000_000)
TIMEREF = Seconds(300)
CONTRIBUTION_DEADLINE = Timestamp(START + 7 * TIMEREF)
FINAL_DEADLINE = Timestamp(START + 10 * TIMEREF)


def hash32(name: str) -> Hash32:
    """The same 32 bytes for the same name, in every run."""
    return Hash32(keccak(name.encode()))


def address(name: str) -> Address:
    return Address(keccak(name.encode())[:20])


def worker_address(name: str) -> WorkerAddress:
    return WorkerAddress(address(name))


ALICE, BOB, CAROL, DAVE, EVE = (worker_address(name) for name in ("alice", "bob", "carol", "dave", "eve"))
DIGEST = hash32("the right result")
WRONG_DIGEST = hash32("a wrong result")
LINK = "/ipfs/Qm"
TO_COMPUTED = (
    ReplicateStatus.RUNNING,
    ReplicateStatus.APP_DOWNLOADING,
    ReplicateStatus.APP_DOWNLOADED,
    ReplicateStatus.DATA_DOWNLOADING,
    ReplicateStatus.DATA_DOWNLOADED,
    ReplicateStatus.COMPUTING,
    ReplicateStatus.COMPUTED,
)
"""What a worker reports on its way to a result, and then on its way to the chain."""
TO_CONTRIBUTING = (*TO_COMPUTED, ReplicateStatus.CAN_CONTRIBUTE, ReplicateStatus.CONTRIBUTING)


def chain_ref(block: int = 1, tx: str | None = None) -> events.ChainRef:
    return events.ChainRef(block=BlockNumber(block), tx_hash=TxHash(hash32(tx or f"transaction in {block}")))


def deal_terms(
    name: str = "deal",
    *,
    trust: int = 1,
    bot_first: int = 0,
    bot_size: int = 1,
    tag: Tag = NO_TAG,
    start: Timestamp = START,
    timeref: Seconds = TIMEREF,
    has_callback: bool = False,
    oddities: tuple[str, ...] = (),
) -> events.DealTerms:
    return events.DealTerms(
        deal_id=DealId(hash32(name)),
        start_time=start,
        timeref=timeref,
        trust=trust,
        tag=tag,
        bot_first=bot_first,
        bot_size=bot_size,
        requester=address("requester"),
        app=address("app"),
        has_callback=has_callback,
        workerpool_price=NRlc(10**9),
        oddities=oddities,
    )


def capacity(
    name: str = "worker", *, slots: int = 1, gpu: bool = False, tee_frameworks: Iterable[str] = ()
) -> Capacity:
    return Capacity(
        name=name,
        version="0.1.0",
        slots=slots,
        cpus=4,
        memory_gib=8,
        gpu=gpu,
        tee_frameworks=tuple(tee_frameworks),
    )


def task_of(deal: events.DealTerms, index: int = 0) -> TaskId:
    return ids.task_id(deal.deal_id, index)


def hash_of(task_id: TaskId, digest: Hash32 = DIGEST) -> Hash32:
    """What a worker contributes for a result."""
    return result_hash(task_id, digest)


# Events of the scheduler -----------------------------------------------------------------------------------


def deal_matched(deal: events.DealTerms, at: int = START, block: int = 1) -> events.ChainDealMatched:
    return events.ChainDealMatched(at=Timestamp(at), terms=deal, ref=chain_ref(block))


def initialized(
    task_id: TaskId, at: int = START + 1, block: int = 2, *, is_over: bool = False
) -> events.ChainTaskInitialized:
    return events.ChainTaskInitialized(
        at=Timestamp(at), task_id=task_id, ref=chain_ref(block), is_over=is_over
    )


def contributed(
    task_id: TaskId,
    worker: WorkerAddress = ALICE,
    digest: Hash32 = DIGEST,
    *,
    at: int = START + 100,
    weight: int = 2,
    block: int = 10,
) -> events.ChainTaskContributed:
    return events.ChainTaskContributed(
        at=Timestamp(at),
        task_id=task_id,
        worker=worker,
        result_hash=hash_of(task_id, digest),
        weight=weight,
        ref=chain_ref(block, f"contribution of {worker} in {block}"),
    )


def consensus_reached(
    task_id: TaskId, digest: Hash32 = DIGEST, *, at: int = START + 100, block: int = 10
) -> events.ChainTaskConsensusReached:
    return events.ChainTaskConsensusReached(
        at=Timestamp(at),
        task_id=task_id,
        consensus=hash_of(task_id, digest),
        reveal_deadline=Timestamp(at + 2 * TIMEREF),
        ref=chain_ref(block),
    )


def revealed(
    task_id: TaskId, worker: WorkerAddress = ALICE, *, at: int = START + 110, block: int = 11
) -> events.ChainTaskRevealed:
    return events.ChainTaskRevealed(
        at=Timestamp(at),
        task_id=task_id,
        worker=worker,
        digest=DIGEST,
        ref=chain_ref(block, f"reveal of {worker} in {block}"),
    )


def reopened(task_id: TaskId, at: int, block: int = 20) -> events.ChainTaskReopened:
    return events.ChainTaskReopened(at=Timestamp(at), task_id=task_id, ref=chain_ref(block))


def finalized(task_id: TaskId, at: int = START + 130, block: int = 13) -> events.ChainTaskFinalized:
    return events.ChainTaskFinalized(
        at=Timestamp(at), task_id=task_id, results=LINK.encode(), ref=chain_ref(block)
    )


def contributed_and_finalized(
    task_id: TaskId,
    worker: WorkerAddress = ALICE,
    digest: Hash32 = DIGEST,
    *,
    at: int = START + 100,
    block: int = 10,
) -> events.ChainTaskContributedAndFinalized:
    return events.ChainTaskContributedAndFinalized(
        at=Timestamp(at),
        task_id=task_id,
        worker=worker,
        result_hash=hash_of(task_id, digest),
        weight=2,
        results=LINK.encode(),
        ref=chain_ref(block, f"contributeAndFinalize of {worker} in {block}"),
    )


def claimed(task_id: TaskId, at: int = FINAL_DEADLINE + 1, block: int = 90) -> events.ChainTaskClaimed:
    return events.ChainTaskClaimed(at=Timestamp(at), task_id=task_id, ref=chain_ref(block))


def connected(
    worker: WorkerAddress = ALICE,
    *,
    at: int = START,
    slots: int = 1,
    weight: int = 2,
    journal: str = "journal",
    gpu: bool = False,
    tee_frameworks: Iterable[str] = (),
) -> events.WorkerConnected:
    return events.WorkerConnected(
        at=Timestamp(at),
        worker=worker,
        journal=hash32(journal),
        capacity=capacity(slots=slots, gpu=gpu, tee_frameworks=tee_frameworks),
        weight=weight,
    )


def silent(worker: WorkerAddress = ALICE, at: int = START + 60) -> events.WorkerWentSilent:
    return events.WorkerWentSilent(at=Timestamp(at), worker=worker)


def reported(
    task_id: TaskId,
    worker: WorkerAddress,
    status: ReplicateStatus,
    *,
    at: int = START + 50,
    details: Details | None = None,
) -> events.WorkerReported:
    return events.WorkerReported(
        at=Timestamp(at), worker=worker, task_id=task_id, status=status, details=details or Details()
    )


def upload_verified(
    task_id: TaskId, worker: WorkerAddress = ALICE, at: int = START + 120
) -> events.UploadVerified:
    return events.UploadVerified(at=Timestamp(at), task_id=task_id, worker=worker, link=LINK)


def upload_missing(
    task_id: TaskId, worker: WorkerAddress = ALICE, at: int = START + 120
) -> events.UploadMissing:
    return events.UploadMissing(at=Timestamp(at), task_id=task_id, worker=worker, reason="not found")


def submission_failed(
    task_id: TaskId, submission: Submission, at: int, attempt: int | None = None
) -> events.SubmissionFailed:
    return events.SubmissionFailed(
        at=Timestamp(at), task_id=task_id, submission=submission, reason="reverted", attempt=attempt
    )


def tick(at: int) -> events.Tick:
    return events.Tick(at=Timestamp(at))


# Tasks and pools -------------------------------------------------------------------------------------------

S = ReplicateStatus
BEFORE_CONTRIBUTION_PATH = (
    S.RUNNING,
    S.APP_DOWNLOADING,
    S.APP_DOWNLOADED,
    S.DATA_DOWNLOADING,
    S.DATA_DOWNLOADED,
    S.COMPUTING,
    S.COMPUTED,
    S.CAN_CONTRIBUTE,
    S.CONTRIBUTING,
)


def received_task(**terms: object) -> Task:
    """A task whose deal has just been matched."""
    deal = deal_terms(**terms)  # type: ignore[arg-type]  # keywords of deal_terms
    return tasks.opened(task_of(deal), 0, deal, START).task


def active_task(*workers: WorkerAddress, **terms: object) -> Task:
    """An initialized task, given to these workers."""
    task = received_task(**terms)
    task = tasks.step(task, initialized(task.id)).task
    for worker in workers:
        task = tasks.assign(task, worker, 2, Timestamp(START + 1)).task
    return task


def told(task: Task, *told_events: events.TaskEvent) -> tasks.Step:
    """The task after some events, with all their effects; none of them may be ignored."""
    effects: list[Effect] = []
    for event in told_events:
        step = tasks.step(task, event)
        assert step.ignored is None, f"{type(event).__name__}: {step.ignored}"
        task, effects = step.task, [*effects, *step.effects]
    return tasks.Step(task, tuple(effects))


def reports(
    task_id: TaskId, worker: WorkerAddress, *statuses: ReplicateStatus, at: int = START + 50
) -> list[events.WorkerReported]:
    return [reported(task_id, worker, status, at=at) for status in statuses]


def computed(task_id: TaskId, worker: WorkerAddress) -> list[events.WorkerReported]:
    """All that a worker reports up to its contribution."""
    return reports(task_id, worker, *BEFORE_CONTRIBUTION_PATH)


def revealing_task(*workers: WorkerAddress, **terms: object) -> Task:
    """A task on whose result these workers agree; all of them have yet to reveal."""
    task = active_task(*workers, **terms)
    task_id = task.id
    votes = [contributed(task_id, worker, block=10 + n) for n, worker in enumerate(workers)]
    return told(task, *votes, consensus_reached(task_id)).task


def revealed_task(*workers: WorkerAddress, **terms: object) -> tasks.Step:
    """The same after all of them have revealed; the first has been asked for the result."""
    task = revealing_task(*workers, **terms)
    return told(task, *(revealed(task.id, worker, block=30 + n) for n, worker in enumerate(workers)))


def uploading_task(worker: WorkerAddress = ALICE, **terms: object) -> Task:
    """A task whose only winner says that the result is in the repository."""
    task = revealed_task(worker, **terms).task
    return told(task, *reports(task.id, worker, S.RESULT_UPLOADING, S.RESULT_UPLOADED, at=START + 115)).task


def pool_after(
    *pool_events: events.PoolEvent, kept_ended: int = pools.KEPT_ENDED
) -> tuple[Pool, list[Effect]]:
    """A pool that was told these events, and all that it asked for."""
    pool = Pool(kept_ended=kept_ended)
    effects: list[Effect] = []
    for event in pool_events:
        effects += pools.step(pool, event).effects
    return pool, effects


# The worker's side -----------------------------------------------------------------------------------------


def terms(task_id: TaskId | None = None) -> Terms:
    return Terms(
        deal_id=DealId(hash32("deal")),
        index=0,
        bot_first=0,
        bot_size=1,
        tag=NO_TAG,
        timeref=TIMEREF,
        contribution_deadline=CONTRIBUTION_DEADLINE,
        final_deadline=FINAL_DEADLINE,
        stake=NRlc(3 * 10**8),
        image="registry/app:1",
        image_checksum=hash32("image"),
        command="run",
        dataset=Address.zero(),
        dataset_location="",
        dataset_checksum=Hash32.zero(),
        input_files=(),
        has_callback=False,
    )


def start(task_id: TaskId) -> Start:
    return Start(
        task_id=task_id,
        deal_id=DealId(hash32("deal")),
        index=0,
        enclave_challenge=Address.zero(),
        authorization=bytes(65),
        block=BlockNumber(2),
    )


def reveal(task_id: TaskId) -> Reveal:
    return Reveal(task_id=task_id, block=BlockNumber(10), deadline=Timestamp(START + 700))


def upload(task_id: TaskId) -> Upload:
    return Upload(task_id=task_id)


def complete(task_id: TaskId) -> Complete:
    return Complete(task_id=task_id)


def abort(task_id: TaskId, cause: AbortCause = AbortCause.CONSENSUS_REACHED) -> Abort:
    return Abort(task_id=task_id, cause=cause)
