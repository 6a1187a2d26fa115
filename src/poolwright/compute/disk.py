"""The worker's disk: making the app's folders, how much it wrote, removing it; and a disk that refuses.

Never follows a link that an untrusted app left behind.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from poolwright.poco.errors import Unavailable

ENTRY_BYTES = 256
"""What an entry counts at least, so that a million empty files are not free."""


class DiskUnavailable(Unavailable):
    """The worker's disk is full or broken, or its folder cannot be used."""


@contextmanager
def disk_at(path: Path) -> Iterator[None]:
    """What is done at a path here. Raises DiskUnavailable for what the system refuses: room may come back."""
    try:
        yield
    except (OSError, subprocess.CalledProcessError) as problem:
        raise DiskUnavailable(
            f"cannot use {path}",
            got=str(problem),
            next_step="free space in the worker's folder, and see that the worker may write there",
        ) from problem


def size_of(folder: Path) -> int:
    """Bytes below a folder: of each file the larger of its length and its blocks (a sparse file counts full).

    Files that vanish meanwhile count nothing: the app may still run. A tree that goes deeper than a path can
    name could hide anything, so it counts as larger than any bound.
    """
    total = 0
    pending = [os.fspath(folder)]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except (FileNotFoundError, PermissionError):
                        continue
                    total += max(status.st_size, status.st_blocks * 512, ENTRY_BYTES)
                    if stat.S_ISDIR(status.st_mode):
                        pending.append(entry.path)
        except OSError as problem:
            if problem.errno == errno.ENAMETOOLONG:
                return sys.maxsize
    return total


def give_to(folder: Path, uid: int) -> None:
    """Make the output folder, owned by the app's user when this process may do that."""
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0 and folder.stat().st_uid != uid:
        os.chown(folder, uid, uid)


def make_empty(folder: Path, uid: int) -> None:
    """Remove what an earlier run left in the output folder. Raises as `remove_tree`."""
    with os.scandir(folder) as entries:
        is_empty = next(entries, None) is None
    if not is_empty:
        remove_tree(folder)
        give_to(folder, uid)


def give_back(folder: Path) -> None:
    """Make readable again what the app made unreadable, files and folders of ours; links are left alone."""
    pending = [os.fspath(folder)]
    while pending:
        path = pending.pop()
        mode = os.lstat(path).st_mode if os.path.lexists(path) else 0
        needed = stat.S_IRWXU if stat.S_ISDIR(mode) else stat.S_IRUSR | stat.S_IWUSR
        if (stat.S_ISDIR(mode) or stat.S_ISREG(mode)) and mode & needed != needed:
            os.chmod(path, stat.S_IMODE(mode) | needed)
        if stat.S_ISDIR(mode):
            pending += [os.path.join(path, name) for name in os.listdir(path)]


def remove_tree(folder: Path) -> None:
    """Delete a task's folder, whatever modes the app left on it; a folder that is gone is fine.

    Raises OSError or subprocess.CalledProcessError.
    """
    give_back(folder)
    try:
        if folder.exists():
            shutil.rmtree(folder)
    except (OSError, RecursionError):
        # Deeper than a path or our stack goes; the system's own tool walks any depth.
        subprocess.run(["rm", "-rf", "--", os.fspath(folder)], check=True, capture_output=True)
