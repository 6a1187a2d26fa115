"""One wallet that owns an app, a workerpool and a request on the official contracts, to make deals with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from blank_orders import APP_ORDER, POOL_ORDER, REQUEST_ORDER
from poolwright.chain.gas import GasPolicy
from poolwright.chain.heads import Heads
from poolwright.chain.logs import transaction_logs
from poolwright.chain.reads import HubReader
from poolwright.chain.rpc import Rpc
from poolwright.chain.sender import MemoryTxJournal, Receipt, TxJournal, TxRequest, TxSender
from poolwright.chain.wallet import Wallet
from poolwright.devnet.anvil import CHAIN_ID
from poolwright.devnet.contracts import Deployment
from poolwright.poco import calls
from poolwright.poco.events import EntryTransfer, HubEvent, SchedulerNotice, decode_log
from poolwright.poco.orders import (
    NULL_DATASETORDER,
    AppOrder,
    Order,
    RequestOrder,
    WorkerpoolOrder,
    order_hash,
)
from poolwright.poco.tags import NO_TAG, Tag
from poolwright.poco.types import Address, DealId, Hash32, NRlc

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

    async def deal(
        self, volume: int, *, params: str = '{"iexec_args":"hello"}', tag: Tag = NO_TAG
    ) -> tuple[DealId, Address]:
        """Register, deposit, sign and match; returns the deal and its workerpool."""
        me, contracts = DEPLOYER.address, self.contracts
        app = await self.create(
            "app",
            contracts.app_registry,
            calls.create_app(me, "no-op", "DOCKER", b"no-op:1", Hash32.zero(), b""),
        )
        pool = await self.create("pool", contracts.workerpool_registry, calls.create_workerpool(me, "ours"))
        await self.send("stake", contracts.rlc, calls.approve_and_call(contracts.hub, NRlc(10**6), b""))
        same = {"volume": volume, "tag": tag}
        orders: list[Order] = [
            replace(APP_ORDER, app=app, appprice=NRlc(10), **same),
            replace(POOL_ORDER, workerpool=pool, workerpoolprice=NRlc(100), trust=1, **same),
            replace(
                REQUEST_ORDER,
                app=app,
                appmaxprice=NRlc(10),
                workerpool=pool,
                workerpoolmaxprice=NRlc(100),
                requester=me,
                trust=1,
                beneficiary=me,
                params=params,
                **same,
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


@asynccontextmanager
async def everybody(
    rpc: Rpc, contracts: Deployment, journal: TxJournal | None = None
) -> AsyncIterator[Everybody]:
    """The wallet with its sender running."""
    async with (
        Heads(rpc, poll_seconds=0.05) as heads,
        TxSender(
            rpc, DEPLOYER, CHAIN_ID, journal or MemoryTxJournal(), GasPolicy(), heads=heads, look_seconds=0.05
        ) as sender,
    ):
        yield Everybody(
            rpc=rpc, sender=sender, heads=heads, contracts=contracts, reader=HubReader(rpc, contracts.hub)
        )
