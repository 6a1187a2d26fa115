"""Publications from the challenge to the stored order, over HTTP, on a real chain.

One market process on SQLite, anvil with the contracts and a block every second, one wallet with one
workerpool. Each publication asks for a challenge, signs it, and sends the order with it: two requests. What
the market must know of the chain it asks anvil, once per block for all of them. The client is this process,
on the same machine.

The floor is the two signature recoveries that each publication needs, on one core.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import uvloop
from tests.blank_orders import POOL_ORDER
from tests.iexec_folder import FIRST, FIRST_KEY, Place, chain_and_market, deploy_own, new_project

from bench.harness import Figure, bench
from poolwright.devnet.anvil import CHAIN_ID
from poolwright.devnet.node import Node
from poolwright.market.login import digest_of
from poolwright.poco.orders import Domain, WorkerpoolOrder, order_hash
from poolwright.poco.signatures import recover, sign_digest
from poolwright.poco.types import Address, Hash32

KEY: Final = bytes.fromhex(FIRST_KEY[2:])
PUBLICATIONS: Final = 3_000
WARM_UP: Final = 300
AT_ONCE: Final = 32
GOAL: Final = 500


@bench("market.publish")
def publish() -> Iterator[Figure]:
    """Orders per second that one market process takes, and what they cost its own processor time."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        with chain_and_market(here, MAX_OPEN_ORDERS_PER_WALLET=str(10**6)) as place:
            pool = _pool(here, place)
            orders = _signed(place, pool, WARM_UP + PUBLICATIONS)
            with Node(place.chain_url) as node:
                node.call("evm_setIntervalMining", 1)
            uvloop.run(_publish_all(place.market_url, orders[:WARM_UP]))
            used, started = _cpu_seconds(place.market_pid), time.perf_counter()
            uvloop.run(_publish_all(place.market_url, orders[WARM_UP:]))
            seconds = time.perf_counter() - started
            used = _cpu_seconds(place.market_pid) - used
    floor = _recoveries(orders[:1_000])
    for name, rate in (
        ("market.publish", PUBLICATIONS / seconds),
        ("market.publish_own_time", PUBLICATIONS / used),
    ):
        yield Figure(
            name=name, value=rate, unit="1/s", floor=floor, goal=f"over {GOAL}/s", is_met=rate > GOAL
        )


def _pool(here: Path, place: Place) -> Address:
    project = new_project(here, place)
    return Address.parse(deploy_own(project, "workerpool", description="a pool with many orders"))


def _signed(place: Place, pool: Address, count: int) -> list[WorkerpoolOrder]:
    blank = replace(POOL_ORDER, workerpool=pool, volume=5, category=2, trust=1)
    domain = Domain(chain_id=CHAIN_ID, hub=place.contracts.hub)
    orders = [replace(blank, salt=Hash32(number.to_bytes(32, "big"))) for number in range(count)]
    return [replace(order, sign=sign_digest(KEY, order_hash(order, domain))) for order in orders]


async def _publish_all(url: str, orders: Sequence[WorkerpoolOrder]) -> None:
    """Publish over some connections at once. Raises AssertionError when an order is refused."""
    waiting = iter(orders)

    async def one() -> None:
        connection = await _Connection.open(url)
        for order in waiting:
            asked = await connection.ask("GET", f"/challenge?chainId={CHAIN_ID}&address={FIRST}")
            digest = digest_of(CHAIN_ID, asked["data"]["message"]["challenge"])
            header = f"{digest}_0x{sign_digest(KEY, digest).hex()}_{FIRST}"
            body = json.dumps({"order": order.to_json()}).encode()
            answer = await connection.ask(
                "POST", f"/workerpoolorders?chainId={CHAIN_ID}", body=body, authorization=header
            )
            assert answer["ok"], answer
        connection.close()

    await asyncio.gather(*(one() for _ in range(AT_ONCE)))


class _Connection:
    """One keep-alive connection, as cheap as a client can be."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, url: str) -> _Connection:
        parts = urlsplit(url)
        return cls(*await asyncio.open_connection(parts.hostname, parts.port))

    def close(self) -> None:
        self._writer.close()

    async def ask(self, method: str, path: str, *, body: bytes = b"", authorization: str = "") -> Any:
        head = f"{method} {path} HTTP/1.1\r\nhost: market\r\ncontent-length: {len(body)}\r\n"
        if authorization:
            head += f"authorization: {authorization}\r\ncontent-type: application/json\r\n"
        self._writer.write(f"{head}\r\n".encode() + body)
        answer = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(answer.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return json.loads(await self._reader.readexactly(length))


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process, all its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _recoveries(orders: Sequence[WorkerpoolOrder]) -> float:
    """Pairs of signature recoveries per second of one core."""
    digest = Hash32(b"\x07" * 32)
    sign = sign_digest(KEY, digest)
    started = time.process_time()
    for _ in orders:
        recover(digest, sign)
        recover(digest, sign)
    return len(orders) / (time.process_time() - started)
