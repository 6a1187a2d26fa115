"""The iexec command on a real chain, alone and beside the official client in one folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from iexec_folder import FIRST, FIRST_KEY, OTHER, Place, Project, new_project
from peers.official import MAJORS, OfficialClient, installed
from poolwright.devnet.anvil import Anvil, AnvilSettings, free_port
from poolwright.devnet.contracts import deploy

pytestmark = pytest.mark.chain

NOBODY = "0x000000000000000000000000000000000000dEaD"


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """A fresh chain with the contracts."""
    with Anvil.start(AnvilSettings(port=free_port())) as anvil:
        yield Place(chain_url=anvil.url, contracts=deploy(anvil.url))


@pytest.fixture
def project(place: Place, tmp_path: Path) -> Project:
    return new_project(tmp_path, place)


@pytest.fixture(params=MAJORS, ids=["8.24.0", "9.0.0"])
def theirs(request: pytest.FixtureRequest) -> OfficialClient:
    return installed(request.param)


def test_info_shows_the_contracts(project: Project, place: Place) -> None:
    assert project.raw("info") == {
        "ok": True,
        "pocoVersion": "6.1.0",
        "host": place.chain_url,
        "hubAddress": str(place.contracts.hub),
        "rlcAddress": str(place.contracts.rlc),
        "appRegistryAddress": str(place.contracts.app_registry),
        "datasetRegistryAddress": str(place.contracts.dataset_registry),
        "workerpoolRegistryAddress": str(place.contracts.workerpool_registry),
    }


def test_money_goes_into_the_account_and_back(project: Project) -> None:
    before = int(project.raw("account", "show")["balance"]["stake"])

    deposited = project.raw("account", "deposit", "1.5 RLC")
    withdrawn = project.raw("account", "withdraw", "500", "nRLC")

    assert (deposited["amount"], withdrawn["amount"]) == ("1500000000", "500")
    assert project.raw("account", "show", FIRST)["balance"] == {
        "stake": str(before + 1_500_000_000 - 500),
        "locked": "0",
    }
    assert project.refusal("account", "deposit", "0")[1] == "Deposit amount must be greater than 0"
    assert project.refusal("account", "deposit", "100000000 RLC")[1] == "Deposit amount exceed wallet balance"
    assert (
        project.refusal("account", "withdraw", "100000000 RLC")[1] == "Withdraw amount exceed account balance"
    )


def test_an_allowance_is_given_and_taken_back(project: Project) -> None:
    project.raw("account", "approve", "300", OTHER)
    assert project.raw("account", "allowance", OTHER)["amount"] == "012c"

    project.raw("account", "revoke", OTHER)
    assert project.raw("account", "allowance", OTHER, "--user", FIRST)["amount"] == "00"


def test_a_wallet_is_filled_and_swept(project: Project) -> None:
    made = project.raw("wallet", "create", "--keystoredir", "ks", "--password", "pw")
    address = made["address"]

    project.raw("wallet", "send-ether", "1", "--to", address, "--force")
    sent = project.raw("wallet", "send-RLC", "2", "--to", address, "--force")
    assert (sent["amount"], sent["from"], sent["to"]) == ("2000000000", FIRST, address)
    own = ("--keystoredir", "ks", "--wallet-address", address)
    shown = project.raw("wallet", "show", *own)
    assert shown["wallet"] == {"address": address}
    assert shown["balance"] == {
        "ether": "1.0",
        "RLC": "2.0",
        "nRLC": "2000000000",
        "wei": "1000000000000000000",
    }

    swept = project.raw("wallet", "sweep", *own, "--password", "pw", "--to", NOBODY, "--force")

    assert {"sendNativeTxHash", "sendERC20TxHash"} <= set(swept)
    left = project.raw("wallet", "show", address)["balance"]
    assert left["nRLC"] == "0"
    assert int(left["wei"]) < 10**15
    assert "wallet" not in project.raw("wallet", "show", address)


def test_a_contract_is_not_swept_to(project: Project, place: Place) -> None:
    hub = str(place.contracts.hub)

    assert project.refusal("wallet", "sweep", "--to", hub, "--force")[1] == "Cannot sweep to a contract"


def test_a_no_keeps_the_money_and_a_wrong_password_fails(project: Project) -> None:
    refused = project.call("wallet", "send-RLC", "1", "--to", NOBODY, answers="n\n")
    assert refused.returncode == 1
    assert "Send 1 RLC to" in refused.stderr
    assert "Operation aborted by user." in refused.stderr

    project.raw("wallet", "create", "--keystoredir", "ks", "--password", "pw")
    (project.here / "wallet.json").unlink()
    wrong = project.call("account", "revoke", OTHER, "--keystoredir", "ks", answers="not it\n")
    assert wrong.returncode == 1
    assert "wrong password" in wrong.stderr


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("app", "appName", "ours"),
        ("dataset", "datasetName", "ours"),
        ("workerpool", "workerpoolDescription", "ours"),
    ],
)
def test_a_resource_is_deployed_shown_and_given_away(
    project: Project, kind: str, field: str, value: str
) -> None:
    project.raw(kind, "init")
    project.edit(kind, **{"description" if kind == "workerpool" else "name": value})
    before = int(project.raw(kind, "count")["count"])

    address = project.raw(kind, "deploy")["address"]

    assert json.loads((project.here / "deployed.json").read_text()) == {kind: {"31337": address}}
    shown = project.raw(kind, "show")
    assert (shown["address"], shown[kind][field], shown[kind]["owner"]) == (address, value, FIRST)
    assert project.raw(kind, "show", str(before)) == shown
    assert project.raw(kind, "count")["count"] == str(before + 1)
    already = f"{kind.capitalize()} already deployed at address {address}"
    assert project.refusal(kind, "deploy") == ("Error", already)
    assert project.refusal(kind, "show", str(before + 1)) == ("Error", f"{kind} not deployed")
    assert project.refusal(kind, "show", NOBODY) == (
        "ObjectNotFoundError",
        f"No {kind} found for id {NOBODY} on chain 31337",
    )

    project.raw(kind, "transfer", address, "--to", OTHER, "--force")

    assert project.raw(kind, "show", address)[kind]["owner"] == OTHER
    assert (
        project.refusal(kind, "transfer", address, "--to", OTHER, "--force")[1]
        == f"Only {kind} owner can transfer {kind} ownership"
    )


def test_a_category_is_made_by_the_owner_only(project: Project) -> None:
    project.raw("category", "init")
    count = project.raw("category", "count")["count"]

    assert project.raw("category", "create")["catid"] == count
    assert project.raw("category", "show", count) == {
        "ok": True,
        "index": count,
        "category": {"name": "XXL", "description": "new hub category", "workClockTimeRef": "100"},
    }
    project.raw("wallet", "create", "--unencrypted", "--force")
    assert (
        project.refusal("category", "create")[1] == f"only category owner {FIRST} can create new categories"
    )


def test_a_hub_address_without_contract_is_named(project: Project, place: Place) -> None:
    text = place.chain_json(9).replace(str(place.contracts.hub), NOBODY)
    (project.here / "chain.json").write_text(text)

    assert project.refusal("account", "show") == (
        "ConfigurationError",
        f"no contract at the hub address {NOBODY} on chain 31337",
    )


def test_a_node_that_does_not_answer_is_named(project: Project, place: Place) -> None:
    text = place.chain_json(9).replace(place.chain_url, f"http://127.0.0.1:{free_port()}")
    (project.here / "chain.json").write_text(text)

    assert project.refusal("info")[0] == "Web3ProviderCallError"


# --- beside the official client -----------------------------------------------------------------------------


def test_keystores_are_read_by_the_other_client(project: Project, theirs: OfficialClient) -> None:
    (project.here / "wallet.json").unlink()
    words = ("--keystoredir", "ks", "--password", "pw")
    ours = project.raw("wallet", "import", FIRST_KEY, *words)
    by_them = theirs.raw(project.here, "wallet", "create", *words)

    opened = ("wallet", "show", "--show-private-key", *words, "--wallet-address")
    assert theirs.raw(project.here, *opened, ours["address"])["wallet"]["privateKey"] == FIRST_KEY
    shown = project.raw(*opened, by_them["address"])["wallet"]
    assert shown["address"] == by_them["address"]
    assert set(ours["wallet"]) == set(by_them["wallet"])
    # the newest keystore is the wallet, whoever made it
    assert project.raw("wallet", "show", *words)["wallet"]["address"] == by_them["address"]


def test_deployments_are_shared(project: Project, theirs: OfficialClient) -> None:
    project.raw("app", "init")
    project.edit("app", name=f"by them {theirs.major}")
    by_them = theirs.raw(project.here, "app", "deploy")["address"]
    shown = project.raw("app", "show")
    assert (shown["address"], shown["app"]["appName"]) == (by_them, f"by them {theirs.major}")

    project.edit("app", name=f"by us {theirs.major}")
    project.raw("app", "deploy")

    assert theirs.raw(project.here, "app", "show") == project.raw("app", "show")


def test_a_refusal_says_the_same_to_scripts(project: Project) -> None:
    wrong = ("app", "show", NOBODY)

    done = installed(9).call(project.here, *wrong, "--raw")

    error = json.loads(done.stderr)["error"]
    assert (done.returncode, project.refusal(*wrong)) == (1, (error["name"], error["message"]))
