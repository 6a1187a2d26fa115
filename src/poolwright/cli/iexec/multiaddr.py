"""Where a file is, as iexec.json writes it and as the registries keep it. Pure.

`/ipfs/<cid>` and `/p2p/<cid>` become a binary multiaddr, as the official client stores them; anything else is
its UTF-8 bytes: an image name, a URL.  The way back is `poolwright.compute.multiaddr`.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from poolwright.cli.iexec.errors import ValidationError

_P2P: Final = b"\xa5\x03"
"""The varint of protocol code 421, `p2p`, of old called `ipfs` (multicodec table)."""
_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def stored(text: str, what: str) -> bytes:
    """The bytes that the registry keeps. Raises ValidationError for an IPFS path without a content id."""
    for prefix in ("/ipfs/", "/p2p/"):
        if text.startswith(prefix):
            try:
                cid = _cid(text.removeprefix(prefix))
            except ValueError as problem:
                raise ValidationError(
                    f"{what} is not an IPFS address", expected=f"{prefix} and a content id", got=text[:200]
                ) from problem
            return _P2P + bytes((len(cid),)) + cid
    return text.encode()


def _cid(text: str) -> bytes:
    """Version 0 in base58, version 1 in lower-case base32. Raises ValueError."""
    if text.startswith("Qm") and len(text) == 46:
        number = 0
        for digit in text:
            number = number * 58 + _BASE58.index(digit)
        return number.to_bytes(34, "big")
    if text.startswith("b") and 2 < len(text) < 200 and text == text.lower():
        digits = text[1:].upper()
        try:
            return base64.b32decode(digits + "=" * (-len(digits) % 8))
        except binascii.Error as problem:
            raise ValueError(text) from problem
    raise ValueError(text)
