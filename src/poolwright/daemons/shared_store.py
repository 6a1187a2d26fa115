"""A store that several schedulers share: wait for its lease, then write it.

Only a scheduler with a store URL loads this module: the database's client would cost every daemon time and
memory.
"""

from __future__ import annotations

from contextlib import AsyncExitStack

from poolwright.daemons.config import ChainConfig
from poolwright.daemons.home import check_identity
from poolwright.daemons.standby import Standby
from poolwright.poco.types import Address
from poolwright.store.lease import Candidate
from poolwright.store.postgresql import PostgresStore


async def at_server(
    stack: AsyncExitStack,
    url: str,
    holder: str,
    standby: Standby,
    chain: ChainConfig,
    workerpool: Address,
    wallet: Address,
) -> PostgresStore:
    """The store at `url`, once it is this scheduler's turn to write it; `holder` is what others call it.

    Raises InputError when the store is another pool's, chain's or wallet's.
    """
    candidate = await Candidate.enter(url, holder)
    try:
        term = await standby.wait(candidate)
    finally:
        await candidate.close()
    store = await PostgresStore.lead(url, term)
    stack.push_async_callback(store.close)
    await check_identity(store, f"store {store.name}", chain, workerpool, wallet)
    return store
