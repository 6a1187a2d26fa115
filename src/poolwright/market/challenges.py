"""Where challenges wait for their use: the memory of a single process, or the database of several.

A challenge costs a writing when it is given and one when it is used, so those that come at the same time
share a transaction; the table is one that PostgreSQL does not write to its log. What a crash of the database
loses of it are logins that are asked for again.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from sqlalchemy import delete, insert, select

from poolwright.market.login import Challenge
from poolwright.market.schema import CHALLENGES
from poolwright.market.storage import Storage
from poolwright.market.together import Together
from poolwright.poco.types import Address, Hash32

GOOD_SECONDS: Final = 300.0
MOST_OPEN: Final = 200_000
"""Challenges that wait for their use, of all wallets; the oldest give way."""
MOST_OF_WALLET: Final = 2_000
"""Of one wallet, in one process's memory."""
SWEPT_EVERY: Final = 1_000
"""Challenges that one process gives between two looks at what is too old or too much."""


class HeldChallenges:
    """In the memory of this process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: OrderedDict[Challenge, float] = OrderedDict()
        self._of_wallet: dict[Address, dict[Challenge, None]] = {}
        """The oldest of each first."""

    def __len__(self) -> int:
        return len(self._until)

    async def give(self, challenge: Challenge) -> None:
        now = self._clock()
        while self._until and next(iter(self._until.values())) <= now:
            self._drop(next(iter(self._until)))
        self._until[challenge] = now + GOOD_SECONDS
        mine = self._of_wallet.setdefault(challenge.wallet, {})
        mine[challenge] = None
        if len(mine) > MOST_OF_WALLET:
            self._drop(next(iter(mine)))
        if len(self._until) > MOST_OPEN:
            self._drop(next(iter(self._until)))

    async def use(self, challenge: Challenge) -> bool:
        until = self._until.get(challenge)
        if until is None:
            return False
        self._drop(challenge)
        return self._clock() < until

    def _drop(self, challenge: Challenge) -> None:
        del self._until[challenge]
        mine = self._of_wallet[challenge.wallet]
        del mine[challenge]
        if not mine:
            del self._of_wallet[challenge.wallet]


class StoredChallenges:
    """In the market's database, for all processes."""

    def __init__(
        self, storage: Storage, *, good_seconds: float = GOOD_SECONDS, most: int = MOST_OPEN
    ) -> None:
        self._storage = storage
        self._good_milliseconds = int(good_seconds * 1000)
        self._most = most
        self._together: Together[tuple[Challenge, bool], bool] = Together(self._answer_all, name="challenges")
        self._given = 0

    async def give(self, challenge: Challenge) -> None:
        await self._together.ask((challenge, True))

    async def use(self, challenge: Challenge) -> bool:
        return await self._together.ask((challenge, False))

    async def _answer_all(self, waiting: Sequence[tuple[Challenge, bool]]) -> list[bool]:
        given = [challenge for challenge, is_given in waiting if is_given]
        used = [challenge for challenge, is_given in waiting if not is_given]
        good = await asyncio.to_thread(self._write, given, used)
        answers: list[bool] = []
        for challenge, is_given in waiting:
            answers.append(is_given or challenge.digest in good)
            if not is_given:
                good.discard(challenge.digest)
        return answers

    def _write(self, given: Sequence[Challenge], used: Sequence[Challenge]) -> set[Hash32]:
        now = self._storage.now()
        good: set[Hash32] = set()
        with self._storage.writing() as connection:
            if given:
                connection.execute(
                    insert(CHALLENGES).values(good_until=now + self._good_milliseconds),
                    [
                        {"digest": each.digest, "chain_id": each.chain_id, "wallet": each.wallet}
                        for each in given
                    ],
                )
            for each in used:
                use = delete(CHALLENGES).where(
                    CHALLENGES.c.digest == each.digest,
                    CHALLENGES.c.chain_id == each.chain_id,
                    CHALLENGES.c.wallet == each.wallet,
                    CHALLENGES.c.good_until > now,
                )
                if connection.execute(use).rowcount == 1:
                    good.add(each.digest)
            self._given += len(given)
            if self._given >= SWEPT_EVERY:
                self._given = 0
                until = CHALLENGES.c.good_until
                too_many = select(until).order_by(until.desc()).offset(self._most).limit(1).scalar_subquery()
                connection.execute(delete(CHALLENGES).where((until <= now) | (until <= too_many)))
        return good
