"""Orders restricted to a group: whom they are shown to, matched with and serve is what its contract says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from conftest import MANAGER, PROVIDER, REQUESTER, Chain, Client, settings_of
from poolwright.devnet.toolchain import artifact
from poolwright.market import service
from poolwright.market.replica import MEMBER_BLOCKS
from poolwright.poco import abi, calls
from poolwright.poco.orders import NULL_DATASETORDER
from poolwright.poco.records import OrderOperation
from poolwright.poco.types import Address, Hash32

pytestmark = pytest.mark.chain
GROUP_MEMBER = 4


def created(chain: Chain, code: str) -> Address:
    tx = {"from": str(PROVIDER), "data": f"0x{code}", "gas": hex(3_000_000)}
    [receipt] = chain.node.receipts([chain.node.call("eth_sendTransaction", tx)])
    return Address.parse(receipt["contractAddress"])


@pytest.fixture
def group(chain: Chain) -> Address:
    """The official ERC-734 contract, without members."""
    return created(chain, artifact("ERC734Mock").creation_hex)


def join(chain: Chain, group: Address, account: Address) -> None:
    key = Hash32(bytes(12) + account)
    chain.send(PROVIDER, group, abi.encode_call("setKeyHasPurpose(bytes32,uint256)", key, GROUP_MEMBER))


async def shown(market: Client, **query: Any) -> int:
    return int((await market.ok("/workerpoolorders", **query))["count"])


async def test_an_order_for_a_group_is_shown_to_its_members(
    chain: Chain, market: Client, group: Address
) -> None:
    await market.published(chain.pool_order(requesterrestrict=group), MANAGER)
    await market.published(chain.pool_order(), MANAGER)

    assert await shown(market, requester=str(REQUESTER)) == 1
    join(chain, group, REQUESTER)
    await market.until_watched(chain.node)

    assert await shown(market, requester=str(REQUESTER)) == 2
    assert await shown(market, requester=str(REQUESTER), isRequesterStrict="true") == 0
    assert await shown(market, requester=str(PROVIDER)) == 1
    assert await shown(market, requester=str(group), isRequesterStrict="true") == 1
    assert await shown(market, requester="any") == 2


async def test_a_match_for_a_member_is_one_that_the_hub_makes(
    chain: Chain, market: Client, group: Address
) -> None:
    app, pool = chain.app_order(), chain.pool_order(requesterrestrict=group, apprestrict=group)
    request = chain.request_order()
    for order, wallet in ((app, PROVIDER), (pool, MANAGER), (request, REQUESTER)):
        await market.published(order, wallet)
    wish = {"app": str(app.app), "category": 0, "requester": str(REQUESTER)}

    assert (await market.ok("/match", **wish))["match"] is None
    join(chain, group, REQUESTER)
    await market.until_watched(chain.node)
    assert (await market.ok("/match", **wish))["match"] is None  # the app is none yet
    join(chain, group, app.app)
    await market.until_watched(chain.node)

    found = (await market.ok("/match", **wish))["match"]
    assert found["workerpoolorder"]["orderHash"] == str(chain.hash(pool))
    assert "requestorder" not in found
    same = (await market.ok(f"/requestorders/{chain.hash(request)}/match"))["match"]
    assert {**same, "requestorder": None} == {**found, "volume": 1, "requestorder": None}
    assert same["requestorder"]["orderHash"] == str(chain.hash(request))
    chain.send(PROVIDER, chain.contracts.hub, calls.match_orders(app, NULL_DATASETORDER, pool, request))
    await market.until(request, status="filled")
    assert await market.get(f"/requestorders/{chain.hash(request)}/match") == (
        404,
        {"ok": False, "error": "open requestorder not found"},
    )


async def test_a_request_for_a_group_of_pools_is_matched_with_a_member(
    chain: Chain, market: Client, group: Address
) -> None:
    join(chain, group, chain.entries["pool"])
    app, pool = chain.app_order(), chain.pool_order()
    for order, wallet in ((app, PROVIDER), (pool, MANAGER)):
        await market.published(order, wallet)

    wish = {"app": str(app.app), "category": 0, "workerpool": str(group)}
    found = (await market.ok("/match", **wish))["match"]
    assert found["workerpoolorder"]["orderHash"] == str(chain.hash(pool))
    assert (await market.ok("/match", **{**wish, "workerpool": str(PROVIDER)}))["match"] is None


async def test_a_request_is_taken_when_its_requester_is_a_member_and_lives_as_long(
    chain: Chain, market: Client, group: Address
) -> None:
    app, request = chain.app_order(requesterrestrict=group), chain.request_order()
    await market.published(app, PROVIDER)

    assert "No apporder published" in await market.refused(request, REQUESTER)
    join(chain, group, REQUESTER)
    await market.published(request, REQUESTER)
    await market.until(request, status="open")

    code = chain.node.call("eth_getCode", str(group), "latest")
    chain.node.call("anvil_setCode", str(group), "0x")  # the official group lets nobody leave
    chain.node.call("anvil_mine", hex(MEMBER_BLOCKS))
    await market.until(request, status="dead")
    chain.node.call("anvil_setCode", str(group), code)
    chain.node.call("anvil_mine", hex(MEMBER_BLOCKS))
    await market.until(request, status="open")

    pool = chain.pool_order()
    chain.send(PROVIDER, chain.contracts.hub, calls.match_orders(app, NULL_DATASETORDER, pool, request))
    await market.until(request, status="filled")


async def test_a_request_that_lost_its_app_order_comes_back_with_one_for_its_group(
    chain: Chain, market: Client, group: Address
) -> None:
    join(chain, group, REQUESTER)
    app, request = chain.app_order(), chain.request_order()
    await market.published(app, PROVIDER)
    await market.published(request, REQUESTER)
    chain.send(PROVIDER, chain.contracts.hub, calls.manage_app_order(app, OrderOperation.CLOSE))
    await market.until(request, status="dead")

    await market.published(chain.app_order(requesterrestrict=group), PROVIDER)
    chain.node.call("anvil_mine", "0x1")

    await market.until(request, status="open")


async def test_memberships_of_a_lost_branch_are_read_again_and_outlive_a_restart(
    chain: Chain, group: Address, tmp_path: Path
) -> None:
    config = settings_of(chain, f"sqlite:///{tmp_path}/market.db")
    request = chain.request_order()
    async with aiohttp.ClientSession() as http, service.serving(config) as running:
        market = Client(http=http, url=running.url, chain=chain)
        await market.published(chain.app_order(requesterrestrict=group), PROVIDER)
        await market.until_watched(chain.node)
        join(chain, group, REQUESTER)
        await market.published(request, REQUESTER)
        await market.until_watched(chain.node)

        chain.node.call("anvil_reorg", 1, [])
        await market.until(request, status="dead")

        join(chain, group, REQUESTER)
        chain.node.call("anvil_mine", hex(MEMBER_BLOCKS))
        await market.until(request, status="open")
        await market.until_watched(chain.node)
        running.stop()

    async with aiohttp.ClientSession() as http, service.serving(config) as running:
        market = Client(http=http, url=running.url, chain=chain)
        assert (await market.order(request))["status"] == "open"
        running.stop()


async def test_a_contract_that_is_no_group_harms_nobody(chain: Chain, market: Client) -> None:
    """Code that fails in whatever way is asked beside good groups; nobody else's answer suffers."""
    good = created(chain, artifact("ERC734Mock").creation_hex)
    join(chain, good, REQUESTER)
    creates = "60{length:02x}80600b6000396000f3"
    bad = [
        created(chain, creates.format(length=len(code) // 2) + code)
        for code in ("fe", "50", "5b600056", "600160005260206000f3", "60ff60005260206000f3", "60006000fd")
    ]
    for restriction in (good, *bad):
        await market.published(chain.pool_order(requesterrestrict=restriction), MANAGER)

    # 600160005260206000f3 answers 1 to everything, so it is a group of everybody, as for the hub.
    assert await shown(market, requester=str(REQUESTER)) == 2
    assert await shown(market, requester=str(PROVIDER)) == 1
