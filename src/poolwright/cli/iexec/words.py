"""Options that take more than one word, as the official client lets them: amounts with units, lists. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import click

from poolwright.cli.iexec.amounts import ETHER_UNITS, RLC_UNITS

_UNITS: Final = frozenset(unit.lower() for unit in (*RLC_UNITS, *ETHER_UNITS))
_MAPPING: Final = re.compile(r"\d+=.+")


def join_amounts(words: Sequence[str], options: Sequence[str]) -> list[str]:
    """`--price 0.5 RLC` as `--price "0.5 RLC"`."""
    joined: list[str] = []
    for word in words:
        is_unit = word.lower() in _UNITS and len(joined) >= 2 and joined[-2] in options
        if is_unit and " " not in joined[-1]:
            joined[-1] = f"{joined[-1]} {word}"
        else:
            joined.append(word)
    return joined


def repeat_option(words: Sequence[str], option: str) -> list[str]:
    """`--secret 1=a 2=b` as `--secret 1=a --secret 2=b`; another option or `--` ends the list."""
    repeated: list[str] = []
    is_inside = False
    for word in words:
        if is_inside and repeated[-1] != option and _MAPPING.fullmatch(word):
            repeated.append(option)
        elif word.startswith("-"):
            is_inside = word == option
        elif repeated and repeated[-1] != option:
            is_inside = False
        repeated.append(word)
    return repeated


def let_amounts_be_two_words(command: click.Command, *options: str) -> None:
    """Let these options of a command take an amount and its unit as two words."""
    _read_words_after(command, lambda words: join_amounts(words, options))


def let_option_be_a_list(command: click.Command, option: str) -> None:
    """Let an option that may be repeated take several `<number>=<text>` words at once."""
    _read_words_after(command, lambda words: repeat_option(words, option))


def _read_words_after(command: click.Command, change: Callable[[list[str]], list[str]]) -> None:
    parse: Any = command.parse_args

    def parse_args(ctx: click.Context, args: list[str]) -> list[str]:
        parsed: list[str] = parse(ctx, change(args))
        return parsed

    command.parse_args = parse_args  # type: ignore[method-assign]  # click has no hook before its parser
