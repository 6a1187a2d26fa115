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
from poolwright.chain.encoding import read_data, read_quantity
from poolwright.chain.reads import HubContracts, HubReader, Question
from poolwright.chain.rpc import Rpc
from poolwright.chain.wallet import Wallet
from poolwright.cli.iexec.chains import ChainSettings
from poolwright.cli.iexec.errors import ConfigurationError
from poolwright.cli.iexec.files import CHAIN_FILE
from poolwright.cli.iexec.http import Http
from poolwright.cli.iexec.values import address_of
from poolwright.poco.errors import PeerError
from poolwright.poco.types import Address, Wei

if TYPE_CHECKING:
    from poolwright.chain.sender import Receipt
    from poolwright.cli.iexec.command import Run
    from poolwright.cli.iexec.sending import Sending

T = TypeVar("T")

NO_VALUE: Final = Wei(0)


class Session:
    """The chain for one command. Raises IexecError when the chain's settings lack host or hub."""

    def __init__(self, run: Run, chain: ChainSettings) -> None:
        self.run: Final = run
        self.chain: Final = chain
        self.hub: Final = address_of(chain.require_hub(), "hub")
        self.rpc: Final = Rpc(chain.require_host(), attempts=3, carrier=Http())
        self.reader: Final = HubReader(self.rpc, self.hub)
        self._stack = AsyncExitStack()
        self._wallet: Wallet | None = None
        self._sending: Sending | None = None
        self._contracts: HubContracts | None = None
        self._chain_id: int | None = None

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

    async def code(self, at: Address) -> bytes:
        """The code of a contract; empty for a wallet's address."""
        return read_data(await self.rpc.call("eth_getCode", str(at), LATEST), "code")

    # --- what is sent ---------------------------------------------------------------------------------------

    def sending(self) -> Sending:
        """What signs and sends transactions."""
        if self._sending is None:
            from poolwright.cli.iexec.sending import Sending

            self._sending = Sending(self, self._stack)
        return self._sending

    async def send(
        self, to: Address, data: bytes, what: str, *, value: Wei = NO_VALUE, gas_limit: int | None = None
    ) -> Receipt:
        """Send a transaction and wait for the confirmations that the user wants.

        `what` names it in errors: "deposit". Raises TxReverted, OutOfGas, RpcError, Unavailable.
        """
        from poolwright.chain.sender import TxRequest

        request = TxRequest(key=what, to=to, data=data, value=value, gas_limit=gas_limit)
        return await self.sending().send(request)
