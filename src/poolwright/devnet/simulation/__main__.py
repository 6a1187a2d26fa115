"""`python -m poolwright.devnet.simulation`: play seeds, and say what broke or how much was reached."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time

import structlog

from poolwright.devnet.simulation.faults import Faults
from poolwright.devnet.simulation.runs import play_all
from poolwright.devnet.simulation.story import Coverage
from poolwright.devnet.simulation.world import Size


def main(arguments: list[str] | None = None) -> int:
    """Play what is asked for; exit code 1 when a seed failed."""
    parser = argparse.ArgumentParser(prog="make sim", description=__doc__)
    parser.add_argument("--seed", type=int, help="play this seed only")
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds to play (default 200)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)"
    )
    parser.add_argument("--story", action="store_true", help="print every line of what happened")
    parser.add_argument("--missing", action="store_true", help="print the moves that were not reached")
    parser.add_argument("--calm", action="store_true", help="without any fault")
    parser.add_argument("--workers", type=int, help="so many workers instead of 2 to 12")
    parser.add_argument("--deals", type=int, default=8, help="with --workers: so many deals (default 8)")
    parser.add_argument("--hours", type=float, default=0.25, help="with --workers: hours of deals")
    options = parser.parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    seeds = (
        [options.seed] if options.seed is not None else range(options.first, options.first + options.seeds)
    )
    size = None
    if options.workers is not None:
        size = Size(workers=options.workers, deals=options.deals, seconds=int(options.hours * 3600))
    faults = Faults() if options.calm else None
    started = time.perf_counter()
    coverage = Coverage()
    simulated = tasks = completed = 0
    failed: list[int] = []
    for report in play_all(seeds, faults, size, jobs=options.jobs, story=options.story):
        coverage.add(report.coverage)
        simulated += report.simulated_seconds
        tasks += report.tasks
        completed += report.completed
        _say(*report.lines)
        if not report.held:
            failed.append(report.seed)
    seconds = time.perf_counter() - started
    if options.missing:
        _say(*coverage.missing())
    if options.seed is not None and not failed:
        _say(f"seed {options.seed}: everything held, story {report.hash}")
    _say(f"{len(seeds)} seeds, {len(failed)} failed{': ' if failed else ''}{', '.join(map(str, failed))}")
    _say(f"{tasks} tasks ended, {completed} completed, {tasks - completed} claimed")
    _say(
        f"{simulated} simulated seconds in {seconds:.1f} s: {simulated / max(seconds, 0.001):.0f} per second"
    )
    _say(*coverage.lines())
    return 1 if failed else 0


def _say(*lines: object) -> None:
    for line in lines:
        sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
