"""Several endpoints, one of them behind a faulty proxy: a watcher neither loses nor doubles a log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from chain_market import DEPLOYER
from poolwright.chain.heads import Heads
from poolwright.chain.logs import follow
from poolwright.chain.rpc import Rpc
from poolwright.devnet.anvil import CHAIN_ID, Anvil, AnvilSettings, free_port
from poolwright.devnet.contracts import Deployment
from poolwright.poco import calls
from poolwright.poco.errors import InputError
from poolwright.poco.types import Address, BlockNumber, NRlc
from rpc_proxy import Proxy

pytestmark = pytest.mark.chain

BOUND = 40.0
BLOCK_SECONDS = 5


Proxies = Callable[[int], Awaitable[list[tuple[Proxy, str]]]]


@pytest.fixture
async def proxies(anvil: Anvil) -> AsyncIterator[Proxies]:
    made: list[Proxy] = []

    async def start(count: int) -> list[tuple[Proxy, str]]:
        found = []
        for _ in range(count):
            proxy = Proxy(anvil.url)
            made.append(proxy)
            found.append((proxy, await proxy.start()))
        return found

    yield start
    for proxy in made:
        await proxy.close()


async def approve(node: Rpc, rlc: Address, amount: int) -> None:
    """One block with one log."""
    data = "0x" + calls.approve(Address(b"\x09" * 20), NRlc(amount)).hex()
    await node.call("eth_sendTransaction", {"from": str(DEPLOYER.address), "to": str(rlc), "data": data})


@pytest.mark.parametrize("fault", ["slow", "500", "garbage", "half an answer", "stale", "wrong block"])
async def test_logs_come_once_each_through_an_endpoint_that_fails_and_recovers(
    fault: str, rpc: Rpc, contracts: Deployment, proxies: Proxies
) -> None:
    (bad, bad_url), (_, good_url) = await proxies(2)
    await rpc.call("anvil_setBlockTimestampInterval", BLOCK_SECONDS)
    first = int(str(await rpc.call("eth_blockNumber")), 16) + 1
    amounts: list[int] = []
    doors = Rpc(
        [bad_url, good_url],
        chain_id=CHAIN_ID,
        timeout_seconds=0.5,
        home_after_seconds=0.5,
        compare_seconds=0.05,
        max_lag_seconds=BLOCK_SECONDS,
    )
    async with doors, Heads(doors, poll_seconds=0.02, use_websocket=False) as heads, asyncio.timeout(BOUND):

        async def watch() -> None:
            async for batch in follow(doors, contracts.rlc, [], None, BlockNumber(first), heads):
                amounts.extend(int.from_bytes(log.data, "big") for log in batch.logs)
                if len(amounts) >= 15:
                    return

        watching = asyncio.create_task(watch())
        for amount in range(1, 16):
            if amount == 5:
                await bad.break_down(fault)
            if amount == 11:
                while len(amounts) < 10:  # noqa: ASYNC110  all of it came through the other endpoint
                    await asyncio.sleep(0.01)
                bad.fault = "none"
            await approve(rpc, contracts.rlc, amount)
            await asyncio.sleep(0.05)
        await watching

        assert amounts == list(range(1, 16))
        before = bad.answered
        while bad.answered < before + 3 or any(doors.endpoints.values()):
            await doors.call("eth_blockNumber")
            await asyncio.sleep(0.02)


async def test_an_endpoint_of_another_chain_is_refused(anvil: Anvil) -> None:
    with Anvil.start(AnvilSettings(port=free_port(), chain_id=999)) as foreign:
        async with Rpc([foreign.url, anvil.url], chain_id=CHAIN_ID) as rpc:
            assert await rpc.call("eth_chainId") == hex(CHAIN_ID)
            assert list(rpc.endpoints.values()) == ["another chain", ""]
        async with Rpc([foreign.url, foreign.url], chain_id=CHAIN_ID) as rpc:
            with pytest.raises(InputError, match="another chain"):
                await rpc.call("eth_chainId")


async def test_an_endpoint_that_is_of_our_chain_again_is_used_again(anvil: Anvil, proxies: Proxies) -> None:
    """As after a wrong deployment of a provider: the same URL leads elsewhere for a while."""
    with Anvil.start(AnvilSettings(port=free_port(), chain_id=999)) as foreign:
        [(proxy, url)] = await proxies(1)
        ours = anvil.url
        async with (
            Rpc([url, anvil.url], chain_id=CHAIN_ID, compare_seconds=0.02) as rpc,
            asyncio.timeout(BOUND),
        ):
            await rpc.call("eth_chainId")
            for node, wanted in ((foreign.url, "another chain"), (ours, "")):
                proxy.node = node
                while next(iter(rpc.endpoints.values())) != wanted:
                    assert await rpc.call("eth_chainId") in (hex(CHAIN_ID), hex(999))
                    await asyncio.sleep(0.02)
