"""A fresh local chain for each test that asks for one, with or without the official contracts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from poolwright.chain.rpc import Rpc
from poolwright.devnet.anvil import Anvil
from poolwright.devnet.contracts import Deployment, deploy


@pytest.fixture
def anvil() -> Iterator[Anvil]:
    """An anvil that mines a block for each transaction."""
    with Anvil.start() as running:
        yield running


@pytest.fixture
def contracts(anvil: Anvil) -> Deployment:
    """The official contracts on that anvil."""
    return deploy(anvil.url)


@pytest.fixture
async def rpc(anvil: Anvil) -> AsyncIterator[Rpc]:
    async with Rpc(anvil.url) as client:
        yield client
