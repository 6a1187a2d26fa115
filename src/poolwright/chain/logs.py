"""Logs of the chain in order, each exactly once, from a durable cursor on.

`follow` yields batches: all matching logs after the cursor up to and including the block `upto`.  The caller
stores `upto` as its cursor in the same database transaction as what it made of the logs; that is what makes
"no gap, no double" survive a crash.

How a block range is read so that nothing is missed:

    the newest block alone   eth_getLogs by block hash (EIP-234): the node has exactly this block, or refuses
    a range of blocks        the header of its last block first, then the logs, in one batch: a node that lags
                             has no such header, so its short answer is not taken for "no logs"
    every block with logs    its header is read too and must have the logs' hash, else all is read again

Ranges adapt: half after a refusal (nodes have limits on blocks, on results, on time), double after a success.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from poolwright.chain.blocks import at_block, fetch_headers, header_request, read_header
from poolwright.chain.encoding import (
    Json,
    hex_data,
    read_address,
    read_array,
    read_data,
    read_hash,
    read_object,
    read_quantity,
)
from poolwright.chain.heads import ChainReorganised, Heads
from poolwright.chain.rpc import Rpc, RpcError, back_off
from poolwright.poco.errors import PeerError, PoolwrightError, Unavailable
from poolwright.poco.events import Log
from poolwright.poco.types import Address, BlockHash, BlockNumber, BlockStamp, Hash32, TxHash

log = logging.getLogger(__name__)

MANY_LOGS: Final = 5_000
"""So many logs in one answer are enough; the range does not grow further."""
REFUSALS: Final = 8
"""How often one single block may be refused before that is the caller's problem."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFilter:
    """Which logs: of any of these contracts, with these topics by position (None: any)."""

    addresses: tuple[Address, ...]
    topics: tuple[tuple[Hash32, ...] | None, ...] = ()

    def params(self, **where: str) -> dict[str, Json]:
        """The JSON-RPC filter object, `where` naming a block hash or a range."""
        params: dict[str, Json] = {"address": [str(address) for address in self.addresses]}
        if self.topics:
            params["topics"] = [
                None if choices is None else [str(topic) for topic in choices] for choices in self.topics
            ]
        return params | where


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeSize:
    """How many blocks to ask for at once."""

    blocks: int = 1_000
    longest: int = 100_000

    def halved(self) -> RangeSize:
        """After a refusal."""
        return replace(self, blocks=max(self.blocks // 2, 1))

    def grown(self, log_count: int) -> RangeSize:
        """After a success with that many logs."""
        if log_count >= MANY_LOGS:
            return self
        return replace(self, blocks=min(self.blocks * 2, self.longest))


@dataclass(frozen=True, slots=True, kw_only=True)
class LogBatch:
    """All matching logs after the previous batch up to and including block `upto`, in chain order."""

    upto: BlockStamp
    logs: tuple[Log, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundLog:
    """A log as the node tells it, before its block is known to be in our chain."""

    address: Address
    topics: tuple[Hash32, ...]
    data: bytes
    block_number: BlockNumber
    block_hash: BlockHash
    tx_hash: TxHash
    log_index: int


async def follow(
    rpc: Rpc,
    addresses: Sequence[Address] | Address,
    topics: Sequence[Sequence[Hash32] | None],
    cursor: BlockStamp | None,
    start: BlockNumber,
    heads: Heads,
    *,
    size: RangeSize | None = None,
) -> AsyncGenerator[LogBatch, None]:
    """Yield all matching logs after `cursor`, forever; a batch per head even when it has no log.

    Args:
        rpc: the node.
        addresses: the contracts whose logs are wanted.
        topics: wanted topics by position; each entry lists the alternatives, None takes all.
        cursor: `upto` of the last batch that was made durable; None to begin at block `start`.
        start: first block to read when there is no cursor.
        heads: how far the chain may be believed.
        size: the first and the longest range.

    Raises ChainReorganised when the cursor's block is gone, RpcError or PeerError when the node keeps
    refusing a single block.  A node that does not answer is waited for.
    """
    reader = _Reader(rpc=rpc, filter=_filter(addresses, topics), heads=heads, size=size or RangeSize())
    position = BlockNumber(start - 1) if cursor is None else cursor.number
    unchecked = cursor
    async for head in heads:
        if unchecked is not None:
            if head.number < unchecked.number:
                log.warning("the node's head is %s, waiting for the cursor at %s", head, unchecked)
                continue
            await check_cursor(rpc, unchecked)
            unchecked = None
        while position < head.number:
            batch = await reader.read(BlockNumber(position + 1), head)
            position = batch.upto.number
            yield batch


async def collect(
    rpc: Rpc,
    addresses: Sequence[Address] | Address,
    topics: Sequence[Sequence[Hash32] | None],
    first: BlockNumber,
    head: BlockStamp,
) -> tuple[Log, ...]:
    """All matching logs from block `first` to `head`, once. Raises as `follow`, and Unavailable."""
    reader = _Reader(rpc=rpc, filter=_filter(addresses, topics), heads=None, size=RangeSize())
    found: list[Log] = []
    while first <= head.number:
        batch = await reader.read(first, head)
        found += batch.logs
        first = BlockNumber(batch.upto.number + 1)
    return tuple(found)


async def transaction_logs(rpc: Rpc, tx_hash: TxHash) -> tuple[Log, ...]:
    """The logs of a mined transaction; raises PeerError (`no-receipt`) when the node does not have it."""
    answer = await rpc.call("eth_getTransactionReceipt", str(tx_hash))
    if answer is None:
        raise PeerError(
            f"the node has no receipt of transaction {tx_hash}",
            code="no-receipt",
            next_step="ask for it after it was mined",
        )
    found = [read_log(entry) for entry in read_array(read_object(answer, "receipt").get("logs"), "logs")]
    headers = await fetch_headers(rpc, sorted({entry.block_number for entry in found}))
    placed = place(found, {header.number: header.stamp for header in headers if header is not None})
    if placed is None:
        raise Unavailable(f"the block of transaction {tx_hash} is not settled", code="block-unsettled")
    return placed


async def check_cursor(rpc: Rpc, cursor: BlockStamp) -> None:
    """Check that the block of a stored cursor still is in the chain; raises ChainReorganised."""
    [header] = await fetch_headers(rpc, [cursor.number])
    if header is None or header.stamp.hash != cursor.hash:
        got = "no such block" if header is None else f"hash {header.stamp.hash}"
        raise ChainReorganised(cursor, got, what="the stored cursor, block")


def read_log(answer: Json) -> FoundLog:
    """Read one log object. Raises PeerError."""
    entry = read_object(answer, "log")
    return FoundLog(
        address=read_address(entry.get("address"), "log address"),
        topics=tuple(
            read_hash(topic, "log topic") for topic in read_array(entry.get("topics"), "log topics")
        ),
        data=read_data(entry.get("data"), "log data"),
        block_number=BlockNumber(read_quantity(entry.get("blockNumber"), "log block number")),
        block_hash=BlockHash(read_hash(entry.get("blockHash"), "log block hash")),
        tx_hash=TxHash(read_hash(entry.get("transactionHash"), "log transaction hash")),
        log_index=read_quantity(entry.get("logIndex"), "log index"),
    )


def place(found: Sequence[FoundLog], stamps: Mapping[BlockNumber, BlockStamp]) -> tuple[Log, ...] | None:
    """Give each log its block, in chain order, each log once; None when a log is of another branch."""
    placed: dict[tuple[BlockNumber, int], Log] = {}
    for entry in found:
        stamp = stamps.get(entry.block_number)
        if stamp is None or stamp.hash != entry.block_hash:
            return None
        placed[entry.block_number, entry.log_index] = Log(
            address=entry.address,
            topics=entry.topics,
            data=entry.data,
            block=stamp,
            tx_hash=entry.tx_hash,
            log_index=entry.log_index,
        )
    return tuple(placed[key] for key in sorted(placed))


@dataclass(slots=True, kw_only=True)
class _Reader:
    """Reads one range after another, adapting its size."""

    rpc: Rpc
    filter: LogFilter
    heads: Heads | None
    size: RangeSize
    _refused: int = field(default=0)

    async def read(self, first: BlockNumber, head: BlockStamp) -> LogBatch:
        """The next batch, from `first` on and at most to `head`."""
        self._refused = 0
        attempt = 0
        while True:
            last = BlockNumber(min(first + self.size.blocks - 1, head.number))
            try:
                batch = await self._read_once(first, last, head)
                if batch is not None:
                    if last - first + 1 == self.size.blocks:
                        self.size = self.size.grown(len(batch.logs))
                    return batch
            except Unavailable as problem:
                if self.heads is None:
                    raise
                log.warning("logs of blocks %d to %d: %s", first, last, problem)
                self.size = self.size.halved()
            except (RpcError, PeerError) as refusal:
                self._take_refusal(refusal, first, last)
                if last > first:
                    continue
            attempt += 1
            await self._wait(attempt)

    def _take_refusal(self, refusal: PoolwrightError, first: BlockNumber, last: BlockNumber) -> None:
        if last > first:
            log.debug("logs of blocks %d to %d refused, halving: %s", first, last, refusal)
            self.size = replace(self.size, blocks=last - first + 1).halved()
            return
        self._refused += 1
        if self._refused >= REFUSALS:
            raise refusal

    async def _wait(self, attempt: int) -> None:
        await asyncio.sleep(back_off(attempt, random.random()))  # noqa: S311  spreading, not secrecy
        if self.heads is not None:
            self.heads.check()

    async def _read_once(self, first: BlockNumber, last: BlockNumber, head: BlockStamp) -> LogBatch | None:
        """One try; None when the node lags or answered from two branches."""
        if first == last == head.number and self._refused % 2 == 0:
            return await self._read_head(head)
        where = {"fromBlock": at_block(first), "toBlock": at_block(last)}
        answers = await self.rpc.batch([header_request(last), ("eth_getLogs", [self.filter.params(**where)])])
        header = read_header(answers[0])
        if header is None or (last == head.number and header.stamp != head):
            return None
        found = _found(answers[1])
        stamps = {last: header.stamp}
        missing = sorted({entry.block_number for entry in found} - {last})
        for other in await fetch_headers(self.rpc, missing):
            if other is not None:
                stamps[other.number] = other.stamp
        logs = place(found, stamps)
        return None if logs is None else LogBatch(upto=header.stamp, logs=logs)

    async def _read_head(self, head: BlockStamp) -> LogBatch | None:
        answer = await self.rpc.call("eth_getLogs", self.filter.params(blockHash=hex_data(head.hash)))
        logs = place(_found(answer), {head.number: head})
        return None if logs is None else LogBatch(upto=head, logs=logs)


def _found(answer: Json) -> list[FoundLog]:
    entries = [read_object(entry, "log") for entry in read_array(answer, "logs")]
    return [read_log(entry) for entry in entries if entry.get("removed") is not True]


def _filter(addresses: Sequence[Address] | Address, topics: Sequence[Sequence[Hash32] | None]) -> LogFilter:
    return LogFilter(
        addresses=(addresses,) if isinstance(addresses, Address) else tuple(addresses),
        topics=tuple(None if choices is None else tuple(choices) for choices in topics),
    )
