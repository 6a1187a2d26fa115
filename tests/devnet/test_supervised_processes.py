"""The supervisor's loop with real processes: kills, restarts, order of ending, nothing left behind."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from poolwright.devnet import processes
from poolwright.devnet.folder import ProcessRecord, StateFolder
from poolwright.devnet.fork_server import ForkServer
from poolwright.devnet.parts import Program
from poolwright.devnet.runner import Runner
from poolwright.devnet.supervisor import Part
from poolwright.poco.errors import Unavailable

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
SLEEP_WITH_CHILD = ["sh", "-c", "sleep 600 & sleep 600"]


def program(name: str, rank: int, command: list[str] = SLEEP, needs: str | None = None) -> Program:
    return Program(
        part=Part(name=name, rank=rank, needs=frozenset({needs} if needs else ())),
        command=lambda: command,
        environment=lambda record: {},
        answers=lambda: True,
    )


class Session:
    """A runner in its own thread's stead: the test's script runs beside it, and ends it."""

    def __init__(self, folder: StateFolder, *programs: Program) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.stopped: list[str] = []
        self.ready = threading.Event()
        folder.create()
        self.runner = Runner(
            folder,
            programs,
            ForkServer({}, folder.log("fork-server")),
            environment_of=lambda program: dict(os.environ),
            on_ready=self.ready.set,
            before_stop=self.stopped.append,
            say=self.said.append,
        )

    def play(self, script: Callable[["Session"], None]) -> None:
        """Run the network while `script` acts on it; ends the network after the script."""
        problems: list[BaseException] = []

        def act() -> None:
            try:
                assert self.ready.wait(30), "the parts did not become ready"
                script(self)
            except BaseException as problem:  # noqa: BLE001  raised again by the test's own thread
                problems.append(problem)
            finally:
                self.runner.stop()

        thread = threading.Thread(target=act, daemon=True)
        thread.start()
        self.runner.run()
        thread.join(30)
        if problems:
            raise problems[0]

    def record(self, name: str) -> ProcessRecord:
        return next(record for record in self.folder.records() if record.name == name)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, "condition not met"
            time.sleep(0.01)


def test_killed_part_is_restarted_and_shown(tmp_path: Path) -> None:
    session = Session(StateFolder(tmp_path), program("chain", 0), program("scheduler", 1, needs="chain"))

    def kill_scheduler(session: Session) -> None:
        before = session.record("scheduler")
        processes.send(before, signal.SIGKILL)
        session.wait_for(lambda: session.record("scheduler").restarts == 1)
        session.wait_for(lambda: session.record("scheduler").state == "ready")
        after = session.record("scheduler")
        assert after.pid != before.pid
        assert after.last_exit == -9

    session.play(kill_scheduler)

    assert session.said == ["scheduler ended (SIGKILL); starting it again in 0.25 s"]


def test_parts_end_from_the_highest_rank_and_leave_no_process(tmp_path: Path) -> None:
    session = Session(
        StateFolder(tmp_path), program("chain", 0), program("scheduler", 1), program("worker-1", 2)
    )
    seen: list[ProcessRecord] = []

    session.play(lambda session: seen.extend(session.folder.records()))

    assert session.stopped == ["worker-1", "scheduler", "chain"]
    assert len(seen) == 3
    assert not any(processes.is_alive(record) for record in seen)


def test_children_of_a_part_end_with_it(tmp_path: Path) -> None:
    session = Session(StateFolder(tmp_path), program("worker-1", 0, SLEEP_WITH_CHILD))
    groups: list[int] = []

    def note_group(session: Session) -> None:
        pid = session.record("worker-1").pid
        assert pid is not None
        groups.append(pid)

    session.play(note_group)

    deadline = time.monotonic() + 10
    while _group_lives(groups[0]):
        assert time.monotonic() < deadline, "a grandchild lives on"
        time.sleep(0.01)


def test_part_that_cannot_start_ends_everything_with_the_end_of_its_log(tmp_path: Path) -> None:
    wrong = [sys.executable, "-c", "import sys; print('no such pool'); sys.exit(2)"]
    never = Program(
        part=Part(name="scheduler", rank=1),
        command=lambda: wrong,
        environment=lambda record: {},
        answers=lambda: False,
    )
    session = Session(StateFolder(tmp_path), program("chain", 0), never)

    with pytest.raises(Unavailable, match=r"(?s)scheduler did not come up: exit code 2.*no such pool"):
        session.runner.run()

    assert session.stopped == ["chain"]


def test_stranger_with_a_recorded_pid_is_never_signalled(tmp_path: Path) -> None:
    me = ProcessRecord(name="chain", pid=os.getpid(), start_ticks=1, state="ready")

    assert not processes.is_alive(me)
    processes.end(me, signal.SIGKILL, seconds=0)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
