"""What the network asks for gas and what a wallet has, looked at once per head."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from poolwright.chain.blocks import LATEST, header_request, read_header
from poolwright.chain.encoding import Json, read_quantity
from poolwright.chain.gas import NetworkPrice
from poolwright.chain.rpc import Rpc, RpcError
from poolwright.poco.errors import Unavailable
from poolwright.poco.types import Address, Wei

BELIEVED_SECONDS: Final = 1.0
"""How long a look is believed without a new head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkLook:
    """One look at the network."""

    price: NetworkPrice
    balance: Wei
    """Of the wallet."""
    block_gas_limit: int


class NetworkWatch:
    """Looks at the network for one wallet, and remembers for a moment."""

    def __init__(self, rpc: Rpc, wallet: Address) -> None:
        self._rpc = rpc
        self._wallet = wallet
        self._known: NetworkLook | None = None
        self._height = -1
        self._seen_at = 0.0

    def forget(self) -> None:
        """Look again next time: the balance has changed."""
        self._known = None

    async def look(self, height: int) -> NetworkLook:
        """The network as of now, the newest confirmed head being at `height`.

        Raises RpcError, PeerError, Unavailable.
        """
        now = asyncio.get_running_loop().time()
        if self._known is not None and height == self._height and now - self._seen_at < BELIEVED_SECONDS:
            return self._known
        gas_price, tip, block, balance = await self._rpc.batch_outcomes(
            [
                ("eth_gasPrice", []),
                ("eth_maxPriorityFeePerGas", []),
                header_request(None),
                ("eth_getBalance", [str(self._wallet), LATEST]),
            ]
        )
        header = read_header(_needed(block))
        if header is None:
            raise Unavailable("the node has no block", code="no-chain", next_step="choose another RPC URL")
        self._known = NetworkLook(
            price=NetworkPrice(gas_price=_price(gas_price), base_fee=header.base_fee, tip=_price(tip)),
            balance=Wei(read_quantity(_needed(balance), "balance")),
            block_gas_limit=header.gas_limit,
        )
        self._height, self._seen_at = height, now
        return self._known


def _needed(outcome: Json | RpcError) -> Json:
    if isinstance(outcome, RpcError):
        raise outcome
    return outcome


def _price(outcome: Json | RpcError) -> Wei | None:
    """None when the node does not know the method, as some side chains' nodes."""
    return None if isinstance(outcome, RpcError) else Wei(read_quantity(outcome, "gas price"))
