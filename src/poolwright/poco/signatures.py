"""ECDSA signatures over secp256k1, as the contracts accept them.

A signature is 65 bytes r, s, v with v 27 or 28, or 64 bytes as in EIP-2098 (the top bit of s holds v). The
contract refuses every other length ("invalid-signature-format"), v 0 or 1, and the malleable upper half of s;
so do we, before anything is spent on a transaction.
"""

from __future__ import annotations

from typing import Final

from coincurve import PrivateKey, PublicKey

from poolwright.poco.errors import InputError, PeerError
from poolwright.poco.keccak import keccak
from poolwright.poco.types import Address, Hash32

_HALF_ORDER: Final = bytes.fromhex("7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0")
_PERSONAL_PREFIX: Final = b"\x19Ethereum Signed Message:\n32"


def sign_digest(key: bytes, digest: Hash32) -> bytes:
    """Sign a digest as it stands: 65 bytes r, s, v (27 or 28), s in the lower half, nonce by RFC 6979.

    Raises InputError for a key that is none.
    """
    return sign_with(_private_key(key), digest)


def sign_with(key: PrivateKey, digest: Hash32) -> bytes:
    """The same with a key that is at hand; to make one of its bytes takes longer than to sign."""
    signature = key.sign_recoverable(digest, hasher=None)
    return signature[:64] + bytes((27 + signature[64],))


def recover(digest: Hash32, signature: bytes) -> Address:
    """Return who signed `digest`. Raises PeerError for a signature that the contracts would refuse."""
    if len(signature) == 65:
        v = signature[64]
        if v != 27 and v != 28:
            raise _refused("v of the signature", "27 or 28", str(v))
        compact = signature[:64]
        parity = v - 27
    elif len(signature) == 64:  # EIP-2098
        parity = signature[32] >> 7
        compact = signature[:32] + bytes((signature[32] & 0x7F,)) + signature[33:]
    else:
        raise PeerError(
            "invalid-signature-format",
            code="invalid-signature-format",
            expected="65 bytes, or 64 as in EIP-2098",
            got=f"{len(signature)} bytes",
        )
    if compact[32:] > _HALF_ORDER:
        raise _refused("s of the signature", "the lower half of the curve order", "0x" + compact[32:].hex())
    try:
        public_key = PublicKey.from_signature_and_message(compact + bytes((parity,)), digest, hasher=None)
    except ValueError as problem:
        raise _refused(
            "the signature", "r and s of a point on the curve", "0x" + signature.hex()
        ) from problem
    return address_of_public_key(public_key.format(compressed=False))


def personal_digest(message: Hash32) -> Hash32:
    """Digest that personal_sign signs for a 32-byte message (EIP-191)."""
    return Hash32(keccak(_PERSONAL_PREFIX + message))


def address_of_key(key: bytes) -> Address:
    """Account of a private key. Raises InputError for a key that is none."""
    return address_of_public_key(_private_key(key).public_key.format(compressed=False))


def address_of_public_key(public_key: bytes) -> Address:
    """Account of an uncompressed public key: 65 bytes with the leading 4, or the 64 bytes after it.

    Raises InputError for any other length.
    """
    if len(public_key) == 65:
        public_key = public_key[1:]
    elif len(public_key) != 64:
        raise InputError(
            "not an uncompressed public key",
            code="bad-length",
            expected="64 or 65 bytes",
            got=f"{len(public_key)} bytes",
        )
    return Address(keccak(public_key)[12:])


def _private_key(key: bytes) -> PrivateKey:
    try:
        if len(key) != 32:
            raise ValueError
        return PrivateKey(key)
    except ValueError:
        # The cause is dropped and the key not shown: it would end in a log.
        raise InputError(
            "not a private key", code="bad-key", expected="32 bytes, above 0 and below the curve order"
        ) from None


def _refused(what: str, expected: str, got: str) -> PeerError:
    return PeerError(f"{what} refused", code="bad-signature", expected=expected, got=got)
