"""Keccak-256, the hash of Ethereum (not NIST SHA3-256), in its fastest packaged form."""

from sha3 import keccak_256


def keccak(message: bytes) -> bytes:
    """Return the 32-byte Keccak-256 digest of `message`."""
    digest: bytes = keccak_256(message).digest()
    return digest
