"""Simulated seconds per second of a pool of 50 workers, on one core. Floor: the same without any deal.

Two hours of 12 deals and what the market makes of their orders, some 50 tasks; a pool without deals still has
its blocks, heads, clocks and an empty market.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.harness import Figure, bench
from poolwright.devnet.simulation.faults import Faults, drawn
from poolwright.devnet.simulation.runs import Outcome, play
from poolwright.devnet.simulation.world import Size

GOAL_PER_SECOND = 10_000
WORKERS = 50
DEALS = 12
DEAL_SECONDS = 7200
SEED = 3
"""One with faults of many kinds."""


def _rate(size: Size, faults: Faults) -> float:
    """Simulated seconds per second of this process's own time."""
    started = time.process_time()
    outcome: Outcome = play(SEED, faults, size)
    spent = time.process_time() - started
    if outcome.failure is not None:
        raise AssertionError("the simulation that is measured fails") from outcome.failure
    return outcome.simulated_seconds / spent


@bench("simulation")
def simulation() -> Iterator[Figure]:
    """How fast simulated time passes, without and with faults."""
    busy, idle = (Size(workers=WORKERS, deals=deals, seconds=DEAL_SECONDS) for deals in (DEALS, 0))
    floor = _rate(idle, Faults())
    for name, faults in (("calm", Faults()), ("faults", drawn(SEED))):
        value = max(_rate(busy, faults) for _ in range(3))
        yield Figure(
            name=f"simulation.50-workers.{name}",
            value=value,
            unit="s/s",
            floor=floor,
            goal=f"over {GOAL_PER_SECOND:,}",
            is_met=value > GOAL_PER_SECOND,
        )
