"""network.json and the chain.json of the official client's two worlds."""

import json
from pathlib import Path

import pytest

from poolwright.devnet.folder import StateFolder
from poolwright.devnet.record import (
    NetworkRecord,
    WalletRecord,
    client_chains,
    from_json,
    read_network,
    require_network,
    to_json,
    write_network,
)
from poolwright.poco.errors import InputError
from poolwright.poco.types import Address, BlockNumber

RECORD = NetworkRecord(
    network_id="0badcafe",
    chain_id=31337,
    block_time=1.0,
    start_block=BlockNumber(0),
    hub=Address.parse("0x5FC8d32690cc91D4c39d9d3abcBD16989F875707"),
    rlc=Address.parse("0x5FbDB2315678afecb367f032d93F642f64180aa3"),
    app_registry=Address.parse("0x3Aa5ebB10DC797CAC828524e59A333d0A371443c"),
    dataset_registry=Address.parse("0x4ed7c70F96B99c776995fB64377f0d4aB3B0e1C1"),
    workerpool_registry=Address.parse("0x4A679253410272dd5232B3Ff7cF5dbB88f295319"),
    workerpool=Address(bytes(range(20))),
    chain_url="http://127.0.0.1:8545",
    results_url="http://127.0.0.1:13200",
    scheduler_url="http://127.0.0.1:13000",
    market_url="http://127.0.0.1:3000",
    wallets={
        "worker-1": WalletRecord(
            role="worker",
            address=Address(bytes(20)),
            keystore=Path("/s/keystores/k"),
            password_file=Path("/s/passwords/worker-1.txt"),
        )
    },
)


def test_record_comes_back_from_its_file(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)

    write_network(folder, RECORD)

    assert read_network(folder) == RECORD


def test_network_json_has_the_published_keys() -> None:
    content = to_json(RECORD)

    assert {"chainId", "rpcUrl", "hub", "rlc", "registries", "workerpool", "services", "wallets"} <= set(
        content
    )
    assert set(content["registries"]) == {"app", "dataset", "workerpool"}
    assert set(content["services"]) == {"chain", "results", "scheduler", "market"}
    assert set(content["wallets"]["worker-1"]) == {"role", "address", "keystore", "passwordFile"}
    assert from_json(json.loads(json.dumps(content))) == RECORD


def test_version_9_gets_only_the_keys_it_knows() -> None:
    known = {"id", "host", "hub", "sms", "iexecGateway", "ipfsGateway", "compass", "pocoSubgraph"}
    chains = client_chains(RECORD, 9)

    assert set(chains) == {"default", "chains"}
    assert set(chains["chains"][chains["default"]]) <= known
    assert chains["chains"]["poolwright"]["id"] == "31337"


def test_version_8_hears_that_the_chain_is_not_native_and_takes_gas() -> None:
    chain = client_chains(RECORD, 8)["chains"]["poolwright"]

    assert chain["native"] is False
    assert chain["useGas"] is True
    assert chain["resultProxy"] == RECORD.results_url


def test_folder_without_a_network_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no network in .*; start one with `poolwright up`"):
        require_network(StateFolder(tmp_path))


@pytest.mark.parametrize("text", ["{", "{}", '{"wallets": []}'])
def test_torn_or_foreign_file_is_an_input_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "network.json").write_text(text)

    with pytest.raises(InputError, match="--fresh"):
        read_network(StateFolder(tmp_path))
