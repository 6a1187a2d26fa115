"""Questions to people, on standard error so that standard output stays clean.

Without a terminal the answers are read from standard input, line by line; when it ends, the error names the
option that makes the question superfluous.
"""

from __future__ import annotations

import sys

from poolwright.cli.iexec.errors import IexecError, UserRefused

NEWLINE = "\n"
YES, NO = frozenset({"", "y", "yes"}), frozenset({"n", "no"})


def confirm(question: str, *, force: bool = False) -> None:
    """Ask for a yes (the default); raises UserRefused on a no, and asks nothing when `force`.

    After another answer the question is asked again, without what was shown below it.
    """
    if force:
        return
    asked = question
    while True:
        answer = _line(f"? {asked} (Y/n) ", instead="--force").strip().lower()
        if answer in YES:
            return
        if answer in NO:
            raise UserRefused
        asked = f"Please answer yes or no: {question.partition(NEWLINE)[0]}"


def new_password() -> str:
    """Ask twice for the password of a new keystore. Raises IexecError when there is no answer."""
    while True:
        first = _hidden("? Password for the new keystore: ")
        if not first:
            sys.stderr.write("  A keystore needs a password.\n")
        elif _hidden("? The same password again: ") == first:
            return first
        else:
            sys.stderr.write("  The two passwords differ.\n")


def password(wallet: str) -> str:
    """Ask for the password of a keystore. Raises IexecError when there is no answer."""
    return _hidden(f"? Password of wallet {wallet}: ")


def _hidden(question: str) -> str:
    if not sys.stdin.isatty():
        return _line(question, instead="--password")
    from getpass import getpass

    try:
        return getpass(question, stream=sys.stderr)
    except EOFError as problem:
        raise _no_answer(question, "--password") from problem


def _line(question: str, *, instead: str) -> str:
    sys.stderr.write(question)
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not sys.stdin.isatty():
        sys.stderr.write("\n")
    if not answer:
        raise _no_answer(question, instead)
    return answer.rstrip("\r\n")


def _no_answer(question: str, instead: str) -> IexecError:
    return IexecError(
        "Operation aborted by user.",
        expected=f"an answer to {question.removeprefix('? ').partition(NEWLINE)[0].strip()!r}",
        got="the end of the input",
        next_step=f"give {instead}",
    )
