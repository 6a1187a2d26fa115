"""From a request to a broadcast: estimate, check the purse, then hand over to the flight.

All requests that wait are taken together: one batch of estimates, one journal write, one batch of broadcasts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from poolwright.chain import reverts, tx_rules
from poolwright.chain.blocks import LATEST
from poolwright.chain.budget import OverBudget
from poolwright.chain.encoding import Json, read_quantity
from poolwright.chain.flight import Flight, TxRequest, future
from poolwright.chain.journal import TxRecord
from poolwright.chain.network import NetworkLook
from poolwright.chain.outcomes import OutOfGas, TxReverted
from poolwright.chain.rpc import Request, RpcError
from poolwright.chain.tx_rules import Afford
from poolwright.poco.errors import PeerError, PoolwrightError, Unavailable
from poolwright.poco.types import Timestamp, Wei

log = logging.getLogger(__name__)

WRITE_TOGETHER: Final = 50
"""How many waiting requests are written together at most."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Waiting:
    """A request on its way to a nonce."""

    request: TxRequest
    done: asyncio.Future[TxRecord]


class Writer:
    """Takes requests in order; `look_seconds` is how long it waits for money to come free."""

    def __init__(self, flight: Flight, look_seconds: float) -> None:
        self._flight = flight
        self._look_seconds = look_seconds
        self._queue: asyncio.Queue[Waiting] = asyncio.Queue()
        self._ended: PoolwrightError | None = None

    def take(self, request: TxRequest) -> asyncio.Future[TxRecord]:
        """Queue a request; the future is what becomes of it."""
        waiting = Waiting(request=request, done=future())
        if self._ended is None:
            self._queue.put_nowait(waiting)
        else:
            waiting.done.set_exception(self._ended)
        return waiting.done

    def end(self, problem: PoolwrightError) -> None:
        """Refuse everything that has no nonce yet, now and from now on."""
        self._ended = problem
        while not self._queue.empty():
            _refuse([self._queue.get_nowait()], problem)

    async def run(self) -> None:
        """Write until cancelled. Raises JournalFailed."""
        while True:
            together = [await self._queue.get()]
            while len(together) < WRITE_TOGETHER and not self._queue.empty():
                together.append(self._queue.get_nowait())
            try:
                await self._write(together)
            except (Unavailable, RpcError, PeerError) as problem:  # before the journal: nothing was sent
                _refuse(together, problem)
            except asyncio.CancelledError:
                _refuse(together, self._ended or Unavailable("the writer was stopped", code="sender-closed"))
                raise
            except Exception as problem:  # JournalFailed, or a bug of ours: nobody waits for ever
                _refuse(together, problem)
                raise

    async def _write(self, together: Sequence[Waiting]) -> None:
        network = await self._flight.network.look(self._flight.height)
        fees = self._flight.gas.fees(network.price)
        limits = await self._estimate(together, network)
        committed = self._flight.committed
        sent: list[tuple[TxRecord, asyncio.Future[TxRecord]]] = []
        later: list[Waiting] = []
        for waiting, limit in zip(together, limits, strict=True):
            if waiting.done.done():
                continue  # refused by the estimate
            record = self._flight.unsigned(waiting.request, fees, limit)
            held = self._over_budget(waiting.request, record, committed)
            if held is not None:
                waiting.done.set_exception(held)
                continue
            match tx_rules.can_afford(balance=network.balance, cost=record.cost, in_flight=committed):
                case Afford.YES:
                    committed = Wei(committed + record.cost)
                    sent.append((record, waiting.done))
                case Afford.LATER:
                    later.append(waiting)
                case Afford.NO:
                    problem = OutOfGas(network.balance, record.cost, wallet=self._flight.address)
                    waiting.done.set_exception(problem)
                    self._flight.network.forget()  # the operator may fill the purse any moment
        if sent:
            await self._flight.send_new(sent)
        for waiting in later:
            self._queue.put_nowait(waiting)
        if later and not sent:
            await self._next_settlement()

    def _over_budget(self, request: TxRequest, record: TxRecord, committed: Wei) -> OverBudget | None:
        head = self._flight.heads.current
        now = Timestamp(0) if head is None else head.timestamp
        was_held = bool(self._flight.budget.held(now))
        held = self._flight.budget.check(
            cost=record.cost, in_flight=committed, priority=request.priority, now=now
        )
        if held is not None and not was_held:
            log.warning("transactions wait: %s", held)
        elif was_held and not self._flight.budget.held(now):
            log.info("transactions go again: the limits on fees leave room")
        return held

    async def _next_settlement(self) -> None:
        """Wait until something in flight was confirmed, or for a look's time."""
        self._flight.settled.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._look_seconds):
                await self._flight.settled.wait()
        self._flight.network.forget()

    async def _estimate(self, together: Sequence[Waiting], network: NetworkLook) -> list[int]:
        """A gas limit for each request; those that revert are refused, with 0 in their place."""
        unknown = [waiting for waiting in together if waiting.request.gas_limit is None]
        if not unknown:
            return [waiting.request.gas_limit or 0 for waiting in together]
        estimates: list[Request] = [
            ("eth_estimateGas", [self._flight.call_object(waiting.request), LATEST]) for waiting in unknown
        ]
        height, *outcomes = await self._flight.rpc.batch_outcomes([("eth_blockNumber", []), *estimates])
        limits: dict[str, int] = {}
        for waiting, outcome in zip(unknown, outcomes, strict=True):
            if isinstance(outcome, RpcError):
                self._refuse_estimate(waiting, outcome, height, network)
            else:
                estimate = read_quantity(outcome, "gas estimate")
                limits[waiting.request.key] = tx_rules.gas_limit(estimate, network.block_gas_limit)
        return [waiting.request.gas_limit or limits.get(waiting.request.key, 0) for waiting in together]

    def _refuse_estimate(
        self, waiting: Waiting, refusal: RpcError, height: Json | RpcError, network: NetworkLook
    ) -> None:
        if not isinstance(height, RpcError) and read_quantity(height, "block number") < self._flight.height:
            waiting.done.set_exception(
                Unavailable(
                    f"the node is behind and refuses transaction {waiting.request.key}",
                    code="node-behind",
                    expected=f"a node at block {self._flight.height}",
                    got=f"block {height}",
                    next_step="submit again in a moment",
                )
            )
            return
        reason = reverts.revert_reason(refusal)
        if reverts.is_out_of_gas_money(refusal):
            waiting.done.set_exception(
                OutOfGas(network.balance, Wei(waiting.request.value + 1), wallet=self._flight.address)
            )
        elif reason is not None:
            waiting.done.set_exception(TxReverted(reason, key=waiting.request.key))
        else:
            waiting.done.set_exception(refusal)


def _refuse(together: Sequence[Waiting], problem: Exception) -> None:
    for waiting in together:
        if not waiting.done.done():
            waiting.done.set_exception(problem)
