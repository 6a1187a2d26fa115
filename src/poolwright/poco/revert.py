"""A refused transaction, as the contracts refuse it."""

from __future__ import annotations

from poolwright.poco.errors import InputError

PANIC_OVERFLOW = 0x11
UINT256_MAX = 2**256 - 1

_ERROR_STRING = bytes.fromhex("08c379a0")  # Error(string)
_PANIC = bytes.fromhex("4e487b71")  # Panic(uint256)


class Revert(InputError):
    """The contract refuses this transaction and nothing changed; check its conditions before sending.

    `reason` is the contract's own text, empty where it gives none. `panic` is the code of a checked
    arithmetic failure (0x11 overflow), 0 otherwise. `explanation` says in our words what the contract
    leaves out; it is no part of the revert data.
    """

    def __init__(self, reason: str = "", *, panic: int = 0, explanation: str = "") -> None:
        self.reason = reason
        self.panic = panic
        self.explanation = explanation
        shown = reason or (f"panic 0x{panic:02x}" if panic else "no reason given")
        super().__init__(f"the contract reverts ({shown})", code="revert", next_step=explanation)

    @property
    def data(self) -> bytes:
        """The revert data of the EVM: Error(string), Panic(uint256), or nothing."""
        if self.panic:
            return _PANIC + self.panic.to_bytes(32, "big")
        if not self.reason:
            return b""
        text = self.reason.encode()
        padded = text + bytes(-len(text) % 32)
        return _ERROR_STRING + (32).to_bytes(32, "big") + len(text).to_bytes(32, "big") + padded


def require(condition: bool, explanation: str, reason: str = "") -> None:
    """Raise Revert unless the condition holds; `explanation` is for people, `reason` for the contract."""
    if not condition:
        raise Revert(reason, explanation=explanation)


def uint256(value: int) -> int:
    """Return the value if it fits the contract's integers; raises Revert with panic 0x11 otherwise."""
    if not 0 <= value <= UINT256_MAX:
        raise Revert(panic=PANIC_OVERFLOW, explanation="the amount does not fit in 256 bits")
    return value
