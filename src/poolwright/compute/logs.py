"""What an app printed: the engine's multiplexed log, taken apart, bounded, kept in files.

The engine sends frames of `stream(1) 000 length(4, big endian) payload`; stream 1 is stdout, 2 is stderr.
It keeps a bounded log itself, so what is read here is bounded too; of that, the last bytes are kept.
"""

from __future__ import annotations

from pathlib import Path

from poolwright.compute.port import TAIL_CHARACTERS

STDOUT = "stdout.txt"
STDERR = "stderr.txt"

_HEADER_BYTES = 8
_STREAMS = {1: STDOUT, 2: STDERR}


class LogSplitter:
    """Takes the multiplexed bytes as they come; keeps the last `limit_bytes` of each stream."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._rest = bytearray()
        self._kept = {name: bytearray() for name in _STREAMS.values()}

    def feed(self, chunk: bytes) -> None:
        self._rest += chunk
        while len(self._rest) >= _HEADER_BYTES:
            end = _HEADER_BYTES + int.from_bytes(self._rest[4:8], "big")
            if len(self._rest) < end:
                return
            name = _STREAMS.get(self._rest[0])
            if name is not None:
                self._keep(self._kept[name], self._rest[_HEADER_BYTES:end])
            del self._rest[:end]

    def _keep(self, kept: bytearray, payload: bytearray) -> None:
        kept += payload
        if len(kept) > 2 * self._limit:
            del kept[: -self._limit]

    def write(self, folder: Path) -> tuple[str, str]:
        """Write both files, also when empty; answers the tails of stdout and stderr."""
        folder.mkdir(parents=True, exist_ok=True)
        tails = []
        for name, kept in self._kept.items():
            last = bytes(kept[-self._limit :])
            (folder / name).write_bytes(last)
            tails.append(tail_of(last))
        return tails[0], tails[1]


def tail_of(raw: bytes) -> str:
    """The last characters of a log, for a report; what is no UTF-8 shows as a replacement character."""
    return raw[-4 * TAIL_CHARACTERS :].decode("utf-8", errors="replace")[-TAIL_CHARACTERS:]
