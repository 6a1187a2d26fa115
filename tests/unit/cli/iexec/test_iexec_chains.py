"""chain.json of both generations: what is read, what is refused with its fix, which chain is chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from poolwright.cli.iexec import chains
from poolwright.cli.iexec.chains import ChainSettings, check, choose
from poolwright.cli.iexec.errors import ConfigurationError, IexecError, ValidationError
from poolwright.devnet.record import NetworkRecord, client_chains
from poolwright.poco.types import Address, BlockNumber

HUB = "0x5FC8d32690cc91D4c39d9d3abcBD16989F875707"
DEV = {"id": "65535", "host": "http://127.0.0.1:8745", "hub": HUB}


def one(chain: dict[str, Any], name: str = "dev") -> ChainSettings:
    return choose(check({"default": name, "chains": {name: chain}}), None)


def test_the_least_local_chain_is_enough() -> None:
    assert one(DEV) == ChainSettings(name="dev", id="65535", host="http://127.0.0.1:8745", hub=HUB)


@pytest.mark.parametrize("major", [8, 9])
def test_the_chain_json_of_our_network_is_read_in_both_generations(major: int) -> None:
    zero = Address.zero()
    record = NetworkRecord(
        network_id="n",
        chain_id=65535,
        block_time=1.0,
        start_block=BlockNumber(0),
        hub=Address.parse(HUB),
        **dict.fromkeys(("rlc", "app_registry", "dataset_registry", "workerpool_registry"), zero),
        workerpool=zero,
        chain_url="http://127.0.0.1:8745",
        results_url="http://127.0.0.1:8746",
        scheduler_url="http://127.0.0.1:8747",
        market_url="http://127.0.0.1:8748",
        wallets={},
    )

    found = choose(check(client_chains(record, major)), None)

    assert (found.id, found.host, found.hub) == ("65535", "http://127.0.0.1:8745", HUB)
    assert found.ipfs_gateway == "http://127.0.0.1:8746"
    assert found.result_proxy == ("http://127.0.0.1:8746" if major == 8 else None)


def test_what_a_known_chain_leaves_out_comes_from_its_defaults() -> None:
    found = one({}, "arbitrum-sepolia-testnet")

    assert found.id == "421614"
    assert found.hub == "0xB2157BF2fAb286b2A4170E3491Ac39770111Da3E"
    assert found.require("iexecGateway") == "https://api-market.arbitrum-sepolia-testnet.iex.ec"
    assert found.is_default_host


def test_own_keys_win_over_the_defaults_of_the_id() -> None:
    found = one({"id": "42161", "host": "http://127.0.0.1:1", "sms": "http://127.0.0.1:2"})

    assert (found.host, found.sms_of("tdx")) == ("http://127.0.0.1:1", "http://127.0.0.1:2")
    assert found.hub == "0x098bFCb1E50ebcA0BaA92C12eA0c3F045A1aD9f0"
    assert not found.is_default_host


def test_a_host_may_name_a_known_chain() -> None:
    assert one({**DEV, "host": "arbitrum-mainnet"}).host == "https://arb1.arbitrum.io/rpc"


def test_secret_services_by_framework_are_kept_apart() -> None:
    found = one({**DEV, "sms": {"scone": "http://a", "gramine": "http://b"}})

    assert (found.sms_of("gramine"), found.sms_of("tdx")) == ("http://b", None)


def test_a_chain_is_chosen_by_name_or_by_id() -> None:
    content = check({"default": "a", "chains": {"a": DEV, "b": {**DEV, "id": "7"}, "arbitrum-mainnet": {}}})

    assert choose(content, None).name == "a"
    assert choose(content, "b").id == "7"
    assert choose(content, "7").name == "b"
    assert choose(content, "42161").name == "arbitrum-mainnet"


def test_an_unknown_chain_is_named() -> None:
    with pytest.raises(IexecError) as caught:
        choose(check({"default": "b", "chains": {"a": DEV}}), None)

    assert caught.value.what == 'Missing "b" chain in "chain.json"'
    assert caught.value.expected == "a"


@pytest.mark.parametrize(
    ("content", "text", "fix"),
    [
        ({"chains": {"a": {"flavour": "x"}}}, 'Unknown key "flavour" in chain.json', "remove it"),
        ({"chains": {"a": {"Hub": HUB}}}, 'Unknown key "Hub" in chain.json', 'write "hub"'),
        ({"chains": {"a": {"iexecGatway": ""}}}, 'Unknown key "iexecGatway" in', 'write "iexecGateway"'),
        ({"chain": {}}, 'Unknown key "chain" in chain.json', 'write "chains"'),
        ({"chains": {"a": {"id": 65535}}}, "chains.a.id is malformed in chain.json", ""),
        ({"chains": {"a": {"native": "no"}}}, "chains.a.native is malformed in chain.json", ""),
        ({"chains": {"a": {"sms": {"sgx": "http://x"}}}}, "chains.a.sms is malformed in chain.json", ""),
        ({"chains": {"a": {"iexecGateway": "h:1"}}}, "chains.a.iexecGateway is malformed in chain.json", ""),
        ({"chains": []}, "chains is malformed in chain.json", ""),
        ({}, "chains is malformed in chain.json", ""),
    ],
)
def test_what_no_generation_knows_is_refused_with_its_fix(content: Any, text: str, fix: str) -> None:
    with pytest.raises(ValidationError) as caught:
        check(content)

    assert text in caught.value.what
    assert fix in caught.value.next_step


@pytest.mark.parametrize("chain", [{**DEV, "native": True}, {"id": "134"}])
def test_a_native_chain_is_refused_by_name(chain: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="native"):
        one(chain)


def test_a_host_that_is_neither_url_nor_chain_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="Invalid provider host name or url"):
        one({**DEV, "host": "localhost:8545"})


def test_missing_settings_are_named_when_they_are_needed() -> None:
    found = one({"id": "65535"})

    for ask, text in (
        (lambda: found.require("sms"), 'Missing sms in "chain.json" for chain 65535'),
        (lambda: found.require("iexecGateway"), 'Missing iexecGateway in "chain.json" for chain 65535'),
        (found.require_hub, "missing hubAddress key"),
        (
            found.require_host,
            'Missing RPC host, no "host" key in "chain.json" and no default value for chain 65535',
        ),
    ):
        with pytest.raises(ConfigurationError) as caught:
            ask()
        assert caught.value.what == text


def test_the_template_is_valid(tmp_path: Path) -> None:
    assert choose(check(chains.TEMPLATE), None).id == "421614"
