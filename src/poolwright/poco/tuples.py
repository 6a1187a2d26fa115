"""Orders as the ABI tuples of the contracts: the EIP-712 members, then `sign`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Final, TypeVar

from poolwright.poco.abi import encode_call
from poolwright.poco.orders import (
    APPORDER_TYPE,
    DATASETORDER_TYPE,
    REQUESTORDER_TYPE,
    WORKERPOOLORDER_TYPE,
    AppOrder,
    DatasetOrder,
    Order,
    RequestOrder,
    WorkerpoolOrder,
)
from poolwright.poco.tags import Tag


def _tuple_type(order_type: str) -> str:
    members = order_type.partition("(")[2].removesuffix(")").split(",")
    return f"({','.join([member.split()[0] for member in members] + ['bytes'])})"


APPORDER_TUPLE: Final = _tuple_type(APPORDER_TYPE)
DATASETORDER_TUPLE: Final = _tuple_type(DATASETORDER_TYPE)
WORKERPOOLORDER_TUPLE: Final = _tuple_type(WORKERPOOLORDER_TYPE)
REQUESTORDER_TUPLE: Final = _tuple_type(REQUESTORDER_TYPE)

_KIND_TO_FIELDS: Final[dict[type, tuple[str, ...]]] = {
    kind: tuple(each.name for each in fields(kind))
    for kind in (AppOrder, DatasetOrder, WorkerpoolOrder, RequestOrder)
}
_OrderT = TypeVar("_OrderT", AppOrder, DatasetOrder, WorkerpoolOrder, RequestOrder)


def order_to_tuple(order: Order) -> tuple[object, ...]:
    """The order's values in the contract's order, ready for `abi.encode`."""
    return tuple(
        value.word if isinstance(value, Tag) else value
        for value in (getattr(order, name) for name in _KIND_TO_FIELDS[type(order)])
    )


def order_from_tuple(kind: type[_OrderT], values: Sequence[Any]) -> _OrderT:
    """The order of this kind whose values `abi.decode` gave."""
    named = dict(zip(_KIND_TO_FIELDS[kind], values, strict=True))
    return kind(**named | {"tag": Tag(int.from_bytes(named["tag"], "big"))})


_FOUR_ORDERS: Final = ",".join(
    (APPORDER_TUPLE, DATASETORDER_TUPLE, WORKERPOOLORDER_TUPLE, REQUESTORDER_TUPLE)
)
APP_ARGUMENTS: Final = "(address,string,string,bytes,bytes32,bytes)"
DATASET_ARGUMENTS: Final = "(address,string,bytes,bytes32)"
WORKERPOOL_ARGUMENTS: Final = "(address,string)"


def call_of_four_orders(
    name: str, app: AppOrder, dataset: DatasetOrder, pool: WorkerpoolOrder, request: RequestOrder
) -> bytes:
    """The call data of a function of the hub that takes all four orders."""
    orders = (order_to_tuple(order) for order in (app, dataset, pool, request))
    return encode_call(f"{name}({_FOUR_ORDERS})", *orders)
