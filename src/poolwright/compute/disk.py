"""How much an untrusted app wrote, and making its folders: never follows a link it left behind."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

ENTRY_BYTES = 256
"""What an entry counts at least, so that a million empty files are not free."""


def size_of(folder: Path) -> int:
    """Bytes below a folder: of each file the larger of its length and its blocks (a sparse file counts full).

    Files that vanish meanwhile count nothing: the app may still run.
    """
    total = 0
    pending = [os.fspath(folder)]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    total += max(status.st_size, status.st_blocks * 512, ENTRY_BYTES)
                    if stat.S_ISDIR(status.st_mode):
                        pending.append(entry.path)
        except (FileNotFoundError, PermissionError):
            continue
    return total


def give_to(folder: Path, uid: int) -> None:
    """Make the output folder, owned by the app's user when this process may do that."""
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0 and folder.stat().st_uid != uid:
        os.chown(folder, uid, uid)


def remove_tree(folder: Path) -> None:
    """Delete a task's folder whatever modes the app left on it; a folder that is gone is fine."""

    def unlock_and_retry(remove: object, path: str, problem: BaseException) -> None:
        if isinstance(problem, FileNotFoundError):
            return
        os.chmod(os.path.dirname(path), 0o700)
        if not os.path.islink(path):
            os.chmod(path, 0o700)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)

    shutil.rmtree(folder, onerror=lambda remove, path, info: unlock_and_retry(remove, path, info[1]))
