"""One command's hands on the chain: reads of the hub, the open wallet, and transactions.

    async with run.session() as session:
        contracts = await session.contracts()
        receipt = await session.send(contracts.token, calls.transfer(to, amount), "send RLC")

The wallet is opened when something is to be signed, not before; a command that only reads asks no password.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeVar

from poolwright.chain.blocks import LATEST
from poolwright.chain.encoding import read_array, read_data, read_object, read_quantity
from poolwright.chain.flight import NO_VALUE
from poolwright.chain.gas import GasPolicy
from poolwright.chain.heads import Heads
from poolwright.chain.logs import read_log
from poolwright.chain.reads import HubContracts, HubReader, Question
from poolwright.chain.rpc import Rpc
from poolwright.chain.sender import MemoryTxJournal, Receipt, TxRequest, TxSender
from poolwright.chain.wallet import Wallet
from poolwright.cli.iexec.amounts import parse_ether
from poolwright.cli.iexec.chains import ChainSettings
from poolwright.cli.iexec.errors import ConfigurationError
from poolwright.cli.iexec.files import CHAIN_FILE
from poolwright.cli.iexec.values import address_of
from poolwright.poco.errors import PeerError
from poolwright.poco.events import HubEvent, Log, decode_log
from poolwright.poco.types import Address, Wei

if TYPE_CHECKING:
    from poolwright.cli.iexec.command import Run

T = TypeVar("T")

POLL_SECONDS: Final = 0.5
"""How often a command looks for the block of its transaction."""
PRICE_CAP: Final = Wei(10**13)
"""10,000 gwei: a person's command has no operator's cap, only a bound against a node that lies."""


class Session:
    """The chain for one command. Raises IexecError when the chain's settings lack host or hub."""

    def __init__(self, run: Run, chain: ChainSettings) -> None:
        self.run: Final = run
        self.chain: Final = chain
        self.hub: Final = address_of(chain.require_hub(), "hub")
        self.rpc: Final = Rpc(chain.require_host(), attempts=3)
        self.reader: Final = HubReader(self.rpc, self.hub)
        self._stack = AsyncExitStack()
        self._wallet: Wallet | None = None
        self._sender: TxSender | None = None
        self._contracts: HubContracts | None = None
        self._chain_id: int | None = None
        self._fixed_price: Wei | None = None

    async def __aenter__(self) -> Self:
        self.run.out.note(f"Using chain {self.chain.name} [chainId: {self.chain.id}]")
        await self._stack.enter_async_context(self.rpc)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if isinstance(error, PeerError) and not await self.code(self.hub):
                raise ConfigurationError(
                    f"no contract at the hub address {self.hub} on chain {self.chain.id}",
                    next_step=f'correct "hub" or "host" of chain "{self.chain.name}" in {CHAIN_FILE}',
                ) from error
        finally:
            await self._stack.aclose()

    # --- what is there --------------------------------------------------------------------------------------

    async def contracts(self) -> HubContracts:
        """The hub's token and registries."""
        if self._contracts is None:
            self._contracts = await self.reader.contracts()
        return self._contracts

    async def chain_id(self) -> int:
        """The chain's own id, which transactions are signed for.

        Warns when chain.json says another one: deployments and orders are filed under that.
        """
        if self._chain_id is None:
            self._chain_id = read_quantity(await self.rpc.call("eth_chainId"), "chain id")
            if self.chain.id is not None and int(self.chain.id) != self._chain_id:
                self.run.out.warn(
                    f'chain.json says id {self.chain.id} for "{self.chain.name}", '
                    f"its host is a node of chain {self._chain_id}"
                )
        return self._chain_id

    async def ask(self, to: Address, call: bytes, read: Callable[[bytes], T], what: str) -> T:
        """Ask a contract one question; `what` names it in errors."""
        return await self.reader.ask(Question(to=to, call=call, read=read, what=what))

    async def wallet(self) -> Wallet:
        """The open wallet; asks for its password when it needs one."""
        if self._wallet is None:
            # In this thread: a question must be open to Ctrl-C, and nothing else runs yet.
            self._wallet = Wallet(self.run.key())
        return self._wallet

    # --- what is sent ---------------------------------------------------------------------------------------

    async def send(
        self, to: Address, data: bytes, what: str, *, value: Wei = NO_VALUE, gas_limit: int | None = None
    ) -> Receipt:
        """Send a transaction and wait for the confirmations that the user wants.

        `what` names it in errors: "deposit". Raises TxReverted, OutOfGas, RpcError, Unavailable.
        """
        sender = await self._ready_sender()
        with self.run.out.working(f"Sending the transaction: {what}"):
            return await sender.submit(
                TxRequest(key=what, to=to, data=data, value=value, gas_limit=gas_limit)
            )

    async def events(self, receipt: Receipt) -> tuple[HubEvent, ...]:
        """The protocol's events of a transaction."""
        answer = await self.rpc.call("eth_getTransactionReceipt", str(receipt.tx_hash))
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

    def gas_policy(self) -> GasPolicy:
        """What transactions pay: the network's price, or what the user or the chain's settings say."""
        if self._fixed_price is not None:
            return _always(self._fixed_price)
        if not self.chain.use_gas:
            return GasPolicy(cap=Wei(0))
        wanted = self.run.options.gas_price
        if wanted is None:
            return GasPolicy(cap=PRICE_CAP)
        return _always(parse_ether(wanted, None, "wei"))

    async def fix_gas_price(self) -> Wei:
        """Let all transactions of this command pay the price of now, wei per gas, and return it.

        Who sends everything must know what is left for it.
        """
        if self._fixed_price is None:
            self._fixed_price = self.gas_policy().price(await self.reader.gas_price())
        return self._fixed_price

    async def transfer_gas(self, who: Address, to: Address) -> int:
        """The gas limit of a bare transfer of ether: 21000, and more where a chain also counts data."""
        estimate = await self.rpc.call("eth_estimateGas", {"from": str(who), "to": str(to), "value": "0x1"})
        return read_quantity(estimate, "gas estimate")

    async def code(self, at: Address) -> bytes:
        """The code of a contract; empty for a wallet's address."""
        return read_data(await self.rpc.call("eth_getCode", str(at), LATEST), "code")

    async def _ready_sender(self) -> TxSender:
        if self._sender is None:
            wallet = await self.wallet()
            heads = await self._stack.enter_async_context(
                Heads(
                    self.rpc,
                    confirmations=self.run.options.confirms - 1,
                    poll_seconds=POLL_SECONDS,
                    use_websocket=False,
                )
            )
            self._sender = TxSender(
                self.rpc,
                wallet,
                await self.chain_id(),
                MemoryTxJournal(),
                self.gas_policy(),
                heads=heads,
                look_seconds=POLL_SECONDS,
            )
            await self._stack.enter_async_context(self._sender)
        return self._sender


def _always(price: Wei) -> GasPolicy:
    """Pay `price`, whatever the network asks: with such a multiplier the cap is the price."""
    return GasPolicy(multiplier=PRICE_CAP, cap=price)
