"""The market on the official contracts: publish, list, unpublish, and what the chain does to orders."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from conftest import (
    CHAIN_ID,
    KEY_OF,
    MANAGER,
    NOBODY,
    PROVIDER,
    REQUESTER,
    RLC,
    Chain,
    Client,
    settings_of,
)
from poolwright.market import service
from poolwright.market.login import digest_of
from poolwright.poco import calls, views
from poolwright.poco.orders import NULL_DATASETORDER
from poolwright.poco.records import OrderOperation
from poolwright.poco.signatures import sign_digest
from poolwright.poco.types import Address, NRlc

pytestmark = pytest.mark.chain


async def test_an_order_is_published_listed_and_unpublished(chain: Chain, market: Client) -> None:
    order = chain.pool_order()

    document = await market.published(order, MANAGER)

    assert (document["orderHash"], document["status"]) == (str(chain.hash(order)), "open")
    assert {name: str(value) for name, value in document["order"].items()} == order.to_json()
    book = await market.ok("/workerpoolorders", category=0, pageIndex=0, pageSize=10, isAppStrict="false")
    assert (book["count"], [each["orderHash"] for each in book["orders"]]) == (1, [document["orderHash"]])
    assert book["orders"][0]["chainId"] == CHAIN_ID
    assert (await market.order(order))["chainId"] == str(CHAIN_ID)

    status, body = await market.send("PUT", "workerpoolorder", {"orderHash": document["orderHash"]}, MANAGER)
    assert (status, body) == (200, {"ok": True, "unpublished": [document["orderHash"]]})
    assert (await market.ok("/workerpoolorders"))["count"] == 0
    status, body = await market.get(f"/workerpoolorders/{document['orderHash']}")
    assert (status, body) == (404, {"ok": False, "error": "workerpoolorder not found"})


async def test_the_four_kinds_are_published_and_a_deal_consumes_them(chain: Chain, market: Client) -> None:
    chain.deposit(MANAGER, RLC)
    chain.deposit(REQUESTER, RLC)
    app, data = chain.app_order(volume=1), chain.dataset_order(volume=5)
    pool = chain.pool_order(workerpoolprice=NRlc(100), volume=3)
    request = chain.request_order(dataset=chain.entries["dataset"], workerpoolmaxprice=NRlc(100), volume=3)
    for order, wallet in ((app, PROVIDER), (data, PROVIDER), (pool, MANAGER), (request, REQUESTER)):
        await market.published(order, wallet)

    chain.send(PROVIDER, chain.contracts.hub, calls.match_orders(app, data, pool, request))

    await market.until(app, remaining=0, status="filled")
    await market.until(data, remaining=4, status="open")
    await market.until(pool, remaining=2, status="open")
    await market.until(request, remaining=2, status="dead")  # its only app order is used up
    deals = await market.ok("/deals", requester=str(REQUESTER), pageIndex=0, pageSize=10)
    [deal] = deals["deals"]
    assert (deal["volume"], deal["workerpool"]["price"], deal["requestHash"]) == (
        1,
        100,
        str(chain.hash(request)),
    )
    assert (await market.ok(f"/deals/{deal['dealid']}"))["dealid"] == deal["dealid"]
    assert (await market.ok("/deals", apporderHash=str(chain.hash(pool))))["count"] == 0
    assert (await market.ok("/ohlc", category=0))["ohlc"] == [[deal["blockTimestamp"], 100, 1]]

    await market.published(chain.app_order(), PROVIDER)
    await market.until(request, status="open")


async def test_a_deal_that_is_reorganised_away_gives_back_what_it_took(chain: Chain, market: Client) -> None:
    hub = chain.contracts.hub
    chain.deposit(MANAGER, 30)
    app, pool, request = chain.app_order(), chain.pool_order(volume=1), chain.request_order()
    closed = chain.pool_order()
    staked = chain.pool_order(workerpoolprice=NRlc(100), volume=1)
    for order, wallet in (
        (app, PROVIDER),
        (pool, MANAGER),
        (request, REQUESTER),
        (closed, MANAGER),
        (staked, MANAGER),
    ):
        await market.published(order, wallet)
    await market.until_watched(chain.node)
    before = int(chain.node.call("eth_blockNumber"), 16)

    chain.send(PROVIDER, hub, calls.match_orders(app, NULL_DATASETORDER, pool, request))
    chain.send(MANAGER, hub, calls.manage_workerpool_order(closed, OrderOperation.CLOSE))
    chain.send(MANAGER, chain.contracts.workerpool_registry, _sale(chain))
    chain.withdraw(MANAGER, 30)
    await market.until(pool, status="filled", remaining=0)
    await market.until(request, status="filled", remaining=0)
    await market.until(app, status="open", remaining=9)
    await market.until(closed, status="canceled")
    await market.until(staked, status="dead")
    [gone] = (await market.ok("/deals"))["deals"]
    late = chain.app_order()
    await market.published(late, PROVIDER)  # read on the branch that is lost
    depth = int(chain.node.call("eth_blockNumber"), 16) - before

    async with market.http.get(f"{market.url}/events?chainId={CHAIN_ID}&topic=deals") as stream:
        await stream.content.readline()
        chain.node.call("anvil_reorg", depth, [])
        news, event = await _next_event(stream)
    assert (event, news["text"]) == ("deal_removed", gone["dealid"])

    await market.until(pool, status="open", remaining=1)
    await market.until(request, status="open", remaining=1)
    await market.until(app, status="open", remaining=10)
    await market.until(closed, status="open", remaining=10)
    await market.until(staked, status="open")
    await market.until(late, status="open")
    assert (await market.ok("/deals"))["count"] == 0
    assert (await market.get(f"/deals/{gone['dealid']}"))[0] == 404

    chain.send(PROVIDER, hub, calls.match_orders(app, NULL_DATASETORDER, pool, request))
    await market.until(pool, status="filled")
    await market.until(app, remaining=9)
    [deal] = (await market.ok("/deals"))["deals"]
    assert deal["requestHash"] == str(chain.hash(request))


def _sale(chain: Chain) -> bytes:
    return calls.transfer_entry(MANAGER, PROVIDER, chain.entries["pool"])


async def test_a_reorganisation_below_all_that_was_watched_is_read_again(
    chain: Chain, tmp_path: Path
) -> None:
    """Of the passed blocks only the one before the hub's is left; what both branches have is not lost."""
    registry = chain.contracts.workerpool_registry
    late = views.decode_address(chain.ask(registry, views.predict_workerpool(MANAGER, "late")))
    chain.send(PROVIDER, registry, calls.create_workerpool(MANAGER, "late"))
    chain.node.call("anvil_mine", hex(2))
    config = settings_of(chain, f"sqlite:///{tmp_path}/market.db")
    async with aiohttp.ClientSession() as http, service.serving(config) as running:
        market = Client(http=http, url=running.url, chain=chain)
        app, pool = chain.app_order(), chain.pool_order(workerpool=late)
        await market.published(app, PROVIDER)
        await market.published(pool, MANAGER)
        await market.until_watched(chain.node)

        chain.node.call("anvil_reorg", 3, [])

        await market.until(pool, status="dead")
        assert (await market.order(app))["status"] == "open"
        async with asyncio.timeout(20):
            while True:  # they are gone for the moment of the reading
                if (await market.ok("/categories"))["count"] == 5:
                    break
                await asyncio.sleep(0.05)
        assert await market.refused(chain.pool_order(workerpool=late), MANAGER) == "Workerpool not deployed"
        chain.send(PROVIDER, registry, calls.create_workerpool(MANAGER, "late"))
        await market.until(pool, status="open")
        running.stop()


async def test_what_was_read_of_a_lost_block_is_read_again_when_the_cursor_is_there(
    chain: Chain, tmp_path: Path
) -> None:
    """With confirmations the watcher never sees the lost block; a publication had read it."""
    config = settings_of(chain, f"sqlite:///{tmp_path}/market.db")
    config = replace(config, chains=(replace(config.chains[0], confirmations=4),))
    registry, hub = chain.contracts.workerpool_registry, chain.contracts.hub
    chain.node.call("anvil_mine", hex(6))
    app, order, request = chain.app_order(), chain.pool_order(), chain.request_order()
    async with aiohttp.ClientSession() as http, service.serving(config) as running:
        market = Client(http=http, url=running.url, chain=chain)
        chain.send(PROVIDER, hub, calls.match_orders(app, NULL_DATASETORDER, order, request))
        late = views.decode_address(chain.ask(registry, views.predict_workerpool(MANAGER, "late")))
        chain.send(PROVIDER, registry, calls.create_workerpool(MANAGER, "late"))
        chain.deposit(MANAGER, 30)
        gone = chain.pool_order(workerpool=late)
        staked = chain.pool_order(workerpoolprice=NRlc(100), volume=1)
        for each in (order, gone, staked):
            await market.published(each, MANAGER)
        assert (await market.order(order))["remaining"] == 9

        chain.node.call("anvil_reorg", 4, [])  # all since the mining, none that has four on it
        assert (await market.order(order))["remaining"] == 9
        chain.node.call("anvil_mine", hex(5))

        await market.until(order, remaining=10, status="open")
        await market.until(gone, status="dead")
        await market.until(staked, status="dead")
        running.stop()


async def test_an_order_without_dataset_is_matched(chain: Chain, market: Client) -> None:
    app, pool, request = chain.app_order(), chain.pool_order(), chain.request_order()
    for order, wallet in ((app, PROVIDER), (pool, MANAGER), (request, REQUESTER)):
        await market.published(order, wallet)

    chain.send(PROVIDER, chain.contracts.hub, calls.match_orders(app, NULL_DATASETORDER, pool, request))

    await market.until(request, status="filled", remaining=0)
    await market.until(pool, remaining=9)


async def test_a_cancelled_order_is_canceled(chain: Chain, market: Client) -> None:
    order = chain.pool_order()
    await market.published(order, MANAGER)

    chain.send(MANAGER, chain.contracts.hub, calls.manage_workerpool_order(order, OrderOperation.CLOSE))

    await market.until(order, status="canceled", remaining=0)
    assert await market.refused(order, MANAGER) == "order already published"


async def test_an_order_dies_with_its_stake_and_comes_back_with_it(chain: Chain, market: Client) -> None:
    chain.deposit(MANAGER, 100)
    order = chain.pool_order(workerpoolprice=NRlc(100), volume=2)
    await market.published(order, MANAGER)

    chain.withdraw(MANAGER, 50)
    await market.until(order, status="dead", remaining=2)
    assert (await market.ok("/workerpoolorders"))["count"] == 0

    chain.deposit(MANAGER, 10)
    await market.until(order, status="open")


async def test_an_order_of_a_sold_pool_is_dead_and_refused(chain: Chain, market: Client) -> None:
    order, pool = chain.pool_order(), chain.entries["pool"]
    await market.published(order, MANAGER)

    registry = chain.contracts.workerpool_registry
    chain.send(MANAGER, registry, calls.transfer_entry(MANAGER, PROVIDER, pool))

    await market.until(order, status="dead")
    refusal = await market.refused(chain.pool_order(), MANAGER)
    assert refusal == f"only order signer {PROVIDER} can publish an order"

    chain.send(PROVIDER, registry, calls.transfer_entry(PROVIDER, MANAGER, pool))
    await market.until(order, status="open")


async def test_each_check_of_a_publication_says_what_the_reference_says(chain: Chain, market: Client) -> None:
    stranger = replace(chain.pool_order(), workerpool=Address(b"\x07" * 20))
    assert await market.refused(stranger, MANAGER) == "Workerpool not deployed"
    assert (
        await market.refused(chain.app_order(), REQUESTER)
        == f"only order signer {PROVIDER} can publish an order"
    )
    assert (
        await market.refused(chain.request_order(), PROVIDER)
        == f"only order signer {REQUESTER} can publish an order"
    )
    assert await market.refused(replace(chain.app_order(), volume=7), PROVIDER) == "invalid sign"
    assert (
        await market.refused(chain.pool_order(workerpoolprice=NRlc(10)), MANAGER)
        == "workerpool owner's stake is too low to cover required workerpool lock"
    )
    assert (
        await market.refused(chain.request_order(workerpoolmaxprice=NRlc(7)), REQUESTER)
        == "requester stake is too low to cover requestorder payment, minimum stake required is 7 nRLC"
    )
    assert (
        await market.refused(chain.request_order(), REQUESTER)
        == f"No apporder published for app {chain.entries['app']}"
    )
    closed = chain.app_order()
    chain.send(PROVIDER, chain.contracts.hub, calls.manage_app_order(closed, OrderOperation.CLOSE))
    assert await market.refused(closed, PROVIDER) == "order already consumed"


async def test_the_stake_check_counts_the_wallets_other_orders(chain: Chain, market: Client) -> None:
    chain.deposit(MANAGER, 50)
    await market.published(chain.pool_order(workerpoolprice=NRlc(100), volume=1), MANAGER)

    refusal = await market.refused(chain.pool_order(workerpoolprice=NRlc(100), volume=1), MANAGER)

    assert refusal == "workerpool owner's stake is too low to cover required workerpool lock"


async def test_a_presigned_order_is_published_without_a_signature(chain: Chain, market: Client) -> None:
    order = replace(chain.app_order(), sign=b"")
    assert await market.refused(order, PROVIDER) == "invalid sign"

    chain.send(PROVIDER, chain.contracts.hub, calls.manage_app_order(order, OrderOperation.SIGN))

    assert (await market.published(order, PROVIDER))["order"]["sign"] == "0x"


async def test_one_wallet_publishes_in_parallel(chain: Chain, market: Client) -> None:
    orders = [chain.app_order() for _ in range(20)]

    documents = await asyncio.gather(*(market.published(order, PROVIDER) for order in orders))

    assert {each["orderHash"] for each in documents} == {str(chain.hash(order)) for order in orders}
    body = {"target": "unpublish_last", "app": str(chain.entries["app"])}
    newest = max(documents, key=lambda each: each["publicationTimestamp"])
    assert (await market.send("PUT", "apporder", body, PROVIDER))[1]["unpublished"] == [newest["orderHash"]]
    body["target"] = "unpublish_all"
    assert len((await market.send("PUT", "apporder", body, PROVIDER))[1]["unpublished"]) == 19
    status, refusal = await market.send("PUT", "apporder", body, PROVIDER)
    assert (status, refusal["error"]) == (
        403,
        f"no open apporder published by signer {PROVIDER} for app {chain.entries['app']}",
    )


async def test_every_bad_authorization_gets_the_same_answer(chain: Chain, market: Client) -> None:
    order = chain.app_order()
    used = await market.authorization(PROVIDER)
    assert (await market.send("POST", "apporder", {"order": order.to_json()}, used))[0] == 200
    theirs = await market.authorization(MANAGER)
    own = digest_of(CHAIN_ID, "Sign this message to log into iExec Gateway: mine")
    for header in (
        "",
        "nonsense",
        used,
        theirs.replace(str(MANAGER), str(PROVIDER)),
        f"{own}_0x{sign_digest(KEY_OF[PROVIDER], own).hex()}_{PROVIDER}",
    ):
        status, body = await market.send("POST", "apporder", {"order": chain.app_order().to_json()}, header)
        assert (status, body) == (403, {"ok": False, "error": "invalid authorization"})


async def test_an_order_with_an_end_dies_then(chain: Chain, market: Client) -> None:
    import time

    order = chain.app_order()
    document = await market.published(order, PROVIDER, expiresAt=int(time.time() * 1000) + 700)
    assert document["expiresAt"] > document["publicationTimestamp"]

    await market.until(order, status="dead")

    assert await market.refused(chain.app_order(), PROVIDER, expiresAt=1) == "expiresAt is over"


async def test_categories_compass_and_counts_are_served(chain: Chain, market: Client) -> None:
    await market.published(chain.app_order(), PROVIDER)
    await market.until_watched(chain.node)
    categories = (await market.ok("/categories", maxWorkClockTimeRef=1200))["categories"]
    assert [(each["name"], each["workClockTimeRef"]) for each in categories] == [("XS", 300), ("S", 1200)]
    assert (await market.ok("/categories/2"))["name"] == "M"
    assert await market.get("/categories/9") == (404, {"ok": False, "error": "category not found"})
    pool = chain.entries["pool"]
    assert await market.get(f"/{CHAIN_ID}/workerpools/{pool}") == (200, {"apiUrl": "http://127.0.0.1:13000"})
    assert (await market.get(f"/{CHAIN_ID}/workerpools/{NOBODY}"))[0] == 404
    counts = await market.ok("/metrics")
    assert (counts["apporders"], counts["lastBlock"]) == (1, counts["checkpointBlock"])


@pytest.mark.parametrize(
    ("path", "query", "text"),
    [
        ("/apporders", {"chainId": ""}, "chainId is a required field"),
        ("/apporders", {"chainId": "7"}, "chainId 7 is not supported"),
        ("/apporders", {}, "app or appOwner is required"),
        ("/datasetorders", {}, "dataset or datasetOwner is required"),
        ("/apporders", {"app": "x"}, 'app is neither "any" nor a valid ethereum address'),
        ("/apporders", {"appOwner": "x"}, "appOwner is not a valid ethereum address"),
        ("/workerpoolorders", {"minTag": "0x1"}, "minTag must be a bytes32 hexstring"),
        ("/workerpoolorders", {"pageSize": "9"}, "pageSize must be greater than or equal to 10"),
        ("/workerpoolorders", {"pageSize": "1001"}, "pageSize must be less than or equal to 1000"),
        ("/workerpoolorders", {"minVolume": "0"}, "minVolume must be greater than or equal to 1"),
        ("/workerpoolorders", {"cursor": "!"}, "cursor is not one of this market"),
        ("/challenge", {"address": "0x"}, "address is not a valid ethereum address"),
        ("/ohlc", {}, "category is a required field"),
    ],
)
async def test_a_bad_query_is_told_what_is_wrong(market: Client, path: str, query: Any, text: str) -> None:
    assert await market.get(path, **query) == (400, {"ok": False, "error": text})


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"app": None}, "order.app is a required field"),
        ({"app": "0xabc"}, "order.app is not a valid ethereum address"),
        ({"volume": 0}, "order.volume must be greater than or equal to 1"),
        ({"volume": 2**53}, "order.volume must be less than or equal to 9007199254740991"),
        ({"salt": "0x01"}, "order.salt must be a bytes32 hexstring"),
        ({"sign": "zz"}, "order.sign must be a hexstring"),
    ],
)
async def test_a_bad_order_is_told_which_field(
    chain: Chain, market: Client, change: dict[str, Any], text: str
) -> None:
    body = {"order": {**chain.app_order().to_json(), **change}}

    assert await market.send("POST", "apporder", body, PROVIDER) == (400, {"ok": False, "error": text})


async def test_a_wrong_checksum_and_a_foreign_chain_s_order_are_refused(chain: Chain, market: Client) -> None:
    order = chain.app_order()
    wrong = str(order.app).swapcase().replace("0X", "0x")
    status, body = await market.send(
        "POST", "apporder", {"order": {**order.to_json(), "app": wrong}}, PROVIDER
    )
    assert (status, body["error"]) == (400, "order.app is not a valid ethereum address")


async def test_malformed_and_huge_bodies_and_foreign_verbs_are_refused(market: Client) -> None:
    header = {"authorization": await market.authorization(PROVIDER)}
    url = f"{market.url}/apporders?chainId={CHAIN_ID}"
    async with market.http.post(url, data=b'{"order": ', headers=header) as answer:
        assert answer.status == 400
        assert "not JSON" in (await answer.json())["error"]
    async with market.http.post(url, data=b"x" * 300_000, headers=header) as answer:
        assert answer.status == 413
    async with market.http.delete(url) as answer:
        assert answer.status == 405
    async with market.http.get(f"{market.url}/nowhere") as answer:
        assert (answer.status, await answer.text()) == (404, "Not Found")


async def test_news_come_as_server_sent_events_and_go_on_after_a_break(chain: Chain, market: Client) -> None:
    url = f"{market.url}/events?chainId={CHAIN_ID}&topic=orders"
    order = chain.app_order()
    async with market.http.get(url) as stream:
        await stream.content.readline()
        await market.published(order, PROVIDER)
        name, event = await _next_event(stream)
    assert (event, name["orderHash"]) == ("apporder_published", str(chain.hash(order)))
    await market.send("PUT", "apporder", {"orderHash": name["orderHash"]}, PROVIDER)
    async with market.http.get(url, headers={"Last-Event-ID": name["id"]}) as stream:
        again, event = await _next_event(stream)
    assert (event, again["text"]) == ("apporder_unpublished", name["orderHash"])


async def _next_event(stream: aiohttp.ClientResponse) -> tuple[Any, str]:
    fields: dict[str, str] = {}
    async with asyncio.timeout(10):
        async for line in stream.content:
            name, _, value = line.decode().strip().partition(": ")
            if name:
                fields[name] = value
            elif "data" in fields:
                break
    data = json.loads(fields["data"])
    if isinstance(data, str):
        data = {"text": data}
    return {**data, "id": fields["id"]}, fields["event"]


async def test_news_come_by_socket_io(chain: Chain, market: Client) -> None:
    import socketio  # type: ignore[import-untyped]  # ships no types

    heard: asyncio.Queue[Any] = asyncio.Queue()
    client = socketio.AsyncClient()
    client.on("apporder_published", heard.put_nowait)
    await client.connect(market.url, socketio_path="/ws", transports=["websocket"])
    try:
        assert await client.call("join", {"chainId": CHAIN_ID, "topic": "orders"}) is True
        assert await client.call("join", {"chainId": 7, "topic": "orders"}) is False
        order = chain.app_order()
        await market.published(order, PROVIDER)
        async with asyncio.timeout(10):
            document = await heard.get()
    finally:
        await client.disconnect()
    assert document["orderHash"] == str(chain.hash(order))
    assert "chainId" not in document
