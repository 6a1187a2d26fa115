"""What a worker needs to know of a task, read from the chain and never taken on the scheduler's word."""

from __future__ import annotations

from dataclasses import dataclass

from poolwright.poco.tags import Tag
from poolwright.poco.types import Address, DealId, Hash32, NRlc, Seconds, Timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """A deal's terms for one of its tasks (contract `viewDeal`, `viewTask`, `viewApp`, `viewDataset`).

    `timeref` bounds the run time of the container; `stake` is what a contribution locks.
    """

    deal_id: DealId
    index: int
    bot_first: int
    bot_size: int
    tag: Tag
    timeref: Seconds
    contribution_deadline: Timestamp
    final_deadline: Timestamp
    stake: NRlc
    image: str
    image_checksum: Hash32
    command: str
    dataset: Address
    dataset_location: str
    dataset_checksum: Hash32
    input_files: tuple[str, ...]
    has_callback: bool
    contribute_and_finalize: bool = False
    """The pool asks for one transaction, and the deal's trust is 1: then no stake is locked."""
