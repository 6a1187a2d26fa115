"""Odd deals are explained, and their tasks take their way all the same."""

from __future__ import annotations

import pytest

import factories as f
from poolwright.daemons.oddities import oddities
from poolwright.poco.tags import GPU, NO_TAG, SCONE, TDX, TEE, Tag
from poolwright.poco.types import Timestamp
from poolwright.scheduler import pool as pools
from poolwright.scheduler import why
from poolwright.scheduler.effects import Submission, Submit


def of(*, tag: Tag = NO_TAG, params: str = "", now: int = f.START) -> tuple[str, ...]:
    return oddities(tag=tag, params=params, start_time=f.START, timeref=f.TIMEREF, now=Timestamp(now))


@pytest.mark.parametrize("tag", [NO_TAG, GPU, TEE | SCONE, TEE | TDX | GPU])
@pytest.mark.parametrize(
    "params", ["", "{}", '{"iexec_args": "a \'b c\'", "iexec_input_files": ["http://x"]}']
)
def test_a_usual_deal_is_not_odd(tag: Tag, params: str) -> None:
    assert of(tag=tag, params=params, now=f.CONTRIBUTION_DEADLINE - 1) == ()


def test_a_deal_that_comes_late_says_until_when_its_tasks_wait() -> None:
    [late] = of(now=f.CONTRIBUTION_DEADLINE)
    [expired] = of(now=f.FINAL_DEADLINE)

    assert f"its tasks are claimed at {f.FINAL_DEADLINE}" in late
    assert "its tasks are claimed at once" in expired


@pytest.mark.parametrize(
    ("tag", "said"),
    [
        (Tag(1 << 200), "demands bit-200, which no worker can offer"),
        (SCONE, "demands scone without tee"),
        (TEE | SCONE | TDX, "demands scone and tdx at once, which no enclave is"),
    ],
)
def test_a_tag_that_nobody_can_serve_is_named(tag: Tag, said: str) -> None:
    assert said in " ".join(of(tag=tag))


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ("run this", "no JSON object; the whole text is the command: 'run this'"),
        ("[1, 2]", "no JSON object"),
        ("\ufffd\ufffd", "no JSON object"),
        ('{"iexec_input_files": {"a": 1}}', "iexec_input_files: expected a list, got {'a': 1}"),
        ('{"iexec_args": "it\'s"}', "cannot be split into arguments"),
        ("it's {", "cannot be split into arguments"),
        ("[" * 100_000, "no JSON object"),
    ],
)
def test_params_that_cannot_be_read_are_shown(params: str, said: str) -> None:
    found = " ".join(of(params=params))

    assert said in found
    assert len(found) < 500


def test_who_asks_why_is_told_what_is_odd_last() -> None:
    deal = f.deal_terms(tag=Tag(1 << 200), oddities=("the deal demands bit-200",))
    pool, _ = f.pool_after(f.deal_matched(deal), f.initialized(f.task_of(deal)), f.connected())

    first, *_, last = why.waits(pool, pool.tasks[f.task_of(deal)])

    assert "does not offer bit-200" in first.text
    assert (last.what, last.text) == ("note", "the deal demands bit-200")


def test_a_task_that_nobody_can_serve_is_claimed_when_its_time_is_over() -> None:
    deal = f.deal_terms(tag=Tag(1 << 200))
    pool, _ = f.pool_after(f.deal_matched(deal), f.initialized(f.task_of(deal)), f.connected())

    assert pools.next_deadline(pool) == f.CONTRIBUTION_DEADLINE
    pools.step(pool, f.tick(f.CONTRIBUTION_DEADLINE))
    [claim] = pools.step(pool, f.tick(f.FINAL_DEADLINE)).effects

    assert isinstance(claim, Submit)
    assert claim.submission is Submission.CLAIM
