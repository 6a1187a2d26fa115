"""The repository over HTTP: a real uvicorn on loopback, the hub's twin in memory, clients as they come."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import socket
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from poolwright.poco.errors import InputError, Unavailable
from poolwright.poco.keccak import keccak
from poolwright.poco.records import NO_CONTRIBUTION, NO_TASK, ContributionStatus, TaskStatus
from poolwright.poco.results import file_digest, result_hash
from poolwright.poco.signatures import address_of_key, sign_digest
from poolwright.poco.types import (
    Address,
    BlockHash,
    BlockNumber,
    BlockStamp,
    Hash32,
    TaskId,
    Timestamp,
    WorkerAddress,
)
from poolwright.results.archive import ZipLimits
from poolwright.results.cid import cid_of, cid_v1
from poolwright.results.config import ResultsConfig
from poolwright.results.ledger import MemoryLedger
from poolwright.results.service import serving
from poolwright.wire.uploads import UploadAuthorization, authorization_header, result_link, upload_digest

CHAIN_ID = 31337
HUB = Address(b"\x11" * 20)
KEY = bytes(31) + b"\x07"
WORKER = WorkerAddress(address_of_key(KEY))
STRANGER = bytes(31) + b"\x08"
TASK = TaskId(Hash32(keccak(b"task")))
BLOCK = BlockStamp(BlockNumber(7), BlockHash(Hash32(keccak(b"block"))), Timestamp(1000))
ZIP = {"Content-Type": "application/zip"}


def result_zip(answer: bytes = b"42", note: bytes = b"") -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo("result.txt"), answer)
        archive.writestr(zipfile.ZipInfo("stdout.txt"), note)
        about = json.dumps({"deterministic-output-path": "/iexec_out/result.txt"})
        archive.writestr(zipfile.ZipInfo("computed.json"), about)
    return memory.getvalue()


def authorized(task_id: TaskId = TASK, key: bytes = KEY, worker: Address = WORKER) -> dict[str, str]:
    expires_at = Timestamp(int(time.time()) + 600)
    signature = sign_digest(key, upload_digest(CHAIN_ID, HUB, task_id, worker, expires_at))
    claim = UploadAuthorization(worker=WorkerAddress(worker), expires_at=expires_at, signature=signature)
    return {"Authorization": authorization_header(claim), **ZIP}


def incoming(config: ResultsConfig) -> list[Path]:
    return list((config.folder / "incoming").iterdir())


async def until(condition: Callable[[], object]) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("did not happen within 20 seconds")


@pytest.fixture
def ledger() -> MemoryLedger:
    """The worker has revealed the digest of `result_zip()` for the task."""
    ledger = MemoryLedger(BLOCK)
    revealed = result_hash(TASK, file_digest(hashlib.sha256(b"42").digest()))
    ledger.tasks[TASK] = replace(NO_TASK, status=TaskStatus.REVEALING, final_deadline=Timestamp(2000))
    ledger.contributions[TASK, WORKER] = replace(
        NO_CONTRIBUTION, status=ContributionStatus.PROVED, result_hash=revealed
    )
    return ledger


@pytest.fixture
def config(tmp_path: Path) -> ResultsConfig:
    return ResultsConfig(
        chain_id=CHAIN_ID,
        hub=HUB,
        port=0,
        folder=tmp_path / "results",
        max_bytes=8 * 1024 * 1024,
        keep_free_bytes=0,
        stall_seconds=20,
        open_add=True,
    )


class Client:
    """One HTTP session against one repository."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self.session = session

    async def ask(self, method: str, path: str, **more) -> tuple[int, bytes, aiohttp.typedefs.LooseHeaders]:
        async with self.session.request(method, self.url + path, **more) as answer:
            return answer.status, await answer.read(), answer.headers

    async def upload(self, body, task_id: TaskId = TASK, headers: dict[str, str] | None = None):
        headers = authorized(task_id) if headers is None else headers
        status, answer, _ = await self.ask("POST", f"/v1/results/{task_id}", data=body, headers=headers)
        return status, answer.decode()

    async def refusal(self, body, **more) -> tuple[int, str]:
        status, answer = await self.upload(body, **more)
        error = json.loads(answer)
        assert set(error) == {"code", "message", "details"}
        return status, error["code"]


@pytest_asyncio.fixture
async def client(config, ledger):
    async with serving(config, ledger) as server, aiohttp.ClientSession() as session:
        yield Client(server.url, session)


# --- storing ---------------------------------------------------------------------------------------


async def test_a_revealed_result_is_stored_and_can_be_downloaded(client):
    body = result_zip()
    cid = cid_of(body)

    assert await client.upload(body) == (200, f"/ipfs/{cid}")

    status, content, headers = await client.ask(
        "GET", f"/ipfs/{cid}", headers={"Origin": "https://x.example"}
    )
    assert (status, content) == (200, body)
    assert headers["Content-Type"] == "application/zip"
    assert headers["Content-Length"] == str(len(body))
    assert headers["ETag"] == f'"{cid}"'
    assert headers["Content-Disposition"] == f'attachment; filename="{cid}.zip"'
    assert headers["Access-Control-Allow-Origin"] == "*"


async def test_presence_and_cid_of_a_task(client):
    assert (await client.ask("HEAD", f"/v1/results/{TASK}"))[0] == 404
    assert (await client.ask("GET", f"/v1/results/{TASK}/ipfshash"))[0] == 404

    await client.upload(result_zip())

    assert (await client.ask("HEAD", f"/v1/results/{TASK}"))[0] == 204
    assert (await client.ask("HEAD", f"/v1/results/0x{TASK.hex().upper()}"))[0] == 204
    status, cid, _ = await client.ask("GET", f"/v1/results/{TASK}/ipfshash")
    assert (status, cid.decode()) == (200, cid_of(result_zip()))


async def test_the_same_upload_again_gets_the_same_answer(client):
    assert await client.upload(result_zip()) == await client.upload(result_zip())


async def test_many_uploads_of_one_result_at_once_agree(client):
    answers = await asyncio.gather(*(client.upload(result_zip()) for _ in range(6)))

    assert set(answers) == {(200, f"/ipfs/{cid_of(result_zip())}")}


async def test_another_zip_with_the_same_digest_does_not_replace_the_first(client):
    await client.upload(result_zip())

    path = f"/v1/results/{TASK}"
    status, answer, headers = await client.ask(
        "POST", path, data=result_zip(note=b"other noise"), headers=authorized()
    )
    assert (status, json.loads(answer)["code"]) == (409, "already-stored")
    assert headers["Location"] == f"/ipfs/{cid_of(result_zip())}"
    assert (await client.ask("GET", f"/v1/results/{TASK}/ipfshash"))[1].decode() == cid_of(result_zip())


async def test_a_body_without_announced_length_is_taken(client):
    async def pieces():
        for byte in result_zip():
            yield bytes([byte])

    assert (await client.upload(pieces()))[0] == 200


async def test_a_result_of_many_pieces_is_taken_whole(client, ledger):
    answer = bytes(range(256)) * 20_000
    digest = file_digest(hashlib.sha256(answer).digest())
    ledger.contributions[TASK, WORKER] = replace(
        ledger.contributions[TASK, WORKER], result_hash=result_hash(TASK, digest)
    )
    body = result_zip(answer)

    assert await client.upload(body) == (200, f"/ipfs/{cid_of(body)}")
    assert (await client.ask("GET", f"/ipfs/{cid_of(body)}"))[1] == body


# --- refusing --------------------------------------------------------------------------------------


async def test_bytes_that_were_not_revealed_are_refused_and_leave_nothing(client, config):
    body = result_zip(b"43")

    assert await client.refusal(body) == (422, "digest-mismatch")
    assert (await client.ask("HEAD", f"/v1/results/{TASK}"))[0] == 404
    assert (await client.ask("HEAD", f"/ipfs/{cid_of(body)}"))[0] == 404
    await until(lambda: not incoming(config))  # the file is discarded in a thread


async def test_a_body_that_is_no_zip_is_refused(client):
    assert await client.refusal(b"not a zip") == (422, "bad-zip")


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        (ZIP, (401, "bad-authorization")),
        ({**ZIP, "Authorization": "Bearer x"}, (401, "bad-authorization")),
        (authorized(key=STRANGER), (401, "bad-signature")),
        (authorized(TaskId(Hash32(keccak(b"other")))), (401, "bad-signature")),
        (authorized(key=STRANGER, worker=address_of_key(STRANGER)), (403, "not-a-revealer")),
        ({**authorized(), "Content-Type": "application/json"}, (415, "wrong-media-type")),
    ],
)
async def test_who_may_not_upload_is_told_why(client, headers, refused):
    assert await client.refusal(result_zip(), headers=headers) == refused


async def test_a_refusal_reaches_a_client_that_is_still_sending(client):
    """It reads our answer, not a broken connection, while the rest of its body is on the way."""
    assert await client.refusal(bytes(3_000_000), headers=ZIP) == (401, "bad-authorization")


async def test_a_client_that_asks_first_sends_no_body(client):
    sent = []

    async def pieces():
        sent.append(True)
        yield result_zip()

    async with client.session.post(
        f"{client.url}/v1/results/{TASK}", data=pieces(), headers=ZIP, expect100=True
    ) as answer:
        assert answer.status == 401
    assert sent == []


async def test_before_the_reveal_is_mined_the_worker_is_told_to_come_back(client, ledger):
    ledger.contributions[TASK, WORKER] = replace(
        ledger.contributions[TASK, WORKER], status=ContributionStatus.CONTRIBUTED
    )

    assert await client.refusal(result_zip()) == (503, "not-revealed")


async def test_a_finalized_task_gets_back_the_result_that_its_link_names(client, ledger):
    lost = result_zip()
    ledger.tasks[TASK] = replace(
        ledger.tasks[TASK], status=TaskStatus.COMPLETED, results=result_link(cid_of(lost))
    )

    assert await client.refusal(result_zip(note=b"other noise")) == (422, "link-mismatch")
    assert await client.upload(lost) == (200, f"/ipfs/{cid_of(lost)}")


async def test_a_body_above_the_limit_is_refused_announced_or_not(client):
    async def pieces():
        for _ in range(9):
            yield bytes(1024 * 1024)

    assert await client.refusal(bytes(8 * 1024 * 1024 + 1)) == (413, "too-large")
    assert await client.refusal(pieces()) == (413, "too-large")


async def test_a_task_id_that_is_none_is_refused(client):
    status, answer, _ = await client.ask("GET", "/v1/results/0x12/ipfshash")

    assert (status, json.loads(answer)["code"]) == (400, "bad-task-id")


async def test_while_the_chain_is_silent_uploads_wait_and_downloads_work(client, ledger):
    await client.upload(result_zip())
    ledger.trouble = Unavailable("the node is away", code="chain-unavailable")

    status, answer, headers = await client.ask(
        "POST", f"/v1/results/{TASK}", data=result_zip(), headers=authorized()
    )
    assert (status, json.loads(answer)["code"]) == (503, "chain-unavailable")
    assert int(headers["Retry-After"]) > 0
    assert (await client.ask("GET", f"/ipfs/{cid_of(result_zip())}"))[0] == 200
    status, answer, _ = await client.ask("GET", "/health")
    health = json.loads(answer)
    assert (status, health["status"], health["chain"]["ok"], health["storage"]["ok"]) == (
        503,
        "degraded",
        False,
        True,
    )


async def test_without_room_uploads_are_refused_and_downloads_work(config, ledger):
    async with serving(config, ledger) as server, aiohttp.ClientSession() as session:
        await Client(server.url, session).upload(result_zip())
    async with (
        serving(replace(config, keep_free_bytes=2**62), ledger) as server,
        aiohttp.ClientSession() as session,
    ):
        client = Client(server.url, session)
        assert await client.refusal(result_zip()) == (507, "storage-full")
        assert (await client.ask("GET", f"/ipfs/{cid_of(result_zip())}"))[0] == 200


async def test_zip_limits_of_the_operator_hold(config, ledger):
    limits = replace(config, zip_limits=ZipLimits(max_entries=2))
    async with serving(limits, ledger) as server, aiohttp.ClientSession() as session:
        assert await Client(server.url, session).refusal(result_zip()) == (422, "bad-zip")


# --- slow and rude clients -------------------------------------------------------------------------


async def raw(url: str, head: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(head.encode())
    return reader, writer


def upload_head(length: int) -> str:
    lines = [f"POST /v1/results/{TASK} HTTP/1.1", "Host: x", f"Content-Length: {length}"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in authorized().items()), "", ""])


@pytest.fixture
def impatient(config) -> ResultsConfig:
    return replace(config, stall_seconds=0.2)


async def test_a_body_that_stalls_is_answered_and_cut(impatient, ledger):
    async with serving(impatient, ledger) as server:
        reader, writer = await raw(server.url, upload_head(1000) + "half")
        async with asyncio.timeout(20):
            answer = await reader.read()
        writer.close()

    assert answer.startswith(b"HTTP/1.1 408")
    assert b'"too-slow"' in answer


@pytest.mark.parametrize("head", ["", "GET /version HT", "GET /version HTTP/1.1\r\nHost: x\r\n\r\nGET /ver"])
async def test_a_head_that_stalls_is_cut(impatient, ledger, head):
    async with serving(impatient, ledger) as server:
        reader, writer = await raw(server.url, head)
        async with asyncio.timeout(20):
            with suppress(ConnectionResetError):
                await reader.read()
        writer.close()


async def test_a_reader_that_stalls_is_cut(impatient, ledger):
    loop = asyncio.get_running_loop()
    async with serving(impatient, ledger) as server, aiohttp.ClientSession() as session:
        client = Client(server.url, session)
        cid = await added(client, bytes(8 * 1024 * 1024))
        with socket.socket() as stalling:
            stalling.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            stalling.setblocking(False)
            await loop.sock_connect(stalling, ("127.0.0.1", int(server.url.rpartition(":")[2])))
            await loop.sock_sendall(stalling, f"GET /ipfs/{cid} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert await loop.sock_recv(stalling, 1) == b"H"

            async def is_alone() -> bool:
                text = (await client.ask("GET", "/metrics"))[1].decode()
                return "poolwright_results_connections 1.0" in text

            async with asyncio.timeout(20):
                while not await is_alone():
                    pass


async def test_a_client_that_leaves_in_the_middle_leaves_nothing(client, config):
    _, writer = await raw(client.url, upload_head(1000) + "half")
    await until(lambda: incoming(config))
    writer.close()
    await until(lambda: not incoming(config))

    assert (await client.upload(result_zip()))[0] == 200


async def test_more_uploads_than_allowed_are_told_to_come_back(config, ledger):
    async with serving(replace(config, max_uploads=1), ledger) as server, aiohttp.ClientSession() as session:
        client = Client(server.url, session)
        _, writer = await raw(server.url, upload_head(1000) + "half")
        await until(lambda: incoming(config))
        assert await client.refusal(result_zip()) == (503, "busy")
        writer.close()
        await until(lambda: not incoming(config))
        assert (await client.upload(result_zip()))[0] == 200


# --- reading ---------------------------------------------------------------------------------------


async def added(client: Client, content: bytes) -> str:
    status, cid, _ = await client.ask("POST", "/ipfs", data=content)
    assert status == 201
    return cid.decode()


@pytest.mark.parametrize(
    ("asked", "status", "content", "content_range"),
    [
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=5-99", 206, b"56789", "bytes 5-9/10"),
        ("bytes=0-1,4-5", 200, b"0123456789", None),
        ("bytes=5-2", 200, b"0123456789", None),
        ("lines=1-2", 200, b"0123456789", None),
        ("bytes=10-", 416, None, "bytes */10"),
        ("bytes=-0", 416, None, "bytes */10"),
    ],
)
async def test_one_range_is_honoured(client, asked, status, content, content_range):
    cid = await added(client, b"0123456789")

    got = await client.ask("GET", f"/ipfs/{cid}", headers={"Range": asked})

    assert got[0] == status
    assert got[2].get("Content-Range") == content_range
    assert content is None or got[1] == content


async def test_a_range_holds_only_if_the_file_is_the_same(client):
    cid = await added(client, b"0123456789")

    headers = {"Range": "bytes=2-4", "If-Range": f'"{cid}"'}
    assert (await client.ask("GET", f"/ipfs/{cid}", headers=headers))[:2] == (206, b"234")
    headers["If-Range"] = '"other"'
    assert (await client.ask("GET", f"/ipfs/{cid}", headers=headers))[:2] == (200, b"0123456789")


async def test_head_tells_the_size_without_the_bytes(client):
    cid = await added(client, b"0123456789")

    status, content, headers = await client.ask("HEAD", f"/ipfs/{cid}")

    assert (status, content, headers["Content-Length"]) == (200, b"", "10")
    assert headers["Content-Type"] == "application/octet-stream"


async def test_who_has_the_bytes_already_gets_none(client):
    cid = await added(client, b"0123456789")

    status, content, _ = await client.ask("GET", f"/ipfs/{cid}", headers={"If-None-Match": f'W/"x", "{cid}"'})

    assert (status, content) == (304, b"")


async def test_both_forms_of_a_cid_lead_to_the_file(client):
    cid = await added(client, b"0123456789")

    assert (await client.ask("GET", f"/ipfs/{cid_v1(cid)}"))[1] == b"0123456789"


@pytest.mark.parametrize("path", ["/ipfs/Qm", "/ipfs/..%2Flock", "/ipfs/" + cid_of(b"nowhere")])
async def test_an_unknown_cid_is_not_found(client, path):
    status, answer, _ = await client.ask("GET", path)

    assert status == 404
    assert json.loads(answer)["message"]


@pytest.mark.parametrize("path", ["/", "/v1/results", "/ipfs/", "/results/x"])
async def test_an_unknown_page_is_json_too(client, path):
    status, answer, _ = await client.ask("GET", path)

    assert status in (404, 405)
    assert set(json.loads(answer)) == {"code", "message", "details"}


async def test_a_browser_may_ask_for_a_range(client):
    status, _, headers = await client.ask(
        "OPTIONS",
        "/ipfs/" + cid_of(b""),
        headers={
            "Origin": "https://x.example",
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "range",
        },
    )

    assert status == 200
    assert headers["Access-Control-Allow-Origin"] == "*"


async def test_adding_files_is_closed_unless_opened(config, ledger):
    async with serving(replace(config, open_add=False), ledger) as server, aiohttp.ClientSession() as session:
        status, answer, _ = await Client(server.url, session).ask("POST", "/ipfs", data=b"x")

    assert (status, json.loads(answer)["code"]) == (403, "add-closed")


# --- the operator's pages --------------------------------------------------------------------------


async def test_health_says_what_works(client):
    status, answer, _ = await client.ask("GET", "/health")
    health = json.loads(answer)

    assert (status, health["status"]) == (200, "ok")
    assert health["chain"] == {
        "ok": True,
        "chainId": CHAIN_ID,
        "hub": str(HUB),
        "block": BLOCK.number,
        "blockTime": BLOCK.timestamp,
    }
    assert health["storage"]["freeBytes"] > 0


async def test_version_is_that_of_the_package(client):
    status, answer, _ = await client.ask("GET", "/version")

    assert status == 200
    assert answer.decode()[0].isdigit()


async def test_metrics_count_uploads_by_outcome(client):
    await client.upload(result_zip())
    await client.upload(result_zip(b"43"))

    text = (await client.ask("GET", "/metrics"))[1].decode()

    assert 'poolwright_results_uploads_total{outcome="stored"} 1.0' in text
    assert 'poolwright_results_uploads_total{outcome="digest-mismatch"} 1.0' in text
    assert "poolwright_results_stored 1.0" in text


async def test_a_taken_port_is_said_plainly(config, ledger):
    async with serving(config, ledger) as server:
        port = int(server.url.rpartition(":")[2])
        other = replace(config, port=port, folder=config.folder / "other")
        with pytest.raises(InputError, match="another program listens there") as refused:
            async with serving(other, ledger):
                pass

    assert refused.value.code == "port-taken"
