"""The one folder in which a local network lives, and the small files by which its processes know each other.

network.json           what people and programs need to know
iexec-8/, iexec-9/     chain.json for the official client, by its major version
keystores/, passwords/ the wallets (0600)
chain/                 the chain's saved state
scheduler/, results/, market/, worker-N/   databases and files of each part
logs/                  one log per part
run/                   one record per running process; empty when the network is down
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poolwright.poco.errors import InputError

SUPERVISOR = "supervisor"
LOG_LIMIT_BYTES = 20 * 1024 * 1024
"""A log that grew beyond this is moved aside to `<name>.log.1`, which it replaces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRecord:
    """One process of the network, as written to run/<name>.json."""

    name: str
    pid: int | None
    start_ticks: int | None
    """When the kernel started it, in clock ticks since boot: with it a pid is never mistaken for another."""
    state: str
    url: str = ""
    restarts: int = 0
    rank: int = 0
    last_exit: int | None = None


@dataclass(frozen=True, slots=True)
class StateFolder:
    """Paths inside the state folder; nothing is created by asking for one."""

    root: Path

    @property
    def network_file(self) -> Path:
        return self.root / "network.json"

    @property
    def keystores(self) -> Path:
        return self.root / "keystores"

    @property
    def passwords(self) -> Path:
        return self.root / "passwords"

    @property
    def chain_state(self) -> Path:
        return self.root / "chain/state.json"

    @property
    def run(self) -> Path:
        return self.root / "run"

    def client_file(self, major: int) -> Path:
        """chain.json for the official client of that major version."""
        return self.root / f"iexec-{major}/chain.json"

    def log(self, part: str) -> Path:
        return self.root / "logs" / f"{part}.log"

    def part(self, name: str) -> Path:
        """Where the part keeps its own files."""
        return self.root / name

    def create(self) -> None:
        """Make the folder and its fixed inhabitants; raises InputError when that cannot be."""
        try:
            for folder in (self.root, self.root / "logs", self.run, self.chain_state.parent):
                folder.mkdir(parents=True, exist_ok=True)
            for private in (self.keystores, self.passwords):
                private.mkdir(mode=0o700, exist_ok=True)
        except OSError as problem:
            raise InputError(
                f"the state folder {self.root} cannot be made",
                code="state-folder",
                got=problem.strerror or str(problem),
                next_step="choose another with --state",
            ) from problem

    def forget(self) -> None:
        """Remove everything a network left here, and nothing else that may stand in the folder.

        The supervisor's own log stays: this is the supervisor, and somebody may be reading along.
        """
        ours = ["keystores", "passwords", "chain", "scheduler", "results", "market", "iexec-8", "iexec-9"]
        for name in [*ours, *(path.name for path in self.root.glob("worker-*"))]:
            shutil.rmtree(self.root / name, ignore_errors=True)
        for log in (self.root / "logs").glob("*.log*"):
            if not log.name.startswith(SUPERVISOR):
                log.unlink(missing_ok=True)
        self.network_file.unlink(missing_ok=True)

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Hold the folder as its one supervisor; yields False when another one holds it.

        The kernel drops the hold with the process, however that ends.
        """
        self.create()
        with (self.run / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    def write_record(self, record: ProcessRecord) -> None:
        content = {
            "name": record.name,
            "pid": record.pid,
            "startTicks": record.start_ticks,
            "state": record.state,
            "url": record.url,
            "restarts": record.restarts,
            "rank": record.rank,
            "lastExit": record.last_exit,
            "log": str(self.log(record.name)),
        }
        write_json(self.run / f"{record.name}.json", content)

    def records(self) -> list[ProcessRecord]:
        """All records in run/, the supervisor's first, the chain's next, workers' last."""
        found = []
        for path in self.run.glob("*.json"):
            content = read_json(path)
            found.append(
                ProcessRecord(
                    name=content["name"],
                    pid=content["pid"],
                    start_ticks=content["startTicks"],
                    state=content["state"],
                    url=content["url"],
                    restarts=content["restarts"],
                    rank=content["rank"],
                    last_exit=content["lastExit"],
                )
            )
        return sorted(found, key=lambda record: (record.name != SUPERVISOR, record.rank, record.name))

    def supervisor(self) -> ProcessRecord | None:
        """The supervisor's record, whether that process still lives or not."""
        return next((record for record in self.records() if record.name == SUPERVISOR), None)

    def clear_records(self) -> None:
        for path in self.run.glob("*.json"):
            path.unlink(missing_ok=True)

    def shorten_logs(self, limit_bytes: int = LOG_LIMIT_BYTES) -> None:
        """Move aside logs that grew longer. The writers append, so an emptied file stays theirs."""
        for path in (self.root / "logs").glob("*.log"):
            if path.stat().st_size > limit_bytes:
                shutil.copyfile(path, path.with_suffix(".log.1"))
                os.truncate(path, 0)


def write_json(path: Path, content: Any, *, mode: int = 0o644) -> None:
    """Write a JSON file for people and programs, wholly or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
    partial.replace(path)


def read_json(path: Path) -> Any:
    """Read a JSON file of ours; raises InputError when it is torn or edited badly."""
    try:
        return json.loads(path.read_text())
    except ValueError as problem:
        raise InputError(
            f"{path} is not JSON",
            code="bad-state-file",
            got=str(problem),
            next_step="`poolwright up --fresh`",
        ) from problem
