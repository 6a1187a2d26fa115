"""Every question we ask the hub, its token, registries, workerpools and contract wallets, and its answer.

A builder of call data is named as the contract's function, in snake case, and takes the contract's
arguments; it raises InputError when a value does not fit the contract's type.  A decoder raises PeerError
when the answer is not what the contract gives, as when nothing or something else is deployed there.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, TypeVar

from poolwright.poco.abi import decode, encode_call, selector
from poolwright.poco.errors import PeerError
from poolwright.poco.orders import AppOrder, DatasetOrder, Domain, RequestOrder, WorkerpoolOrder
from poolwright.poco.records import (
    Account,
    AppInfo,
    Category,
    Contribution,
    ContributionStatus,
    DatasetInfo,
    Deal,
    OnchainTask,
    Resource,
    TaskStatus,
    WorkerpoolInfo,
)
from poolwright.poco.tags import Tag
from poolwright.poco.tuples import (
    APP_ARGUMENTS,
    DATASET_ARGUMENTS,
    DATASETORDER_TUPLE,
    WORKERPOOL_ARGUMENTS,
    call_of_four_orders,
    order_to_tuple,
)
from poolwright.poco.types import Address, DealId, Hash32, NRlc, OrderHash, Seconds, TaskId, Timestamp

# --- views: the hub -----------------------------------------------------------------------------------------


def view_deal(deal_id: DealId) -> bytes:
    """Answer: `decode_deal`; all zero for an unknown id."""
    return encode_call("viewDeal(bytes32)", deal_id)


def view_task(task_id: TaskId) -> bytes:
    """Answer: `decode_task`; UNSET before initialize."""
    return encode_call("viewTask(bytes32)", task_id)


def view_contribution(task_id: TaskId, worker: Address) -> bytes:
    """Answer: `decode_contribution`; UNSET when there is none."""
    return encode_call("viewContribution(bytes32,address)", task_id, worker)


def view_account(account: Address) -> bytes:
    """Answer: `decode_account`."""
    return encode_call("viewAccount(address)", account)


def view_score(worker: Address) -> bytes:
    """Answer: `decode_uint`."""
    return encode_call("viewScore(address)", worker)


def view_category(category: int) -> bytes:
    """Answer: `decode_category`; reverts without data for an unknown one."""
    return encode_call("viewCategory(uint256)", category)


def count_category() -> bytes:
    """Answer: `decode_uint`."""
    return encode_call("countCategory()")


def view_consumed(order_hash: OrderHash) -> bytes:
    """Answer: `decode_uint`, the tasks that deals took from the order."""
    return encode_call("viewConsumed(bytes32)", order_hash)


def view_presigned(order_hash: OrderHash) -> bytes:
    """Answer: `decode_address`, who presigned the order; zero for nobody."""
    return encode_call("viewPresigned(bytes32)", order_hash)


def compute_deal_volume(
    app: AppOrder, dataset: DatasetOrder, pool: WorkerpoolOrder, request: RequestOrder
) -> bytes:
    """Answer: `decode_uint`, the tasks that a deal of these orders would have."""
    return call_of_four_orders("computeDealVolume", app, dataset, pool, request)


def result_for(task_id: TaskId) -> bytes:
    """Answer: `decode_bytes`, the callback data; reverts with "task-pending" before COMPLETED."""
    return encode_call("resultFor(bytes32)", task_id)


def view_app(app: Address) -> bytes:
    """Answer: `decode_app`."""
    return encode_call("viewApp(address)", app)


def view_dataset(dataset: Address) -> bytes:
    """Answer: `decode_dataset`."""
    return encode_call("viewDataset(address)", dataset)


def view_workerpool(workerpool: Address) -> bytes:
    """Answer: `decode_workerpool`."""
    return encode_call("viewWorkerpool(address)", workerpool)


def verify_signature(identity: Address, hash_: Hash32, sign: bytes) -> bytes:
    """Answer: `decode_bool`."""
    return encode_call("verifySignature(address,bytes32,bytes)", identity, hash_, sign)


def verify_presignature(identity: Address, hash_: Hash32) -> bytes:
    """Answer: `decode_bool`."""
    return encode_call("verifyPresignature(address,bytes32)", identity, hash_)


def verify_presignature_or_signature(identity: Address, hash_: Hash32, sign: bytes) -> bytes:
    """Answer: `decode_bool`; reverts with "invalid-signature-format" for an empty `sign`."""
    return encode_call("verifyPresignatureOrSignature(address,bytes32,bytes)", identity, hash_, sign)


def assert_dataset_deal_compatibility(order: DatasetOrder, deal_id: DealId) -> bytes:
    """No answer; reverts with IncompatibleDatasetOrder and the reason."""
    return encode_call(
        f"assertDatasetDealCompatibility({DATASETORDER_TUPLE},bytes32)", order_to_tuple(order), deal_id
    )


def domain() -> bytes:
    """Answer: `decode_domain`."""
    return encode_call("domain()")


def eip712domain_separator() -> bytes:
    """Answer: `decode_hash`."""
    return encode_call("eip712domain_separator()")


def owner() -> bytes:
    """Owner of the hub, a registry, an app, a dataset or a workerpool. Answer: `decode_address`."""
    return encode_call("owner()")


def token() -> bytes:
    """Answer: `decode_address` of the RLC token; zero where the chain's coin is xRLC."""
    return encode_call("token()")


def appregistry() -> bytes:
    """Answer: `decode_address`."""
    return encode_call("appregistry()")


def datasetregistry() -> bytes:
    """Answer: `decode_address`."""
    return encode_call("datasetregistry()")


def workerpoolregistry() -> bytes:
    """Answer: `decode_address`."""
    return encode_call("workerpoolregistry()")


def teebroker() -> bytes:
    """Answer: `decode_address`; zero for none."""
    return encode_call("teebroker()")


def callbackgas() -> bytes:
    """Answer: `decode_uint`."""
    return encode_call("callbackgas()")


def contribution_deadline_ratio() -> bytes:
    """Answer: `decode_uint`, in units of the work clock; so are the other deadline ratios."""
    return encode_call("contribution_deadline_ratio()")


def reveal_deadline_ratio() -> bytes:
    """Answer: `decode_uint`."""
    return encode_call("reveal_deadline_ratio()")


def final_deadline_ratio() -> bytes:
    """Answer: `decode_uint`."""
    return encode_call("final_deadline_ratio()")


def workerpool_stake_ratio() -> bytes:
    """Answer: `decode_uint`, percent of the pool price that the pool's owner locks."""
    return encode_call("workerpool_stake_ratio()")


def kitty_ratio() -> bytes:
    """Answer: `decode_uint`, percent of the kitty that a success pays out."""
    return encode_call("kitty_ratio()")


def kitty_min() -> bytes:
    """Answer: `decode_uint`, nRLC."""
    return encode_call("kitty_min()")


def kitty_address() -> bytes:
    """Answer: `decode_address`."""
    return encode_call("kitty_address()")


def groupmember_purpose() -> bytes:
    """Answer: `decode_uint`."""
    return encode_call("groupmember_purpose()")


# --- views: tokens, registries, entries, groups and contract wallets ----------------------------------------


def balance_of(account: Address) -> bytes:
    """RLC, free stake, or number of entries. Answer: `decode_uint`."""
    return encode_call("balanceOf(address)", account)


def frozen_of(account: Address) -> bytes:
    """Locked stake. Answer: `decode_uint`."""
    return encode_call("frozenOf(address)", account)


def allowance(owner: Address, spender: Address) -> bytes:
    """Answer: `decode_uint`."""
    return encode_call("allowance(address,address)", owner, spender)


def total_supply() -> bytes:
    """Answer: `decode_uint`."""
    return encode_call("totalSupply()")


def name() -> bytes:
    """Answer: `decode_string`."""
    return encode_call("name()")


def symbol() -> bytes:
    """Answer: `decode_string`."""
    return encode_call("symbol()")


def decimals() -> bytes:
    """Answer: `decode_uint`."""
    return encode_call("decimals()")


def is_registered(entry: Address) -> bytes:
    """Answer: `decode_bool`."""
    return encode_call("isRegistered(address)", entry)


def owner_of(entry: Address) -> bytes:
    """Answer: `decode_address`; reverts for what is no entry of the registry."""
    return encode_call("ownerOf(uint256)", int.from_bytes(entry, "big"))


def token_of_owner_by_index(owner: Address, index: int) -> bytes:
    """Answer: `decode_entry`; index below `balance_of`."""
    return encode_call("tokenOfOwnerByIndex(address,uint256)", owner, index)


def predict_app(
    owner: Address, name: str, type_: str, multiaddr: bytes, checksum: Hash32, mrenclave: bytes
) -> bytes:
    """Where `create_app` would put it. Answer: `decode_address`."""
    return encode_call(f"predictApp{APP_ARGUMENTS}", owner, name, type_, multiaddr, checksum, mrenclave)


def predict_dataset(owner: Address, name: str, multiaddr: bytes, checksum: Hash32) -> bytes:
    """Where `create_dataset` would put it. Answer: `decode_address`."""
    return encode_call(f"predictDataset{DATASET_ARGUMENTS}", owner, name, multiaddr, checksum)


def predict_workerpool(owner: Address, description: str) -> bytes:
    """Where `create_workerpool` would put it. Answer: `decode_address`."""
    return encode_call(f"predictWorkerpool{WORKERPOOL_ARGUMENTS}", owner, description)


def worker_stake_ratio_policy() -> bytes:
    """Of a workerpool, for its next deals. Answer: `decode_uint`, percent."""
    return encode_call("m_workerStakeRatioPolicy()")


def scheduler_reward_ratio_policy() -> bytes:
    """Of a workerpool, for its next deals. Answer: `decode_uint`, percent."""
    return encode_call("m_schedulerRewardRatioPolicy()")


def workerpool_description() -> bytes:
    """Of a workerpool. Answer: `decode_string`."""
    return encode_call("m_workerpoolDescription()")


def key_has_purpose(member: Address, purpose: int) -> bytes:
    """Whether an account belongs to a group that an order restricts itself to (ERC-734); `decode_bool`."""
    return encode_call("keyHasPurpose(bytes32,uint256)", member.rjust(32, b"\0"), purpose)


def is_valid_signature(hash_: Hash32, sign: bytes) -> bytes:
    """Whether a contract wallet signed (ERC-1271). Answer: `decode_is_valid_signature`."""
    return encode_call("isValidSignature(bytes32,bytes)", hash_, sign)


# --- answers ------------------------------------------------------------------------------------------------

_RESOURCE: Final = "(address,address,uint256)"
_DEAL: Final = (
    f"({_RESOURCE},{_RESOURCE},{_RESOURCE},uint256,uint256,bytes32,address,address,address,string,"
    "uint256,uint256,uint256,uint256,uint256,address)"
)
_TASK: Final = (
    "(uint8,bytes32,uint256,uint256,uint256,uint256,uint256,bytes32,uint256,uint256,address[],"
    "bytes32,bytes,uint256,bytes)"
)
_EnumT = TypeVar("_EnumT", bound=IntEnum)


def decode_deal(answer: bytes) -> Deal:
    """Read the answer of `view_deal`."""
    ((app, dataset, pool, trust, category, tag, *rest),) = decode([_DEAL], answer)
    requester, beneficiary, callback, params, start, first, size, stake, ratio, sponsor = rest
    return Deal(
        app=Resource(pointer=app[0], owner=app[1], price=app[2]),
        dataset=Resource(pointer=dataset[0], owner=dataset[1], price=dataset[2]),
        workerpool=Resource(pointer=pool[0], owner=pool[1], price=pool[2]),
        trust=trust,
        category=category,
        tag=Tag(int.from_bytes(tag, "big")),
        requester=requester,
        beneficiary=beneficiary,
        callback=callback,
        params=params,
        start_time=Timestamp(start),
        bot_first=first,
        bot_size=size,
        worker_stake=NRlc(stake),
        scheduler_reward_ratio=ratio,
        sponsor=sponsor,
    )


def decode_task(answer: bytes) -> OnchainTask:
    """Read the answer of `view_task`."""
    ((status, deal_id, index, timeref, contribution, reveal_, final, consensus, *rest),) = decode(
        [_TASK], answer
    )
    reveals, winners, contributors, digest, results, _results_timestamp, results_callback = rest
    return OnchainTask(
        status=_member(TaskStatus, status),
        deal_id=deal_id,
        index=index,
        timeref=Seconds(timeref),
        contribution_deadline=Timestamp(contribution),
        reveal_deadline=Timestamp(reveal_),
        final_deadline=Timestamp(final),
        consensus=consensus,
        reveal_counter=reveals,
        winner_counter=winners,
        contributors=contributors,
        result_digest=digest,
        results=results,
        results_callback=results_callback,
    )


def decode_contribution(answer: bytes) -> Contribution:
    """Read the answer of `view_contribution`."""
    status, result_hash, seal, challenge, weight = decode(
        ["uint8", "bytes32", "bytes32", "address", "uint256"], answer
    )
    return Contribution(
        status=_member(ContributionStatus, status),
        result_hash=result_hash,
        result_seal=seal,
        enclave_challenge=challenge,
        weight=weight,
    )


def decode_account(answer: bytes) -> Account:
    """Read the answer of `view_account`."""
    stake, locked = decode(["uint256", "uint256"], answer)
    return Account(stake=NRlc(stake), locked=NRlc(locked))


def decode_category(answer: bytes) -> Category:
    """Read the answer of `view_category`."""
    ((name_, description, timeref),) = decode(["(string,string,uint256)"], answer)
    return Category(name=name_, description=description, timeref=Seconds(timeref))


def decode_app(answer: bytes) -> AppInfo:
    """Read the answer of `view_app`."""
    (values,) = decode(["(address,string,string,bytes,bytes32,bytes)"], answer)
    owner_, name_, type_, multiaddr, checksum, mrenclave = values
    return AppInfo(
        owner=owner_, name=name_, type=type_, multiaddr=multiaddr, checksum=checksum, mrenclave=mrenclave
    )


def decode_dataset(answer: bytes) -> DatasetInfo:
    """Read the answer of `view_dataset`."""
    ((owner_, name_, multiaddr, checksum),) = decode(["(address,string,bytes,bytes32)"], answer)
    return DatasetInfo(owner=owner_, name=name_, multiaddr=multiaddr, checksum=checksum)


def decode_workerpool(answer: bytes) -> WorkerpoolInfo:
    """Read the answer of `view_workerpool`."""
    ((owner_, description, stake_ratio, reward_ratio),) = decode(["(address,string,uint256,uint256)"], answer)
    return WorkerpoolInfo(
        owner=owner_,
        description=description,
        worker_stake_ratio=stake_ratio,
        scheduler_reward_ratio=reward_ratio,
    )


def decode_domain(answer: bytes) -> Domain:
    """Read the answer of `domain`."""
    ((name_, version, chain_id, hub),) = decode(["(string,string,uint256,address)"], answer)
    return Domain(chain_id=chain_id, hub=hub, name=name_, version=version)


def decode_uint(answer: bytes) -> int:
    """Read an answer that is one number."""
    number: int = decode(["uint256"], answer)[0]
    return number


def decode_bool(answer: bytes) -> bool:
    """Read an answer that is one truth value."""
    truth: bool = decode(["bool"], answer)[0]
    return truth


def decode_address(answer: bytes) -> Address:
    """Read an answer that is one address."""
    address: Address = decode(["address"], answer)[0]
    return address


def decode_entry(answer: bytes) -> Address:
    """Read an answer that is one token id of a registry."""
    return decode_address(answer)


def decode_hash(answer: bytes) -> Hash32:
    """Read an answer that is one bytes32."""
    hash_: Hash32 = decode(["bytes32"], answer)[0]
    return hash_


def decode_bytes(answer: bytes) -> bytes:
    """Read an answer that is one byte string."""
    value: bytes = decode(["bytes"], answer)[0]
    return value


def decode_string(answer: bytes) -> str:
    """Read an answer that is one string."""
    text: str = decode(["string"], answer)[0]
    return text


def decode_is_valid_signature(answer: bytes) -> bool:
    """Read the answer of `is_valid_signature`: yes is the function's own selector."""
    return bool(decode(["bytes4"], answer)[0] == selector("isValidSignature(bytes32,bytes)"))


def _member(kind: type[_EnumT], number: int) -> _EnumT:
    try:
        return kind(number)
    except ValueError as problem:
        raise PeerError(
            f"not a {kind.__name__}", code="bad-abi", expected=f"0 to {max(kind)}", got=str(number)
        ) from problem
