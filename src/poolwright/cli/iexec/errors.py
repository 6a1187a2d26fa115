"""Failures of the `iexec` command, under the class names that `--raw` tells.

Scripts compare the texts: `what` is the sentence of the reference, word for word, and all that `--raw`
says.  People also read what was expected, what came, and what to do.
"""

from __future__ import annotations

from typing import ClassVar, Final

from poolwright.poco.errors import InputError, PoolwrightError, Unavailable


class IexecError(InputError):
    """A command fails; `name` is the class that `--raw` tells."""

    name: ClassVar[str] = "Error"


class ValidationError(IexecError):
    """A value does not have the form that it must have."""

    name = "ValidationError"


class ConfigurationError(IexecError):
    """chain.json lacks something that the command needs."""

    name = "ConfigurationError"


class ObjectNotFoundError(IexecError):
    """The chain has no such app, dataset, workerpool, deal, task or category."""

    name = "ObjectNotFoundError"

    def __init__(self, kind: str, id_: str, chain_id: str | None, *, next_step: str = "") -> None:
        super().__init__(f"No {kind} found for id {id_} on chain {chain_id}", next_step=next_step)


class UserRefused(IexecError):
    """The user said no."""

    def __init__(self) -> None:
        super().__init__("Operation aborted by user.")


_CALL: Final = "Web3ProviderCallError"
_SEND: Final = "Web3ProviderSendError"
_CHAIN_NAMES: Final = {
    "RpcError": _CALL,
    "CallReverted": _CALL,
    "PeerError": _CALL,
    "TxReverted": _SEND,
    "OutOfGas": _SEND,
}


def name_of(problem: PoolwrightError) -> str:
    """The class name that `--raw` tells for an error of ours."""
    if isinstance(problem, IexecError):
        return problem.name
    if isinstance(problem, Unavailable):
        return _CALL
    return _CHAIN_NAMES.get(type(problem).__name__, "Error")


def message_of(problem: PoolwrightError) -> str:
    """The message that `--raw` tells: the reference's sentence, or all we know when it has none."""
    return problem.what if isinstance(problem, IexecError) else str(problem)
