"""Who may upload what, and when: the table of `results.checks`, one row per test."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poolwright.poco.keccak import keccak
from poolwright.poco.records import ContributionStatus, TaskStatus
from poolwright.poco.results import result_hash
from poolwright.poco.types import Address, Hash32, TaskId, Timestamp, WorkerAddress
from poolwright.results.checks import ChainFacts, Computed, check_content, check_uploader, read_computed
from poolwright.results.errors import NotAllowed, TooEarly, WrongContent
from poolwright.wire.uploads import result_link

TASK = TaskId(Hash32(keccak(b"task")))
WORKER = WorkerAddress(Address(b"\x07" * 20))
DIGEST = Hash32(keccak(b"digest"))
CID = "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH"
REVEALED = ChainFacts(
    now=Timestamp(100),
    task_status=TaskStatus.REVEALING,
    final_deadline=Timestamp(200),
    results=b"",
    contribution_status=ContributionStatus.PROVED,
    result_hash=result_hash(TASK, DIGEST),
)
FINALIZED = replace(REVEALED, task_status=TaskStatus.COMPLETED, results=result_link(CID))


def test_a_revealer_may_upload_until_the_final_deadline():
    check_uploader(TASK, WORKER, replace(REVEALED, now=Timestamp(199)))


def test_at_the_final_deadline_it_may_not():
    with pytest.raises(NotAllowed, match="final deadline"):
        check_uploader(TASK, WORKER, replace(REVEALED, now=Timestamp(200)))


def test_a_revealer_of_a_finalized_task_may_bring_the_result_back_for_ever():
    check_uploader(TASK, WORKER, replace(FINALIZED, now=Timestamp(10**9)))


@pytest.mark.parametrize("status", [TaskStatus.UNSET, TaskStatus.ACTIVE])
def test_before_consensus_is_too_early(status):
    with pytest.raises(TooEarly) as refused:
        check_uploader(TASK, WORKER, replace(REVEALED, task_status=status))

    assert refused.value.code == "task-not-revealing"


def test_a_failed_task_takes_no_result():
    with pytest.raises(NotAllowed, match="has failed"):
        check_uploader(TASK, WORKER, replace(REVEALED, task_status=TaskStatus.FAILED))


def test_a_contribution_not_revealed_yet_is_too_early():
    with pytest.raises(TooEarly) as refused:
        check_uploader(TASK, WORKER, replace(REVEALED, contribution_status=ContributionStatus.CONTRIBUTED))

    assert refused.value.code == "not-revealed"


def test_a_contribution_never_revealed_is_refused_once_the_task_is_finalized():
    with pytest.raises(NotAllowed):
        check_uploader(TASK, WORKER, replace(FINALIZED, contribution_status=ContributionStatus.CONTRIBUTED))


@pytest.mark.parametrize("status", [ContributionStatus.UNSET, ContributionStatus.REJECTED])
@pytest.mark.parametrize("facts", [REVEALED, FINALIZED])
def test_a_stranger_is_refused(facts, status):
    with pytest.raises(NotAllowed) as refused:
        check_uploader(TASK, WORKER, replace(facts, contribution_status=status))

    assert refused.value.code == "not-a-revealer"


def test_the_revealed_digest_is_accepted_among_others():
    check_content(TASK, REVEALED, [Hash32.zero(), DIGEST], "any cid")


@pytest.mark.parametrize("digests", [[], [Hash32.zero()], [REVEALED.result_hash]])
def test_any_other_digest_is_refused(digests):
    with pytest.raises(WrongContent) as refused:
        check_content(TASK, REVEALED, digests, CID)

    assert refused.value.code == "digest-mismatch"


def test_a_finalized_task_takes_only_the_bytes_its_link_names():
    check_content(TASK, FINALIZED, [DIGEST], CID)

    with pytest.raises(WrongContent) as refused:
        check_content(TASK, FINALIZED, [DIGEST], "QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o")

    assert refused.value.code == "link-mismatch"


@pytest.mark.parametrize("results", [b"", b"callback bytes", b'{"storage":"dropbox","location":"/x"}'])
def test_a_finalized_task_without_an_ipfs_link_takes_any_bytes_of_that_digest(results):
    check_content(TASK, replace(FINALIZED, results=results), [DIGEST], "any cid")


def test_computed_json_names_the_output_below_iexec_out():
    computed = read_computed(b'{"deterministic-output-path": "/iexec_out/sub/result.txt", "other": 1}')

    assert computed == Computed(output=PurePosixPath("sub/result.txt"), callback=None)


def test_computed_json_may_name_the_whole_folder():
    assert read_computed(b'{"deterministic-output-path": "/iexec_out/"}').output == PurePosixPath()


@pytest.mark.parametrize("text", ["0x0102", "0102"])
def test_computed_json_may_carry_callback_data(text):
    content = json.dumps({"callback-data": text, "deterministic-output-path": ""}).encode()

    assert read_computed(content) == Computed(output=None, callback=b"\1\2")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b"[" * 900,
        b'{"deterministic-output-path": 5}',
        b'{"deterministic-output-path": "/etc/passwd"}',
        b'{"deterministic-output-path": "/iexec_out_too/x"}',
        b'{"deterministic-output-path": "/iexec_out/../etc/passwd"}',
        b'{"deterministic-output-path": "result.txt"}',
        b'{"callback-data": "0xzz"}',
        b'{"callback-data": 17}',
        b'{"error-message": "went wrong"}',
    ],
)
def test_computed_json_that_names_nothing_usable_is_refused(content):
    with pytest.raises(WrongContent):
        read_computed(content)


@settings(deadline=None)
@given(
    st.recursive(st.none() | st.integers() | st.text(), lambda x: st.dictionaries(st.text(), x) | st.lists(x))
)
def test_any_json_is_read_or_refused(value):
    with suppress(WrongContent):
        read_computed(json.dumps({"deterministic-output-path": value, "callback-data": value}).encode())
