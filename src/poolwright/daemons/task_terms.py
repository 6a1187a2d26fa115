"""Reading a task from the chain as a worker: what it demands, and whether to take it at all.

Nothing of this is taken on the scheduler's word. A task that the worker could compute but never contribute to
(no stake, no gas, too late) is refused here, before any work is done.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Final

from poolwright.chain.gas import GasPolicy
from poolwright.chain.reads import HubReader
from poolwright.poco.authorization import verify_authorization
from poolwright.poco.deadlines import contribution_deadline, final_deadline, is_revealable
from poolwright.poco.errors import PeerError
from poolwright.poco.records import Account, Contribution, ContributionStatus, OnchainTask, TaskStatus
from poolwright.poco.results import result_hash, result_seal
from poolwright.poco.tags import TEE
from poolwright.poco.types import Address, Hash32, NRlc, TaskId, Timestamp, WorkerAddress
from poolwright.wire.messages import Start
from poolwright.wire.statuses import ReplicateStatus
from poolwright.worker.effects import CheckReveal
from poolwright.worker.terms import Terms

S = ReplicateStatus


GAS_FOR_A_TASK: Final = 910_000
"""What the wallet must be able to pay for: the gas allowed to the dearest transaction of a task.

Half as much again as is used, and 50 k (`chain.tx_rules.gas_limit`): 570 k for a contributeAndFinalize with a
callback, 431 k for a contribution, which leaves enough for its reveal (reference `poco.md` 12).
"""


GAS_OF_A_TASK: Final = 570_000
"""What a task that is under way will use at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the chain holds of a task and of a worker in it."""

    task: OnchainTask
    contribution: Contribution
    account: Account


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why the task is not taken: the status to report, a word for programs, a sentence for people."""

    status: ReplicateStatus
    cause: str
    message: str


async def read_terms(
    hub: HubReader,
    start: Start,
    *,
    worker: WorkerAddress,
    workerpool: Address,
    now: Timestamp,
    gas: GasPolicy,
    under_way: int = 0,
) -> Terms | Refusal:
    """The task's terms, or why this worker does not take it. Raises Unavailable when the node is silent.

    `under_way`: how many other tasks the wallet has yet to pay the contribution of.
    """
    details, standing, money = await asyncio.gather(
        hub.deal_with_details(start.deal_id),
        read_standing(hub, start.task_id, worker),
        asyncio.gather(hub.ether(worker), hub.gas_price()),
    )
    deal, (balance, gas_price) = details.deal, money
    if deal.workerpool.pointer != workerpool:
        message = f"the deal is one of workerpool {deal.workerpool.pointer}, not of {workerpool}"
        return Refusal(status=S.FAILED, cause="FOREIGN_DEAL", message=message)
    try:
        verify_authorization(
            start.authorization,
            signer=deal.workerpool.owner,
            worker=worker,
            task_id=start.task_id,
            enclave_challenge=start.enclave_challenge,
        )
    except PeerError as problem:
        cause = "WORKERPOOL_AUTHORIZATION_NOT_FOUND"
        return Refusal(status=S.FAILED, cause=cause, message=str(problem))
    if deal.tag & TEE:
        message = f"the task demands {', '.join(deal.tag.names)}, which this worker does not offer"
        return Refusal(status=S.FAILED, cause="TEE_NOT_SUPPORTED", message=message)
    at_once = start.contribute_and_finalize and deal.trust == 1
    stake = NRlc(0) if at_once else deal.worker_stake
    obstacle = obstacle_to_contribution(standing, worker, stake=stake, now=now)
    if obstacle is not None:
        return obstacle
    gas_needed = (GAS_FOR_A_TASK + under_way * GAS_OF_A_TASK) * gas.price(gas_price)
    if balance < gas_needed:
        message = (
            f"gas of {worker}: expected at least {gas_needed} wei with {under_way} other tasks under way, "
            f"got {balance} wei; "
            f"send ETH to the worker's wallet"
        )
        return Refusal(status=S.OUT_OF_GAS, cause="OUT_OF_GAS", message=message)
    app, dataset = details.app, details.dataset
    if app.type != "DOCKER":
        message = f"app {deal.app.pointer}: expected type DOCKER, got {app.type!r}"
        return Refusal(status=S.FAILED, cause="TASK_DESCRIPTION_INVALID", message=message)
    command, input_files = read_params(deal.params)
    return Terms(
        deal_id=start.deal_id,
        index=start.index,
        bot_first=deal.bot_first,
        bot_size=deal.bot_size,
        tag=deal.tag,
        timeref=details.category.timeref,
        contribution_deadline=contribution_deadline(deal.start_time, details.category.timeref),
        final_deadline=final_deadline(deal.start_time, details.category.timeref),
        stake=deal.worker_stake,
        image=app.multiaddr.decode("utf-8", "replace"),
        image_checksum=app.checksum,
        command=command,
        dataset=deal.dataset.pointer,
        dataset_location="" if dataset is None else _location(dataset.multiaddr),
        dataset_checksum=Hash32.zero() if dataset is None else dataset.checksum,
        input_files=input_files,
        has_callback=bool(deal.callback),
        contribute_and_finalize=at_once,
    )


async def read_standing(hub: HubReader, task_id: TaskId, worker: WorkerAddress) -> Standing:
    """Where a task and a worker stand on the chain now."""
    task, contribution, account = await asyncio.gather(
        hub.task(task_id), hub.contribution(task_id, worker), hub.account(worker)
    )
    return Standing(task=task, contribution=contribution, account=account)


def obstacle_to_contribution(
    standing: Standing, worker: WorkerAddress, *, stake: NRlc, now: Timestamp
) -> Refusal | None:
    """Why the chain would refuse the worker's contribution now, or None (contract `contribute`)."""
    task, contribution, account = standing.task, standing.contribution, standing.account
    if task.status is not TaskStatus.ACTIVE:
        message = f"task status: expected ACTIVE, got {task.status.name}"
        return Refusal(
            status=S.CANT_CONTRIBUTE_SINCE_TASK_NOT_ACTIVE, cause="TASK_NOT_ACTIVE", message=message
        )
    if now >= task.contribution_deadline:
        message = f"contributions closed at {task.contribution_deadline}, the chain is at {now}"
        return Refusal(
            status=S.CANT_CONTRIBUTE_SINCE_AFTER_DEADLINE, cause="CONTRIBUTION_TIMEOUT", message=message
        )
    if contribution.status is not ContributionStatus.UNSET:
        return Refusal(
            status=S.CANT_CONTRIBUTE_SINCE_CONTRIBUTION_ALREADY_SET,
            cause="CONTRIBUTION_ALREADY_SET",
            message=f"this wallet's contribution stands on the chain already: {contribution.status.name}",
        )
    if account.stake < stake:
        message = (
            f"free stake of {worker}: expected at least {stake} nRLC, got {account.stake} nRLC; "
            f"deposit RLC into the hub's account of this wallet"
        )
        return Refusal(status=S.CANT_CONTRIBUTE_SINCE_STAKE_TOO_LOW, cause="STAKE_TOO_LOW", message=message)
    return None


def obstacle_to_reveal(
    effect: CheckReveal,
    task: OnchainTask,
    contribution: Contribution,
    *,
    worker: WorkerAddress,
    now: Timestamp,
) -> str:
    """Why the chain would refuse the worker's reveal now, or nothing: also when it stands there already.

    Source: contract `reveal`; the consensus must be ours, hash and seal must fit the digest.
    """
    if contribution.status is ContributionStatus.PROVED:
        return ""
    if task.status is not TaskStatus.REVEALING:
        return f"task status: expected REVEALING, got {task.status.name}"
    if not is_revealable(task, now):
        return f"reveals closed at {task.reveal_deadline}, the chain is at {now}"
    if contribution.status is not ContributionStatus.CONTRIBUTED:
        return f"our contribution: expected CONTRIBUTED, got {contribution.status.name}"
    ours = result_hash(effect.task_id, effect.digest)
    seal = result_seal(worker, effect.task_id, effect.digest)
    if ours != task.consensus:
        return f"the consensus is {task.consensus}, our result's hash {ours}"
    if (contribution.result_hash, contribution.result_seal) != (ours, seal):
        return "our contribution on the chain is of another result than the one kept here"
    return ""


def read_params(params: str) -> tuple[str, tuple[str, ...]]:
    """The command and the input files of a deal's params: JSON, or else the whole text is the command.

    Source: reference `scheduler-worker.md` 5.3, `market-sdk.md` 3.4.
    """
    try:
        fields = json.loads(params)
    except (ValueError, RecursionError):
        return params, ()
    if not isinstance(fields, dict):
        return params, ()
    files = fields.get("iexec_input_files", [])
    if isinstance(files, str):
        files = files.split(",")
    if not isinstance(files, list):
        files = []
    urls = tuple(str(url).strip() for url in files if str(url).strip())
    return str(fields.get("iexec_args", "") or ""), urls


def _location(multiaddr: bytes) -> str:
    """On-chain multiaddress as text; raw multiaddress bytes keep their form as 0x hex."""
    try:
        return multiaddr.decode("utf-8")
    except UnicodeDecodeError:
        return "0x" + multiaddr.hex()
