"""Draws docs/timeline.svg from what the demo printed (poolwright demo | python tools/timeline_picture.py)."""

import io
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

TARGET = Path(__file__).parent.parent / "docs" / "timeline.svg"
WIDTH = 92
CHARACTER = 12.2
"""Width of a character in the drawing."""
STYLES = (
    (r"\bchain\b", "cyan"),
    (r"worker-\d+", "magenta"),
    (r"\b(TaskFinalize|COMPLETED|reconciles to the last nRLC)\b", "bold green"),
    (r"\b(COMPUTING|COMPUTED)\b", "yellow"),
    (r"\+\d+\.\d s", "dim"),
    (r"0x[0-9a-f]{8}…", "dim"),
)


def main() -> None:
    """Read the demo's plain output from standard input and write the picture."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    lines = sys.stdin.read().splitlines()
    first = next(index for index, line in enumerate(lines) if line.startswith("app "))
    for line in lines[first:]:
        text = Text(line[:WIDTH])
        for pattern, style in STYLES:
            for match in re.finditer(pattern, line[:WIDTH]):
                text.stylize(style, *match.span())
        console.print(text, no_wrap=True)
    drawing = console.export_svg(title="poolwright demo")
    drawing = re.sub(r"@font-face \{.*?\}", "", drawing, flags=re.DOTALL)  # fetches nothing from anywhere
    drawing = re.sub(r"<!--.*?-->", "", drawing)
    TARGET.write_text(
        re.sub(r'x="([\d.]+)" (y="[\d.]+") textLength="([\d.]+)" ([^>]*)>(.*?)<', placed, drawing)
    )


def placed(match: re.Match[str]) -> str:
    """A piece of text without the blanks around it, which some viewers drop: its place says the same."""
    left, y, length, rest, content = match.groups()
    words = content.replace("&#160;", " ")
    before = len(words) - len(words.lstrip(" "))
    after = len(words) - len(words.rstrip(" "))
    x = float(left) + before * CHARACTER
    width = float(length) - (before + after) * CHARACTER
    kept = words.strip(" ").replace(" ", "&#160;")
    return f'x="{x:g}" {y} textLength="{width:g}" {rest}>{kept}<'


if __name__ == "__main__":
    main()
