"""What the words of the known nodes mean."""

from __future__ import annotations

import pytest

from poolwright.chain import reverts
from poolwright.chain.encoding import Json
from poolwright.chain.rpc import RpcError
from poolwright.poco.revert import Revert

REASON = "0x" + Revert("iExecV5-matchOrders-0x07").data.hex()


@pytest.mark.parametrize(
    ("code", "message", "data", "reason"),
    [
        (3, "execution reverted: iExecV5-matchOrders-0x07", REASON, "iExecV5-matchOrders-0x07"),
        (-32000, "VM execution error.", "Reverted " + REASON, "iExecV5-matchOrders-0x07"),
        (-32603, "Internal error", {"data": {"data": REASON}}, "iExecV5-matchOrders-0x07"),
        (3, "execution reverted", "0x", ""),
        (-32000, "execution reverted: too late", None, "too late"),
        (-32000, "gas required exceeds allowance (30000000)", None, ""),
        (3, "execution reverted", "0x" + Revert(panic=0x11).data.hex(), "panic 0x11"),
        (3, "execution reverted", "0xdeadbeef", "0xdeadbeef"),
        (3, "execution reverted", "0x08c379a0ff", "0x08c379a0ff"),
        (-32000, "header not found", None, None),
        (-32602, "BlockOutOfRangeError: block height is 0 but requested was 5", None, None),
        (-32601, "Method not found", None, None),
    ],
)
def test_the_reason_of_a_revert(code: int, message: str, data: Json, reason: str | None) -> None:
    assert reverts.revert_reason(RpcError(code, message, data)) == reason


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("already known", reverts.is_already_known),
        ("transaction already imported", reverts.is_already_known),
        ("nonce too low: next nonce 5, tx nonce 4", reverts.is_nonce_used),
        ("nonce too low", reverts.is_nonce_used),
        ("insufficient funds for gas * price + value", reverts.is_out_of_gas_money),
        ("Insufficient funds for gas * price + value", reverts.is_out_of_gas_money),
        ("replacement transaction underpriced", reverts.is_underpriced),
        ("max fee per gas less than block base fee", reverts.is_underpriced),
        ("unknown block", reverts.is_missing_block),
    ],
)
def test_refusals_are_told_apart(message: str, kind: object) -> None:
    kinds = {
        reverts.is_already_known,
        reverts.is_nonce_used,
        reverts.is_out_of_gas_money,
        reverts.is_underpriced,
        reverts.is_missing_block,
    }
    assert [matches for matches in kinds if matches(RpcError(-32000, message))] == [kind]
