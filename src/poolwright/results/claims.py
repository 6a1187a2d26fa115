"""Which files came for tasks whose end is not known yet: what a sweep may remove one day.

    unsettled/<final deadline>-<task id>/<cid>   this file came for this task; its end is not known yet
    shared/<cid>                                 this file came for several tasks, or for none: it stays

A claim is written before its file and taken away after it, so that no file of a task is ever unknown. Files
are shared by their content, and who came second for the same bytes says so; such a file is never removed,
whatever becomes of its tasks.
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

    def enter(self, cid: str, claim: Claim | None, *, is_here: bool) -> None:
        """A file comes for a task, or for none; `is_here` says whether these bytes came before."""
        own = None if claim is None else self._unsettled / claim.name / cid
        if own is None or (is_here and not own.exists()):
            (self._shared / cid).touch()
            flush_folder(self._shared)  # a power cut must not make a file one task's again
        if own is not None:
            own.parent.mkdir(exist_ok=True)
            own.touch()

    def due(self, before: Timestamp, most: int) -> list[Claim]:
        """At most so many claims of tasks whose final deadline lies before that time, the oldest first."""
        names = sorted(name for name in os.listdir(self._unsettled) if name[:DIGITS] < f"{before:0{DIGITS}}")
        return [_parsed(name) for name in names[:most]]

    def removable(self, claim: Claim, kept: Collection[str]) -> list[str]:
        """The files that came for this task only, but for those that are kept."""
        folder = self._unsettled / claim.name
        cids = os.listdir(folder) if folder.is_dir() else []
        return [cid for cid in cids if cid not in kept and not (self._shared / cid).exists()]

    def drop(self, claim: Claim) -> None:
        """The task's end is known, and what is to be done about its files is done."""
        shutil.rmtree(self._unsettled / claim.name, ignore_errors=True)


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
