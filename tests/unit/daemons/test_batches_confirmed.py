"""What others did is done when a confirmed block shows it; a newer one may vanish with its branch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import pytest

import factories as f
from poolwright.chain.reads import HubReader
from poolwright.chain.sender import TxSender
from poolwright.daemons.batches import DONE, Batches
from poolwright.poco.errors import Unavailable
from poolwright.poco.records import NO_TASK, OnchainTask, TaskStatus
from poolwright.poco.types import Address, BlockHash, BlockNumber, BlockStamp, TaskId, Timestamp
from poolwright.scheduler.effects import Submission, Submit

HEAD = BlockStamp(BlockNumber(88), BlockHash(f.hash32("block 88")), Timestamp(1_700_000_000))


@dataclass
class TwoBlocks:
    """The hub at its newest block and at the confirmed one."""

    newest: OnchainTask
    confirmed: OnchainTask
    asked_at: list[BlockStamp | None] = field(default_factory=list)

    async def tasks(self, task_ids: Sequence[TaskId], at: BlockStamp | None = None) -> list[OnchainTask]:
        self.asked_at.append(at)
        return [self.newest if at is None else self.confirmed for _ in task_ids]


@dataclass
class IdleSender:
    """A sender with nothing under way; what it is asked to send fails the test."""

    in_flight: tuple[object, ...] = ()

    async def start(self) -> None:
        """It runs."""


def claim() -> Submit:
    deal = f.deal_terms()
    return Submit(
        task_id=f.task_of(deal), deal_id=deal.deal_id, index=0, submission=Submission.CLAIM, attempt=1
    )


def batches(hub: TwoBlocks) -> Batches:
    reader, sender = cast("HubReader", hub), cast("TxSender", IdleSender())
    return Batches(reader, Address.zero(), sender, lambda: HEAD.timestamp, lambda: HEAD)


FAILED = replace(NO_TASK, status=TaskStatus.FAILED)
ACTIVE = replace(NO_TASK, status=TaskStatus.ACTIVE)


async def test_a_claim_that_only_the_newest_block_shows_is_looked_at_again() -> None:
    hub = TwoBlocks(newest=FAILED, confirmed=ACTIVE)

    with pytest.raises(Unavailable, match="in a block that is not confirmed"):
        await batches(hub).submit(claim())

    assert hub.asked_at == [None, HEAD]


async def test_a_claim_that_a_confirmed_block_shows_is_done() -> None:
    assert await batches(TwoBlocks(newest=FAILED, confirmed=FAILED)).submit(claim()) == DONE
