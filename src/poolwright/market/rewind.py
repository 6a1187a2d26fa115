"""Back to where two branches part, when the chain is reorganised below what the market has taken.

What the market holds of the chain it holds with the block at which it was read. So going back is: find the
last block that both branches have among those that the cursor passed; forget the deals and categories above
it; read again, at the newest block of the new branch, everything that was read above it: what deals took of
orders, stakes, owners. Orders that had left because of a deal or a closure that is gone come back. Then the
logs of the new branch are taken as usual from there on.

A chain that has none of the passed blocks, not even the first, is another chain; that is not guessed at.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import structlog

from poolwright.chain.blocks import fetch_headers
from poolwright.chain.heads import ChainReorganised
from poolwright.chain.reads import Question
from poolwright.chain.rpc import Rpc, RpcError, back_off
from poolwright.market.chain_market import ChainMarket
from poolwright.market.clerk import Decision, Wish
from poolwright.market.groups import membership_fact, membership_question
from poolwright.market.reading import NO_ANSWER
from poolwright.market.replica import Key, keys_of, member_key, pair_of, with_consumed
from poolwright.market.rows import Stale
from poolwright.market.steps import Dated, News, Step
from poolwright.orderbook.book import OrderReread, ResourceOwned, StakeRead
from poolwright.poco import views
from poolwright.poco.errors import PeerError, Unavailable
from poolwright.poco.types import Address, BlockNumber, BlockStamp, Hash32, NRlc, OrderHash

log: structlog.stdlib.BoundLogger = structlog.get_logger()

T = TypeVar("T")
AT_ONCE: Final = 50
"""Headers that are asked for in one exchange."""
TRIES: Final = 8
"""Exchanges with a node that does not answer, in a row."""


async def rewind(market: ChainMarket, rpc: Rpc, term: int, reorganised: ChainReorganised) -> BlockStamp:
    """Take the market back to where the branches part; returns the new cursor.

    Raises `reorganised` when there is no such block, Deposed, StorageFailed, Unavailable.
    """
    fork = await _fork(market, rpc)
    if fork is None:
        raise reorganised
    log.warning("going back", chain=market.chain_id, block=fork.number, reason=str(reorganised))
    answers: dict[Key, Any] = {}
    at = fork.number
    wanted: list[Key] = []
    while True:
        missing = [key for key in wanted if key not in answers]
        if missing:  # everything anew: all answers are of one block
            at, answers = await _patiently(_read, market, wanted)

        def decide(
            decision: Decision, stale: Stale, at: BlockNumber = at, answers: dict[Key, Any] = answers
        ) -> list[Key] | None:
            needed = _wanted(stale)
            if any(key not in answers for key in needed):
                return needed
            decision.commit.rolled_back_to = fork.number
            decision.make(
                Step(facts=_facts(stale, answers, at), cursor=fork, is_rewind=True), news=_gone_deals(stale)
            )
            return None

        more = await market.clerk.ask(
            Wish(decide=decide, look=lambda turn: turn.stale(fork.number), term=term)
        )
        if more is None:
            return fork
        wanted = more


async def _fork(market: ChainMarket, rpc: Rpc) -> BlockStamp | None:
    """The newest passed block that the chain still has."""
    passed = await asyncio.to_thread(market.storage.passed, market.chain_id)
    for start in range(0, len(passed), AT_ONCE):
        some = passed[start : start + AT_ONCE]
        headers = await _patiently(fetch_headers, rpc, [each.number for each in some])
        for stamp, header in zip(some, headers, strict=True):
            if header is not None and header.stamp.hash == stamp.hash:
                return stamp
    return None


async def _patiently(ask: Callable[..., Awaitable[T]], *what: Any) -> T:
    for attempt in range(1, TRIES):
        try:
            return await ask(*what)
        except (Unavailable, RpcError, PeerError) as problem:
            log.warning("cannot read the new branch, asking again", reason=str(problem))
            await asyncio.sleep(back_off(attempt, 0.5))
    return await ask(*what)


def _wanted(stale: Stale) -> list[Key]:
    keys = {key: None for row in stale.orders.values() for key in keys_of(row.listing)}
    keys |= {("stake", wallet): None for wallet in stale.wallets}
    keys |= {("owner", resource): None for resource in stale.resources}
    keys |= {member_key(pair): None for pair in stale.members}
    return sorted(keys)


async def _read(market: ChainMarket, keys: list[Key]) -> tuple[BlockNumber, dict[Key, Any]]:
    hub = market.settings.hub
    questions: list[Question[Any]] = []
    for what, name in keys:
        match what:
            case "consumed":
                questions.append(_ask(hub, views.view_consumed(_order(name)), views.decode_uint, what))
            case "stake":
                questions.append(_ask(hub, views.view_account(Address(name)), views.decode_account, what))
            case "member":
                questions.append(membership_question(pair_of(name)))
            case _:
                questions.append(_ask(Address(name), views.owner(), views.decode_address, what))
    block, found = await market.reads.ask(questions)
    return block.number, dict(zip(keys, found, strict=True))


def _facts(stale: Stale, answers: dict[Key, Any], at: BlockNumber) -> tuple[Dated, ...]:
    facts: list[Dated] = [
        (OrderReread(listing=with_consumed(row.listing, answers["consumed", name])), at)
        for name, row in stale.orders.items()
    ]
    for (what, name), answer in answers.items():
        if what == "stake":
            facts.append((StakeRead(wallet=Address(name), stake=NRlc(answer.stake)), at))
        elif what == "owner":  # a resource that is not there yet on this branch is nobody's
            owner = Address.zero() if answer is NO_ANSWER else answer
            facts.append((ResourceOwned(resource=Address(name), owner=owner), at))
        elif what == "member":
            facts.append((membership_fact(pair_of(name), answer), at))
    return tuple(facts)


def _gone_deals(stale: Stale) -> list[News]:
    return [
        News(topic="deals", name="deal_removed", text=json.dumps(json.loads(document)["dealid"]))
        for document in stale.deals
    ]


def _ask(to: Address, call: bytes, read: Callable[[bytes], Any], what: str) -> Question[Any]:
    return Question(to=to, call=call, read=read, what=what)


def _order(name: bytes) -> OrderHash:
    return OrderHash(Hash32(name))
