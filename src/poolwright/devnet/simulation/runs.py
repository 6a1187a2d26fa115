"""One seed played, many seeds played, and a failing one told as a shorter story."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Final, TypeAlias

from poolwright.devnet.simulation.faults import Faults, drawn
from poolwright.devnet.simulation.story import Coverage, Line, Story
from poolwright.devnet.simulation.trade import DealPlan
from poolwright.devnet.simulation.world import Size, World, plans, size_of
from poolwright.poco.types import Hash32, TaskId

SHRINK_SECONDS: Final = 60.0
"""Longest search for a smaller failing story, in real seconds."""
_TASK: Final = re.compile(r"0x([0-9a-f]{64})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a seed ended. `failure` is None when everything held."""

    seed: int
    faults: Faults
    deals: tuple[DealPlan, ...]
    story: Story
    failure: Exception | None
    simulated_seconds: int
    seconds: float
    """Real ones."""
    tasks: int
    completed: int
    seized: int
    """How often a worker lost its stake."""

    @property
    def hash(self) -> str:
        return self.story.hash

    @property
    def coverage(self) -> Coverage:
        return self.story.coverage


def play(
    seed: int,
    faults: Faults | None = None,
    size: Size | None = None,
    deals: tuple[DealPlan, ...] | None = None,
) -> Outcome:
    """Play a seed to its end, with its own faults, size and deals unless they are given."""
    faults = drawn(seed) if faults is None else faults
    size = size_of(seed) if size is None else size
    deals = plans(seed, size, faults) if deals is None else deals
    world = World(seed, faults, size, deals)
    started = time.perf_counter()
    failure: Exception | None = None
    try:
        world.run()
    except Exception as problem:  # noqa: BLE001  whatever broke is the finding
        failure = problem
    tasks, completed, seized = world.checks.count()
    return Outcome(
        seed=seed,
        faults=faults,
        deals=deals,
        story=world.story,
        failure=failure,
        simulated_seconds=world.clock.now // 1000,
        seconds=time.perf_counter() - started,
        tasks=tasks,
        completed=completed,
        seized=seized,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What is kept of a seed when many are played."""

    seed: int
    held: bool
    hash: str
    coverage: Coverage
    simulated_seconds: int
    tasks: int
    completed: int
    lines: tuple[str, ...]
    """What is to be said: the story that was asked for, and that of a failure."""


def play_all(
    seeds: Sequence[int], faults: Faults | None, size: Size | None, *, jobs: int = 1, story: bool = False
) -> Iterator[Report]:
    """Play many seeds, some side by side in processes of their own; the reports in the order of the seeds."""
    played = partial(report_of, faults=faults, size=size, story=story)
    if jobs <= 1 or len(seeds) <= 1:
        yield from map(played, seeds)
        return
    with ProcessPoolExecutor(min(jobs, len(seeds))) as pool:
        yield from pool.map(played, seeds, chunksize=4)


def report_of(seed: int, faults: Faults | None, size: Size | None, *, story: bool = False) -> Report:
    """Play one seed; a failing one is shrunk and told."""
    outcome = play(seed, faults, size)
    lines = [str(line) for line in outcome.story.lines] if story else []
    if outcome.failure is not None:
        lines += told(outcome if size or faults else shrunk(outcome))
    return Report(
        seed=seed,
        held=outcome.failure is None,
        hash=outcome.hash,
        coverage=outcome.coverage,
        simulated_seconds=outcome.simulated_seconds,
        tasks=outcome.tasks,
        completed=outcome.completed,
        lines=tuple(lines),
    )


Play: TypeAlias = Callable[[int, Faults, Size, tuple[DealPlan, ...]], Outcome]


def shrunk(failed: Outcome, again: Play = play) -> Outcome:
    """The same failure with fewer kinds of faults and fewer deals, as far as it is found in time.

    `again` is how a seed is played.
    """
    smallest = failed
    until = time.monotonic() + SHRINK_SECONDS
    for faults, deals in _smaller(failed):
        if time.monotonic() > until:
            break
        wanted = replace(smallest.faults, **dict.fromkeys(faults, 0.0))
        kept = tuple(deal for deal in smallest.deals if deal.number not in deals)
        trial = again(failed.seed, wanted, size_of(failed.seed), kept)
        if trial.failure is not None and type(trial.failure) is type(failed.failure):
            smallest = trial
    return smallest


def _smaller(failed: Outcome) -> Iterator[tuple[set[str], set[int]]]:
    """What to leave out next: one deal, or one kind of fault."""
    for deal in reversed(failed.deals):
        yield set(), {deal.number}
    for kind in fields(Faults):
        if getattr(failed.faults, kind.name):
            yield {kind.name}, set()


def told(outcome: Outcome, last: int = 80) -> Sequence[str]:
    """A failing seed for people: what broke, with which faults, how it came about, how to see it again."""
    if outcome.failure is None:
        return [f"seed {outcome.seed}: everything held"]
    found = _TASK.search(str(outcome.failure))
    task_id = None if found is None else TaskId(Hash32(bytes.fromhex(found[1])))
    rates = {kind.name: getattr(outcome.faults, kind.name) for kind in fields(Faults)}
    on = [f"{name}={rate:.3g}" for name, rate in rates.items() if rate]
    lines: list[Line] = outcome.story.of(task_id, last)
    return [
        f"seed {outcome.seed} FAILED: {type(outcome.failure).__name__}: {outcome.failure}",
        f"faults: {', '.join(on) or 'none'}",
        f"deals: {', '.join(_deal(deal) for deal in outcome.deals) or 'none'}",
        *(str(line) for line in lines),
        f"again: make sim SEED={outcome.seed}",
    ]


def _deal(deal: DealPlan) -> str:
    return f"{deal.tasks} x {deal.app} at trust {deal.trust}"
