"""Outcomes told to programs and to people, with their exit codes; values as text."""

from __future__ import annotations

import io

import pytest

from poolwright.chain.outcomes import OutOfGas, TxReverted
from poolwright.chain.rpc import RpcError
from poolwright.cli.iexec import render
from poolwright.cli.iexec.amounts import decimal, format_ether, format_rlc, parse_ether, parse_rlc
from poolwright.cli.iexec.errors import IexecError, ObjectNotFoundError, UserRefused, name_of
from poolwright.cli.iexec.nouns.account import bare_hex
from poolwright.cli.iexec.output import Outcome, Output, paint
from poolwright.poco.errors import PoolwrightError, Unavailable
from poolwright.poco.types import Address, Wei


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def told(outcome: Outcome, *, raw: bool) -> tuple[int, str, str]:
    stdout, stderr = io.StringIO(), io.StringIO()
    code = Output(raw=raw, stdout=stdout, stderr=stderr).tell(outcome)
    return code, stdout.getvalue(), stderr.getvalue()


def failed(problem: PoolwrightError, *, raw: bool) -> tuple[int, str]:
    stderr = io.StringIO()
    code = Output(raw=raw, stdout=io.StringIO(), stderr=stderr).fail("iexec app deploy", problem)
    return code, stderr.getvalue()


def test_success_is_one_line_of_json_for_programs() -> None:
    outcome = Outcome(text="Deployed", fields={"address": "0x1", "name": "Zoë"})

    assert told(outcome, raw=True) == (0, '{"ok":true,"address":"0x1","name":"Zoë"}\n', "")


def test_success_is_text_and_values_for_people() -> None:
    outcome = Outcome(text="Account", fields={}, shown={"stake": "1 RLC", "locked": "0 RLC"})

    assert told(outcome, raw=False) == (0, "✔ Account\nstake:  1 RLC\nlocked: 0 RLC\n", "")


def test_a_partly_failed_command_exits_0_for_programs_and_1_for_people() -> None:
    outcome = Outcome(ok=False, text="Not all signed", fields={"fail": ["apporder: no"]})

    assert told(outcome, raw=True) == (0, "", '{"ok":false,"fail":["apporder: no"]}\n')
    assert told(outcome, raw=False) == (1, "", "✖ Not all signed\n")


def test_failure_tells_programs_the_sentence_and_people_what_to_do() -> None:
    problem = IexecError("Missing --to option", expected="an address", next_step="give it")

    assert failed(problem, raw=True) == (
        1,
        '{"ok":false,"command":"iexec app deploy",'
        '"error":{"name":"Error","message":"Missing --to option"}}\n',
    )
    assert failed(problem, raw=False) == (
        1,
        '✖ Command "iexec app deploy" failed with Error: Missing --to option, expected an address; give it\n',
    )


@pytest.mark.parametrize(
    ("problem", "name"),
    [
        (UserRefused(), "Error"),
        (ObjectNotFoundError("app", "0x1", "7"), "ObjectNotFoundError"),
        (Unavailable("no node answers"), "Web3ProviderCallError"),
        (RpcError(-32000, "no"), "Web3ProviderCallError"),
        (TxReverted("no", key="k"), "Web3ProviderSendError"),
        (OutOfGas(Wei(1), Wei(2), wallet=Address.zero()), "Web3ProviderSendError"),
    ],
)
def test_each_error_has_the_class_name_that_scripts_know(problem: PoolwrightError, name: str) -> None:
    assert name_of(problem) == name


def test_notes_are_for_people_and_not_on_standard_output() -> None:
    for raw, expected in ((False, "ℹ Using chain dev\n"), (True, "")):
        stdout, stderr = io.StringIO(), io.StringIO()
        Output(raw=raw, stdout=stdout, stderr=stderr).note("Using chain dev")
        assert (stdout.getvalue(), stderr.getvalue()) == ("", expected)


def test_colour_is_only_on_a_terminal_that_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert paint(io.StringIO(), "x", "31") == "x"
    assert paint(Terminal(), "x", "31") == "\x1b[31mx\x1b[0m"

    monkeypatch.setenv("NO_COLOR", "1")
    assert paint(Terminal(), "x", "31") == "x"


def test_spinner_and_bar_are_silent_away_from_a_terminal() -> None:
    stderr = io.StringIO()
    out = Output(stdout=io.StringIO(), stderr=stderr)

    with out.working("Sending"), out.progress("Encrypting", 10) as done:
        done(5)

    assert stderr.getvalue() == ""


def test_nested_values_are_an_indented_tree() -> None:
    value = {
        "name": "x",
        "tags": [],
        "app": {"owner": "0x1", "price": 0},
        "tasks": ["a", {"id": 1, "is": True}],
    }

    assert render.tree(value).splitlines() == [
        *("name:  x", "tags:  []", "app:", "  owner: 0x1", "  price: 0"),
        *("tasks:", "  - a", "  - id: 1", "    is: true"),
    ]


def test_a_table_aligns_its_columns() -> None:
    text = render.table(["pool", "price"], [["0x12", 5], ["0x3", 1000]], right=["price"])

    assert text.splitlines() == ["pool  price", "----  -----", "0x12      5", "0x3    1000"]


def test_long_ids_are_shortened_and_short_ones_are_not() -> None:
    assert render.short("0x59C9811AFD2D1a85CE46A3Ef1a7Cd92F36dDa200") == "0x59C9…a200"
    assert render.short("0x12") == "0x12"


def test_a_bar_tells_share_and_time_left() -> None:
    assert render.bar("Encrypting f", 25, 100, 10.0, width=8) == "Encrypting f [##......]  25% 30 s left"


@pytest.mark.parametrize(
    ("amount", "unit", "expected"),
    [
        ("1", None, 1),
        ("1", "RLC", 10**9),
        ("0.1 RLC", None, 10**8),
        ("0.1000000000000", "rlc", 10**8),
        ("5", "nRLC", 5),
    ],
)
def test_rlc_amounts_are_read(amount: str, unit: str | None, expected: int) -> None:
    assert parse_rlc(amount, unit, "nRLC") == expected


@pytest.mark.parametrize(
    ("amount", "unit"),
    [("-1", None), ("1e3", None), ("1.5", None), ("x", None), ("1", "ether"), ("", None), ("1 RLC", "RLC")],
)
def test_what_is_no_rlc_amount_is_refused(amount: str, unit: str | None) -> None:
    with pytest.raises(IexecError, match="is not a valid amount"):
        parse_rlc(amount, unit, "nRLC")


def test_ether_amounts_are_read_and_written() -> None:
    assert parse_ether("2.5", "gwei", "ether") == 2_500_000_000
    assert parse_ether("0.1", None, "ether") == 10**17
    assert format_ether(10**17) == "0.1"
    assert format_rlc(10 * 10**9) == "10"
    assert [decimal(amount, 9) for amount in (0, 10**9, 1)] == ["0.0", "1.0", "0.000000001"]


def test_big_numbers_are_whole_bytes_of_bare_hex() -> None:
    assert [bare_hex(number) for number in (0, 10, 256)] == ["00", "0a", "0100"]
