"""Every test of this folder that asks for `shelf` runs on each implementation of the store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from poolwright.store.memory import MemoryStore
from poolwright.store.port import Store
from poolwright.store.sqlite import SqliteStore


class Shelf:
    """A place that holds one store; `reopen` closes it and opens what it left."""

    def __init__(self, kind: str, folder: Path) -> None:
        self._kind = kind
        self._path = folder / "mind.sqlite"
        self.store: Store

    async def open(self) -> Store:
        self.store = MemoryStore() if self._kind == "memory" else await SqliteStore.open(self._path)
        return self.store

    async def reopen(self) -> Store:
        before = self.store
        await before.close()
        self.store = (
            before.reopen() if isinstance(before, MemoryStore) else await SqliteStore.open(self._path)
        )
        return self.store


@pytest.fixture(params=["memory", "sqlite"])
async def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Shelf]:
    made = Shelf(request.param, tmp_path)
    await made.open()
    yield made
    await made.store.close()


@pytest.fixture
def store(shelf: Shelf) -> Store:
    return shelf.store


@pytest.fixture
def sqlite_path(tmp_path: Path) -> Path:
    return tmp_path / "mind.sqlite"
