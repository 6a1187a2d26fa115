"""Which files came for tasks whose end is not known yet: what a sweep may remove one day.

    unsettled/<final deadline>-<task id>/<cid>   this file came for this task; its end is not known yet
    shared/<cid>                                 this file came for several tasks, or for none: it stays

A claim is written after its file and taken away before it, so it stands only while the file does. Files are
shared by their content, and who comes for bytes that are here without a claim of its own says so; such a
file is never removed, whatever becomes of its tasks. So a process that is killed in between leaves a file
behind at the worst, and never takes one from a task.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from poolwright.poco.types import Hash32, TaskId, Timestamp

DIGITS = 20
"""Of a deadline in a folder's name, so that names are in the order of time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A task that files came for before its end."""

    task_id: TaskId
    final_deadline: Timestamp

    @property
    def name(self) -> str:
        return f"{self.final_deadline:0{DIGITS}}-{self.task_id}"


class Claims:
    """The folders of claims. The caller holds the storage's lock, and turns OSError into its own words."""

    def __init__(self, folder: Path) -> None:
        self._unsettled = folder / "unsettled"
        self._shared = folder / "shared"

    def make_folders(self) -> None:
        for part in (self._unsettled, self._shared):
            part.mkdir(parents=True, exist_ok=True)

    def announce(self, cid: str, claim: Claim | None, *, is_here: bool) -> None:
        """A file is about to come for a task, or for none; `is_here` says whether these bytes came before."""
        if claim is None or (is_here and not (self._unsettled / claim.name / cid).exists()):
            (self._shared / cid).touch()
            flush_folder(self._shared)  # a power cut must not make a file one task's again

    def enter(self, cid: str, claim: Claim) -> None:
        """The file has come for this task."""
        folder = self._unsettled / claim.name
        folder.mkdir(exist_ok=True)
        (folder / cid).touch()

    def due(self, before: Timestamp, most: int) -> list[Claim]:
        """At most so many claims of tasks whose final deadline lies before that time, the oldest first."""
        names = sorted(name for name in os.listdir(self._unsettled) if name[:DIGITS] < f"{before:0{DIGITS}}")
        return [_parsed(name) for name in names[:most]]

    def drop(self, claim: Claim, kept: Collection[str]) -> list[str]:
        """The task's end is known; returns the files that came for it only, but for those that are kept."""
        folder = self._unsettled / claim.name
        cids: list[str] = []
        if folder.is_dir():
            cids = os.listdir(folder)
            shutil.rmtree(folder)
            flush_folder(self._unsettled)
        return [cid for cid in cids if cid not in kept and not (self._shared / cid).exists()]


def flush_folder(folder: Path) -> None:
    """Make what was renamed or made in a folder outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _parsed(name: str) -> Claim:
    return Claim(
        task_id=TaskId(Hash32.parse(name[DIGITS + 1 :])), final_deadline=Timestamp(int(name[:DIGITS]))
    )
