"""The nonces of one wallet have one owner: a sender whose scheduler leads no more sends nothing new.

Two senders of one wallet on a real chain, each with the journal of its own term in one PostgreSQL store.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import psycopg
import pytest

from databases import Cluster, lead, postgresql
from poolwright.chain.encoding import Json
from poolwright.chain.gas import GasPolicy
from poolwright.chain.heads import Heads
from poolwright.chain.rpc import Request, Rpc, RpcError
from poolwright.chain.sender import JournalFailed, Patience, TxPhase, TxRequest, TxSender
from poolwright.chain.wallet import Wallet
from poolwright.daemons.tx_journal import StoreTxJournal
from poolwright.devnet.anvil import CHAIN_ID, Anvil
from poolwright.poco.types import Address, Wei
from poolwright.store.lease import Candidate
from poolwright.store.postgresql import PostgresStore

pytestmark = pytest.mark.chain

BOUND_SECONDS = 60.0
WALLET = Wallet(bytes.fromhex("59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"))
OTHER = Address(b"\x0a" * 20)
NEVER = Patience(blocks=10**9, seconds=10**9)


class SlowRpc(Rpc):
    """A way to the node on which a process can be paused: before it broadcasts, and nowhere else."""

    def __init__(self, url: str) -> None:
        super().__init__([url])
        self.may_broadcast = asyncio.Event()
        self.may_broadcast.set()
        self.is_at_gate = asyncio.Event()

    async def batch_outcomes(self, requests: Sequence[Request]) -> list[Json | RpcError]:
        if requests and requests[0][0] == "eth_sendRawTransaction":
            self.is_at_gate.set()
            await self.may_broadcast.wait()
        return await super().batch_outcomes(requests)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with postgresql() as made:
        yield made


@asynccontextmanager
async def sender(rpc: Rpc, store: PostgresStore) -> AsyncIterator[TxSender]:
    async with (
        Heads(rpc, poll_seconds=0.05) as heads,
        TxSender(
            rpc,
            WALLET,
            CHAIN_ID,
            StoreTxJournal(store),
            GasPolicy(),
            heads=heads,
            patience=NEVER,
            look_seconds=0.05,
        ) as running,
    ):
        yield running


async def successor(url: str) -> PostgresStore:
    """The store in a new term, taken while the leader's lease has run out."""
    candidate = await Candidate.enter(url, "host-b")
    term = None
    while term is None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("UPDATE lease SET expires_at = clock_timestamp() - interval '1 second'")
        term = await candidate.take()
    await candidate.close()
    return await PostgresStore.lead(url, term)


def pay(key: str) -> TxRequest:
    return TxRequest(key=key, to=OTHER, data=b"", value=Wei(1))


async def sent(rpc: Rpc) -> int:
    """Transactions of the wallet that the node has seen, mined or not."""
    return int(str(await rpc.call("eth_getTransactionCount", str(WALLET.address), "pending")), 16)


async def test_a_fenced_sender_sends_nothing_and_the_next_one_has_the_nonces(
    cluster: Cluster, anvil: Anvil
) -> None:
    url = cluster.database()
    old_store = await lead(url, "host-a")
    async with asyncio.timeout(BOUND_SECONDS), Rpc(anvil.url) as rpc, sender(rpc, old_store) as old:
        await old.submit(pay("first"))
        new_store = await successor(url)

        with pytest.raises(JournalFailed, match="leads no more"):
            await old.submit(pay("second"))

        assert await sent(rpc) == 1
        assert await StoreTxJournal(new_store).get("second") is None
        async with sender(rpc, new_store) as new:
            await new.submit(pay("second"))
            await new.submit(pay("third"))
        assert await sent(rpc) == 3
        await new_store.close()
        await old_store.close()


async def test_a_leader_paused_before_its_broadcast_can_only_repeat_what_its_successor_sent(
    cluster: Cluster, anvil: Anvil
) -> None:
    url = cluster.database()
    old_store = await lead(url, "host-a")
    async with (
        asyncio.timeout(BOUND_SECONDS),
        SlowRpc(anvil.url) as paused,
        Rpc(anvil.url) as rpc,
        sender(paused, old_store) as old,
    ):
        paused.may_broadcast.clear()
        waiting = asyncio.create_task(old.submit(pay("first")))
        await paused.is_at_gate.wait()  # journaled, not sent
        assert await sent(rpc) == 0
        new_store = await successor(url)
        journaled = await StoreTxJournal(new_store).get("first")
        assert journaled is not None

        async with sender(rpc, new_store) as new:  # sends what is journaled, without being asked
            receipt = await new.submit(pay("first"))
            assert receipt.tx_hash == journaled.tx_hash
            await new.submit(pay("second"))

            paused.may_broadcast.set()
            with pytest.raises(JournalFailed, match="leads no more"):
                await waiting  # it sees its receipt, and cannot write it down

        assert await sent(rpc) == 2
        assert int(str(await rpc.call("eth_getBalance", str(OTHER), "latest")), 16) == 2
        settled = await StoreTxJournal(new_store).get("first")
        assert settled is not None
        assert settled.phase is TxPhase.MINED
        await new_store.close()
        await old_store.close()
