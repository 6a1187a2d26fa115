"""The key to a task's logs: a challenge that only its address can have signed, and only lately."""

from __future__ import annotations

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data

from poolwright.poco.errors import PeerError
from poolwright.poco.signatures import address_of_key, sign_digest
from poolwright.wire.task_logs import (
    MAX_CHARACTERS,
    WINDOW_SECONDS,
    ComputeLogs,
    challenge_digest,
    challenge_of,
    reader_of,
    typed_challenge,
)

SECRET = bytes(32)
KEY = bytes(31) + b"\x07"
READER = address_of_key(KEY)
NOW = 1_700_000_000


def header(*, at: int = NOW, key: bytes = KEY, chain_id: int = 5) -> str:
    digest = challenge_digest(chain_id, challenge_of(SECRET, READER, at))
    return f"{digest}_0x{sign_digest(key, digest).hex()}_{READER}"


def test_digest_is_the_one_that_wallets_sign() -> None:
    challenge = challenge_of(SECRET, READER, NOW)
    signed = Account.sign_message(encode_typed_data(full_message=typed_challenge(5, challenge)), KEY)
    assert bytes(signed.message_hash) == challenge_digest(5, challenge)


def test_signer_of_this_hours_challenge_is_let_in() -> None:
    assert reader_of(SECRET, 5, header(), NOW) == READER


def test_challenge_is_good_into_the_next_hour_and_not_for_ever() -> None:
    assert reader_of(SECRET, 5, header(), NOW + WINDOW_SECONDS) == READER
    with pytest.raises(PeerError, match="fresh challenge"):
        reader_of(SECRET, 5, header(), NOW + 2 * WINDOW_SECONDS)


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "0x00",
        "a_b",
        "a_b_c",
        header() + "_more",
        header(key=bytes(31) + b"\x08"),
        header(chain_id=6),
        header().replace("_0x", "_0xzz"),
    ],
)
def test_everybody_else_is_refused(authorization: str) -> None:
    with pytest.raises(PeerError) as caught:
        reader_of(SECRET, 5, authorization, NOW)
    assert caught.value.code == "bad-logs-token"


def test_only_the_end_of_long_logs_is_kept() -> None:
    logs = ComputeLogs(stdout="a" + "b" * MAX_CHARACTERS, stderr="").bounded()
    assert logs.stdout == "b" * MAX_CHARACTERS
