"""What a worker reads of a task, and every reason for which it does not take it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from factories import address, hash32
from hub_twin import NOT_CONTRIBUTED, HubTwin
from poolwright.chain.gas import GasPolicy
from poolwright.chain.reads import DealDetails
from poolwright.daemons.task_terms import GAS_FOR_A_TASK, GAS_OF_A_TASK, Refusal, read_params, read_terms
from poolwright.poco import ids
from poolwright.poco.authorization import sign_authorization
from poolwright.poco.records import (
    NO_TASK,
    Account,
    AppInfo,
    Category,
    ContributionStatus,
    DatasetInfo,
    Deal,
    Resource,
    TaskStatus,
    WorkerpoolInfo,
)
from poolwright.poco.signatures import address_of_key
from poolwright.poco.tags import NO_TAG, SCONE, TEE, Tag
from poolwright.poco.types import (
    Address,
    BlockNumber,
    DealId,
    NRlc,
    Seconds,
    Timestamp,
    Wei,
    WorkerAddress,
)
from poolwright.wire.messages import Start
from poolwright.wire.statuses import ReplicateStatus as S
from poolwright.worker.terms import Terms

OWNER_KEY = b"\x01" * 32
OWNER = address_of_key(OWNER_KEY)
WORKER = WorkerAddress(address("worker"))
POOL, DATASET = address("pool"), address("dataset")
DEAL_ID = DealId(hash32("deal"))
TASK = ids.task_id(DEAL_ID, 4)
STARTED = Timestamp(1_000)
NOW = Timestamp(1_100)
STAKE = NRlc(30)
GAS_PRICE = Wei(2)
GAS = Wei(GAS_FOR_A_TASK * GAS_PRICE)

APP = AppInfo(
    owner=OWNER, name="app", type="DOCKER", multiaddr=b"app:1", checksum=hash32("image"), mrenclave=b""
)
DEAL = Deal(
    app=Resource(pointer=address("app"), owner=OWNER, price=NRlc(1)),
    dataset=Resource(pointer=DATASET, owner=OWNER, price=NRlc(1)),
    workerpool=Resource(pointer=POOL, owner=OWNER, price=NRlc(100)),
    trust=1,
    category=0,
    tag=NO_TAG,
    requester=address("requester"),
    beneficiary=address("requester"),
    callback=Address.zero(),
    params='{"iexec_args": "--size 3", "iexec_input_files": ["http://a/1", " http://a/2 "]}',
    start_time=STARTED,
    bot_first=4,
    bot_size=2,
    worker_stake=STAKE,
    scheduler_reward_ratio=1,
    sponsor=address("requester"),
)
ACTIVE = replace(
    NO_TASK,
    status=TaskStatus.ACTIVE,
    deal_id=DEAL_ID,
    index=4,
    timeref=Seconds(300),
    contribution_deadline=Timestamp(STARTED + 2_100),
    final_deadline=Timestamp(STARTED + 3_000),
)


def details(*, deal: Deal = DEAL, app: AppInfo = APP) -> DealDetails:
    return DealDetails(
        deal_id=DEAL_ID,
        deal=deal,
        app=app,
        dataset=DatasetInfo(owner=OWNER, name="d", multiaddr=b"/ipfs/Qm", checksum=hash32("dataset file")),
        workerpool=WorkerpoolInfo(
            owner=OWNER, description="", worker_stake_ratio=30, scheduler_reward_ratio=1
        ),
        category=Category(name="XS", description="", timeref=Seconds(300)),
    )


def hub(known: DealDetails | None = None) -> HubTwin:
    """A chain on which everything is in order for this worker."""
    return HubTwin(
        details={DEAL_ID: known or details()},
        tasks={TASK: ACTIVE},
        accounts={WORKER: Account(stake=STAKE, locked=NRlc(0))},
        ethers={WORKER: GAS},
        network_gas_price=GAS_PRICE,
    )


def start(*, key: bytes = OWNER_KEY, worker: Address = WORKER) -> Start:
    return Start(
        task_id=TASK,
        deal_id=DEAL_ID,
        index=4,
        enclave_challenge=Address.zero(),
        authorization=sign_authorization(key, worker, TASK, Address.zero()),
        block=BlockNumber(3),
    )


async def read(
    chain: HubTwin,
    told: Start | None = None,
    now: Timestamp = NOW,
    *,
    under_way: int = 0,
    gas: GasPolicy | None = None,
) -> Terms | Refusal:
    return await read_terms(
        chain,  # type: ignore[arg-type]  # a twin with what is used here
        told or start(),
        worker=WORKER,
        workerpool=POOL,
        now=now,
        gas=gas or GasPolicy(multiplier=1),
        under_way=under_way,
    )


async def refused(chain: HubTwin, told: Start | None = None, now: Timestamp = NOW) -> Refusal:
    refusal = await read(chain, told, now)
    assert isinstance(refusal, Refusal)
    return refusal


async def test_terms_are_what_the_chain_says() -> None:
    terms = await read(hub())

    assert terms == Terms(
        deal_id=DEAL_ID,
        index=4,
        bot_first=4,
        bot_size=2,
        tag=NO_TAG,
        timeref=Seconds(300),
        contribution_deadline=Timestamp(STARTED + 2_100),
        final_deadline=Timestamp(STARTED + 3_000),
        stake=STAKE,
        image="app:1",
        image_checksum=hash32("image"),
        command="--size 3",
        dataset=DATASET,
        dataset_location="/ipfs/Qm",
        dataset_checksum=hash32("dataset file"),
        input_files=("http://a/1", "http://a/2"),
        has_callback=False,
    )


async def test_deal_of_another_pool_is_not_taken() -> None:
    other = replace(DEAL, workerpool=replace(DEAL.workerpool, pointer=address("another pool")))

    assert (await refused(hub(details(deal=other)))).cause == "FOREIGN_DEAL"


@pytest.mark.parametrize(
    "told", [start(key=b"\x09" * 32), start(worker=address("another worker"))], ids=["signer", "worker"]
)
async def test_authorization_of_another_signer_or_worker_is_not_taken(told: Start) -> None:
    assert (await refused(hub(), told)).cause == "WORKERPOOL_AUTHORIZATION_NOT_FOUND"


async def test_tee_task_is_not_taken_and_its_demand_is_named() -> None:
    refusal = await refused(hub(details(deal=replace(DEAL, tag=Tag(TEE | SCONE)))))

    assert refusal.cause == "TEE_NOT_SUPPORTED"
    assert "tee" in refusal.message.lower()


@pytest.mark.parametrize("status", [status for status in TaskStatus if status is not TaskStatus.ACTIVE])
async def test_task_that_is_not_active_is_not_taken(status: TaskStatus) -> None:
    chain = hub()
    chain.tasks[TASK] = replace(ACTIVE, status=status)

    refusal = await refused(chain)

    assert refusal.status is S.CANT_CONTRIBUTE_SINCE_TASK_NOT_ACTIVE
    assert refusal.message == f"task status: expected ACTIVE, got {status.name}"


async def test_contributions_close_at_the_deadline_exactly() -> None:
    deadline = ACTIVE.contribution_deadline

    assert isinstance(await read(hub(), now=Timestamp(deadline - 1)), Terms)
    refusal = await refused(hub(), now=deadline)
    assert refusal.status is S.CANT_CONTRIBUTE_SINCE_AFTER_DEADLINE


async def test_task_with_a_contribution_of_this_wallet_is_not_taken() -> None:
    chain = hub()
    chain.contributions[TASK, WORKER] = replace(NOT_CONTRIBUTED, status=ContributionStatus.CONTRIBUTED)

    assert (await refused(chain)).status is S.CANT_CONTRIBUTE_SINCE_CONTRIBUTION_ALREADY_SET


async def test_stake_that_does_not_suffice_is_told_with_what_is_missing() -> None:
    chain = hub()
    chain.accounts[WORKER] = Account(stake=NRlc(STAKE - 1), locked=NRlc(10**9))

    refusal = await refused(chain)

    assert refusal.status is S.CANT_CONTRIBUTE_SINCE_STAKE_TOO_LOW
    assert "expected at least 30 nRLC, got 29 nRLC; deposit RLC" in refusal.message


async def test_a_worker_without_stake_takes_a_task_that_one_transaction_ends() -> None:
    chain = hub()
    chain.accounts.clear()

    terms = await read(chain, replace(start(), contribute_and_finalize=True))

    assert isinstance(terms, Terms)
    assert terms.contribute_and_finalize


async def test_the_scheduler_is_not_believed_that_one_transaction_ends_a_task_of_more_trust() -> None:
    chain = hub(details(deal=replace(DEAL, trust=2)))
    asked = replace(start(), contribute_and_finalize=True)

    terms = await read(chain, asked)
    chain.accounts.clear()
    refusal = await read(chain, asked)

    assert isinstance(terms, Terms)
    assert not terms.contribute_and_finalize
    assert isinstance(refusal, Refusal)
    assert refusal.status is S.CANT_CONTRIBUTE_SINCE_STAKE_TOO_LOW


async def test_wallet_without_gas_does_not_take_the_task() -> None:
    chain = hub()
    chain.ethers[WORKER] = GAS - 1

    refusal = await refused(chain)

    assert (refusal.status, refusal.cause) == (S.OUT_OF_GAS, "OUT_OF_GAS")
    said = "expected at least 1820000 wei with 0 other tasks under way, got 1819999 wei; send ETH"
    assert said in refusal.message


async def test_gas_that_other_tasks_will_need_is_not_counted_twice() -> None:
    """Known before the work, so said before the work: three tasks cannot live on the gas of one."""
    chain = hub()

    assert isinstance(await read(chain, under_way=0), Terms)
    refusal = await read(chain, under_way=2)

    assert isinstance(refusal, Refusal)
    assert refusal.status is S.OUT_OF_GAS
    chain.ethers[WORKER] = (GAS_FOR_A_TASK + 2 * GAS_OF_A_TASK) * GAS_PRICE
    assert isinstance(await read(chain, under_way=2), Terms)


@pytest.mark.parametrize(("multiplier", "cap"), [(0, 10**9), (1, 0)])
async def test_a_price_of_zero_needs_no_gas_money(multiplier: int, cap: int) -> None:
    chain = hub()
    chain.ethers.clear()

    assert isinstance(await read(chain, gas=GasPolicy(multiplier=multiplier, cap=Wei(cap))), Terms)


async def test_app_that_is_no_container_is_not_taken() -> None:
    assert (await refused(hub(details(app=replace(APP, type="WASM"))))).cause == "TASK_DESCRIPTION_INVALID"


@pytest.mark.parametrize(
    ("params", "command", "files"),
    [
        ("", "", ()),
        ("--plain text", "--plain text", ()),
        ("[1]", "[1]", ()),
        ('{"iexec_args": null}', "", ()),
        ('{"iexec_args": 7}', "7", ()),
        ('{"iexec_input_files": "http://a, http://b"}', "", ("http://a", "http://b")),
        ('{"iexec_input_files": {"a": 1}}', "", ()),
        ("[" * 100_000, "[" * 100_000, ()),
        (json.dumps({"iexec_args": "a b", "unknown": 1}), "a b", ()),
    ],
    ids=["none", "text", "array", "null", "number", "comma list", "odd files", "deep nesting", "more"],
)
def test_params_are_json_or_else_the_command(params: str, command: str, files: tuple[str, ...]) -> None:
    assert read_params(params) == (command, files)
