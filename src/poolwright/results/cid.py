"""The IPFS address of a file, computed from its bytes as they stream by, without an IPFS node.

A content id (CID) names a Merkle tree. `ipfs add` with its default settings cuts a file into leaves of
256 KiB, wraps each leaf and each parent in a UnixFS v1 record inside a dag-pb node, groups 174 children
under a parent, level by level, and prints the base58 text of the root's sha2-256 multihash (CIDv0).
The same bytes give the same CID here, so any gateway or client that later takes the file from IPFS
agrees with the link that we put on the chain.

Memory is constant: at most one unfinished leaf and, for each level of the tree, fewer than 174 links.
Nothing but the links of a level must be remembered, because a parent needs only the hash, the file
length and the encoded length of its children.

Sources: UnixFS and dag-pb specifications of the IPFS project; `tests/adapters/results` checks every
boundary against the importer that the Helia project maintains.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

LEAF_BYTES = 256 * 1024
LINKS_PER_NODE = 174

_SHA2_256 = b"\x12\x20"
"""Multihash prefix: function sha2-256, 32 bytes."""
_UNIXFS_FILE = b"\x08\x02"
"""UnixFS field 1 (Type) = 2 (File)."""
_CID_V1_DAG_PB = b"\x01\x70"
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class _Link:
    """What a parent says about one child."""

    multihash: bytes
    file_bytes: int
    tree_bytes: int
    """Encoded bytes of the child and of everything below it; dag-pb calls it Tsize."""


class FileCid:
    """Computes the CID of one file fed in pieces of any size.

    `leaf_bytes` and `links_per_node` exist so that tests reach deep trees with small files; the CID
    equals that of `ipfs add` only with the defaults.
    """

    def __init__(self, leaf_bytes: int = LEAF_BYTES, links_per_node: int = LINKS_PER_NODE) -> None:
        self._leaf_bytes = leaf_bytes
        self._links_per_node = links_per_node
        self._leaf = bytearray()
        self._levels: list[list[_Link]] = [[]]
        self.size = 0
        """Bytes fed so far."""

    def update(self, piece: bytes | bytearray | memoryview) -> None:
        """Feed the next bytes of the file."""
        view = memoryview(piece)
        self.size += len(view)
        while view:
            room = self._leaf_bytes - len(self._leaf)
            self._leaf += view[:room]
            view = view[room:]
            if len(self._leaf) == self._leaf_bytes:
                self._close_leaf()

    def finish(self) -> str:
        """Close the tree and return the CIDv0 text (`Qm…`); the object is used up."""
        if self._leaf or self.size == 0:
            self._close_leaf()
        depth = 0
        while depth < len(self._levels) - 1 or len(self._levels[depth]) > 1:
            if self._levels[depth]:
                self._close_level(depth)
            depth += 1
        (root,) = self._levels[depth]
        return base58(root.multihash)

    def _close_leaf(self) -> None:
        self._add(0, _leaf_link(self._leaf))
        self._leaf = bytearray()

    def _add(self, depth: int, link: _Link) -> None:
        if depth == len(self._levels):
            self._levels.append([])
        self._levels[depth].append(link)
        if len(self._levels[depth]) == self._links_per_node:
            self._close_level(depth)

    def _close_level(self, depth: int) -> None:
        children, self._levels[depth] = self._levels[depth], []
        self._add(depth + 1, _parent_link(children))


def cid_of(content: bytes) -> str:
    """Return the CIDv0 text of `content`, as `ipfs add` prints it."""
    cid = FileCid()
    cid.update(content)
    return cid.finish()


def parse_cid(text: str) -> str | None:
    """Return the CIDv0 text of a CID of this repository's kind, or None when `text` is not one.

    Accepts the CIDv0 itself and its CIDv1 form in base32 (`bafybei…`), which some gateways and
    browsers turn it into: both carry the same hash of the same dag-pb node.
    """
    if text.startswith("b"):
        return _from_v1(text)
    multihash = _base58_bytes(text)
    return text if multihash is not None and _is_sha2_256(multihash) and base58(multihash) == text else None


def cid_v1(cid: str) -> str:
    """Return the CIDv1 base32 text of a CIDv0, for clients that want lower-case addresses."""
    multihash = _base58_bytes(cid)
    if multihash is None or not _is_sha2_256(multihash):
        raise ValueError(f"not a CIDv0: {cid!r}")
    return "b" + base64.b32encode(_CID_V1_DAG_PB + multihash).decode().rstrip("=").lower()


def base58(raw: bytes) -> str:
    """Return the base58 text of `raw` in Bitcoin's alphabet."""
    number = int.from_bytes(raw, "big")
    digits = ""
    while number:
        number, digit = divmod(number, 58)
        digits = _BASE58[digit] + digits
    return "1" * (len(raw) - len(raw.lstrip(b"\0"))) + digits


def _leaf_link(content: bytearray) -> _Link:
    length = _varint(len(content))
    before = _UNIXFS_FILE + (b"\x12" + length if content else b"")
    return _node([], (before, content, b"\x18" + length), len(content))


def _parent_link(children: list[_Link]) -> _Link:
    file_bytes = sum(child.file_bytes for child in children)
    blocksizes = b"".join(b"\x20" + _varint(child.file_bytes) for child in children)
    return _node(children, (_UNIXFS_FILE, b"\x18" + _varint(file_bytes), blocksizes), file_bytes)


def _node(children: list[_Link], unixfs: tuple[bytes | bytearray, ...], file_bytes: int) -> _Link:
    """Hash one dag-pb node, links first, then the UnixFS record, and return the link to it."""
    links = b"".join(_pb_link(child) for child in children)
    head = links + b"\x0a" + _varint(sum(map(len, unixfs)))
    digest = hashlib.sha256(head)
    for part in unixfs:
        digest.update(part)
    tree_bytes = len(head) + sum(map(len, unixfs)) + sum(child.tree_bytes for child in children)
    return _Link(_SHA2_256 + digest.digest(), file_bytes, tree_bytes)


def _pb_link(child: _Link) -> bytes:
    # PBLink: 1 Hash, 2 Name (empty for the parts of a file, but present), 3 Tsize
    link = b"\x0a\x22" + child.multihash + b"\x12\x00\x18" + _varint(child.tree_bytes)
    return b"\x12" + _varint(len(link)) + link


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _is_sha2_256(multihash: bytes) -> bool:
    return len(multihash) == 34 and multihash.startswith(_SHA2_256)


def _from_v1(text: str) -> str | None:
    body = text[1:]
    if len(body) != 58 or body != body.lower():
        return None
    try:
        raw = base64.b32decode(body.upper() + "=" * (-len(body) % 8))
    except ValueError:
        return None
    multihash = raw.removeprefix(_CID_V1_DAG_PB)
    is_ours = len(raw) == 36 and raw != multihash and _is_sha2_256(multihash)
    return base58(multihash) if is_ours and cid_v1(base58(multihash)) == text else None


def _base58_bytes(text: str) -> bytes | None:
    """Return the 34 bytes behind a CIDv0 text; None when it cannot be one (46 digits)."""
    if len(text) != 46:
        return None
    number = 0
    for digit in text:
        place = _BASE58.find(digit)
        if place < 0:
            return None
        number = number * 58 + place
    length = (number.bit_length() + 7) // 8
    return number.to_bytes(34, "big") if length <= 34 else None
