"""Tasks from initialize to the last reveal: the checked numbers and each refusal, on both sides."""

from __future__ import annotations

import pytest
from cast import BROKER, ENCLAVES, PROVIDER, REQUESTER, SCHEDULER, SPONSOR, STRANGER, WORKERS, Person
from stage import NOBODY, STAKE_EACH, Stage, digest
from story import CLERK, EXPERT, MASTER, NOVICES, accepted, refused, status

from poolwright.poco.ids import task_id
from poolwright.poco.records import TaskStatus
from poolwright.poco.results import result_hash, result_seal
from poolwright.poco.tags import TEE
from poolwright.poco.types import DealId, Hash32, TaskId, Timestamp

pytestmark = pytest.mark.chain


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
