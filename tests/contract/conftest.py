"""One anvil with the official contracts per test module; each test gets it as new.

Not one for all: beyond 500 blocks anvil writes a state of half a megabyte to disk for each further one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from stage import Stage

from poolwright.devnet.anvil import Anvil
from poolwright.devnet.contracts import deploy
from poolwright.devnet.node import Node


@contextmanager
def opened() -> Iterator[Stage]:
    with Anvil.start() as anvil, Node(anvil.url, timeout_seconds=60) as node:
        yield Stage(node, deploy(anvil.url))


@pytest.fixture(scope="module")
def market() -> Iterator[Stage]:
    """Both sides with the market set up; shared, so ask for `stage`."""
    with opened() as market:
        yield market


@pytest.fixture
def stage(market: Stage) -> Iterator[Stage]:
    """The market; whatever the test does to it is taken back on both sides."""
    with market.rewound():
        yield market


@pytest.fixture
def own_market() -> Iterator[Stage]:
    """A market on an anvil of its own, for a test that makes hundreds of blocks."""
    with opened() as market:
        yield market
