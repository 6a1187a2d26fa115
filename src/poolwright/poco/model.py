"""The whole hub as readable code: every operation of the PoCo contracts on an in-memory chain.

`Poco` is the contracts of one network: RLC token, escrow, orders, deals, tasks, scores, the three
registries and the categories. An operation takes who calls it and at which block time, and returns the logs
that the contracts would write, in their order, or raises Revert and changes nothing. It is the contracts'
behaviour, not their gas: what a caller pays for execution, and what a callback contract does with its
result, is outside. The tests in tests/contract run it beside the real contracts on anvil.

    poco = Poco(domain, token=rlc, owner=deployer, registries=registries)
    logs = poco.match_orders(Call(requester, now), orders)
    poco.initialize(Call(anybody, now), deal_id, 0)

State is made of immutable records in tables with one writer. An operation costs what it touches, nothing is
ever copied, and `snapshot` / `restore` wind the world back as evm_snapshot / evm_revert do.

Here stand the operations of tasks; those before them are in `hub_accounts` (money, registries, configuration)
and `hub_deals` (orders), the tables and their reads in `hub_state`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from poolwright.poco import deadlines, ids, rewards
from poolwright.poco.authorization import authorization_digest, enclave_digest
from poolwright.poco.consensus import log2_weight, weight
from poolwright.poco.events import (
    AccurateContribution,
    FaultyContribution,
    TaskClaimed,
    TaskConsensus,
    TaskContribute,
    TaskFinalize,
    TaskInitialize,
    TaskReopen,
    TaskReveal,
)
from poolwright.poco.hub_accounts import workerpool_info
from poolwright.poco.hub_deals import Deals
from poolwright.poco.hub_state import NOTHING, Call, Emitted, ForeignContract, Registries, operation
from poolwright.poco.keccak import keccak
from poolwright.poco.records import NO_TASK, Contribution, ContributionStatus, Deal, OnchainTask, TaskStatus
from poolwright.poco.results import result_hash, result_seal
from poolwright.poco.revert import require, uint256
from poolwright.poco.tags import TEE
from poolwright.poco.types import Address, DealId, Hash32, TaskId, Timestamp

__all__ = ["Call", "Emitted", "ForeignContract", "Poco", "Registries", "workerpool_info"]


class Poco(Deals):
    """The contracts of one network in memory. Single writer; raises Revert where they revert."""

    @operation
    def initialize(self, call: Call, deal_id: DealId, index: int) -> None:
        """Open a task of a deal; anybody, at any time."""
        self._initialize(deal_id, index)

    @operation
    def initialize_array(self, call: Call, deal_ids: Sequence[DealId], indexes: Sequence[int]) -> None:
        """Open several tasks, all or none."""
        require(len(deal_ids) == len(indexes), "one index per deal id")
        for deal_id, index in zip(deal_ids, indexes, strict=True):
            self._initialize(deal_id, index)

    @operation
    def contribute(
        self,
        call: Call,
        task_id: TaskId,
        result_hash: Hash32,
        result_seal: Hash32,
        enclave_challenge: Address,
        enclave_sign: bytes,
        authorization_sign: bytes,
    ) -> None:
        """Commit to a result and lock the worker's stake; may bring consensus. Reveal checks the seal."""
        task = self._tasks[task_id]
        deal = self._deals[task.deal_id]
        self._require_contributable(call, task)
        require(
            self._contributions[task_id, call.caller].status is ContributionStatus.UNSET,
            "this worker has contributed to the task before",
        )
        self._require_authorized(call, task_id, deal, enclave_challenge, authorization_sign)
        self._require_enclave(enclave_challenge, result_hash, result_seal, enclave_sign)

        its_weight = weight(self._scores[call.caller])
        self._contributions[task_id, call.caller] = Contribution(
            status=ContributionStatus.CONTRIBUTED,
            result_hash=result_hash,
            result_seal=result_seal,
            enclave_challenge=enclave_challenge,
            weight=log2_weight(its_weight),
        )
        task = replace(task, contributors=(*task.contributors, call.caller))
        self._tasks[task_id] = task
        self.escrow.lock(call.caller, deal.worker_stake)
        self._emit(self.hub, TaskContribute(task_id=task_id, worker=call.caller, result_hash=result_hash))

        tally = self._tallies[task_id].add(result_hash, its_weight)
        self._tallies[task_id] = tally
        if tally.is_reached(result_hash, deal.trust):
            self._reach_consensus(call, task_id, task, result_hash)

    @operation
    def reveal(self, call: Call, task_id: TaskId, result_digest: Hash32) -> None:
        """Publish the digest behind hash and seal of a winning contribution."""
        task = self._tasks[task_id]
        contribution = self._contributions[task_id, call.caller]
        require(task.status is TaskStatus.REVEALING, "the task is not in its reveal phase")
        require(call.now < task.reveal_deadline, "the reveal deadline is over")
        require(
            contribution.status is ContributionStatus.CONTRIBUTED,
            "this worker has nothing to reveal in this task",
        )
        require(contribution.result_hash == task.consensus, "this worker's result is not the consensus")
        require(
            contribution.result_hash == result_hash(task_id, result_digest),
            "the digest does not fit the contributed hash",
        )
        require(
            contribution.result_seal == result_seal(call.caller, task_id, result_digest),
            "the digest does not fit the contributed seal",
        )
        self._contributions[task_id, call.caller] = replace(contribution, status=ContributionStatus.PROVED)
        self._tasks[task_id] = replace(
            task, reveal_counter=task.reveal_counter + 1, result_digest=result_digest
        )
        self._emit(self.hub, TaskReveal(task_id=task_id, worker=call.caller, digest=result_digest))

    @operation
    def reopen(self, call: Call, task_id: TaskId) -> None:
        """Start over when nobody revealed in time: the winners are rejected, others may contribute."""
        task = self._tasks[task_id]
        self._require_scheduler(call, task)
        require(
            deadlines.is_reopenable(task, call.now),
            "reopen needs a reveal phase that is over without any reveal, before the final deadline",
        )
        for worker in task.contributors:
            contribution = self._contributions[task_id, worker]
            if contribution.result_hash == task.consensus:
                self._contributions[task_id, worker] = replace(
                    contribution, status=ContributionStatus.REJECTED
                )
        self._tallies[task_id] = self._tallies[task_id].drop(task.consensus)
        self._tasks[task_id] = replace(
            task,
            status=TaskStatus.ACTIVE,
            consensus=NOTHING,
            reveal_deadline=Timestamp(0),
            winner_counter=0,
        )
        self._emit(self.hub, TaskReopen(task_id=task_id))

    @operation
    def finalize(self, call: Call, task_id: TaskId, results: bytes, results_callback: bytes) -> None:
        """Close a revealed task: pay everybody, punish the faulty, hand the result to the callback."""
        task = self._tasks[task_id]
        deal = self._deals[task.deal_id]
        self._require_scheduler(call, task)
        require(
            deadlines.is_finalizable(task, call.now),
            "finalize needs all reveals, or one and the reveal deadline over, before the final deadline",
        )
        self._require_callback(deal, results_callback, task.result_digest)
        self._tasks[task_id] = replace(
            task, status=TaskStatus.COMPLETED, results=results, results_callback=results_callback
        )
        contributions = [(worker, self._contributions[task_id, worker]) for worker in task.contributors]
        payout = rewards.finalize_payout(deal, contributions, self.escrow.kitty)
        self._pay_success(deal, task_id, payout)
        for share in payout.workers:
            if share.is_faulty:
                self.escrow.seize(share.worker, share.stake, task_id)
            else:
                self.escrow.unlock(share.worker, share.stake)
                self.escrow.reward(share.worker, share.reward, task_id)
            self._score(share, task_id)
        self.escrow.reward(deal.workerpool.owner, payout.scheduler, task_id)
        self._emit(self.hub, TaskFinalize(task_id=task_id, results=results))

    @operation
    def contribute_and_finalize(
        self,
        call: Call,
        task_id: TaskId,
        result_digest: Hash32,
        results: bytes,
        results_callback: bytes,
        enclave_challenge: Address,
        enclave_sign: bytes,
        authorization_sign: bytes,
    ) -> None:
        """Do a trust-1 task in one transaction by its first contributor, without stake or score."""
        task = self._tasks[task_id]
        deal = self._deals[task.deal_id]
        self._require_contributable(call, task)
        require(not task.contributors, "somebody has contributed to the task before")
        require(deal.trust == 1, "only for tasks of trust 1")
        its_hash = result_hash(task_id, result_digest)
        its_seal = result_seal(call.caller, task_id, result_digest)
        self._require_callback(deal, results_callback, result_digest)
        self._require_authorized(call, task_id, deal, enclave_challenge, authorization_sign)
        self._require_enclave(enclave_challenge, its_hash, its_seal, enclave_sign)

        self._contributions[task_id, call.caller] = Contribution(
            status=ContributionStatus.PROVED,
            result_hash=its_hash,
            result_seal=its_seal,
            enclave_challenge=enclave_challenge,
            weight=0,
        )
        self._tasks[task_id] = replace(
            task,
            status=TaskStatus.COMPLETED,
            consensus=its_hash,
            reveal_deadline=Timestamp(uint256(deadlines.reveal_deadline(call.now, task.timeref))),
            reveal_counter=1,
            winner_counter=1,
            contributors=(call.caller,),
            result_digest=result_digest,
            results=results,
            results_callback=results_callback,
        )
        payout = rewards.fast_payout(deal, call.caller, self.escrow.kitty)
        self._pay_success(deal, task_id, payout)
        self.escrow.reward(call.caller, payout.workers[0].reward, task_id)
        self.escrow.reward(deal.workerpool.owner, payout.scheduler, task_id)
        self._emit(self.hub, TaskContribute(task_id=task_id, worker=call.caller, result_hash=its_hash))
        self._emit(self.hub, TaskConsensus(task_id=task_id, consensus=its_hash))
        self._emit(self.hub, TaskReveal(task_id=task_id, worker=call.caller, digest=result_digest))
        self._emit(self.hub, TaskFinalize(task_id=task_id, results=results))

    @operation
    def claim(self, call: Call, task_id: TaskId) -> None:
        """Give up a task after its final deadline; anybody."""
        self._claim(call, task_id)

    @operation
    def claim_array(self, call: Call, task_ids: Sequence[TaskId]) -> None:
        """Give up several tasks, all or none."""
        for task_id in task_ids:
            self._claim(call, task_id)

    @operation
    def initialize_and_claim_array(
        self, call: Call, deal_ids: Sequence[DealId], indexes: Sequence[int]
    ) -> None:
        """Free the money of tasks that were never opened, all or none."""
        require(len(deal_ids) == len(indexes), "one index per deal id")
        for deal_id, index in zip(deal_ids, indexes, strict=True):
            self._claim(call, self._initialize(deal_id, index))

    # --- steps of these

    def _initialize(self, deal_id: DealId, index: int) -> TaskId:
        deal = self._deals[deal_id]
        require(
            deal.bot_first <= index < deal.bot_first + deal.bot_size, "the deal has no task of this index"
        )
        task_id = ids.task_id(deal_id, index)
        require(self._tasks[task_id].status is TaskStatus.UNSET, "the task is initialized already")
        timeref = self._categories[deal.category].timeref
        final_deadline = Timestamp(uint256(deadlines.final_deadline(deal.start_time, timeref)))
        self._tasks[task_id] = replace(
            NO_TASK,
            status=TaskStatus.ACTIVE,
            deal_id=deal_id,
            index=index,
            timeref=timeref,
            contribution_deadline=deadlines.contribution_deadline(deal.start_time, timeref),
            final_deadline=final_deadline,
        )
        self._emit(self.hub, TaskInitialize(task_id=task_id, workerpool=deal.workerpool.pointer))
        return task_id

    def _claim(self, call: Call, task_id: TaskId) -> None:
        task = self._tasks[task_id]
        deal = self._deals[task.deal_id]
        require(deadlines.is_claimable(task, call.now), "claim needs an open task past its final deadline")
        self._tasks[task_id] = replace(task, status=TaskStatus.FAILED)
        payout = rewards.claim_payout(deal, task.contributors)
        self.escrow.unlock(deal.sponsor, payout.sponsor_locked)
        self.escrow.seize(deal.workerpool.owner, payout.pool_stake, task_id)
        self.escrow.feed_kitty(payout.pool_stake, task_id)
        for share in payout.workers:
            self.escrow.unlock(share.worker, share.stake)
        self._emit(self.hub, TaskClaimed(task_id=task_id))

    def _reach_consensus(self, call: Call, task_id: TaskId, task: OnchainTask, result_hash: Hash32) -> None:
        winners = 0
        for worker in task.contributors:
            contribution = self._contributions[task_id, worker]
            if (
                contribution.result_hash == result_hash
                and contribution.status is ContributionStatus.CONTRIBUTED
            ):
                winners += 1
        self._tasks[task_id] = replace(
            task,
            status=TaskStatus.REVEALING,
            consensus=result_hash,
            reveal_deadline=Timestamp(uint256(deadlines.reveal_deadline(call.now, task.timeref))),
            reveal_counter=0,
            winner_counter=winners,
        )
        self._emit(self.hub, TaskConsensus(task_id=task_id, consensus=result_hash))

    def _pay_success(self, deal: Deal, task_id: TaskId, payout: rewards.Payout) -> None:
        """Pay app and dataset, free the pool's stake, open the kitty: the same for both ways to succeed."""
        self.escrow.seize(deal.sponsor, payout.sponsor_locked, task_id)
        if payout.app > 0:
            self.escrow.reward(deal.app.owner, payout.app, task_id)
        if payout.dataset > 0 and deal.dataset.pointer:
            self.escrow.reward(deal.dataset.owner, payout.dataset, task_id)
        self.escrow.unlock(deal.workerpool.owner, payout.pool_stake)
        if payout.kitty_bonus > 0:
            self.escrow.seize(rewards.KITTY_ADDRESS, payout.kitty_bonus, task_id)
            self.escrow.reward(deal.workerpool.owner, payout.kitty_bonus, task_id)

    def _score(self, share: rewards.WorkerPayout, task_id: TaskId) -> None:
        if not share.is_scored:
            return
        self._scores[share.worker] = rewards.score_after(self._scores[share.worker], share)
        verdict = FaultyContribution if share.is_faulty else AccurateContribution
        self._emit(self.hub, verdict(worker=share.worker, task_id=task_id))

    def _require_contributable(self, call: Call, task: OnchainTask) -> None:
        require(task.status is TaskStatus.ACTIVE, "the task takes no contributions: not ACTIVE")
        require(deadlines.is_contributable(task, call.now), "the contribution deadline is over")

    def _require_authorized(
        self, call: Call, task_id: TaskId, deal: Deal, enclave_challenge: Address, authorization: bytes
    ) -> None:
        require(bool(enclave_challenge) or not deal.tag & TEE, "a TEE task needs an enclave challenge")
        teebroker = self._teebroker[None]
        signer = teebroker if enclave_challenge and teebroker else deal.workerpool.owner
        digest = authorization_digest(call.caller, task_id, enclave_challenge)
        require(
            self.is_signature_of(signer, digest, authorization),
            "the authorization is not for this worker, task and enclave, or not by the scheduler",
        )

    def _require_enclave(
        self, enclave_challenge: Address, result_hash: Hash32, result_seal: Hash32, signature: bytes
    ) -> None:
        require(
            not enclave_challenge
            or self.is_signature_of(enclave_challenge, enclave_digest(result_hash, result_seal), signature),
            "the enclave did not sign this hash and seal",
        )

    def _require_callback(self, deal: Deal, results_callback: bytes, result_digest: Hash32) -> None:
        require(
            (not deal.callback and not results_callback) or keccak(results_callback) == result_digest,
            "the callback bytes must hash to the result digest",
        )

    def _require_scheduler(self, call: Call, task: OnchainTask) -> None:
        require(
            call.caller == self._deals[task.deal_id].workerpool.owner,
            "only the owner the workerpool had at the match, and only for a task that exists",
        )
