"""Tables that can be wound back: how the model of the chain undoes a refused transaction or a whole day.

Values are immutable and every write remembers what it replaced, as long as somebody may still want it
back. So an operation costs only what it touches, and nothing ever copies the world.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Generic, NewType, TypeVar

from poolwright.poco.errors import InputError

K = TypeVar("K")
V = TypeVar("V")

SnapshotId = NewType("SnapshotId", int)

_ABSENT: Final = object()


class Journal:
    """The order of all writes since the oldest point that can still be returned to."""

    def __init__(self) -> None:
        self._undo: list[tuple[dict[Any, Any], Any, Any]] = []  # entries of all the tables, types differ
        self._snapshots: dict[SnapshotId, int] = {}
        self._next_snapshot = 0

    def remember(self, entries: dict[K, V], key: K) -> None:
        """Note what `key` holds now; called by a table before it writes."""
        self._undo.append((entries, key, entries.get(key, _ABSENT)))

    def mark(self) -> int:
        """Return the present point, for `rewind`."""
        return len(self._undo)

    def rewind(self, mark: int) -> None:
        """Undo every write since `mark`, the latest first."""
        while len(self._undo) > mark:
            entries, key, before = self._undo.pop()
            if before is _ABSENT:
                del entries[key]
            else:
                entries[key] = before

    def settle(self) -> None:
        """Forget what no open snapshot needs; called after each successful operation."""
        if not self._snapshots:
            self._undo.clear()

    def snapshot(self) -> SnapshotId:
        """Open a snapshot; from now on writes are kept until it is restored or released."""
        snapshot_id = SnapshotId(self._next_snapshot)
        self._next_snapshot += 1
        self._snapshots[snapshot_id] = len(self._undo)
        return snapshot_id

    def restore(self, snapshot_id: SnapshotId) -> None:
        """Return to a snapshot; it and all later ones are gone, as with evm_revert. Raises InputError."""
        self.rewind(self._known(snapshot_id))
        self._snapshots = {other: at for other, at in self._snapshots.items() if other < snapshot_id}
        self.settle()

    def release(self, snapshot_id: SnapshotId) -> None:
        """Give a snapshot up without returning to it. Raises InputError."""
        self._known(snapshot_id)
        del self._snapshots[snapshot_id]
        self.settle()

    def _known(self, snapshot_id: SnapshotId) -> int:
        if snapshot_id not in self._snapshots:
            raise InputError(
                f"snapshot {snapshot_id} is not open",
                code="unknown-snapshot",
                expected=f"one of {sorted(self._snapshots)}",
                next_step="a snapshot serves once, and restoring an older one ends it",
            )
        return self._snapshots[snapshot_id]


class Table(Generic[K, V]):
    """A mapping in which every key has a value, at first the default, as in the contract's storage."""

    __slots__ = ("_default", "_entries", "_journal")

    def __init__(self, journal: Journal, default: V) -> None:
        self._journal = journal
        self._default = default
        self._entries: dict[K, V] = {}

    def __getitem__(self, key: K) -> V:
        return self._entries.get(key, self._default)

    def __setitem__(self, key: K, value: V) -> None:
        self._journal.remember(self._entries, key)
        self._entries[key] = value

    def __contains__(self, key: K) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[K]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def items(self) -> Iterator[tuple[K, V]]:
        """Iterate over what was ever written, in the order of the first write."""
        return iter(self._entries.items())

    def values(self) -> Iterator[V]:
        """Iterate over the values ever written, in the order of the first write."""
        return iter(self._entries.values())
