"""Questions that are answered together: what comes while others are being answered is answered next, at once.

Under load each answering takes along all that came during the last one, and waits a moment for more, so its
cost (a node's exchange, a transaction) is shared by more the more there are; a question that comes alone
waits for nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")
COMPANY_SECONDS: Final = 0.003
"""How long one waits for more who ask, where several came together the last time."""


def moment_for_more(last: int) -> float:
    """Seconds to wait for more, after `last` came together; 0 is the present turn of the loop."""
    return COMPANY_SECONDS if last > 1 else 0.0


class Together(Generic[Q, A]):
    """`answer_all` gets the questions that wait and returns their answers in the same order."""

    def __init__(self, answer_all: Callable[[Sequence[Q]], Awaitable[Sequence[A]]], *, name: str) -> None:
        self._answer_all = answer_all
        self._name = name
        self._waiting: list[tuple[Q, asyncio.Future[A]]] = []
        self._last = 0
        self._aio_task: asyncio.Task[None] | None = None

    async def ask(self, question: Q) -> A:
        """Return the answer. Raises what `answer_all` raised for those who asked together."""
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, answer))
        if self._aio_task is None or self._aio_task.done():
            self._aio_task = asyncio.create_task(self._serve(), name=self._name)
        return await answer

    async def _serve(self) -> None:
        while self._waiting:
            await asyncio.sleep(moment_for_more(self._last))  # whoever asks now travels along
            waiting, self._waiting = self._waiting, []
            self._last = len(waiting)
            try:
                answers = await self._answer_all([question for question, _ in waiting])
                for (_, future), answer in zip(waiting, answers, strict=True):
                    if not future.done():  # somebody still waits
                        future.set_result(answer)
            except Exception as problem:  # noqa: BLE001  whoever asked hears of it, also of a bug
                for _, future in waiting:
                    if not future.done():
                        future.set_exception(problem)
