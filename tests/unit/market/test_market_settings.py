"""Settings and rate limit: what is refused, and in which words."""

from __future__ import annotations

import pytest

from factories import address
from poolwright.market.config import from_environment
from poolwright.market.errors import MarketRefusal
from poolwright.market.limits import RateLimit, client_of
from poolwright.poco.errors import InputError

WALLET = address("wallet")
ENVIRONMENT = {
    "CHAINS": "dev",
    "DEV_CHAIN_ID": "31337",
    "DEV_IEXEC_ADDRESS": str(address("hub")),
    "DEV_ETH_RPC_HOST": "http://a:1,http://b:2",
}


def test_settings_have_the_names_that_operators_know() -> None:
    config = from_environment({**ENVIRONMENT, "DEV_WORKERPOOL_API_URLS": f"{WALLET}=http://core:1"})

    [chain] = config.chains
    assert (chain.name, chain.chain_id, chain.node_urls) == ("DEV", 31337, ("http://a:1", "http://b:2"))
    assert chain.workerpool_urls == {WALLET: "http://core:1"}
    assert (config.port, config.max_open_orders, config.rate_limit) == (3000, 50, 100)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CHAINS", ""),
        ("CHAINS", "DEV,DEV"),
        ("DEV_CHAIN_ID", "x"),
        ("DEV_IEXEC_ADDRESS", "0x1"),
        ("DEV_ETH_RPC_HOST", "ws://a"),
        ("PORT", "70000"),
        ("RATE_LIMIT_MAX", "-1"),
        ("DEV_START_BLOCK", "first"),
        ("DEV_POLL_SECONDS", "0"),
        ("DEV_WORKERPOOL_API_URLS", "0x1=http://core:1"),
        ("POOLWRIGHT_MARKET_STALL_SECONDS", "0"),
    ],
)
def test_a_setting_that_cannot_be_is_named(name: str, value: str) -> None:
    with pytest.raises(
        InputError, match=rf"^(cannot read )?{name}( is not set)?, expected .+ and start again$"
    ):
        from_environment({**ENVIRONMENT, name: value})


def test_the_rate_limit_says_when_to_come_back() -> None:
    limit = RateLimit(2, 60.0)
    assert limit.admit("10.0.0.1", 0.0)["X-RateLimit-Remaining"] == "1"
    limit.admit("10.0.0.1", 1.0)

    with pytest.raises(MarketRefusal, match="Rate limit exceeded") as refusal:
        limit.admit("10.0.0.1", 20.0)

    assert (refusal.value.status, refusal.value.retry_after) == (429, 41)
    limit.admit("10.0.0.1", 60.0)
    limit.admit("10.0.0.2", 20.0)


def test_this_machine_is_not_limited_and_proxies_are_believed_only_when_trusted() -> None:
    limit = RateLimit(1, 60.0)
    assert [limit.admit("::ffff:127.0.0.1", 0.0) for _ in range(3)] == [{}, {}, {}]

    headers = {"x-forwarded-for": "10.1.1.1, 10.2.2.2"}
    assert client_of(headers, "10.9.9.9", trusts_proxy=False) == "10.9.9.9"
    assert client_of(headers, "10.9.9.9", trusts_proxy=True) == "10.1.1.1"
