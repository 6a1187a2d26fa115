"""The small PNG reader and its half blocks."""

from __future__ import annotations

import struct
import zlib

import pytest

from poolwright.devnet.picture import Picture, half_blocks, read_png, scaled, side_by_side
from poolwright.poco.errors import InputError

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def png(width: int, lines: list[bytes], *, colour: int = 2, depth: int = 8, interlaced: int = 0) -> bytes:
    """A PNG of lines that begin with their filter byte."""
    header = struct.pack(">IIBBBBB", width, len(lines), depth, colour, 0, 0, interlaced)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"".join(lines))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def test_plain_lines_are_read_as_they_stand() -> None:
    picture = read_png(png(2, [bytes([0, *RED, *GREEN]), bytes([0, *BLUE, *WHITE])]))

    assert picture.rows == ((RED, GREEN), (BLUE, WHITE))


def test_an_alpha_channel_is_left_out() -> None:
    assert read_png(png(1, [bytes([0, *RED, 7])], colour=6)).rows == ((RED,),)


@pytest.mark.parametrize(
    ("kind", "second"),
    [
        (1, [10, 20, 30, 5, 5, 5]),  # the second pixel as its difference to the first
        (2, [9, 18, 27, 13, 22, 31]),  # ... to the line above
        (3, [10, 19, 29, 9, 14, 18]),  # ... to the mean of left and above
        (4, [9, 18, 27, 5, 5, 5]),  # ... to Paeth's guess
    ],
)
def test_each_filter_is_undone(kind: int, second: list[int]) -> None:
    picture = read_png(png(2, [bytes([0, 1, 2, 3, 2, 3, 4]), bytes([kind, *second])]))

    assert picture.rows[1] == ((10, 20, 30), (15, 25, 35))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"GIF89a", "the PNG signature"),
        (png(1, [bytes([0, 7])], colour=0), "8-bit RGB or RGBA"),
        (png(1, [bytes([0, *RED])], interlaced=1), "not interlaced"),
        (png(2, [bytes([0, *RED])]), "7 bytes of pixels"),
        (png(1, [bytes([9, *RED])]), "filter 0 to 4"),
        (png(1, [bytes([0, *RED])])[:40], "a whole file"),
        (png(1, [bytes([0, *RED])]).replace(b"IEND", b"IENX"), "the checksum of chunk"),
    ],
)
def test_what_is_no_such_picture_is_refused(content: bytes, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        read_png(content)


def test_panels_are_laid_side_by_side() -> None:
    left, right = Picture(((RED,), (GREEN,))), Picture(((BLUE, WHITE), (WHITE, BLUE)))

    assert side_by_side([left, right]).rows == ((RED, BLUE, WHITE), (GREEN, WHITE, BLUE))


def test_panels_of_different_height_are_refused() -> None:
    with pytest.raises(InputError, match="one height"):
        side_by_side([Picture(((RED,),)), Picture(((RED,), (RED,)))])


def test_a_large_picture_shrinks_to_means_and_a_small_one_stays() -> None:
    picture = Picture((((0, 0, 0), (100, 0, 0)), ((0, 100, 0), (0, 0, 100))))

    assert scaled(picture, columns=1, lines=1).rows == (((25, 25, 25),),)
    assert scaled(picture, columns=80, lines=24) == picture


def test_two_rows_of_pixels_make_one_line_of_text() -> None:
    [line, last] = half_blocks(Picture(((RED,), (GREEN,), (BLUE,))))

    assert line == "\x1b[38;2;255;0;0m\x1b[48;2;0;255;0m▀\x1b[0m"
    assert last == "\x1b[38;2;0;0;255m▀\x1b[0m"
