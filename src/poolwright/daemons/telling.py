"""What the store knows of tasks, for an operator: stories, waits, lists.

The store is read, not the scheduler asked: what is told is what is durable, whether the scheduler runs, hangs
or is stopped, and nobody who can merely reach its port can read it. Readers hold up no writer (SQLite's
write-ahead log, PostgreSQL's snapshots).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from poolwright.chain.journal import TxPhase, TxRecord
from poolwright.chain.reads import HubReader
from poolwright.daemons.chain_watch import CURSOR_MARK
from poolwright.daemons.home import STORE_FILE
from poolwright.daemons.restore import NOT_APPLIED, STOPPED, Past, read_stored, recall
from poolwright.daemons.scheduler_mind import SchedulerMind
from poolwright.daemons.submissions import members_of
from poolwright.daemons.tx_journal import PENDING, SETTLED
from poolwright.poco.records import TaskStatus
from poolwright.poco.types import Address, BlockStamp, TaskId, Timestamp
from poolwright.scheduler.effects import Effect, Submit, identity
from poolwright.scheduler.events import SubmissionFailed, UploadMissing, UploadVerified
from poolwright.scheduler.pool import Pool
from poolwright.scheduler.story import Chapter, Entry, Retelling
from poolwright.scheduler.task import Task
from poolwright.scheduler.why import Wait
from poolwright.store.port import EventId, LoggedEffect, LoggedEvent, StoreReads
from poolwright.store.postgresql_reads import PostgresReads
from poolwright.store.sqlite_reads import SqliteReads
from poolwright.wire import codec

_MIND = SchedulerMind()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """An effect that was asked for, and what came of it; `tx` is its transaction, if it had its own."""

    number: int
    effect: Effect
    is_done: bool
    tx: TxRecord | None = None
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldChapter:
    """One event of a task's life with what was asked for because of it."""

    chapter: Chapter
    wishes: tuple[Wish, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStory:
    """A task's whole life, as far as it has come; `stopped` is the bug that stopped it, if one did."""

    task: Task
    chapters: tuple[ToldChapter, ...]
    stopped: str | None


async def story_of(store: StoreReads, task_id: TaskId) -> TaskStory | None:
    """The story of a task; None when the log has nothing of it."""
    logged = await store.story(task_id)
    if not logged.events:
        return None
    retelling = Retelling(task_id)
    wishes = {row.id: await _wish(store, row) for row in logged.effects}
    caused: dict[EventId, list[Wish]] = {}
    for row in logged.effects:
        if row.cause is not None:
            caused.setdefault(row.cause, []).append(wishes[row.id])
    chapters = [
        ToldChapter(chapter=chapter, wishes=tuple(caused.get(EventId(chapter.number), ())))
        async for chapter in _chapters(store, logged.events, retelling, caused, task_id)
    ]
    if retelling.task is None:
        return None  # reports about a task that was never ours
    stopped = await store.record(STOPPED, str(task_id))
    return TaskStory(
        task=retelling.task,
        chapters=tuple(_with_outcomes(chapters)),
        stopped=None if stopped is None else stopped.decode(),
    )


async def _chapters(
    store: StoreReads,
    ours: Sequence[LoggedEvent],
    retelling: Retelling,
    caused: Mapping[EventId, Sequence[Wish]],
    task_id: TaskId,
) -> AsyncIterator[Chapter]:
    """Live through the log from the task's first event to its last; others' events only tell the time."""
    now = Timestamp(0)
    async for row in store.replay(EventId(ours[0].id - 1)):
        now = max(now, row.at)
        task = retelling.task
        if row.id > ours[-1].id and task is not None and task.is_ended:
            return
        if row.task_id not in (None, task_id):
            continue
        event = read_stored(_MIND.event_type, row.body, f"event {row.id}")
        if row.kind.startswith(NOT_APPLIED):
            why = "not applied: the task is stopped"
            yield Chapter(number=row.id, event=event, moves=(), effects=(), ignored=why)
            continue
        effects = tuple(wish.effect for wish in caused.get(row.id, ()))
        chapter = retelling.tell(Entry(number=row.id, event=event, now=now, effects=effects))
        if chapter is not None:
            yield chapter


async def _wish(store: StoreReads, row: LoggedEffect) -> Wish:
    effect: Effect = read_stored(_MIND.effect_type, row.body, f"effect {row.id}")
    if not isinstance(effect, Submit):
        outcome = "done" if row.is_done else "not done yet"
        return Wish(number=row.id, effect=effect, is_done=row.is_done, outcome=outcome)
    tx = await transaction_of(store, effect)
    together = "done, in a transaction for many tasks or by somebody else"
    outcome = fate(tx) if tx else together if row.is_done else "not sent yet"
    return Wish(number=row.id, effect=effect, is_done=row.is_done, tx=tx, outcome=outcome)


async def transaction_of(store: StoreReads, effect: Submit) -> TxRecord | None:
    """The transaction that was sent for a submission: its own, or one under way for many tasks."""
    key = identity(effect)
    body = await store.record(PENDING, key) or await store.record(SETTLED, key)
    if body is not None:
        return codec.decode(TxRecord, body)
    under_way = [codec.decode(TxRecord, each) for each in (await store.records(PENDING)).values()]
    wanted = (effect.submission, effect.task_id)
    return next((tx for tx in under_way if wanted in members_of(tx.data)), None)


def fate(tx: TxRecord) -> str:
    """What became of a transaction."""
    match tx.phase:
        case TxPhase.PENDING:
            sent = f"sent with nonce {tx.nonce} at {tx.max_fee} wei per gas, not confirmed yet"
            return sent + (f", priced anew {len(tx.earlier)} times" if tx.earlier else "")
        case TxPhase.MINED:
            return f"mined in block {tx.block_number} for {tx.fee} wei"
        case TxPhase.REVERTED:
            return f"refused by the contract in block {tx.block_number}: {tx.reason or 'no reason given'}"
        case _:
            return str(tx.phase.value)


def _with_outcomes(chapters: Sequence[ToldChapter]) -> Iterator[ToldChapter]:
    """Where an effect's outcome is itself an event of the story, say so beside the effect."""
    outcomes: dict[tuple[str, object, int], str] = {}
    verdicts: list[str] = []
    for told in chapters:
        match told.chapter.event:
            case SubmissionFailed(submission=submission, attempt=attempt, reason=reason) if attempt:
                outcomes["Submit", submission, attempt] = f"failed (event {told.chapter.number}): {reason}"
            case UploadVerified():
                verdicts.append(f"found (event {told.chapter.number})")
            case UploadMissing(reason=reason):
                verdicts.append(f"missing (event {told.chapter.number}): {reason}")
            case _:
                pass
    for told in chapters:
        yield ToldChapter(
            chapter=told.chapter, wishes=tuple(_settled(wish, outcomes, verdicts) for wish in told.wishes)
        )


def _settled(wish: Wish, outcomes: Mapping[tuple[str, object, int], str], verdicts: list[str]) -> Wish:
    effect = wish.effect
    known = None
    if isinstance(effect, Submit):
        known = outcomes.get(("Submit", effect.submission, effect.attempt))
    elif type(effect).__name__ == "VerifyUpload" and wish.is_done and verdicts:
        known = verdicts.pop(0)
    elif type(effect).__name__.startswith("TellWorker"):
        known = "confirmed by the worker" if wish.is_done else "not confirmed by the worker yet"
    if known is None:
        return wish
    return Wish(number=wish.number, effect=effect, is_done=wish.is_done, tx=wish.tx, outcome=known)


async def pool_of(store: StoreReads) -> Past[Pool]:
    """The pool as the store has it now: the latest snapshot and every event since."""
    return await recall(_MIND, store)


async def flight_of(store: StoreReads, task: Task) -> TxRecord | None:
    """The transaction that the task waits for, once it is signed."""
    if task.in_flight is None:
        return None
    submission, attempt = task.in_flight.submission, task.in_flight.attempt
    return await transaction_of(
        store,
        Submit(
            task_id=task.id,
            deal_id=task.deal.deal_id,
            index=task.index,
            submission=submission,
            attempt=attempt,
        ),
    )


async def followed_to(store: StoreReads) -> BlockStamp | None:
    """The block up to which the scheduler had read the chain when it last noted it."""
    mark = await store.mark(CURSOR_MARK)
    return None if mark is None else codec.decode(BlockStamp, mark)


@asynccontextmanager
async def reading(variables: Mapping[str, str], folder: Path | None) -> AsyncIterator[StoreReads]:
    """The scheduler's store, for reading only: in `folder`, or where the scheduler's settings say.

    Raises InputError when there is none.
    """
    url = variables.get("POOLWRIGHT_STORE_URL")
    store: SqliteReads | PostgresReads
    if folder is None and url:
        store = await PostgresReads.open(url)
    else:
        store = await SqliteReads.open((folder or default_folder(variables)) / STORE_FILE)
    try:
        yield store
    finally:
        await store.close()


def default_folder(variables: Mapping[str, str]) -> Path:
    """POOLWRIGHT_SCHEDULER_DIR, else the folder of a scheduler or of a local network in this one."""
    named = variables.get("POOLWRIGHT_SCHEDULER_DIR")
    choices = [Path(named)] if named else [Path("scheduler"), Path(".poolwright/scheduler")]
    found = (folder for folder in choices if (folder / STORE_FILE).exists())
    return next(found, choices[0]).expanduser().absolute()


async def explain_unknown(
    hub: HubReader, task_id: TaskId, workerpool: Address, followed: BlockStamp | None
) -> Wait:
    """What the chain says of a task that the scheduler's store has nothing of. Raises Unavailable."""
    task = await hub.task(task_id)
    if task.status is TaskStatus.UNSET:
        text = (
            "neither this scheduler nor the chain knows it: either no deal has such a task, or its deal is so"
            " new that the scheduler has not read it yet, and nobody has initialized it"
        )
        return Wait(what="unknown", text=text)
    deal = await hub.deal(task.deal_id)
    if deal.workerpool.pointer != workerpool:
        text = f"its deal {task.deal_id} was made with workerpool {deal.workerpool.pointer}, not with ours"
        return Wait(what="foreign", text=text)
    if followed is None or deal.start_time > followed.timestamp:
        at = "nothing yet" if followed is None else f"block {followed.number}"
        text = f"its deal {task.deal_id} is ours, but the scheduler has read the chain up to {at}"
        return Wait(what="not-read-yet", text=text)
    text = (
        f"its deal {task.deal_id} is ours and stands before the blocks that this store has read; its task is"
        f" {task.status.name} on the chain: `poolwright scheduler resync --from <its block>` reads it"
    )
    return Wait(what="skipped", text=text)
