"""Where a file is, as orders and registries write it: a URL, an IPFS path, or the bytes of a multiaddr.

Three forms are met on chain (scheduler-worker.md section 9.7): the text of an http(s) URL, the text
`/ipfs/<cid>` or `/p2p/<cid>`, and binary multiaddr bytes of the same. Only IPFS has a binary form here;
bytes that are none are read as UTF-8 text.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

from poolwright.poco.errors import InputError

_P2P_PREFIX = b"\xa5\x03"
"""The varint of protocol code 421, `p2p`, of old called `ipfs` (multicodec table)."""
_SHA256_MULTIHASH = b"\x12\x20"
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_PATHS = ("/ipfs/", "/p2p/", "ipfs://")


def location_of(multiaddr: bytes) -> str:
    """The text of an on-chain multiaddr. Raises InputError when it is neither multiaddr nor UTF-8."""
    if multiaddr.startswith(_P2P_PREFIX):
        rest = multiaddr[len(_P2P_PREFIX) :]
        # The length is a varint; content ids are shorter than 128 bytes, so it is one byte.
        if rest and rest[0] == len(rest) - 1:
            return f"/ipfs/{_cid_text(rest[1:])}"
    try:
        return multiaddr.decode()
    except UnicodeDecodeError as problem:
        raise InputError(
            "on-chain address of a file not readable",
            code="bad-multiaddr",
            expected="a URL, /ipfs/<cid>, or the bytes of such a multiaddr",
            got=f"0x{multiaddr[:64].hex()}",
            next_step="register the file again with its URL",
        ) from problem


def sources(location: str, gateways: Sequence[str]) -> tuple[str, ...]:
    """The URLs to try for a location, in order. Raises InputError when there is no way to fetch it."""
    if location.startswith(("http://", "https://")):
        return (location,)
    for prefix in _PATHS:
        if location.startswith(prefix) and gateways:
            path = location.removeprefix(prefix)
            return tuple(f"{gateway.rstrip('/')}/ipfs/{path}" for gateway in gateways)
    raise InputError(
        "no way to fetch a file",
        code="bad-location",
        expected="an http(s) URL" + (" or /ipfs/<cid>" if gateways else "; this worker has no IPFS gateway"),
        got=repr(location[:200]),
        next_step="register or order the file with such an address",
    )


def _cid_text(cid: bytes) -> str:
    """Version 0 (a bare sha256 multihash) in base58, any other in lower-case base32."""
    if cid.startswith(_SHA256_MULTIHASH) and len(cid) == 34:
        return _base58(cid)
    return "b" + base64.b32encode(cid).decode().rstrip("=").lower()


def _base58(raw: bytes) -> str:
    number = int.from_bytes(raw, "big")
    digits = ""
    while number:
        number, digit = divmod(number, 58)
        digits = _BASE58[digit] + digits
    return "1" * (len(raw) - len(raw.lstrip(b"\0"))) + digits
