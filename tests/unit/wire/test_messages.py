"""Everything that is said or stored by the two minds survives the codec."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import get_args

import pytest

import factories as f
from poolwright.poco.errors import PeerError
from poolwright.poco.types import BlockNumber, NRlc, Timestamp, TxHash
from poolwright.scheduler import effects as asks
from poolwright.scheduler import events, pool
from poolwright.scheduler import task as tasks
from poolwright.scheduler.pool import Worker
from poolwright.scheduler.standing import Rules
from poolwright.scheduler.task import Task
from poolwright.wire import codec, messages
from poolwright.wire.messages import AbortCause, Details
from poolwright.wire.statuses import ReplicateStatus
from poolwright.worker import attempt as attempts
from poolwright.worker import effects as deeds
from poolwright.worker import events as news
from poolwright.worker.attempt import Attempt

S = ReplicateStatus
DEAL = f.deal_terms()
TASK = f.task_of(DEAL)
AT = Timestamp(f.START)
DETAILS = Details(
    cause="APP_COMPUTE_FAILED",
    message="exit code 3 — see the log",
    exit_code=3,
    tx_hash=TxHash(f.hash32("tx")),
    block=BlockNumber(7),
    result_link=f.LINK,
    callback=b"\x00\xff",
    bytes_count=2**40,
    milliseconds=12,
)
RESULT = news.Result(digest=f.DIGEST, callback=b"callback")

SCHEDULER_EVENTS = [
    f.deal_matched(DEAL),
    f.initialized(TASK),
    f.contributed(TASK),
    f.consensus_reached(TASK),
    f.revealed(TASK),
    f.reopened(TASK, f.START + 700),
    f.finalized(TASK),
    f.contributed_and_finalized(TASK),
    f.claimed(TASK),
    f.connected(gpu=True, tee_frameworks=["scone"]),
    f.silent(),
    f.reported(TASK, f.ALICE, S.COMPUTE_FAILED, details=DETAILS),
    f.upload_verified(TASK),
    f.upload_missing(TASK),
    f.submission_failed(TASK, asks.Submission.REOPEN, f.START, attempt=3),
    events.OperatorSetRules(at=AT, rules=Rules(allowed=frozenset({f.ALICE}), min_version="0.2", faults=3)),
    events.OperatorDrainedWorker(at=AT, worker=f.ALICE, reason="new disk"),
    events.OperatorResumedWorker(at=AT, worker=f.ALICE),
    events.OperatorAllowedWorker(at=AT, worker=f.ALICE, is_allowed=False),
    events.OperatorNamedOwner(at=AT, worker=f.ALICE, owner="a house"),
    f.tick(f.START),
]
SCHEDULER_EFFECTS = [
    asks.Submit(
        task_id=TASK,
        deal_id=DEAL.deal_id,
        index=0,
        submission=asks.Submission.FINALIZE,
        attempt=2,
        results=f.LINK,
        callback=b"\x01",
    ),
    asks.VerifyUpload(task_id=TASK, worker=f.ALICE, link=f.LINK, callback=b"", attempt=2),
    asks.TellWorkerStart(worker=f.ALICE, task_id=TASK, deal_id=DEAL.deal_id, index=0, block=BlockNumber(2)),
    asks.TellWorkerReveal(worker=f.ALICE, task_id=TASK, block=BlockNumber(9), deadline=AT),
    asks.TellWorkerUpload(worker=f.ALICE, task_id=TASK, attempt=2),
    asks.TellWorkerComplete(worker=f.ALICE, task_id=TASK),
    asks.TellWorkerAbort(worker=f.ALICE, task_id=TASK, cause=AbortCause.CONTRIBUTION_TIMEOUT),
]
INSTRUCTIONS = [f.start(TASK), f.reveal(TASK), f.upload(TASK), f.complete(TASK), f.abort(TASK)]
WORKER_EVENTS = [
    *(news.SchedulerInstructed(at=AT, instruction=instruction) for instruction in INSTRUCTIONS),
    news.TaskDescribed(at=AT, task_id=TASK, terms=f.terms()),
    news.TaskRefused(at=AT, task_id=TASK, status=S.OUT_OF_GAS, cause="OUT_OF_GAS", message="0 ETH"),
    news.AppDownloaded(at=AT, task_id=TASK),
    news.AppDownloadFailed(at=AT, task_id=TASK, cause="X", message="m"),
    news.DataDownloaded(at=AT, task_id=TASK),
    news.DataDownloadFailed(at=AT, task_id=TASK, cause="X", message="m"),
    news.AppComputed(at=AT, task_id=TASK, result=RESULT, exit_code=0, milliseconds=5),
    news.AppComputeFailed(at=AT, task_id=TASK, cause="X", message="m", exit_code=None, milliseconds=5),
    news.FailureDescribed(at=AT, task_id=TASK, result=RESULT),
    news.FailureNotDescribed(at=AT, task_id=TASK, cause="X", message="m"),
    news.ContributionChecked(at=AT, task_id=TASK, verdict=S.CAN_CONTRIBUTE),
    news.ContributionMined(at=AT, task_id=TASK, tx_hash=None, block=None),
    news.ContributionFailed(at=AT, task_id=TASK, status=S.CONTRIBUTE_FAILED, message="m"),
    news.RevealChecked(at=AT, task_id=TASK, can_reveal=True),
    news.RevealMined(at=AT, task_id=TASK, tx_hash=TxHash(f.hash32("t")), block=BlockNumber(4)),
    news.RevealFailed(at=AT, task_id=TASK, status=S.REVEAL_FAILED, message="m"),
    news.ResultUploaded(at=AT, task_id=TASK, link=f.LINK, bytes_count=9),
    news.ResultUploadFailed(at=AT, task_id=TASK, message="m"),
    news.TaskPurged(at=AT, task_id=TASK),
]
WORKER_EFFECTS = [
    deeds.DescribeTask(task_id=TASK, start=f.start(TASK)),
    deeds.DownloadApp(task_id=TASK, terms=f.terms()),
    deeds.DownloadData(task_id=TASK, terms=f.terms()),
    deeds.Compute(task_id=TASK, terms=f.terms()),
    deeds.DescribeFailure(task_id=TASK, terms=f.terms(), cause="X", exit_code=None),
    deeds.DeliverResult(
        task_id=TASK, enclave_challenge=f.address("enclave"), authorization=bytes(65), until=AT
    ),
    deeds.CheckContribution(task_id=TASK, terms=f.terms(), is_delivered=True),
    deeds.SubmitContributeAndFinalize(
        task_id=TASK,
        digest=f.DIGEST,
        link=f.LINK,
        callback=b"\x01",
        enclave_challenge=f.address("enclave"),
        authorization=bytes(65),
    ),
    deeds.SubmitContribute(
        task_id=TASK, digest=f.DIGEST, enclave_challenge=f.address("enclave"), authorization=bytes(65)
    ),
    deeds.CheckReveal(task_id=TASK, digest=f.DIGEST, reveal=f.reveal(TASK)),
    deeds.SubmitReveal(task_id=TASK, digest=f.DIGEST),
    deeds.UploadResult(task_id=TASK, number=4),
    deeds.Purge(task_id=TASK),
    deeds.Report(task_id=TASK, status=S.COMPUTED, number=3, details=DETAILS),
]
WORKER_MESSAGES = [
    messages.Hello(protocol=1, journal=f.hash32("j"), ledger=None, received=0, capacity=f.capacity(slots=3)),
    messages.Reported(sequence=4, task_id=TASK, status=S.COMPUTED, details=DETAILS),
    messages.Confirm(upto=3),
    messages.Heartbeat(),
]
SCHEDULER_MESSAGES = [
    messages.Welcome(ledger=f.hash32("l"), received=2, heartbeat_seconds=20, results_url="http://x"),
    *(messages.Instructed(sequence=1, instruction=instruction) for instruction in INSTRUCTIONS),
    messages.Confirm(upto=3),
    messages.Notice(code="draining", message="new disk"),
    messages.Refused(code="foreign", message="not on the list"),
]
UNIONS = [
    (events.PoolEvent, SCHEDULER_EVENTS),
    (asks.Effect, SCHEDULER_EFFECTS),
    (news.Event, WORKER_EVENTS),
    (deeds.Effect, WORKER_EFFECTS),
    (messages.WorkerMessage, WORKER_MESSAGES),
    (messages.SchedulerMessage, SCHEDULER_MESSAGES),
    (messages.Instruction, INSTRUCTIONS),
]


@pytest.mark.parametrize(("union", "samples"), UNIONS)
def test_the_samples_leave_no_member_of_a_union_out(union: object, samples: list[object]) -> None:
    assert {type(sample) for sample in samples} == set(get_args(union))


@pytest.mark.parametrize(
    ("union", "value"), [(union, value) for union, values in UNIONS for value in values], ids=str
)
def test_a_value_reads_back_as_it_was_written(union: object, value: object) -> None:
    assert codec.decode(union, codec.encode(value)) == value


def test_a_task_with_a_whole_life_reads_back_as_it_was() -> None:
    task = f.uploading_task()
    task = f.told(task, f.upload_verified(task.id)).task
    failed = f.submission_failed(task.id, asks.Submission.FINALIZE, f.START + 125)
    task = f.told(task, failed).task

    assert task.setback
    assert codec.decode(Task, codec.encode(task)) == task
    assert codec.decode(Task, codec.encode(f.active_task(f.ALICE, f.BOB))) == f.active_task(f.ALICE, f.BOB)


def test_a_task_with_passed_deadlines_and_a_claim_in_flight_reads_back_as_it_was() -> None:
    task = tasks.tick(f.active_task(f.ALICE), f.FINAL_DEADLINE).task

    assert task.in_flight
    assert task.passed
    assert codec.decode(Task, codec.encode(task)) == task


def test_a_worker_reads_back_as_it_was() -> None:
    state, _ = f.pool_after(f.deal_matched(DEAL), f.initialized(TASK), f.connected(slots=2))
    worker = state.workers[f.ALICE]

    assert worker.computing == {TASK}
    assert codec.decode(Worker, codec.encode(worker)) == worker


def test_a_restored_pool_knows_what_the_live_one_knew() -> None:
    live, _ = f.pool_after(
        f.deal_matched(DEAL), f.initialized(TASK), f.connected(slots=2), f.connected(f.BOB)
    )
    again = pool.restored(live.now, live.tasks.values(), live.workers.values())

    assert again.tasks == live.tasks
    assert again.deals == live.deals
    assert again.supply.free == live.supply.free
    assert again.supply.needy == live.supply.needy
    assert pool.next_deadline(again) == pool.next_deadline(live)


def test_an_attempt_reads_back_as_it_was() -> None:
    attempt = attempts.begun(f.start(TASK)).attempt
    for event in (
        news.TaskDescribed(at=AT, task_id=TASK, terms=f.terms()),
        news.AppDownloadFailed(at=AT, task_id=TASK, cause="X", message="m"),
        news.FailureDescribed(at=AT, task_id=TASK, result=RESULT),
    ):
        attempt = attempts.step(attempt, event).attempt

    assert attempt.result == RESULT
    assert codec.decode(Attempt, codec.encode(attempt)) == attempt


def test_a_start_of_a_scheduler_that_knows_only_the_long_way_asks_for_the_long_way() -> None:
    text = codec.encode(f.start(TASK), messages.Instruction).decode()
    older = text.replace(',"contribute_and_finalize":false', "")

    assert older != text
    assert codec.decode(messages.Instruction, older) == f.start(TASK)


def test_amounts_are_decimal_strings() -> None:
    written = codec.to_json(f.deal_terms())

    assert isinstance(written, dict)
    assert written["workerpool_price"] == str(NRlc(10**9))


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"Reported","sequence":1}',
        '{"type":"Reported","sequence":"1","task_id":"0x00","status":"COMPUTED"}',
        '{"type":"Confirm","upto":1,"and":2}',
        '{"type":"Goodbye"}',
        "[]",
        "{",
    ],
)
def test_a_foreign_or_broken_message_is_refused(text: str) -> None:
    with pytest.raises(PeerError):
        codec.decode(messages.WorkerMessage, text)


def test_every_event_says_when() -> None:
    for union in (events.PoolEvent, news.Event):
        for event in get_args(union):
            assert is_dataclass(event)
            assert "at" in {field.name for field in fields(event)}
