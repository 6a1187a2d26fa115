"""Every test of this folder that asks for `shelf` runs on each implementation of the store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from databases import Cluster, lead, postgresql
from poolwright.store.memory import MemoryStore
from poolwright.store.port import Store
from poolwright.store.sqlite import SqliteStore


class Shelf:
    """A place that holds one store; `reopen` closes it and opens what it left."""

    def __init__(self, kind: str, path: Path, url: str) -> None:
        self._kind = kind
        self._path = path
        self._url = url
        self.store: Store

    async def open(self) -> Store:
        match self._kind:
            case "memory":
                self.store = MemoryStore()
            case "sqlite":
                self.store = await SqliteStore.open(self._path)
            case _:
                self.store = await lead(self._url)
        return self.store

    async def reopen(self) -> Store:
        before = self.store
        await before.close()
        if isinstance(before, MemoryStore):
            self.store = before.reopen()
            return self.store
        return await self.open()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with postgresql() as made:
        yield made


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
async def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Shelf]:
    kind: str = request.param
    url = request.getfixturevalue("cluster").database() if kind == "postgresql" else ""
    made = Shelf(kind, tmp_path / "mind.sqlite", url)
    await made.open()
    yield made
    await made.store.close()


@pytest.fixture
def store(shelf: Shelf) -> Store:
    return shelf.store


@pytest.fixture
def sqlite_path(tmp_path: Path) -> Path:
    return tmp_path / "mind.sqlite"
