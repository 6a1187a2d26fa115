"""The stored form of a snapshot: a zero byte and the body, deflated.

A large pool's snapshot is tens of megabytes of JSON, and whoever commits behind it waits until it is on the
disk. Deflated it is a fraction of that. JSON does not begin with a zero byte, so the snapshots of earlier
versions, which stand as they are, are told by their first byte.
"""

from __future__ import annotations

import zlib
from typing import Final

MARK: Final = b"\0"
LEVEL: Final = 1
"""The fastest; the others save little more of JSON."""


def packed(body: bytes) -> bytes:
    """The stored form. Takes a second for a hundred megabytes, and lets other threads run meanwhile."""
    return MARK + zlib.compress(body, LEVEL)


def unpacked(stored: bytes) -> bytes:
    """The body of a stored form, of this version or an earlier one; a damaged one as it is, for its reader to
    refuse."""
    if not stored.startswith(MARK):
        return stored
    try:
        return zlib.decompress(stored[len(MARK) :])
    except zlib.error:
        return stored
