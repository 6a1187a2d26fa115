"""Market processes as an operator starts them, each with a client of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from conftest import CHAIN_ID, Chain, Client
from poolwright.devnet.anvil import free_port

START_SECONDS = 60
WAIT_SECONDS = 30


@dataclass
class Heard:
    """One server-sent event; `place` is its number."""

    place: int
    name: str
    text: str


class Process:
    """A running market; `client` talks to it."""

    def __init__(self, client: Client, process: asyncio.subprocess.Process, log: Path) -> None:
        self.client = client
        self.log = log
        self._process = process

    def send(self, number: signal.Signals) -> None:
        os.kill(self._process.pid, number)

    async def leads(self) -> bool:
        async with self.client.http.get(f"{self.client.url}/metrics") as answer:
            text = await answer.text()
        return f'poolwright_market_leads{{chain="{CHAIN_ID}"}} 1.0' in text

    async def until_it_leads(self) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                if await self.leads():
                    return
                await asyncio.sleep(0.05)

    @asynccontextmanager
    async def hearing(
        self, heard: list[Heard], *, topic: str = "orders", after: int | None = None
    ) -> AsyncIterator[None]:
        """Append each server-sent event to the list, from the start of the block on and until it ends."""
        url = f"{self.client.url}/events?chainId={CHAIN_ID}&topic={topic}"
        headers = {} if after is None else {"Last-Event-ID": str(after)}
        timeout = aiohttp.ClientTimeout(total=None)
        async with self.client.http.get(url, headers=headers, timeout=timeout) as stream:
            await stream.content.readline()  # it says welcome
            listening = asyncio.create_task(_listen(stream, heard))
            try:
                yield
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)


async def until(is_so: Callable[[], bool], seconds: float = WAIT_SECONDS) -> None:
    async with asyncio.timeout(seconds):
        while True:
            if is_so():
                return
            await asyncio.sleep(0.02)


async def _listen(stream: aiohttp.ClientResponse, heard: list[Heard]) -> None:
    fields: dict[str, str] = {}
    async for line in stream.content:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name:
            fields[name] = value
        elif "data" in fields:
            heard.append(Heard(int(fields.get("id", 0)), fields["event"], fields["data"]))
            fields = {}


@asynccontextmanager
async def started(chain: Chain, log: Path, database_url: str, **more: str) -> AsyncIterator[Process]:
    """A market process on this database; killed without warning at the end."""
    port = free_port()
    environment = {
        **os.environ,
        "CHAINS": "DEV",
        "DEV_CHAIN_ID": str(CHAIN_ID),
        "DEV_IEXEC_ADDRESS": str(chain.contracts.hub),
        "DEV_ETH_RPC_HOST": chain.url,
        "DEV_POLL_SECONDS": "0.1",
        "PORT": str(port),
        "POOLWRIGHT_MARKET_DATABASE_URL": database_url,
        "POOLWRIGHT_CHECK_INVARIANTS": "1",
        **more,
    }
    words = (sys.executable, "-m", "poolwright", "market", "run")
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(*words, env=environment, stdout=output, stderr=output)
    try:
        async with aiohttp.ClientSession() as http:
            client = Client(http=http, url=f"http://127.0.0.1:{port}", chain=chain)
            async with asyncio.timeout(START_SECONDS):
                while True:
                    assert process.returncode is None, await asyncio.to_thread(log.read_text)
                    try:
                        await client.ok("/version")
                        break
                    except aiohttp.ClientError:
                        await asyncio.sleep(0.1)
            yield Process(client, process, log)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
