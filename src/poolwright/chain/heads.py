"""Confirmed heads: which block may be believed now, and the alarm when a believed block disappears.

A head is *confirmed* when `confirmations` blocks stand on it (0 on the local network).  Only confirmed heads
leave this module, in growing order, each a descendant of the one before.  What that means for reorgs:

    in the unconfirmed part    invisible: nobody was told about those blocks
    deeper                     ChainReorganised: facts that were acted on are gone; this is not guessed at

A node that lags or goes back (several machines behind one URL) tells older heads; they are waited out.
One node's contradiction is looked at a second time, through another endpoint if there is one, before it
counts as a reorg.

`HeadTracker` decides, by values; `Heads` asks the node: every `poll_seconds`, and at once when the WebSocket
at the same host and port says `newHeads`.  The WebSocket is only a wake-up call: without it, or when it
breaks, polling goes on and nothing else changes.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, Self

import aiohttp

from poolwright.chain.blocks import Header, fetch_headers, newest_header
from poolwright.chain.rpc import Rpc, RpcError
from poolwright.poco.errors import InvariantBroken, PeerError, PoolwrightError, Unavailable
from poolwright.poco.types import BlockNumber, BlockStamp

log = logging.getLogger(__name__)

SUBSCRIBE_TIMEOUT_SECONDS: Final = 5.0
RESUBSCRIBE_SECONDS: Final = 30.0
"""How long to leave a node alone that has no WebSocket."""
LOST_SUBSCRIPTION_SECONDS: Final = 1.0
"""How long to wait before subscribing again where it worked before."""


class ChainReorganised(PoolwrightError):
    """A block that was confirmed is no longer in the chain; stop and decide from where to read again."""

    def __init__(
        self, believed: BlockStamp, found: str, *, what: str, confirmations: int | None = None
    ) -> None:
        self.believed = believed
        depth = "" if confirmations is None else f" (more than {confirmations} blocks deep)"
        super().__init__(
            f"the chain was reorganised under {what} {believed.number}{depth}",
            code="chain-reorganised",
            expected=f"hash {believed.hash}",
            got=found,
            next_step="check that the RPC URL still is the same chain, then read again from an earlier block",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadTracker:
    """What is confirmed, and what the next answers of the node mean for it."""

    confirmations: int
    confirmed: BlockStamp | None = None
    is_suspect: bool = False
    """The last look contradicted `confirmed`; the next look decides."""

    def wanted(self, newest: BlockNumber) -> BlockNumber | None:
        """The block that is confirmed when `newest` is the newest; None when there is nothing to learn.

        A newest block at or below what is confirmed is a node that lags, except that with 0
        confirmations the same height may carry another hash.
        """
        candidate = BlockNumber(max(newest - self.confirmations, 0))
        if self.confirmed is None:
            return candidate
        if candidate > self.confirmed.number:
            return candidate
        return candidate if candidate == self.confirmed.number and self.confirmations == 0 else None

    def needs_base(self, wanted: BlockNumber) -> bool:
        """Whether `look` must also see what the node has at the confirmed block's height.

        The confirmed block's child names it as its parent; a later one does not.
        """
        return self.confirmed is not None and wanted > self.confirmed.number + 1

    def look(self, candidate: Header | None, base: Header | None) -> tuple[HeadTracker, BlockStamp | None]:
        """Take the header of the wanted block, and of the confirmed height when `needs_base`.

        Returns the new head, if any.  None stands for a block that the node does not have: it lags, nothing
        is learnt.  Raises ChainReorganised when two looks running contradict the confirmed block.
        """
        if candidate is None:
            return self, None
        if self.confirmed is None:
            return replace(self, confirmed=candidate.stamp), candidate.stamp
        if self.needs_base(candidate.number):
            if base is None:
                return self, None
            found = base.stamp.hash
        elif candidate.number == self.confirmed.number + 1:
            found = candidate.parent_hash
        else:
            found = candidate.stamp.hash
        if found != self.confirmed.hash:
            if self.is_suspect:
                raise ChainReorganised(
                    self.confirmed,
                    f"hash {found}",
                    what="the confirmed block",
                    confirmations=self.confirmations,
                )
            return replace(self, is_suspect=True), None
        head = candidate.stamp if candidate.number > self.confirmed.number else None
        return replace(self, confirmed=candidate.stamp, is_suspect=False), head


class Heads:
    """The confirmed heads of one chain for any number of readers; an async iterator of BlockStamp.

    Each `async for` starts with the present head and then gets the newest one whenever it asks: heads
    in between may be skipped by a slow reader (and by several blocks in one poll), never repeated.
    Raises ChainReorganised in every reader; a node that does not answer is waited for.

    Args:
        rpc: the node.
        confirmations: how many blocks must stand on a head.
        poll_seconds: how often to look without a WebSocket.
        use_websocket: False for polling only.
    """

    def __init__(
        self, rpc: Rpc, *, confirmations: int = 0, poll_seconds: float = 1.0, use_websocket: bool = True
    ) -> None:
        self.confirmations: Final = confirmations
        self._rpc = rpc
        self._poll_seconds = poll_seconds
        self._use_websocket = use_websocket
        self._tracker = HeadTracker(confirmations=confirmations)
        self._hint = asyncio.Event()
        self._changed = asyncio.Condition()
        self._failure: PoolwrightError | None = None
        self._trouble: PoolwrightError | None = None
        self._heard_at: float | None = None
        self._aio_tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def current(self) -> BlockStamp | None:
        """The newest confirmed head so far; None before the first answer."""
        return self._tracker.confirmed

    @property
    def trouble(self) -> PoolwrightError | None:
        """Why the node gives no heads at the moment; None while it does. For health pages."""
        return self._failure or self._trouble

    def start(self) -> None:
        """Start looking; called by the first reader too. Must run in the event loop."""
        if self._aio_tasks or self._failure is not None:
            return
        self._aio_tasks = [asyncio.create_task(self._poll(), name="heads")]
        if self._use_websocket:
            self._aio_tasks.append(asyncio.create_task(self._listen(), name="heads-websocket"))

    async def close(self) -> None:
        """Stop looking; readers end."""
        tasks, self._aio_tasks = self._aio_tasks, []
        for aio_task in tasks:
            aio_task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._end(self._failure or Unavailable("the heads were closed", code="heads-closed"))

    def poke(self) -> None:
        """Look now rather than at the next poll."""
        self._hint.set()

    def check(self) -> None:
        """Raise what ended the heads, ChainReorganised above all; nothing while they go on."""
        if self._failure is not None:
            raise self._failure.with_traceback(None)  # one error for all readers

    async def beyond(self, number: int | None) -> BlockStamp:
        """Wait for a confirmed head with a number above `number` (None: any) and return the newest.

        Raises ChainReorganised; Unavailable (`heads-closed`) when the heads are closed meanwhile.
        """
        self.start()
        async with self._changed:
            while True:
                self.check()
                head = self._tracker.confirmed
                if head is not None and (number is None or head.number > number):
                    return head
                await self._changed.wait()

    async def __aiter__(self) -> AsyncIterator[BlockStamp]:
        number: int | None = None
        while True:
            head = await self.beyond(number)
            number = head.number
            yield head

    async def _poll(self) -> None:
        while True:
            self._hint.clear()
            try:
                head = await self._look()
                self._trouble = None
            except ChainReorganised as reorganised:
                log.error("chain reorganised: %s", reorganised)
                await self._end(reorganised)
                return
            except (Unavailable, RpcError, PeerError) as problem:
                if self._trouble is None:
                    log.warning("no heads from the node: %s", problem)
                self._trouble = problem
                head = None
            except Exception as problem:  # a bug of ours must not leave the readers waiting for ever
                log.exception("the heads stop")
                await self._end(InvariantBroken(f"the heads broke: {problem!r}"))
                return
            if head is not None:
                async with self._changed:
                    self._changed.notify_all()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._poll_seconds):  # wait_for of 3.11 can lose a cancellation
                    await self._hint.wait()

    async def _end(self, problem: PoolwrightError) -> None:
        """Tell every reader, now and from now on, why there are no more heads."""
        self._failure = problem
        async with self._changed:
            self._changed.notify_all()

    async def _look(self) -> BlockStamp | None:
        newest = await newest_header(self._rpc)
        confirmed = self._tracker.confirmed
        wanted = self._tracker.wanted(newest.number)
        if wanted is None:
            return None
        candidate: Header | None = newest
        base: Header | None = None
        if confirmed is not None and self._tracker.needs_base(wanted):
            candidate, base = await fetch_headers(self._rpc, [wanted, confirmed.number])
        elif wanted != newest.number:
            [candidate] = await fetch_headers(self._rpc, [wanted])
        self._tracker, head = self._tracker.look(candidate, base)
        if self._tracker.is_suspect:  # let another one be asked, where there is another
            self._rpc.distrust(f"it contradicts block {confirmed}")
        return head

    async def _listen(self) -> None:
        """Keep a newHeads subscription open; each notification is a hint to look."""
        for attempt in itertools.count():
            url = self._rpc.urls[attempt % len(self._rpc.urls)]
            wait = LOST_SUBSCRIPTION_SECONDS
            try:
                async with aiohttp.ClientSession() as http:
                    async with asyncio.timeout(SUBSCRIBE_TIMEOUT_SECONDS):
                        socket = await http.ws_connect(
                            "ws" + url.removeprefix("http"),
                            heartbeat=30.0,
                            timeout=aiohttp.ClientWSTimeout(ws_close=1.0),
                        )
                    async with socket:
                        if not await self._follow_socket(socket):
                            wait = RESUBSCRIBE_SECONDS
            except (aiohttp.WSServerHandshakeError, ValueError, TypeError) as problem:
                log.debug("no newHeads from %s: %s", url, problem)
                wait = RESUBSCRIBE_SECONDS
            except (aiohttp.ClientError, OSError, TimeoutError) as problem:
                log.debug("newHeads of %s ended: %s", url, problem)
            await asyncio.sleep(wait)

    async def _follow_socket(self, socket: aiohttp.ClientWebSocketResponse) -> bool:
        """Subscribe and turn notifications into hints until the socket ends; False without newHeads."""
        await socket.send_json({"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"]})
        answer = await socket.receive_json(timeout=SUBSCRIBE_TIMEOUT_SECONDS)
        if not isinstance(answer, dict) or "result" not in answer:
            return False
        self._hint.set()  # whatever came before the subscription
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                self._hint.set()
        return True
