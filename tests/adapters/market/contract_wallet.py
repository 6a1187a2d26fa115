"""A contract wallet in a hundred bytes of hand-made code: ERC-1271 over the key of one owner.

isValidSignature(hash, signature) -> 0x1626ba7e when ecrecover(hash, signature) is the owner, else zero
"""

from __future__ import annotations

from poolwright.poco.types import Address

_CREATE = "60{length:02x}80600b6000396000f3"
"""Copies what follows it into the chain."""
_RUN = (
    "600435600052"  # memory[0] = hash
    "60a43560001a602052"  # memory[32] = v, the signature's last byte
    "604060646040" + "37"  # memory[64] = r, s
    "6020608060806000" + "60015afa50"  # memory[128] = ecrecover(memory[0:128])
    "608051" + "73{owner}14"  # is it the owner
    "631626ba7e60e01b02600052" + "60206000f3"  # times the magic value
)


def wallet_code(owner: Address) -> str:
    """Creation code, in hex, of a wallet that this key signs for."""
    run = _RUN.format(owner=bytes(owner).hex())
    return "0x" + _CREATE.format(length=len(run) // 2) + run
