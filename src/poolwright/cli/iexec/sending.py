"""One command's transactions: signed, sent, confirmed, and read for their events.

Opened by `Session.sending` when the first transaction is sent: a command that only reads or signs an order
loads none of this.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from poolwright.chain.encoding import read_array, read_object, read_quantity
from poolwright.chain.gas import GasPolicy
from poolwright.chain.heads import Heads
from poolwright.chain.logs import read_log
from poolwright.chain.sender import MemoryTxJournal, Receipt, TxRequest, TxSender
from poolwright.cli.iexec.amounts import parse_ether
from poolwright.poco.events import HubEvent, Log, decode_log
from poolwright.poco.types import Address, Wei

if TYPE_CHECKING:
    from poolwright.cli.iexec.session import Session

POLL_SECONDS: Final = 0.5
"""How often a command looks for the block of its transaction."""
PRICE_CAP: Final = Wei(10**13)
"""10,000 gwei: a person's command has no operator's cap, only a bound against a node that lies."""


class Sending:
    """The transactions of one session; `stack` closes what it opens."""

    def __init__(self, session: Session, stack: AsyncExitStack) -> None:
        self._session = session
        self._stack = stack
        self._sender: TxSender | None = None
        self._fixed_price: Wei | None = None

    async def send(self, request: TxRequest) -> Receipt:
        """Send a transaction and wait for the confirmations that the user wants; its key names it in errors.

        Raises TxReverted, OutOfGas, RpcError, Unavailable.
        """
        sender = await self._ready()
        with self._session.run.out.working(f"Sending the transaction: {request.key}"):
            return await sender.submit(request)

    async def events(self, receipt: Receipt) -> tuple[HubEvent, ...]:
        """The protocol's events of a transaction."""
        answer = await self._session.rpc.call("eth_getTransactionReceipt", str(receipt.tx_hash))
        found = [read_log(one) for one in read_array(read_object(answer, "receipt").get("logs"), "logs")]
        events = (
            decode_log(
                Log(
                    address=one.address,
                    topics=one.topics,
                    data=one.data,
                    block=receipt.block,
                    tx_hash=one.tx_hash,
                    log_index=one.log_index,
                )
            )
            for one in found
        )
        return tuple(event for event in events if event is not None)

    async def fix_gas_price(self) -> Wei:
        """Let all transactions of this command pay the price of now, wei per gas, and return it.

        Who sends everything must know what is left for it.
        """
        if self._fixed_price is None:
            self._fixed_price = self._gas_policy().price(await self._session.reader.gas_price())
        return self._fixed_price

    async def transfer_gas(self, who: Address, to: Address) -> int:
        """The gas limit of a bare transfer of ether: 21000, and more where a chain also counts data."""
        asked = {"from": str(who), "to": str(to), "value": "0x1"}
        return read_quantity(await self._session.rpc.call("eth_estimateGas", asked), "gas estimate")

    def _gas_policy(self) -> GasPolicy:
        """What transactions pay: the network's price, or what the user or the chain's settings say."""
        if self._fixed_price is not None:
            return _always(self._fixed_price)
        if not self._session.chain.use_gas:
            return GasPolicy(cap=Wei(0))
        wanted = self._session.run.options.gas_price
        if wanted is None:
            return GasPolicy(cap=PRICE_CAP)
        return _always(parse_ether(wanted, None, "wei"))

    async def _ready(self) -> TxSender:
        if self._sender is None:
            session = self._session
            wallet = await session.wallet()
            heads = await self._stack.enter_async_context(
                Heads(
                    session.rpc,
                    confirmations=session.run.options.confirms - 1,
                    poll_seconds=POLL_SECONDS,
                    use_websocket=False,
                )
            )
            self._sender = TxSender(
                session.rpc,
                wallet,
                await session.chain_id(),
                MemoryTxJournal(),
                self._gas_policy(),
                heads=heads,
                look_seconds=POLL_SECONDS,
            )
            await self._stack.enter_async_context(self._sender)
        return self._sender


def _always(price: Wei) -> GasPolicy:
    """Pay `price`, whatever the network asks: with such a multiplier the cap is the price."""
    return GasPolicy(multiplier=PRICE_CAP, cap=price)
