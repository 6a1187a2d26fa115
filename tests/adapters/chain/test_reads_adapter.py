"""Typed reads of the official contracts on a real anvil."""

from __future__ import annotations

import asyncio

import pytest

from poolwright.chain.blocks import check_chain, newest_header
from poolwright.chain.reads import CallReverted, HubReader
from poolwright.chain.rpc import Rpc
from poolwright.devnet.anvil import CHAIN_ID, Anvil
from poolwright.devnet.contracts import Deployment
from poolwright.poco import calls
from poolwright.poco.errors import InputError, Unavailable
from poolwright.poco.records import Account, ContributionStatus, TaskStatus
from poolwright.poco.types import (
    Address,
    BlockNumber,
    BlockStamp,
    DealId,
    Hash32,
    NRlc,
    OrderHash,
    TaskId,
)
from rpc_proxy import Proxy

pytestmark = pytest.mark.chain

NOBODY = Address(b"\x07" * 20)
NOTHING = Hash32(b"\x07" * 32)


@pytest.fixture
def reader(rpc: Rpc, contracts: Deployment) -> HubReader:
    return HubReader(rpc, contracts.hub)


async def test_the_hub_tells_its_contracts_and_domain(reader: HubReader, contracts: Deployment) -> None:
    await check_chain(reader.rpc, CHAIN_ID, contracts.hub)
    found = await reader.contracts()
    assert found.token == contracts.rlc
    assert found.workerpool_registry == contracts.workerpool_registry
    domain = await reader.domain()
    assert (domain.chain_id, domain.hub) == (CHAIN_ID, contracts.hub)


async def test_categories_read_one_and_all(reader: HubReader) -> None:
    categories = await reader.categories()
    assert [category.name for category in categories] == ["XS", "S", "M", "L", "XL"]
    assert await reader.category(0) == categories[0]
    with pytest.raises(InputError, match="no category 9"):
        await reader.category(9)


async def test_money_reads_at_a_block(reader: HubReader, contracts: Deployment) -> None:
    now = (await newest_header(reader.rpc)).stamp
    assert await reader.rlc(contracts.rlc, contracts.deployer, now) == 87_000_000 * 10**9
    assert await reader.ether(contracts.deployer, now) > 0
    assert await reader.account(contracts.deployer, now) == Account(stake=NRlc(0), locked=NRlc(0))
    assert await reader.allowance(contracts.rlc, contracts.deployer, contracts.hub, now) == 0


async def test_what_does_not_exist_reads_as_such(reader: HubReader) -> None:
    assert (await reader.task(TaskId(NOTHING))).status is TaskStatus.UNSET
    contribution = await reader.contribution(TaskId(NOTHING), NOBODY)
    assert contribution.status is ContributionStatus.UNSET
    assert await reader.score(NOBODY) == 0
    assert await reader.consumed(OrderHash(NOTHING)) == 0
    assert not await reader.presigned(OrderHash(NOTHING))


async def test_what_must_exist_is_an_input_error_when_it_does_not(reader: HubReader) -> None:
    with pytest.raises(InputError, match="the hub has no deal"):
        await reader.deal(DealId(NOTHING))
    with pytest.raises(InputError, match="the hub has no deal"):
        await reader.deal_with_details(DealId(NOTHING))
    with pytest.raises(InputError, match="no such entry"):
        await reader.app(NOBODY)
    with pytest.raises(InputError, match="no such entry"):
        await reader.workerpool_owner(NOBODY)
    with pytest.raises(InputError, match="no such entry"):
        await reader.owner_of(NOBODY)


async def test_a_reverting_view_gives_its_reason(reader: HubReader) -> None:
    with pytest.raises(CallReverted, match="task-pending"):
        await reader.result_for(TaskId(NOTHING))


async def test_a_block_that_the_node_never_gets_is_unavailable(rpc: Rpc, contracts: Deployment) -> None:
    reader = HubReader(rpc, contracts.hub, lag_attempts=2)
    head = (await newest_header(rpc)).stamp
    ahead = BlockStamp(BlockNumber(head.number + 1000), head.hash, head.timestamp)
    with pytest.raises(Unavailable, match="does not have block"):
        await reader.score(NOBODY, ahead)


async def test_no_answer_is_taken_from_a_node_that_is_behind_the_known_head(
    rpc: Rpc, anvil: Anvil, contracts: Deployment
) -> None:
    """As behind a provider's one URL, where some of many nodes lag."""
    proxy = Proxy(anvil.url)
    async with Rpc(await proxy.start()) as door, asyncio.timeout(40):
        reader = HubReader(door, contracts.hub)
        asked = contracts.rlc, contracts.deployer, contracts.hub
        await proxy.break_down("stale")
        data = "0x" + calls.approve(contracts.hub, NRlc(7)).hex()
        sent = await rpc.call(
            "eth_sendTransaction", {"from": str(contracts.deployer), "to": str(contracts.rlc), "data": data}
        )
        while await rpc.call("eth_getTransactionReceipt", sent) is None:  # noqa: ASYNC110  a block of its own
            await asyncio.sleep(0.01)
        head = (await newest_header(rpc)).stamp
        assert await reader.allowance(*asked) == 0

        reader.keep_up_with(lambda: head)
        answer = asyncio.create_task(reader.allowance(*asked))
        while proxy.shown["stale"] < 3:  # noqa: ASYNC110  asked again and again
            await asyncio.sleep(0.01)
        assert not answer.done()
        proxy.fault = "none"
        assert await answer == 7
    await proxy.close()
