"""Digests out of zips on the disk; hostile and damaged zips are refused, never worse."""

from __future__ import annotations

import hashlib
import io
import json
import random
import stat
import struct
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from poolwright.poco.results import callback_digest, directory_digest, file_digest
from poolwright.results.archive import ZipLimits, result_digests
from poolwright.results.errors import WrongContent

LIMITS = ZipLimits(max_entries=50, max_inflated_bytes=64 * 1024 * 1024)


def sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def computed(path: str = "/iexec_out/result.txt", **more: str) -> bytes:
    return json.dumps({"deterministic-output-path": path, **more}).encode()


def zipped(entries: dict[str, bytes] | list[tuple[str | zipfile.ZipInfo, bytes]], method: int = 8) -> bytes:
    pairs = list(entries.items()) if isinstance(entries, dict) else entries
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", method) as archive:
        for name, content in pairs:
            archive.writestr(name, content)
    return memory.getvalue()


@pytest.fixture
def digests(tmp_path: Path):
    def of(content: bytes, limits: ZipLimits = LIMITS):
        path = tmp_path / "result.zip"
        path.write_bytes(content)
        return result_digests(path, limits)

    return of


def refusal(digests, content: bytes) -> str:
    with pytest.raises(WrongContent) as refused:
        digests(content)
    return str(refused.value)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_file_stands_for_its_sha256(digests, method):
    content = zipped({"computed.json": computed(), "result.txt": b"42", "stdout.txt": b"noise"}, method)

    assert digests(content) == (file_digest(sha256(b"42")),)


def test_a_folder_stands_for_its_direct_files_in_path_order(digests):
    content = zipped(
        {
            "out/b.txt": b"B",
            "out/a.txt": b"A",
            "out/deeper/c.txt": b"C",
            "computed.json": computed("/iexec_out/out"),
        }
    )

    assert digests(content) == (directory_digest([("a.txt", sha256(b"A")), ("b.txt", sha256(b"B"))]),)


def test_the_whole_folder_may_be_the_output(digests):
    about = computed("/iexec_out")
    content = zipped({"computed.json": about, "a": b"A", "sub/b": b"B"})

    assert digests(content) == (directory_digest([("computed.json", sha256(about)), ("a", sha256(b"A"))]),)


def test_callback_data_stands_for_its_hash_beside_the_output(digests):
    about = computed(**{"callback-data": "0x0102"})
    content = zipped({"computed.json": about, "result.txt": b"42"})

    assert digests(content) == (callback_digest(b"\1\2"), file_digest(sha256(b"42")))


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        (
            {"deterministic-output-path": "/iexec_out/nothing", "callback-data": "0x01"},
            callback_digest(b"\1"),
        ),
        ({"deterministic-output-path": "/etc/passwd", "callback-data": "0x01"}, callback_digest(b"\1")),
        (
            {"deterministic-output-path": "/iexec_out/result.txt", "callback-data": "none"},
            file_digest(sha256(b"42")),
        ),
    ],
)
def test_what_is_wrong_with_one_kind_of_result_does_not_spoil_the_other(digests, about, expected):
    content = zipped({"computed.json": json.dumps(about).encode(), "result.txt": b"42"})

    assert digests(content) == (expected,)


def test_names_outside_ascii_are_found(digests):
    content = zipped({"computed.json": computed("/iexec_out/résumé 🐎.txt"), "résumé 🐎.txt": b"42"})

    assert digests(content) == (file_digest(sha256(b"42")),)


@pytest.mark.parametrize(
    ("entries", "complaint"),
    [
        ([], "computed.json at the top"),
        ([("result.txt", b"42")], "computed.json at the top"),
        ([("iexec_out/computed.json", computed())], "computed.json at the top"),
        ([("computed.json", computed())], "no such file"),
        ([("computed.json", computed("/iexec_out/empty")), ("empty/", b"")], "no such file"),
        ([("computed.json", b"{}")], "deterministic-output-path"),
        ([("computed.json", b" " * 300_000)], "262144 bytes"),
        ([("computed.json", computed()), ("../evil", b"")], "paths inside"),
        ([("computed.json", computed()), ("/etc/passwd", b"")], "paths inside"),
        ([("computed.json", computed()), ("a//b", b"")], "paths inside"),
        ([("computed.json", computed()), ("./a", b"")], "paths inside"),
        ([("computed.json", computed()), ("c:\\evil", b"")], "paths inside"),
        ([("computed.json", computed()), ("a", b""), ("a/b", b"")], "as both"),
        ([("computed.json", computed()), ("a", b""), ("a/", b"")], "as both"),
        ([(str(number), b"") for number in range(51)], "at most 50 entries"),
    ],
)
def test_zip_that_is_no_result_is_refused(digests, entries, complaint):
    assert complaint in refusal(digests, zipped(entries))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_entries_of_one_name_are_refused(digests):
    content = zipped([("computed.json", computed()), ("result.txt", b"1"), ("result.txt", b"2")])

    assert "twice" in refusal(digests, content)


def test_a_name_cut_by_a_nul_byte_is_refused(digests):
    content = zipped({"computed.json": computed(), "result.txt": b"1", "evilXname": b""})

    assert "paths inside" in refusal(digests, content.replace(b"evilXname", b"evil\0name"))


def test_a_symbolic_link_is_refused(digests):
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    content = zipped([("computed.json", computed()), ("result.txt", b"1"), (link, b"/etc/passwd")])

    assert "another kind" in refusal(digests, content)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unusual_compression_is_refused(digests, method):
    content = zipped({"computed.json": computed(), "result.txt": b"42"}, method)

    assert "stored or deflated" in refusal(digests, content)


def test_an_encrypted_entry_is_refused(digests):
    content = bytearray(zipped({"computed.json": computed(), "result.txt": b"42"}))
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.rindex(signature) + flags
        content[start : start + 2] = struct.pack("<H", 1)

    assert "not encrypted" in refusal(digests, bytes(content))


def test_a_zip_that_unpacks_to_too_much_is_refused_unread(digests):
    content = zipped({"computed.json": computed(), "zeros": bytes(65 * 1024 * 1024)})

    assert len(content) < 100_000
    assert "bytes unpacked" in refusal(digests, content)


def test_an_entry_that_lies_about_its_size_is_refused(digests):
    content = bytearray(zipped({"computed.json": computed(), "result.txt": bytes(10_000)}))
    start = content.rindex(b"PK\x01\x02") + 24
    content[start : start + 4] = struct.pack("<I", 100)

    assert "the zip of a result" in refusal(digests, bytes(content))


def test_a_list_of_entries_without_end_is_not_read_into_memory(digests):
    """A central directory of 60 MB, as the end record announces it, stops at 8 MiB."""
    size = 60 * 1024 * 1024
    content = bytes(size) + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, size, 0, 0)
    tracemalloc.start()
    message = refusal(digests, content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert "list of entries" in message
    assert peak < 20 * 1024 * 1024


def test_a_large_file_is_hashed_in_constant_memory(digests):
    content = zipped({"computed.json": computed(), "result.txt": bytes(48 * 1024 * 1024)})
    tracemalloc.start()
    digests(content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 20 * 1024 * 1024


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x05\x06", b"not a zip at all", bytes(1000)])
def test_bytes_that_are_no_zip_are_refused(digests, content):
    assert "the zip of a result" in refusal(digests, content)


@pytest.mark.parametrize("seed", range(5))
def test_a_damaged_zip_gives_the_same_digest_or_a_refusal(digests, seed):
    """Hundreds of random damages; nothing but WrongContent ever comes out."""
    rng = random.Random(seed)
    sound = zipped({"computed.json": computed(), "result.txt": rng.randbytes(300), "a/b": b"x" * 300})
    expected = digests(sound)
    for _ in range(200):
        damaged = bytearray(sound)
        for _ in range(rng.choice((1, 1, 2, 8))):
            damaged[rng.randrange(len(damaged))] = rng.choice((0, 1, 0x7F, 0xFF, rng.randrange(256)))
        if rng.random() < 0.2:
            del damaged[rng.randrange(len(damaged)) :]
        try:
            assert digests(bytes(damaged)) == expected
        except WrongContent:
            continue
