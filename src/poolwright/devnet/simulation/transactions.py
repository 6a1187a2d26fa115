"""The scheduler's transactions: `daemons.batches` as it is, over the simulation's sender and node."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, cast

from poolwright.chain.outcomes import Receipt
from poolwright.chain.reads import HubReader
from poolwright.chain.sender import TxRequest, TxSender
from poolwright.daemons.batches import Batches
from poolwright.daemons.submissions import members_of
from poolwright.devnet.simulation.aio import VirtualLoop
from poolwright.devnet.simulation.chain import Chain, Node, Run
from poolwright.devnet.simulation.faults import Chance
from poolwright.devnet.simulation.process import Died, Process
from poolwright.devnet.simulation.sender import Sender
from poolwright.poco.abi import decode_call, selector
from poolwright.poco.errors import InvariantBroken
from poolwright.poco.model import Call, Emitted, Poco
from poolwright.poco.records import OnchainTask
from poolwright.poco.types import BlockStamp, TaskId, Wei

GAS_USED: Final = 150_000
"""By each task of a call."""

_OPERATIONS: Final[Mapping[str, Callable[..., tuple[Emitted, ...]]]] = {
    "initialize(bytes32,uint256)": Poco.initialize,
    "initializeArray(bytes32[],uint256[])": Poco.initialize_array,
    "finalize(bytes32,bytes,bytes)": Poco.finalize,
    "reopen(bytes32)": Poco.reopen,
    "claim(bytes32)": Poco.claim,
    "claimArray(bytes32[])": Poco.claim_array,
    "initializeAndClaimArray(bytes32[],uint256[])": Poco.initialize_and_claim_array,
}


def call_of(data: bytes) -> Run:
    """The operation of the model that call data ask for. Raises InvariantBroken for one that nobody sends."""
    for signature, operation in _OPERATIONS.items():
        if data[:4] == selector(signature):
            return partial(_carried_out, operation, decode_call(signature, data))
    raise InvariantBroken(f"call data 0x{data[:4].hex()}… are of no operation that the scheduler sends")


def _carried_out(
    operation: Callable[..., tuple[Emitted, ...]], arguments: Sequence[Any], poco: Poco, call: Call
) -> tuple[Emitted, ...]:
    return operation(poco, call, *arguments)


def batches_of(
    process: Process[Any, Any, Any], chain: Chain, chance: Chance, sender: Sender, loop: VirtualLoop
) -> Batches:
    """The batches of one life of the scheduler."""
    hub = cast("HubReader", _Hub(process.node))
    twin = cast("TxSender", _Sender(process, chain, chance, sender, loop))
    return Batches(hub, chain.poco.hub, twin, process.now, process.node.head)


class _Hub:
    """The reads of HubReader that batches make."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def tasks(self, task_ids: Sequence[TaskId], at: BlockStamp | None = None) -> list[OnchainTask]:
        return self._node.tasks(task_ids, at)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Flying:
    """A transaction under way, as far as batches look at it."""

    key: str
    data: bytes


class _Sender:
    """TxSender as batches use it."""

    def __init__(
        self,
        process: Process[Any, Any, Any],
        chain: Chain,
        chance: Chance,
        sender: Sender,
        loop: VirtualLoop,
    ) -> None:
        self._process = process
        self._chain = chain
        self._chance = chance
        self._sender = sender
        self._loop = loop

    @property
    def in_flight(self) -> tuple[_Flying, ...]:
        return tuple(_Flying(key=tx.key, data=tx.data) for tx in self._sender.in_flight)

    async def start(self) -> None:
        """The journal was taken up when the process started."""

    async def block_gas_limit(self) -> int:
        self._process.node.ask()
        return self._chance.of("gas limit").randint(1, 30) * 1_000_000

    async def submit(self, request: TxRequest) -> Receipt:
        """See a transaction through, as `Sender.submit`; who dies meanwhile never comes back from here."""
        count = max(len(members_of(request.data)), 1)
        price = Wei(self._chain.gas_price * count)
        work = self._sender.submit(
            request.key,
            call_of(request.data) if request.data else _nothing_new,
            self._process.die_at_effect,
            data=request.data,
            priority=request.priority,
            price=price,
        )
        while True:
            try:
                wait = next(work)
            except StopIteration as outcome:
                tx = outcome.value
                break
            except Died:
                self._process.crash()
                await self._loop.create_future()
            await self._loop.moment(wait)
        block = self._chain.stamp(tx.mined_in)
        return Receipt(tx_hash=tx.tx_hash, block=block, gas_used=GAS_USED * count, fee=tx.cost)


def _nothing_new(poco: Poco, call: Call) -> tuple[Emitted, ...]:
    """Who waits for a transaction that is under way does not say again what it is."""
    raise InvariantBroken("a transaction that is waited for was to be sent anew")
