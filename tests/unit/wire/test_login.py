"""Login: the digest is standard EIP-712; challenges and tokens are ours, for one worker, for a while."""

from __future__ import annotations

import pytest
from eth_account.messages import _hash_eip191_message, encode_typed_data

from factories import ALICE, BOB, address, hash32
from poolwright.poco.errors import PeerError
from poolwright.poco.types import Timestamp
from poolwright.wire.login import (
    CHALLENGE_SECONDS,
    TOKEN_SECONDS,
    Challenge,
    check_challenge,
    check_token,
    login_digest,
    make_challenge,
    make_token,
)

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
NOW = 1_700_000_000
POOL = address("pool")


def test_digest_is_what_eth_account_signs() -> None:
    challenge = Challenge(nonce=hash32("nonce"), expires_at=Timestamp(NOW))
    message = encode_typed_data(
        full_message={
            "types": {
                "EIP712Domain": [
                    {"name": "name", "type": "string"},
                    {"name": "version", "type": "string"},
                    {"name": "chainId", "type": "uint256"},
                    {"name": "verifyingContract", "type": "address"},
                ],
                "Login": [
                    {"name": "worker", "type": "address"},
                    {"name": "nonce", "type": "bytes32"},
                    {"name": "expiresAt", "type": "uint256"},
                ],
            },
            "primaryType": "Login",
            "domain": {
                "name": "Poolwright scheduler",
                "version": "1",
                "chainId": 134,
                "verifyingContract": str(POOL),
            },
            "message": {"worker": str(ALICE), "nonce": bytes(challenge.nonce), "expiresAt": NOW},
        }
    )

    assert login_digest(134, POOL, ALICE, challenge) == bytes(_hash_eip191_message(message))


def test_digest_differs_for_every_pool_chain_worker_and_challenge() -> None:
    challenge = make_challenge(KEY, ALICE, NOW)
    digests = {
        login_digest(134, POOL, ALICE, challenge),
        login_digest(135, POOL, ALICE, challenge),
        login_digest(134, address("other pool"), ALICE, challenge),
        login_digest(134, POOL, BOB, challenge),
        login_digest(134, POOL, ALICE, make_challenge(KEY, ALICE, NOW + 1)),
    }

    assert len(digests) == 5


def test_challenge_is_good_for_its_worker_until_it_expires() -> None:
    challenge = make_challenge(KEY, ALICE, NOW)

    check_challenge(KEY, ALICE, challenge, NOW)
    check_challenge(KEY, ALICE, challenge, NOW + CHALLENGE_SECONDS - 1)
    with pytest.raises(PeerError) as refused:
        check_challenge(KEY, ALICE, challenge, NOW + CHALLENGE_SECONDS)
    assert refused.value.code == "challenge-expired"


def test_challenge_of_another_worker_key_or_expiry_is_foreign() -> None:
    challenge = make_challenge(KEY, ALICE, NOW)
    longer = Challenge(nonce=challenge.nonce, expires_at=Timestamp(challenge.expires_at + 1))

    for key, worker, shown in ((OTHER_KEY, ALICE, challenge), (KEY, BOB, challenge), (KEY, ALICE, longer)):
        with pytest.raises(PeerError) as refused:
            check_challenge(key, worker, shown, NOW)
        assert refused.value.code == "foreign-challenge"


def test_token_names_its_worker_until_it_expires() -> None:
    token = make_token(KEY, ALICE, NOW)

    assert check_token(KEY, token, NOW + TOKEN_SECONDS - 1) == ALICE
    with pytest.raises(PeerError) as refused:
        check_token(KEY, token, NOW + TOKEN_SECONDS)
    assert refused.value.code == "token-expired"


def test_token_that_was_changed_anywhere_is_refused() -> None:
    token = make_token(KEY, ALICE, NOW)
    swapped = [token[:i] + ("1" if c == "0" else "0") + token[i + 1 :] for i, c in enumerate(token)]
    others = ["", ".", "..", token + "0", token[:-1], token.upper(), "\xff" * 64, f"{token}.{token}"]

    for wrong in [*swapped, *others, make_token(OTHER_KEY, ALICE, NOW)]:
        with pytest.raises(PeerError) as refused:
            check_token(KEY, wrong, NOW)
        assert refused.value.code == "bad-token"


def test_challenge_is_no_token_and_token_no_challenge() -> None:
    challenge = make_challenge(KEY, ALICE, NOW)

    with pytest.raises(PeerError):
        check_token(KEY, f"{ALICE}.{challenge.expires_at}.{challenge.nonce.hex()}", NOW)
