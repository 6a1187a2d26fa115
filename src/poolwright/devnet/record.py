"""network.json: what people and programs need to know of a local network; and its chain.json files.

One frozen value, written by `up` and read by whoever works with the network: the demo, tests, scripts.
The two chain.json differ because the schemas of the official client differ (reference: market-sdk.md 2.1 and
2.5): version 9 refuses keys it does not know, version 8 wants to hear that the chain is not native.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poolwright.devnet.folder import StateFolder, read_json, write_json
from poolwright.poco.errors import InputError
from poolwright.poco.types import Address, BlockNumber

CHAIN_NAME = "poolwright"
"""Name of the local chain in chain.json."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WalletRecord:
    """One wallet of the network."""

    role: str
    address: Address
    keystore: Path
    password_file: Path

    @property
    def password(self) -> str:
        return self.password_file.read_text().strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRecord:
    """Everything a user of the network needs: chain, contracts, pool, services, wallets."""

    network_id: str
    chain_id: int
    block_time: float
    """Seconds between blocks."""
    start_block: BlockNumber
    """The hub's logs start after this block."""
    hub: Address
    rlc: Address
    app_registry: Address
    dataset_registry: Address
    workerpool_registry: Address
    workerpool: Address
    chain_url: str
    results_url: str
    scheduler_url: str
    market_url: str
    wallets: dict[str, WalletRecord]


def write_network(folder: StateFolder, record: NetworkRecord) -> None:
    """Write network.json and the two chain.json."""
    write_json(folder.network_file, to_json(record))
    for major in (8, 9):
        write_json(folder.client_file(major), client_chains(record, major))


def read_network(folder: StateFolder) -> NetworkRecord | None:
    """Read network.json; None when there is none. Raises InputError when it cannot be understood."""
    if not folder.network_file.exists():
        return None
    content = read_json(folder.network_file)
    try:
        return from_json(content)
    except (KeyError, TypeError, AttributeError) as problem:
        raise InputError(
            f"{folder.network_file} is not understood",
            code="bad-state-file",
            got=f"{type(problem).__name__}: {problem}",
            next_step="start over with `poolwright up --fresh`",
        ) from problem


def require_network(folder: StateFolder) -> NetworkRecord:
    """Like `read_network`, but raises InputError when there is no network in the folder."""
    record = read_network(folder)
    if record is None:
        raise InputError(
            f"there is no network in {folder.root}",
            code="no-network",
            expected=str(folder.network_file),
            next_step="start one with `poolwright up`",
        )
    return record


def to_json(record: NetworkRecord) -> dict[str, Any]:
    """The content of network.json."""
    return {
        "network": record.network_id,
        "chainId": record.chain_id,
        "blockTime": record.block_time,
        "startBlock": record.start_block,
        "rpcUrl": record.chain_url,
        "hub": str(record.hub),
        "rlc": str(record.rlc),
        "registries": {
            "app": str(record.app_registry),
            "dataset": str(record.dataset_registry),
            "workerpool": str(record.workerpool_registry),
        },
        "workerpool": str(record.workerpool),
        "services": {
            "chain": record.chain_url,
            "results": record.results_url,
            "scheduler": record.scheduler_url,
            "market": record.market_url,
        },
        "wallets": {
            name: {
                "role": wallet.role,
                "address": str(wallet.address),
                "keystore": str(wallet.keystore),
                "passwordFile": str(wallet.password_file),
            }
            for name, wallet in record.wallets.items()
        },
    }


def from_json(content: dict[str, Any]) -> NetworkRecord:
    """The reverse of `to_json`."""
    registries, services = content["registries"], content["services"]
    return NetworkRecord(
        network_id=content["network"],
        chain_id=content["chainId"],
        block_time=content["blockTime"],
        start_block=BlockNumber(content["startBlock"]),
        hub=Address.parse(content["hub"]),
        rlc=Address.parse(content["rlc"]),
        app_registry=Address.parse(registries["app"]),
        dataset_registry=Address.parse(registries["dataset"]),
        workerpool_registry=Address.parse(registries["workerpool"]),
        workerpool=Address.parse(content["workerpool"]),
        chain_url=services["chain"],
        results_url=services["results"],
        scheduler_url=services["scheduler"],
        market_url=services.get("market", ""),  # a network from before there was one; `up` writes it anew
        wallets={
            name: WalletRecord(
                role=wallet["role"],
                address=Address.parse(wallet["address"]),
                keystore=Path(wallet["keystore"]),
                password_file=Path(wallet["passwordFile"]),
            )
            for name, wallet in content["wallets"].items()
        },
    )


def client_chains(record: NetworkRecord, major: int) -> dict[str, Any]:
    """chain.json for the official client 8.x or 9.x."""
    chain: dict[str, Any] = {
        "id": str(record.chain_id),
        "host": record.chain_url,
        "hub": str(record.hub),
        "ipfsGateway": record.results_url,
        "iexecGateway": record.market_url,
        "compass": record.market_url,
        "sms": record.market_url,  # there is no secret service; the client wants the key in any case
    }
    if major < 9:
        chain |= {"resultProxy": record.results_url, "native": False, "useGas": True}
    return {"default": CHAIN_NAME, "chains": {CHAIN_NAME: chain}}
