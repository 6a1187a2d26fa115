"""The chain of the simulation as a node tells it: JSON-RPC, as far as the market asks.

`ChainRpc` stands for `chain.rpc.Rpc`; `contracts` are the wallets that have code. Calls are answered from the
history that the chain keeps of what they are about, at the block that they name; what is the newest block may
be old news.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from poolwright.chain.blocks import LATEST
from poolwright.chain.encoding import Json, hex_data, quantity, read_object, read_quantity
from poolwright.chain.rpc import Request, RpcError
from poolwright.devnet.simulation.chain import Chain, Node
from poolwright.devnet.simulation.clock import SECOND
from poolwright.devnet.simulation.faults import Chance
from poolwright.poco.abi import decode_call, encode, selector
from poolwright.poco.matching import EntryKind
from poolwright.poco.records import Account, Deal, Resource
from poolwright.poco.revert import Revert
from poolwright.poco.types import Address, BlockStamp, DealId, Hash32, OrderHash

REVERTED: Final = RpcError(3, "execution reverted")
_RESOURCE: Final = "(address,address,uint256)"
_DEAL: Final = (
    f"({_RESOURCE},{_RESOURCE},{_RESOURCE},uint256,uint256,bytes32,address,address,address,string,"
    "uint256,uint256,uint256,uint256,uint256,address)"
)


class ChainRpc:
    """What one process asks its node. Raises Unavailable and PeerError as the node's days are."""

    def __init__(self, chain: Chain, node: Node, chance: Chance, contracts: frozenset[Address]) -> None:
        self._chain = chain
        self._node = node
        self._chance = chance
        self._contracts = contracts
        self._calls: dict[bytes, tuple[str, Callable[..., bytes]]] = {
            selector(signature): (signature, answer)
            for signature, answer in (
                ("viewAccount(address)", self._account),
                ("viewConsumed(bytes32)", self._consumed),
                ("viewDeal(bytes32)", self._deal),
                ("owner()", self._owner),
                ("isRegistered(address)", self._is_registered),
                ("verifyPresignatureOrSignature(address,bytes32,bytes)", self._is_signed),
            )
        }

    async def call(self, method: str, *params: Json) -> Json:
        [answer] = await self.batch([(method, params)])
        return answer

    async def batch(self, requests: Sequence[Request]) -> list[Json]:
        outcomes = await self.batch_outcomes(requests)
        for outcome in outcomes:
            if isinstance(outcome, RpcError):
                raise outcome
        return [outcome for outcome in outcomes if not isinstance(outcome, RpcError)]

    async def batch_outcomes(self, requests: Sequence[Request]) -> list[Json | RpcError]:
        """Answers of one moment, after a while."""
        milliseconds = self._chance.of("market's node").randint(5, 200)
        if self._chance.hits("rpc_slow"):
            milliseconds += self._chance.of("market's node").randint(1, 20 * SECOND)
        await asyncio.sleep(milliseconds / SECOND)
        self._node.ask()
        behind = self._chance.of("lag").randint(1, 3) if self._chance.hits("rpc_stale") else 0
        newest = self._chain.stamp(max(len(self._chain.blocks) - behind, 1))
        return [self._answer(method, params, newest) for method, params in requests]

    def _answer(self, method: str, params: Sequence[Json], newest: BlockStamp) -> Json | RpcError:
        if method == "eth_getBlockByNumber":
            return self._header(params[0], newest)
        if method == "eth_getCode":
            return "0x60" if Address.parse(str(params[0])) in self._contracts else "0x"
        if method != "eth_call":
            raise AssertionError(f"the market asks for {method}, which the simulation does not have")
        call = read_object(params[0], "call")
        to, data = Address.parse(str(call["to"])), bytes.fromhex(str(call["data"])[2:])
        signature, answer = self._calls[data[:4]]
        number = newest.number if params[1] == LATEST else read_quantity(params[1], "block")
        try:
            return hex_data(answer(to, number, *decode_call(signature, data)))
        except Revert:
            return REVERTED

    def _header(self, place: Json, newest: BlockStamp) -> Json:
        number = newest.number if place == LATEST else read_quantity(place, "block")
        if number > len(self._chain.blocks):
            return None
        stamp = newest if number == newest.number else self._chain.stamp(number)
        return {
            "number": quantity(stamp.number),
            "hash": str(stamp.hash),
            "timestamp": quantity(stamp.timestamp),
            "parentHash": str(Hash32.zero()),
            "gasLimit": quantity(30_000_000),
        }

    # --- calls of contracts: the contract, the block, the arguments -----------------------------------------

    def _account(self, _: Address, number: int, wallet: Address) -> bytes:
        account = self._chain.at(("stake", wallet), number)
        stake = account.stake if isinstance(account, Account) else 0
        return encode(["uint256", "uint256"], [stake, 0])

    def _consumed(self, _: Address, number: int, name: OrderHash) -> bytes:
        return encode(["uint256"], [self._chain.at(("consumed", name), number) or 0])

    def _owner(self, resource: Address, number: int) -> bytes:
        owner = self._chain.at(("owner", resource), number)
        return b"" if owner is None else encode(["address"], [owner])

    def _is_registered(self, registry: Address, number: int, entry: Address) -> bytes:
        kinds = {
            self._chain.poco.apps.address: EntryKind.APP,
            self._chain.poco.workerpools.address: EntryKind.WORKERPOOL,
        }
        return encode(["bool"], [self._chain.poco.is_registered(kinds[registry], entry)])

    def _is_signed(self, _: Address, number: int, signer: Address, name: OrderHash, sign: bytes) -> bytes:
        return encode(["bool"], [self._chain.poco.is_signed(signer, name, sign)])

    def _deal(self, _: Address, number: int, deal_id: DealId) -> bytes:
        deal: Deal = self._chain.poco.deal(deal_id)

        def shown(resource: Resource) -> tuple[object, ...]:
            return resource.pointer, resource.owner, resource.price

        parties = (deal.requester, deal.beneficiary, deal.callback)
        times = (deal.start_time, deal.bot_first, deal.bot_size, deal.worker_stake)
        body = (
            *(shown(each) for each in (deal.app, deal.dataset, deal.workerpool)),
            *(deal.trust, deal.category, Hash32(deal.tag.to_bytes(32, "big"))),
            *(*parties, deal.params, *times, deal.scheduler_reward_ratio, deal.sponsor),
        )
        return encode([_DEAL], [body])
