"""Heads on a real anvil: wake-up, confirmations, reorganisations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from poolwright.chain.blocks import check_chain, newest_header
from poolwright.chain.heads import ChainReorganised, Heads
from poolwright.chain.rpc import Rpc
from poolwright.devnet.anvil import CHAIN_ID, Anvil
from poolwright.poco.errors import InputError, Unavailable
from poolwright.poco.types import Address

pytestmark = pytest.mark.chain

NEVER = 3600.0
"""A poll interval that proves that something else woke the reader."""
BOUND = 20.0


@pytest.fixture
async def heads(rpc: Rpc) -> AsyncIterator[Heads]:
    async with Heads(rpc, poll_seconds=NEVER) as running:
        yield running


async def mine(rpc: Rpc, count: int = 1) -> None:
    await rpc.call("anvil_mine", hex(count))


async def test_a_new_block_wakes_the_reader_through_the_websocket(rpc: Rpc, heads: Heads) -> None:
    first = await asyncio.wait_for(heads.beyond(None), BOUND)
    for number in range(first.number + 1, first.number + 6):
        await mine(rpc)
        head = await asyncio.wait_for(heads.beyond(number - 1), BOUND)
        assert head.number == number
        assert head.hash == (await newest_header(rpc)).stamp.hash


async def test_without_a_websocket_polling_finds_the_block(rpc: Rpc) -> None:
    async with Heads(rpc, poll_seconds=0.01, use_websocket=False) as polled:
        first = await asyncio.wait_for(polled.beyond(None), BOUND)
        await mine(rpc)
        assert (await asyncio.wait_for(polled.beyond(first.number), BOUND)).number == first.number + 1


async def test_the_websocket_outlives_the_time_out_of_a_request(anvil: Anvil) -> None:
    async with Rpc(anvil.url, timeout_seconds=0.3) as hasty, Heads(hasty, poll_seconds=NEVER) as heads:
        first = await asyncio.wait_for(heads.beyond(None), BOUND)
        await asyncio.sleep(0.8)  # nothing comes for longer than a request may take
        await mine(hasty)
        assert (await asyncio.wait_for(heads.beyond(first.number), BOUND)).number == first.number + 1


async def test_every_reader_gets_growing_heads(rpc: Rpc, heads: Heads) -> None:
    async def read() -> list[int]:
        numbers: list[int] = []
        async for head in heads:
            numbers.append(head.number)
            if head.number >= 30:
                break
        return numbers

    readers = [asyncio.create_task(read()) for _ in range(3)]
    for _ in range(30):
        await mine(rpc)
    for numbers in await asyncio.wait_for(asyncio.gather(*readers), BOUND):
        assert numbers == sorted(set(numbers))


async def test_heads_stay_behind_by_the_confirmations(rpc: Rpc) -> None:
    await mine(rpc, 10)
    async with Heads(rpc, confirmations=4, poll_seconds=0.01) as confirmed:
        assert (await asyncio.wait_for(confirmed.beyond(None), BOUND)).number == 6
        await mine(rpc, 3)
        assert (await asyncio.wait_for(confirmed.beyond(8), BOUND)).number == 9


async def test_a_reorg_within_the_confirmations_is_invisible(rpc: Rpc) -> None:
    await mine(rpc, 10)
    async with Heads(rpc, confirmations=4, poll_seconds=0.01) as confirmed:
        await asyncio.wait_for(confirmed.beyond(5), BOUND)
        await rpc.call("anvil_reorg", 4, [])
        await mine(rpc, 5)
        head = await asyncio.wait_for(confirmed.beyond(10), BOUND)
        assert head.number == 11


@pytest.mark.parametrize("confirmations", [0, 4])
async def test_a_deeper_reorg_stops_every_reader(rpc: Rpc, confirmations: int) -> None:
    await mine(rpc, 20)
    async with Heads(rpc, confirmations=confirmations, poll_seconds=0.01) as confirmed:
        believed = await asyncio.wait_for(confirmed.beyond(15 - confirmations), BOUND)
        await rpc.call("anvil_reorg", confirmations + 2, [])
        await mine(rpc, 2)
        for _ in range(2):
            with pytest.raises(ChainReorganised) as caught:
                await asyncio.wait_for(confirmed.beyond(40), BOUND)
            assert caught.value.believed.hash == believed.hash


async def test_a_node_that_goes_back_is_waited_for(anvil: Anvil, rpc: Rpc) -> None:
    """Blocks taken back and not yet replaced look like a node that lags."""
    await mine(rpc, 5)
    async with Heads(rpc, confirmations=2, poll_seconds=0.01) as confirmed:
        head = await asyncio.wait_for(confirmed.beyond(None), BOUND)
        await rpc.call("anvil_rollback", 2)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(confirmed.beyond(head.number), 0.1)
        await mine(rpc, 3)
        assert (await asyncio.wait_for(confirmed.beyond(head.number), BOUND)).number == head.number + 1


async def test_an_ended_node_is_trouble_not_an_end(anvil: Anvil, rpc: Rpc) -> None:
    async with Rpc(anvil.url, attempts=1) as impatient, Heads(impatient, poll_seconds=0.01) as heads:
        await asyncio.wait_for(heads.beyond(None), BOUND)
        assert not heads.trouble
        anvil.stop()
        async with asyncio.timeout(BOUND):
            while heads.trouble is None:  # noqa: ASYNC110  health pages look at it now and then
                await asyncio.sleep(0.01)
        assert heads.current is not None


async def test_closed_heads_tell_their_readers_and_stay_closed(rpc: Rpc) -> None:
    heads = Heads(rpc, poll_seconds=NEVER)
    head = await asyncio.wait_for(heads.beyond(None), BOUND)
    reader = asyncio.create_task(heads.beyond(head.number))
    await asyncio.sleep(0)
    await heads.close()
    for _ in range(2):
        with pytest.raises(Unavailable, match="closed"):
            await asyncio.wait_for(reader, BOUND)
        reader = asyncio.create_task(heads.beyond(None))
    await asyncio.gather(reader, return_exceptions=True)


async def test_another_chain_is_refused(rpc: Rpc) -> None:
    with pytest.raises(InputError, match="expected chain id 134, got 31337"):
        await check_chain(rpc, 134, Address.zero())


async def test_a_chain_without_the_hub_is_refused(rpc: Rpc) -> None:
    with pytest.raises(InputError, match="no contract at the hub address") as caught:
        await check_chain(rpc, CHAIN_ID, Address(b"\x01" * 20))
    assert caught.value.code == "no-hub"
