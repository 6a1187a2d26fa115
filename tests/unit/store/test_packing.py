"""Snapshots are stored deflated; those of earlier versions, and damaged ones, are given as they stand."""

from __future__ import annotations

import pytest

from poolwright.store.packing import packed, unpacked


@pytest.mark.parametrize("body", [b"", b"{}", b"\0", b'{"tasks":[' + b'{"id":"0x12"},' * 10_000 + b"{}]}"])
def test_what_is_packed_is_unpacked(body: bytes) -> None:
    assert unpacked(packed(body)) == body


def test_json_shrinks_much() -> None:
    body = b"[" + b",".join(b'{"id":"0x%064x","at":%d}' % (n * 7919, n) for n in range(5_000)) + b"]"
    assert len(packed(body)) < len(body) / 5


def test_a_snapshot_of_an_earlier_version_is_given_as_it_stands() -> None:
    assert unpacked(b'{"now":12}') == b'{"now":12}'


def test_a_damaged_one_is_given_to_its_reader_who_refuses_it() -> None:
    damaged = packed(b'{"now":12}')[:-3]
    assert unpacked(damaged) == damaged
