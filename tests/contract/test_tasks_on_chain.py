"""Tasks from initialize to their end: the checked numbers and each refusal, on both sides."""

from __future__ import annotations

from typing import Any

import pytest
from cast import BROKER, ENCLAVES, PROVIDER, REQUESTER, SCHEDULER, SPONSOR, STRANGER, WORKERS, Person
from stage import NOBODY, STAKE_EACH, Stage, callback_bytes, digest

from poolwright.poco.ids import task_id
from poolwright.poco.matching import Policy
from poolwright.poco.records import ContributionStatus, TaskStatus
from poolwright.poco.results import result_hash, result_seal
from poolwright.poco.revert import Revert
from poolwright.poco.rewards import KITTY_ADDRESS
from poolwright.poco.tags import TEE
from poolwright.poco.types import DealId, Hash32, NRlc, TaskId, Timestamp

pytestmark = pytest.mark.chain

NOVICES, CLERK, EXPERT, MASTER = WORKERS[:2], WORKERS[2], WORKERS[3], WORKERS[4]


def refused(result: object, reason: str = "") -> None:
    assert isinstance(result, Revert), f"expected a revert, got {result}"
    assert (result.reason, result.panic) == (reason, 0)


def accepted(result: object) -> None:
    assert not isinstance(result, Revert), result


def gains(stage: Stage, before: dict[str, int]) -> dict[str, int]:
    return {name: money - before[name] for name, money in money_of(stage).items() if money != before[name]}


def money_of(stage: Stage) -> dict[str, int]:
    """Free and locked SRLC of everybody, together."""
    return {each.name: total(stage, each) for each in (PROVIDER, SCHEDULER, REQUESTER, *WORKERS)}


def total(stage: Stage, who: Person) -> int:
    account = stage.poco.account(who.address)
    return account.stake + account.locked


def status(stage: Stage, task: TaskId) -> TaskStatus:
    return stage.poco.task(task).status


# --- initialize


def test_only_tasks_of_the_deal_are_initialized_and_each_once(stage: Stage) -> None:
    deal = stage.deal(request={"volume": 2})

    refused(stage.initialize(STRANGER.address, deal, 2))
    refused(stage.initialize(STRANGER.address, DealId(Hash32.zero()), 0))
    accepted(stage.initialize(STRANGER.address, deal, 1))
    refused(stage.initialize(STRANGER.address, deal, 1))
    refused(stage.initialize_array(STRANGER.address, [deal, deal], [0, 1]))
    assert status(stage, task_id(deal, 0)) is TaskStatus.UNSET
    refused(stage.initialize_array(STRANGER.address, [deal], []))
    accepted(stage.initialize_array(STRANGER.address, [deal], [0]))


def test_task_can_be_initialized_even_after_its_final_deadline(stage: Stage) -> None:
    deal = stage.deal()
    start = stage.poco.deal(deal).start_time

    accepted(stage.initialize(STRANGER.address, deal, 0, at=Timestamp(start + 3_001)))
    accepted(stage.claim(STRANGER.address, task_id(deal, 0)))


def test_deadlines_count_from_the_match(stage: Stage) -> None:
    deal = stage.deal(request={"category": 1}, workerpool={"category": 1})
    start = stage.poco.deal(deal).start_time
    stage.initialize(STRANGER.address, deal, 0, at=Timestamp(start + 777))
    task = stage.poco.task(task_id(deal, 0))

    assert task.contribution_deadline == start + 7 * 1200
    assert task.final_deadline == start + 10 * 1200


# --- contribute


def test_contribution_is_in_time_until_the_second_before_the_deadline(stage: Stage) -> None:
    task = stage.task(request={"trust": 8})
    deadline = stage.poco.task(task).contribution_deadline

    accepted(stage.contribute_as(WORKERS[0], task, at=Timestamp(deadline - 1)))
    refused(stage.contribute_as(WORKERS[1], task, at=deadline))


def test_worker_contributes_once(stage: Stage) -> None:
    task = stage.task(request={"trust": 8})
    accepted(stage.contribute_as(WORKERS[0], task))

    refused(stage.contribute_as(WORKERS[0], task))


def test_worker_needs_the_stake_free(stage: Stage) -> None:
    task = stage.task()
    stage.withdraw(WORKERS[0].address, STAKE_EACH - 8_749)

    refused(stage.contribute_as(WORKERS[0], task), "IexecEscrow: Transfer amount exceeds balance")
    stage.deposit_for(STRANGER.address, 1, WORKERS[0].address)
    accepted(stage.contribute_as(WORKERS[0], task))
    assert stage.stake_of(WORKERS[0].address) == 0


def test_unknown_task_takes_no_contribution(stage: Stage) -> None:
    worker, nothing = WORKERS[0].address, Hash32.zero()
    sign = SCHEDULER.authorize(worker, TaskId(nothing), NOBODY)

    refused(stage.contribute(worker, TaskId(nothing), nothing, nothing, NOBODY, b"", sign))


@pytest.mark.parametrize(
    ("signer", "worker", "other_task", "reason"),
    [
        (STRANGER, WORKERS[0], False, ""),
        (SCHEDULER, WORKERS[1], False, ""),
        (SCHEDULER, WORKERS[0], True, ""),
        (BROKER, WORKERS[0], False, ""),
    ],
    ids=["by a stranger", "for another worker", "for another task", "by the broker without enclave"],
)
def test_authorization_must_be_the_schedulers_for_this_worker_and_task(
    stage: Stage, signer: Person, worker: Person, other_task: bool, reason: str
) -> None:
    stage.set_tee_broker(stage.deployment.deployer, BROKER.address)
    task = stage.task()
    signed = TaskId(Hash32.zero()) if other_task else task
    sign = signer.authorize(worker.address, signed, NOBODY)
    its_hash = result_hash(task, digest("a"))

    refused(stage.contribute(WORKERS[0].address, task, its_hash, its_hash, NOBODY, b"", sign), reason)
    refused(
        stage.contribute_and_finalize(WORKERS[0].address, task, digest("a"), b"", b"", NOBODY, b"", sign),
        reason,
    )
    accepted(stage.contribute_as(WORKERS[0], task))


@pytest.mark.parametrize("length", [0, 20, 66])
def test_authorization_of_unknown_form_has_its_own_text(stage: Stage, length: int) -> None:
    task = stage.task()
    its_hash = result_hash(task, digest("a"))

    refused(
        stage.contribute(WORKERS[0].address, task, its_hash, its_hash, NOBODY, b"", bytes(length)),
        "invalid-signature-format",
    )


def test_scheduler_may_work_itself(stage: Stage) -> None:
    task = stage.task()
    accepted(stage.contribute_as(SCHEDULER, task))
    accepted(stage.reveal_as(SCHEDULER, task))
    accepted(stage.finalize_it(task))


# --- enclaves


@pytest.fixture
def tee_task(stage: Stage) -> TaskId:
    return stage.task(app={"tag": TEE}, workerpool={"tag": TEE}, request={"tag": TEE})


def test_tee_task_needs_an_enclave_that_signed_hash_and_seal(stage: Stage, tee_task: TaskId) -> None:
    worker, enclave = WORKERS[0], ENCLAVES[0]
    its_hash = result_hash(tee_task, digest("a"))
    seal = result_seal(worker.address, tee_task, digest("a"))
    sign = SCHEDULER.authorize(worker.address, tee_task, enclave.address)

    refused(stage.contribute_as(worker, tee_task))
    for attestation, reason in (
        (ENCLAVES[1].attest(its_hash, seal), ""),
        (enclave.attest(seal, its_hash), ""),
        (b"", "invalid-signature-format"),
    ):
        refused(
            stage.contribute(worker.address, tee_task, its_hash, seal, enclave.address, attestation, sign),
            reason,
        )
    accepted(stage.contribute_as(worker, tee_task, enclave=enclave))


def test_tee_broker_authorizes_in_the_schedulers_place(stage: Stage, tee_task: TaskId) -> None:
    refused(stage.set_tee_broker(STRANGER.address, BROKER.address), "Ownable: caller is not the owner")
    stage.set_tee_broker(stage.deployment.deployer, BROKER.address)
    worker, enclave = WORKERS[0], ENCLAVES[0]
    its_hash = result_hash(tee_task, digest("a"))
    seal = result_seal(worker.address, tee_task, digest("a"))
    by_scheduler = SCHEDULER.authorize(worker.address, tee_task, enclave.address)

    attestation = enclave.attest(its_hash, seal)
    refused(
        stage.contribute(worker.address, tee_task, its_hash, seal, enclave.address, attestation, by_scheduler)
    )
    accepted(stage.contribute_as(worker, tee_task, enclave=enclave))


def test_enclave_signature_is_ignored_without_challenge_and_used_without_tag(stage: Stage) -> None:
    first = stage.task(request={"trust": 8})
    its_hash = result_hash(first, digest("a"))
    sign = SCHEDULER.authorize(WORKERS[0].address, first, NOBODY)

    accepted(stage.contribute(WORKERS[0].address, first, its_hash, its_hash, NOBODY, b"\x01", sign))
    accepted(stage.contribute_as(WORKERS[1], first, enclave=ENCLAVES[0]))


# --- consensus


@pytest.mark.parametrize(
    ("trust", "needed"), [(0, 1), (1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (8, 3), (9, 4), (16, 4)]
)
def test_novices_who_agree_reach_trust_two_to_the_power_of_their_number(
    stage: Stage, trust: int, needed: int
) -> None:
    task = stage.task(request={"trust": trust})
    novices = [*NOVICES, PROVIDER, SPONSOR]
    for contributions, worker in enumerate(novices[:needed], 1):
        accepted(stage.contribute_as(worker, task))
        assert (status(stage, task) is TaskStatus.REVEALING) == (contributions == needed)


def test_one_dissenter_at_trust_8_makes_three_agreeing_novices_five(stage: Stage) -> None:
    task = stage.task(request={"trust": 8})
    stage.contribute_as(WORKERS[0], task, "b")
    for worker in (WORKERS[1], PROVIDER, SPONSOR, REQUESTER):
        stage.contribute_as(worker, task)
        assert status(stage, task) is TaskStatus.ACTIVE
    stage.contribute_as(STRANGER, task)

    assert status(stage, task) is TaskStatus.REVEALING


def test_expert_reaches_trust_16_alone_and_not_17(stage: Stage) -> None:
    reached, missed = stage.task(request={"trust": 16}), stage.task(request={"trust": 17})
    stage.contribute_as(EXPERT, reached)
    stage.contribute_as(EXPERT, missed)

    assert status(stage, reached) is TaskStatus.REVEALING
    assert status(stage, missed) is TaskStatus.ACTIVE


@pytest.mark.parametrize(
    ("worker", "weight", "log2"),
    [(WORKERS[0], 2, 1), (CLERK, 3, 1), (EXPERT, 16, 4), (MASTER, 99, 6)],
    ids=["score 0", "score 14", "score 51", "score 300"],
)
def test_weight_follows_the_score(stage: Stage, worker: Person, weight: int, log2: int) -> None:
    task = stage.task(request={"trust": 100})
    stage.contribute_as(worker, task)

    assert stage.poco.tally(task).groups == {result_hash(task, digest("a")): weight}
    assert stage.poco.tally(task).total == 1 + weight
    assert stage.poco.contribution(task, worker.address).weight == log2


# --- reveal


def test_only_winners_reveal_and_only_what_fits_hash_and_seal(stage: Stage) -> None:
    task = stage.task(request={"trust": 3})
    stage.contribute_as(WORKERS[0], task, "b")
    stage.contribute_as(EXPERT, task)
    other = WORKERS[1]

    refused(stage.reveal_as(WORKERS[0], task, "b"))
    refused(stage.reveal_as(WORKERS[0], task, "a"))
    refused(stage.reveal_as(other, task))
    refused(stage.reveal_as(EXPERT, task, "b"))
    accepted(stage.reveal_as(EXPERT, task))
    refused(stage.reveal_as(EXPERT, task))


def test_wrong_seal_is_accepted_and_cannot_be_revealed(stage: Stage) -> None:
    task = stage.task()
    its_hash = result_hash(task, digest("a"))
    sign = SCHEDULER.authorize(WORKERS[0].address, task, NOBODY)

    accepted(stage.contribute(WORKERS[0].address, task, its_hash, its_hash, NOBODY, b"", sign))
    refused(stage.reveal_as(WORKERS[0], task))


def test_reveal_is_in_time_until_the_second_before_its_deadline_even_past_the_final_one(stage: Stage) -> None:
    task = stage.task(request={"trust": 3})
    last = Timestamp(stage.poco.task(task).contribution_deadline - 1)
    stage.contribute_as(WORKERS[0], task)
    stage.contribute_as(WORKERS[1], task, at=last)
    deadline = stage.poco.task(task).reveal_deadline

    assert deadline == last + 600
    accepted(stage.reveal_as(WORKERS[0], task, at=Timestamp(deadline - 1)))
    refused(stage.reveal_as(WORKERS[1], task, at=deadline))


def test_task_that_is_not_revealing_takes_no_reveal(stage: Stage) -> None:
    refused(stage.reveal_as(WORKERS[0], stage.task()))


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


def at_once(stage: Stage, worker: Person, task: TaskId, **more: Any) -> Any:
    sign = SCHEDULER.authorize(worker.address, task, NOBODY)
    return stage.contribute_and_finalize(
        worker.address, task, digest("a"), b"link", b"", NOBODY, b"", sign, **more
    )


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


# --- money


def test_money_that_is_not_there_is_refused_without_text(stage: Stage) -> None:
    who = WORKERS[0].address
    refused(stage.deposit(who, STAKE_EACH + 1))
    refused(stage.withdraw(who, STAKE_EACH + 1))
    refused(stage.transfer(who, STRANGER.address, STAKE_EACH + 1))
    refused(stage.rlc_transfer(who, STRANGER.address, 10**18))
    refused(stage.transfer_from(STRANGER.address, who, STRANGER.address, 1))
    refused(stage.transfer(who, NOBODY, 1), "ERC20: transfer to the zero address")
    refused(stage.deposit_for(who, 1, NOBODY), "ERC20: mint to the zero address")
    refused(stage.approve(who, NOBODY, 1), "ERC20: approve to the zero address")
    refused(stage.deposit_for_array(who, [1], []), "invalid-array-length")


def test_allowance_is_used_up(stage: Stage) -> None:
    accepted(stage.approve(SPONSOR.address, STRANGER.address, 10))
    accepted(stage.transfer_from(STRANGER.address, SPONSOR.address, WORKERS[0].address, 7))
    refused(stage.transfer_from(STRANGER.address, SPONSOR.address, WORKERS[0].address, 4))
    accepted(stage.transfer_from(STRANGER.address, SPONSOR.address, WORKERS[0].address, 3))


def test_rlc_is_approved_and_deposited_in_one_transaction(stage: Stage) -> None:
    accepted(stage.rlc_approve_and_call(SPONSOR.address, 7))
    refused(stage.rlc_approve_and_call(SPONSOR.address, STAKE_EACH))

    assert stage.stake_of(SPONSOR.address) == STAKE_EACH + 7


def test_locked_money_cannot_be_withdrawn(stage: Stage) -> None:
    stage.deal(request={"volume": 1})

    refused(stage.withdraw(REQUESTER.address, STAKE_EACH - 26_499))
    accepted(stage.withdraw(REQUESTER.address, STAKE_EACH - 26_500))


def test_rlc_sent_to_the_hub_by_mistake_goes_to_its_owner(stage: Stage) -> None:
    stage.rlc_transfer(SPONSOR.address, stage.hub, 5)
    owner = stage.deployment.deployer
    before = stage.poco.account(owner).stake

    refused(stage.recover(SPONSOR.address), "Ownable: caller is not the owner")
    accepted(stage.recover(owner))
    assert stage.poco.account(owner).stake == before + 5


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
