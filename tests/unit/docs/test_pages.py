"""What the pages name exists: files, commands and options, targets of make. Decisions have one form."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from poolwright.cli.iexec.main import root as iexec
from poolwright.cli.main import application
from poolwright.devnet.commands import add_to

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "src/poolwright"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
DECISIONS = sorted((ROOT / "docs/adr").glob("*.md"))
PACKAGES = "|".join(sorted(path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists()))
COMMANDS = {"poolwright": application(add_to), "iexec": iexec()}


def code_of(text: str) -> list[str]:
    """What stands in code spans and code blocks, by line."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    return [line for block in blocks for line in block.splitlines()] + spans


def missing_files(page: Path) -> list[str]:
    text = page.read_text()
    links = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    gone = [link for link in links if link and "://" not in link and not (page.parent / link).exists()]
    for code in code_of(text):
        for path in re.findall(r"(?<![\w./-])(?:src|tests|docs|tools|bench|examples|locks)/[\w./-]*\w", code):
            if not (ROOT / path).exists():
                gone.append(path)
        for path in re.findall(rf"(?<![\w./-])(?:{PACKAGES})/[\w/]+\.py", code):
            if not any((folder / path).exists() for folder in (SOURCE, ROOT / "tests")):
                gone.append(path)
    return gone


def wrong_commands(code: str) -> list[str]:
    """The calls in a line of code that no command of ours answers."""
    wrong: list[str] = []
    for program, words in re.findall(r"(?:^|[\s(/&])(poolwright|iexec) ([a-z][^`|;&#)>\"]*)", code):
        command, asked = COMMANDS[program], words.split()
        while hasattr(command, "get_command") and asked and re.fullmatch(r"[a-z-]+", asked[0]):
            command = command.get_command(click.Context(command), asked[0])
            asked = asked[1:]
        if command is None:
            wrong.append(f"{program} {words}")
            continue
        known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
        options = {word.partition("=")[0] for word in asked if re.match("--[a-z]", word)}
        wrong += [f"{program} {words}: {option}" for option in sorted(options - known - {"--help"})]
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    assert missing_files(page) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_that_a_page_names_exists(page: Path) -> None:
    assert [wrong for code in code_of(page.read_text()) for wrong in wrong_commands(code)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_target_of_make_that_a_page_names_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        word for code in code_of(page.read_text()) for word in re.findall(r"(?:^|\s)make ([a-z]+)", code)
    }

    assert named <= targets


def test_every_page_that_the_code_names_exists() -> None:
    files = [*SOURCE.rglob("*.py"), *(ROOT / "tests").rglob("*.py"), *(ROOT / "bench").rglob("*.py")]
    named = {path for file in files for path in re.findall(r"docs/[\w./-]+\.md", file.read_text())}

    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_has_its_number_a_context_a_decision_and_a_price(page: Path) -> None:
    text = page.read_text()

    assert re.match(rf"# {page.name[:4]} \S", text)
    parts = re.findall(r"^\*\*(Context|Decision|Price)\.\*\*", text, re.MULTILINE)
    assert parts == ["Context", "Decision", "Price"]


def test_a_wrong_file_and_a_wrong_command_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("`poco/nothing.py`, [gone](gone.md), `tests/nowhere/`")

    assert sorted(missing_files(page)) == ["gone.md", "poco/nothing.py", "tests/nowhere"]
    assert wrong_commands("poolwright fly --high") == ["poolwright fly --high"]
    assert wrong_commands("iexec order sign --nonsense 1") == ["iexec order sign --nonsense 1: --nonsense"]
    assert wrong_commands("poolwright up --detach && iexec order init --workerpool") == []
