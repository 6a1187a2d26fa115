"""The worker's hands on an engine and a chain in memory: problems are told once, and never at any length."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from factories import START, TIMEREF, address, deal_terms, hash32, task_of, terms
from hub_twin import HubTwin
from poolwright.chain.journal import MemoryTxJournal
from poolwright.chain.wallet import Wallet
from poolwright.compute.fake import AppRun, FakeEngine, FakeHost
from poolwright.daemons.config import worker_config
from poolwright.daemons.mailbox import Mailbox
from poolwright.daemons.together import Latest
from poolwright.daemons.worker_hands import MAX_PROBLEM, WorkerHands, pull_seconds
from poolwright.poco.errors import Unavailable
from poolwright.poco.types import BlockHash, BlockNumber, BlockStamp, Seconds
from poolwright.store.memory import MemoryStore
from poolwright.store.port import EffectId
from poolwright.wire.messages import MAX_CALLBACK_BYTES
from poolwright.worker.effects import Compute, DownloadApp
from poolwright.worker.events import AppComputed, AppComputeFailed, AppDownloadFailed

IMAGE = "registry/app:1"
TASK = task_of(deal_terms())
TERMS = replace(terms(), image=IMAGE, has_callback=True)


class StandingHeads:
    """One block, for ever."""

    current = BlockStamp(BlockNumber(7), BlockHash(hash32("block 7")), START)


def hands(folder: Path, callback: bytes = b"\x01") -> WorkerHands:
    async def app(run: AppRun) -> int:
        computed = {"callback-data": "0x" + callback.hex()}
        (run.spec.output_dir / "computed.json").write_text(json.dumps(computed))
        return 0

    wallet = Wallet(b"\x02" * 32)
    nothing: Any = None  # what these effects do not touch
    return WorkerHands(
        config=worker_config(
            {
                "IEXEC_BLOCKCHAIN_NODE_ADDRESS": "http://127.0.0.1:9",
                "IEXEC_CHAIN_ID": "1",
                "IEXEC_HUB_ADDRESS": str(address("hub")),
                "POOL_ADDRESS": str(address("pool")),
                "IEXEC_WORKER_WALLET_PATH": "/nowhere",
                "IEXEC_CORE_URL": "http://127.0.0.1:9",
                "IEXEC_WORKER_BASE_DIR": str(folder),
            }
        ),
        wallet=wallet,
        hub=HubTwin(),  # type: ignore[arg-type]  # a twin with what is used here
        heads=StandingHeads(),  # type: ignore[arg-type]  # a twin with what is used here
        sender=nothing,
        journal=MemoryTxJournal(),
        engine=FakeEngine(FakeHost(apps={IMAGE: app}), worker=wallet.address, network="test"),
        http=nothing,
        mailbox=Mailbox(MemoryStore(), "scheduler"),
        results_url=Latest(),
        logs=asyncio.Queue(),
    )


async def test_callback_that_no_message_could_carry_fails_the_computation(tmp_path: Path) -> None:
    longest, longer = bytes(MAX_CALLBACK_BYTES), bytes(MAX_CALLBACK_BYTES + 1)
    effect = Compute(task_id=TASK, terms=TERMS)

    [computed] = await hands(tmp_path / "a", longest).carry_out(effect, EffectId(1))
    [failed] = await hands(tmp_path / "b", longer).carry_out(effect, EffectId(1))

    assert isinstance(computed, AppComputed)
    assert computed.result.callback == longest
    assert isinstance(failed, AppComputeFailed)
    assert failed.cause == "CALLBACK_TOO_LONG"
    assert failed.message == "callback: expected at most 16384 bytes, got 16385"


async def test_problem_is_logged_once_and_whole_but_reported_in_part(tmp_path: Path) -> None:
    problem = Unavailable("no engine " * 1_000)

    with capture_logs() as lines:
        [event] = hands(tmp_path).gave_up(DownloadApp(task_id=TASK, terms=TERMS), problem)

    assert isinstance(event, AppDownloadFailed)
    assert event.message == str(problem)[:MAX_PROBLEM]
    [line] = lines
    assert (line["log_level"], line["event"], line["task"]) == ("warning", "app not downloaded", str(TASK))
    assert line["reason"] == str(problem)


async def test_what_goes_well_is_not_warned_of(tmp_path: Path) -> None:
    with capture_logs() as lines:
        await hands(tmp_path).carry_out(Compute(task_id=TASK, terms=TERMS), EffectId(1))

    assert lines == []


@pytest.mark.parametrize(("timeref", "minutes"), [(TIMEREF, 5), (3_600, 8), (36_000, 18), (10**9, 30)])
def test_pull_may_take_longer_in_a_larger_category(timeref: int, minutes: int) -> None:
    assert pull_seconds(Seconds(timeref)) == 60 * minutes
