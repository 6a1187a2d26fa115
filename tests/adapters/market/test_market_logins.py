"""Challenges: the same rules in one process's memory and in the database that several share."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from databases import postgresql
from poolwright.market.challenges import GOOD_SECONDS, MOST_OF_WALLET, HeldChallenges, StoredChallenges
from poolwright.market.errors import MarketRefusal
from poolwright.market.login import Challenge, Challenges, Logins, digest_of
from poolwright.market.storage import Storage
from poolwright.poco.signatures import address_of_key, sign_digest
from poolwright.poco.types import Address, Hash32

KEY = bytes(range(1, 33))
WALLET = address_of_key(KEY)


@pytest.fixture(scope="module")
def shared() -> Iterator[Storage]:
    with postgresql() as cluster:
        storage = Storage.open(cluster.url)
        yield storage
        storage.close()


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def two(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Challenges, Challenges]]:
    """Challenges as two processes see them; memory is one process's."""
    match request.param:
        case "memory":
            held = HeldChallenges()
            yield held, held
        case "sqlite":
            storage = Storage.open(f"sqlite:///{tmp_path}/market.db")
            stored = StoredChallenges(storage)
            yield stored, stored
            storage.close()
        case _:
            storage = request.getfixturevalue("shared")
            yield StoredChallenges(storage), StoredChallenges(storage)


async def header(challenges: Challenges, *, chain_id: int = 1, key: bytes = KEY) -> str:
    typed = json.loads(await Logins(challenges).challenge(chain_id, WALLET))
    message = typed["message"]
    assert isinstance(message, dict)
    digest = digest_of(chain_id, message["challenge"])
    return f"{digest}_0x{sign_digest(key, digest).hex()}_{WALLET}"


async def redeem(challenges: Challenges, signed: str, chain_id: int = 1) -> Address:
    async def no_contract(wallet: Address, digest: Hash32, signature: bytes) -> bool:
        return False

    return await Logins(challenges).redeem(chain_id, signed, no_contract)


async def refused(challenges: Challenges, signed: str, chain_id: int = 1) -> None:
    with pytest.raises(MarketRefusal, match="invalid authorization"):
        await redeem(challenges, signed, chain_id)


async def test_a_challenge_is_good_once_for_its_wallet_and_chain(two: tuple[Challenges, Challenges]) -> None:
    giver, taker = two
    signed = await header(giver)

    await refused(taker, signed, chain_id=2)
    assert await redeem(taker, signed) == WALLET
    await refused(giver, signed)
    await refused(taker, signed)


async def test_of_many_uses_at_once_one_is_good(two: tuple[Challenges, Challenges]) -> None:
    signed = await header(two[0])

    outcomes = await asyncio.gather(*(redeem(each, signed) for each in two * 4), return_exceptions=True)

    assert [each for each in outcomes if not isinstance(each, MarketRefusal)] == [WALLET]


async def test_two_challenges_of_one_wallet_are_both_good(two: tuple[Challenges, Challenges]) -> None:
    first, second = await asyncio.gather(header(two[0]), header(two[1]))

    assert [await redeem(two[1], each) for each in (second, first)] == [WALLET, WALLET]


@pytest.mark.parametrize("spoilt", ["", "a_b_c", "a_b", "0x_0x_0x"])
async def test_what_is_no_authorization_is_refused(spoilt: str) -> None:
    await refused(HeldChallenges(), spoilt)


async def test_a_challenge_signed_by_another_is_refused_and_used_up(
    two: tuple[Challenges, Challenges],
) -> None:
    foreign = await header(two[0], key=bytes(range(2, 34)))
    await refused(two[0], foreign)

    digest = foreign.partition("_")[0]
    signed = f"{digest}_0x{sign_digest(KEY, bytes.fromhex(digest[2:])).hex()}_{WALLET}"
    await refused(two[1], signed)


async def test_a_challenge_that_is_used_too_late_is_refused(shared: Storage) -> None:
    now = 0.0
    held = HeldChallenges(clock=lambda: now)
    signed = await header(held)
    now = GOOD_SECONDS
    await refused(held, signed)

    stored = StoredChallenges(shared, good_seconds=0)
    await refused(stored, await header(stored))


async def test_the_oldest_challenges_give_way(shared: Storage) -> None:
    held = HeldChallenges()
    first = await header(held)
    for number in range(MOST_OF_WALLET):
        await held.give(Challenge(digest_of(1, str(number)), 1, WALLET))
    assert len(held) == MOST_OF_WALLET
    await refused(held, first)

    stored = StoredChallenges(shared, most=500)
    first = await header(stored)
    for start in (0, 600):
        await asyncio.gather(
            *(stored.give(Challenge(digest_of(1, str(start + each)), 1, WALLET)) for each in range(600))
        )
    last = await header(stored)
    await refused(stored, first)
    assert await redeem(stored, last) == WALLET
