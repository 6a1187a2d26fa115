"""The repository as an operator starts it: environment in, JSON lines out, signals, plain failures."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

HUB = "0x" + "11" * 20


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A whole configuration, with a node that does not answer."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    return {
        **os.environ,
        "IEXEC_CHAIN_ID": "31337",
        "IEXEC_HUB_ADDRESS": HUB,
        "IEXEC_BLOCKCHAIN_NODE_ADDRESS": f"http://127.0.0.1:{port}",
        "IEXEC_RESULT_PROXY_PORT": "0",
        "POOLWRIGHT_RESULTS_DIR": str(tmp_path / "results"),
        "POOLWRIGHT_RESULTS_OPEN_ADD": "1",
    }


@contextmanager
def started(environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running repository and its URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "poolwright.results"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "listening":
                yield process, event["url"]
                return
        pytest.fail(f"ended with {process.wait()}: {process.stderr and process.stderr.read()}")
    finally:
        process.kill()
        process.communicate(timeout=20)


def failed_start(environment: dict[str, str]) -> str:
    """What a start that must fail says: one line, exit code 2."""
    done = subprocess.run(
        [sys.executable, "-m", "poolwright.results"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done
    assert len(done.stderr.splitlines()) == 1
    return done.stderr


def add(url: str, content: bytes) -> str:
    request = urllib.request.Request(url + "/ipfs", data=content, method="POST")
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.read().decode()


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.read()


def lets_in(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=20).close()
    except ConnectionError:
        return False
    return True


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_without_a_chain_and_ends_well_when_told(environment, how):
    with started(environment) as (process, url):
        assert get(f"{url}/version")
        process.send_signal(how)
        out, err = process.communicate(timeout=30)

    assert process.returncode == 0
    assert err == ""
    assert json.loads(out.splitlines()[-1])["event"] == "stopped"


def test_files_survive_kill_9(environment):
    with started(environment) as (_, url):
        cid = add(url, b"content")
    with started(environment) as (_, url):
        assert get(f"{url}/ipfs/{cid}") == b"content"


def test_a_running_upload_ends_before_the_process_does(environment):
    with started(environment) as (process, url):
        host, _, port = url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=20) as client:
            client.sendall(b"POST /ipfs HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n")
            client.sendall(b"Content-Length: 8\r\n\r\nhalf")
            assert client.recv(1000).startswith(b"HTTP/1.1 100")
            process.send_signal(signal.SIGTERM)
            while lets_in(host, int(port)):  # until the signal has come
                pass
            client.sendall(b"half")
            assert client.recv(1000).startswith(b"HTTP/1.1 201")
        process.communicate(timeout=30)

    assert process.returncode == 0


def test_a_taken_port_is_one_message(environment):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        message = failed_start({**environment, "IEXEC_RESULT_PROXY_PORT": port})

    assert f"127.0.0.1:{port}" in message
    assert "IEXEC_RESULT_PROXY_PORT" in message


def test_a_wrong_setting_is_named(environment):
    assert "IEXEC_HUB_ADDRESS" in failed_start({**environment, "IEXEC_HUB_ADDRESS": "0x12"})


def test_a_folder_in_use_is_said(environment):
    with started(environment):
        assert "in use" in failed_start(environment)


@pytest_asyncio.fixture
async def other_chain():
    """A node of chain 1 without our hub."""

    async def answer(request: web.Request) -> web.Response:
        asked = await request.json()
        to = {"eth_chainId": "0x1", "eth_getCode": "0x"}
        if isinstance(asked, list):
            return web.json_response(
                [{"jsonrpc": "2.0", "id": one["id"], "result": to.get(one["method"])} for one in asked]
            )
        return web.json_response({"jsonrpc": "2.0", "id": asked["id"], "result": to.get(asked["method"])})

    app = web.Application()
    app.router.add_post("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_a_node_of_another_chain_stops_the_start(environment, other_chain):
    message = await asyncio.to_thread(
        failed_start, {**environment, "IEXEC_BLOCKCHAIN_NODE_ADDRESS": other_chain}
    )

    assert "expected chain id 31337, got 1" in message
