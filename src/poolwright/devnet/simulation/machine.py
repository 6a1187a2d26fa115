"""What stands beside a worker's process: containers and folders, and what apps and habits make of them.

A container goes on when the process dies; the folder is there when it comes back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from poolwright.devnet.simulation.clock import Action, Clock
from poolwright.poco.keccak import keccak
from poolwright.poco.types import Address, Hash32, TaskId
from poolwright.worker.events import Result


class App(StrEnum):
    """How a deal's app behaves; the deal's params name it."""

    GOOD = "good"
    NO_IMAGE = "no-image"
    FLAKY_IMAGE = "flaky-image"
    NO_DATA = "no-data"
    CRASHES = "crashes"
    HANGS = "hangs"
    RANDOM = "random"


class Honesty(StrEnum):
    """What a worker makes of a result."""

    HONEST = "honest"
    LIES = "lies"
    COLLUDES = "colludes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """What kind of worker this is."""

    honesty: Honesty = Honesty.HONEST
    is_slow: bool = False
    babbles: bool = False
    hides_seal: bool = False
    """Contributes a seal that it cannot reveal."""
    clock_skew: int = 0
    """Seconds by which its wall clock is ahead, while there are faults."""
    slots: int = 1
    gpu: bool = False
    enclave: bool = False


@dataclass(slots=True, kw_only=True, eq=False)
class Container:
    """A run of an app. `waiting` are those to be told when it has ended or was removed."""

    ends_at: int
    is_late: bool
    """Stopped at the limit, without a result."""
    waiting: list[Action] = field(default_factory=list)

    def wake(self) -> None:
        waiting, self.waiting = self.waiting, []
        for resume in waiting:
            resume()


class Machine:
    """The container engine and the disk space of one worker."""

    def __init__(self, clock: Clock) -> None:
        self.images: set[str] = set()
        self.containers: dict[TaskId, Container] = {}
        self.folders: dict[TaskId, Result] = {}
        self.full_until = 0
        """Until when the folders take nothing, unless the faults end before."""
        self._clock = clock

    def run(self, task_id: TaskId, milliseconds: int, limit: int) -> Container:
        """The task's container: the one that is there, or a new one; stopped at the limit."""
        container = self.containers.get(task_id)
        if container is None:
            ends_at = self._clock.now + min(milliseconds, limit)
            container = Container(ends_at=ends_at, is_late=milliseconds > limit)
            self.containers[task_id] = container
            self._clock.at(container.ends_at, container.wake)
        return container

    def remove(self, task_id: TaskId) -> None:
        """Stop the task's container and delete its folder."""
        self.folders.pop(task_id, None)
        container = self.containers.pop(task_id, None)
        if container is not None:
            container.wake()

    def replace_disk(self) -> None:
        """Everything here is gone."""
        for task_id in list(self.containers):
            self.remove(task_id)
        self.folders.clear()
        self.images.clear()


def computed(task_id: TaskId, worker: Address, app: App, honesty: Honesty, *, has_callback: bool) -> Result:
    """What a worker takes for the app's result."""
    match honesty:
        case Honesty.HONEST:
            text = f"result of {task_id}"
        case Honesty.LIES:
            text = f"lie of {worker.hex()} about {task_id}"
        case Honesty.COLLUDES:
            text = f"agreed lie about {task_id}"
    if app is App.RANDOM:
        text += f" at random on {worker.hex()}"
    return result_of(text, has_callback=has_callback)


def result_of(text: str, *, has_callback: bool) -> Result:
    """A result with these bytes; of a deal with a callback they are what it receives."""
    content = text.encode()
    return Result(digest=Hash32(keccak(content)), callback=content if has_callback else b"")
