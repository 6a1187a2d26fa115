"""Results that come before their contribution: who may bring one, and which of them becomes the task's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from test_results_service import (
    BLOCK,
    CHAIN_ID,
    HUB,
    KEY,
    STRANGER,
    TASK,
    WORKER,
    Client,
    authorized,
    result_zip,
)

from poolwright.poco.authorization import sign_authorization
from poolwright.poco.records import (
    NO_CONTRIBUTION,
    NO_DEAL,
    NO_TASK,
    ContributionStatus,
    Resource,
    TaskStatus,
)
from poolwright.poco.signatures import address_of_key
from poolwright.poco.types import Address, DealId, Hash32, NRlc, Timestamp, WorkerAddress
from poolwright.results.cid import cid_of
from poolwright.results.config import ResultsConfig
from poolwright.results.ledger import MemoryLedger
from poolwright.results.service import serving
from poolwright.wire.uploads import WORKERPOOL_AUTHORIZATION, result_link, workerpool_header

OWNER = bytes(31) + b"\x01"
OTHER_KEY = bytes(31) + b"\x09"
OTHER = WorkerAddress(address_of_key(OTHER_KEY))
NOBODY = Address.zero()
DEAL_ID = DealId(Hash32(bytes(31) + b"\x05"))
DEAL = replace(
    NO_DEAL,
    workerpool=Resource(pointer=HUB, owner=address_of_key(OWNER), price=NRlc(1)),
    trust=1,
    bot_size=1,
)
ACTIVE = replace(
    NO_TASK,
    status=TaskStatus.ACTIVE,
    deal_id=DEAL_ID,
    contribution_deadline=Timestamp(BLOCK.timestamp + 1),
    final_deadline=Timestamp(BLOCK.timestamp + 500),
)


def early(key: bytes = KEY, worker: WorkerAddress = WORKER, owner: bytes = OWNER) -> dict[str, str]:
    leave = workerpool_header(NOBODY, sign_authorization(owner, worker, TASK, NOBODY))
    return authorized(key=key, worker=worker) | {WORKERPOOL_AUTHORIZATION: leave}


@pytest.fixture
def ledger() -> MemoryLedger:
    """A task of trust 1 to which nobody has contributed."""
    ledger = MemoryLedger(BLOCK)
    ledger.tasks[TASK] = ACTIVE
    ledger.deals[DEAL_ID] = DEAL
    return ledger


@pytest_asyncio.fixture
async def client(ledger: MemoryLedger, tmp_path: Path) -> AsyncIterator[Client]:
    config = ResultsConfig(
        chain_id=CHAIN_ID, hub=HUB, port=0, folder=tmp_path, max_bytes=2**20, keep_free_bytes=0
    )
    async with serving(config, ledger) as server, aiohttp.ClientSession() as session:
        yield Client(server.url, session)


def finalize(ledger: MemoryLedger, worker: WorkerAddress, cid: str) -> None:
    """The worker's contributeAndFinalize is mined."""
    ledger.tasks[TASK] = replace(
        ACTIVE, status=TaskStatus.COMPLETED, contributors=(worker,), results=result_link(cid)
    )
    ledger.contributions[TASK, worker] = replace(NO_CONTRIBUTION, status=ContributionStatus.PROVED)


async def test_of_several_early_results_the_one_that_the_chain_names_is_the_tasks(client, ledger):
    first, second = result_zip(b"first"), result_zip(b"second")
    assert (await client.upload(first, headers=early()))[0] == 200
    assert (await client.upload(second, headers=early(OTHER_KEY, OTHER)))[0] == 200
    path = f"/v1/results/{TASK}/ipfshash"
    assert (await client.ask("GET", path))[0] == 404

    finalize(ledger, WORKER, cid_of(first))

    assert (await client.ask("GET", path))[:2] == (200, cid_of(first).encode())
    ledger.trouble = None
    ledger.tasks.clear()  # once settled, the chain is not asked again
    assert (await client.ask("HEAD", f"/v1/results/{TASK}"))[0] == 204
    assert (await client.ask("GET", f"/ipfs/{cid_of(first)}"))[1] == first


async def test_a_worker_that_comes_again_replaces_what_it_brought(client, ledger):
    first, second = result_zip(b"first"), result_zip(b"second")
    await client.upload(first, headers=early())
    await client.upload(second, headers=early())

    finalize(ledger, WORKER, cid_of(second))

    assert (await client.ask("GET", f"/v1/results/{TASK}/ipfshash"))[1] == cid_of(second).encode()


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        (early(owner=STRANGER), 403, "not-authorized-by-pool"),
        (early(owner=KEY), 403, "not-authorized-by-pool"),
        (early() | {WORKERPOOL_AUTHORIZATION: "0x12"}, 401, "bad-authorization"),
        (authorized(), 503, "task-not-revealing"),
    ],
    ids=["another pool's owner", "the worker itself", "nonsense", "no word of the pool"],
)
async def test_without_the_word_of_the_pools_owner_nothing_comes_early(client, headers, status, code):
    assert await client.refusal(result_zip(), headers=headers) == (status, code)


@pytest.mark.parametrize(
    ("task", "trust"),
    [
        (ACTIVE, 2),
        (replace(ACTIVE, contributors=(OTHER,)), 1),
        (replace(ACTIVE, contribution_deadline=BLOCK.timestamp), 1),
    ],
    ids=["more trust", "somebody has contributed", "too late to contribute"],
)
async def test_where_contribute_and_finalize_is_impossible_nothing_comes_early(client, ledger, task, trust):
    ledger.tasks[TASK] = task
    ledger.deals[DEAL_ID] = replace(DEAL, trust=trust)

    assert await client.refusal(result_zip(), headers=early()) == (403, "not-early")


async def test_an_early_zip_that_is_no_result_is_refused(client):
    status, _ = await client.refusal(b"PK nothing", headers=early())

    assert status == 422
