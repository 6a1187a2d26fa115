"""What goes wrong, and how often: drawn from the seed, each kind from a stream of its own.

Because each kind has its own stream, turning one off leaves the draws of the others as they are; that is what
makes a failing story shrink.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, fields
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Rates. Probabilities unless a line says otherwise; 0 turns a kind off."""

    # Connections
    cuts: float = 0.0
    """Per worker and hour; what is under way on the connection is lost."""
    partitions: float = 0.0
    """Per worker and hour: it does not reach the scheduler for up to ten minutes."""
    torn_messages: float = 0.0
    """Of a report to be the last one for a while: the connection breaks behind it, or the worker dies."""
    doubled_messages: float = 0.0
    slow_messages: float = 0.0
    """Of a message to take up to half a minute."""

    # Nodes
    rpc_outages: float = 0.0
    """Per process and hour, each of up to five minutes."""
    rpc_errors: float = 0.0
    """Of a call to be answered with an error that may pass."""
    rpc_nonsense: float = 0.0
    """Of a call to be answered with nonsense."""
    rpc_stale: float = 0.0
    """Of a read to be answered from up to three blocks ago."""
    rpc_slow: float = 0.0
    """Of a call to take up to twenty seconds."""

    # The chain
    reorgs: float = 0.0
    """Per block: 1 to 12 blocks, never deeper than what is unconfirmed."""
    dropped_txs: float = 0.0
    underpriced_txs: float = 0.0
    delayed_txs: float = 0.0
    taken_nonces: float = 0.0
    """Of a transaction's nonce to be used by another program with the same wallet."""
    front_runs: float = 0.0
    """Of an `initialize` or `claim` to be sent by a stranger first."""

    # Processes
    scheduler_crashes: float = 0.0
    """Per hour."""
    worker_crashes: float = 0.0
    """Per worker and hour."""
    crashes_at_commits: float = 0.0
    """Of a commit to be the last thing before a crash, or never to come about."""
    crashes_at_effects: float = 0.0
    """Of an effect to be done and its outcome lost with the process."""
    lost_disks: float = 0.0
    """Of a worker's crash to take its disk along."""
    lost_ledgers: float = 0.0
    """Of the scheduler's crash to take its disk along; it begins again from the chain."""
    full_disks: float = 0.0
    """Per process and hour: nothing can be written for up to five minutes."""
    skewed_clocks: float = 0.0
    """Of a worker's wall clock to be wrong by up to an hour, either way."""

    # Workers
    slow_workers: float = 0.0
    liars: float = 0.0
    colluders: float = 0.0
    """Liars who agree with each other."""
    babblers: float = 0.0
    """Workers that report what is not so, half of it legal where the scheduler thinks that they are."""
    leavers: float = 0.0
    """Workers that leave for good."""
    poor_in_gas: float = 0.0
    poor_in_stake: float = 0.0
    bad_callbacks: float = 0.0
    """Of an upload to be reported with another callback than was agreed on."""
    lost_results: float = 0.0
    """Of a result to vanish from a worker's disk after its contribution."""
    lost_reveals: float = 0.0
    """Of a worker to have contributed a seal that it cannot reveal."""
    twins: float = 0.0
    """Of a task to be contributed to by a copy of the worker as well: same wallet, same authorization."""

    # Apps, as shares of the deals
    missing_images: float = 0.0
    flaky_images: float = 0.0
    missing_data: float = 0.0
    crashing_apps: float = 0.0
    hanging_apps: float = 0.0
    random_apps: float = 0.0
    """Give another result each time."""
    enclave_deals: float = 0.0
    """Deals that workers with an enclave are offered and refuse."""

    # Results, money
    repository_outages: float = 0.0
    """Per hour, each of up to twenty minutes."""
    lost_uploads: float = 0.0
    moved_stakes: float = 0.0
    """Per worker and hour: its owner takes the stake away, and brings it back later."""

    # Added later, here so that the draws of those above stay as they are
    full_folders: float = 0.0
    """Per worker and hour: its tasks' folders take nothing for up to half an hour, its journal does."""
    gas_spikes: float = 0.0
    """Per hour: gas costs up to forty times as much, for up to twenty minutes."""
    market_crashes: float = 0.0
    """Per hour."""
    closed_orders: float = 0.0
    """Per hour: an owner takes an order back, on the chain or on the market."""
    moved_purses: float = 0.0
    """Per hour: the requester or the pool's owner takes the stake away, and brings it back later."""
    sold_apps: float = 0.0
    """Per hour: the app changes hands for up to a quarter of an hour."""
    operator_words: float = 0.0
    """Per hour: he drains a worker, bars it, or takes that back."""


RANGES: Final[dict[str, float]] = {
    "cuts": 20.0,
    "partitions": 4.0,
    "torn_messages": 0.03,
    "doubled_messages": 0.3,
    "slow_messages": 0.2,
    "rpc_outages": 2.0,
    "rpc_errors": 0.2,
    "rpc_nonsense": 0.02,
    "rpc_stale": 0.3,
    "rpc_slow": 0.2,
    "reorgs": 0.1,
    "dropped_txs": 0.2,
    "underpriced_txs": 0.2,
    "delayed_txs": 0.3,
    "taken_nonces": 0.05,
    "front_runs": 0.5,
    "scheduler_crashes": 8.0,
    "worker_crashes": 6.0,
    "crashes_at_commits": 0.01,
    "crashes_at_effects": 0.02,
    "lost_disks": 0.4,
    "lost_ledgers": 0.5,
    "full_disks": 2.0,
    "skewed_clocks": 0.3,
    "slow_workers": 0.4,
    "liars": 0.3,
    "colluders": 0.3,
    "babblers": 0.3,
    "leavers": 0.3,
    "poor_in_gas": 0.3,
    "poor_in_stake": 0.4,
    "bad_callbacks": 0.3,
    "lost_results": 0.1,
    "lost_reveals": 0.3,
    "twins": 0.1,
    "missing_images": 0.3,
    "flaky_images": 0.3,
    "missing_data": 0.2,
    "crashing_apps": 0.3,
    "hanging_apps": 0.2,
    "random_apps": 0.3,
    "enclave_deals": 0.2,
    "repository_outages": 2.0,
    "lost_uploads": 0.3,
    "moved_stakes": 1.0,
    "full_folders": 4.0,
    "gas_spikes": 4.0,
    "market_crashes": 20.0,
    "closed_orders": 30.0,
    "moved_purses": 6.0,
    "sold_apps": 6.0,
    "operator_words": 6.0,
}
"""The highest rate that is drawn of each kind."""


THEMES: Final[tuple[dict[str, float], ...]] = (
    # Workers break off in the middle of a word; they come back soon, late, or without their memory.
    {"torn_messages": 0.06, "lost_disks": 0.5, "missing_images": 0.2, "missing_data": 0.3},
    {"torn_messages": 0.06, "crashing_apps": 0.3, "missing_data": 0.4, "poor_in_gas": 0.3, "rpc_errors": 0.2},
    {"torn_messages": 0.06, "lost_disks": 0.3, "missing_images": 0.3, "moved_stakes": 10.0, "twins": 0.2},
    # What an app leads to when at the same time the stake is gone, a copy is faster or time runs out.
    {
        "missing_images": 0.3,
        "missing_data": 0.4,
        "crashing_apps": 0.4,
        "twins": 0.4,
        "moved_stakes": 30.0,
        "slow_workers": 0.6,
        "torn_messages": 0.03,
    },
    {"missing_images": 0.3, "missing_data": 0.5, "scheduler_crashes": 20.0, "rpc_slow": 0.3, "twins": 0.3},
    {"missing_images": 0.2, "missing_data": 0.3, "crashing_apps": 0.4, "full_folders": 12.0},
    # Nothing that is said can be relied upon.
    {"babblers": 0.8, "slow_messages": 0.2, "partitions": 4.0, "missing_data": 0.3, "slow_workers": 0.3},
    {
        "babblers": 0.6,
        "torn_messages": 0.06,
        "missing_images": 0.2,
        "missing_data": 0.3,
        "crashing_apps": 0.3,
    },
    # Results: the repository is down or forgets, and those who have them come and go.
    {
        "repository_outages": 10.0,
        "lost_uploads": 0.4,
        "slow_workers": 0.6,
        "partitions": 10.0,
        "torn_messages": 0.04,
    },
    # The market: orders come, go and come back with the blocks that they were read in.
    {
        "reorgs": 0.2,
        "dropped_txs": 0.3,
        "closed_orders": 60.0,
        "moved_purses": 6.0,
        "sold_apps": 6.0,
        "market_crashes": 30.0,
        "rpc_stale": 0.2,
    },
)
"""Faults that come together, and lead where each alone hardly ever does; most seeds have one of these."""


def drawn(seed: int) -> Faults:
    """The faults of a seed: a theme and a few other kinds in most, many in some, none in every sixteenth."""
    chance = random.Random(f"faults of {seed}")  # noqa: S311  # repeatable on purpose
    if seed % 16 == 0:
        return Faults()
    share = chance.choice((0.1, 0.2, 0.3, 0.5))
    rates = {}
    for kind in fields(Faults):
        is_on, level = chance.random() < share, chance.random()
        rates[kind.name] = RANGES[kind.name] * level if is_on else 0.0
    theme = random.Random(f"theme of {seed}")  # noqa: S311  # its own, so that a new kind changes no theme
    if theme.random() < 0.9:
        rates |= theme.choice(THEMES)
    return Faults(**rates)


class Chance:
    """All randomness of a simulation. `calm` ends the faults, so that what is under way can end."""

    def __init__(self, seed: int, faults: Faults) -> None:
        self.faults = faults
        self.is_calm = False
        self._seed = seed
        self._streams: dict[str, random.Random] = {}

    def of(self, name: str) -> random.Random:
        """The stream of this name."""
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = random.Random(f"{self._seed} {name}")  # noqa: S311  # repeatable
        return stream

    def hits(self, kind: str) -> bool:
        """Whether a fault of this kind happens now."""
        rate: float = getattr(self.faults, kind)
        return rate > 0 and not self.is_calm and self.of(kind).random() < rate

    def next_hit(self, kind: str) -> int | None:
        """Milliseconds until a fault with an hourly rate happens; None when it never does."""
        rate: float = getattr(self.faults, kind)
        return int(self.of(kind).expovariate(rate) * 3_600_000) if rate > 0 else None
