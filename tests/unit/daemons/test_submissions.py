"""What a submission means on the chain, by values."""

from __future__ import annotations

from dataclasses import replace

import pytest

from factories import START, TIMEREF, deal_terms, task_of
from poolwright.chain.budget import Priority
from poolwright.daemons.submissions import (
    GAS_EACH,
    MOST_TOGETHER,
    calldata,
    calldata_of_many,
    key_of_many,
    members_of,
    most_together,
    priority_of,
)
from poolwright.poco.records import NO_TASK
from poolwright.poco.types import Timestamp
from poolwright.scheduler.effects import Submission, Submit

DEAL = deal_terms(bot_size=3)
TASK = replace(
    NO_TASK,
    timeref=TIMEREF,
    contribution_deadline=Timestamp(START + 7 * TIMEREF),
    final_deadline=Timestamp(START + 10 * TIMEREF),
)


def wish(index: int, submission: Submission, attempt: int = 1) -> Submit:
    task_id = task_of(DEAL, index)
    return Submit(task_id=task_id, deal_id=DEAL.deal_id, index=index, submission=submission, attempt=attempt)


@pytest.mark.parametrize("submission", GAS_EACH)
def test_a_call_for_many_names_its_members(submission: Submission) -> None:
    wishes = [wish(index, submission) for index in range(3)]

    members = members_of(calldata_of_many(submission, wishes))

    assert list(members) == [(submission, task_of(DEAL, index)) for index in range(3)]


def test_a_call_for_one_or_of_others_names_nobody() -> None:
    assert members_of(calldata(wish(0, Submission.INITIALIZE))) == []
    assert members_of(b"") == []
    assert members_of(calldata_of_many(Submission.CLAIM, [wish(0, Submission.CLAIM)])[:-1]) == []


def test_a_key_is_of_these_attempts_in_any_order_and_of_no_others() -> None:
    one, two = wish(0, Submission.CLAIM), wish(1, Submission.CLAIM)
    key = key_of_many(Submission.CLAIM, [one, two])

    assert key_of_many(Submission.CLAIM, [two, one]) == key
    assert key_of_many(Submission.CLAIM, [one]) != key
    assert key_of_many(Submission.CLAIM, [one, wish(1, Submission.CLAIM, attempt=2)]) != key


@pytest.mark.parametrize(
    ("gas_each", "block_gas", "most"),
    [(180_000, 30_000_000, 33), (180_000, 6_700_000, 7), (180_000, 100, 1), (1, 30_000_000, MOST_TOGETHER)],
)
def test_as_many_go_together_as_fit_a_fifth_of_a_block(gas_each: int, block_gas: int, most: int) -> None:
    assert most_together(gas_each, block_gas) == most


@pytest.mark.parametrize("submission", Submission)
def test_only_what_keeps_the_stake_passes_a_limit_on_fees_and_at_last_every_limit(
    submission: Submission,
) -> None:
    saves = submission in (Submission.FINALIZE, Submission.REOPEN)
    ends = TASK.final_deadline if submission is Submission.FINALIZE else TASK.contribution_deadline

    early = priority_of(submission, TASK, Timestamp(ends - TIMEREF - 1))
    late = priority_of(submission, TASK, Timestamp(ends - TIMEREF))

    assert early is (Priority.SAVING if saves else Priority.ORDINARY)
    assert late is (Priority.URGENT if saves else Priority.ORDINARY)
