"""Paint one panel of a poster of the Mandelbrot set, as a PNG.

The poster is a row of panels, one for each task of the bag; laid side by side they are one picture.

    poster.py [scene] [--colours NAME] [--width W] [--height H]

Scenes and colours are listed below. The panel's number and their count come from IEXEC_BOT_TASK_INDEX,
IEXEC_BOT_FIRST_INDEX and IEXEC_BOT_SIZE; the picture goes to IEXEC_OUT.

The same arguments give the same bytes on every machine: all arithmetic is +, -, * and /, which IEEE 754
defines to the last bit; the logarithm, which it does not, is made of them.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import struct
import sys
import zlib
from pathlib import Path

# Centre and height of a view, the steps of its farthest points, and how many steps a point gets at most.
SCENES = {
    "coral": (complex(-0.5622, 0.6428), 0.030, 6, 200),
    "lightning": (complex(-0.1585, 1.0335), 0.052, 2.5, 180),
    "starfish": (complex(-0.235125, 0.827215), 0.0072, 9, 200),
}

# Colours of the ground as the boundary comes closer, then of the glow along it; red green blue, 0 to 1.
COLOURS = {
    "deep-sea": (
        ((0.01, 0.03, 0.10), (0.02, 0.16, 0.36), (0.08, 0.47, 0.62), (0.55, 0.83, 0.80)),
        (1.0, 0.90, 0.72),
    ),
    "ember": (
        ((0.06, 0.01, 0.05), (0.30, 0.05, 0.10), (0.75, 0.24, 0.08), (0.98, 0.68, 0.25)),
        (1.0, 0.97, 0.86),
    ),
    "moss": (
        ((0.02, 0.05, 0.04), (0.07, 0.22, 0.14), (0.38, 0.53, 0.20), (0.84, 0.83, 0.50)),
        (0.99, 0.98, 0.90),
    ),
}

INSIDE = -1.0
ESCAPED = 64.0
SAME = 1e-9
DARK = (0.010, 0.012, 0.030)
LIGHT_X, LIGHT_Y, LIGHT_UP = -0.58, -0.58, 0.57
RELIEF = 0.0007
GLOW = 0.16


def log2(value: float) -> float:
    """Logarithm to base 2 of a positive number by its series, the same to the last bit everywhere."""
    mantissa, exponent = math.frexp(value)
    ratio = (mantissa - 0.75) / (mantissa + 0.75)  # mantissa in [0.5, 1): |ratio| <= 0.2
    square = ratio * ratio
    series = 1.0 + square * (1 / 3 + square * (1 / 5 + square * (1 / 7 + square * (1 / 9 + square / 11))))
    return exponent - 0.41503749927884376 + 2.8853900817779268 * ratio * series


def escape(c: complex, steps: int) -> float:
    """After how many steps, fractions of one included, z*z+c leaves a large circle; INSIDE when it does not.

    Four steps between two looks: past the circle the count is a continuous function of the distance, so it
    does not matter at which step the point is caught.
    """
    x, y = c.real, c.imag
    square = y * y
    q = (x - 0.25) * (x - 0.25) + square
    if q * (q + x - 0.25) <= 0.25 * square or (x + 1.0) * (x + 1.0) + square <= 0.0625:
        return INSIDE
    z = c
    seen = c
    count = 0
    review = 32
    while count < steps:
        z = z * z + c
        z = z * z + c
        z = z * z + c
        z = z * z + c
        count += 4
        x, y = z.real, z.imag
        square = x * x + y * y
        if square > ESCAPED:
            return max(0.0, count - log2(log2(square) * 0.5))
        if abs(x - seen.real) + abs(y - seen.imag) < SAME:
            return INSIDE
        if count == review:
            seen = z
            review += review
    return INSIDE


class View:
    """The whole poster and the panel of it that this task paints; one pixel of margin for the slopes."""

    def __init__(self, scene: str, width: int, height: int, panel: int, panels: int) -> None:
        centre, tall, self.lowest, self.steps = SCENES[scene]
        self.width, self.height = width, height
        self.pixel = tall / height
        left = (panel - panels / 2) * width
        self.corner = complex(centre.real + left * self.pixel, centre.imag + height / 2 * self.pixel)

    def at(self, column: float, row: float) -> float:
        x = self.corner.real + (column + 0.5) * self.pixel
        y = self.corner.imag - (row + 0.5) * self.pixel
        return escape(complex(x, y), self.steps)


Colour = tuple[float, float, float]


def ground(stops: tuple[Colour, ...], size: int = 4096) -> list[Colour]:
    """The colours from far to near, eased between their stops."""
    colours = []
    for index in range(size):
        place = index / size * (len(stops) - 1)
        first = int(place)
        part = place - first
        part = part * part * (3.0 - 2.0 * part)
        low, high = stops[first], stops[first + 1]
        red, green, blue = (a + (b - a) * part for a, b in zip(low, high, strict=True))
        colours.append((red, green, blue))
    return colours


class Palette:
    """Colour by how close the boundary is, light by the slope, as on a relief lit from the upper left."""

    def __init__(self, name: str, lowest: float, steps: int) -> None:
        stops, self.glow = COLOURS[name]
        self.ground = ground(stops)
        self.start = log2(lowest + 1.0)
        self.scale = len(self.ground) / (log2(steps) - self.start)

    def shade(self, count: float, slope_x: float, slope_y: float) -> Colour:
        if count < 0.0:
            return DARK
        near = int((log2(count + 1.0) - self.start) * self.scale)
        red, green, blue = self.ground[max(0, min(len(self.ground) - 1, near))]
        steep = slope_x * slope_x + slope_y * slope_y
        lit = LIGHT_UP - (LIGHT_X * slope_x + LIGHT_Y * slope_y) * 1.6 / (1.0 + steep)
        bright = 0.40 + 1.05 * max(0.0, lit)
        glow = 1.0 - 1.0 / (1.0 + GLOW * steep)
        keep = (1.0 - glow) * bright
        glow = glow * (0.62 + 0.55 * max(0.0, lit))
        shine = self.glow
        return (red * keep + shine[0] * glow, green * keep + shine[1] * glow, blue * keep + shine[2] * glow)


def paint(view: View, colours: str) -> list[bytearray]:
    """All rows of the panel. Pixels whose neighbours differ much are the mean of four."""
    width, height = view.width, view.height
    at = view.at
    relief = RELIEF * height
    counts = [[at(column, row) for column in range(-1, width + 1)] for row in range(-1, height + 1)]
    shade = Palette(colours, view.lowest, view.steps).shade
    rows = []
    for row in range(height):
        above, here, below = counts[row], counts[row + 1], counts[row + 2]
        line = bytearray()
        for column in range(width):
            count = here[column + 1]
            left, right, up, down = here[column], here[column + 2], above[column + 1], below[column + 1]
            slope_x, slope_y = (right - left) * relief, (down - up) * relief
            red, green, blue = shade(count, slope_x, slope_y)
            if abs(right - count) + abs(left - count) + abs(up - count) + abs(down - count) > 3.0:
                for dx, dy in ((0.5, 0.0), (0.0, 0.5), (0.5, 0.5)):
                    r, g, b = shade(at(column + dx, row + dy), slope_x, slope_y)
                    red, green, blue = red + r, green + g, blue + b
                red, green, blue = red * 0.25, green * 0.25, blue * 0.25
            for light in (red, green, blue):
                line.append(255 if light >= 1.0 else int(light * 255.0 + 0.5))
        rows.append(line)
    return rows


def write_png(path: Path, rows: list[bytearray]) -> None:
    """Write rows of red green blue bytes; each row as its difference to the one above (filter 2)."""
    width = len(rows[0]) // 3
    previous = bytearray(len(rows[0]))
    packed = zlib.compressobj(9)
    body = bytearray()
    for row in rows:
        body += packed.compress(b"\x02" + bytes((a - b) & 255 for a, b in zip(row, previous, strict=True)))
        previous = row
    body += packed.flush()
    with path.open("wb") as out:
        out.write(b"\x89PNG\r\n\x1a\n")
        for kind, content in (
            (b"IHDR", struct.pack(">IIBBBBB", width, len(rows), 8, 2, 0, 0, 0)),
            (b"IDAT", bytes(body)),
            (b"IEND", b""),
        ):
            out.write(struct.pack(">I", len(content)) + kind + content)
            out.write(struct.pack(">I", zlib.crc32(kind + content)))


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="poster", description="One panel of a poster of the Mandelbrot set."
    )
    parser.add_argument("scene", nargs="?", default="coral", choices=sorted(SCENES))
    parser.add_argument("--colours", default="deep-sea", choices=sorted(COLOURS))
    parser.add_argument("--width", type=int, default=280, help="of one panel, pixels")
    parser.add_argument("--height", type=int, default=360, help="pixels")
    options = parser.parse_args(words)
    if not (16 <= options.width <= 4000 and 16 <= options.height <= 4000):
        parser.error("--width and --height must lie between 16 and 4000")
    out = Path(os.environ.get("IEXEC_OUT", "."))
    panels = max(1, int(os.environ.get("IEXEC_BOT_SIZE", "1")))
    first = int(os.environ.get("IEXEC_BOT_FIRST_INDEX", "0"))
    panel = int(os.environ.get("IEXEC_BOT_TASK_INDEX", "0")) - first
    view = View(options.scene, options.width, options.height, panel, panels)
    rows = paint(view, options.colours)
    name = f"{options.scene}-{panel + 1}-of-{panels}.png"
    write_png(out / name, rows)
    result = {"deterministic-output-path": f"/iexec_out/{name}"}
    (out / "computed.json").write_text(json.dumps(result) + "\n")
    print(f"painted {name}: {options.width} x {options.height} pixels")
    return 0


if __name__ == "__main__":
    sys.exit(main())
