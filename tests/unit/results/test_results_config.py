"""Settings: what operators know by name, defaults, and what is said about a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from poolwright.poco.errors import InputError
from poolwright.poco.types import Address
from poolwright.results.archive import ZipLimits
from poolwright.results.config import ResultsConfig, from_environment

HUB = Address(b"\x11" * 20)
LEAST = {"IEXEC_CHAIN_ID": "31337", "IEXEC_HUB_ADDRESS": str(HUB)}


def test_chain_and_hub_are_enough():
    assert from_environment(LEAST) == ResultsConfig(chain_id=31337, hub=HUB)


def test_every_setting_has_a_variable():
    config = from_environment(
        {
            **LEAST,
            "IEXEC_BLOCKCHAIN_NODE_ADDRESS": "http://a:1, https://b",
            "IEXEC_RESULT_PROXY_HOST": "0.0.0.0",
            "IEXEC_RESULT_PROXY_PORT": "0",
            "POOLWRIGHT_RESULTS_DIR": "/data",
            "POOLWRIGHT_RESULTS_MAX_BYTES": "10",
            "POOLWRIGHT_RESULTS_MAX_UPLOADS": "3",
            "POOLWRIGHT_RESULTS_KEEP_FREE_BYTES": "0",
            "POOLWRIGHT_RESULTS_STALL_SECONDS": "5",
            "POOLWRIGHT_RESULTS_SWEEP_SECONDS": "0",
            "POOLWRIGHT_RESULTS_OPEN_ADD": "1",
            "POOLWRIGHT_RESULTS_MAX_ENTRIES": "7",
            "POOLWRIGHT_RESULTS_MAX_INFLATED_BYTES": "8",
        }
    )

    assert config == ResultsConfig(
        chain_id=31337,
        hub=HUB,
        node_urls=("http://a:1", "https://b"),
        host="0.0.0.0",
        port=0,
        folder=Path("/data"),
        max_bytes=10,
        max_uploads=3,
        keep_free_bytes=0,
        stall_seconds=5,
        sweep_seconds=0,
        open_add=True,
        zip_limits=ZipLimits(max_entries=7, max_inflated_bytes=8),
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("IEXEC_CHAIN_ID", ""),
        ("IEXEC_CHAIN_ID", "mainnet"),
        ("IEXEC_HUB_ADDRESS", ""),
        ("IEXEC_HUB_ADDRESS", "0x12"),
        ("IEXEC_RESULT_PROXY_PORT", "70000"),
        ("IEXEC_BLOCKCHAIN_NODE_ADDRESS", "localhost:8545"),
        ("POOLWRIGHT_RESULTS_OPEN_ADD", "yes please"),
        ("POOLWRIGHT_RESULTS_MAX_BYTES", "0"),
        ("POOLWRIGHT_RESULTS_KEEP_FREE_BYTES", "-1"),
    ],
)
def test_a_wrong_setting_is_named_with_what_it_should_be(name, text):
    with pytest.raises(InputError, match=name) as refused:
        from_environment({**LEAST, name: text})

    assert refused.value.expected
    assert refused.value.exit_code == 2
