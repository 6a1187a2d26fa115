"""What a requester of a local network does in tests: buy tasks of an app, as the demo does."""

from __future__ import annotations

from collections.abc import Mapping

from poolwright.chain.reads import HubReader
from poolwright.chain.sender import Receipt, TxSender
from poolwright.chain.wallet import Wallet
from poolwright.devnet import dealing
from poolwright.devnet.dealing import Terms, Traded
from poolwright.devnet.record import NetworkRecord
from poolwright.poco.types import Address, DealId, NRlc

RLC = 10**9


async def wallets_of(record: NetworkRecord) -> dict[str, Wallet]:
    """Those who sign a deal's orders."""
    return {name: await dealing.open_wallet(record, name) for name in ("provider", "manager", "requester")}


async def buy(
    hub: HubReader,
    record: NetworkRecord,
    sender: TxSender,
    app: Address,
    *,
    wallets: Mapping[str, Wallet] | None = None,
    dataset: Address | None = None,
    arguments: str = "",
    category: int = 0,
    tasks: int = 1,
    trust: int = 1,
    pool_price: int = RLC,
) -> tuple[DealId, Receipt]:
    """Make a deal whose orders cost nothing but the pool's price, nRLC per task; `sender` matches them."""
    wallets = await wallets_of(record) if wallets is None else wallets
    terms = Terms(
        tasks=tasks,
        trust=trust,
        category=category,
        arguments=arguments,
        app_price=NRlc(0),
        dataset_price=NRlc(0),
        pool_price=NRlc(pool_price),
    )
    traded = Traded(app=app, dataset=dataset or Address.zero(), workerpool=record.workerpool)
    domain = await hub.domain()
    blank = dealing.unsigned_orders(traded, terms, wallets["requester"].address, dealing.random_salt())
    orders = dealing.signed_orders(
        blank,
        domain,
        provider=wallets["provider"],
        manager=wallets["manager"],
        requester=wallets["requester"],
    )
    return await dealing.match(hub, orders, domain, sender)
