"""The market as a process: what got a 200 is there after kill -9, and bad settings end it in one line."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from conftest import CHAIN_ID, MANAGER, PROVIDER, Chain, Client
from poolwright.devnet.anvil import free_port

pytestmark = pytest.mark.chain


@asynccontextmanager
async def running(chain: Chain, folder: Path, **more: str) -> AsyncIterator[tuple[Client, int]]:
    """A market process on this folder's database and a client of it; killed without warning at the end."""
    port = free_port()
    environment = {
        **os.environ,
        "CHAINS": "DEV",
        "DEV_CHAIN_ID": str(CHAIN_ID),
        "DEV_IEXEC_ADDRESS": str(chain.contracts.hub),
        "DEV_ETH_RPC_HOST": chain.url,
        "DEV_POLL_SECONDS": "0.1",
        "PORT": str(port),
        "POOLWRIGHT_MARKET_DATABASE_URL": f"sqlite:///{folder}/market.db",
        **more,
    }
    words = (sys.executable, "-m", "poolwright", "market", "run")
    with (folder / "log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(*words, env=environment, stdout=log, stderr=log)
    try:
        async with aiohttp.ClientSession() as http, asyncio.timeout(60):
            client = Client(http=http, url=f"http://127.0.0.1:{port}", chain=chain)
            while True:
                assert process.returncode is None, (folder / "log").read_text()
                try:
                    await client.ok("/version")
                    break
                except aiohttp.ClientError:
                    await asyncio.sleep(0.1)
            yield client, process.pid
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_what_got_a_200_survives_kill_9_and_the_watcher_goes_on(chain: Chain, tmp_path: Path) -> None:
    orders = [chain.pool_order(), chain.pool_order(), chain.pool_order()]
    async with running(chain, tmp_path) as (client, pid):
        await asyncio.gather(*(client.published(order, MANAGER) for order in orders[:2]))
        body = {"orderHash": str(chain.hash(orders[0]))}
        assert (await client.send("PUT", "workerpoolorder", body, MANAGER))[0] == 200
        await client.published(orders[2], MANAGER)
        os.kill(pid, signal.SIGKILL)

    async with running(chain, tmp_path) as (client, _):
        book = await client.ok("/workerpoolorders")
        assert [each["orderHash"] for each in book["orders"]] == [
            str(chain.hash(order)) for order in orders[1:]
        ]
        assert await client.refused(chain.pool_order(), PROVIDER) == (
            f"only order signer {MANAGER} can publish an order"
        )
        await client.until_watched(chain.node)
        assert (await client.ok("/categories"))["count"] == 5


async def test_another_chain_at_the_url_ends_the_process_with_exit_code_2(
    chain: Chain, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError, match=r"the node at .* is of another chain"):
        async with running(chain, tmp_path, DEV_CHAIN_ID="7"):
            pass
