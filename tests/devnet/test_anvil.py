"""Starting and stopping the local chain, and what happens when its port is somebody else's."""

import os
import socket
from pathlib import Path

import pytest

from poolwright.devnet.anvil import Anvil, AnvilSettings, free_port, look_for_transactions, wait_ready
from poolwright.devnet.node import Node, NodeRefused
from poolwright.poco.errors import InputError, PeerError, Unavailable

pytestmark = pytest.mark.chain


def test_chain_continues_from_its_state_file(tmp_path: Path) -> None:
    settings = AnvilSettings(port=free_port(), state=tmp_path / "state.json")
    with Anvil.start(settings), Node(settings.url) as node:
        node.call("anvil_mine", "0x5")
    with Anvil.start(settings), Node(settings.url) as node:
        assert node.call("eth_blockNumber") == "0x5"


def test_stopped_chain_leaves_no_process() -> None:
    with Anvil.start() as anvil:
        pid = anvil.process.pid
        os.kill(pid, 0)

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_taken_port_is_refused_with_port_and_next_step() -> None:
    with socket.socket() as owner:
        owner.bind(("127.0.0.1", 0))
        owner.listen()
        port = owner.getsockname()[1]

        with pytest.raises(InputError, match=f"port {port} on 127.0.0.1 cannot be used.*choose another"):
            Anvil.start(AnvilSettings(port=port))


def test_another_chain_at_the_port_is_not_taken_for_ours() -> None:
    with Anvil.start() as anvil:
        ours = AnvilSettings(port=anvil.settings.port, chain_id=4242)

        with pytest.raises(PeerError, match="expected chain id 4242, got 31337"):
            wait_ready(ours, lambda: True)


def test_node_says_which_call_was_refused() -> None:
    with Anvil.start() as anvil, Node(anvil.url) as node, pytest.raises(NodeRefused, match="evm_nonsense"):
        node.call("evm_nonsense")


def test_nobody_at_the_port_is_unavailable() -> None:
    with Node(f"http://127.0.0.1:{free_port()}") as node, pytest.raises(Unavailable, match="no answer"):
        node.call("eth_chainId")


def test_new_transactions_are_noticed_and_empty_blocks_are_not() -> None:
    with Anvil.start() as anvil, Node(anvil.url) as node:
        node.call("anvil_mine", "0x3")
        assert look_for_transactions(anvil.url, 0) == (3, False)

        sender = node.call("eth_accounts")[0]
        node.receipts([node.call("eth_sendTransaction", {"from": sender, "to": sender, "value": "0x1"})])

        assert look_for_transactions(anvil.url, 3) == (4, True)
        assert look_for_transactions(anvil.url, 4) == (4, False)
