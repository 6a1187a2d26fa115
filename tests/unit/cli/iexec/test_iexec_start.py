"""What the command loads before it works: a few modules of the standard library and its own, nothing slow."""

from __future__ import annotations

import subprocess
import sys

import pytest

SLOW = (
    "aiohttp",
    "cryptography",
    "structlog",
    "web3",
    "eth_abi",
    "pydantic",
    "sqlalchemy",
    "starlette",
    "rich",
)
SIGNING = "poolwright.cli.iexec.nouns.order, poolwright.cli.iexec.order_chain, poolwright.cli.iexec.session"


def loaded(code: str) -> set[str]:
    """The modules that are there after a fresh Python ran the code."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}; print(*sys.modules)"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(done.stdout.splitlines()[-1].split())


def test_the_version_is_told_without_loading_a_command() -> None:
    modules = loaded("from poolwright.cli.iexec.main import main; main(['--version'])")

    assert not modules & {"click", "asyncio", "json", *SLOW}
    assert not {name for name in modules if name.startswith("poolwright.poco")}


def test_a_command_loads_one_noun() -> None:
    modules = loaded("from poolwright.cli.iexec.main import root; root().get_command(None, 'wallet')")

    nouns = {name for name in modules if name.startswith("poolwright.cli.iexec.nouns.")}
    assert nouns == {"poolwright.cli.iexec.nouns.wallet"}


@pytest.mark.parametrize(
    "module", [SIGNING, "poolwright.cli.iexec.market_client, poolwright.cli.iexec.downloads"]
)
def test_signing_and_asking_load_neither_a_web_framework_nor_the_sender(module: str) -> None:
    modules = loaded(f"import {module}")

    assert not modules & set(SLOW)
    assert not modules & {
        "poolwright.chain.sender",
        "poolwright.chain.heads",
        "poolwright.chain.logs",
        "poolwright.poco.events",
    }
