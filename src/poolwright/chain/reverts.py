"""Why the node or the contract said no: revert reasons and the few refusals that mean something special.

JSON-RPC has no common error codes beyond -32xxx, so the kinds of refusal are told apart by the words that
the known nodes use (geth, nethermind, erigon, besu, anvil).  Every such guess stands here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from poolwright.chain.rpc import RpcError
from poolwright.poco import abi
from poolwright.poco.errors import PeerError

REVERT_CODE: Final = 3
"""geth's and anvil's JSON-RPC code of a revert."""

_ERROR: Final = abi.selector("Error(string)")
_PANIC: Final = abi.selector("Panic(uint256)")

_REVERT_WORDS: Final = re.compile(
    r"revert|invalid opcode|out of gas|gas required exceeds|vm execution error|evm error|invalid jump|"
    r"stack (underflow|limit reached)|write protection|return data out of bounds",
    re.IGNORECASE,
)
_MISSING_BLOCK: Final = re.compile(
    r"BlockOutOfRange|header not found|unknown block|block not found|could not find block|no such block",
    re.IGNORECASE,
)
_KNOWN: Final = re.compile(r"already known|already imported|known transaction|already exists", re.IGNORECASE)
_NONCE_USED: Final = re.compile(r"nonce (is )?too low|old nonce|nonce.*(used|lower)", re.IGNORECASE)
_NO_FUNDS: Final = re.compile(r"insufficient (funds|balance)|upfront cost exceeds", re.IGNORECASE)
_UNDERPRICED: Final = re.compile(
    r"underpriced|fee too low|gas price too low|less than block base fee|fee cap less than", re.IGNORECASE
)


def revert_reason(refusal: RpcError) -> str | None:
    """The contract's reason, "" when it gave none; None when the refusal is no revert."""
    if is_missing_block(refusal):
        return None
    data = _revert_data(refusal.data)
    if data:
        return decode_reason(data)
    if refusal.rpc_code == REVERT_CODE or _REVERT_WORDS.search(refusal.rpc_message):
        _, _, reason = refusal.rpc_message.partition("reverted:")
        return reason.strip()
    return None


def decode_reason(data: bytes) -> str:
    """Read revert data: Error(string), Panic(uint256), nothing, or a custom error as hex."""
    try:
        if data[:4] == _ERROR:
            return str(abi.decode(["string"], data[4:])[0])
        if data[:4] == _PANIC:
            return f"panic 0x{abi.decode(['uint256'], data[4:])[0]:02x}"
    except PeerError:
        pass
    return f"0x{data.hex()}" if data else ""


def is_missing_block(refusal: RpcError) -> bool:
    """The node does not have the block asked for; it may lag behind the one that told us of it."""
    return _MISSING_BLOCK.search(refusal.rpc_message) is not None


def is_already_known(refusal: RpcError) -> bool:
    """The node has this very transaction already."""
    return _KNOWN.search(refusal.rpc_message) is not None


def is_nonce_used(refusal: RpcError) -> bool:
    """A transaction with this nonce was mined already, this one or another."""
    return _NONCE_USED.search(refusal.rpc_message) is not None


def is_out_of_gas_money(refusal: RpcError) -> bool:
    """The wallet cannot pay for the transaction."""
    return _NO_FUNDS.search(refusal.rpc_message) is not None


def is_underpriced(refusal: RpcError) -> bool:
    """The offered price is too low, for the block or for replacing another transaction."""
    return _UNDERPRICED.search(refusal.rpc_message) is not None


def _revert_data(data: object) -> bytes:
    """Revert data is a hex string, or stands inside an object of one or two levels."""
    if isinstance(data, Mapping):
        return next((found for value in data.values() if (found := _revert_data(value))), b"")
    if isinstance(data, str):
        try:
            return bytes.fromhex(data.rpartition("0x")[2]) if "0x" in data else b""
        except ValueError:
            return b""
    return b""
