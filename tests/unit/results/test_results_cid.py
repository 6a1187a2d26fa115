"""CIDs: known addresses, independence of how the bytes arrive, constant memory, text forms."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poolwright.results.cid import LEAF_BYTES, FileCid, base58, cid_of, cid_v1, parse_cid

EMPTY_FILE = "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH"
HELLO_WORLD = "QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o"


def test_empty_file_has_its_well_known_cid():
    assert cid_of(b"") == EMPTY_FILE


def test_hello_world_has_the_cid_that_ipfs_add_prints():
    assert cid_of(b"hello world\n") == HELLO_WORLD


@settings(deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=30))
def test_pieces_of_any_size_give_the_cid_of_the_whole(pieces):
    whole, fed = FileCid(16, 3), FileCid(16, 3)
    whole.update(b"".join(pieces))
    for piece in pieces:
        fed.update(piece)

    assert fed.size == whole.size
    assert fed.finish() == whole.finish()


def test_memory_stays_constant_while_64_mb_stream_by():
    cid, piece = FileCid(), bytes(LEAF_BYTES // 2)
    tracemalloc.start()
    for _ in range(512):
        cid.update(piece)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert cid.size == 64 * 1024 * 1024
    assert peak < 4 * LEAF_BYTES


@settings(deadline=None)
@given(st.binary(max_size=100))
def test_both_text_forms_parse_to_the_same_cid(content):
    cid = cid_of(content)

    assert parse_cid(cid) == cid
    assert parse_cid(cid_v1(cid)) == cid


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Qm",
        EMPTY_FILE[:-1],
        EMPTY_FILE + "1",
        "0" + EMPTY_FILE[1:],
        "z" * 46,
        "1" * 46,
        "../../etc/passwd",
        cid_v1(EMPTY_FILE)[:-1],
        cid_v1(EMPTY_FILE).upper(),
        "b" + "1" * 58,
        "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku",
    ],
)
def test_text_that_is_no_cid_of_ours_is_refused(text):
    assert parse_cid(text) is None


def test_base58_keeps_leading_zero_bytes():
    assert base58(b"\0\0\x39") == "11z"
