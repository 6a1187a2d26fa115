"""Downloads against a real HTTP server on loopback that misbehaves on demand."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from poolwright.compute.environment import input_file_name
from poolwright.compute.inputs import DataUnavailable, DownloadPolicy, fetch_dataset, fetch_input_files
from poolwright.poco.types import Address, Hash32

DATASET = Address(bytes([0xAB]) * 20)
CONTENT = b"city,people\n" * 10_000
CHECKSUM = Hash32(hashlib.sha256(CONTENT).digest())


def names_in(folder: Path) -> list[str]:
    return os.listdir(folder)


class Server:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.base = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        match request.path:
            case "/file" | "/ipfs/QmGood":
                return web.Response(body=CONTENT)
            case "/flaky" if self.asked.count("/flaky") < 3:
                return web.Response(status=503)
            case "/flaky":
                return web.Response(body=CONTENT)
            case "/moved":
                raise web.HTTPFound("/file")
            case "/circle":
                raise web.HTTPFound("/circle")
            case "/cut" | "/stall":
                response = web.StreamResponse(headers={"Content-Length": str(len(CONTENT))})
                await response.prepare(request)
                await response.write(CONTENT[:1000])
                if request.path == "/stall":
                    await asyncio.sleep(30)
                assert request.transport is not None
                request.transport.close()
                return response
            case "/endless":
                response = web.StreamResponse()
                await response.prepare(request)
                while True:
                    await response.write(bytes(1 << 16))
            case "/zipped":
                return web.Response(body=CONTENT, headers={"Content-Encoding": "gzip"})
            case _:
                return web.Response(status=404)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    served = Server()
    app = web.Application()
    app.router.add_get("/{path:.*}", served.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    served.base = f"http://{host}:{port}"
    yield served
    await runner.cleanup()


POLICY = DownloadPolicy(
    max_bytes=1_000_000, idle_seconds=0.3, total_seconds=10.0, pause_seconds=0.01, public_addresses_only=False
)


async def test_dataset_lands_under_its_address_and_leaves_nothing_beside(
    server: Server, tmp_path: Path
) -> None:
    path = await fetch_dataset(DATASET, f"{server.base}/file", CHECKSUM, tmp_path / "input", POLICY)
    assert path == tmp_path / "input" / ("0x" + "ab" * 20)
    assert path.read_bytes() == CONTENT
    assert names_in(tmp_path / "input") == [path.name]


async def test_file_that_is_there_is_not_downloaded_again(server: Server, tmp_path: Path) -> None:
    for _ in range(2):
        await fetch_dataset(DATASET, f"{server.base}/file", CHECKSUM, tmp_path, POLICY)
    assert server.asked == ["/file"]


async def test_deal_without_dataset_downloads_nothing(tmp_path: Path) -> None:
    for address, location in ((Address.zero(), "http://127.0.0.1:9/x"), (DATASET, " ")):
        assert await fetch_dataset(address, location, CHECKSUM, tmp_path, POLICY) is None


async def test_wrong_content_is_named_as_such_and_never_shown_to_the_app(
    server: Server, tmp_path: Path
) -> None:
    with pytest.raises(DataUnavailable) as caught:
        await fetch_dataset(DATASET, f"{server.base}/file", Hash32(bytes([1]) * 32), tmp_path, POLICY)
    assert caught.value.code == "DATASET_FILE_BAD_CHECKSUM"
    assert str(CHECKSUM) in str(caught.value)
    assert names_in(tmp_path) == []


async def test_missing_file_fails_at_once_with_the_servers_status(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataUnavailable) as caught:
        await fetch_dataset(DATASET, f"{server.base}/nothing", CHECKSUM, tmp_path, POLICY)
    assert caught.value.code == "DATASET_FILE_DOWNLOAD_FAILED"
    assert "HTTP status 404" in str(caught.value)
    assert server.asked == ["/nothing"]


async def test_server_that_is_busy_for_a_while_is_asked_again(server: Server, tmp_path: Path) -> None:
    assert await fetch_dataset(DATASET, f"{server.base}/flaky", CHECKSUM, tmp_path, POLICY)
    assert server.asked == ["/flaky"] * 3


async def test_redirect_is_followed_and_a_circle_is_not(server: Server, tmp_path: Path) -> None:
    assert await fetch_dataset(DATASET, f"{server.base}/moved", CHECKSUM, tmp_path, POLICY)
    with pytest.raises(DataUnavailable):
        await fetch_input_files([f"{server.base}/circle"], tmp_path, POLICY)
    assert server.asked.count("/circle") < 10


@pytest.mark.parametrize("path", ["/cut", "/stall"])
async def test_download_that_breaks_off_or_stalls_is_no_file(
    server: Server, tmp_path: Path, path: str
) -> None:
    with pytest.raises(DataUnavailable):
        await fetch_input_files([server.base + path], tmp_path, replace(POLICY, rounds=2))
    assert server.asked == [path] * 2
    assert names_in(tmp_path) == []


async def test_file_without_end_is_cut_at_the_bound(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataUnavailable, match="more than this worker takes"):
        await fetch_input_files([f"{server.base}/endless"], tmp_path, POLICY)
    assert names_in(tmp_path) == []


async def test_announced_size_beyond_the_bound_is_not_downloaded(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataUnavailable, match="more than this worker takes"):
        await fetch_input_files([f"{server.base}/file"], tmp_path, replace(POLICY, max_bytes=10))


async def test_whole_download_is_bounded_in_time(server: Server, tmp_path: Path) -> None:
    hurried = replace(POLICY, idle_seconds=30.0, total_seconds=0.3)
    with pytest.raises(DataUnavailable, match=r"not complete within 0\.3 s"):
        await fetch_input_files([f"{server.base}/stall"], tmp_path, hurried)


async def test_bytes_are_stored_as_sent_whatever_encoding_is_claimed(server: Server, tmp_path: Path) -> None:
    (path,) = await fetch_input_files([f"{server.base}/zipped"], tmp_path, POLICY)
    assert path.read_bytes() == CONTENT


async def test_input_files_lie_under_the_hash_of_their_url(server: Server, tmp_path: Path) -> None:
    urls = [f"{server.base}/file", f"{server.base}/flaky"]
    paths = await fetch_input_files(urls, tmp_path, POLICY)
    assert [path.name for path in paths] == [input_file_name(url) for url in urls]


async def test_owners_own_gateway_may_be_in_a_private_network(server: Server, tmp_path: Path) -> None:
    policy = replace(POLICY, gateways=(server.base,), public_addresses_only=True)
    got = await fetch_dataset(DATASET, "/ipfs/QmGood", CHECKSUM, tmp_path, policy)
    assert got is not None
    assert got.read_bytes() == CONTENT
    with pytest.raises(DataUnavailable, match="not public"):
        await fetch_dataset(
            Address.parse("0x" + "cd" * 20), f"{server.base}/file", CHECKSUM, tmp_path, policy
        )


async def test_second_gateway_helps_when_the_first_does_not(server: Server, tmp_path: Path) -> None:
    policy = replace(POLICY, gateways=("http://127.0.0.1:9", server.base))
    assert await fetch_dataset(DATASET, "/ipfs/QmGood", CHECKSUM, tmp_path, policy)


@pytest.mark.parametrize("location", ["file:///etc/hostname", "nonsense"])
async def test_location_of_no_known_form_is_a_download_failure(tmp_path: Path, location: str) -> None:
    with pytest.raises(DataUnavailable) as caught:
        await fetch_dataset(DATASET, location, CHECKSUM, tmp_path, POLICY)
    assert caught.value.code == "DATASET_FILE_DOWNLOAD_FAILED"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "169.254.1.1", "[::1]"])
async def test_addresses_of_the_workers_own_network_are_refused(
    server: Server, tmp_path: Path, host: str
) -> None:
    port = server.base.rsplit(":", 1)[1]
    careful = replace(POLICY, public_addresses_only=True)
    with pytest.raises(DataUnavailable, match="not public"):
        await fetch_input_files([f"http://{host}:{port}/file"], tmp_path, careful)
    assert server.asked == []
