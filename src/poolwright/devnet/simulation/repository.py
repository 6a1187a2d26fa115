"""The result repository: it takes a result from a worker whose reveal stands on the chain, and keeps it."""

from __future__ import annotations

from poolwright.devnet.simulation.chain import Chain
from poolwright.devnet.simulation.clock import Clock
from poolwright.devnet.simulation.faults import Chance
from poolwright.poco.errors import Unavailable
from poolwright.poco.records import ContributionStatus
from poolwright.poco.types import Address, Hash32, TaskId


class Repository:
    """What `poolwright.results` answers, and when it does not."""

    def __init__(self, chain: Chain, clock: Clock, chance: Chance) -> None:
        self.down_until = 0
        self._chain = chain
        self._clock = clock
        self._chance = chance
        self._kept: dict[TaskId, str] = {}

    def keep(self, task_id: TaskId, worker: Address, digest: Hash32) -> str:
        """Take a result; the CID of what is kept. Raises Unavailable, also for a reveal not seen yet."""
        self._answer()
        if self._chain.poco.contribution(task_id, worker).status is not ContributionStatus.PROVED:
            raise Unavailable("result repository", got="HTTP 503: the reveal is not known", code="results")
        kept = self._kept.setdefault(task_id, f"Qm{digest.hex()[:20]}")
        if self._chance.hits("lost_uploads"):
            del self._kept[task_id]
        return kept

    def look_up(self, task_id: TaskId) -> str | None:
        """The CID of a task's result. Raises Unavailable."""
        self._answer()
        return self._kept.get(task_id)

    def _answer(self) -> None:
        if self._clock.now < self.down_until and not self._chance.is_calm:
            raise Unavailable("result repository", got="no answer", code="results")
