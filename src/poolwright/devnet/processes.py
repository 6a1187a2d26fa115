"""Processes of the network: started in a session of their own, known by pid and start time, ended wholly.

A pid alone may belong to a stranger by now, so a process is recorded with the time at which the kernel
started it, and nothing is ever sent to a pid whose start time differs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from poolwright.devnet.folder import ProcessRecord


def spawn(
    command: Sequence[str], *, environment: Mapping[str, str], folder: Path, log: Path
) -> subprocess.Popen[bytes]:
    """Start a process in its own session, its output appended to `log`."""
    folder.mkdir(parents=True, exist_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            list(command),
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def start_ticks(pid: int) -> int | None:
    """When the kernel started the process; None when there is none, or only its remains."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *fields = stat[stat.rindex(")") + 2 :].split()  # the name before it may hold anything
    return None if state in "ZX" else int(fields[18])


def is_alive(record: ProcessRecord) -> bool:
    """Whether exactly the recorded process lives."""
    return record.pid is not None and start_ticks(record.pid) == record.start_ticks is not None


def send(record: ProcessRecord, number: signal.Signals) -> None:
    """Signal exactly the recorded process; nothing when it is gone."""
    if record.pid is not None and is_alive(record):
        with contextlib.suppress(ProcessLookupError):
            os.kill(record.pid, number)


def kill_session(pid: int) -> None:
    """Kill what is left of the process group that one of our own processes led."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def wait_gone(record: ProcessRecord, seconds: float) -> bool:
    """Wait until the recorded process is gone; False when it still lives after that time."""
    deadline = time.monotonic() + seconds
    while is_alive(record):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def end(record: ProcessRecord, number: signal.Signals, *, seconds: float) -> None:
    """End the recorded process: ask, wait, and kill its session when it does not obey."""
    if not is_alive(record):
        return
    send(record, number)
    if not wait_gone(record, seconds) and record.pid is not None:
        kill_session(record.pid)
        wait_gone(record, seconds)
