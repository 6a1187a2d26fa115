"""Runs what the supervisor decides: the loop between `supervisor.step` and real processes.

One thread sleeps until something happens: a child ended (SIGCHLD), a part answered (its prober thread), the
user wants to stop (SIGINT, SIGTERM, SIGHUP), or a deadline of the mind is due. Signals wake the loop through
a socket, so nothing is polled but health checks, and those only until they succeed.
"""

from __future__ import annotations

import contextlib
import queue
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from signal import Signals
from typing import TypeAlias

from poolwright.devnet import processes, supervisor
from poolwright.devnet.folder import ProcessRecord, StateFolder
from poolwright.devnet.fork_server import Forked, ForkServer
from poolwright.devnet.parts import Program
from poolwright.devnet.supervisor import (
    Event,
    KillPart,
    Network,
    PartAnswered,
    PartExited,
    Phase,
    SignalPart,
    StartPart,
    StopAsked,
    Tell,
    Tick,
)
from poolwright.devnet.toolchain import Say
from poolwright.poco.errors import PoolwrightError, Unavailable

READY_SECONDS = 90.0
"""Longest time from the first start to every part's answer."""

PROBE_PAUSE_SECONDS = 0.03
TAIL_LINES = 6

Process: TypeAlias = Forked | subprocess.Popen[bytes]


class Runner:
    """Supervises `programs` until they are all ended. Lives in the main thread, because signals do."""

    def __init__(
        self,
        folder: StateFolder,
        programs: Sequence[Program],
        fork_server: ForkServer,
        *,
        environment_of: Callable[[Program], Mapping[str, str]],
        on_ready: Callable[[], None],
        before_stop: Callable[[str], None],
        say: Say,
    ) -> None:
        self._folder = folder
        self._programs = {program.part.name: program for program in programs}
        self._network = Network(parts={program.part.name: program.part for program in programs})
        self._fork_server = fork_server
        self._environment_of = environment_of
        self._on_ready = on_ready
        self._before_stop = before_stop
        self._say = say
        self._processes: dict[str, Process] = {}
        self._inbox: queue.SimpleQueue[Event | PoolwrightError] = queue.SimpleQueue()
        self._was_ready = False
        self._failure: PoolwrightError | None = None

    def run(self) -> None:
        """Bring everything up, keep it up, and return when it was asked to end and has ended.

        Raises the PoolwrightError for which it could not come up, after having ended everything.
        """
        self._ready_before = time.monotonic() + READY_SECONDS
        with self._woken_by_signals() as wake:
            self._wake = wake[1]
            self._hear(Tick(at=time.monotonic()))
            while not self._network.is_over:
                self._sleep(wake[0])
                for event in self._events():
                    self._hear(event)
                self._look_at_progress()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Ask everything to end; may be called from any thread."""
        self._tell_loop(StopAsked(at=time.monotonic()))

    def _tell_loop(self, heard: Event | PoolwrightError) -> None:
        self._inbox.put(heard)
        with contextlib.suppress(OSError):  # a full buffer wakes as well; a closed one means the end
            self._wake.send(b"!")

    def _hear(self, event: Event) -> None:
        before = self._network
        self._network, effects = supervisor.step(before, event)
        for effect in effects:
            match effect:
                case StartPart(name=name):
                    self._start(name)
                case SignalPart(name=name, signal=number):
                    self._before_stop(name)
                    self._processes[name].send_signal(number)
                case KillPart(name=name):
                    processes.kill_session(self._processes[name].pid)
                case Tell(line=line):
                    self._say(line)
        for name, part in self._network.parts.items():
            if part is not before.parts[name]:
                self._write(name)

    def _events(self) -> Iterator[Event]:
        now = time.monotonic()
        for name, process in tuple(self._processes.items()):
            code = process.poll()
            if code is not None:
                processes.kill_session(process.pid)  # whatever it left behind goes with it
                del self._processes[name]
                yield PartExited(name=name, code=code, at=now)
        while not self._inbox.empty():
            heard = self._inbox.get()
            if isinstance(heard, PoolwrightError):
                self._give_up(heard)
            else:
                yield heard
        yield Tick(at=now)

    def _look_at_progress(self) -> None:
        if self._was_ready or self._network.is_stopping:
            return
        if self._network.is_ready:
            self._was_ready = True
            self._on_ready()
        elif self._network.failed:
            part = self._network.failed[0]
            self._give_up(self._did_not_start(part.name, f"exit code {part.last_exit}"))
        elif time.monotonic() > self._ready_before:
            silent = [part.name for part in self._network.parts.values() if part.phase is not Phase.READY]
            self._give_up(self._did_not_start(silent[0], f"no answer within {READY_SECONDS:.0f} s"))

    def _give_up(self, problem: PoolwrightError) -> None:
        if not self._network.is_stopping:
            self._failure = problem
            self.stop()

    def _did_not_start(self, name: str, got: str) -> Unavailable:
        log = self._folder.log(name)
        tail = "\n  ".join(log.read_text(errors="replace").splitlines()[-TAIL_LINES:]) if log.exists() else ""
        return Unavailable(
            f"{name} did not come up: {got}. The end of {log}:\n  {tail}\n", code="part-not-started"
        )

    def _start(self, name: str) -> None:
        program = self._programs[name]
        environment, folder, log = (
            self._environment_of(program),
            self._folder.part(name),
            self._folder.log(name),
        )
        process: Process
        if program.words:
            process = self._fork_server.spawn(program.words, environment=environment, folder=folder, log=log)
        else:
            process = processes.spawn(program.command(), environment=environment, folder=folder, log=log)
        self._processes[name] = process
        threading.Thread(target=self._probe, args=(program, process), daemon=True).start()

    def _probe(self, program: Program, process: Process) -> None:
        """Ask until it answers; ends by itself when the process was ended or replaced."""
        name = program.part.name
        while self._processes.get(name) is process and not self._network.is_stopping:
            try:
                if program.answers():
                    self._tell_loop(PartAnswered(name=name, at=time.monotonic()))
                    return
            except PoolwrightError as problem:
                self._tell_loop(problem)
                return
            time.sleep(PROBE_PAUSE_SECONDS)

    def _write(self, name: str) -> None:
        part, process = self._network.parts[name], self._processes.get(name)
        self._folder.write_record(
            ProcessRecord(
                name=name,
                pid=process.pid if process else None,
                start_ticks=processes.start_ticks(process.pid) if process else None,
                state=part.phase.value,
                url=self._programs[name].url,
                restarts=part.restarts,
                rank=part.rank,
                last_exit=part.last_exit,
            )
        )

    def _sleep(self, wake: socket.socket) -> None:
        deadline = supervisor.next_deadline(self._network)
        if not self._was_ready:
            deadline = min(deadline or self._ready_before, self._ready_before)
        seconds = None if deadline is None else max(0.0, deadline - time.monotonic())
        if select.select([wake], [], [], seconds)[0]:
            wake.recv(4096)

    @contextmanager
    def _woken_by_signals(self) -> Iterator[tuple[socket.socket, socket.socket]]:
        """Let SIGCHLD wake the loop and the stop signals stop it; put the handlers back afterwards."""
        listening, waking = socket.socketpair()
        with listening, waking:
            waking.setblocking(False)
            before = signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
            stops = (Signals.SIGINT, Signals.SIGTERM, Signals.SIGHUP)
            handlers = {number: signal.signal(number, self._on_stop_signal) for number in stops}
            handlers[Signals.SIGCHLD] = signal.signal(Signals.SIGCHLD, lambda *_: None)
            try:
                yield listening, waking
            finally:
                for number, handler in handlers.items():
                    signal.signal(number, handler)
                signal.set_wakeup_fd(before)

    def _on_stop_signal(self, number: int, _: object) -> None:
        if self._network.is_stopping and number == Signals.SIGINT:
            for process in self._processes.values():  # Ctrl-C once more: no patience left
                processes.kill_session(process.pid)
        elif not self._network.is_stopping:
            self._inbox.put(StopAsked(at=time.monotonic()))
