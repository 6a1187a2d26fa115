"""The chain of the simulation: the PoCo model, blocks every five seconds, a mempool, and reorgs.

A `Node` is what one process sees of it: its confirmed head never goes back, its reads are those of the newest
block or, when the node is behind, of an older one, and now and then it does not answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from poolwright.chain.budget import Priority
from poolwright.devnet.simulation.clock import SECOND, Action, Clock
from poolwright.devnet.simulation.faults import Chance
from poolwright.poco import events
from poolwright.poco.errors import PeerError, Unavailable
from poolwright.poco.journal import SnapshotId
from poolwright.poco.keccak import keccak
from poolwright.poco.model import Call, Emitted, Poco
from poolwright.poco.records import NO_TASK, Account, Contribution, OnchainTask
from poolwright.poco.revert import Revert
from poolwright.poco.types import (
    Address,
    BlockHash,
    BlockNumber,
    BlockStamp,
    Hash32,
    OrderHash,
    TaskId,
    Timestamp,
    TxHash,
    Wei,
)

BLOCK_SECONDS: Final = 5
GENESIS: Final = Timestamp(1_700_000_000)
CONFIRMATIONS: Final = 12
KEPT_BLOCKS: Final = CONFIRMATIONS + 2
"""How many blocks can still be undone."""
TX_COST: Final = Wei(1)
"""What each transaction costs; wallets hold that many coins as transactions they can pay."""

Run = Callable[[Poco, Call], tuple[Emitted, ...]]
Key = tuple[str, bytes]
"""What changes on the chain: ("task", id), ("stake", wallet), ("consumed", order) or ("owner", entry)."""


@dataclass(slots=True, kw_only=True, eq=False)
class Tx:
    """A transaction: what it calls, and what has become of it. `nonce` is None for passers-by."""

    key: str
    sender: Address
    run: Run
    nonce: int | None = None
    data: bytes = b""
    """Its call data, of those that are for many tasks: they say for which."""
    cost: Wei = TX_COST
    """What it takes from its wallet."""
    priority: Priority = Priority.ORDINARY
    """What a limit on fees means for it."""
    tx_hash: TxHash = field(init=False)
    not_before: int = 0
    is_underpriced: bool = False
    mined_in: int | None = None
    revert: str | None = None
    taker: Tx | None = None
    """Another transaction that has its nonce."""

    def __post_init__(self) -> None:
        self.tx_hash = TxHash(Hash32(keccak(f"{self.key} {self.sender.hex()} {self.nonce}".encode())))


@dataclass(slots=True, kw_only=True)
class Block:
    """A block, what was done in it, and how to undo it."""

    stamp: BlockStamp
    undo: SnapshotId | None
    txs: list[Tx] = field(default_factory=list)
    logs: tuple[events.Log, ...] = ()
    touched: list[Key] = field(default_factory=list)
    """What is not as it was before."""


class Chain:
    """One chain. Blocks come by themselves once `start` was called."""

    def __init__(self, clock: Clock, poco: Poco, chance: Chance) -> None:
        self.poco = poco
        self.blocks: list[Block] = []
        self.mempool: dict[int, Tx] = {}
        self.nonces: dict[Address, int] = {}
        """The next nonce of each wallet."""
        self.coins: dict[Address, int] = {}
        self.gas_price = TX_COST
        """What a transaction costs that looks at the price before it is sent."""
        self.followers: list[Action] = []
        """Told of every block, before those who wait for the next one."""
        self.depths: list[int] = []
        """Of the reorgs so far."""
        self._clock = clock
        self._chance = chance
        self._waiting: list[Action] = []
        self._history: dict[Key, list[tuple[int, Any]]] = {}
        """What each thing was, and since which block: for who reads the past."""
        self._branch = 0

    @property
    def now(self) -> Timestamp:
        """The time of the block that is due next."""
        return Timestamp(GENESIS + (len(self.blocks) + 1) * BLOCK_SECONDS)

    @property
    def head(self) -> BlockStamp:
        return self.blocks[-1].stamp

    def start(self, *entries: Address) -> None:
        """The first block; what there was before it of stakes and of these entries is remembered."""
        wallets = [("stake", wallet) for wallet, _ in self.poco.escrow.balances.items()]
        for key in (*wallets, *(("owner", entry) for entry in entries)):
            self._history[key] = [(0, self.value(key))]
        self._append()
        self._clock.after(BLOCK_SECONDS * SECOND, self._tick)

    def next_block(self, resume: Action) -> None:
        """Call back once, after the next block."""
        self._waiting.append(resume)

    def send(self, tx: Tx) -> None:
        """A transaction arrives at the nodes: to be mined, or lost on the way."""
        if self._chance.hits("dropped_txs"):
            return
        if self._chance.hits("delayed_txs"):
            tx.not_before = len(self.blocks) + self._chance.of("delays").randint(1, 8)
        self.mempool[id(tx)] = tx

    def knows(self, tx: Tx) -> bool:
        return id(tx) in self.mempool

    def trial(self, sender: Address, run: Run) -> None:
        """Run it on the newest state and leave no trace. Raises Revert."""
        undo = self.poco.snapshot()
        try:
            run(self.poco, Call(sender, self.now))
        finally:
            self.poco.restore(undo)

    def stamp(self, number: int) -> BlockStamp:
        return self.blocks[number - 1].stamp

    def at(self, key: Key, number: int) -> Any:
        """What it was after that block; None when it was nothing yet."""
        for block, value in reversed(self._history.get(key, ())):
            if block <= number:
                return value
        return None

    def task_at(self, task_id: TaskId, number: int) -> OnchainTask:
        """The task as it was after that block."""
        found: OnchainTask | None = self.at(("task", task_id), number)
        return NO_TASK if found is None else found

    def value(self, key: Key) -> Any:
        """What it is now: a task, an account, how much of an order was taken, the owner of an entry."""
        match key:
            case ("task", name):
                return self.poco.task(TaskId(Hash32(name)))
            case ("stake", wallet):
                return self.poco.account(Address(wallet))
            case ("consumed", name):
                return self.poco.consumed(OrderHash(Hash32(name)))
            case (_, entry):
                return self.poco.owner_of(Address(entry))

    # --- blocks ------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._clock.after(BLOCK_SECONDS * SECOND, self._tick)
        if self._chance.hits("reorgs"):
            self._reorganise(min(self._chance.of("depths").randint(1, 12), len(self.blocks) - 1))
        self._append()
        for follower in self.followers:
            follower()
        waiting, self._waiting = self._waiting, []
        for resume in waiting:
            resume()

    def _append(self) -> None:
        undo = self.poco.snapshot()
        number = len(self.blocks) + 1
        name = f"block {number} of branch {self._branch}"
        stamp = BlockStamp(BlockNumber(number), BlockHash(Hash32(keccak(name.encode()))), self.now)
        block = Block(stamp=stamp, undo=undo)
        logs: list[events.Log] = []
        if self.mempool:
            for tx in list(self._minable(number)):
                self._mine(tx, block, logs)
            block.logs = tuple(logs)
        self.blocks.append(block)
        if len(self.blocks) > KEPT_BLOCKS:
            old = self.blocks[-1 - KEPT_BLOCKS]
            if old.undo is not None:
                self.poco.release_snapshot(old.undo)
                old.undo = None

    def _minable(self, number: int) -> Iterator[Tx]:
        """What can be mined now, each wallet's in the order of nonces."""
        is_cheap = self._chance.is_calm  # what nobody knows any more (of a lost disk) waits for that
        ready = [
            tx
            for tx in self.mempool.values()
            if tx.not_before < number and (is_cheap or not tx.is_underpriced)
        ]
        if len(ready) > 1:
            self._chance.of("order").shuffle(ready)
        ready.sort(key=lambda tx: -1 if tx.nonce is None else tx.nonce)
        for tx in ready:
            if tx.nonce is None or tx.nonce == self.nonces.get(tx.sender, 0):
                yield tx
            elif tx.nonce < self.nonces.get(tx.sender, 0):
                del self.mempool[id(tx)]  # its nonce is used; its sender finds out

    def _mine(self, tx: Tx, block: Block, logs: list[events.Log]) -> None:
        del self.mempool[id(tx)]
        number = block.stamp.number
        if tx.nonce is not None:
            self.nonces[tx.sender] = tx.nonce + 1
            self.coins[tx.sender] = self.coins.get(tx.sender, 0) - tx.cost
            if tx.key != "taker" and self._chance.hits("taken_nonces"):
                tx.taker = Tx(key="taker", sender=tx.sender, run=nothing, nonce=tx.nonce, cost=tx.cost)
                tx = tx.taker
        tx.mined_in, tx.revert = number, None
        block.txs.append(tx)
        try:
            emitted = tx.run(self.poco, Call(tx.sender, block.stamp.timestamp))
        except Revert as revert:
            tx.revert = revert.explanation or revert.reason or "no reason given"
            return
        touched: dict[Key, None] = {}
        for entry in emitted:
            topics, data = events.encode_event(entry.event)
            logs.append(
                events.Log(
                    address=entry.address,
                    topics=topics,
                    data=data,
                    block=block.stamp,
                    tx_hash=tx.tx_hash,
                    log_index=len(logs),
                )
            )
            touched.update(dict.fromkeys(_touched(entry.event)))
        for key in touched:
            self._history.setdefault(key, []).append((number, self.value(key)))
        block.touched += touched

    def _reorganise(self, depth: int) -> None:
        """Other blocks take the place of the newest ones; their transactions may come in another order."""
        depth = min(depth, CONFIRMATIONS)
        if depth < 1:
            return
        self.depths.append(depth)
        self._branch += 1
        undone = self.blocks[-depth:]
        del self.blocks[-depth:]
        undo = undone[0].undo
        if undo is None:
            raise AssertionError("a block that is undone can be undone")
        self.poco.restore(undo)
        base = len(self.blocks)
        for key in {key for block in undone for key in block.touched}:
            history = self._history[key]
            while history and history[-1][0] > base:
                history.pop()
        for block in reversed(undone):
            for tx in reversed(block.txs):
                self._unmine(tx)
        for _ in range(depth):
            self._append()

    def _unmine(self, tx: Tx) -> None:
        if tx.nonce is not None:
            self.nonces[tx.sender] = tx.nonce
            self.coins[tx.sender] += tx.cost
        tx.mined_in = tx.revert = None
        if self._chance.of("reorged").random() < 0.3:
            tx.not_before = len(self.blocks) + self._chance.of("reorged").randint(1, 6)
        if not self._chance.hits("dropped_txs"):
            self.mempool[id(tx)] = tx


class Node:
    """What one process is told of the chain. Raises Unavailable or PeerError when its node has a bad day."""

    def __init__(self, chain: Chain, clock: Clock, chance: Chance) -> None:
        self.down_until = 0
        self._chain = chain
        self._clock = clock
        self._chance = chance
        self._confirmed = 1

    @property
    def is_down(self) -> bool:
        return self._clock.now < self.down_until and not self._chance.is_calm

    def head(self) -> BlockStamp:
        """The newest confirmed block that this process knows."""
        if not self.is_down:
            self._confirmed = max(self._confirmed, len(self._chain.blocks) - CONFIRMATIONS)
        return self._chain.stamp(self._confirmed)

    def task(self, task_id: TaskId) -> OnchainTask:
        return self.tasks([task_id])[0]

    def tasks(self, task_ids: Sequence[TaskId], at: BlockStamp | None = None) -> list[OnchainTask]:
        """Asked for at once, answered from one block: the given one, or the newest that the node has."""
        self.ask()
        if at is not None:
            return [self._chain.task_at(task_id, at.number) for task_id in task_ids]
        if self._chance.hits("rpc_stale"):
            number = len(self._chain.blocks) - self._chance.of("lag").randint(1, 3)
            return [self._chain.task_at(task_id, number) for task_id in task_ids]
        return [self._chain.poco.task(task_id) for task_id in task_ids]

    def contribution(self, task_id: TaskId, worker: Address) -> Contribution:
        self.ask()
        return self._chain.poco.contribution(task_id, worker)

    def account(self, owner: Address) -> Account:
        self.ask()
        return self._chain.poco.account(owner)

    def score(self, worker: Address) -> int:
        self.ask()
        return self._chain.poco.score(worker)

    def ask(self) -> None:
        """Raise what a call to the node may raise."""
        if self.is_down or self._chance.hits("rpc_errors"):
            raise Unavailable("node", expected="an answer", got="none", code="rpc")
        if self._chance.hits("rpc_nonsense"):
            raise PeerError("node", expected="an answer that can be read", got="nonsense", code="rpc")


def _touched(event: events.HubEvent) -> Iterator[Key]:
    """What an event says that has changed."""
    match event:
        case events.Transfer(source=source, target=target):
            yield "stake", source
            yield "stake", target
        case events.OrdersMatched():
            for name in (event.app_hash, event.dataset_hash, event.workerpool_hash, event.request_hash):
                yield "consumed", name
        case (
            events.ClosedAppOrder(order_hash=name)
            | events.ClosedDatasetOrder(order_hash=name)
            | events.ClosedWorkerpoolOrder(order_hash=name)
            | events.ClosedRequestOrder(order_hash=name)
        ):
            yield "consumed", name
        case events.EntryTransfer(entry=entry):
            yield "owner", entry
        case _:
            task_id: TaskId | None = getattr(event, "task_id", None)
            if task_id is not None:
                yield "task", task_id


def nothing(poco: Poco, call: Call) -> tuple[Emitted, ...]:
    """A transaction that only uses up its nonce."""
    return ()
