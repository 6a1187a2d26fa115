"""`poolwright scheduler resync`: back and forward, refused while a scheduler runs, all or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import factories as f
from databases import lead, postgresql
from poolwright.__main__ import main
from poolwright.chain.blocks import fetch_headers, newest_header
from poolwright.chain.rpc import Rpc
from poolwright.daemons.chain_watch import CURSOR_MARK, was_told
from poolwright.daemons.config import ChainConfig, scheduler_config
from poolwright.daemons.home import IDENTITY_MARK, STORE_FILE
from poolwright.daemons.resync import held_store, resync
from poolwright.daemons.scheduler_mind import SchedulerMind
from poolwright.devnet.anvil import Anvil
from poolwright.devnet.contracts import deploy
from poolwright.poco.errors import InputError
from poolwright.poco.types import Address, BlockNumber, BlockStamp, TaskId
from poolwright.store.memory import MemoryStore
from poolwright.store.port import Commit, EffectRow, Store
from poolwright.store.sqlite import SqliteStore
from poolwright.wire import codec

POOL = f.address("pool")
BLOCKS = 40


@dataclass(frozen=True)
class Chain:
    """A chain with the official contracts and many blocks."""

    url: str
    hub: Address


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    with Anvil.start() as anvil:
        contracts = deploy(anvil.url)
        asyncio.run(_mine(anvil.url))
        yield Chain(anvil.url, contracts.hub)


async def _mine(url: str) -> None:
    async with Rpc(url) as rpc:
        await rpc.call("anvil_mine", hex(BLOCKS))


@pytest.fixture
async def rpc(chain: Chain) -> AsyncIterator[Rpc]:
    async with Rpc(chain.url) as client:
        yield client


@pytest.fixture
def variables(chain: Chain, tmp_path: Path) -> dict[str, str]:
    """What a scheduler on this chain is told."""
    return {
        "IEXEC_BLOCKCHAIN_NODE_ADDRESS": chain.url,
        "IEXEC_CHAIN_ID": "31337",
        "IEXEC_HUB_ADDRESS": str(chain.hub),
        "POOL_ADDRESS": str(POOL),
        "IEXEC_RESULT_REPOSITORY_URL": "http://results.invalid",
        "IEXEC_CORE_WALLET_PATH": str(tmp_path / "none"),
        "POOLWRIGHT_SCHEDULER_DIR": str(tmp_path),
    }


@pytest.fixture
def config(variables: dict[str, str]) -> ChainConfig:
    return scheduler_config(variables).chain


async def store_at(rpc: Rpc, hub: Address, number: int | None, store: Store | None = None) -> Store:
    """The store of a scheduler that has read up to a block; one task of it is open."""
    store = store or MemoryStore()
    identity = f"chain 31337, hub {hub}, workerpool {POOL}, wallet {f.address('manager')}"
    marks = {IDENTITY_MARK: identity.encode()}
    if number is not None:
        marks[CURSOR_MARK] = codec.encode(await stamp(rpc, number))
    await store.commit(Commit(marks=marks))
    pool, _ = f.pool_after(f.deal_matched(f.deal_terms()))
    await store.snapshot(b"".join(SchedulerMind().save(pool)), await store.last_event_id())
    return store


async def stamp(rpc: Rpc, number: int) -> BlockStamp:
    [header] = await fetch_headers(rpc, [BlockNumber(number)])
    assert header is not None
    return header.stamp


async def cursor(store: Store) -> BlockStamp | None:
    mark = await store.mark(CURSOR_MARK)
    return None if mark is None else codec.decode(BlockStamp, mark)


@pytest.mark.parametrize(
    ("at", "first", "becomes"), [(30, 12, 11), (30, 31, 30), (30, 0, 0), (None, 20, 19), (30, 1, 0)]
)
async def test_reading_blocks_again_needs_no_more_than_the_word(
    rpc: Rpc, config: ChainConfig, at: int | None, first: int, becomes: int
) -> None:
    store = await store_at(rpc, config.hub, at)

    done = await resync(store, rpc, config, POOL, BlockNumber(first), skip=False)

    assert await cursor(store) == await stamp(rpc, becomes)
    assert (done.skipped, done.before) == ("", None if at is None else await stamp(rpc, at))


async def test_skipping_blocks_is_refused_with_what_it_costs_and_done_when_it_is_meant(
    rpc: Rpc, config: ChainConfig
) -> None:
    store = await store_at(rpc, config.hub, 10)
    loss = (
        "blocks 11 to 29 are never read; deals made there are not computed, and what happened there to"
        " 1 open task stays unknown"
    )

    with pytest.raises(InputError, match=f"block 30 is ahead of what was read: {loss}") as refused:
        await resync(store, rpc, config, POOL, BlockNumber(30), skip=False)
    assert refused.value.code == "would-skip"
    assert await cursor(store) == await stamp(rpc, 10)

    done = await resync(store, rpc, config, POOL, BlockNumber(30), skip=True)
    assert done.skipped == loss
    assert await cursor(store) == await stamp(rpc, 29)


async def test_a_block_that_is_not_confirmed_yet_is_refused(rpc: Rpc, config: ChainConfig) -> None:
    store = await store_at(rpc, config.hub, 10)

    newest = (await newest_header(rpc)).stamp.number
    with pytest.raises(InputError, match=f"expected at most block {newest + 1}"):
        await resync(store, rpc, config, POOL, BlockNumber(newest + 2), skip=True)
    assert await cursor(store) == await stamp(rpc, 10)


async def test_another_pools_store_is_refused(rpc: Rpc, config: ChainConfig) -> None:
    store = await store_at(rpc, config.hub, 10)

    with pytest.raises(InputError, match="the store is not of this scheduler"):
        await resync(store, rpc, config, f.address("another pool"), BlockNumber(5), skip=False)
    with pytest.raises(InputError, match="a store that no scheduler has used"):
        await resync(MemoryStore(), rpc, config, POOL, BlockNumber(5), skip=False)


async def test_it_is_refused_while_a_scheduler_has_the_store(
    rpc: Rpc, variables: dict[str, str], tmp_path: Path
) -> None:
    running = await SqliteStore.open(tmp_path / STORE_FILE)
    try:
        with pytest.raises(InputError, match="is in use") as refused:
            async with held_store(scheduler_config(variables)):
                raise AssertionError
    finally:
        await running.close()

    assert refused.value.code == "store-in-use"


async def test_it_is_refused_while_a_scheduler_leads_a_shared_store(variables: dict[str, str]) -> None:
    with postgresql() as cluster:
        variables["POOLWRIGHT_STORE_URL"] = url = cluster.database()
        leader = await lead(url, "the scheduler at http://127.0.0.1:13000")
        try:
            with pytest.raises(InputError, match="got the scheduler at http") as refused:
                async with held_store(scheduler_config(variables)):
                    raise AssertionError
        finally:
            await leader.close()

    assert refused.value.code == "store-in-use"


async def test_a_task_that_was_forgotten_is_known_to_have_been_told(rpc: Rpc) -> None:
    store, task, other = MemoryStore(), f.task_of(f.deal_terms()), f.task_of(f.deal_terms("another"))
    await store.commit(Commit(effects=[EffectRow(lane="x", key="y", body=b"{}", task_id=TaskId(task))]))

    assert await was_told(store, task)
    assert not await was_told(store, other)


def test_the_command_says_where_the_scheduler_reads_on_and_what_it_skips(
    chain: Chain,
    variables: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    asyncio.run(_make_store(chain, tmp_path))

    with pytest.raises(SystemExit) as refused:
        main(["scheduler", "resync", "--from", "35"])
    assert refused.value.code == InputError.exit_code
    assert "give --skip if that is what you want" in capsys.readouterr().err

    with pytest.raises(SystemExit) as done:
        main(["scheduler", "resync", "--from", "35", "--skip"])
    assert done.value.code in (0, None)
    first, second = capsys.readouterr().out.splitlines()
    assert first == "The chain had been read up to block 10; the scheduler reads on from block 35."
    assert second.startswith("WARNING: blocks 11 to 34 are never read;")


async def _make_store(chain: Chain, folder: Path) -> None:
    store = await SqliteStore.open(folder / STORE_FILE)
    async with Rpc(chain.url) as rpc:
        await store_at(rpc, chain.hub, 10, store)
    await store.close()
