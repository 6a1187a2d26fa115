"""Starts the network's daemons from one process that has loaded them all already.

Five or more daemons start at once, and each would spend most of its start on loading the same modules. So the
supervisor starts one process that loads them once, while the chain comes up, and then makes each daemon by
forking: it starts in milliseconds, and shares its memory with the others.

    supervisor ──order: words, environment, folder, log──► fork server ──fork──► (gone at once) ──fork──► part
        ▲ ▲                                                    │                                           │
        │ └────────────────── pid ─────────────────────────────┘                                           │
        └──────────────────────────── child of the supervisor from now on ─────────────────────────────────┘

The supervisor is the "subreaper" of all that it starts (prctl(2)): a process whose parent is gone becomes its
child. So a part is a child of the supervisor's like any other, in a session of its own, and outlives the fork
server, of which another is started when it is missing.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from setproctitle import setproctitle

from poolwright.poco.errors import Unavailable

COMMAND: Final = "fork-server"
"""`python -m poolwright fork-server FD`, as `poolwright.__main__` knows it; no command for people."""
START_SECONDS: Final = 60.0
"""Longest time to load everything; an order waits for that."""
PR_SET_CHILD_SUBREAPER: Final = 36
"""<linux/prctl.h>"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One process to be made; it runs `poolwright` with these words."""

    words: Sequence[str]
    environment: Mapping[str, str]
    folder: str
    """Where it works; exists."""
    log: str
    """What its output is appended to."""


class Forked:
    """A process that the fork server made, child of this one; as `subprocess.Popen` has it."""

    def __init__(self, pid: int) -> None:
        self.pid: Final = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code once it has ended, negative for a signal."""
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """Signal it, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)


class ForkServer:
    """The supervisor's end. The process starts with `start`, or with the first `spawn`.

    Args:
        environment: of the fork server; each order brings another.
        log: what the fork server itself has to say.
    """

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self._environment = environment
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._door: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Of the running fork server."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Let it begin to load; does not wait for that."""
        _adopt_orphans(True)
        door, theirs = socket.socketpair()
        with theirs, self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "poolwright", COMMAND, str(theirs.fileno())],
                env=dict(self._environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is the supervisor's
            )
        door.settimeout(START_SECONDS)
        self._door = door

    def spawn(
        self, words: Sequence[str], *, environment: Mapping[str, str], folder: Path, log: Path
    ) -> Forked:
        """Run `poolwright` with these words in its own session, its output appended to `log`.

        Raises Unavailable when no process could be made, after a second try with a fork server anew.
        """
        folder.mkdir(parents=True, exist_ok=True)
        log.parent.mkdir(parents=True, exist_ok=True)
        order = Order(words=list(words), environment=dict(environment), folder=str(folder), log=str(log))
        try:
            return self._ask(order)
        except OSError:
            self.close()
        try:
            return self._ask(order)
        except OSError as problem:
            self.close()
            raise Unavailable(
                f"the process of `poolwright {' '.join(words)}` could not be made: {problem}",
                code="fork-server",
                next_step=f"see {self._log}",
            ) from problem

    def close(self) -> None:
        """End the fork server; what it made goes on."""
        if self._door is not None:
            self._door.close()
            self._door = None
        if self._process is not None:
            self._process.kill()  # it holds nothing
            self._process.wait()
            self._process = None
            _adopt_orphans(False)

    def _ask(self, order: Order) -> Forked:
        """Raises OSError, TimeoutError among them."""
        if self._door is None:
            self.start()
        assert self._door is not None
        self._door.sendall(json.dumps(asdict(order)).encode() + b"\n")
        with self._door.makefile("rb") as lines:
            answer = lines.readline()
        if not answer.strip().isdigit():
            raise ConnectionError(answer.decode(errors="replace").strip() or "the fork server has ended")
        return Forked(int(answer))


def serve(descriptor: int, modules: Sequence[str]) -> Sequence[str]:
    """Be the fork server that has loaded `modules`, with the supervisor at the other end of a socket.

    Returns only in the processes that are made, with the words of the command that each has to run. The
    server ends when the supervisor hangs up.
    """
    setproctitle("poolwright fork server")
    gc.disable()
    for name in modules:
        importlib.import_module(name)
    gc.freeze()  # what is shared stays unwritten
    with socket.socket(fileno=descriptor) as door, door.makefile("rb") as lines:
        while line := _read(lines):
            order = Order(**json.loads(line))
            try:
                pid = _fork_twice()
            except OSError as problem:
                _answer(door, str(problem))
                continue
            if not pid:
                break
            _answer(door, str(pid))
        else:
            sys.exit()
    _become(order)
    return order.words


def _read(lines: io.BufferedReader) -> bytes:
    with suppress(ConnectionError):
        return lines.readline()
    return b""


def _answer(door: socket.socket, text: str) -> None:
    with suppress(ConnectionError):
        door.sendall(text.encode() + b"\n")


def _fork_twice() -> int:
    """Make a process whose parent is gone when this returns: its pid here, and 0 in it. Raises OSError."""
    hearing, telling = os.pipe()
    between = os.fork()
    if between:
        os.close(telling)
        with os.fdopen(hearing, "rb") as pipe:
            told = pipe.read()
        os.waitpid(between, 0)
        if not told:
            raise OSError("the machine makes no more processes")
        return int(told)
    os.close(hearing)
    try:
        pid = os.fork()
    except OSError:
        os._exit(1)
    if pid:
        os.write(telling, str(pid).encode())
        os._exit(0)
    os.close(telling)
    return 0


def _become(order: Order) -> None:
    """Take on what the ordered process has of its own: session, folder, environment, output, name."""
    os.setsid()
    os.chdir(order.folder)
    os.environ.clear()
    os.environ.update(order.environment)
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(order.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(output)
    setproctitle(f"poolwright {' '.join(order.words)}")
    gc.enable()


def _adopt_orphans(does: bool) -> None:
    """Whether descendants whose own parent ends become children of this process. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, int(does), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
