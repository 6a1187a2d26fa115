"""Puts the official PoCo contracts, token mode, on a fresh anvil.

The recipe is the one of the reference (poco.md section 1): the diamond with its three own facets, the
order library linked into the eleven protocol facets, one cut, three registries, `configure`, and the five
standard categories; 34 transactions. Each contract's address follows from the deployer and its nonce, so
nothing waits for anything: all transactions go out in one request and blocks are mined by hand.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from poolwright.devnet import toolchain
from poolwright.devnet.node import Call, Node
from poolwright.devnet.toolchain import Artifact
from poolwright.poco import abi
from poolwright.poco.errors import Unavailable
from poolwright.poco.keccak import keccak
from poolwright.poco.types import Address, BlockNumber, Seconds

CATEGORIES: tuple[tuple[str, Seconds], ...] = (
    ("XS", Seconds(300)),
    ("S", Seconds(1200)),
    ("M", Seconds(3600)),
    ("L", Seconds(10800)),
    ("XL", Seconds(36000)),
)
"""The standard categories and their time reference in seconds; the index is the category's number."""

DIAMOND_FACETS = ("DiamondCutFacet", "DiamondLoupeFacet", "OwnershipFacet")
PROTOCOL_FACETS = (
    "IexecAccessorsABILegacyFacet",
    "IexecCategoryManagerFacet",
    "IexecConfigurationExtraFacet",
    "IexecConfigurationFacet",
    "IexecERC20Facet",
    "IexecEscrowTokenFacet",
    "IexecOrderManagementFacet",
    "IexecPoco1Facet",
    "IexecPoco2Facet",
    "IexecPocoAccessorsFacet",
    "IexecRelayFacet",
)
REGISTRIES = ("AppRegistry", "DatasetRegistry", "WorkerpoolRegistry")

_CALL_GAS = 3_000_000
_ROOMY_GAS = 1_000_000_000
_CREATE_GAS, _CREATE_GAS_PER_BYTE = 1_500_000, 300
_RECEIVE, _FALLBACK = bytes(4), b"\xff" * 4
_LIBRARY_PLACEHOLDER = re.compile(r"__\$[0-9a-f]{34}\$__")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Where the contracts are, and who deployed and owns them."""

    hub: Address
    rlc: Address
    app_registry: Address
    dataset_registry: Address
    workerpool_registry: Address
    deployer: Address
    block: BlockNumber
    """The block before the first of the deployment's; logs of the hub start after it."""


@dataclass(slots=True)
class Sequencer:
    """Collects one unlocked account's transactions in nonce order, to be sent in one request."""

    sender: Address
    nonce: int
    calls: list[Call] = field(default_factory=list)

    def create(self, code: bytes) -> Address:
        """Add a contract creation; returns the address that it will have."""
        address = creation_address(self.sender, self.nonce)
        self._add(None, code, _CREATE_GAS + _CREATE_GAS_PER_BYTE * len(code))
        return address

    def call(self, to: Address, signature: str, *values: Any, gas: int = _CALL_GAS) -> None:
        """Add a call of the function `signature`, such as `transfer(address,uint256)`."""
        self._add(to, abi.encode_call(signature, *values), gas)

    def send(self, node: Node) -> list[dict[str, Any]]:
        """Send everything collected, have it mined, return the receipts in order.

        Raises PeerError when a transaction is refused or reverts.
        """
        with _roomy_blocks_by_hand(node):
            hashes = node.batch(self.calls)
            mine_until_included(node, hashes)
        self.calls = []
        return node.receipts(hashes)

    def _add(self, to: Address | None, payload: bytes, gas: int) -> None:
        transaction = {
            "from": str(self.sender),
            "nonce": hex(self.nonce),
            "gas": hex(gas),
            "data": "0x" + payload.hex(),
        }
        if to is not None:
            transaction["to"] = str(to)
        self.calls.append(("eth_sendTransaction", [transaction]))
        self.nonce += 1


def deploy(url: str) -> Deployment:
    """Deploy everything to the anvil at `url` from its first unlocked account, which then owns it all
    and holds the 87,000,000 RLC. Raises PeerError when the node refuses a transaction."""
    with Node(url) as node:
        sequencer = first_account(node)
        before = BlockNumber(int(node.call("eth_blockNumber"), 16))
        rlc = sequencer.create(_code("RLC"))
        hub = _diamond(sequencer)
        library = sequencer.create(_code("IexecLibOrders_v5"))
        _protocol_facets(sequencer, hub, library)
        registries = [_registry(sequencer, name) for name in REGISTRIES]
        sequencer.call(
            hub,
            "configure(address,string,string,uint8,address,address,address,address)",
            rlc, "Staked RLC", "SRLC", 9, *registries, Address.zero(),
        )  # fmt: skip
        for name, timeref in CATEGORIES:
            sequencer.call(hub, "createCategory(string,string,uint256)", name, '""', timeref)
        sequencer.send(node)
    return Deployment(
        hub=hub,
        rlc=rlc,
        app_registry=registries[0],
        dataset_registry=registries[1],
        workerpool_registry=registries[2],
        deployer=sequencer.sender,
        block=before,
    )


def first_account(node: Node) -> Sequencer:
    """A sequencer for the node's first unlocked account, at its next nonce."""
    sender = Address.parse(node.call("eth_accounts")[0])
    return Sequencer(sender, int(node.call("eth_getTransactionCount", str(sender), "pending"), 16))


def mine_until_included(node: Node, tx_hashes: Sequence[str]) -> None:
    """Mine blocks by hand, without waiting for the block time, until all are in one."""
    for _ in range(len(tx_hashes) + 1):
        node.call("evm_mine")
        if all(node.batch([("eth_getTransactionReceipt", [tx_hash]) for tx_hash in tx_hashes])):
            return
    raise Unavailable("anvil does not mine the transactions it accepted", code="not-mined")


@contextlib.contextmanager
def _roomy_blocks_by_hand(node: Node) -> Iterator[None]:
    """For a moment no block per transaction, and room for everything in one block.

    anvil 1.7.1 forgets the successors of a transaction that did not fit into a block any more.
    """
    usual = node.call("anvil_nodeInfo")["environment"]["gasLimit"]  # the newest block may be a roomy one
    automine = node.call("anvil_getAutomine")
    node.call("evm_setBlockGasLimit", hex(_ROOMY_GAS))
    if automine:
        node.call("evm_setAutomine", False)
    try:
        yield
    finally:
        node.call("evm_setBlockGasLimit", usual)
        if automine:
            node.call("evm_setAutomine", True)


def creation_address(sender: Address, nonce: int) -> Address:
    """Where `sender`'s transaction `nonce` creates its contract: keccak(rlp([sender, nonce]))[12:]."""
    number = nonce.to_bytes((nonce.bit_length() + 7) // 8, "big")
    item = number if len(number) == 1 and nonce < 0x80 else bytes([0x80 + len(number)]) + number
    payload = bytes([0x80 + len(sender)]) + sender + item
    return Address(keccak(bytes([0xC0 + len(payload)]) + payload)[12:])


def selectors(contract: Artifact) -> tuple[bytes, ...]:
    """The selectors a facet brings into the diamond, which knows `receive` and `fallback` by two
    reserved ones."""

    def found() -> Iterator[bytes]:
        for entry in contract.abi:
            match entry["type"]:
                case "function":
                    types = ",".join(_canonical(parameter) for parameter in entry["inputs"])
                    yield abi.selector(f"{entry['name']}({types})")
                case "receive":
                    yield _RECEIVE
                case "fallback":
                    yield _FALLBACK

    return tuple(found())


def _diamond(sequencer: Sequencer) -> Address:
    init = sequencer.create(_code("DiamondInit"))
    facets = [(sequencer.create(_code(name)), name) for name in DIAMOND_FACETS]
    cuts = [(address, 0, list(selectors(toolchain.artifact(name)))) for address, name in facets]
    owner = (sequencer.sender, init, abi.selector("init()"))
    arguments = abi.encode(["(address,uint8,bytes4[])[]", "(address,address,bytes)"], (cuts, owner))
    return sequencer.create(_code("Diamond") + arguments)


def _protocol_facets(sequencer: Sequencer, hub: Address, library: Address) -> None:
    present = {known for name in DIAMOND_FACETS for known in selectors(toolchain.artifact(name))}
    cuts = []
    for name in PROTOCOL_FACETS:
        address = sequencer.create(_code(name, library))
        fresh = [known for known in selectors(toolchain.artifact(name)) if known not in present]
        present.update(fresh)
        cuts.append((address, 0, fresh))
    signature = "diamondCut((address,uint8,bytes4[])[],address,bytes)"
    sequencer.call(hub, signature, cuts, Address.zero(), b"", gas=8_000_000)


def _registry(sequencer: Sequencer, name: str) -> Address:
    address = sequencer.create(_code(name))
    sequencer.call(address, "initialize(address)", Address.zero())
    sequencer.call(
        address, "setBaseURI(string)", f"poolwright-local/{name.removesuffix('Registry').lower()}/"
    )
    return address


def _code(name: str, library: Address | None = None) -> bytes:
    """Creation code of a contract, linked with the library where it names one."""
    unlinked = toolchain.artifact(name).creation_hex
    return bytes.fromhex(_LIBRARY_PLACEHOLDER.sub(library.hex() if library else "", unlinked))


def _canonical(parameter: dict[str, Any]) -> str:
    """The type of an ABI parameter as it stands in a signature: tuples written out."""
    kind: str = parameter["type"]
    if not kind.startswith("tuple"):
        return kind
    inner = ",".join(_canonical(part) for part in parameter["components"])
    return f"({inner}){kind.removeprefix('tuple')}"
