"""Following logs on a real anvil: every log once, across ranges, restarts and nodes with limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from poolwright.chain.blocks import newest_header
from poolwright.chain.heads import ChainReorganised, Heads
from poolwright.chain.logs import LogBatch, RangeSize, check_cursor, collect, follow, transaction_logs
from poolwright.chain.rpc import Rpc, RpcError
from poolwright.devnet.contracts import Deployment
from poolwright.poco import calls
from poolwright.poco.events import TOPICS, Log, Transfer
from poolwright.poco.types import Address, BlockNumber, BlockStamp, NRlc, TxHash

pytestmark = pytest.mark.chain

BOUND = 30.0
TRANSFER = TOPICS[Transfer]


async def transfers(rpc: Rpc, rlc: Address, count: int, *, every: int = 3) -> None:
    """Send `count` transfers of RLC, with empty blocks between them now and then."""
    accounts = await rpc.call("eth_accounts")
    assert isinstance(accounts, list)
    sender = accounts[0]
    for number in range(count):
        call = calls.transfer(Address(bytes([1 + number % 200]) * 20), NRlc(number + 1))
        tx = {"from": sender, "to": str(rlc), "data": "0x" + call.hex(), "gas": hex(100_000)}
        tx_hash = await rpc.call("eth_sendTransaction", tx)
        if number % every == 0:
            await rpc.call("anvil_mine", hex(1 + number % 5))
    while await rpc.call("eth_getTransactionReceipt", tx_hash) is None:  # noqa: ASYNC110
        await asyncio.sleep(0.005)  # anvil tells the hash before the block is there


def places(logs: tuple[Log, ...] | list[Log]) -> list[tuple[int, int]]:
    return [(log.block.number, log.log_index) for log in logs]


async def read_until(
    batches: AsyncGenerator[LogBatch], number: int, *, at_most: int = 10**6
) -> tuple[BlockStamp, list[Log]]:
    """Read batches until block `number`, or `at_most` batches; returns the cursor and the logs."""
    logs: list[Log] = []
    async with asyncio.timeout(BOUND), aclosing(batches):
        async for batch in batches:
            logs += batch.logs
            at_most -= 1
            if batch.upto.number >= number or not at_most:
                return batch.upto, logs
    raise AssertionError


async def test_every_log_comes_once_across_ranges_and_restarts(rpc: Rpc, contracts: Deployment) -> None:
    await transfers(rpc, contracts.rlc, 60)
    head = (await newest_header(rpc)).stamp
    expected = await collect(rpc, contracts.rlc, [[TRANSFER]], BlockNumber(0), head)
    assert len(expected) >= 60

    cursor: BlockStamp | None = None
    logs: list[Log] = []
    async with Heads(rpc) as heads:
        for patience in (1, 2, 3, 5, 8, 10**6):
            batches = follow(
                rpc,
                contracts.rlc,
                [[TRANSFER]],
                cursor,
                BlockNumber(0),
                heads,
                size=RangeSize(blocks=3, longest=7),
            )
            cursor, more = await read_until(batches, head.number, at_most=patience)
            logs += more
    assert cursor == head
    assert tuple(logs) == expected


async def test_live_logs_come_once_while_blocks_are_mined(rpc: Rpc, contracts: Deployment) -> None:
    start = (await newest_header(rpc)).stamp
    async with Heads(rpc) as heads:
        batches = follow(rpc, contracts.rlc, [[TRANSFER]], start, BlockNumber(0), heads)
        sending = asyncio.create_task(transfers(rpc, contracts.rlc, 60))
        logs: list[Log] = []
        async with asyncio.timeout(BOUND), aclosing(batches):
            async for batch in batches:
                assert all(log.block.number <= batch.upto.number for log in batch.logs)
                logs += batch.logs
                if len(logs) >= 60:
                    break
        await sending
    head = (await newest_header(rpc)).stamp
    assert tuple(logs) == await collect(rpc, contracts.rlc, [[TRANSFER]], BlockNumber(start.number + 1), head)


async def test_logs_carry_their_own_block(rpc: Rpc, contracts: Deployment) -> None:
    head = (await newest_header(rpc)).stamp
    logs = await collect(rpc, [contracts.hub, contracts.rlc], [], BlockNumber(0), head)
    assert logs
    for log in logs[:5]:
        block = await rpc.call("eth_getBlockByNumber", hex(log.block.number), False)
        assert isinstance(block, dict)
        assert block["hash"] == str(log.block.hash)
        assert block["timestamp"] == hex(log.block.timestamp)


async def test_the_logs_of_one_transaction(rpc: Rpc, contracts: Deployment) -> None:
    await transfers(rpc, contracts.rlc, 1)
    head = (await newest_header(rpc)).stamp
    expected = await collect(rpc, contracts.rlc, [[TRANSFER]], BlockNumber(0), head)
    assert await transaction_logs(rpc, TxHash(expected[-1].tx_hash)) == expected[-1:]


async def test_a_cursor_of_a_block_that_is_gone_stops(rpc: Rpc, contracts: Deployment) -> None:
    await transfers(rpc, contracts.rlc, 5)
    cursor = (await newest_header(rpc)).stamp
    await check_cursor(rpc, cursor)
    await rpc.call("anvil_reorg", 3, [])
    await transfers(rpc, contracts.rlc, 5)
    async with Heads(rpc) as heads:
        with pytest.raises(ChainReorganised, match="the stored cursor"):
            await read_until(follow(rpc, contracts.rlc, [], cursor, BlockNumber(0), heads), cursor.number + 1)


# --- nodes with limits: real HTTP between us and anvil ------------------------------------------------------


@dataclass(slots=True)
class Limits:
    """What the node in front of anvil refuses or hides."""

    longest_range: int = 10**9
    most_logs: int = 10**9
    lag_blocks: int = 0
    """Blocks that the node does not know yet."""
    lagging_answers: int = 0
    """How many more answers lag."""
    refused: int = 0


@asynccontextmanager
async def limited_node(rpc: Rpc, limits: Limits) -> AsyncIterator[Rpc]:
    """A node that forwards to anvil within `limits`."""

    async def answer_one(session: aiohttp.ClientSession, asked: dict[str, object]) -> dict[str, object]:
        async with session.post(rpc.urls[0], json=asked) as response:
            answer: dict[str, object] = await response.json()
        params = asked["params"]
        assert isinstance(params, list)
        if asked["method"] == "eth_getLogs" and "fromBlock" in params[0]:
            first, last = int(params[0]["fromBlock"], 16), int(params[0]["toBlock"], 16)
            found = answer.get("result", [])
            assert isinstance(found, list)
            if last - first + 1 > limits.longest_range or len(found) > limits.most_logs:
                limits.refused += 1
                error = {"code": -32005, "message": "query returned more than the limit"}
                return {"id": asked["id"], "error": error}
            if limits.lagging_answers > 0:
                newest = (await newest_header(rpc)).number - limits.lag_blocks
                answer["result"] = [log for log in found if int(log["blockNumber"], 16) <= newest]
        if asked["method"] == "eth_getBlockByNumber" and params[0] != "latest":
            newest = (await newest_header(rpc)).number - limits.lag_blocks
            if limits.lagging_answers > 0 and int(params[0], 16) > newest:
                limits.lagging_answers -= 1
                return {"id": asked["id"], "result": None}
        return answer

    async def handle(request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        async with aiohttp.ClientSession() as session:
            if isinstance(asked, list):
                return web.json_response([await answer_one(session, one) for one in asked])
            return web.json_response(await answer_one(session, asked))

    app = web.Application()
    app.router.add_post("/", handle)
    async with TestServer(app) as server, Rpc(str(server.make_url("/"))) as limited:
        yield limited


@pytest.mark.parametrize("limits", [Limits(longest_range=4), Limits(most_logs=3)])
async def test_ranges_shrink_to_what_the_node_takes(rpc: Rpc, contracts: Deployment, limits: Limits) -> None:
    await transfers(rpc, contracts.rlc, 25)
    head = (await newest_header(rpc)).stamp
    expected = await collect(rpc, contracts.rlc, [[TRANSFER]], BlockNumber(0), head)
    async with limited_node(rpc, limits) as node:
        assert await collect(node, contracts.rlc, [[TRANSFER]], BlockNumber(0), head) == expected
    assert limits.refused > 0


async def test_a_lagging_nodes_short_answer_is_not_believed(rpc: Rpc, contracts: Deployment) -> None:
    await transfers(rpc, contracts.rlc, 10)
    head = (await newest_header(rpc)).stamp
    expected = await collect(rpc, contracts.rlc, [[TRANSFER]], BlockNumber(0), head)
    limits = Limits(lag_blocks=5, lagging_answers=3)
    async with limited_node(rpc, limits) as node:
        assert await collect(node, contracts.rlc, [[TRANSFER]], BlockNumber(0), head) == expected
    assert limits.lagging_answers == 0


async def test_a_single_block_that_the_node_keeps_refusing_is_an_error(
    rpc: Rpc, contracts: Deployment
) -> None:
    await transfers(rpc, contracts.rlc, 3)
    head = (await newest_header(rpc)).stamp
    async with limited_node(rpc, Limits(longest_range=0)) as node:
        with pytest.raises(RpcError, match="more than the limit"):
            await collect(node, contracts.rlc, [[TRANSFER]], BlockNumber(0), head)
