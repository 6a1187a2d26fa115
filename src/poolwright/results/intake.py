"""How a file comes in: claim, chain, bytes, content, disk, in this order, cheapest refusal first.

Nothing of the body is read before the chain has confirmed that the uploader revealed this task, so
strangers cost one signature check and two reads. Then the body flows to the disk in pieces of 1 MiB,
hashed on the way in a thread; memory per upload is two pieces, whatever the size of the file.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from poolwright.poco.errors import PeerError
from poolwright.poco.records import TaskStatus
from poolwright.poco.types import TaskId, Timestamp, WorkerAddress
from poolwright.results.archive import result_digests
from poolwright.results.checks import PoolLeave, check_content, check_uploader, named_cid
from poolwright.results.config import ResultsConfig
from poolwright.results.errors import Busy, NotAllowed, NotAuthorized, TooSlow
from poolwright.results.ledger import Ledger
from poolwright.results.metrics import Metrics
from poolwright.results.storage import Incoming, Storage, StoredResult
from poolwright.wire.uploads import (
    parse_authorization,
    parse_workerpool_header,
    verify_authorization,
)

PIECE_BYTES = 1024 * 1024


def _leave(header: str) -> PoolLeave:
    try:
        challenge, signature = parse_workerpool_header(header)
    except PeerError as problem:
        raise _not_authorized(problem) from problem
    return PoolLeave(challenge=challenge, signature=signature)


def _not_authorized(problem: PeerError) -> NotAuthorized:
    """What a header breaks, as the refusal of who sent it."""
    return NotAuthorized(
        problem.what,
        code=problem.code,
        expected=problem.expected,
        got=problem.got,
        next_step=problem.next_step,
    )


def wall_clock() -> Timestamp:
    """Unix seconds; what `expires_at` of an upload authorization is compared with."""
    return Timestamp(int(time.time()))


class Intake:
    """Takes results and files into the storage."""

    def __init__(
        self,
        config: ResultsConfig,
        storage: Storage,
        ledger: Ledger,
        metrics: Metrics,
        clock: Callable[[], Timestamp] = wall_clock,
    ) -> None:
        self._config = config
        self._storage = storage
        self._ledger = ledger
        self._metrics = metrics
        self._clock = clock
        self.uploading = 0

    async def take_result(
        self,
        task_id: TaskId,
        authorization: str,
        announced_bytes: int,
        body: AsyncIterator[bytes],
        workerpool_authorization: str = "",
    ) -> StoredResult:
        """Store the zip in `body` as the result of `task_id` and return what is stored.

        `authorization` and `workerpool_authorization` are the values of those headers, `announced_bytes` the
        Content-Length, 0 for unknown. Raises the errors of `results.errors`, Unavailable when the chain does
        not answer.
        """
        worker = self._authorized(task_id, authorization)
        leave = _leave(workerpool_authorization) if workerpool_authorization else None
        facts = await self._ledger.facts(task_id, worker)
        is_early = check_uploader(task_id, worker, facts, leave)
        async with self._received(announced_bytes, body) as (incoming, cid):
            digests = await asyncio.to_thread(result_digests, incoming.path, self._config.zip_limits)
            if not is_early:
                check_content(task_id, facts, digests, cid)
            result = StoredResult(
                task_id=task_id, cid=cid, size=incoming.size, uploader=worker, stored_at=self._clock()
            )
            keep = self._storage.keep_early if is_early else self._storage.keep_result
            return await asyncio.to_thread(keep, incoming, result, facts.final_deadline)

    async def find(self, task_id: TaskId) -> StoredResult | None:
        """The task's result; of those that came early, the one that the finalized task names.

        Raises Unavailable when there are early ones and the chain does not answer.
        """
        stored = self._storage.find(task_id)
        early = [] if stored is not None else self._storage.early(task_id)
        if not early:
            return stored
        facts = await self._ledger.facts(task_id, WorkerAddress(early[0].uploader))
        cid = named_cid(facts.results) if facts.task_status is TaskStatus.COMPLETED else None
        named = next((one for one in early if one.cid == cid), None)
        if named is not None:
            await asyncio.to_thread(self._storage.settle, named)
        return named

    async def take_file(self, announced_bytes: int, body: AsyncIterator[bytes]) -> str:
        """Store any file, where the operator allows it, and return its CID. Raises as `take_result`."""
        if not self._config.open_add:
            raise NotAllowed(
                "this repository takes results of revealed tasks only",
                code="add-closed",
                expected="a repository with POOLWRIGHT_RESULTS_OPEN_ADD=1",
                next_step="publish the file on IPFS or any web server",
            )
        async with self._received(announced_bytes, body) as (incoming, cid):
            await asyncio.to_thread(self._storage.keep, incoming, cid)
            return cid

    def _authorized(self, task_id: TaskId, header: str) -> WorkerAddress:
        try:
            authorization = parse_authorization(header)
            verify_authorization(
                authorization,
                chain_id=self._config.chain_id,
                hub=self._config.hub,
                task_id=task_id,
                now=self._clock(),
            )
        except PeerError as problem:
            raise _not_authorized(problem) from problem
        return authorization.worker

    @asynccontextmanager
    async def _received(
        self, announced_bytes: int, body: AsyncIterator[bytes]
    ) -> AsyncIterator[tuple[Incoming, str]]:
        """Take the whole body to the disk; what is not kept inside the block is discarded after it."""
        if self.uploading >= self._config.max_uploads:
            raise Busy(
                "too many uploads at once",
                expected=f"at most {self._config.max_uploads}",
                got=f"{self.uploading} running",
                next_step="try again in a few seconds",
            )
        self.uploading += 1
        self._metrics.uploading.set(self.uploading)
        try:
            incoming = await asyncio.to_thread(
                self._storage.begin, max_bytes=self._config.max_bytes, announced_bytes=announced_bytes
            )
            try:
                await self._write_all(incoming, body)
                yield incoming, await asyncio.to_thread(incoming.finish)
            finally:
                # In a thread because a cancelled request may leave a write running, which it waits for.
                asyncio.get_running_loop().run_in_executor(None, incoming.discard)
        finally:
            self.uploading -= 1
            self._metrics.uploading.set(self.uploading)

    async def _write_all(self, incoming: Incoming, body: AsyncIterator[bytes]) -> None:
        """Write the body; while one piece is hashed and written, the next one comes in."""
        loop = asyncio.get_running_loop()
        writing: asyncio.Future[None] = loop.create_future()
        writing.set_result(None)
        async for piece in self._pieces(body):
            await writing
            writing = loop.run_in_executor(None, incoming.write, piece)
            # Looked at even when the body breaks off before the next `await writing`.
            writing.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._metrics.received.inc(len(piece))
        await writing

    async def _pieces(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytearray]:
        """Gather the body into pieces of about 1 MiB, each within the time a client has for it."""
        is_open = True
        while is_open:
            piece = bytearray()
            try:
                async with asyncio.timeout(self._config.stall_seconds):
                    while is_open and len(piece) < PIECE_BYTES:
                        chunk = await anext(body, None)
                        is_open = chunk is not None
                        piece += chunk or b""
            except TimeoutError as problem:
                raise TooSlow(
                    "the body comes too slowly",
                    expected=f"{PIECE_BYTES} bytes within {self._config.stall_seconds:g} seconds",
                    got=f"{len(piece)} bytes",
                    next_step="upload again over a faster connection",
                ) from problem
            if piece:
                yield piece
