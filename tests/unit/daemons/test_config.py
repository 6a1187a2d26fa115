"""Configuration from environment variables: what each means, and what is said when one is wrong."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from factories import address
from poolwright.chain.budget import FeeLimits
from poolwright.daemons.config import WalletConfig, password_of, scheduler_config, worker_config
from poolwright.poco.errors import InputError
from poolwright.poco.types import Wei
from poolwright.scheduler.standing import DEFAULT_RULES

HUB, POOL = address("hub"), address("pool")
CHAIN = {
    "IEXEC_BLOCKCHAIN_NODE_ADDRESS": "http://127.0.0.1:8545",
    "IEXEC_CHAIN_ID": "134",
    "IEXEC_HUB_ADDRESS": str(HUB),
    "POOL_ADDRESS": str(POOL),
}
SCHEDULER = CHAIN | {
    "IEXEC_CORE_WALLET_PATH": "/keys/manager.json",
    "IEXEC_RESULT_REPOSITORY_URL": "http://results:13200/",
}
WORKER = CHAIN | {
    "IEXEC_WORKER_WALLET_PATH": "/keys/worker.json",
    "IEXEC_CORE_URL": "http://core:13000/",
}


def test_scheduler_needs_six_variables_and_the_rest_has_the_official_defaults() -> None:
    config = scheduler_config(SCHEDULER)

    assert config.chain.rpc_urls == ("http://127.0.0.1:8545",)
    assert (config.chain.chain_id, config.chain.hub, config.workerpool) == (134, HUB, POOL)
    assert (config.chain.gas.multiplier, config.chain.gas.cap) == (Fraction("1.3"), 22_000_000_000)
    assert (config.chain.confirmations, config.port, config.silence_seconds) == (0, 13000, 60)
    assert config.results_url == "http://results:13200"
    assert config.rules == DEFAULT_RULES


@pytest.mark.parametrize("name", sorted(SCHEDULER))
def test_missing_variable_of_the_scheduler_is_named(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} is not set, expected .+; export {name} and start again"):
        scheduler_config({key: value for key, value in SCHEDULER.items() if key != name})


@pytest.mark.parametrize("name", sorted(WORKER))
def test_missing_or_empty_variable_of_the_worker_is_named(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} is not set"):
        worker_config(WORKER | {name: ""})


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("IEXEC_CHAIN_ID", "main", "a whole number of at least 1"),
        ("IEXEC_CHAIN_ID", "0", "a whole number of at least 1"),
        ("IEXEC_CHAIN_ID", "--1", "a whole number of at least 1"),
        ("IEXEC_CHAIN_ID", "²", "a whole number of at least 1"),
        ("IEXEC_BLOCKCHAIN_NODE_ADDRESS", "localhost:8545", "one or more URLs such as http://host:port"),
        ("IEXEC_CORE_PORT", "-1", "a whole number from 0 to 65535"),
        ("IEXEC_CORE_PORT", "65536", "a whole number from 0 to 65535"),
        ("IEXEC_HUB_ADDRESS", "0x12", "an address"),
        ("IEXEC_GAS_PRICE_MULTIPLIER", "1/0", "a number of at least 0"),
        ("IEXEC_GAS_PRICE_MULTIPLIER", "-1", "a number of at least 0"),
        ("IEXEC_GAS_PRICE_MULTIPLIER", "nan", "a number of at least 0"),
        ("POOLWRIGHT_CHECK_INVARIANTS", "perhaps", "true or false"),
        ("POOLWRIGHT_WORKER_SILENCE_SECONDS", "1", "a whole number of at least 2"),
        ("IEXEC_WORKERS_WHITELIST", "everybody", "addresses separated by commas"),
    ],
)
def test_value_that_cannot_be_read_is_refused_with_name_expectation_and_value(
    name: str, value: str, expected: str
) -> None:
    with pytest.raises(InputError) as refused:
        scheduler_config(SCHEDULER | {name: value})

    assert str(refused.value).startswith(f"cannot read {name}, expected {expected}")
    assert repr(value) in str(refused.value)
    assert refused.value.exit_code == 2


def test_several_rpc_urls_and_allowed_workers_are_separated_by_commas() -> None:
    alice, bob = address("alice"), address("bob")
    variables = {
        "IEXEC_BLOCKCHAIN_NODE_ADDRESS": "http://a:1, http://b:2,",
        "IEXEC_WORKERS_WHITELIST": f"{alice},{str(bob).lower()}",
    }

    config = scheduler_config(SCHEDULER | variables)

    assert config.chain.rpc_urls == ("http://a:1", "http://b:2")
    assert config.rules.allowed == {alice, bob}


def test_worker_shares_the_machine_unless_told_how_many_slots() -> None:
    assert worker_config(WORKER).slots >= 1
    assert worker_config(WORKER | {"IEXEC_WORKER_OVERRIDE_AVAILABLE_CPU_COUNT": "7"}).slots == 7


def test_worker_is_careful_by_default() -> None:
    config = worker_config(WORKER)

    assert (config.app_network, config.private_downloads, config.gpu) == (False, False, False)
    assert config.core_urls == ("http://core:13000",)


def test_worker_may_know_several_schedulers() -> None:
    config = worker_config(WORKER | {"IEXEC_CORE_URL": "http://a:13000, https://b/"})

    assert config.core_urls == ("http://a:13000", "https://b")


def test_password_comes_from_its_file_or_its_variable(tmp_path: Path) -> None:
    file = tmp_path / "password.txt"
    file.write_text("from the file\n")
    plain = WalletConfig(path=Path("k"), password_file=None, password_variable="PASSWORD")
    filed = WalletConfig(path=Path("k"), password_file=file, password_variable="PASSWORD")

    assert password_of(plain, {"PASSWORD": " from the variable "}) == " from the variable "
    assert password_of(filed, {"PASSWORD": "not asked"}) == "from the file"


def test_password_that_cannot_be_read_names_where_it_was_looked_for(tmp_path: Path) -> None:
    missing = WalletConfig(path=Path("k"), password_file=tmp_path / "none", password_variable="PASSWORD")
    unset = WalletConfig(path=Path("k"), password_file=None, password_variable="PASSWORD")

    with pytest.raises(InputError, match="correct PASSWORD_FILE"):
        password_of(missing, {})
    with pytest.raises(InputError, match="PASSWORD is not set"):
        password_of(unset, {})


def test_limits_on_fees_are_none_unless_set_and_zero_is_a_limit() -> None:
    assert scheduler_config(SCHEDULER).fees == FeeLimits()

    limited = scheduler_config(
        SCHEDULER
        | {
            "POOLWRIGHT_FEE_PER_TRANSACTION": "10",
            "POOLWRIGHT_FEES_PER_HOUR": "0",
            "POOLWRIGHT_FEES_PER_DAY": "1000",
        }
    )

    assert limited.fees == FeeLimits(per_transaction=Wei(10), per_hour=Wei(0), per_day=Wei(1000))
    with pytest.raises(InputError, match="cannot read POOLWRIGHT_FEES_PER_DAY"):
        scheduler_config(SCHEDULER | {"POOLWRIGHT_FEES_PER_DAY": "much"})


def test_workers_end_tasks_in_one_transaction_unless_the_operator_says_no() -> None:
    assert scheduler_config(SCHEDULER).contribute_and_finalize
    refused = scheduler_config(SCHEDULER | {"POOLWRIGHT_CONTRIBUTE_AND_FINALIZE": "false"})
    assert not refused.contribute_and_finalize
