"""Makes a bare chain a network: contracts, wallets with ether and RLC, and one workerpool.

All of it is paid by the deployer, anvil's first account, whose node signs for it: it holds all RLC, owns the
contracts, deposits into everybody's account with `depositForArray`, and creates the workerpool for the
manager. So everything is one request and one block mined by hand, whatever the block time is.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from poolwright.chain import keystore
from poolwright.devnet.anvil import CHAIN_ID, DEPLOYER_KEY
from poolwright.devnet.contracts import Deployment, Sequencer, deploy, first_account
from poolwright.devnet.folder import StateFolder
from poolwright.devnet.node import Node
from poolwright.devnet.record import NetworkRecord, WalletRecord
from poolwright.poco.errors import InputError, InvariantBroken
from poolwright.poco.keccak import keccak
from poolwright.poco.types import Address

NRLC_PER_RLC = 10**9
ETHER = 10**18
POOL_DESCRIPTION = "Poolwright local workerpool"

_TRANSFER = "0x" + keccak(b"Transfer(address,address,uint256)").hex()


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a wallet gets when it is made, in whole ether and RLC."""

    ether: int = 100
    deposit: int = 0
    """RLC into its account at the hub, where stakes and payments come from."""
    tokens: int = 0
    """RLC into the wallet itself."""


GRANTS: dict[str, Grant] = {
    "manager": Grant(deposit=10_000),
    "provider": Grant(),
    "requester": Grant(deposit=1_000, tokens=1_000),
    "worker": Grant(deposit=1_000),
}
"""By role. The manager owns the workerpool and runs the scheduler; the provider owns apps and datasets. The
deployer is no entry: anvil gives it ether, and it keeps the rest of the 87,000,000 RLC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Where the network's services listen this time, and how fast blocks come."""

    block_time: float
    chain_url: str
    results_url: str
    scheduler_url: str
    market_url: str


def provision(
    folder: StateFolder, services: Services, *, workers: int, previous: NetworkRecord | None
) -> NetworkRecord:
    """Bring the chain at `services.chain_url` to what a network with so many workers needs.

    A fresh chain gets everything; a chain that continues gets the wallets of workers it did not have.
    Raises InputError when the chain is not the one `previous` tells of.
    """
    if previous is None:
        record = _found(folder, services, workers)
    else:
        record = _continue(folder, services, workers, previous)
    return replace(
        record,
        block_time=services.block_time,
        chain_url=services.chain_url,
        results_url=services.results_url,
        scheduler_url=services.scheduler_url,
        market_url=services.market_url,
    )


def roles(workers: int) -> dict[str, str]:
    """Names of the network's wallets and their roles."""
    named = {name: name for name in ("deployer", "manager", "provider", "requester")}
    return named | {f"worker-{number}": "worker" for number in range(1, workers + 1)}


def _found(folder: StateFolder, services: Services, workers: int) -> NetworkRecord:
    deployment = deploy(services.chain_url)
    wallets = _make_wallets(folder, roles(workers))
    with Node(services.chain_url) as node:
        sequencer = first_account(node)
        _grant(node, sequencer, deployment.hub, deployment.rlc, wallets.values())
        sequencer.call(
            deployment.workerpool_registry,
            "createWorkerpool(address,string)",
            wallets["manager"].address,
            POOL_DESCRIPTION,
        )
        created = sequencer.send(node)[-1]
    return _record(deployment, services, wallets, _minted(created["logs"], deployment.workerpool_registry))


def _continue(
    folder: StateFolder, services: Services, workers: int, previous: NetworkRecord
) -> NetworkRecord:
    with Node(services.chain_url) as node:
        if node.call("eth_getCode", str(previous.hub), "latest") == "0x":
            raise InputError(
                "the chain of this network is lost",
                code="chain-lost",
                expected=f"the hub at {previous.hub}",
                got="no code there",
                next_step="start over with `poolwright up --fresh`",
            )
        missing = {name: role for name, role in roles(workers).items() if name not in previous.wallets}
        if not missing:
            return previous
        fresh = _make_wallets(folder, missing)
        sequencer = first_account(node)
        _grant(node, sequencer, previous.hub, previous.rlc, fresh.values())
        sequencer.send(node)
    return replace(previous, wallets=previous.wallets | fresh)


def _make_wallets(folder: StateFolder, named_roles: dict[str, str]) -> dict[str, WalletRecord]:
    """New encrypted keystores, light scrypt: deriving releases the interpreter lock, so threads help."""

    def make(name: str, role: str) -> WalletRecord:
        password = secrets.token_urlsafe(18)
        password_file = folder.passwords / f"{name}.txt"
        keystore.write_private(password_file, password.encode())
        key = DEPLOYER_KEY if role == "deployer" else keystore.new_key()
        path = keystore.create(folder.keystores, password, key=key, cost=keystore.LIGHT)
        return WalletRecord(role=role, address=_address_of(path), keystore=path, password_file=password_file)

    with ThreadPoolExecutor(max_workers=4) as pool:
        made = pool.map(make, named_roles, named_roles.values())
        return dict(zip(named_roles, made, strict=True))


def _address_of(path: Path) -> Address:
    """geth's file name ends in the address."""
    return Address.parse("0x" + path.name.rsplit("--", 1)[1])


def _grant(
    node: Node, sequencer: Sequencer, hub: Address, rlc: Address, wallets: Collection[WalletRecord]
) -> None:
    """Ether by anvil's decree, RLC by the deployer's transactions, left in the sequencer."""
    granted = [(wallet.address, GRANTS[wallet.role]) for wallet in wallets if wallet.role in GRANTS]
    if not granted:
        return
    node.batch([("anvil_setBalance", [str(address), hex(grant.ether * ETHER)]) for address, grant in granted])
    deposits = [(address, grant.deposit * NRLC_PER_RLC) for address, grant in granted if grant.deposit]
    if deposits:
        amounts = [amount for _, amount in deposits]
        sequencer.call(rlc, "approve(address,uint256)", hub, sum(amounts))
        sequencer.call(
            hub, "depositForArray(uint256[],address[])", amounts, [address for address, _ in deposits]
        )
    for address, grant in granted:
        if grant.tokens:
            sequencer.call(rlc, "transfer(address,uint256)", address, grant.tokens * NRLC_PER_RLC)


def _minted(logs: list[dict[str, object]], registry: Address) -> Address:
    """The entry that a registry created: the token id of its Transfer."""
    for log in logs:
        topics = log["topics"]
        if isinstance(topics, list) and topics[0] == _TRANSFER and len(topics) == 4:
            return Address.parse("0x" + topics[3][-40:])
    raise InvariantBroken(f"registry {registry} created no entry", code="no-entry")


def _record(
    deployment: Deployment, services: Services, wallets: dict[str, WalletRecord], workerpool: Address
) -> NetworkRecord:
    return NetworkRecord(
        network_id=secrets.token_hex(4),
        chain_id=CHAIN_ID,
        block_time=services.block_time,
        start_block=deployment.block,
        hub=deployment.hub,
        rlc=deployment.rlc,
        app_registry=deployment.app_registry,
        dataset_registry=deployment.dataset_registry,
        workerpool_registry=deployment.workerpool_registry,
        workerpool=workerpool,
        chain_url=services.chain_url,
        results_url=services.results_url,
        scheduler_url=services.scheduler_url,
        market_url=services.market_url,
        wallets=wallets,
    )
