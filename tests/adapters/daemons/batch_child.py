"""A scheduler's transaction hands in a process of their own, to be killed: asks for all tasks of a bag.

Arguments: RPC URL, hub, deal, how many tasks, folder of the store. Says when everything is in flight, and how
many are done.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from poolwright.chain.gas import GasPolicy
from poolwright.chain.heads import Heads
from poolwright.chain.reads import HubReader
from poolwright.chain.rpc import Rpc
from poolwright.chain.sender import TxSender
from poolwright.chain.wallet import Wallet
from poolwright.daemons.batches import DONE, Batches
from poolwright.daemons.tx_journal import StoreTxJournal
from poolwright.devnet.anvil import CHAIN_ID, DEPLOYER_KEY
from poolwright.poco.ids import task_id
from poolwright.poco.types import Address, DealId, Hash32, Timestamp
from poolwright.scheduler.effects import Submission, Submit
from poolwright.store.sqlite import SqliteStore


async def main(url: str, hub: str, deal: str, count: int, folder: Path) -> None:
    store = await SqliteStore.open(folder / "store.sqlite")
    deal_id, address = DealId(Hash32.parse(deal)), Address.parse(hub)
    async with (
        Rpc(url) as rpc,
        Heads(rpc, poll_seconds=0.05) as heads,
        TxSender(
            rpc,
            Wallet(DEPLOYER_KEY),
            CHAIN_ID,
            StoreTxJournal(store),
            GasPolicy(),
            heads=heads,
            look_seconds=0.05,
        ) as sender,
    ):
        batches = Batches(HubReader(rpc, address), address, sender, lambda: Timestamp(0))
        wishes = [
            Submit(
                task_id=task_id(deal_id, index),
                deal_id=deal_id,
                index=index,
                submission=Submission.INITIALIZE,
                attempt=1,
            )
            for index in range(count)
        ]
        asked = asyncio.gather(*(batches.submit(wish) for wish in wishes))
        while len(sender.in_flight) < 4 and not asked.done():  # noqa: ASYNC110  what health pages do
            await asyncio.sleep(0.01)
        print(f"in flight: {len(sender.in_flight)}", flush=True)
        outcomes = await asked
        print(f"done: {outcomes.count(DONE)}", flush=True)
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4], int(sys.argv[4]), Path(sys.argv[5])))
