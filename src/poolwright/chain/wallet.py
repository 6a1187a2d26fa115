"""A wallet: one key that signs digests and transactions.

The two transaction forms are written out by hand on RLP (seven times faster than the general library,
which is the tests' oracle): EIP-1559 (type 2) and legacy with EIP-155's chain id.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import coincurve

from poolwright.chain.gas import Fees
from poolwright.poco import rlp
from poolwright.poco.keccak import keccak
from poolwright.poco.signatures import address_of_key, sign_with
from poolwright.poco.types import Address, Hash32, TxHash, Wei


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """What a wallet signs; without a tip it is a legacy transaction, `to=None` creates a contract."""

    chain_id: int
    nonce: int
    to: Address | None
    data: bytes
    value: Wei
    gas_limit: int
    fees: Fees


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedTransaction:
    """The bytes to broadcast and the hash under which the chain knows them."""

    raw: bytes
    tx_hash: TxHash


class Wallet:
    """One private key; prints as its address only. Raises InputError when the key is none."""

    __slots__ = ("_private_key", "address")

    def __init__(self, key: bytes) -> None:
        self.address: Final = address_of_key(key)
        self._private_key: Final = coincurve.PrivateKey(key)

    def __repr__(self) -> str:
        return f"Wallet({self.address})"

    def sign_digest(self, digest: Hash32) -> bytes:
        """Sign 32 bytes; returns r || s || v with v 27 or 28, as the contracts take it."""
        return sign_with(self._private_key, digest)

    def sign_transaction(self, tx: Transaction) -> SignedTransaction:
        """Sign a transaction; the same transaction always gives the same bytes (RFC 6979)."""
        raw = self._sign_legacy(tx) if tx.fees.tip is None else self._sign_1559(tx, tx.fees.tip)
        return SignedTransaction(raw=raw, tx_hash=TxHash(Hash32(keccak(raw))))

    def _sign_1559(self, tx: Transaction, tip: Wei) -> bytes:
        """EIP-1559: 0x02 || rlp(fields..., y_parity, r, s), signed over 0x02 || rlp(fields)."""
        fields: list[rlp.Item] = [
            tx.chain_id,
            tx.nonce,
            tip,
            tx.fees.max_fee,
            tx.gas_limit,
            b"" if tx.to is None else tx.to,
            tx.value,
            tx.data,
            [],
        ]
        parity, r, s = self._signature(b"\x02" + rlp.encode(fields))
        return b"\x02" + rlp.encode([*fields, parity, r, s])

    def _sign_legacy(self, tx: Transaction) -> bytes:
        """EIP-155: signed over rlp(fields, chain id, 0, 0); v = parity + 35 + 2 x chain id."""
        fields: list[rlp.Item] = [
            tx.nonce,
            tx.fees.max_fee,
            tx.gas_limit,
            b"" if tx.to is None else tx.to,
            tx.value,
            tx.data,
        ]
        parity, r, s = self._signature(rlp.encode([*fields, tx.chain_id, 0, 0]))
        return rlp.encode([*fields, parity + 35 + 2 * tx.chain_id, r, s])

    def _signature(self, message: bytes) -> tuple[int, int, int]:
        signature = self._private_key.sign_recoverable(keccak(message), hasher=None)
        return signature[64], int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
