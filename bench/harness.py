"""What a benchmark is, how rates are measured, and how figures are printed.

A benchmark is a function that yields figures, registered by name:

    @bench("orders")
    def orders() -> Iterator[Figure]: ...

Each figure stands beside its floor: the cost of what cannot be left out (one signature recovery, one flush of
the disk), measured in the same minute on the same machine. `ratio` is value / floor. Numbers of different
machines, or of different minutes, are not to be compared; ratios may be.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import IO

import bench as package


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured number. `goal` says in words what is wanted, `is_met` whether it was reached."""

    name: str
    value: float
    unit: str
    floor: float
    goal: str = ""
    is_met: bool = True

    @property
    def ratio(self) -> float:
        return self.value / self.floor if self.floor else 0.0

    def json_line(self) -> str:
        """The line for programs; its five names are part of `make bench`'s contract."""
        return json.dumps(
            {
                "name": self.name,
                "value": round(self.value, 3),
                "unit": self.unit,
                "floor": round(self.floor, 3),
                "ratio": round(self.ratio, 3),
            }
        )

    def row(self) -> str:
        """The line for people."""
        verdict = f"{'met' if self.is_met else 'MISSED'}: {self.goal}" if self.goal else ""
        numbers = f"{self.value:>12,.1f} {self.floor:>12,.1f} {self.ratio:>8.2f}"
        return f"{self.name:<34} {numbers}  {self.unit:<10} {verdict}"


HEADER = f"{'figure':<34} {'value':>12} {'floor':>12} {'ratio':>8}  {'unit':<10} goal"

Benchmark = Callable[[], Iterable[Figure]]

_benchmarks: dict[str, Benchmark] = {}


def bench(name: str) -> Callable[[Benchmark], Benchmark]:
    """Register a benchmark under the name that `python -m bench <name>` takes."""

    def register(function: Benchmark) -> Benchmark:
        _benchmarks[name] = function
        return function

    return register


def benchmarks() -> Mapping[str, Benchmark]:
    """All benchmarks of this folder, in the order of their modules' names."""
    for module in pkgutil.iter_modules(package.__path__):
        if module.name not in ("harness", "__main__"):
            importlib.import_module(f"bench.{module.name}")
    return dict(_benchmarks)


def run(chosen: Iterable[Benchmark], out: IO[str], people: IO[str]) -> bool:
    """Run benchmarks and print their figures as they come; whether all goals were met."""
    print(HEADER, file=people)
    all_met = True
    for benchmark in chosen:
        for figure in benchmark():
            print(figure.json_line(), file=out, flush=True)
            print(figure.row(), file=people, flush=True)
            all_met &= figure.is_met
    return all_met


def best_rates(
    calls: Mapping[str, Callable[[int], object]], *, count: int, rounds: int = 7
) -> dict[str, float]:
    """Calls per second of one core for each function: best of some rounds, taken in turns.

    Each function is called with the number of times that it is to do its work, and only computes: what counts
    is this process's own time, not that of others on the machine.
    """
    best = dict.fromkeys(calls, 0.0)
    for call in calls.values():
        call(max(count // 10, 1))
    for _ in range(rounds):
        for name, call in calls.items():
            started = time.process_time()
            call(count)
            best[name] = max(best[name], count / (time.process_time() - started))
    return best
