"""A container engine of a test's own, to be killed: nobody else on the machine uses it.

It is dockerd with folders, socket, containerd and network of its own: an engine without a bridge would delete
that of the machine's. Killing it ends its containerd too (dockerd asks the kernel for that); containers go on
until it starts again.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from poolwright.devnet import engine

PATIENCE_SECONDS = 120


class PrivateEngine:
    """One dockerd; `host` is where it listens, in the form of DOCKER_HOST."""

    def __init__(self, folder: Path) -> None:
        dockerd = shutil.which("dockerd")
        assert dockerd is not None, "dockerd not found; install the package docker.io"
        assert os.geteuid() == 0, "an engine of one's own needs root"
        self._folder = folder
        self._log = folder / "log"
        self.host = f"unix://{folder}/sock"
        self._command = [
            "unshare",
            "--net",
            dockerd,
            f"--data-root={folder}/data",
            f"--exec-root={self._exec_root}",
            f"--pidfile={folder}/pid",
            f"--host={self.host}",
            "--bridge=none",
            "--iptables=false",
            "--ip6tables=false",
            "--ip-forward=false",
            "--ip-masq=false",
        ]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def _exec_root(self) -> Path:
        return self._folder / "exec"

    def start(self, *, keeps_containers: bool = False) -> None:
        """Start it and return when it answers. Containers that run are killed by it, unless it keeps them."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command, *(["--live-restore"] if keeps_containers else [])],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._until(lambda: engine.is_answering(self.host), "the engine answers")

    def kill(self, *, without_power: bool = False) -> None:
        """`kill -9`: of the engine, or of everything that runs on it as well, as a power cut does."""
        assert self._process is not None
        containerd = _children(self._process.pid)
        self._process.kill()
        self._process.wait(timeout=PATIENCE_SECONDS)
        self._process = None
        # One that is dead but not buried yet would be taken for a running one.
        self._until(lambda: not set(containerd) & set(_pids()), "its containerd has ended")
        if without_power:
            for pid in self._of_containers():
                _kill(pid)
            self._until(lambda: not self._of_containers(), "its containers have ended")

    def wait_for_apps(self) -> None:
        """Return when nothing runs in its containers any more; it need not be up."""
        self._until(lambda: all(_is_shim(pid) for pid in self._of_containers()), "its apps have ended")

    def close(self) -> None:
        """End it and all it runs; the machine is as before."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(timeout=PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        for pid in self._of_containers():
            _kill(pid)
        self._until(lambda: not self._of_containers(), "its containers have ended")
        for mount in reversed(_mounts_below(self._folder)):
            subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)

    def _of_containers(self) -> list[int]:
        """Shims of this engine, which know where it keeps things, and what runs below them."""
        shims = [pid for pid in _pids() if f"{self._exec_root}/" in _command_line(pid) and _is_shim(pid)]
        found = list(shims)
        for pid in found:
            found += _children(pid)
        return found

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"never came about: {what}\n{self._log.read_text()[-4000:]}"
            time.sleep(0.02)


@contextmanager
def private_engine() -> Iterator[PrivateEngine]:
    """A fresh engine that answers; gone afterwards with everything of it."""
    # Not among pytest's folders: the path of a socket is bounded, and containerd's is long already.
    folder = Path(tempfile.mkdtemp(prefix="pw-engine-", dir="/tmp"))
    made = PrivateEngine(folder)
    try:
        made.start()
        yield made
    finally:
        made.close()
        shutil.rmtree(folder, ignore_errors=True)


def _pids() -> list[int]:
    return [int(each) for each in os.listdir("/proc") if each.isdigit()]


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""


def _is_shim(pid: int) -> bool:
    return "containerd-shim" in _command_line(pid).split(" ", 1)[0]


def _children(parent: int) -> list[int]:
    found = []
    for pid in _pids():
        try:
            status = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            continue
        if int(status.rpartition(")")[2].split()[1]) == parent:
            found.append(pid)
    return found


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _mounts_below(folder: Path) -> list[str]:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [path for line in lines for path in [line.split()[1]] if path.startswith(f"{folder}/")]
