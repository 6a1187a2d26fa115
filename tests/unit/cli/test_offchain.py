"""What a scheduler knows of a task, in the official client's shape; and where a result is saved."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from poolwright.cli.iexec.downloads import result_path
from poolwright.cli.iexec.errors import IexecError
from poolwright.cli.iexec.execution_words import ExecutionWords
from poolwright.cli.iexec.order_forms import free_order
from poolwright.cli.iexec.pool_client import offchain_json
from poolwright.cli.iexec.secret_checks import SmsCallError, missing, needs_of
from poolwright.poco.tags import Tag
from poolwright.poco.types import Address, Hash32

ANNA = Address(b"\1" * 20)


def test_a_scheduler_s_account_is_told_without_what_it_does_not_say() -> None:
    replicate = {"walletAddress": "0x1", "currentStatus": "COMPUTING", "statusUpdateList": []}
    assert offchain_json({"currentStatus": "RUNNING", "replicates": [replicate]}) == {
        "task": {"status": "RUNNING"},
        "replicates": [{"worker": "0x1", "status": "COMPUTING", "statusHistory": []}],
    }
    assert offchain_json({}) == {"task": {}, "replicates": []}


def test_a_result_is_named_by_the_user_or_by_its_task() -> None:
    task_id = Hash32(b"\2" * 32)
    assert result_path(Path("/a"), task_id, "mine") == Path("/a/mine.zip")
    assert result_path(Path("/a"), task_id, "mine.zip") == Path("/a/mine.zip")
    assert result_path(Path("/a"), task_id, "") == Path(f"/a/{task_id}.zip")


def test_the_words_of_an_execution_become_the_terms_of_a_request() -> None:
    words = ExecutionWords(args="a", input_files="https://x.org/1", params='{"iexec_args":"b"}', trust="3")
    terms = words.request_terms(ANNA)
    assert terms["params"] == (
        '{"iexec_args":"a","iexec_input_files":["https://x.org/1"],"iexec_result_storage_provider":"ipfs"}'
    )
    assert (terms["trust"], terms["beneficiary"], terms["requester"]) == (3, ANNA, ANNA)
    with pytest.raises(IexecError, match="iexec_result_encryption is not supported for non TEE tasks"):
        ExecutionWords(encrypt_result=True).request_terms(ANNA)


def test_only_an_order_that_needs_a_secret_asks_for_one() -> None:
    assert needs_of(free_order("requestorder", app=ANNA, params='{"iexec_args":"x"}')) == ()
    assert needs_of(free_order("datasetorder", dataset=ANNA)) == ()
    [key] = needs_of(free_order("datasetorder", dataset=ANNA, tag=Tag(9)))
    assert key.path == f"/secrets/web3?secretAddress={ANNA}"
    assert "Dataset encryption key is not set for dataset" in key.finding.sentence
    [secret] = needs_of(free_order("requestorder", requester=ANNA, params='{"iexec_secrets":{"1":"n"}}'))
    assert secret.path == f"/requesters/{ANNA}/secrets/n"


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (204, []),
        (404, ["Dataset requirements check failed: Dataset encryption key is not set"]),
    ],
)
async def test_a_secret_is_there_or_not(status: int, told: list[str]) -> None:
    async with answering(status) as url:
        findings = await missing(url, needs_of(free_order("datasetorder", dataset=ANNA, tag=Tag(9))))

    assert [str(one)[: len(words)] for one, words in zip(findings, told, strict=True)] == told


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (501, "This network offers no secret service, expected a secret for datasetorder.dataset"),
        (500, "SMS error: Server at"),
        (403, "SMS answered with unexpected status: 403"),
    ],
)
async def test_a_network_without_secrets_is_told_from_a_missing_secret(status: int, words: str) -> None:
    needs = needs_of(free_order("datasetorder", dataset=ANNA, tag=Tag(9)))
    async with answering(status) as url:
        with pytest.raises(SmsCallError, match=words):
            await missing(url, needs)


@asynccontextmanager
async def answering(status: int) -> AsyncIterator[str]:
    """The URL of a server that answers so to a question for the key of a dataset."""

    async def answer(request: web.Request) -> web.Response:
        assert (request.method, request.path_qs) == ("HEAD", f"/secrets/web3?secretAddress={ANNA}")
        return web.Response(status=status)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
