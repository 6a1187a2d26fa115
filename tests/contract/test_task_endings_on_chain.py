"""The ends of tasks, and who gets what: the checked numbers and each refusal, on both sides."""

from __future__ import annotations

from typing import Any

import pytest
from cast import BROKER, REQUESTER, SCHEDULER, SPONSOR, STRANGER, WORKERS
from stage import NOBODY, STAKE_EACH, Stage, callback_bytes, digest
from story import CLERK, EXPERT, NOVICES, accepted, at_once, gains, money_of, refused, status, total

from poolwright.poco.ids import task_id
from poolwright.poco.matching import Policy
from poolwright.poco.records import ContributionStatus, TaskStatus
from poolwright.poco.rewards import KITTY_ADDRESS
from poolwright.poco.types import NRlc, TaskId, Timestamp

pytestmark = pytest.mark.chain


# --- finalize: who gets what


def test_one_worker_gets_95_percent_and_the_pool_the_rest(stage: Stage) -> None:
    before = money_of(stage)
    task = stage.task(request={"volume": 1})
    stage.contribute_as(WORKERS[0], task)
    assert stage.poco.account(WORKERS[0].address).locked == 8_750
    assert stage.poco.account(SCHEDULER.address).locked == 7_500
    stage.reveal_as(WORKERS[0], task)
    accepted(stage.finalize_it(task))

    assert gains(stage, before) == {
        "provider": 1_500, "scheduler": 1_250, "requester": -26_500, "worker 0": 23_750,
    }  # fmt: skip
    assert stage.poco.score(WORKERS[0].address) == 0


def test_five_good_and_one_bad_share_price_and_lost_stake(stage: Stage) -> None:
    good = [WORKERS[1], SPONSOR, STRANGER, BROKER, REQUESTER]
    task = stage.task(request={"trust": 11, "volume": 1})
    before = {each.name: total(stage, each) for each in (WORKERS[0], SCHEDULER, *good)}
    stage.contribute_as(WORKERS[0], task, "b")
    for worker in good:
        assert status(stage, task) is TaskStatus.ACTIVE
        accepted(stage.contribute_as(worker, task))
    for worker in good:
        accepted(stage.reveal_as(worker, task))
    accepted(stage.finalize_it(task))

    after = {each.name: total(stage, each) for each in (WORKERS[0], SCHEDULER, *good)}
    changes = {name: after[name] - before[name] for name in before}
    assert changes.pop("requester") == 6_412 - 26_500
    assert changes == {
        "worker 0": -8_750,
        "scheduler": 1_690,
        "worker 1": 6_412,
        "sponsor": 6_412,
        "stranger": 6_412,
        "tee broker": 6_412,
    }


def test_winner_who_did_not_reveal_in_time_pays_the_one_who_did(stage: Stage) -> None:
    before = money_of(stage)
    task = stage.task(request={"trust": 3, "volume": 1})
    stage.contribute_as(WORKERS[0], task)
    stage.contribute_as(WORKERS[1], task)
    stage.reveal_as(WORKERS[0], task)
    deadline = stage.poco.task(task).reveal_deadline

    refused(stage.finalize_it(task, at=Timestamp(deadline - 1)))
    accepted(stage.finalize_it(task, at=deadline))
    assert gains(stage, before) == {
        "provider": 1_500, "scheduler": 1_688, "requester": -26_500, "worker 0": 32_062, "worker 1": -8_750,
    }  # fmt: skip
    assert stage.poco.score(WORKERS[0].address) == 1
    assert stage.poco.score(WORKERS[1].address) == 0


def test_weights_16_and_2_share_four_to_one(stage: Stage) -> None:
    before = money_of(stage)
    task = stage.task(request={"trust": 17, "volume": 1})
    stage.contribute_as(EXPERT, task)
    stage.contribute_as(WORKERS[0], task)
    for worker in (EXPERT, WORKERS[0]):
        stage.reveal_as(worker, task)
    accepted(stage.finalize_it(task))

    assert gains(stage, before) == {
        "provider": 1_500, "scheduler": 1_250, "requester": -26_500, EXPERT.name: 19_000, "worker 0": 4_750,
    }  # fmt: skip
    assert stage.poco.score(EXPERT.address) == 52


def test_faulty_worker_keeps_two_thirds_of_its_score(stage: Stage) -> None:
    task = stage.task(request={"trust": 5})
    stage.contribute_as(CLERK, task, "b")
    stage.contribute_as(EXPERT, task)
    stage.contribute_as(WORKERS[0], task)
    stage.reveal_as(EXPERT, task)
    accepted(stage.finalize_it(task, at=stage.poco.task(task).reveal_deadline))

    assert stage.poco.score(CLERK.address) == 9
    assert stage.poco.score(EXPERT.address) == 52


def test_only_the_scheduler_finalizes_and_not_before_the_reveals(stage: Stage) -> None:
    task = stage.task()
    refused(stage.finalize_it(task))
    stage.contribute_as(WORKERS[0], task)
    refused(stage.finalize_it(task))
    refused(stage.finalize_it(task, at=stage.poco.task(task).reveal_deadline))
    with stage.rewound():
        refused(stage.finalize(STRANGER.address, task, b""))


def test_finalize_is_in_time_until_the_second_before_the_final_deadline(stage: Stage) -> None:
    task = stage.task()
    stage.contribute_as(WORKERS[0], task)
    stage.reveal_as(WORKERS[0], task)
    deadline = stage.poco.task(task).final_deadline

    with stage.rewound():
        accepted(stage.finalize_it(task, at=Timestamp(deadline - 1)))
    refused(stage.finalize_it(task, at=deadline))


def test_pool_that_was_sold_keeps_its_deals_with_the_former_owner(stage: Stage) -> None:
    task = stage.task()
    kind = stage.poco.workerpools.kind
    stage.transfer_entry(SCHEDULER.address, kind, SCHEDULER.address, STRANGER.address, stage.pool)
    stage.contribute_as(WORKERS[0], task)
    stage.reveal_as(WORKERS[0], task)

    refused(stage.finalize(STRANGER.address, task, b""))
    accepted(stage.finalize(SCHEDULER.address, task, b""))


def test_price_of_nothing_still_moves_through_all_steps(stage: Stage) -> None:
    before = money_of(stage)
    task = stage.task(with_dataset=False, app={"appprice": NRlc(0)}, workerpool={"workerpoolprice": NRlc(0)})
    stage.contribute_as(WORKERS[0], task)
    stage.reveal_as(WORKERS[0], task)
    accepted(stage.finalize_it(task))

    assert gains(stage, before) == {}


def test_policy_of_100_percent_leaves_the_workers_nothing(stage: Stage) -> None:
    stage.change_policy(
        SCHEDULER.address, stage.pool, Policy(worker_stake_ratio=0, scheduler_reward_ratio=100)
    )
    before = money_of(stage)
    task = stage.task(request={"volume": 1})
    stage.contribute_as(WORKERS[0], task)
    stage.reveal_as(WORKERS[0], task)
    accepted(stage.finalize_it(task))

    assert gains(stage, before) == {"provider": 1_500, "scheduler": 25_000, "requester": -26_500}


# --- callback


@pytest.mark.parametrize("at_once", [False, True], ids=["finalize", "contributeAndFinalize"])
def test_callback_bytes_must_hash_to_the_digest(stage: Stage, at_once: bool) -> None:
    def end(task: TaskId, callback: bytes) -> Any:
        worker = WORKERS[0]
        if at_once:
            sign = SCHEDULER.authorize(worker.address, task, NOBODY)
            return stage.contribute_and_finalize(
                worker.address, task, digest("a"), b"", callback, NOBODY, b"", sign
            )
        return stage.finalize_it(task, b"", callback=callback)

    for callback in (NOBODY, stage.client, STRANGER.address):
        task = stage.task(request={"callback": callback})
        if not at_once:
            stage.contribute_as(WORKERS[0], task)
            stage.reveal_as(WORKERS[0], task)
        refused(end(task, b"other bytes"))
        if callback:
            refused(end(task, b""))
        accepted(end(task, callback_bytes("a")))
        assert stage.poco.result_for(task) == callback_bytes("a")


# --- contributeAndFinalize


def test_all_at_once_needs_no_stake_and_changes_no_score(stage: Stage) -> None:
    before = money_of(stage)
    task = stage.task(request={"volume": 1})
    stage.withdraw(EXPERT.address, STAKE_EACH)
    before[EXPERT.name] = 0
    accepted(at_once(stage, EXPERT, task))

    assert gains(stage, before) == {
        "provider": 1_500, "scheduler": 1_250, "requester": -26_500, EXPERT.name: 23_750,
    }  # fmt: skip
    assert stage.poco.score(EXPERT.address) == 51
    assert stage.poco.contribution(task, EXPERT.address).weight == 0


def test_all_at_once_only_for_trust_1_in_time_and_by_the_first_contributor(stage: Stage) -> None:
    refused(at_once(stage, WORKERS[0], stage.task(request={"trust": 2})))
    task = stage.task()
    with stage.rewound():
        refused(at_once(stage, WORKERS[0], task, at=stage.poco.task(task).contribution_deadline))
    stage.contribute_as(WORKERS[0], task)
    refused(at_once(stage, WORKERS[1], task))
    stage.reopen(SCHEDULER.address, task, at=stage.poco.task(task).reveal_deadline)
    assert status(stage, task) is TaskStatus.ACTIVE
    refused(at_once(stage, WORKERS[1], task))


# --- reopen


def test_reopen_rejects_the_winners_who_may_not_come_back(stage: Stage) -> None:
    task = stage.task(request={"trust": 3})
    for worker in NOVICES:
        stage.contribute_as(worker, task)
    deadline = stage.poco.task(task).reveal_deadline

    with stage.rewound():
        refused(stage.reopen(SCHEDULER.address, task, at=Timestamp(deadline - 1)))
    with stage.rewound():
        refused(stage.reopen(STRANGER.address, task, at=deadline))
    accepted(stage.reopen(SCHEDULER.address, task, at=deadline))
    refused(stage.contribute_as(WORKERS[0], task))
    refused(stage.reopen(SCHEDULER.address, task))
    accepted(stage.contribute_as(EXPERT, task))
    assert stage.poco.task(task).winner_counter == 1
    assert stage.poco.contribution(task, WORKERS[0].address).status is ContributionStatus.REJECTED
    refused(stage.reveal_as(WORKERS[0], task))
    accepted(stage.reveal_as(EXPERT, task))
    before = {each.name: total(stage, each) for each in (*NOVICES, EXPERT)}
    accepted(stage.finalize_it(task))
    after = {each.name: total(stage, each) for each in (*NOVICES, EXPERT)}
    assert {name: after[name] - before[name] for name in before} == {
        "worker 0": -8_750,
        "worker 1": -8_750,
        EXPERT.name: (25_000 + 2 * 8_750) * 95 // 100,
    }


def test_reopen_is_not_possible_after_a_reveal_or_the_final_deadline(stage: Stage) -> None:
    revealed = stage.task(request={"trust": 3})
    for worker in NOVICES:
        stage.contribute_as(worker, revealed)
    stage.reveal_as(WORKERS[0], revealed)
    silent = stage.task()
    stage.contribute_as(WORKERS[0], silent)

    refused(stage.reopen(SCHEDULER.address, revealed, at=stage.poco.task(revealed).reveal_deadline))
    refused(stage.reopen(SCHEDULER.address, silent, at=stage.poco.task(silent).final_deadline))


# --- claim and the kitty


def test_claim_gives_everybody_the_money_back_but_the_pool(stage: Stage) -> None:
    before = money_of(stage)
    task = stage.task(request={"trust": 8, "volume": 1})
    stage.contribute_as(WORKERS[0], task, "a")
    stage.contribute_as(CLERK, task, "b")
    deadline = stage.poco.task(task).final_deadline

    refused(stage.claim(STRANGER.address, task, at=Timestamp(deadline - 1)))
    accepted(stage.claim(STRANGER.address, task, at=deadline))
    refused(stage.claim(STRANGER.address, task))
    assert gains(stage, before) == {"scheduler": -7_500}
    assert stage.poco.account(KITTY_ADDRESS).locked == 7_500
    assert stage.poco.account(KITTY_ADDRESS).stake == 0
    assert stage.poco.score(CLERK.address) == 14


def test_sponsor_gets_the_money_of_a_claimed_task_back_and_pays_a_finalized_one(stage: Stage) -> None:
    accepted(stage.sponsor_match(SPONSOR.address, stage.orders(request={"volume": 2})))
    accepted(stage.initialize_array(STRANGER.address, [stage.deals[-1]] * 2, [0, 1]))
    done, lost = stage.tasks[-2:]
    accepted(at_once(stage, WORKERS[0], done))
    accepted(stage.claim(STRANGER.address, lost, at=stage.poco.task(lost).final_deadline))

    assert stage.poco.account(SPONSOR.address).locked == 0
    assert stage.stake_of(SPONSOR.address) == STAKE_EACH - 26_500
    assert stage.stake_of(REQUESTER.address) == STAKE_EACH


def test_claim_arrays_are_all_or_nothing(stage: Stage) -> None:
    deal = stage.deal(request={"volume": 3})
    accepted(stage.initialize(STRANGER.address, deal, 0))
    first = task_id(deal, 0)
    start = stage.poco.deal(deal).start_time
    refused(stage.claim_array(STRANGER.address, [first]))
    refused(stage.initialize_and_claim_array(STRANGER.address, [deal], [1]))
    stage.now = Timestamp(start + 3_000)

    refused(stage.claim_array(STRANGER.address, [first, first]))
    refused(stage.initialize_and_claim_array(STRANGER.address, [deal, deal], [1, 0]))
    refused(stage.initialize_and_claim_array(STRANGER.address, [deal], [1, 2]))
    accepted(stage.claim_array(STRANGER.address, [first]))
    accepted(stage.initialize_and_claim_array(STRANGER.address, [deal, deal], [1, 2]))
    assert stage.poco.account(REQUESTER.address).locked == 0
    assert stage.poco.escrow.kitty == 22_500


@pytest.mark.parametrize("pool_price", [3 * 10**9, 100 * 10**9], ids=["less than 1 RLC", "more than 10 RLC"])
def test_next_success_gets_a_tenth_of_the_kitty_at_least_1_rlc_at_most_all(
    stage: Stage, pool_price: int
) -> None:
    lost = stage.task(workerpool={"workerpoolprice": NRlc(pool_price)}, request={"volume": 1})
    stage.claim(STRANGER.address, lost, at=stage.poco.task(lost).final_deadline)
    kitty = pool_price * 30 // 100
    assert stage.poco.escrow.kitty == kitty
    bonus = min(max(kitty // 10, 10**9), kitty)

    for _ in range(2):
        before = money_of(stage)
        task = stage.task(request={"volume": 1})
        accepted(at_once(stage, WORKERS[0], task))
        assert gains(stage, before)["scheduler"] == 1_250 + bonus
        kitty -= bonus
        bonus = min(max(kitty // 10, 10**9), kitty)
