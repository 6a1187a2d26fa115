"""The official contracts on a fresh anvil: where they are, what is in them, and how long it takes."""

from collections.abc import Iterator

import pytest

from poolwright.devnet.anvil import Anvil, AnvilSettings, free_port
from poolwright.devnet.contracts import CATEGORIES, Deployment, deploy, first_account
from poolwright.devnet.node import Node
from poolwright.poco import abi
from poolwright.poco.types import Address, BlockNumber

pytestmark = pytest.mark.chain

# With everybody's test mnemonic, a fresh chain and this order of transactions: poco.md section 1.
EXPECTED = Deployment(
    rlc=Address.parse("0x5FbDB2315678afecb367f032d93F642f64180aa3"),
    hub=Address.parse("0x5FC8d32690cc91D4c39d9d3abcBD16989F875707"),
    app_registry=Address.parse("0x3Aa5ebB10DC797CAC828524e59A333d0A371443c"),
    dataset_registry=Address.parse("0x4ed7c70F96B99c776995fB64377f0d4aB3B0e1C1"),
    workerpool_registry=Address.parse("0x4A679253410272dd5232B3Ff7cF5dbB88f295319"),
    deployer=Address.parse("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"),
    block=BlockNumber(0),
)


@pytest.fixture(scope="module", params=[None, 1.0], ids=["automine", "1 s blocks"])
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    with (
        Anvil.start(AnvilSettings(port=free_port(), block_time=request.param)) as anvil,
        Node(anvil.url) as node,
    ):
        assert deploy(anvil.url) == EXPECTED
        yield node


def view(
    node: Node, signature: str, *values: object, returns: list[str], at: Address = EXPECTED.hub
) -> object:
    payload = "0x" + abi.encode_call(signature, *values).hex()
    answer = node.call("eth_call", {"to": str(at), "data": payload}, "latest")
    decoded = abi.decode(returns, bytes.fromhex(answer[2:]))
    return decoded[0] if len(decoded) == 1 else tuple(decoded)


def test_hub_knows_its_token_and_registries(node: Node) -> None:
    for getter, expected in (
        ("token()", EXPECTED.rlc),
        ("owner()", EXPECTED.deployer),
        ("appregistry()", EXPECTED.app_registry),
        ("datasetregistry()", EXPECTED.dataset_registry),
        ("workerpoolregistry()", EXPECTED.workerpool_registry),
    ):
        assert view(node, getter, returns=["address"]) == expected


def test_hub_has_the_fourteen_facets_and_98_functions(node: Node) -> None:
    facets = view(node, "facets()", returns=["(address,bytes4[])[]"])

    assert isinstance(facets, (list, tuple))
    assert len(facets) == 14
    assert sum(len(selectors) for _, selectors in facets) == 98


def test_categories_are_the_five_standard_ones_in_order(node: Node) -> None:
    found = [
        view(node, "viewCategory(uint256)", number, returns=["(string,string,uint256)"])
        for number in range(len(CATEGORIES))
    ]

    assert view(node, "countCategory()", returns=["uint256"]) == 5
    assert [tuple(each) for each in found] == [(name, '""', timeref) for name, timeref in CATEGORIES]  # type: ignore[arg-type]  # decoded values are untyped


def test_deployer_holds_all_rlc(node: Node) -> None:
    balance = view(node, "balanceOf(address)", EXPECTED.deployer, returns=["uint256"], at=EXPECTED.rlc)

    assert balance == 87_000_000 * 10**9


def test_deployment_is_one_block_and_leaves_the_chain_as_it_found_it(node: Node) -> None:
    first = node.call("eth_getBlockByNumber", "0x1", False)

    node.call("evm_mine")

    assert len(first["transactions"]) == 34
    assert int(node.call("eth_getBlockByNumber", "latest", False)["gasLimit"], 16) == 30_000_000


def test_sending_once_more_leaves_the_blocks_as_they_were(node: Node) -> None:
    """The newest block is then a roomy one; its limit is not the usual one."""
    for name in ("a", "b"):
        sequencer = first_account(node)
        sequencer.call(EXPECTED.hub, "createCategory(string,string,uint256)", name, "", 1)
        sequencer.send(node)

    node.call("evm_mine")

    assert int(node.call("eth_getBlockByNumber", "latest", False)["gasLimit"], 16) == 30_000_000
