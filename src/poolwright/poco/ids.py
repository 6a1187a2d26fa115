"""Deal and task ids, as the hub computes them."""

from __future__ import annotations

from poolwright.poco.errors import InputError
from poolwright.poco.keccak import keccak
from poolwright.poco.types import DealId, Hash32, OrderHash, TaskId


def deal_id(request_order_hash: OrderHash, consumed: int) -> DealId:
    """Id of the deal that takes a request order on from `consumed` tasks (IexecPoco1 matchOrders).

    `consumed` is what earlier deals took from that order, hence also the new deal's bot_first.
    Raises InputError when it is no uint256.
    """
    return DealId(Hash32(keccak(request_order_hash + _uint256("consumed", consumed))))


def task_id(deal_id: DealId, index: int) -> TaskId:
    """Id of one task; `index` runs from bot_first to bot_first + bot_size - 1 (IexecPoco2 initialize).

    Raises InputError when the index is no uint256.
    """
    return TaskId(Hash32(keccak(deal_id + _uint256("index", index))))


def _uint256(name: str, number: int) -> bytes:
    if not 0 <= number < 1 << 256:
        raise InputError(
            f"{name} out of range", code="out-of-range", expected="0 to 2^256-1", got=str(number)[:80]
        )
    return number.to_bytes(32, "big")
