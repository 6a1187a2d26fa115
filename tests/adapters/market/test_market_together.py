"""Several market processes on one PostgreSQL and one chain: what one of them promised, all of them keep."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from market_processes import WAIT_SECONDS, Heard, Process, started, until

from conftest import CHAIN_ID, MANAGER, PROVIDER, Chain, Client
from databases import Cluster, postgresql
from poolwright.poco import calls, views
from poolwright.poco.orders import NULL_DATASETORDER, AppOrder, Order, WorkerpoolOrder
from poolwright.poco.types import NRlc, OrderHash

pytestmark = pytest.mark.chain
ONE_AT_A_TIME = threading.Lock()
"""The tests' node has one connection."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with postgresql() as running:
        yield running


@asynccontextmanager
async def together(chain: Chain, cluster: Cluster, folder: Path, count: int) -> AsyncIterator[list[Process]]:
    """So many processes on one fresh database; they start at the same time."""
    database = cluster.database()
    async with AsyncExitStack() as stack:
        yield await asyncio.gather(
            *(
                stack.enter_async_context(
                    started(chain, folder / f"log {at}", database, MAX_OPEN_ORDERS_PER_WALLET="5000")
                )
                for at in range(count)
            )
        )


async def leader_of(processes: list[Process]) -> Process:
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            leaders = [each for each in processes if await each.leads()]
            if leaders:
                [leader] = leaders
                return leader
            await asyncio.sleep(0.05)


async def deal(chain: Chain, app: AppOrder, pool: WorkerpoolOrder) -> None:
    """Match them with a request for one task."""
    match = calls.match_orders(app, NULL_DATASETORDER, pool, chain.request_order())

    def send() -> None:
        with ONE_AT_A_TIME:
            chain.send(PROVIDER, chain.contracts.hub, match)

    await asyncio.to_thread(send)


def consumed(chain: Chain, order: Order) -> int:
    return views.decode_uint(chain.ask(chain.contracts.hub, views.view_consumed(chain.hash(order))))


async def test_all_of_them_serve_and_tell_the_same_in_the_same_order(
    chain: Chain, cluster: Cluster, tmp_path: Path
) -> None:
    async with together(chain, cluster, tmp_path, 3) as processes, AsyncExitStack() as stack:
        clients = [each.client for each in processes]
        orders: list[list[Heard]] = [[] for _ in processes]
        deals: list[list[Heard]] = [[] for _ in processes]
        for process, of_orders, of_deals in zip(processes, orders, deals, strict=True):
            await stack.enter_async_context(process.hearing(of_orders))
            await stack.enter_async_context(process.hearing(of_deals, topic="deals"))
        sockets = [await stack.enter_async_context(socket_news(each.client)) for each in processes]
        app = chain.app_order(volume=1000)
        await clients[0].published(app, PROVIDER)

        async def come_and_go(client: Client, pools: list[WorkerpoolOrder]) -> None:
            for order in pools:
                document = await client.published(order, MANAGER)
                assert await client.order(order) == {**document, "ok": True, "chainId": str(CHAIN_ID)}
                await deal(chain, app, order)
            body = {"orderHash": str(chain.hash(pools[0]))}
            assert (await client.send("PUT", "workerpoolorder", body, MANAGER))[0] == 200

        await asyncio.gather(*(come_and_go(each, [chain.pool_order() for _ in range(4)]) for each in clients))
        for client in clients:
            await client.until_watched(chain.node)
        last = chain.pool_order(volume=99)
        await clients[2].published(last, MANAGER)
        for heard in orders:
            await until(partial(is_last, heard, chain.hash(last)))

        assert orders[0] == orders[1] == orders[2]
        assert deals[0] == deals[1] == deals[2]
        assert len({json.loads(each.text)["dealid"] for each in deals[0]}) == len(deals[0]) == 12
        assert [each.place for each in orders[0]] == sorted({each.place for each in orders[0]})
        for socket in sockets:
            await until(partial(are_as_many, socket, orders[0]))
            assert socket == [(each.name, json.loads(each.text)) for each in orders[0]]
        pages = [await client.ok("/workerpoolorders") for client in clients]
        assert pages[0] == pages[1] == pages[2]
        assert pages[0]["count"] == 3 * 3 + 1

        rest: list[Heard] = []
        await stack.enter_async_context(processes[1].hearing(rest, after=orders[0][4].place))
        await until(partial(is_last, rest, chain.hash(last)))
        assert rest == orders[0][5:]


def are_as_many(news: list[Any], others: list[Any]) -> bool:
    return len(news) >= len(others)


def is_last(heard: list[Heard], order_hash: OrderHash) -> bool:
    return bool(heard) and str(order_hash) in heard[-1].text


@asynccontextmanager
async def socket_news(client: Client) -> AsyncIterator[list[tuple[str, Any]]]:
    """What a Socket.IO client hears of orders."""
    import socketio  # type: ignore[import-untyped]  # ships no types

    news: list[tuple[str, Any]] = []
    listener = socketio.AsyncClient()

    async def hear(name: str, body: Any) -> None:
        news.append((name, body))

    listener.on("*", hear)
    await listener.connect(client.url, socketio_path="/ws", transports=["websocket"])
    try:
        assert await listener.call("join", {"chainId": CHAIN_ID, "topic": "orders"}) is True
        yield news
    finally:
        await listener.disconnect()


async def test_a_challenge_of_one_process_is_good_at_another_once(
    chain: Chain, cluster: Cluster, tmp_path: Path
) -> None:
    async with together(chain, cluster, tmp_path, 2) as (one, two):
        order, again = chain.pool_order(), chain.pool_order()
        header = await one.client.authorization(MANAGER)

        status, _ = await two.client.send("POST", order.KIND, {"order": order.to_json()}, header)
        assert status == 200
        for process in (one, two):
            refusal = await process.client.send("POST", again.KIND, {"order": again.to_json()}, header)
            assert refusal == (403, {"ok": False, "error": "invalid authorization"})


async def test_two_processes_do_not_promise_the_same_stake_twice(
    chain: Chain, cluster: Cluster, tmp_path: Path
) -> None:
    async with together(chain, cluster, tmp_path, 2) as (one, two):
        for _ in range(5):
            chain.deposit(MANAGER, 30)  # of an order's 100 nRLC the pool stakes 30
            rivals = [chain.pool_order(workerpoolprice=NRlc(100), volume=1) for _ in range(4)]

            outcomes = await asyncio.gather(
                *(
                    process.client.publish(order, MANAGER)
                    for process, order in zip((one, two, one, two), rivals, strict=True)
                )
            )

            assert sorted(status for status, _ in outcomes) == [200, 403, 403, 403]
            assert {body["error"] for status, body in outcomes if status == 403} == {
                "workerpool owner's stake is too low to cover required workerpool lock"
            }
        twins = [chain.app_order()] * 4
        outcomes = await asyncio.gather(
            *(each.client.publish(twins[0], PROVIDER) for each in (one, two, one, two))
        )
        assert sorted(status for status, _ in outcomes) == [200, 403, 403, 403]


@dataclass
class Stream:
    """Publications and deals without pause, and what came of them."""

    chain: Chain
    app: AppOrder
    promised: list[WorkerpoolOrder]
    deals: int = 0
    is_over: bool = False

    async def publish(self, client: Client) -> None:
        """At one process until it is gone; only what got a 200 counts."""
        while not self.is_over:
            order = self.chain.pool_order(volume=2)
            try:
                status, body = await client.publish(order, MANAGER)
            except aiohttp.ClientError:
                return
            assert status == 200, body
            self.promised.append(order)

    async def match(self) -> None:
        """Every third order gets one deal, every sixth two, which fill it."""
        at = 0
        while not self.is_over:
            if at >= len(self.promised):
                await asyncio.sleep(0.01)
                continue
            for _ in range((at % 3 == 0) + (at % 6 == 0)):
                await deal(self.chain, self.app, self.promised[at])
                self.deals += 1
            at += 1

    async def goes_on(self) -> None:
        orders, deals = len(self.promised) + 12, self.deals + 6
        await until(lambda: len(self.promised) >= orders and self.deals >= deals, 2 * WAIT_SECONDS)


async def check_nothing_is_lost(stream: Stream, client: Client) -> None:
    """Each order that got a 200 stands as the chain says, each deal is there once."""
    chain = stream.chain
    await client.until_watched(chain.node)
    left = {str(chain.hash(order)): 2 - consumed(chain, order) for order in stream.promised}
    for order in stream.promised:
        found = await client.order(order)
        remaining = left[found["orderHash"]]
        assert (found["remaining"], found["status"]) == (remaining, "open" if remaining else "filled")
    page = await client.ok("/workerpoolorders", pageSize=1000)
    assert {each["orderHash"]: each["remaining"] for each in page["orders"]} == {
        name: remaining for name, remaining in left.items() if remaining
    }
    assert (await client.ok("/deals"))["count"] == stream.deals
    assert (await client.order(stream.app))["remaining"] == 1000 - stream.deals


@pytest.mark.parametrize("is_leader", [True, False])
async def test_kill_9_amid_publications_and_deals_loses_nothing(
    chain: Chain, cluster: Cluster, tmp_path: Path, is_leader: bool
) -> None:
    async with together(chain, cluster, tmp_path, 2) as processes, AsyncExitStack() as stack:
        leader = await leader_of(processes)
        [other] = [each for each in processes if each is not leader]
        victim, survivor = (leader, other) if is_leader else (other, leader)
        heard: list[Heard] = []
        await stack.enter_async_context(survivor.hearing(heard, topic="deals"))
        stream = Stream(chain, chain.app_order(volume=1000), [])
        await victim.client.published(stream.app, PROVIDER)
        async with asyncio.TaskGroup() as tasks:
            for process in (victim, victim, survivor, survivor):
                tasks.create_task(stream.publish(process.client))
            tasks.create_task(stream.match())
            await stream.goes_on()
            victim.send(signal.SIGKILL)
            await survivor.until_it_leads()
            await stream.goes_on()
            stream.is_over = True

        await check_nothing_is_lost(stream, survivor.client)
        await until(lambda: len(heard) >= stream.deals)
        assert len({json.loads(each.text)["dealid"] for each in heard}) == len(heard) == stream.deals


async def test_a_leader_that_stands_still_is_deposed_and_follows(
    chain: Chain, cluster: Cluster, tmp_path: Path
) -> None:
    async with together(chain, cluster, tmp_path, 2) as processes:
        leader = await leader_of(processes)
        [other] = [each for each in processes if each is not leader]
        stream = Stream(chain, chain.app_order(volume=1000), [chain.pool_order(volume=2) for _ in range(4)])
        await leader.client.published(stream.app, PROVIDER)
        for order in stream.promised:
            await leader.client.published(order, MANAGER)

        leader.send(signal.SIGSTOP)
        await deal(chain, stream.app, stream.promised[0])
        await other.until_it_leads()
        await deal(chain, stream.app, stream.promised[1])
        await other.client.until(stream.promised[1], remaining=1)
        leader.send(signal.SIGCONT)
        await deal(chain, stream.app, stream.promised[2])
        stream.deals = 3

        for process in (leader, other):
            await check_nothing_is_lost(stream, process.client)
        assert await other.leads()
        assert not await leader.leads()
        assert '"event": "deposed"' in leader.log.read_text()
