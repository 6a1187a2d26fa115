"""Everything the hub, the registries and the workerpools log, as values.

One frozen class per event, named as in the contract, its fields in snake case and in the contract's order.
`decode_log` turns a log into its event; `encode_event` is the way back, for chains that run in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final, get_args

from poolwright.poco import abi
from poolwright.poco.errors import PeerError
from poolwright.poco.keccak import keccak
from poolwright.poco.orders import AppOrder, DatasetOrder, RequestOrder, WorkerpoolOrder
from poolwright.poco.tags import Tag
from poolwright.poco.tuples import (
    APPORDER_TUPLE,
    DATASETORDER_TUPLE,
    REQUESTORDER_TUPLE,
    WORKERPOOLORDER_TUPLE,
    order_from_tuple,
    order_to_tuple,
)
from poolwright.poco.types import (
    Address,
    BlockStamp,
    DealId,
    Hash32,
    NRlc,
    OrderHash,
    Seconds,
    TaskId,
    TxHash,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """One log entry and where it stands in the chain."""

    address: Address
    """The contract that logged."""
    topics: tuple[Hash32, ...]
    data: bytes
    block: BlockStamp
    tx_hash: TxHash
    log_index: int
    """Position in the block."""


class Event:
    """Base of all events.

    SIGNATURE is the contract's. INDEXED counts the parameters that stand in topics; in all these contracts
    they come first.
    """

    __slots__ = ()
    SIGNATURE: ClassVar[str]
    INDEXED: ClassVar[int] = 0


# --- deals --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerNotice(Event):
    """A deal for this workerpool was made; the one event a scheduler filters by its pool."""

    SIGNATURE: ClassVar[str] = "SchedulerNotice(address,bytes32)"
    INDEXED: ClassVar[int] = 1
    workerpool: Address
    deal_id: DealId


@dataclass(frozen=True, slots=True, kw_only=True)
class OrdersMatched(Event):
    """Four orders became a deal for `volume` tasks."""

    SIGNATURE: ClassVar[str] = "OrdersMatched(bytes32,bytes32,bytes32,bytes32,bytes32,uint256)"
    deal_id: DealId
    app_hash: OrderHash
    dataset_hash: OrderHash
    workerpool_hash: OrderHash
    request_hash: OrderHash
    volume: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DealSponsored(Event):
    """Somebody else than the requester pays for the deal."""

    SIGNATURE: ClassVar[str] = "DealSponsored(bytes32,address)"
    deal_id: DealId
    sponsor: Address


# --- tasks --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskInitialize(Event):
    """The task became ACTIVE."""

    SIGNATURE: ClassVar[str] = "TaskInitialize(bytes32,address)"
    INDEXED: ClassVar[int] = 2
    task_id: TaskId
    workerpool: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskContribute(Event):
    """A worker contributed a result hash."""

    SIGNATURE: ClassVar[str] = "TaskContribute(bytes32,address,bytes32)"
    INDEXED: ClassVar[int] = 2
    task_id: TaskId
    worker: Address
    result_hash: Hash32


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskConsensus(Event):
    """The task became REVEALING: this result hash won."""

    SIGNATURE: ClassVar[str] = "TaskConsensus(bytes32,bytes32)"
    INDEXED: ClassVar[int] = 1
    task_id: TaskId
    consensus: Hash32


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReveal(Event):
    """A winner published the digest."""

    SIGNATURE: ClassVar[str] = "TaskReveal(bytes32,address,bytes32)"
    INDEXED: ClassVar[int] = 2
    task_id: TaskId
    worker: Address
    digest: Hash32


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReopen(Event):
    """Nobody revealed; the task is ACTIVE again."""

    SIGNATURE: ClassVar[str] = "TaskReopen(bytes32)"
    INDEXED: ClassVar[int] = 1
    task_id: TaskId


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFinalize(Event):
    """The task is COMPLETED and paid; `results` says where the result is."""

    SIGNATURE: ClassVar[str] = "TaskFinalize(bytes32,bytes)"
    INDEXED: ClassVar[int] = 1
    task_id: TaskId
    results: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskClaimed(Event):
    """The task FAILED at its final deadline; everybody has the money back."""

    SIGNATURE: ClassVar[str] = "TaskClaimed(bytes32)"
    INDEXED: ClassVar[int] = 1
    task_id: TaskId


@dataclass(frozen=True, slots=True, kw_only=True)
class AccurateContribution(Event):
    """The worker's score grew by one."""

    SIGNATURE: ClassVar[str] = "AccurateContribution(address,bytes32)"
    INDEXED: ClassVar[int] = 2
    worker: Address
    task_id: TaskId


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultyContribution(Event):
    """The worker lost its stake and a third of its score."""

    SIGNATURE: ClassVar[str] = "FaultyContribution(address,bytes32)"
    INDEXED: ClassVar[int] = 2
    worker: Address
    task_id: TaskId


# --- money (also the RLC token's Transfer and Approval) -----------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer(Event):
    """Free stake (or RLC, when the token logs it) went from one account to another; zero mints or burns."""

    SIGNATURE: ClassVar[str] = "Transfer(address,address,uint256)"
    INDEXED: ClassVar[int] = 2
    source: Address
    target: Address
    value: NRlc


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval(Event):
    """`spender` may now take `value` of the owner's."""

    SIGNATURE: ClassVar[str] = "Approval(address,address,uint256)"
    INDEXED: ClassVar[int] = 2
    owner: Address
    spender: Address
    value: NRlc


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock(Event):
    """Free stake of the owner became locked."""

    SIGNATURE: ClassVar[str] = "Lock(address,uint256)"
    owner: Address
    amount: NRlc


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlock(Event):
    """Locked stake of the owner became free again."""

    SIGNATURE: ClassVar[str] = "Unlock(address,uint256)"
    owner: Address
    amount: NRlc


@dataclass(frozen=True, slots=True, kw_only=True)
class Reward(Event):
    """The owner was paid for the task `ref`."""

    SIGNATURE: ClassVar[str] = "Reward(address,uint256,bytes32)"
    owner: Address
    amount: NRlc
    ref: TaskId


@dataclass(frozen=True, slots=True, kw_only=True)
class Seize(Event):
    """Locked stake of the owner was taken for the task `ref`."""

    SIGNATURE: ClassVar[str] = "Seize(address,uint256,bytes32)"
    owner: Address
    amount: NRlc
    ref: TaskId


# --- orders -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedAppOrder(Event):
    """The order was presigned on the chain."""

    SIGNATURE: ClassVar[str] = "SignedAppOrder(bytes32)"
    order_hash: OrderHash


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedDatasetOrder(Event):
    """The order was presigned on the chain."""

    SIGNATURE: ClassVar[str] = "SignedDatasetOrder(bytes32)"
    order_hash: OrderHash


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedWorkerpoolOrder(Event):
    """The order was presigned on the chain."""

    SIGNATURE: ClassVar[str] = "SignedWorkerpoolOrder(bytes32)"
    order_hash: OrderHash


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRequestOrder(Event):
    """The order was presigned on the chain."""

    SIGNATURE: ClassVar[str] = "SignedRequestOrder(bytes32)"
    order_hash: OrderHash


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedAppOrder(Event):
    """The order was cancelled."""

    SIGNATURE: ClassVar[str] = "ClosedAppOrder(bytes32)"
    order_hash: OrderHash


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedDatasetOrder(Event):
    """The order was cancelled."""

    SIGNATURE: ClassVar[str] = "ClosedDatasetOrder(bytes32)"
    order_hash: OrderHash


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedWorkerpoolOrder(Event):
    """The order was cancelled."""

    SIGNATURE: ClassVar[str] = "ClosedWorkerpoolOrder(bytes32)"
    order_hash: OrderHash


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedRequestOrder(Event):
    """The order was cancelled."""

    SIGNATURE: ClassVar[str] = "ClosedRequestOrder(bytes32)"
    order_hash: OrderHash


@dataclass(frozen=True, slots=True, kw_only=True)
class BroadcastAppOrder(Event):
    """Somebody published an order on the chain; nothing about it was checked."""

    SIGNATURE: ClassVar[str] = f"BroadcastAppOrder({APPORDER_TUPLE})"
    order: AppOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class BroadcastDatasetOrder(Event):
    """Somebody published an order on the chain; nothing about it was checked."""

    SIGNATURE: ClassVar[str] = f"BroadcastDatasetOrder({DATASETORDER_TUPLE})"
    order: DatasetOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class BroadcastWorkerpoolOrder(Event):
    """Somebody published an order on the chain; nothing about it was checked."""

    SIGNATURE: ClassVar[str] = f"BroadcastWorkerpoolOrder({WORKERPOOLORDER_TUPLE})"
    order: WorkerpoolOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class BroadcastRequestOrder(Event):
    """Somebody published an order on the chain; nothing about it was checked."""

    SIGNATURE: ClassVar[str] = f"BroadcastRequestOrder({REQUESTORDER_TUPLE})"
    order: RequestOrder


# --- rules and ownership ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateCategory(Event):
    """A new size class of tasks."""

    SIGNATURE: ClassVar[str] = "CreateCategory(uint256,string,string,uint256)"
    category: int
    name: str
    description: str
    timeref: Seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnershipTransferred(Event):
    """The contract that logged has a new owner."""

    SIGNATURE: ClassVar[str] = "OwnershipTransferred(address,address)"
    INDEXED: ClassVar[int] = 2
    previous_owner: Address
    new_owner: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class DiamondCut(Event):
    """The hub's code was changed."""

    SIGNATURE: ClassVar[str] = "DiamondCut((address,uint8,bytes4[])[],address,bytes)"
    cuts: tuple[tuple[Address, int, tuple[bytes, ...]], ...]
    """(facet, 0 add or 1 replace or 2 remove, selectors)."""
    init: Address
    init_call: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyUpdate(Event):
    """A workerpool changed what it asks of workers and keeps for itself, in percent, for later deals."""

    SIGNATURE: ClassVar[str] = "PolicyUpdate(uint256,uint256,uint256,uint256)"
    old_worker_stake_ratio: int
    new_worker_stake_ratio: int
    old_scheduler_reward_ratio: int
    new_scheduler_reward_ratio: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryTransfer(Event):
    """An app, dataset or workerpool has a new owner; it was created when `source` is zero (ERC-721)."""

    SIGNATURE: ClassVar[str] = "Transfer(address,address,uint256)"
    INDEXED: ClassVar[int] = 3
    source: Address
    target: Address
    entry: Address
    """App, dataset or workerpool; the same number as its token id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryApproval(Event):
    """`approved` may now transfer an app, dataset or workerpool of the owner's (ERC-721)."""

    SIGNATURE: ClassVar[str] = "Approval(address,address,uint256)"
    INDEXED: ClassVar[int] = 3
    owner: Address
    approved: Address
    entry: Address
    """App, dataset or workerpool; the same number as its token id."""


# --- boost mode ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerNoticeBoost(Event):
    """A boost deal for this workerpool was made."""

    SIGNATURE: ClassVar[str] = (
        "SchedulerNoticeBoost(address,bytes32,address,address,uint256,bytes32,string,address)"
    )
    INDEXED: ClassVar[int] = 1
    workerpool: Address
    deal_id: DealId
    app: Address
    dataset: Address
    category: int
    tag: Tag
    params: str
    beneficiary: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultPushedBoost(Event):
    """A boost task is completed."""

    SIGNATURE: ClassVar[str] = "ResultPushedBoost(bytes32,uint256,bytes)"
    deal_id: DealId
    index: int
    results: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DealSponsoredBoost(Event):
    """Somebody else than the requester pays for the boost deal."""

    SIGNATURE: ClassVar[str] = "DealSponsoredBoost(bytes32,address)"
    deal_id: DealId
    sponsor: Address


TaskEvent = (
    TaskInitialize | TaskContribute | TaskConsensus | TaskReveal | TaskReopen | TaskFinalize | TaskClaimed
)
MoneyEvent = Transfer | Approval | Lock | Unlock | Reward | Seize
OrderEvent = (
    SignedAppOrder
    | SignedDatasetOrder
    | SignedWorkerpoolOrder
    | SignedRequestOrder
    | ClosedAppOrder
    | ClosedDatasetOrder
    | ClosedWorkerpoolOrder
    | ClosedRequestOrder
    | BroadcastAppOrder
    | BroadcastDatasetOrder
    | BroadcastWorkerpoolOrder
    | BroadcastRequestOrder
)
HubEvent = (
    SchedulerNotice
    | OrdersMatched
    | DealSponsored
    | TaskEvent
    | AccurateContribution
    | FaultyContribution
    | MoneyEvent
    | OrderEvent
    | CreateCategory
    | OwnershipTransferred
    | DiamondCut
    | PolicyUpdate
    | EntryTransfer
    | EntryApproval
    | SchedulerNoticeBoost
    | ResultPushedBoost
    | DealSponsoredBoost
)

EVENTS: Final[tuple[type[HubEvent], ...]] = get_args(HubEvent)
TOPICS: Final[dict[type[HubEvent], Hash32]] = {
    kind: Hash32(keccak(kind.SIGNATURE.encode())) for kind in EVENTS
}
"""Class of an event -> its first topic, for log filters. Transfer and EntryTransfer share theirs."""


def decode_log(log: Log) -> HubEvent | None:
    """The event of a log; None when its first topic is none of ours.

    Raises PeerError when a log with one of our topics does not hold what that event holds.
    """
    if not log.topics or log.topics[0] not in _TOPIC_TO_KINDS:
        return None
    kinds = _TOPIC_TO_KINDS[log.topics[0]]
    for kind in kinds:
        if len(log.topics) - 1 == kind.INDEXED:
            break
    else:
        raise PeerError(
            f"{_place(log)}: not a {kinds[0].__name__}",
            code="bad-log",
            expected=" or ".join(f"{kind.INDEXED + 1} topics" for kind in kinds),
            got=f"{len(log.topics)}",
        )
    types = abi.argument_types(kind.SIGNATURE)
    try:
        indexed = abi.decode(types[: kind.INDEXED], b"".join(log.topics[1:]))
        values = indexed + abi.decode(types[kind.INDEXED :], log.data)
        return kind(
            **{
                name: read(value)
                for (name, read, _), value in zip(_KIND_TO_FIELDS[kind], values, strict=True)
            }
        )
    except PeerError as problem:
        raise PeerError(
            f"{_place(log)}: {kind.__name__} unreadable: {problem.what}",
            code="bad-log",
            expected=problem.expected,
            got=problem.got,
        ) from problem


def encode_event(event: HubEvent) -> tuple[tuple[Hash32, ...], bytes]:
    """Topics and data of an event. Raises InputError for a value that the contract's type does not hold."""
    kind = type(event)
    types = abi.argument_types(kind.SIGNATURE)
    values = [write(getattr(event, name)) for name, _, write in _KIND_TO_FIELDS[kind]]
    indexed = (
        Hash32(abi.encode([type_], [value]))
        for type_, value in zip(types[: kind.INDEXED], values, strict=False)
    )
    return (TOPICS[kind], *indexed), abi.encode(types[kind.INDEXED :], values[kind.INDEXED :])


def _place(log: Log) -> str:
    return f"log {log.log_index} of {log.block} by {log.address}"


def _as_is(value: Any) -> Any:
    return value


def _entry(token_id: int) -> Address:
    if token_id >> 160:
        raise PeerError("token id", expected="an address (160 bits)", got=hex(token_id))
    return Address(token_id.to_bytes(20, "big"))


_FieldCodec = tuple[str, Callable[[Any], Any], Callable[[Any], Any]]
"""Name, ABI value -> field, field -> ABI value."""


def _field_codecs(kind: type[HubEvent]) -> tuple[_FieldCodec, ...]:
    special: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
        "Tag": (lambda word: Tag(int.from_bytes(word, "big")), lambda tag: tag.word),
        "entry": (_entry, lambda entry: int.from_bytes(entry, "big")),
        "AppOrder": (lambda values: order_from_tuple(AppOrder, values), order_to_tuple),
        "DatasetOrder": (lambda values: order_from_tuple(DatasetOrder, values), order_to_tuple),
        "WorkerpoolOrder": (lambda values: order_from_tuple(WorkerpoolOrder, values), order_to_tuple),
        "RequestOrder": (lambda values: order_from_tuple(RequestOrder, values), order_to_tuple),
    }
    return tuple(
        (each.name, *special.get(each.name if each.name == "entry" else str(each.type), (_as_is, _as_is)))
        for each in fields(kind)
    )


_KIND_TO_FIELDS: Final = {kind: _field_codecs(kind) for kind in EVENTS}
_TOPIC_TO_KINDS: Final[dict[Hash32, list[type[HubEvent]]]] = {}
for _kind, _topic in TOPICS.items():
    _TOPIC_TO_KINDS.setdefault(_topic, []).append(_kind)
