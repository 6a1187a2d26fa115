"""Moves a stopped scheduler's place in the chain, on its manager's word.

    back      blocks are read again. What is known changes nothing: a log is recognised by its fact, a deal by
              its tasks, also when they were forgotten long ago; what was missed is made up for.
    forward   blocks are skipped for good, which must be asked for with `skip`: deals made there are never
              computed by this scheduler, and its open tasks do not hear what happened to them there.

One mark of the store changes, in one commit, under the store's lock; so a scheduler that runs refuses it.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from poolwright.chain.blocks import fetch_headers, newest_header
from poolwright.chain.rpc import Rpc
from poolwright.daemons.chain_watch import CURSOR_MARK
from poolwright.daemons.config import ChainConfig, SchedulerConfig
from poolwright.daemons.home import IDENTITY_MARK, STORE_FILE
from poolwright.daemons.restore import recall
from poolwright.daemons.scheduler_mind import SchedulerMind
from poolwright.poco.errors import InputError, Unavailable
from poolwright.poco.types import Address, BlockNumber, BlockStamp
from poolwright.store.lease import Candidate
from poolwright.store.port import Commit, Store
from poolwright.store.postgresql import PostgresStore
from poolwright.store.sqlite import SqliteStore
from poolwright.wire import codec


@dataclass(frozen=True, slots=True, kw_only=True)
class Resynced:
    """Where the scheduler had read to, from where it reads now, and what it never sees (empty: nothing)."""

    before: BlockStamp | None
    first: BlockNumber
    skipped: str


async def resync(
    store: Store, rpc: Rpc, chain: ChainConfig, workerpool: Address, first: BlockNumber, *, skip: bool
) -> Resynced:
    """Let the scheduler read the chain from block `first` on when it starts.

    Raises InputError when the block is not there yet, when blocks would be skipped and `skip` is not given,
    or when the store is of another chain or pool; Unavailable when the node does not answer.
    """
    await _check_store(store, chain, workerpool)
    cursor = await _block_before(rpc, chain, first)
    mark = await store.mark(CURSOR_MARK)
    before = None if mark is None else codec.decode(BlockStamp, mark)
    skipped = ""
    if before is not None and cursor.number > before.number:
        skipped = await _loss(store, before, cursor)
        if not skip:
            raise InputError(
                f"block {first} is ahead of what was read: {skipped}",
                code="would-skip",
                expected=f"at most block {before.number + 1}",
                got=str(first),
                next_step="give --skip if that is what you want",
            )
    await store.commit(Commit(marks={CURSOR_MARK: codec.encode(cursor)}))
    return Resynced(before=before, first=first, skipped=skipped)


@asynccontextmanager
async def held_store(config: SchedulerConfig) -> AsyncIterator[Store]:
    """The store of a scheduler that does not run. Raises InputError when one does, naming it."""
    store: SqliteStore | PostgresStore
    if config.store_url is None:
        store = await SqliteStore.open(config.folder / STORE_FILE)
    else:
        store = await _lead(config.store_url)
    try:
        yield store
    finally:
        await store.close()


async def _lead(url: str) -> PostgresStore:
    candidate = await Candidate.enter(url, f"resync (process {os.getpid()})")
    try:
        term = await candidate.take()
        if term is None:
            leader = await candidate.leader()
            raise InputError(
                f"store {candidate.name} is in use",
                code="store-in-use",
                expected="no scheduler that leads",
                got=leader.holder,
                next_step="stop all schedulers of this store, wait some seconds, and try again",
            )
        return await PostgresStore.lead(url, term)
    finally:
        await candidate.close()


async def _check_store(store: Store, chain: ChainConfig, workerpool: Address) -> None:
    identity = await store.mark(IDENTITY_MARK)
    expected = f"chain {chain.chain_id}, hub {chain.hub}, workerpool {workerpool}, "
    if identity is None or not identity.decode().startswith(expected):
        raise InputError(
            "the store is not of this scheduler",
            code="foreign-folder",
            expected=expected.rstrip(", "),
            got="a store that no scheduler has used" if identity is None else identity.decode(),
            next_step="set the variables and the folder of the scheduler",
        )


async def _block_before(rpc: Rpc, chain: ChainConfig, first: BlockNumber) -> BlockStamp:
    """The block that counts as read when `first` is the next one. (Block 0 has no logs.)"""
    newest = await newest_header(rpc)
    last = newest.stamp.number - chain.confirmations
    number = BlockNumber(max(first - 1, 0))
    if number > last:
        raise InputError(
            f"block {first} is not there yet",
            code="no-such-block",
            expected=f"at most block {last + 1}, the next one to be confirmed",
            got=str(first),
            next_step="choose an earlier block",
        )
    [header] = await fetch_headers(rpc, [number])
    if header is None:
        raise Unavailable(
            f"the node does not have block {number}",
            code="no-such-block",
            next_step="ask a node that keeps it, or choose a later block",
        )
    return header.stamp


async def _loss(store: Store, before: BlockStamp, cursor: BlockStamp) -> str:
    """What skipping these blocks means."""
    pool = (await recall(SchedulerMind(), store)).state
    open_tasks = sum(not task.is_ended for task in pool.tasks.values())
    tasks = f"{open_tasks} open task{'' if open_tasks == 1 else 's'}"
    return (
        f"blocks {before.number + 1} to {cursor.number} are never read; deals made there are not computed,"
        f" and what happened there to {tasks} stays unknown"
    )
