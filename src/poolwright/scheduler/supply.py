"""Two lines: tasks that need a worker, and workers with a free slot.

Both are grouped by tag, of which a pool sees few: what a task demands, what a worker offers. A match looks
only into groups that fit, the earliest contribution deadline first, workers in turn and, of several
groups, the one that offers least, so that a GPU waits for a task that needs it.

Beside the lines stand the newcomers since the last hand-out. Who was here before them has found no match
among each other, so only newcomers can.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

from poolwright.poco.tags import Tag
from poolwright.poco.types import TaskId, Timestamp, WorkerAddress

Entry = tuple[Timestamp, TaskId]


@dataclass(slots=True, kw_only=True)
class Supply:
    """The two lines. Derived from tasks and workers, never stored."""

    #: Tasks in the line; a heap entry of a task that is not here is stale and is dropped when met.
    needy: set[TaskId] = field(default_factory=set)
    lines: dict[Tag, list[Entry]] = field(default_factory=dict)
    #: Tasks with an entry in a heap: nobody stands in a line twice.
    queued: set[TaskId] = field(default_factory=set)
    new_tasks: deque[TaskId] = field(default_factory=deque)
    #: Workers with a free slot, by what they offer, in their turn (the values mean nothing).
    free: dict[Tag, dict[WorkerAddress, None]] = field(default_factory=dict)
    #: What each worker in the line offers: the group in which it stands.
    seats: dict[WorkerAddress, Tag] = field(default_factory=dict)
    new_workers: dict[WorkerAddress, None] = field(default_factory=dict)

    def add_task(self, task_id: TaskId, demands: Tag, deadline: Timestamp) -> None:
        """Put a task in the line, if it is not in it."""
        if task_id in self.needy:
            return
        self.needy.add(task_id)
        self.new_tasks.append(task_id)
        if task_id not in self.queued:
            self.queued.add(task_id)
            heapq.heappush(self.lines.setdefault(demands, []), (deadline, task_id))

    def remove_task(self, task_id: TaskId) -> None:
        """Take a task out of the line, if it is in it."""
        self.needy.discard(task_id)

    def add_worker(self, worker: WorkerAddress, offers: Tag) -> None:
        """Put a worker at the end of the line."""
        self.seats[worker] = offers
        self.free.setdefault(offers, {})[worker] = None
        self.new_workers[worker] = None

    def remove_worker(self, worker: WorkerAddress) -> None:
        """Take a worker out of the line, if it is in it."""
        offers = self.seats.pop(worker, None)
        if offers is None:
            return
        group = self.free[offers]
        del group[worker]
        self.new_workers.pop(worker, None)
        if not group:
            del self.free[offers]

    def move_to_end(self, worker: WorkerAddress) -> None:
        """Let a worker wait for all others, if it is in the line."""
        offers = self.seats.get(worker)
        if offers is not None:
            group = self.free[offers]
            group[worker] = group.pop(worker)

    @property
    def has_newcomers(self) -> bool:
        """Whether anybody has come who may find a match."""
        return bool(self.new_tasks or self.new_workers)

    def next_free(self) -> WorkerAddress | None:
        """The next newcomer among the workers; it is none from now on."""
        if not self.new_workers:
            return None
        worker = next(iter(self.new_workers))
        del self.new_workers[worker]
        return worker

    def next_needy(self) -> TaskId | None:
        """The next newcomer among the tasks that is still in the line; it is none from now on."""
        while self.new_tasks:
            task_id = self.new_tasks.popleft()
            if task_id in self.needy:
                return task_id
        return None

    def settle(self) -> None:
        """Count nobody as a newcomer: in a restored pool all have met."""
        self.new_tasks.clear()
        self.new_workers.clear()

    def free_workers(self, demands: Tag) -> Iterator[WorkerAddress]:
        """Workers that offer what a task demands, in the order in which it should be offered to them."""
        fitting = [offers for offers in self.free if not offers.lacks(demands)]
        for offers in sorted(fitting, key=lambda tag: (tag.bit_count(), tag)):
            yield from self.free[offers]

    def walk(self, offers: Tag) -> Generator[TaskId, None, None]:
        """Tasks that demand no more than this, the earliest deadline first.

        The line may change while one walks; who is passed over keeps its place.
        """
        lines = [line for demands, line in self.lines.items() if not offers.lacks(demands)]
        passed: list[tuple[list[Entry], Entry]] = []
        try:
            while lines := [line for line in lines if line]:
                line = min(lines, key=lambda line: line[0])
                entry = heapq.heappop(line)
                passed.append((line, entry))
                if entry[1] in self.needy:
                    yield entry[1]
        finally:
            for line, entry in passed:
                if entry[1] in self.needy:
                    heapq.heappush(line, entry)
                else:
                    self.queued.discard(entry[1])
