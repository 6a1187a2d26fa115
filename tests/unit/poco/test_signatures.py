"""Signatures and authorizations against eth-account, and what the contracts would refuse."""

from __future__ import annotations

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_keys import keys
from eth_utils import keccak

from poolwright.poco.authorization import (
    authorization_digest,
    authorization_hash,
    enclave_digest,
    sign_authorization,
    verify_authorization,
    verify_enclave_signature,
)
from poolwright.poco.errors import InputError, PeerError
from poolwright.poco.signatures import (
    address_of_key,
    address_of_public_key,
    personal_digest,
    recover,
    sign_digest,
)
from poolwright.poco.types import Address, Hash32, TaskId

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
KEY = bytes.fromhex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
ACCOUNT = Address.parse("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266")
"""Account 0 of the well-known test mnemonic."""
DIGEST = Hash32(keccak(b"message"))
TASK = TaskId(Hash32(b"\x11" * 32))
WORKER = Address(b"\x33" * 20)
NO_ENCLAVE = Address.zero()


def test_the_account_of_a_key_is_the_well_known_one() -> None:
    assert address_of_key(KEY) == ACCOUNT
    public_key = keys.PrivateKey(KEY).public_key.to_bytes()
    assert address_of_public_key(public_key) == ACCOUNT
    assert address_of_public_key(b"\x04" + public_key) == ACCOUNT


def test_a_signature_equals_the_one_of_eth_account() -> None:
    assert sign_digest(KEY, DIGEST) == Account.unsafe_sign_hash(DIGEST, KEY).signature
    assert recover(DIGEST, sign_digest(KEY, DIGEST)) == ACCOUNT


def test_a_compact_signature_of_eip_2098_recovers_the_same_account() -> None:
    for message in (b"one", b"two", b"three", b"four"):  # both values of v occur
        digest = Hash32(keccak(message))
        signature = sign_digest(KEY, digest)
        y_parity_and_s = bytearray(signature[32:64])
        y_parity_and_s[0] |= (signature[64] - 27) << 7

        assert recover(digest, signature[:32] + y_parity_and_s) == ACCOUNT


@pytest.mark.parametrize("length", [0, 1, 63, 66, 130])
def test_a_signature_of_another_length_is_refused_with_the_word_of_the_contract(length: int) -> None:
    with pytest.raises(PeerError, match=f"invalid-signature-format.*got {length} bytes"):
        recover(DIGEST, bytes(length))


def test_the_malleable_twin_of_a_signature_is_refused() -> None:
    signature = sign_digest(KEY, DIGEST)
    s = ORDER - int.from_bytes(signature[32:64], "big")
    twin = signature[:32] + s.to_bytes(32, "big") + bytes([27 + 28 - signature[64]])

    with pytest.raises(PeerError, match="lower half of the curve order"):
        recover(DIGEST, twin)


@pytest.mark.parametrize("v", [0, 1, 26, 29, 255])
def test_another_v_is_refused(v: int) -> None:
    with pytest.raises(PeerError, match=f"v of the signature refused, expected 27 or 28, got {v}"):
        recover(DIGEST, sign_digest(KEY, DIGEST)[:64] + bytes([v]))


@pytest.mark.parametrize(
    "r", [0, 5, ORDER, (1 << 256) - 1], ids=["zero", "no point", "curve order", "above the curve order"]
)
def test_an_r_that_is_no_point_is_refused(r: int) -> None:
    with pytest.raises(PeerError, match="point on the curve"):
        recover(DIGEST, r.to_bytes(32, "big") + (1).to_bytes(32, "big") + b"\x1b")


@pytest.mark.parametrize("key", [b"", b"\0" * 32, ORDER.to_bytes(32, "big"), KEY + b"\0"])
def test_a_key_that_is_none_is_refused_without_showing_it(key: bytes) -> None:
    with pytest.raises(InputError, match="not a private key") as caught:
        sign_digest(key, DIGEST)
    assert caught.value.got == ""
    assert caught.value.__suppress_context__


def test_a_compressed_public_key_is_refused() -> None:
    with pytest.raises(InputError, match="64 or 65 bytes"):
        address_of_public_key(keys.PrivateKey(KEY).public_key.to_compressed_bytes())


def test_an_authorization_is_what_eth_account_signs_over_the_packed_hash() -> None:
    enclave = Address(b"\x44" * 20)
    packed = authorization_hash(WORKER, TASK, enclave)
    assert packed == keccak(WORKER + TASK + enclave)

    expected = Account.sign_message(encode_defunct(packed), KEY).signature

    assert sign_authorization(KEY, WORKER, TASK, enclave) == expected
    assert authorization_digest(WORKER, TASK, enclave) == personal_digest(packed)


def test_an_authorization_holds_for_its_worker_task_and_challenge_only() -> None:
    signature = sign_authorization(KEY, WORKER, TASK, NO_ENCLAVE)
    verify_authorization(signature, signer=ACCOUNT, worker=WORKER, task_id=TASK, enclave_challenge=NO_ENCLAVE)

    with pytest.raises(PeerError, match=f"authorization of worker {ACCOUNT}.*expected signer {ACCOUNT}"):
        verify_authorization(
            signature, signer=ACCOUNT, worker=ACCOUNT, task_id=TASK, enclave_challenge=NO_ENCLAVE
        )
    with pytest.raises(PeerError):
        verify_authorization(signature, signer=ACCOUNT, worker=WORKER, task_id=TASK, enclave_challenge=WORKER)


def test_an_enclave_signs_hash_and_seal() -> None:
    result_hash, seal = Hash32(b"\x55" * 32), Hash32(b"\x66" * 32)
    signature = Account.sign_message(encode_defunct(keccak(result_hash + seal)), KEY).signature

    verify_enclave_signature(signature, enclave_challenge=ACCOUNT, result_hash=result_hash, result_seal=seal)
    assert recover(enclave_digest(result_hash, seal), signature) == ACCOUNT
    with pytest.raises(PeerError, match="enclave signature"):
        verify_enclave_signature(
            signature, enclave_challenge=WORKER, result_hash=result_hash, result_seal=seal
        )


def test_without_an_enclave_challenge_the_enclave_signature_is_ignored_as_in_the_contract() -> None:
    verify_enclave_signature(
        b"", enclave_challenge=NO_ENCLAVE, result_hash=Hash32.zero(), result_seal=Hash32.zero()
    )
