"""A whole deal through our hands: registered, ordered, matched, followed, read on the official contracts."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import pytest

from poolwright.chain.gas import GasPolicy
from poolwright.chain.heads import Heads
from poolwright.chain.logs import LogBatch, follow, transaction_logs
from poolwright.chain.reads import HubReader
from poolwright.chain.rpc import Rpc
from poolwright.chain.sender import MemoryTxJournal, Receipt, TxRequest, TxReverted, TxSender
from poolwright.chain.wallet import Wallet
from poolwright.devnet.anvil import CHAIN_ID
from poolwright.devnet.contracts import Deployment
from poolwright.poco import calls
from poolwright.poco.events import (
    TOPICS,
    EntryTransfer,
    HubEvent,
    SchedulerNotice,
    TaskInitialize,
    decode_log,
)
from poolwright.poco.ids import task_id
from poolwright.poco.orders import (
    NULL_DATASETORDER,
    AppOrder,
    Order,
    RequestOrder,
    WorkerpoolOrder,
    order_hash,
)
from poolwright.poco.records import TaskStatus
from poolwright.poco.tags import NO_TAG
from poolwright.poco.types import Address, BlockNumber, DealId, Hash32, NRlc

pytestmark = pytest.mark.chain

BOUND = 40.0
SALT = Hash32(b"\x01" * 32)
DEPLOYER = Wallet(bytes.fromhex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"))


@dataclass(slots=True, kw_only=True)
class Everybody:
    """One wallet that owns the app, the pool and the request."""

    rpc: Rpc
    sender: TxSender
    heads: Heads
    contracts: Deployment
    reader: HubReader

    async def send(self, key: str, to: Address, call: bytes) -> Receipt:
        async with asyncio.timeout(BOUND):
            return await self.sender.submit(TxRequest(key=key, to=to, data=call))

    async def events(self, receipt: Receipt) -> list[HubEvent | None]:
        return [decode_log(log) for log in await transaction_logs(self.rpc, receipt.tx_hash)]

    async def create(self, key: str, registry: Address, call: bytes) -> Address:
        found = await self.events(await self.send(key, registry, call))
        [entry] = [event.entry for event in found if isinstance(event, EntryTransfer)]
        return entry

    async def signed(self, order: Order) -> Order:
        digest = order_hash(order, await self.reader.domain())
        return replace(order, sign=DEPLOYER.sign_digest(digest))

    async def deal(self, volume: int) -> tuple[DealId, Address]:
        """Register, deposit, sign and match; returns the deal and its workerpool."""
        me, contracts = DEPLOYER.address, self.contracts
        app = await self.create(
            "app",
            contracts.app_registry,
            calls.create_app(me, "no-op", "DOCKER", b"no-op:1", Hash32.zero(), b""),
        )
        pool = await self.create("pool", contracts.workerpool_registry, calls.create_workerpool(me, "ours"))
        await self.send("stake", contracts.rlc, calls.approve_and_call(contracts.hub, NRlc(10**6), b""))
        nobody = Address.zero()
        orders: list[Order] = [
            AppOrder(
                app=app,
                appprice=NRlc(10),
                datasetrestrict=nobody,
                workerpoolrestrict=nobody,
                requesterrestrict=nobody,
                volume=volume,
                tag=NO_TAG,
                salt=SALT,
            ),
            WorkerpoolOrder(
                workerpool=pool,
                workerpoolprice=NRlc(100),
                category=0,
                trust=1,
                apprestrict=nobody,
                datasetrestrict=nobody,
                requesterrestrict=nobody,
                volume=volume,
                tag=NO_TAG,
                salt=SALT,
            ),
            RequestOrder(
                app=app,
                appmaxprice=NRlc(10),
                dataset=nobody,
                datasetmaxprice=NRlc(0),
                workerpool=pool,
                workerpoolmaxprice=NRlc(100),
                requester=me,
                category=0,
                trust=1,
                beneficiary=me,
                callback=nobody,
                params='{"iexec_args":"hello"}',
                volume=volume,
                tag=NO_TAG,
                salt=SALT,
            ),
        ]
        app_order, pool_order, request_order = [await self.signed(order) for order in orders]
        assert isinstance(app_order, AppOrder)
        assert isinstance(pool_order, WorkerpoolOrder)
        assert isinstance(request_order, RequestOrder)
        found = await self.events(
            await self.send(
                "match",
                contracts.hub,
                calls.match_orders(app_order, NULL_DATASETORDER, pool_order, request_order),
            )
        )
        [deal] = [event.deal_id for event in found if isinstance(event, SchedulerNotice)]
        return deal, pool


async def test_a_deal_is_made_followed_and_read(rpc: Rpc, contracts: Deployment) -> None:
    async with (
        Heads(rpc) as heads,
        TxSender(rpc, DEPLOYER, CHAIN_ID, MemoryTxJournal(), GasPolicy(), heads=heads) as sender,
    ):
        everybody = Everybody(
            rpc=rpc,
            sender=sender,
            heads=heads,
            contracts=contracts,
            reader=HubReader(rpc, contracts.hub),
        )
        deal_id, pool = await everybody.deal(volume=3)

        batch = await notice_of(everybody, pool)
        [log] = batch.logs
        assert decode_log(log) == SchedulerNotice(workerpool=pool, deal_id=deal_id)

        details = await everybody.reader.deal_with_details(deal_id, batch.upto)
        assert (details.deal.bot_first, details.deal.bot_size) == (0, 3)
        assert details.deal.start_time == log.block.timestamp
        assert (details.app.name, details.app.multiaddr) == ("no-op", b"no-op:1")
        assert (details.category.name, details.category.timeref) == ("XS", 300)
        assert (details.workerpool.description, details.dataset) == ("ours", None)
        assert await everybody.reader.deal(deal_id, batch.upto) == details.deal
        assert await everybody.reader.workerpool_owner(pool) == DEPLOYER.address

        # three tasks opened at once: pipelined, and a second opening refused before it costs anything
        async with asyncio.timeout(BOUND):
            receipts = await asyncio.gather(
                *(
                    everybody.send(f"open {index}", contracts.hub, calls.initialize(deal_id, index))
                    for index in range(3)
                )
            )
        tasks = [task_id(deal_id, index) for index in range(3)]
        opened = [event for receipt in receipts for event in await everybody.events(receipt)]
        assert opened == [TaskInitialize(task_id=task, workerpool=pool) for task in tasks]
        found = await everybody.reader.tasks(tasks, heads.current)
        assert {task.status for task in found} == {TaskStatus.ACTIVE}
        with pytest.raises(TxReverted, match="was not sent"):
            await everybody.send("open again", contracts.hub, calls.initialize(deal_id, 0))


async def notice_of(everybody: Everybody, pool: Address) -> LogBatch:
    """Follow the hub as a scheduler does, filtered by its pool, until a log comes."""
    topics = [[TOPICS[SchedulerNotice]], [Hash32(bytes(12) + pool)]]
    batches = follow(everybody.rpc, everybody.contracts.hub, topics, None, BlockNumber(0), everybody.heads)
    async with asyncio.timeout(BOUND):
        async for batch in batches:
            if batch.logs:
                return batch
    raise AssertionError
