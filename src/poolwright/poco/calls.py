"""Call data of every transaction we send to the hub, its token, the registries and the workerpools.

A builder is named as the contract's function, in snake case, and takes the contract's arguments.  All raise
InputError when a value does not fit the contract's type.  Questions stand in `views.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from poolwright.poco.abi import encode_call
from poolwright.poco.orders import AppOrder, DatasetOrder, RequestOrder, WorkerpoolOrder
from poolwright.poco.records import (
    OrderOperation,
)
from poolwright.poco.tuples import (
    APP_ARGUMENTS,
    APPORDER_TUPLE,
    DATASET_ARGUMENTS,
    DATASETORDER_TUPLE,
    REQUESTORDER_TUPLE,
    WORKERPOOL_ARGUMENTS,
    WORKERPOOLORDER_TUPLE,
    call_of_four_orders,
    order_to_tuple,
)
from poolwright.poco.types import Address, DealId, Hash32, NRlc, Seconds, TaskId

# --- deals and orders ---------------------------------------------------------------------------------------


def match_orders(app: AppOrder, dataset: DatasetOrder, pool: WorkerpoolOrder, request: RequestOrder) -> bytes:
    """Make a deal that the requester pays; anybody may call. NULL_DATASETORDER stands for no dataset."""
    return call_of_four_orders("matchOrders", app, dataset, pool, request)


def sponsor_match_orders(
    app: AppOrder, dataset: DatasetOrder, pool: WorkerpoolOrder, request: RequestOrder
) -> bytes:
    """Make a deal that the caller pays."""
    return call_of_four_orders("sponsorMatchOrders", app, dataset, pool, request)


def manage_app_order(order: AppOrder, operation: OrderOperation, sign: bytes = b"") -> bytes:
    """Presign or close an order: as its owner, or with the owner's `sign` of the operation hash."""
    return encode_call(
        f"manageAppOrder(({APPORDER_TUPLE},uint8,bytes))", (order_to_tuple(order), operation, sign)
    )


def manage_dataset_order(order: DatasetOrder, operation: OrderOperation, sign: bytes = b"") -> bytes:
    """Presign or close an order: as its owner, or with the owner's `sign` of the operation hash."""
    return encode_call(
        f"manageDatasetOrder(({DATASETORDER_TUPLE},uint8,bytes))", (order_to_tuple(order), operation, sign)
    )


def manage_workerpool_order(order: WorkerpoolOrder, operation: OrderOperation, sign: bytes = b"") -> bytes:
    """Presign or close an order: as its owner, or with the owner's `sign` of the operation hash."""
    return encode_call(
        f"manageWorkerpoolOrder(({WORKERPOOLORDER_TUPLE},uint8,bytes))",
        (order_to_tuple(order), operation, sign),
    )


def manage_request_order(order: RequestOrder, operation: OrderOperation, sign: bytes = b"") -> bytes:
    """Presign or close an order: as its requester, or with the requester's `sign` of the operation hash."""
    return encode_call(
        f"manageRequestOrder(({REQUESTORDER_TUPLE},uint8,bytes))", (order_to_tuple(order), operation, sign)
    )


def broadcast_app_order(order: AppOrder) -> bytes:
    """Publish an order as an event."""
    return encode_call(f"broadcastAppOrder({APPORDER_TUPLE})", order_to_tuple(order))


def broadcast_dataset_order(order: DatasetOrder) -> bytes:
    """Publish an order as an event."""
    return encode_call(f"broadcastDatasetOrder({DATASETORDER_TUPLE})", order_to_tuple(order))


def broadcast_workerpool_order(order: WorkerpoolOrder) -> bytes:
    """Publish an order as an event."""
    return encode_call(f"broadcastWorkerpoolOrder({WORKERPOOLORDER_TUPLE})", order_to_tuple(order))


def broadcast_request_order(order: RequestOrder) -> bytes:
    """Publish an order as an event."""
    return encode_call(f"broadcastRequestOrder({REQUESTORDER_TUPLE})", order_to_tuple(order))


# --- tasks --------------------------------------------------------------------------------------------------


def initialize(deal_id: DealId, index: int) -> bytes:
    """Open a task of a deal; anybody may call."""
    return encode_call("initialize(bytes32,uint256)", deal_id, index)


def contribute(
    task_id: TaskId,
    result_hash: Hash32,
    result_seal: Hash32,
    enclave_challenge: Address,
    enclave_sign: bytes,
    authorization_sign: bytes,
) -> bytes:
    """Commit to a result, as the worker; locks the deal's worker stake."""
    return encode_call(
        "contribute(bytes32,bytes32,bytes32,address,bytes,bytes)",
        task_id,
        result_hash,
        result_seal,
        enclave_challenge,
        enclave_sign,
        authorization_sign,
    )


def reveal(task_id: TaskId, digest: Hash32) -> bytes:
    """Publish the digest behind the contribution, as the worker."""
    return encode_call("reveal(bytes32,bytes32)", task_id, digest)


def reopen(task_id: TaskId) -> bytes:
    """Start over after nobody revealed in time, as the pool's owner."""
    return encode_call("reopen(bytes32)", task_id)


def finalize(task_id: TaskId, results: bytes, results_callback: bytes = b"") -> bytes:
    """Close and pay a task, as the pool's owner; `results` says where the result is."""
    return encode_call("finalize(bytes32,bytes,bytes)", task_id, results, results_callback)


def contribute_and_finalize(
    task_id: TaskId,
    digest: Hash32,
    results: bytes,
    results_callback: bytes,
    enclave_challenge: Address,
    enclave_sign: bytes,
    authorization_sign: bytes,
) -> bytes:
    """Do everything at once for a task of trust 1, as the worker."""
    return encode_call(
        "contributeAndFinalize(bytes32,bytes32,bytes,bytes,address,bytes,bytes)",
        task_id,
        digest,
        results,
        results_callback,
        enclave_challenge,
        enclave_sign,
        authorization_sign,
    )


def claim(task_id: TaskId) -> bytes:
    """Give everybody the money back after the final deadline; anybody may call."""
    return encode_call("claim(bytes32)", task_id)


def initialize_array(deal_ids: Sequence[DealId], indexes: Sequence[int]) -> bytes:
    """Open many tasks, all or none."""
    return encode_call("initializeArray(bytes32[],uint256[])", deal_ids, indexes)


def claim_array(task_ids: Sequence[TaskId]) -> bytes:
    """Claim many tasks, all or none."""
    return encode_call("claimArray(bytes32[])", task_ids)


def initialize_and_claim_array(deal_ids: Sequence[DealId], indexes: Sequence[int]) -> bytes:
    """Claim many tasks that nobody initialized before their final deadline, all or none."""
    return encode_call("initializeAndClaimArray(bytes32[],uint256[])", deal_ids, indexes)


# --- money: the hub as escrow and as SRLC token, and the RLC token ------------------------------------------


def deposit(amount: NRlc) -> bytes:
    """Turn approved RLC into stake of the caller."""
    return encode_call("deposit(uint256)", amount)


def deposit_for(amount: NRlc, target: Address) -> bytes:
    """Turn approved RLC of the caller into stake of `target`."""
    return encode_call("depositFor(uint256,address)", amount, target)


def deposit_for_array(amounts: Sequence[NRlc], targets: Sequence[Address]) -> bytes:
    """Turn approved RLC of the caller into stake of many."""
    return encode_call("depositForArray(uint256[],address[])", amounts, targets)


def deposit_native() -> bytes:
    """Turn the ether sent along into stake of the caller, on a chain whose coin is xRLC."""
    return encode_call("deposit()")


def withdraw(amount: NRlc) -> bytes:
    """Turn free stake back into RLC of the caller."""
    return encode_call("withdraw(uint256)", amount)


def withdraw_to(amount: NRlc, target: Address) -> bytes:
    """Turn free stake of the caller into RLC of `target`."""
    return encode_call("withdrawTo(uint256,address)", amount, target)


def recover() -> bytes:
    """Credit tokens that were sent to the hub by mistake to its owner."""
    return encode_call("recover()")


def receive_approval(sender: Address, amount: NRlc, token: Address, extra: bytes) -> bytes:
    """What the token calls on the hub for `approve_and_call`."""
    return encode_call("receiveApproval(address,uint256,address,bytes)", sender, amount, token, extra)


def approve(spender: Address, value: NRlc) -> bytes:
    """Let `spender` take up to `value` of the caller's."""
    return encode_call("approve(address,uint256)", spender, value)


def approve_and_call(spender: Address, value: NRlc, extra: bytes) -> bytes:
    """Approve and deposit in one transaction; from hub 6.2 on `extra` may be a match."""
    return encode_call("approveAndCall(address,uint256,bytes)", spender, value, extra)


def increase_allowance(spender: Address, value: NRlc) -> bytes:
    """Let `spender` take `value` more of the caller's."""
    return encode_call("increaseAllowance(address,uint256)", spender, value)


def decrease_allowance(spender: Address, value: NRlc) -> bytes:
    """Let `spender` take `value` less of the caller's."""
    return encode_call("decreaseAllowance(address,uint256)", spender, value)


def transfer(target: Address, value: NRlc) -> bytes:
    """Send RLC (on the token) or free stake (on the hub) of the caller."""
    return encode_call("transfer(address,uint256)", target, value)


def transfer_from(source: Address, target: Address, value: NRlc) -> bytes:
    """Send what `source` approved for the caller."""
    return encode_call("transferFrom(address,address,uint256)", source, target, value)


# --- registries and workerpools -----------------------------------------------------------------------------


def create_app(
    owner: Address, name: str, type_: str, multiaddr: bytes, checksum: Hash32, mrenclave: bytes
) -> bytes:
    """Register an app, on the app registry; its address is in the EntryTransfer event."""
    return encode_call(f"createApp{APP_ARGUMENTS}", owner, name, type_, multiaddr, checksum, mrenclave)


def create_dataset(owner: Address, name: str, multiaddr: bytes, checksum: Hash32) -> bytes:
    """Register a dataset, on the dataset registry."""
    return encode_call(f"createDataset{DATASET_ARGUMENTS}", owner, name, multiaddr, checksum)


def create_workerpool(owner: Address, description: str) -> bytes:
    """Register a workerpool, on the workerpool registry."""
    return encode_call(f"createWorkerpool{WORKERPOOL_ARGUMENTS}", owner, description)


def transfer_entry(source: Address, target: Address, entry: Address) -> bytes:
    """Give an app, dataset or workerpool to another owner, on its registry (ERC-721)."""
    return encode_call(
        "safeTransferFrom(address,address,uint256)", source, target, int.from_bytes(entry, "big")
    )


def initialize_registry(previous: Address) -> bytes:
    """Set up a fresh registry, as its owner."""
    return encode_call("initialize(address)", previous)


def set_base_uri(base_uri: str) -> bytes:
    """Set where a registry's token documents are, as its owner."""
    return encode_call("setBaseURI(string)", base_uri)


def change_policy(worker_stake_ratio: int, scheduler_reward_ratio: int) -> bytes:
    """Set what a workerpool asks of workers and keeps for itself, in percent, as its owner."""
    return encode_call("changePolicy(uint256,uint256)", worker_stake_ratio, scheduler_reward_ratio)


# --- rules of the hub, as its owner -------------------------------------------------------------------------


def configure(
    token: Address,
    name: str,
    symbol: str,
    decimals: int,
    appregistry: Address,
    datasetregistry: Address,
    workerpoolregistry: Address,
    previous: Address,
) -> bytes:
    """Set up a fresh hub, once."""
    return encode_call(
        "configure(address,string,string,uint8,address,address,address,address)",
        token,
        name,
        symbol,
        decimals,
        appregistry,
        datasetregistry,
        workerpoolregistry,
        previous,
    )


def create_category(name: str, description: str, timeref: Seconds) -> bytes:
    """Add a size class of tasks; ids count up from 0."""
    return encode_call("createCategory(string,string,uint256)", name, description, timeref)


def change_registries(appregistry: Address, datasetregistry: Address, workerpoolregistry: Address) -> bytes:
    """Point the hub at other registries."""
    return encode_call(
        "changeRegistries(address,address,address)", appregistry, datasetregistry, workerpoolregistry
    )


def set_tee_broker(broker: Address) -> bytes:
    """Let `broker` sign the authorizations of TEE tasks in place of the pools' owners; zero for none."""
    return encode_call("setTeeBroker(address)", broker)


def set_callback_gas(gas: int) -> bytes:
    """Set how much gas a callback gets."""
    return encode_call("setCallbackGas(uint256)", gas)


def transfer_ownership(target: Address) -> bytes:
    """Give the contract to another owner."""
    return encode_call("transferOwnership(address)", target)


def update_domain_separator() -> bytes:
    """Recompute the EIP-712 domain after a change of chain id; anybody may call."""
    return encode_call("updateDomainSeparator()")
