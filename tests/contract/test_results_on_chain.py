"""The result repository beside the official contracts: it lets in what they say was revealed."""

from __future__ import annotations

import io
import json
import time
import zipfile
from pathlib import Path

import aiohttp
import pytest
from cast import WORKERS, Person
from stage import Stage, callback_bytes

from poolwright.chain.rpc import Rpc
from poolwright.poco.signatures import sign_digest
from poolwright.poco.types import TaskId, Timestamp, WorkerAddress
from poolwright.results.cid import cid_of
from poolwright.results.config import ResultsConfig
from poolwright.results.ledger import HubLedger
from poolwright.results.service import serving
from poolwright.wire.uploads import UploadAuthorization, authorization_header, result_link, upload_digest

pytestmark = pytest.mark.chain
WORKER, BYSTANDER = WORKERS[0], WORKERS[1]


def result_zip(letter: str = "a", note: str = "") -> bytes:
    """A result with the digest that the stage's workers contribute for this letter."""
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        about = json.dumps({"callback-data": "0x" + callback_bytes(letter).hex()})
        archive.writestr(zipfile.ZipInfo("computed.json"), about)
        archive.writestr(zipfile.ZipInfo("stdout.txt"), note)
    return memory.getvalue()


def headers(stage: Stage, task: TaskId, worker: Person = WORKER) -> dict[str, str]:
    expires_at = Timestamp(int(time.time()) + 600)
    digest = upload_digest(stage.domain.chain_id, stage.hub, task, worker.address, expires_at)
    claim = UploadAuthorization(
        worker=WorkerAddress(worker.address),
        expires_at=expires_at,
        signature=sign_digest(worker.key, digest),
    )
    return {"Authorization": authorization_header(claim), "Content-Type": "application/zip"}


async def test_a_result_is_let_in_from_reveal_on_and_brought_back_after_finalize(
    stage: Stage, tmp_path: Path
):
    def config(folder: str) -> ResultsConfig:
        return ResultsConfig(
            chain_id=stage.domain.chain_id, hub=stage.hub, port=0, folder=tmp_path / folder, keep_free_bytes=0
        )

    async def upload(url: str, body: bytes, worker: Person = WORKER) -> tuple[int, str]:
        path = f"{url}/v1/results/{task}"
        async with session.post(path, data=body, headers=headers(stage, task, worker)) as answer:
            text = await answer.text()
            return answer.status, text if answer.status == 200 else json.loads(text)["code"]

    task = stage.task(request={"trust": 1})
    async with Rpc(stage.node.url) as rpc, aiohttp.ClientSession() as session:
        ledger = HubLedger(rpc, chain_id=stage.domain.chain_id, hub=stage.hub)
        async with serving(config("first"), ledger) as server:
            assert await upload(server.url, result_zip()) == (503, "task-not-revealing")
            stage.contribute_as(WORKER, task)
            assert await upload(server.url, result_zip()) == (503, "not-revealed")
            stage.reveal_as(WORKER, task)
            assert await upload(server.url, result_zip(), BYSTANDER) == (403, "not-a-revealer")
            assert await upload(server.url, result_zip("b")) == (422, "digest-mismatch")
            assert await upload(server.url, result_zip()) == (200, f"/ipfs/{cid_of(result_zip())}")

        stage.finalize_it(task, result_link(cid_of(result_zip())))
        async with serving(config("after a lost disk"), ledger) as server:
            assert await upload(server.url, result_zip(note="other")) == (422, "link-mismatch")
            assert await upload(server.url, result_zip()) == (200, f"/ipfs/{cid_of(result_zip())}")
