"""The result repository: it takes a result from a worker whose reveal stands on the chain, and keeps it."""

from __future__ import annotations

from poolwright.devnet.simulation.chain import Chain
from poolwright.devnet.simulation.clock import Clock
from poolwright.devnet.simulation.faults import Chance
from poolwright.poco.errors import PeerError, Unavailable
from poolwright.poco.records import ContributionStatus, TaskStatus
from poolwright.poco.types import Address, Hash32, TaskId, WorkerAddress
from poolwright.results.checks import PoolLeave, check_uploader
from poolwright.results.ledger import gathered
from poolwright.wire.uploads import MAX_AUTHORIZATION_SECONDS, parse_result_link


class Repository:
    """What `poolwright.results` answers, and when it does not."""

    def __init__(self, chain: Chain, clock: Clock, chance: Chance) -> None:
        self.down_until = 0
        self._chain = chain
        self._clock = clock
        self._chance = chance
        self._kept: dict[TaskId, str] = {}
        self._early: dict[TaskId, set[str]] = {}
        """Brought before any contribution; the chain says later which one it is."""

    def admit(self, expires_in: int) -> None:
        """Look at an upload authorization that ends in so many seconds. Raises Unavailable, PeerError."""
        self._answer()
        if not 0 < expires_in <= MAX_AUTHORIZATION_SECONDS:
            raise PeerError(
                "upload authorization",
                code="bad-authorization",
                expected=f"an end within {MAX_AUTHORIZATION_SECONDS} s",
                got=f"{expires_in} s from now",
                next_step="set the clock of the worker's machine",
            )

    def keep(self, task_id: TaskId, worker: Address, digest: Hash32) -> str:
        """Take a result; the CID of what is kept. Raises Unavailable, also for a reveal not seen yet."""
        self._answer()
        if self._chain.poco.contribution(task_id, worker).status is not ContributionStatus.PROVED:
            raise Unavailable("result repository", got="HTTP 503: the reveal is not known", code="results")
        kept = self._kept.setdefault(task_id, f"Qm{digest.hex()[:20]}")
        if self._chance.hits("lost_uploads"):
            del self._kept[task_id]
        return kept

    def deliver(self, task_id: TaskId, worker: WorkerAddress, digest: Hash32, leave: PoolLeave) -> str:
        """Take a result before its contribution. Raises Unavailable, NotAllowed as `results.checks`."""
        self._answer()
        poco = self._chain.poco
        task = poco.task(task_id)
        deal = poco.deal(task.deal_id) if task.status is TaskStatus.ACTIVE else None
        stamp = self._chain.head
        facts = gathered(stamp, task, poco.contribution(task_id, worker), deal)
        check_uploader(task_id, worker, facts, leave)
        cid = f"Qm{digest.hex()[:20]}"
        self._early.setdefault(task_id, set()).add(cid)
        return cid

    def look_up(self, task_id: TaskId) -> str | None:
        """The CID of a task's result. Raises Unavailable."""
        self._answer()
        link = parse_result_link(self._chain.poco.task(task_id).results)
        if link is not None and link.cid in self._early.get(task_id, ()):
            return link.cid
        return self._kept.get(task_id)

    def _answer(self) -> None:
        if self._clock.now < self.down_until and not self._chance.is_calm:
            raise Unavailable("result repository", got="no answer", code="results")
