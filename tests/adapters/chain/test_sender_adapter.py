"""The transaction sender on a real anvil: once per key, through drops, replacements, rivals and restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

import pytest

from poolwright.chain.gas import GasPolicy
from poolwright.chain.heads import ChainReorganised, Heads
from poolwright.chain.rpc import Rpc, RpcError
from poolwright.chain.sender import (
    JournalFailed,
    MemoryTxJournal,
    OutOfGas,
    Patience,
    TxJournal,
    TxPhase,
    TxRecord,
    TxRequest,
    TxReverted,
    TxSender,
)
from poolwright.chain.wallet import Wallet
from poolwright.devnet.anvil import CHAIN_ID, Anvil
from poolwright.devnet.contracts import Deployment
from poolwright.poco import calls
from poolwright.poco.errors import InputError, Unavailable
from poolwright.poco.types import Address, Hash32, NRlc, Seconds, TaskId, Wei

pytestmark = pytest.mark.chain

T = TypeVar("T")

BOUND = 40.0
WALLET = Wallet(bytes.fromhex("59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"))
OTHER = Address(b"\x0a" * 20)
EAGER = Patience(blocks=2, seconds=0.15)
"""Sends again soon, so that tests need not wait."""
NEVER = Patience(blocks=10**9, seconds=10**9)


@asynccontextmanager
async def sender(
    rpc: Rpc,
    journal: TxJournal,
    *,
    confirmations: int = 0,
    patience: Patience = NEVER,
    gas: GasPolicy | None = None,
    wallet: Wallet = WALLET,
    max_in_flight: int = 256,
) -> AsyncIterator[TxSender]:
    async with (
        Heads(rpc, confirmations=confirmations, poll_seconds=0.05) as heads,
        TxSender(
            rpc,
            wallet,
            CHAIN_ID,
            journal,
            gas or GasPolicy(),
            heads=heads,
            patience=patience,
            max_in_flight=max_in_flight,
            look_seconds=0.05,
        ) as running,
    ):
        yield running


def pay(key: str, amount: int = 1, *, gas_limit: int | None = None) -> TxRequest:
    return TxRequest(key=key, to=OTHER, data=b"", value=Wei(amount), gas_limit=gas_limit)


async def soon(awaitable: Awaitable[T]) -> T:
    async with asyncio.timeout(BOUND):
        return await awaitable


async def until_in_flight(running: TxSender, count: int) -> Sequence[TxRecord]:
    async with asyncio.timeout(BOUND):
        while len(running.in_flight) < count:  # noqa: ASYNC110  what health pages do
            await asyncio.sleep(0.01)
    return running.in_flight


async def is_known(rpc: Rpc, tx_hash: Hash32) -> bool:
    return await rpc.call("eth_getTransactionByHash", str(tx_hash)) is not None


async def until_known(rpc: Rpc, tx_hash: Hash32) -> None:
    async with asyncio.timeout(BOUND):
        while not await is_known(rpc, tx_hash):  # noqa: ASYNC110  a node tells nobody
            await asyncio.sleep(0.01)


async def received(rpc: Rpc) -> int:
    return int(str(await rpc.call("eth_getBalance", str(OTHER), "latest")), 16)


async def nonce(rpc: Rpc) -> int:
    return int(str(await rpc.call("eth_getTransactionCount", str(WALLET.address), "latest")), 16)


async def hold_blocks(rpc: Rpc) -> None:
    """No block until `mine`."""
    await rpc.call("evm_setAutomine", False)


async def mine(rpc: Rpc, count: int = 1) -> None:
    await rpc.call("anvil_mine", hex(count))


# --- the straight way ---------------------------------------------------------------------------------------


async def test_a_receipt_tells_block_gas_and_fee(rpc: Rpc) -> None:
    async with sender(rpc, MemoryTxJournal()) as running:
        receipt = await soon(running.submit(pay("a", 7)))
    assert (await received(rpc), receipt.gas_used) == (7, 21_000)
    assert receipt.fee > 0
    block = await rpc.call("eth_getBlockByNumber", hex(receipt.block.number), False)
    assert isinstance(block, dict)
    assert block["hash"] == str(receipt.block.hash)
    assert block["transactions"] == [str(receipt.tx_hash)]


async def test_one_key_is_one_transaction_however_often_it_is_submitted(rpc: Rpc) -> None:
    async with sender(rpc, MemoryTxJournal()) as running:
        receipts = await soon(asyncio.gather(*(running.submit(pay("a", 7)) for _ in range(5))))
        receipts.append(await soon(running.submit(pay("a", 7))))
    assert len(set(receipts)) == 1
    assert (await received(rpc), await nonce(rpc)) == (7, 1)


async def test_two_hundred_at_once_arrive_each_once(rpc: Rpc) -> None:
    async with sender(rpc, MemoryTxJournal(), patience=EAGER) as running:  # anvil may forget one of so many
        receipts = await soon(asyncio.gather(*(running.submit(pay(f"tx {number}")) for number in range(200))))
    assert len({receipt.tx_hash for receipt in receipts}) == 200
    assert (await received(rpc), await nonce(rpc)) == (200, 200)


async def test_more_than_may_be_in_flight_wait_their_turn(rpc: Rpc) -> None:
    async with sender(rpc, MemoryTxJournal(), max_in_flight=3) as running:
        await soon(asyncio.gather(*(running.submit(pay(f"tx {number}")) for number in range(20))))
    assert await nonce(rpc) == 20


async def test_a_receipt_waits_for_the_confirmations(rpc: Rpc) -> None:
    await mine(rpc, 5)
    async with sender(rpc, MemoryTxJournal(), confirmations=3) as running:
        submitted = asyncio.create_task(running.submit(pay("a", 7)))
        await until_in_flight(running, 1)
        async with asyncio.timeout(BOUND):
            while await received(rpc) == 0:  # noqa: ASYNC110  the chain moves on its own
                await asyncio.sleep(0.01)
        await mine(rpc, 2)
        await asyncio.sleep(0.3)  # time to tell it too early, which is what is looked for
        assert not submitted.done()
        await mine(rpc)
        receipt = await soon(submitted)
    assert receipt.block.number == 6


async def test_a_contract_is_created(rpc: Rpc) -> None:
    code = bytes.fromhex("600160005360016000f3")  # returns one byte of code
    async with sender(rpc, MemoryTxJournal()) as running:
        receipt = await soon(running.submit(TxRequest(key="create", to=None, data=code)))
    assert receipt.contract is not None
    assert await rpc.call("eth_getCode", str(receipt.contract), "latest") == "0x01"


async def test_a_chain_without_fees_needs_no_money(rpc: Rpc) -> None:
    await rpc.call("anvil_setNextBlockBaseFeePerGas", "0x0")
    await mine(rpc)
    await rpc.call("anvil_setBalance", str(WALLET.address), "0x0")
    async with sender(rpc, MemoryTxJournal(), gas=GasPolicy(multiplier=0)) as running:
        await rpc.call("anvil_setNextBlockBaseFeePerGas", "0x0")
        receipt = await soon(running.submit(pay("a", 0)))
    assert receipt.fee == 0


# --- refusals -----------------------------------------------------------------------------------------------


async def test_what_reverts_at_the_estimate_is_not_sent(rpc: Rpc, contracts: Deployment) -> None:
    async with sender(rpc, MemoryTxJournal()) as running:
        request = TxRequest(
            key="configure",
            to=contracts.hub,
            data=calls.create_category("name", "text", Seconds(5)),
        )
        with pytest.raises(TxReverted, match="caller is not the owner") as caught:
            await soon(running.submit(request))
        assert caught.value.tx_hash is None
        bare = TxRequest(key="claim", to=contracts.hub, data=calls.claim(TaskId(Hash32.zero())))
        with pytest.raises(TxReverted, match="no reason given"):
            await soon(running.submit(bare))
    assert await nonce(rpc) == 0


async def test_what_reverts_in_a_block_tells_its_reason_and_stays_so(rpc: Rpc, contracts: Deployment) -> None:
    journal = MemoryTxJournal()
    request = TxRequest(key="pay", to=contracts.rlc, data=calls.transfer(OTHER, NRlc(5)), gas_limit=100_000)
    for _ in range(2):  # the second sender reads it from the journal
        async with sender(rpc, journal) as running:
            with pytest.raises(TxReverted) as caught:
                await soon(running.submit(request))
        assert caught.value.tx_hash is not None
    assert await nonce(rpc) == 1


async def test_a_wallet_without_money_is_out_of_gas_before_a_nonce_is_spent(rpc: Rpc) -> None:
    poor = Wallet(b"\x42" * 32)
    journal = MemoryTxJournal()
    async with sender(rpc, journal, wallet=poor) as running:
        with pytest.raises(OutOfGas, match="cannot pay for gas") as caught:
            await soon(running.submit(pay("a", 0)))
        assert (caught.value.balance, caught.value.needed > 0) == (0, True)
        await rpc.call("anvil_setBalance", str(poor.address), hex(10**18))
        await soon(running.submit(pay("a", 0)))


async def test_a_small_purse_sends_one_after_the_other(rpc: Rpc) -> None:
    await rpc.call("anvil_setBalance", str(WALLET.address), hex(10**15))  # two dearest transfers at once
    async with sender(rpc, MemoryTxJournal(), gas=GasPolicy(multiplier=10)) as running:
        await soon(
            asyncio.gather(*(running.submit(pay(f"tx {number}", 1, gas_limit=21_000)) for number in range(6)))
        )
    assert await nonce(rpc) == 6


async def test_a_journal_of_another_wallet_is_refused(rpc: Rpc) -> None:
    journal = MemoryTxJournal()
    await hold_blocks(rpc)
    async with sender(rpc, journal) as running:
        job = asyncio.create_task(running.submit(pay("a")))
        await until_in_flight(running, 1)
    with suppress(Unavailable):
        await job
    with pytest.raises(InputError, match="another wallet or chain"):
        async with sender(rpc, journal, wallet=Wallet(b"\x42" * 32)):
            pass


# --- drops, prices, rivals ----------------------------------------------------------------------------------


async def test_a_dropped_transaction_is_sent_again(rpc: Rpc) -> None:
    await hold_blocks(rpc)
    async with sender(rpc, MemoryTxJournal(), patience=EAGER) as running:
        job = asyncio.create_task(running.submit(pay("a", 7)))
        [record] = await until_in_flight(running, 1)
        await until_known(rpc, record.tx_hash)
        await rpc.call("anvil_dropTransaction", str(record.tx_hash))
        async with asyncio.timeout(BOUND):
            while not await is_known(rpc, running.in_flight[0].tx_hash):  # noqa: ASYNC110  or a replacement
                await asyncio.sleep(0.01)
        await mine(rpc)
        receipt = await soon(job)
    assert (await received(rpc), await nonce(rpc)) == (7, 1)
    assert receipt.block.number > 0


async def test_what_the_node_forgot_when_a_block_was_full_is_sent_again_after_one_block(rpc: Rpc) -> None:
    """However patient the sender is otherwise: nothing of the wallet moves before that."""
    await hold_blocks(rpc)
    async with sender(rpc, MemoryTxJournal(), patience=NEVER) as running:
        jobs = [asyncio.create_task(running.submit(pay(str(number)))) for number in range(3)]
        records = await until_in_flight(running, 3)
        for record in records:
            await until_known(rpc, record.tx_hash)
        for record in records[1:]:
            await rpc.call("anvil_dropTransaction", str(record.tx_hash))
        await mine(rpc)  # with the first of them; the next is found missing
        for record in records[1:]:
            await until_known(rpc, record.tx_hash)
        await mine(rpc)
        await soon(asyncio.gather(*jobs))
    assert (await received(rpc), await nonce(rpc)) == (3, 3)


@pytest.mark.parametrize("node", ["keeps it", "forgets it at every block"])
async def test_an_underpriced_transaction_is_replaced_up_to_the_cap(rpc: Rpc, node: str) -> None:
    await hold_blocks(rpc)
    journal = MemoryTxJournal()
    async with sender(rpc, journal, patience=EAGER, gas=GasPolicy(cap=Wei(10**11))) as running:
        job = asyncio.create_task(running.submit(pay("a", 7)))
        [first] = await until_in_flight(running, 1)
        await rpc.call("anvil_setNextBlockBaseFeePerGas", hex(5 * 10**10))
        async with asyncio.timeout(BOUND):
            while not job.done():
                await asyncio.sleep(0.1)
                await mine(rpc)
                if node == "forgets it at every block":
                    await rpc.call("anvil_dropTransaction", str(first.tx_hash))
                await rpc.call("anvil_setNextBlockBaseFeePerGas", hex(5 * 10**10))
        receipt = await job
    record = await journal.get("a")
    assert record is not None
    assert first.tx_hash in record.earlier
    assert receipt.tx_hash == record.tx_hash
    assert 5 * 10**10 <= record.max_fee <= 10**11
    assert (await received(rpc), await nonce(rpc)) == (7, 1)


async def put_in_place_of(rpc: Rpc, newer: TxRecord, older: TxRecord) -> bool:
    """Let the node hold the older version; not when the sender sent a better paid one in between."""
    await rpc.call("anvil_dropTransaction", str(newer.tx_hash))
    try:
        await rpc.call("eth_sendRawTransaction", "0x" + older.raw.hex())
    except RpcError:
        return False
    return True


async def test_an_earlier_version_that_is_mined_counts(rpc: Rpc) -> None:
    """The replacement is journaled, and the first version is what the chain takes."""
    await hold_blocks(rpc)
    journal = MemoryTxJournal()
    async with sender(rpc, journal, patience=EAGER) as running:
        job = asyncio.create_task(running.submit(pay("a", 7)))
        [first] = await until_in_flight(running, 1)
        async with asyncio.timeout(BOUND):
            while running.in_flight[0].tx_hash == first.tx_hash:  # noqa: ASYNC110  as health pages do
                await asyncio.sleep(0.01)
        async with asyncio.timeout(BOUND):
            while not await put_in_place_of(rpc, running.in_flight[0], first):
                pass
        await mine(rpc)
        receipt = await soon(job)
    assert (await received(rpc), await nonce(rpc)) == (7, 1)
    mined = await journal.get("a")
    assert mined is not None
    assert receipt.tx_hash in mined.versions


async def use_nonce(rpc: Rpc, number: int) -> str:
    """Somebody else's transaction from our wallet, sent by the node itself."""
    await rpc.call("anvil_impersonateAccount", str(WALLET.address))
    tx = {"from": str(WALLET.address), "to": str(OTHER), "value": "0x64", "nonce": hex(number)}
    price = {"maxFeePerGas": hex(10**11), "maxPriorityFeePerGas": hex(10**10)}
    return str(await rpc.call("eth_sendTransaction", tx | price))


async def test_a_nonce_used_by_another_program_is_given_up_for_a_new_one(rpc: Rpc) -> None:
    await hold_blocks(rpc)
    journal = MemoryTxJournal()
    async with sender(rpc, journal) as running:
        jobs = [asyncio.create_task(running.submit(pay(key, 7))) for key in ("a", "b")]
        records = await until_in_flight(running, 2)
        for record in records:
            await until_known(rpc, record.tx_hash)
        for record in reversed(records):  # dropping the first one drops what stands behind it
            await rpc.call("anvil_dropTransaction", str(record.tx_hash))
        await use_nonce(rpc, 0)
        await mine(rpc)
        await rpc.call("eth_sendRawTransaction", "0x" + records[1].raw.hex())
        await rpc.call("evm_setAutomine", True)
        await mine(rpc)
        receipts = await soon(asyncio.gather(*jobs))
    assert receipts[1].tx_hash == records[1].tx_hash
    assert receipts[0].tx_hash != records[0].tx_hash
    assert (await received(rpc), await nonce(rpc)) == (100 + 14, 3)


async def test_a_nonce_gap_is_filled(rpc: Rpc) -> None:
    """We start behind a pending transaction of another program, which the node then drops."""
    await hold_blocks(rpc)
    foreign = await use_nonce(rpc, 0)
    async with sender(rpc, MemoryTxJournal(), patience=EAGER) as running:
        job = asyncio.create_task(running.submit(pay("a", 7)))
        [record] = await until_in_flight(running, 1)
        assert record.nonce == 1
        await rpc.call("anvil_dropTransaction", foreign)
        await rpc.call("evm_setAutomine", True)
        await soon(job)
    assert (await received(rpc), await nonce(rpc)) == (7, 2)


# --- crashes ------------------------------------------------------------------------------------------------


class CrashesAfterPut(MemoryTxJournal):
    """Stores, and then the process seems to die before it can broadcast."""

    def __init__(self) -> None:
        super().__init__()
        self.stored = asyncio.Event()

    async def put(self, *records: TxRecord) -> None:
        await super().put(*records)
        self.stored.set()
        await asyncio.Event().wait()


async def copy_of(journal: MemoryTxJournal) -> MemoryTxJournal:
    copy = MemoryTxJournal()
    await copy.put(*await journal.pending())
    return copy


async def test_a_crash_between_journal_and_broadcast_sends_the_same_transaction(rpc: Rpc) -> None:
    crashing = CrashesAfterPut()
    async with sender(rpc, crashing) as running:
        job = asyncio.create_task(running.submit(pay("a", 7)))
        await soon(crashing.stored.wait())
    with suppress(Unavailable):
        await job
    assert await received(rpc) == 0

    journal = await copy_of(crashing)
    [record] = await journal.pending()
    async with sender(rpc, journal) as running:
        receipt = await soon(running.submit(pay("a", 7)))
    assert receipt.tx_hash == record.tx_hash
    assert (await received(rpc), await nonce(rpc)) == (7, 1)


async def test_after_a_restart_transactions_go_on_without_anybody_asking(rpc: Rpc) -> None:
    await hold_blocks(rpc)
    journal = MemoryTxJournal()
    async with sender(rpc, journal) as running:
        jobs = [asyncio.create_task(running.submit(pay(f"tx {number}"))) for number in range(10)]
        await until_in_flight(running, 10)
    ended = await asyncio.gather(*jobs, return_exceptions=True)
    assert all(isinstance(end, Unavailable) for end in ended)

    await rpc.call("evm_setAutomine", True)
    await mine(rpc)
    async with sender(rpc, journal):
        async with asyncio.timeout(BOUND):
            while await journal.pending():  # noqa: ASYNC110  the chain moves on its own
                await asyncio.sleep(0.01)
    assert (await received(rpc), await nonce(rpc)) == (10, 10)
    record = await journal.get("tx 3")
    assert record is not None
    assert record.phase is TxPhase.MINED


async def test_crashes_again_and_again_lose_and_double_nothing(rpc: Rpc) -> None:
    journal = MemoryTxJournal()
    keys = [f"tx {number}" for number in range(40)]
    for patience in range(6):
        async with sender(rpc, journal) as running:
            jobs = [asyncio.create_task(running.submit(pay(key))) for key in keys]
            await asyncio.sleep(0.02 * patience)
        await asyncio.gather(*jobs, return_exceptions=True)
    async with sender(rpc, journal, patience=EAGER) as running:
        await soon(asyncio.gather(*(running.submit(pay(key)) for key in keys)))
    assert (await received(rpc), await nonce(rpc)) == (40, 40)


async def test_a_caller_that_gives_up_does_not_take_the_transaction_back(rpc: Rpc) -> None:
    journal = MemoryTxJournal()
    await hold_blocks(rpc)
    async with sender(rpc, journal) as running:
        job = asyncio.create_task(running.submit(pay("a", 7)))
        await until_in_flight(running, 1)
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)
        await rpc.call("evm_setAutomine", True)
        await mine(rpc)
        await soon(running.submit(pay("a", 7)))
    assert (await received(rpc), await nonce(rpc)) == (7, 1)


class FullDisk(MemoryTxJournal):
    async def put(self, *records: TxRecord) -> None:
        raise OSError("no space left on device")


async def test_nothing_is_sent_that_cannot_be_written_down(rpc: Rpc) -> None:
    async with sender(rpc, FullDisk()) as running:
        with pytest.raises(JournalFailed, match="no space left"):
            await soon(running.submit(pay("a", 7)))
        with pytest.raises(JournalFailed):
            await soon(running.submit(pay("b", 7)))
    assert await nonce(rpc) == 0


async def test_a_deep_reorganisation_stops_the_sender(rpc: Rpc) -> None:
    await mine(rpc, 10)
    async with sender(rpc, MemoryTxJournal()) as running:
        await soon(running.submit(pay("a")))
        await rpc.call("anvil_reorg", 4, [])
        await mine(rpc)

        async def submit_until_it_stops() -> None:
            for number in range(10**6):
                await running.submit(pay(f"tx {number}", 0))

        with pytest.raises(ChainReorganised):
            await soon(submit_until_it_stops())


async def test_a_node_that_is_away_for_a_while_is_waited_for(anvil: Anvil, rpc: Rpc) -> None:
    """The node answers nothing while it is stopped; then all goes on."""
    await hold_blocks(rpc)
    async with (
        Rpc(anvil.url, timeout_seconds=0.1, attempts=1) as impatient,
        sender(impatient, MemoryTxJournal(), patience=EAGER) as running,
    ):
        job = asyncio.create_task(running.submit(pay("a", 7)))
        await until_in_flight(running, 1)
        anvil.process.send_signal(19)  # SIGSTOP
        try:
            silences = 0
            while silences < 3:
                try:
                    await impatient.call("eth_blockNumber")  # the signal takes a moment
                except Unavailable:
                    silences += 1
        finally:
            anvil.process.send_signal(18)  # SIGCONT
        await rpc.call("evm_setAutomine", True)
        await mine(rpc)
        await soon(job)
    assert await received(rpc) == 7
