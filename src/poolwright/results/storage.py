"""The results folder: files under their CID, and which task's result each one is.

    objects/<cid>       a whole file, never changed
    results/<task id>   JSON: the CID of that task's result, who brought it and when
    early/<task id>/<uploader>   the same of a result that came before its contribution, until it is settled
    unsettled/, shared/ which of the files may be removed after the end of their task, see `claims`
    incoming/           files on their way in
    lock                held while a repository uses this folder

What is served is always whole: bytes go to `incoming/` while they are hashed, are flushed to the disk,
then renamed to `objects/`, and only then is the task's entry written, in the same three moves. A process
killed between any two of them leaves either nothing, or a whole object that no task points to yet; the
worker uploads again and the same bytes land in the same place. `incoming/` is emptied at the next start.
What came for a task and did not become its result is removed long after the task's end, see `sweep`.

A full disk refuses new files (StorageFull) and takes nothing from the old ones.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from poolwright.poco.errors import InputError, InvariantBroken
from poolwright.poco.types import Address, TaskId, Timestamp
from poolwright.results.cid import FileCid
from poolwright.results.claims import Claim, Claims, flush_folder
from poolwright.results.errors import AlreadyStored, StorageFailed, StorageFull, TooLarge

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Disk full, quota used up, file larger than this process or file system may write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResult:
    """One task's result, as it is kept."""

    task_id: TaskId
    cid: str
    size: int
    """Bytes."""
    uploader: Address
    stored_at: Timestamp
    """Wall clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """Files that are gone, and their bytes."""

    files: int = 0
    size: int = 0

    def __add__(self, other: Removed) -> Removed:
        return Removed(files=self.files + other.files, size=self.size + other.size)


class Incoming:
    """A file on its way in: written, counted and hashed piece by piece. Made by `Storage.begin`.

    `discard` may come from another thread in the middle of a write, when a request is given up.
    """

    def __init__(self, path: Path, descriptor: int, max_bytes: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._max_bytes = max_bytes
        self._cid = FileCid()
        self._using = threading.Lock()

    @property
    def size(self) -> int:
        return self._cid.size

    def write(self, piece: bytes | bytearray | memoryview) -> None:
        """Append `piece`. Raises TooLarge, StorageFull, StorageFailed."""
        if self.size + len(piece) > self._max_bytes:
            raise too_large(self._max_bytes, f"more than {self.size + len(piece)} bytes")
        view = memoryview(piece)
        self._cid.update(view)
        with self._using, disk_errors(self.path.parent.parent):
            while view:
                view = view[os.write(self._descriptor, view) :]

    def finish(self) -> str:
        """Flush everything to the disk and return the CID. Raises StorageFull, StorageFailed."""
        with self._using, disk_errors(self.path.parent.parent):
            os.fsync(self._descriptor)
            self._close()
        return self._cid.finish()

    def discard(self) -> None:
        """Forget the file; does nothing once it has been kept."""
        with self._using:
            with suppress(OSError):
                self._close()
            self.path.unlink(missing_ok=True)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class Storage:
    """The results folder, open. All methods block; the methods are safe to call from several threads."""

    def __init__(self, folder: Path, lock: int, keep_free_bytes: int) -> None:
        self.folder = folder
        self._lock = lock
        self._keep_free_bytes = keep_free_bytes
        self._claims = Claims(folder)
        self._keeping = threading.Lock()

    @classmethod
    def open(cls, folder: Path, *, keep_free_bytes: int = 0) -> Self:
        """Open the folder, made if missing, and empty `incoming/` of what an earlier process left.

        `keep_free_bytes` of the disk are never used up by new files. Raises InputError when another
        process uses the folder or it cannot be written.
        """
        try:
            for part in ("objects", "results", "early", "incoming"):
                (folder / part).mkdir(parents=True, exist_ok=True)
            Claims(folder).make_folders()
            lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as problem:
            raise InputError(
                f"results folder {folder} cannot be used",
                code="bad-results-folder",
                expected="a folder that this user may write",
                got=problem.strerror or str(problem),
                next_step="correct its owner, or set POOLWRIGHT_RESULTS_DIR to another folder",
            ) from problem
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as problem:
            os.close(lock)
            raise InputError(
                f"results folder {folder} is in use",
                code="results-folder-in-use",
                expected="one result repository per folder",
                got="another process that holds its lock",
                next_step="stop the other one, or set POOLWRIGHT_RESULTS_DIR to another folder",
            ) from problem
        for leftover in (folder / "incoming").iterdir():
            leftover.unlink()
        return cls(folder, lock, keep_free_bytes)

    def close(self) -> None:
        """Let another process use the folder; closing twice does nothing."""
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)

    def find(self, task_id: TaskId) -> StoredResult | None:
        """Return the result of `task_id`, or None while it has none or its file is gone."""
        entry = self._entry(task_id)
        return entry if entry is not None and self.path(entry.cid) is not None else None

    def path(self, cid: str) -> Path | None:
        """Return the file of a CID (as `parse_cid` returned it), or None when it is not here."""
        path = self.folder / "objects" / cid
        return path if path.is_file() else None

    def count(self) -> int:
        """Return how many tasks have a result."""
        return sum(1 for _ in os.scandir(self.folder / "results"))

    def free_bytes(self) -> int:
        """Return the bytes that new files may still take. Raises StorageFailed."""
        with disk_errors(self.folder):
            disk = os.statvfs(self.folder)
        return max(0, disk.f_bavail * disk.f_frsize - self._keep_free_bytes)

    def begin(self, *, max_bytes: int, announced_bytes: int = 0) -> Incoming:
        """Start a file of at most `max_bytes`; `announced_bytes` is its Content-Length, 0 for unknown.

        Raises TooLarge or StorageFull at once when it cannot fit, StorageFailed.
        """
        if announced_bytes > max_bytes:
            raise too_large(max_bytes, f"{announced_bytes} bytes")
        if announced_bytes >= (free := self.free_bytes()):
            raise storage_full(self.folder, f"{announced_bytes} bytes free for new files", f"{free}")
        with disk_errors(self.folder):
            descriptor, name = tempfile.mkstemp(dir=self.folder / "incoming")
        return Incoming(Path(name), descriptor, max_bytes)

    def keep(self, incoming: Incoming, cid: str) -> None:
        """Make a finished file of no task available under its CID, for good.

        Raises StorageFull, StorageFailed.
        """
        with self._keeping:
            self._keep(incoming, cid, None)

    def _keep(self, incoming: Incoming, cid: str, claim: Claim | None) -> None:
        """Replaces a file of the same name, which holds the same bytes unless the disk spoiled it."""
        path = self.folder / "objects" / cid
        with disk_errors(self.folder):
            self._claims.announce(cid, claim, is_here=path.exists())
            incoming.path.chmod(0o644)
            incoming.path.replace(path)
            flush_folder(path.parent)
            if claim is not None:
                self._claims.enter(cid, claim)

    def keep_result(
        self, incoming: Incoming, result: StoredResult, final_deadline: Timestamp
    ) -> StoredResult:
        """Make a finished file the result of a task and return what is now stored.

        `final_deadline` is the task's. The same bytes again change nothing, whoever brings them. Raises
        AlreadyStored when the task has other bytes, StorageFull, StorageFailed.
        """
        with self._keeping:
            entry = self._entry(result.task_id)
            if entry is not None and entry.cid != result.cid:
                raise AlreadyStored(
                    f"task {result.task_id} has a result already",
                    cid=entry.cid,
                    expected=f"the bytes of /ipfs/{entry.cid}, brought by {entry.uploader}",
                    got=f"/ipfs/{result.cid}",
                    next_step="use the stored one; a result is never replaced",
                )
            self._keep(incoming, result.cid, Claim(task_id=result.task_id, final_deadline=final_deadline))
            if entry is None:
                self._write_entry(result)
            return entry or result

    def keep_early(self, incoming: Incoming, result: StoredResult, final_deadline: Timestamp) -> StoredResult:
        """Make a finished file one that the chain may name as the task's result, the latest of its uploader.

        Raises StorageFull, StorageFailed.
        """
        with self._keeping:
            self._keep(incoming, result.cid, Claim(task_id=result.task_id, final_deadline=final_deadline))
            path = self._early_path(result.task_id, result.uploader)
            with disk_errors(self.folder):
                path.parent.mkdir(exist_ok=True)
            self._write_entry(result, path)
        return result

    def early(self, task_id: TaskId) -> list[StoredResult]:
        """What came before a contribution to the task and is whole, in the order of the uploaders."""
        folder = self.folder / "early" / str(task_id)
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
        entries = [self._entry(task_id, path) for path in paths]
        return [entry for entry in entries if entry is not None and self.path(entry.cid) is not None]

    def settle(self, result: StoredResult) -> None:
        """Make one of the early results the task's, and forget about the others. Raises as `keep_result`."""
        with self._keeping:
            self._settle(result)

    def _settle(self, result: StoredResult) -> None:
        if self._entry(result.task_id) is None:
            self._write_entry(result)
        self._forget_early(result.task_id)

    def _forget_early(self, task_id: TaskId) -> None:
        shutil.rmtree(self.folder / "early" / str(task_id), ignore_errors=True)

    # --- after the end of a task ----------------------------------------------------------------------------

    def due(self, before: Timestamp, most: int) -> list[Claim]:
        """Tasks with files whose final deadline lies before that time, the oldest first.

        Raises StorageFailed.
        """
        with disk_errors(self.folder):
            return self._claims.due(before, most)

    def conclude(self, claim: Claim, link_cid: str | None) -> Removed:
        """The task is completed for good: keep its result, and the file that its link names; remove the rest.

        Raises StorageFull, StorageFailed, InvariantBroken when the task's entry cannot be read.
        """
        with self._keeping:
            named = next((one for one in self.early(claim.task_id) if one.cid == link_cid), None)
            if named is not None:
                self._settle(named)
            entry = self._entry(claim.task_id)
            kept = {cid for cid in (link_cid, entry.cid if entry is not None else None) if cid is not None}
            return self._remove(claim, kept)

    def forget(self, claim: Claim) -> Removed:
        """The task will never be completed: remove all that came for it. Raises StorageFailed."""
        with self._keeping:
            with disk_errors(self.folder):
                self._entry_path(claim.task_id).unlink(missing_ok=True)
                flush_folder(self.folder / "results")
            return self._remove(claim, frozenset())

    def _remove(self, claim: Claim, kept: Collection[str]) -> Removed:
        removed = Removed()
        with disk_errors(self.folder):
            self._forget_early(claim.task_id)
            for cid in self._claims.drop(claim, kept):
                path = self.folder / "objects" / cid
                if path.exists():
                    removed += Removed(files=1, size=path.stat().st_size)
                    path.unlink()
        return removed

    # --- entries --------------------------------------------------------------------------------------------

    def _entry(self, task_id: TaskId, path: Path | None = None) -> StoredResult | None:
        path = self._entry_path(task_id) if path is None else path
        try:
            fields = json.loads(path.read_bytes())
            return StoredResult(
                task_id=task_id,
                cid=fields["cid"],
                size=fields["size"],
                uploader=Address.parse(fields["uploader"]),
                stored_at=Timestamp(fields["stored_at"]),
            )
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, InputError) as problem:
            raise InvariantBroken(
                f"entry {path} cannot be read",
                code="bad-result-entry",
                expected="the JSON that this repository wrote",
                got=repr(problem)[:200],
                next_step="check the disk, then delete this one file; a revealer can upload the result again",
            ) from problem

    def _write_entry(self, result: StoredResult, path: Path | None = None) -> None:
        path = self._entry_path(result.task_id) if path is None else path
        fields = {
            "cid": result.cid,
            "size": result.size,
            "uploader": str(result.uploader),
            "stored_at": result.stored_at,
        }
        with disk_errors(self.folder):
            descriptor, name = tempfile.mkstemp(dir=self.folder / "incoming")
            try:
                with open(descriptor, "w") as file:
                    json.dump(fields, file)
                    file.flush()
                    os.fsync(descriptor)
                Path(name).replace(path)
            except OSError:
                Path(name).unlink(missing_ok=True)
                raise
            flush_folder(path.parent)

    def _early_path(self, task_id: TaskId, uploader: Address) -> Path:
        return self.folder / "early" / str(task_id) / str(uploader)

    def _entry_path(self, task_id: TaskId) -> Path:
        return self.folder / "results" / str(task_id)


def too_large(max_bytes: int, got: str) -> TooLarge:
    """The error for a body above the limit."""
    return TooLarge(
        "the body is too large",
        expected=f"at most {max_bytes} bytes",
        got=got,
        next_step="make the result smaller, or raise POOLWRIGHT_RESULTS_MAX_BYTES",
    )


def storage_full(folder: Path, expected: str, got: str) -> StorageFull:
    """The error for a disk without room."""
    return StorageFull(
        f"no room in the results folder {folder}",
        expected=expected,
        got=got,
        next_step="make room on that disk or move the folder (POOLWRIGHT_RESULTS_DIR), then upload again; "
        "nothing stored is lost",
    )


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn what the operating system says about the disk into StorageFull or StorageFailed."""
    try:
        yield
    except OSError as problem:
        reason = problem.strerror or str(problem)
        if problem.errno in NO_ROOM:
            raise storage_full(folder, "room for the whole file", reason) from problem
        raise StorageFailed(
            f"the results folder {folder} does not work",
            expected="a disk that reads and writes",
            got=reason,
            next_step="check the disk and the owner of the folder, then upload again",
        ) from problem
