"""A fresh local chain for each test that asks for one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from poolwright.chain.rpc import Rpc
from poolwright.devnet.anvil import Anvil


@pytest.fixture
def anvil() -> Iterator[Anvil]:
    """An anvil that mines a block for each transaction."""
    with Anvil.start() as running:
        yield running


@pytest.fixture
async def rpc(anvil: Anvil) -> AsyncIterator[Rpc]:
    async with Rpc(anvil.url) as client:
        yield client
