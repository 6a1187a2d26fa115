"""From a broadcast to a receipt: look at what was mined, and move what does not."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, assert_never

from poolwright.chain import reverts, tx_rules
from poolwright.chain.blocks import LATEST, PENDING, at_block, fetch_headers
from poolwright.chain.encoding import quantity, read_quantity
from poolwright.chain.flight import Entry, Flight, now
from poolwright.chain.gas import Fees
from poolwright.chain.journal import TxPhase, TxRecord
from poolwright.chain.outcomes import FoundReceipt, executed, read_receipt
from poolwright.chain.rpc import RpcError
from poolwright.chain.tx_rules import Move, Patience
from poolwright.poco.errors import PeerError, Unavailable
from poolwright.poco.types import BlockNumber, BlockStamp

log = logging.getLogger(__name__)

LOOK_TOGETHER: Final = 64
"""How many receipts are asked for at once, in nonce order, until one is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gap:
    """A nonce that nobody uses, and since when."""

    since_block: int
    since: float


class Watcher:
    """Looks at every new head, and every `look_seconds` without one."""

    def __init__(self, flight: Flight, patience: Patience, look_seconds: float) -> None:
        self._flight = flight
        self._patience = patience
        self._look_seconds = look_seconds
        self._gaps: dict[int, _Gap] = {}

    async def run(self) -> None:
        """Look until cancelled. Raises ChainReorganised, JournalFailed, and what ends the heads."""
        heads = self._flight.heads
        number: int | None = None
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._look_seconds):
                    number = (await heads.beyond(number)).number
            head = heads.current
            if head is None or not self._flight.entries:
                self._flight.price_trouble = ""
                continue
            try:
                await self._settle(head)
                await self._find_forgotten(head)
                await self._move_overdue(head)
                await self._fill_gaps(head)
                await self._judge_price()
            except (Unavailable, RpcError, PeerError) as problem:
                log.warning("cannot look at %d transactions: %s", len(self._flight.entries), problem)

    async def _settle(self, head: BlockStamp) -> None:
        """Find the receipts of what was mined up to the confirmed head."""
        nonces = sorted(self._flight.entries)
        for start in range(0, len(nonces), LOOK_TOGETHER):
            together = [self._flight.entries[nonce] for nonce in nonces[start : start + LOOK_TOGETHER]]
            hashes = [(entry, tx_hash) for entry in together for tx_hash in entry.record.versions]
            answers = await self._flight.rpc.batch(
                [
                    self._flight.count_request(LATEST),
                    *(("eth_getTransactionReceipt", [str(tx_hash)]) for _, tx_hash in hashes),
                ]
            )
            self._flight.mined_count = read_quantity(answers[0], "transaction count")
            found = {
                entry.record.nonce: read_receipt(answer)
                for (entry, _), answer in zip(hashes, answers[1:], strict=True)
                if answer is not None
            }
            await self._take_receipts(found, head)
            missing = [entry for entry in together if entry.record.nonce not in found]
            await self._question_missing(missing, head)
            if missing:
                return

    async def _take_receipts(self, found: Mapping[int, FoundReceipt], head: BlockStamp) -> None:
        for nonce in found:
            self._flight.entries[nonce].is_mined = True
        confirmed = {nonce: one for nonce, one in found.items() if one.block_number <= head.number}
        numbers = sorted({one.block_number for one in confirmed.values()})
        stamps = {
            header.number: header.stamp
            for header in await fetch_headers(self._flight.rpc, numbers)
            if header is not None
        }
        done: list[TxRecord] = []
        for nonce, one in confirmed.items():
            stamp = stamps.get(one.block_number)
            if stamp is None or stamp.hash != one.block_hash:
                continue  # a node that lags, or another branch: look again
            record = executed(self._flight.entries[nonce].record, one, stamp)
            if record.phase is TxPhase.REVERTED:
                record = replace(record, reason=await self._revert_reason(record, stamp))
            done.append(record)
        await self._flight.finish(done)

    async def _revert_reason(self, record: TxRecord, block: BlockStamp) -> str:
        """Ask again what was refused, in the state before its block, then after it."""
        if record.gas_used == record.gas_limit:
            return "out of gas"
        call = self._flight.call_object(record) | {"gas": quantity(record.gas_limit)}
        for number in (max(block.number - 1, 0), block.number):
            [outcome] = await self._flight.rpc.batch_outcomes(
                [("eth_call", [call, at_block(BlockNumber(number))])]
            )
            if isinstance(outcome, RpcError):
                reason = reverts.revert_reason(outcome)
                if reason:
                    return reason
        return ""

    async def _question_missing(self, entries: Sequence[Entry], head: BlockStamp) -> None:
        """Nonces that count as used and have no receipt of ours: lag, or somebody else's transaction."""
        for entry in entries:
            entry.is_mined = False
            entry.misses = entry.misses + 1 if entry.record.nonce < self._flight.mined_count else 0
            if entry.misses >= 2 and await self._is_taken(entry, head):
                await self._flight.renew(entry)

    async def _is_taken(self, entry: Entry, head: BlockStamp) -> bool:
        """Whether a confirmed block shows the nonce used, and by none of our versions."""
        count, *receipts = await self._flight.rpc.batch(
            [
                self._flight.count_request(at_block(head)),
                *(("eth_getTransactionReceipt", [str(one)]) for one in entry.record.versions),
            ]
        )
        is_used = read_quantity(count, "transaction count") > entry.record.nonce
        return is_used and all(receipt is None for receipt in receipts)

    async def _find_forgotten(self, head: BlockStamp) -> None:
        """When a block has passed and the node does not know the next one to be mined, send all again.

        Nodes forget what did not fit into a block, or was behind that; nothing of ours moves until it is
        back. Patience goes on meanwhile: a node may forget it each time because it is priced too low.
        """
        first = self._flight.entries.get(self._flight.mined_count)
        if first is None or first.is_mined or head.number <= first.sent_block:
            return
        [known] = await self._flight.rpc.batch([("eth_getTransactionByHash", [str(first.record.tx_hash)])])
        if known is None:
            unmined = [entry for _, entry in sorted(self._flight.entries.items()) if not entry.is_mined]
            log.info("the node has forgotten %d transactions, sending them again", len(unmined))
            await self._flight.broadcast(unmined)

    async def _move_overdue(self, head: BlockStamp) -> None:
        """Send again what the node dropped, replace what is priced too low."""
        overdue = [
            entry
            for nonce, entry in sorted(self._flight.entries.items())
            if nonce >= self._flight.mined_count and not entry.is_mined and self._is_overdue(entry, head)
        ]
        if not overdue:
            return
        fresh = self._flight.gas.fees((await self._flight.network.look(self._flight.height)).price)
        answers = await self._flight.rpc.batch(
            [("eth_getTransactionByHash", [str(entry.record.tx_hash)]) for entry in overdue]
        )
        again: list[Entry] = []
        repriced: list[tuple[Entry, Fees]] = []
        for entry, answer in zip(overdue, answers, strict=True):
            move = tx_rules.next_move(
                is_known=answer is not None,
                is_first=entry.record.nonce == self._flight.mined_count,
                fees=entry.record.fees,
                fresh=fresh,
                policy=self._flight.gas,
            )
            match move:
                case Fees():
                    repriced.append((entry, move))
                case Move.SEND_AGAIN:
                    entry.wait_from(head.number)
                    again.append(entry)
                case Move.WAIT:
                    entry.is_refused = False  # whatever it said, it has it
                    entry.wait_from(head.number)
                case _:
                    assert_never(move)
        await self._flight.broadcast(again)
        await self._flight.reprice(repriced)

    def _is_overdue(self, entry: Entry, head: BlockStamp) -> bool:
        if entry.is_refused and head.number > entry.sent_block:
            return True
        return self._patience.is_over(blocks=head.number - entry.since_block, seconds=now() - entry.since)

    async def _judge_price(self) -> None:
        """Note whether the network asks more than the cap while something is not mined; say so once."""
        waiting = [
            entry
            for nonce, entry in self._flight.entries.items()
            if nonce >= self._flight.mined_count and not entry.is_mined
        ]
        trouble = ""
        if waiting:
            price = (await self._flight.network.look(self._flight.height)).price
            if self._flight.gas.is_too_dear(price):
                trouble = f"gas costs more than the cap of {self._flight.gas.cap} wei, transactions wait"
        if trouble and not self._flight.price_trouble:
            log.warning("%s: %d of %s", trouble, len(waiting), self._flight.address)
        elif self._flight.price_trouble and not trouble:
            log.info("gas is below the cap again, or nothing waits for it")
        self._flight.price_trouble = trouble

    async def _fill_gaps(self, head: BlockStamp) -> None:
        """Use up nonces that nobody uses, so that those behind them can be mined."""
        missing = tx_rules.gaps(mined_count=self._flight.mined_count, nonces=self._flight.entries)
        self._gaps = {
            nonce: self._gaps.get(nonce, _Gap(since_block=head.number, since=now())) for nonce in missing
        }
        old = [
            nonce
            for nonce, gap in self._gaps.items()
            if self._patience.is_over(blocks=head.number - gap.since_block, seconds=now() - gap.since)
        ]
        if not old:
            return
        [count] = await self._flight.rpc.batch([self._flight.count_request(PENDING)])
        if read_quantity(count, "transaction count") > old[0]:
            return  # the node has a transaction there, from another program
        log.warning("filling the nonces %s of wallet %s, which nobody uses", old, self._flight.address)
        await self._flight.send_fillers(old)
