"""One wallet's transactions, as `poolwright.chain.sender` promises them: a key is one transaction for ever.

The journal comes before the broadcast; what the node drops is sent again, what is priced too low is replaced,
what lost its nonce to another program gets a new one, and an outcome counts only when its block is confirmed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Final

from poolwright.chain.budget import FeeBudget, Priority
from poolwright.chain.outcomes import OutOfGas, TxReverted
from poolwright.chain.tx_rules import Patience
from poolwright.devnet.simulation.chain import BLOCK_SECONDS, TX_COST, Chain, Node, Run, Tx, nothing
from poolwright.devnet.simulation.clock import Action
from poolwright.devnet.simulation.faults import Chance
from poolwright.poco.revert import Revert
from poolwright.poco.types import Address, Wei

Wait = Callable[[Action], None]
"""What a process's hands wait for: called with what to do when it has come."""

PATIENCE: Final = Patience()


class Sender:
    """Sends for one wallet. `journal` is durable and outlives this object; so does what the chain holds."""

    def __init__(
        self,
        chain: Chain,
        node: Node,
        chance: Chance,
        address: Address,
        journal: dict[str, Tx],
        guarded: Callable[[Action], Action],
        budget: FeeBudget | None = None,
    ) -> None:
        self._chain = chain
        self._node = node
        self._chance = chance
        self._address = address
        self._journal = journal
        self._guarded = guarded
        self.budget: Final = budget or FeeBudget()
        self._sent_at: dict[str, int] = {}
        """The block at which each was last broadcast, by this process."""
        self._watched: dict[str, None] = {}
        """Keys that are not confirmed yet."""

    def resume(self) -> None:
        """After a restart: watch over everything that was sent and is not through."""
        for key, tx in self._journal.items():
            if self.is_confirmed(tx):
                self._pay(tx)
            else:
                self._watch(key)

    def submit(
        self,
        key: str,
        run: Run,
        die: Callable[[], None],
        *,
        data: bytes = b"",
        priority: Priority = Priority.ORDINARY,
        price: Wei = TX_COST,
    ) -> Generator[Wait, None, Tx]:
        """See one key through to a confirmed block. Raises TxReverted, OutOfGas, OverBudget, Unavailable.

        `die` may end the process between the journal and the broadcast.
        """
        if key not in self._journal:
            self._node.ask()
            in_flight = Wei(sum(tx.cost for tx in self.in_flight))
            now = self._node.head().timestamp
            held = self.budget.check(cost=price, in_flight=in_flight, priority=priority, now=now)
            if held is not None:
                raise held
            try:
                self._chain.trial(self._address, run)
            except Revert as revert:
                raise TxReverted(revert.explanation, key=key) from revert
            coins = self._chain.coins.get(self._address, 0)
            if coins < price:
                raise OutOfGas(Wei(coins), price, wallet=self._address)
            tx = Tx(
                key=key,
                sender=self._address,
                run=run,
                nonce=self._next_nonce(),
                data=data,
                cost=price,
                priority=priority,
            )
            tx.is_underpriced = self._chance.hits("underpriced_txs")
            self._journal[key] = tx
            die()
            self._broadcast(tx)
            self._watch(key)
        while not self.is_confirmed(self._journal[key]):
            yield self._chain.next_block
        tx = self._journal[key]
        if tx.revert is not None:
            raise TxReverted(tx.revert, key=key, tx_hash=tx.tx_hash)
        return tx

    def is_confirmed(self, tx: Tx) -> bool:
        return tx.mined_in is not None and tx.mined_in <= self._node.head().number

    @property
    def in_flight(self) -> Iterator[Tx]:
        """What was written down and is not confirmed."""
        return (self._journal[key] for key in self._watched)

    def has_sent(self, key: str) -> bool:
        return key in self._journal

    def _watch(self, key: str) -> None:
        if not self._watched:
            self._chain.next_block(self._guarded(self._look_at_all))
        self._watched[key] = None

    def _look_at_all(self) -> None:
        """A new block: do what overdue transactions need."""
        if not self._node.is_down:
            for key in list(self._watched):
                if self.is_confirmed(self._journal[key]):
                    del self._watched[key]
                    self._pay(self._journal[key])
                else:
                    self._look(self._journal[key])
        if self._watched:
            self._chain.next_block(self._guarded(self._look_at_all))

    def _pay(self, tx: Tx) -> None:
        """A confirmed block took its fee."""
        if tx.mined_in is not None:
            self.budget.add(self._chain.stamp(tx.mined_in).timestamp, tx.cost)

    def _look(self, tx: Tx) -> None:
        if tx.mined_in is not None:
            return
        taker = tx.taker
        if taker is not None and taker.mined_in is not None:
            if taker.mined_in <= self._node.head().number:
                self._renew(tx)
            return
        blocks = len(self._chain.blocks) - self._sent_at.get(tx.key, 0)
        if not PATIENCE.is_over(blocks=blocks, seconds=blocks * BLOCK_SECONDS):
            return
        if not self._chain.knows(tx):
            self._broadcast(tx)
        elif tx.is_underpriced:
            tx.is_underpriced = False  # replaced by the same at a better price
            self._sent_at[tx.key] = len(self._chain.blocks)
        self._fill_gaps(tx)

    def _renew(self, old: Tx) -> None:
        """Its nonce is lost for good: the same call gets another one."""
        tx = Tx(
            key=old.key,
            sender=old.sender,
            run=old.run,
            nonce=self._next_nonce(),
            data=old.data,
            cost=old.cost,
            priority=old.priority,
        )
        self._journal[old.key] = tx
        self._broadcast(tx)

    def _fill_gaps(self, tx: Tx) -> None:
        """Use up a nonce below this one that nobody has: of a journal that was lost with its disk."""
        mined = self._chain.nonces.get(self._address, 0)
        pool = (other.nonce for other in self._chain.mempool.values() if other.sender == self._address)
        used = {*pool, *(one.nonce for one in self._journal.values())}
        for nonce in range(mined, tx.nonce or 0):
            if nonce not in used:
                key = f"nonce-gap:{nonce}"
                self._journal[key] = Tx(key=key, sender=self._address, run=nothing, nonce=nonce)
                self._broadcast(self._journal[key])
                self._watched[key] = None

    def _next_nonce(self) -> int:
        pending = [tx.nonce for tx in self._chain.mempool.values() if tx.sender == self._address]
        journaled = [tx.nonce for tx in self._journal.values()]
        known = [nonce for nonce in (*pending, *journaled) if nonce is not None]
        return max(self._chain.nonces.get(self._address, 0), max(known, default=-1) + 1)

    def _broadcast(self, tx: Tx) -> None:
        self._sent_at[tx.key] = len(self._chain.blocks)
        self._chain.send(tx)
