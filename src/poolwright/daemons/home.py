"""What both daemons open before they can work: the wallet, the store of their folder, the sender."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from poolwright.chain import keystore
from poolwright.chain.budget import FeeBudget, FeeLimits
from poolwright.chain.heads import Heads
from poolwright.chain.rpc import Rpc
from poolwright.chain.sender import TxJournal, TxSender
from poolwright.chain.wallet import Wallet
from poolwright.daemons.config import ChainConfig, WalletConfig, password_of
from poolwright.poco.errors import InputError
from poolwright.poco.types import Address
from poolwright.store.port import Commit, Store
from poolwright.store.sqlite import SqliteStore

IDENTITY_MARK: Final = "identity"
STORE_FILE: Final = "store.sqlite"
"""Name of a SQLite store within a daemon's folder."""


async def open_wallet(config: WalletConfig, variables: Mapping[str, str]) -> Wallet:
    """The wallet of a keystore. Raises InputError (`wrong-password` and others)."""
    password = password_of(config, variables)
    return Wallet(await asyncio.to_thread(keystore.load, config.path, password))


async def at_home(
    stack: AsyncExitStack, folder: Path, chain: ChainConfig, workerpool: Address, wallet: Address
) -> Store:
    """The store in `folder`. Raises InputError when the folder is another pool's, chain's or wallet's."""
    try:
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True, mode=0o700)
    except OSError as problem:
        raise InputError(
            f"cannot use the folder {folder}",
            code="bad-folder",
            got=problem.strerror or str(problem),
            next_step="choose a folder that this user may write to",
        ) from problem
    store = await SqliteStore.open(folder / STORE_FILE)
    stack.push_async_callback(store.close)
    await check_identity(store, f"folder {folder}", chain, workerpool, wallet)
    return store


async def check_identity(
    store: Store, place: str, chain: ChainConfig, workerpool: Address, wallet: Address
) -> None:
    """Note whose state this is, or compare. Raises InputError when it is another's."""
    identity = f"chain {chain.chain_id}, hub {chain.hub}, workerpool {workerpool}, wallet {wallet}"
    known = await store.mark(IDENTITY_MARK)
    if known is None:
        await store.commit(Commit(marks={IDENTITY_MARK: identity.encode()}))
    elif known.decode() != identity:
        raise InputError(
            f"{place} keeps the state of another daemon",
            code="foreign-folder",
            expected=known.decode(),
            got=identity,
            next_step="set the folder or store of this daemon, or an empty one",
        )


async def transaction_sender(
    stack: AsyncExitStack,
    rpc: Rpc,
    wallet: Wallet,
    heads: Heads,
    journal: TxJournal,
    chain: ChainConfig,
    fees: FeeLimits | None = None,
) -> TxSender:
    """The one sender of this wallet, started: what its journal holds is under way again."""
    return await stack.enter_async_context(
        TxSender(
            rpc=rpc,
            wallet=wallet,
            chain_id=chain.chain_id,
            journal=journal,
            gas=chain.gas,
            heads=heads,
            budget=FeeBudget(fees),
        )
    )


def poll_seconds(chain: ChainConfig) -> float:
    """How often to look for a block where no WebSocket tells: ten times a block, within reason."""
    return min(max(chain.block_seconds / 10, 0.05), 2.0)


async def own_secret(store: Store, mark: str) -> bytes:
    """32 random bytes that this store keeps for good."""
    known = await store.mark(mark)
    if known is None:
        known = secrets.token_bytes(32)
        await store.commit(Commit(marks={mark: known}))
    return known
