"""A picture in the terminal: PNG in, coloured half blocks out.

The reader takes what the example apps write: 8-bit RGB or RGBA, not interlaced (PNG specification, W3C
3rd edition, sections 9 and 11). Each character cell shows two pixels, one above the other: the upper half
block in the foreground colour, the rest in the background colour.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from poolwright.poco.errors import InputError

MAX_PIXELS = 16_000_000
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {2: 3, 6: 4}
"""Colour type -> bytes per pixel; the others are palettes and greys."""

Pixel = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Picture:
    """Rows of red, green, blue; all rows equally long."""

    rows: tuple[tuple[Pixel, ...], ...]

    @property
    def width(self) -> int:
        return len(self.rows[0])

    @property
    def height(self) -> int:
        return len(self.rows)


def read_png(content: bytes) -> Picture:
    """Read a PNG. Raises InputError when it is damaged or of a kind that this reader does not know."""
    if not content.startswith(_SIGNATURE):
        raise _bad("the PNG signature", content[:8].hex())
    try:
        header, body = _chunks(content)
        width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
        if depth != 8 or colour not in _CHANNELS or interlaced:
            raise _bad(
                "8-bit RGB or RGBA, not interlaced",
                f"{depth} bits, colour type {colour}, interlace {interlaced}",
            )
        if not 0 < width * height <= MAX_PIXELS:
            raise _bad(f"1 to {MAX_PIXELS} pixels", f"{width} x {height}")
        channels = _CHANNELS[colour]
        size = (1 + width * channels) * height
        raw = zlib.decompressobj().decompress(body, size)
        if len(raw) < size:
            raise _bad(f"{size} bytes of pixels", str(len(raw)))
    except (struct.error, zlib.error) as problem:
        raise _bad("a whole file", str(problem)) from problem
    lines = _unfilter(raw, width * channels, height, channels)
    return Picture(
        tuple(
            tuple((line[at], line[at + 1], line[at + 2]) for at in range(0, len(line), channels))
            for line in lines
        )
    )


def side_by_side(pictures: Sequence[Picture]) -> Picture:
    """Pictures of one height as one, from left to right. Raises InputError when their heights differ."""
    heights = {picture.height for picture in pictures}
    if len(heights) != 1:
        raise _bad("pictures of one height", ", ".join(map(str, sorted(heights))))
    rows = zip(*(picture.rows for picture in pictures), strict=True)
    return Picture(tuple(tuple(pixel for part in parts for pixel in part) for parts in rows))


def scaled(picture: Picture, columns: int, lines: int) -> Picture:
    """The picture as large as fits into so many character cells, one pixel wide and two high each.

    Each new pixel is the mean of those that it covers; the picture is never made larger.
    """
    factor = max(picture.width / columns, picture.height / (2 * lines), 1.0)
    width, height = max(1, int(picture.width / factor)), max(1, int(picture.height / factor))
    across = _spans(picture.width, width)
    return Picture(
        tuple(
            tuple(_mean(picture.rows[top:bottom], left, right) for left, right in across)
            for top, bottom in _spans(picture.height, height)
        )
    )


def half_blocks(picture: Picture) -> list[str]:
    """The picture as lines of text with 24-bit ANSI colours, two rows of pixels in each."""
    lines = []
    for top in range(0, picture.height, 2):
        upper = picture.rows[top]
        lower = picture.rows[top + 1] if top + 1 < picture.height else None
        cells = []
        for column, (red, green, blue) in enumerate(upper):
            ground = "" if lower is None else "\x1b[48;2;{};{};{}m".format(*lower[column])
            cells.append(f"\x1b[38;2;{red};{green};{blue}m{ground}▀")
        lines.append("".join(cells) + "\x1b[0m")
    return lines


def _chunks(content: bytes) -> tuple[bytes, bytes]:
    """The header's content and all image data, joined; checksums are checked."""
    header, body = b"", bytearray()
    at = len(_SIGNATURE)
    while at < len(content):
        length, kind = struct.unpack(">I4s", content[at : at + 8])
        piece = content[at + 8 : at + 8 + length]
        (checksum,) = struct.unpack(">I", content[at + 8 + length : at + 12 + length])
        if zlib.crc32(kind + piece) != checksum:
            raise _bad(f"the checksum of chunk {kind!r}", f"{checksum:08x}")
        if kind == b"IHDR":
            header = piece
        elif kind == b"IDAT":
            body += piece
        at += 12 + length
    return header, bytes(body)


def _unfilter(raw: bytes, stride: int, height: int, channels: int) -> list[bytes]:
    """Undo the filter of each line: the difference to the left, above, their mean, or Paeth's guess."""
    lines: list[bytes] = []
    above = bytes(stride)
    for row in range(height):
        start = row * (stride + 1)
        kind, line = raw[start], bytearray(raw[start + 1 : start + 1 + stride])
        if kind == 2:  # what the examples write, and worth a short cut
            line = bytearray((one + up) & 255 for one, up in zip(line, above, strict=True))
        elif kind:
            for at in range(stride):
                left = line[at - channels] if at >= channels else 0
                corner = above[at - channels] if at >= channels else 0
                line[at] = (line[at] + _guess(kind, left, above[at], corner)) & 255
        above = bytes(line)
        lines.append(above)
    return lines


def _guess(kind: int, left: int, up: int, corner: int) -> int:
    match kind:
        case 1:
            return left
        case 3:
            return (left + up) // 2
        case 4:
            middle = left + up - corner
            return min((left, up, corner), key=lambda near: abs(middle - near))
        case _:
            raise _bad("filter 0 to 4", str(kind))


def _spans(size: int, parts: int) -> list[tuple[int, int]]:
    return [(part * size // parts, (part + 1) * size // parts) for part in range(parts)]


def _mean(rows: Sequence[Sequence[Pixel]], left: int, right: int) -> Pixel:
    covered = [pixel for row in rows for pixel in row[left:right]]
    red, green, blue = (sum(channel) // len(covered) for channel in zip(*covered, strict=True))
    return red, green, blue


def _bad(expected: str, got: str) -> InputError:
    return InputError(
        "not a picture to show here",
        code="bad-picture",
        expected=expected,
        got=got,
        next_step="open the file with a picture viewer",
    )
