"""A plain, blocking JSON-RPC client for the few calls that set up and watch a local chain.

The daemons speak to their chain through `poolwright.chain`, with retries, fail-over and bounds. Bringing a
local anvil up needs none of that: one node, one process, one keep-alive connection, no event loop.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from poolwright.poco.errors import PeerError, Unavailable

Call = tuple[str, Sequence[Any]]
"""A method and its parameters."""


class Node:
    """One JSON-RPC endpoint over HTTP. Not for several threads at once.

    `timeout_seconds` bounds each answer. Calls raise Unavailable when nobody answers and PeerError when
    the node answers with an error (its `details` hold the node's error object).
    """

    def __init__(self, url: str, *, timeout_seconds: float = 10) -> None:
        parts = urlsplit(url)
        self.url = url
        self._path = parts.path or "/"
        self._connection = http.client.HTTPConnection(
            parts.hostname or "127.0.0.1", parts.port or 80, timeout=timeout_seconds
        )

    def call(self, method: str, *params: Any) -> Any:
        """One call, its result as JSON values."""
        return self.batch([(method, params)])[0]

    def batch(self, calls: Sequence[Call]) -> list[Any]:
        """Several calls in one request; their results in the order asked.

        Raises PeerError for the first call, in that order, that the node refused.
        """
        body = json.dumps(
            [
                {"jsonrpc": "2.0", "id": number, "method": method, "params": list(params)}
                for number, (method, params) in enumerate(calls)
            ]
        )
        answers = {answer["id"]: answer for answer in json.loads(self._post(body))}
        results = []
        for number, (method, _) in enumerate(calls):
            answer = answers[number]
            if "error" in answer:
                raise NodeRefused(method, answer["error"])
            results.append(answer["result"])
        return results

    def is_answering(self) -> bool:
        """Whether the node answers at all, now."""
        try:
            self.call("eth_chainId")
        except Unavailable:
            return False
        return True

    def receipts(self, tx_hashes: Sequence[str], *, wait_seconds: float = 10) -> list[dict[str, Any]]:
        """Wait until all of `tx_hashes` are mined; raises PeerError when one of them reverted."""
        deadline = time.monotonic() + wait_seconds
        while True:
            found = self.batch([("eth_getTransactionReceipt", [tx_hash]) for tx_hash in tx_hashes])
            if all(found):
                break
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"{found.count(None)} of {len(found)} transactions were not mined at {self.url}",
                    code="not-mined",
                    expected=f"all of them within {wait_seconds:.0f} s",
                )
            time.sleep(0.01)
        for receipt in found:
            if receipt["status"] != "0x1":
                raise PeerError(f"transaction {receipt['transactionHash']} reverted", code="reverted")
        return found

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _post(self, body: str) -> bytes:
        try:
            with contextlib.suppress(http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                return self._exchange(body)  # a kept connection may have gone stale: then once more
            self._connection.close()
            return self._exchange(body)
        except (OSError, http.client.HTTPException) as problem:
            self._connection.close()
            raise Unavailable(
                f"no answer from the node at {self.url}", code="node-unavailable", got=str(problem)
            ) from problem

    def _exchange(self, body: str) -> bytes:
        self._connection.request("POST", self._path, body, {"Content-Type": "application/json"})
        return self._connection.getresponse().read()


class NodeRefused(PeerError):
    """The node answered a call with an error object, kept in `error`."""

    def __init__(self, method: str, error: dict[str, Any]) -> None:
        self.error = error
        super().__init__(f"{method} was refused by the node", code="node-refused", got=str(error)[:500])
