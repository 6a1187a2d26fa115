"""Who gets what when a task ends: the contract's shares, to the last nRLC.

Three ends: `finalize` (consensus, reveals, the usual way), `contributeAndFinalize` (one trusted worker in one
transaction) and `claim` (out of time, everybody gets the money back except the pool, whose stake goes to
the kitty). Each function here returns a `Payout`; the hub's model turns it into transfers, the scheduler's
ledger compares it with the chain. All amounts are nRLC, all divisions round down, and what rounding leaves
over goes to the pool's owner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from poolwright.poco.records import Contribution, ContributionStatus, Deal
from poolwright.poco.types import Address, NRlc

WORKERPOOL_STAKE_RATIO = 30
"""Percent of the pool's price that the pool's owner locks per task; a constant, not the pool's policy."""
KITTY_RATIO = 10
"""Percent of the kitty that a successful task gives to the pool's owner."""
KITTY_MIN = NRlc(10**9)
"""... but at least 1 RLC, as far as there is that much."""
KITTY_ADDRESS = Address.parse("0x99c2268479b93fDe36232351229815DF80837e23")
"""Account whose locked money is the kitty; nobody has its key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPayout:
    """What the end of a task means for one of its contributors."""

    worker: Address
    reward: NRlc
    """Paid to the free balance; 0 for a faulty contribution and for claim."""
    stake: NRlc
    """The locked stake, given back or lost."""
    is_faulty: bool
    """True loses the stake: wrong result, not revealed in time, or rejected by a reopen."""
    is_scored: bool
    """True when the score changes (`score_after`); faulty ones always, good ones only among two or more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Payout:
    """All the money that moves when one task ends."""

    sponsor_locked: NRlc
    """Taken from the payer's locked money: spent on success, given back by claim."""
    app: NRlc
    dataset: NRlc
    pool_stake: NRlc
    """The pool owner's lock for this task: given back on success, to the kitty by claim."""
    kitty_bonus: NRlc
    """From the kitty to the pool's owner."""
    workers: tuple[WorkerPayout, ...]
    scheduler: NRlc
    """The pool owner's part of price and lost stakes, rounding dust included."""


def task_price(deal: Deal) -> NRlc:
    """Return what one task costs its payer: app, dataset and pool prices."""
    return NRlc(deal.app.price + deal.dataset.price + deal.workerpool.price)


def pool_stake(workerpool_price: NRlc) -> NRlc:
    """Return what the pool's owner locks per task (rounded down per task, then times the volume)."""
    return NRlc(workerpool_price * WORKERPOOL_STAKE_RATIO // 100)


def worker_stake(workerpool_price: NRlc, worker_stake_ratio: int) -> NRlc:
    """Return what a worker locks per contribution under the pool's policy (percent, may exceed 100)."""
    return NRlc(workerpool_price * worker_stake_ratio // 100)


def kitty_bonus(kitty: NRlc) -> NRlc:
    """Return the part of the kitty that one successful task frees: a tenth, at least 1 RLC, at most all."""
    return NRlc(min(max(kitty * KITTY_RATIO // 100, KITTY_MIN), kitty))


def score_after(score: int, payout: WorkerPayout) -> int:
    """Return the worker's score after this task: one more for a good one, two thirds for a faulty one.

    Rule: Poco2 `distributeRewards`, score policies 2 and 3.
    """
    if not payout.is_scored:
        return score
    return score * 2 // 3 if payout.is_faulty else score + 1


def finalize_payout(deal: Deal, contributions: Sequence[tuple[Address, Contribution]], kitty: NRlc) -> Payout:
    """Share out a finalized task; `contributions` in the order in which they came.

    The stakes of everybody who is not PROVED join the pool's price; the workers' part of that goes to the
    PROVED ones by the logarithm of their weight. Rule: Poco2 `successWork` and `distributeRewards`.
    """
    proved_weight = 0
    to_share = deal.workerpool.price
    for _, contribution in contributions:
        if contribution.status is ContributionStatus.PROVED:
            proved_weight += contribution.weight
        else:
            to_share = NRlc(to_share + deal.worker_stake)
    workers_part = to_share * (100 - deal.scheduler_reward_ratio) // 100
    workers = []
    scheduler = to_share
    for worker, contribution in contributions:
        is_faulty = contribution.status is not ContributionStatus.PROVED
        reward = 0 if is_faulty else workers_part * contribution.weight // proved_weight
        scheduler = NRlc(scheduler - reward)
        workers.append(
            WorkerPayout(
                worker=worker,
                reward=NRlc(reward),
                stake=deal.worker_stake,
                is_faulty=is_faulty,
                is_scored=is_faulty or len(contributions) > 1,
            )
        )
    return _success(deal, kitty, tuple(workers), scheduler)


def fast_payout(deal: Deal, worker: Address, kitty: NRlc) -> Payout:
    """Share out a task ended by contributeAndFinalize: no stake, no score, the owner's ratio off the price.

    Rule: Poco2 `successWork` and `distributeRewardsFast`.
    """
    reward = NRlc(deal.workerpool.price * (100 - deal.scheduler_reward_ratio) // 100)
    only = WorkerPayout(worker=worker, reward=reward, stake=NRlc(0), is_faulty=False, is_scored=False)
    return _success(deal, kitty, (only,), NRlc(deal.workerpool.price - reward))


def claim_payout(deal: Deal, contributors: Sequence[Address]) -> Payout:
    """Undo a task that ran out of time: payer and workers get theirs back, the pool's stake is lost.

    Rule: Poco2 `failedWork` and `claim`; right, wrong and rejected contributors are treated alike.
    """
    return Payout(
        sponsor_locked=task_price(deal),
        app=NRlc(0),
        dataset=NRlc(0),
        pool_stake=pool_stake(deal.workerpool.price),
        kitty_bonus=NRlc(0),
        workers=tuple(
            WorkerPayout(
                worker=worker, reward=NRlc(0), stake=deal.worker_stake, is_faulty=False, is_scored=False
            )
            for worker in contributors
        ),
        scheduler=NRlc(0),
    )


def _success(deal: Deal, kitty: NRlc, workers: tuple[WorkerPayout, ...], scheduler: NRlc) -> Payout:
    return Payout(
        sponsor_locked=task_price(deal),
        app=deal.app.price,
        dataset=deal.dataset.price,
        pool_stake=pool_stake(deal.workerpool.price),
        kitty_bonus=kitty_bonus(kitty),
        workers=workers,
        scheduler=scheduler,
    )
