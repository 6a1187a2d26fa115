"""Upload authorizations and result links: exact texts, the digest against eth-account, every refusal."""

from __future__ import annotations

from dataclasses import replace

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from hypothesis import given, settings
from hypothesis import strategies as st

from poolwright.poco.errors import PeerError
from poolwright.poco.keccak import keccak
from poolwright.poco.signatures import address_of_key, sign_digest
from poolwright.poco.types import Address, Hash32, TaskId, Timestamp, WorkerAddress
from poolwright.wire.uploads import (
    MAX_AUTHORIZATION_SECONDS,
    MAX_LINK_BYTES,
    ResultLink,
    UploadAuthorization,
    authorization_header,
    parse_authorization,
    parse_result_link,
    result_link,
    upload_digest,
    verify_authorization,
)

KEY = bytes(31) + b"\x07"
WORKER = WorkerAddress(address_of_key(KEY))
HUB = Address(b"\x11" * 20)
TASK = TaskId(Hash32(keccak(b"task")))
NOW = Timestamp(1_700_000_000)
CID = "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH"


def signed(expires_at: int = NOW + 60, *, chain_id: int = 134, key: bytes = KEY) -> UploadAuthorization:
    digest = upload_digest(chain_id, HUB, TASK, WORKER, Timestamp(expires_at))
    return UploadAuthorization(
        worker=WORKER, expires_at=Timestamp(expires_at), signature=sign_digest(key, digest)
    )


def verify(authorization: UploadAuthorization, *, task_id: TaskId = TASK) -> None:
    verify_authorization(authorization, chain_id=134, hub=HUB, task_id=task_id, now=NOW)


def test_digest_is_the_typed_data_that_a_wallet_signs():
    typed_data = {
        "types": {
            "EIP712Domain": [
                {"name": "name", "type": "string"},
                {"name": "version", "type": "string"},
                {"name": "chainId", "type": "uint256"},
                {"name": "verifyingContract", "type": "address"},
            ],
            "ResultUpload": [
                {"name": "taskId", "type": "bytes32"},
                {"name": "worker", "type": "address"},
                {"name": "expiresAt", "type": "uint256"},
            ],
        },
        "primaryType": "ResultUpload",
        "domain": {
            "name": "Poolwright results",
            "version": "1",
            "chainId": 134,
            "verifyingContract": str(HUB),
        },
        "message": {"taskId": bytes(TASK), "worker": str(WORKER), "expiresAt": NOW},
    }
    by_wallet = Account.sign_message(encode_typed_data(full_message=typed_data), KEY)

    ours = sign_digest(KEY, upload_digest(134, HUB, TASK, WORKER, NOW))

    assert ours == bytes(by_wallet.signature)


@settings(deadline=None)
@given(st.binary(min_size=20, max_size=20), st.integers(0, 10**15), st.binary(min_size=64, max_size=65))
def test_header_round_trips(worker, expires_at, signature):
    authorization = UploadAuthorization(
        worker=WorkerAddress(Address(worker)), expires_at=Timestamp(expires_at), signature=signature
    )

    assert parse_authorization(authorization_header(authorization)) == authorization


def test_signed_claim_in_force_is_accepted():
    verify(signed())
    verify(signed(NOW + MAX_AUTHORIZATION_SECONDS))


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        (signed(NOW), "authorization-expired"),
        (signed(NOW + MAX_AUTHORIZATION_SECONDS + 1), "authorization-too-long"),
        (signed(chain_id=133), "bad-signature"),
        (signed(key=bytes(31) + b"\x08"), "bad-signature"),
        (replace(signed(), expires_at=Timestamp(NOW + 61)), "bad-signature"),
        (replace(signed(), signature=bytes(65)), "bad-signature"),
        (replace(signed(), signature=b"\1"), "invalid-signature-format"),
    ],
)
def test_claim_not_in_force_is_refused(authorization, code):
    with pytest.raises(PeerError) as refused:
        verify(authorization)

    assert refused.value.code == code


def test_claim_for_another_task_is_refused():
    with pytest.raises(PeerError, match="somebody else"):
        verify(signed(), task_id=TaskId(Hash32(keccak(b"other task"))))


@pytest.mark.parametrize(
    "header",
    [
        "",
        "PoolwrightUpload",
        "Bearer 0x1",
        "PoolwrightUpload 0x12.3.0x45",
        authorization_header(signed()) + ".",
        authorization_header(signed()).replace(".", ",", 1),
        authorization_header(signed())[:-1],
        authorization_header(signed()) + "\n",
    ],
)
def test_header_of_another_form_is_refused(header):
    with pytest.raises(PeerError) as refused:
        parse_authorization(header)

    assert refused.value.code == "bad-authorization"


def test_result_link_is_the_exact_text_of_the_network():
    assert result_link(CID) == b'{ "storage": "ipfs", "location": "/ipfs/' + CID.encode() + b'" }'


def test_result_link_reads_back_to_its_cid():
    link = parse_result_link(result_link(CID))

    assert link == ResultLink(storage="ipfs", location=f"/ipfs/{CID}")
    assert link.cid == CID


def test_link_of_a_3_0_x_scheduler_has_a_cid_too():
    link = parse_result_link(f"/ipfs/{CID}".encode())

    assert link is not None
    assert link.cid == CID


def test_link_to_another_storage_has_no_cid():
    link = parse_result_link(b'{"storage":"dropbox","location":"/results/0x12"}')

    assert link == ResultLink(storage="dropbox", location="/results/0x12")
    assert link.cid is None


@settings(deadline=None)
@given(st.binary())
def test_any_other_bytes_read_as_a_link_or_as_none(results):
    link = parse_result_link(results)

    assert link is None or isinstance(link, ResultLink)


@pytest.mark.parametrize(
    "results",
    [
        b"",
        b"\xff",
        b"null",
        b"[]",
        b'{"storage":1,"location":2}',
        b'{"storage":"ipfs"}',
        b"[" * 1000,
        b"[" * 99_999,
        b"/ipfs/" + bytes(MAX_LINK_BYTES),
    ],
)
def test_results_without_a_link_read_as_none(results):
    assert parse_result_link(results) is None
