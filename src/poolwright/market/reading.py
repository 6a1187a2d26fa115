"""What a publication must know of the chain, read for many publications at once.

Questions that come while an exchange is under way wait for the next one and travel together. Each exchange
first asks which block is the newest and reads everything at that block; what was read at a block is kept
until there is a newer one, so the owner of a pool is asked for once per block and not once per order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from poolwright.chain.blocks import at_block, newest_header
from poolwright.chain.encoding import hex_data, read_data
from poolwright.chain.reads import Question
from poolwright.chain.reverts import is_missing_block, revert_reason
from poolwright.chain.rpc import Request, Rpc, RpcError
from poolwright.poco.errors import PeerError, Unavailable
from poolwright.poco.types import Address, BlockStamp

MOST_KEPT: Final = 50_000
"""Answers of one block that are kept."""
TRIES: Final = 3
"""How often a question is asked again of a node that lost the block it just told of."""


@dataclass(frozen=True, slots=True)
class HasCode:
    """Asks whether there is code at an account; true of a key's account that delegates to code (EIP-7702)."""

    account: Address


Ask: TypeAlias = Question[Any] | HasCode
Key: TypeAlias = tuple[bytes, bytes | None]


class NoAnswer:
    """The contract reverts, or there is no contract."""


NO_ANSWER: Final = NoAnswer()


class NewestReads:
    """Reads at the newest block of one chain."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc
        self._block: BlockStamp | None = None
        self._kept: dict[Key, Any] = {}
        self._failed: dict[Key, RpcError] = {}
        """Of one exchange: what the node refused to answer, and only that."""
        self._waiting: list[tuple[Sequence[Ask], asyncio.Future[tuple[BlockStamp, list[Any]]]]] = []
        self._aio_task: asyncio.Task[None] | None = None

    async def ask(self, questions: Sequence[Ask]) -> tuple[BlockStamp, list[Any]]:
        """The newest block and the answers there; NO_ANSWER where the contract gives none.

        Raises Unavailable when the node does not answer, PeerError or RpcError when it answers nonsense.
        """
        answer: asyncio.Future[tuple[BlockStamp, list[Any]]] = asyncio.get_running_loop().create_future()
        self._waiting.append((questions, answer))
        if self._aio_task is None or self._aio_task.done():
            self._aio_task = asyncio.create_task(self._serve(), name="newest-reads")
        return await answer

    async def _serve(self) -> None:
        while self._waiting:
            await asyncio.sleep(0)  # whoever asks in this turn of the loop travels along
            waiting, self._waiting = self._waiting, []
            try:
                await self._exchange([each for questions, _ in waiting for each in questions])
                block = self._block
                assert block is not None
                for questions, answer in waiting:
                    self._answer(answer, block, [_key(each) for each in questions])
            except Exception as problem:  # each who asked hears of it, a bug of ours included
                for _, answer in waiting:
                    if not answer.done():
                        answer.set_exception(problem)

    def _answer(
        self, answer: asyncio.Future[tuple[BlockStamp, list[Any]]], block: BlockStamp, keys: Sequence[Key]
    ) -> None:
        """Who asked what the node refuses hears of it; those who only travelled along do not."""
        if answer.done():
            return
        refusal = next((self._failed[key] for key in keys if key in self._failed), None)
        if refusal is None:
            answer.set_result((block, [self._kept[key] for key in keys]))
        else:
            answer.set_exception(refusal)

    async def _exchange(self, questions: Sequence[Ask]) -> None:
        for _ in range(TRIES):
            block = (await newest_header(self._rpc)).stamp
            if block != self._block or len(self._kept) > MOST_KEPT:
                self._kept.clear()
                self._block = block
            unknown = {_key(each): each for each in questions if _key(each) not in self._kept}
            if not unknown or await self._read(unknown, block):
                return
        raise Unavailable("the node keeps losing its newest block", code="block-missing")

    async def _read(self, unknown: dict[Key, Ask], block: BlockStamp) -> bool:
        requests = [_request(each, block) for each in unknown.values()]
        outcomes = await self._rpc.batch_outcomes(requests)
        self._failed.clear()
        for (key, question), outcome in zip(unknown.items(), outcomes, strict=True):
            if isinstance(outcome, RpcError):
                if is_missing_block(outcome):
                    return False
                if revert_reason(outcome) is None:
                    self._failed[key] = outcome
                else:
                    self._kept[key] = NO_ANSWER
                continue
            if isinstance(question, HasCode):
                self._kept[key] = bool(read_data(outcome, "code"))
                continue
            try:
                self._kept[key] = question.read(read_data(outcome, question.what))
            except PeerError:  # an account without code answers nothing
                self._kept[key] = NO_ANSWER
        return True


def _key(question: Ask) -> Key:
    return (question.account, None) if isinstance(question, HasCode) else (question.to, question.call)


def _request(question: Ask, block: BlockStamp) -> Request:
    if isinstance(question, HasCode):
        return "eth_getCode", [str(question.account), at_block(block)]
    return "eth_call", [{"to": str(question.to), "data": hex_data(question.call)}, at_block(block)]
