"""Questions that are answered together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from poolwright.market.together import COMPANY_SECONDS, Together, moment_for_more
from poolwright.poco.errors import Unavailable


async def test_what_comes_during_an_answering_is_answered_next_at_once() -> None:
    seen: list[list[int]] = []
    begun, gate = asyncio.Event(), asyncio.Event()

    async def double(questions: Sequence[int]) -> list[int]:
        seen.append(list(questions))
        begun.set()
        await gate.wait()
        return [2 * each for each in questions]

    together = Together(double, name="double")
    first = asyncio.create_task(together.ask(1))
    await begun.wait()
    others = [asyncio.create_task(together.ask(each)) for each in (2, 3, 4)]
    await asyncio.sleep(0)
    gate.set()
    assert [await first, *[await each for each in others]] == [2, 4, 6, 8]
    assert seen == [[1], [2, 3, 4]]


async def test_a_failure_is_told_to_those_who_asked_together_and_to_nobody_later() -> None:
    async def refuse_odd(questions: Sequence[int]) -> list[int]:
        if any(each % 2 for each in questions):
            raise Unavailable("odd", code="odd")
        return list(questions)

    together = Together(refuse_odd, name="even")
    outcomes = await asyncio.gather(together.ask(1), together.ask(2), return_exceptions=True)
    assert [type(each) for each in outcomes] == [Unavailable, Unavailable]
    assert await together.ask(4) == 4


@pytest.mark.parametrize(("last", "seconds"), [(0, 0.0), (1, 0.0), (2, COMPANY_SECONDS)])
def test_only_who_had_company_waits_for_more(last: int, seconds: float) -> None:
    assert moment_for_more(last) == seconds
