"""What a publication must know of the chain, read for many publications at once.

Questions that come while an exchange is under way wait for the next one and travel together. Each exchange
asks which block is the newest, and everything else at the block that was it a moment ago; when there is a
newer one, everything is asked again at that. What was read at a block is kept until there is a newer one, so
the owner of a pool is asked for once per block and not once per order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from poolwright.chain.blocks import at_block, header_request, read_newest
from poolwright.chain.encoding import Json, hex_data, read_data
from poolwright.chain.reads import Question
from poolwright.chain.reverts import is_missing_block, revert_reason
from poolwright.chain.rpc import Request, Rpc, RpcError
from poolwright.market.together import Together
from poolwright.poco.errors import PeerError, Unavailable
from poolwright.poco.types import Address, BlockStamp

MOST_KEPT: Final = 50_000
"""Answers of one block that are kept."""
FRESH_SECONDS: Final = 1.0
"""A block that was the newest within this time probably still is."""
TRIES: Final = 3
"""How often a question is asked again of a node that lost the block it just told of."""


@dataclass(frozen=True, slots=True)
class HasCode:
    """Asks whether there is code at an account; true of a key's account that delegates to code (EIP-7702)."""

    account: Address


Ask: TypeAlias = Question[Any] | HasCode
Key: TypeAlias = tuple[bytes, bytes | None]
Answers: TypeAlias = tuple[BlockStamp, list[Any]]


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
        self._seen_at = 0.0
        """When the block was the newest, in seconds of the loop's clock."""
        self._together: Together[Sequence[Ask], Answers | RpcError] = Together(
            self._answer_all, name="newest-reads"
        )

    async def ask(self, questions: Sequence[Ask]) -> Answers:
        """The newest block and the answers there; NO_ANSWER where the contract gives none.

        Raises Unavailable when the node does not answer, PeerError or RpcError when it answers nonsense.
        """
        answer = await self._together.ask(questions)
        if isinstance(answer, RpcError):
            raise answer
        return answer

    async def _answer_all(self, waiting: Sequence[Sequence[Ask]]) -> list[Answers | RpcError]:
        block = await self._exchange({_key(each): each for questions in waiting for each in questions})
        return [self._answer(block, [_key(each) for each in questions]) for questions in waiting]

    def _answer(self, block: BlockStamp, keys: Sequence[Key]) -> Answers | RpcError:
        """Who asked what the node refuses hears of it; those who only travelled along do not."""
        refusal = next((self._failed[key] for key in keys if key in self._failed), None)
        return (block, [self._kept[key] for key in keys]) if refusal is None else refusal

    async def _exchange(self, asked: dict[Key, Ask]) -> BlockStamp:
        """Know the answers at the newest block, which is returned."""
        for _ in range(TRIES):
            if len(self._kept) > MOST_KEPT:
                self._kept.clear()
            clock = asyncio.get_running_loop().time
            guess = self._block if clock() < self._seen_at + FRESH_SECONDS else None
            unknown = self._unknown(asked)
            early = [] if guess is None else [_request(each, guess) for each in unknown.values()]
            newest, *outcomes = await self._rpc.batch_outcomes([header_request(None), *early])
            if isinstance(newest, RpcError):
                raise newest
            block = read_newest(newest).stamp
            self._seen_at = clock()
            if block != self._block:
                self._kept.clear()
                self._block = block
            if block != guess:
                unknown = self._unknown(asked)
                outcomes = await self._rpc.batch_outcomes(
                    [_request(each, block) for each in unknown.values()]
                )
            if self._keep(unknown, outcomes):
                return block
        raise Unavailable("the node keeps losing its newest block", code="block-missing")

    def _unknown(self, asked: dict[Key, Ask]) -> dict[Key, Ask]:
        return {key: each for key, each in asked.items() if key not in self._kept}

    def _keep(self, unknown: dict[Key, Ask], outcomes: Sequence[Json | RpcError]) -> bool:
        """Keep these answers; False when the node does not have the block any more."""
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
