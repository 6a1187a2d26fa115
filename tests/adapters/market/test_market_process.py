"""The market as a process: what got a 200 is there after kill -9, and bad settings end it in one line."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest
from market_processes import Heard, started, until

from conftest import MANAGER, PROVIDER, Chain

pytestmark = pytest.mark.chain


async def test_what_got_a_200_survives_kill_9_and_the_watcher_goes_on(chain: Chain, tmp_path: Path) -> None:
    orders = [chain.pool_order(), chain.pool_order(), chain.pool_order()]
    log, database = tmp_path / "log", f"sqlite:///{tmp_path}/market.db"
    heard: list[Heard] = []
    async with started(chain, log, database) as market:
        client = market.client
        async with market.hearing(heard):
            await asyncio.gather(*(client.published(order, MANAGER) for order in orders[:2]))
            body = {"orderHash": str(chain.hash(orders[0]))}
            assert (await client.send("PUT", "workerpoolorder", body, MANAGER))[0] == 200
            await client.published(orders[2], MANAGER)
            await until(lambda: len(heard) == 4)
        market.send(signal.SIGKILL)

    async with started(chain, log, database) as market:
        client = market.client
        book = await client.ok("/workerpoolorders")
        assert [each["orderHash"] for each in book["orders"]] == [
            str(chain.hash(order)) for order in orders[1:]
        ]
        assert await client.refused(chain.pool_order(), PROVIDER) == (
            f"only order signer {MANAGER} can publish an order"
        )
        await client.until_watched(chain.node)
        assert (await client.ok("/categories"))["count"] == 5
        again: list[Heard] = []
        async with market.hearing(again, after=heard[1].place):
            await until(lambda: len(again) == 2)
        assert again == heard[2:]


async def test_another_chain_at_the_url_ends_the_process_with_exit_code_2(
    chain: Chain, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError, match=r"the node at .* is of another chain"):
        async with started(chain, tmp_path / "log", f"sqlite:///{tmp_path}/market.db", DEV_CHAIN_ID="7"):
            pass
