"""Orders with our iexec on a real chain and marketplace; `test_iexec_peers` has the official client, too.

The first test is the guide "Manage a workerpool", word for word.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from iexec_folder import FIRST, OTHER, Place, Project, chain_and_market, deploy_own, new_project
from poolwright.devnet.node import Node

pytestmark = pytest.mark.chain

NOBODY = "0x0000000000000000000000000000000000000000"
KINDS = ("--app", "--dataset", "--workerpool", "--request")
SKIP = "--skip-preflight-check"
CHECKSUM = "0x" + "ab" * 32


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with chain_and_market(tmp_path_factory.mktemp("market")) as place:
        yield place


@pytest.fixture
def project(place: Place, tmp_path: Path) -> Project:
    """A folder with a workerpool of its own."""
    project = new_project(tmp_path, place)
    deploy_own(project, "workerpool", description=f"pool of {tmp_path}")
    return project


def with_all_four(project: Project, name: str) -> dict[str, str]:
    """Deploy app and dataset, too, and sign free orders of all four kinds; returns the addresses."""
    deployed = {
        "app": deploy_own(project, "app", name=f"app of {name}"),
        "dataset": deploy_own(
            project,
            "dataset",
            name=f"dataset of {name}",
            multiaddr="https://example.com/d",
            checksum=CHECKSUM,
        ),
        "workerpool": project.raw("workerpool", "show")["address"],
    }
    project.raw("order", "init")
    project.edit_order(
        "requestorder", app=deployed["app"], dataset=deployed["dataset"], workerpool=deployed["workerpool"]
    )
    project.raw("order", "sign", *KINDS)
    return deployed


# --- the guide ----------------------------------------------------------------------------------------------


def test_the_guide_is_followed_word_for_word(project: Project) -> None:
    pool = project.raw("workerpool", "show")["address"]

    project.told("order", "init", "--workerpool")
    project.edit_order("workerpoolorder", workerpoolprice="100000000", volume="3", trust="1")
    project.told("account", "deposit", "1 RLC")
    signing = project.call("order", "sign", "--workerpool")
    assert signing.returncode == 0, signing.stderr
    assert "100000000 nRLC (0.1 RLC) per task, 3 tasks" in signing.stderr
    project.told("order", "publish", "--workerpool", answers="\n")

    book = project.told("orderbook", "workerpool", pool)
    assert "best price 100000000 nRLC (0.1 RLC) for 3 tasks, depth 3 tasks in 1 order, trust 1" in book
    order_hash = next(word for word in book.split() if word.startswith("0x") and len(word) == 66)

    project.told("order", "unpublish", "--workerpool", order_hash, answers="y\n")
    assert "no open order" in project.told("orderbook", "workerpool", pool)
    assert "txHash" in project.told("order", "cancel", "--workerpool", order_hash, answers="\n")
    assert project.failed_parts("order", "cancel", "--workerpool", order_hash) == [
        "workerpoolorder: workerpoolorder already canceled"
    ]


def test_the_guide_s_warnings_are_refusals(project: Project) -> None:
    project.raw("order", "init", "--workerpool")

    for tag, words in (
        (0x5, "0x5 (TEE with Gramine) is a reserved value, do not use it"),
        (0x1, "'tee' tag must be used with a tee framework"),
        (0x8, "'tdx' tag must be used with 'tee' tag"),
        (0x10, "Unknown bit 4 in tag"),
    ):
        project.edit_order("workerpoolorder", tag=f"0x{tag:064x}", trust="1")
        [failure] = project.failed_parts("order", "sign", "--workerpool")
        assert words in failure
        assert f"workerpoolorder.tag: got 0x{tag:x} (" in failure
        assert "expected 0x0 (standard), 0x3 (TEE with Scone), 0x9 (TEE with TDX)" in failure

    project.edit_order("workerpoolorder", tag=f"0x{3:064x}", trust="3")
    refused = project.call("order", "sign", "--workerpool")
    assert refused.returncode == 1
    assert "workerpoolorder.trust: got 3, expected 1, because the tag has tee" in refused.stderr

    project.edit_order("workerpoolorder", trust="1")
    project.raw("order", "sign", "--workerpool")
    project.edit_order("workerpoolorder", tag=["tee", "tdx"], category="77")
    assert "workerpoolorder.category: got 77" in project.failed_parts("order", "sign", "--workerpool")[0]


def test_what_needs_secrets_is_refused_where_a_network_offers_none(project: Project) -> None:
    """The network's `sms` is a marketplace. A standard request asks it nothing; see `test_iexec_peers`."""
    with_all_four(project, f"secrets of {project.here.name}")
    assert project.told("order", "sign", "--request")
    project.edit_order("requestorder", tag=["tee", "tdx"], params={"iexec_result_encryption": True})

    [failure] = project.failed_parts("order", "sign", "--request")
    told = project.call("order", "sign", "--request")

    assert failure == "requestorder: This network offers no secret service"
    assert "leave requestorder.params without secrets" in told.stderr
    project.raw("order", "sign", "--request", SKIP)


def test_what_was_signed_without_checks_is_checked_when_it_is_published_and_filled(project: Project) -> None:
    with_all_four(project, f"checks of {project.here.name}")
    project.edit_order("workerpoolorder", tag=f"0x{5:064x}")
    project.raw("order", "sign", "--workerpool", SKIP)
    reserved = "0x5 (TEE with Gramine) is a reserved value, do not use it"
    assert reserved in project.failed_parts("order", "publish", "--workerpool", "--force")[0]
    assert reserved in project.refusal("order", "fill", "--force")[1]

    project.edit_order("workerpoolorder", tag=f"0x{3:064x}", trust="2", category="99")
    project.raw("order", "sign", "--workerpool", SKIP)
    for refusal in (
        project.failed_parts("order", "publish", "--workerpool", "--force")[0],
        project.refusal("order", "fill", "--force")[1],
    ):
        assert "workerpoolorder.trust: got 2, expected 1" in refusal
        assert "workerpoolorder.category: got 99, expected 0 to" in refusal

    project.edit_order("workerpoolorder", tag=f"0x{0:064x}", category="0", apprestrict=OTHER)
    told = project.call("order", "sign", "--workerpool")
    assert (told.returncode, f"workerpoolorder.apprestrict: got {OTHER}" in told.stderr) == (0, True)
    assert "workerpoolorder.apprestrict: expected" in project.refusal("order", "fill", "--force")[1]


def test_more_than_the_stake_covers_is_refused_before_it_is_signed(place: Place, tmp_path: Path) -> None:
    project = new_project(tmp_path, place, "0x" + "59" * 32)
    address = project.raw("wallet", "show")["wallet"]["address"]
    with Node(place.chain_url) as node:
        node.call("anvil_setBalance", address, hex(10**18))
    deploy_own(project, "workerpool", description="a poor pool")
    project.raw("order", "init", "--workerpool")
    project.edit_order("workerpoolorder", workerpoolprice="10", volume="5", trust="1")

    [failure] = project.failed_parts("order", "sign", "--workerpool")

    assert failure.startswith("workerpoolorder: workerpoolorder.volume: got 5 tasks, which lock 15 nRLC")
    assert not (project.here / "orders.json").exists()
    project.raw("order", "sign", "--workerpool", "--skip-preflight-check")
    assert (
        "stake is too low"
        in project.failed_parts("order", "publish", "--workerpool", "--skip-preflight-check", "--force")[0]
    )


# --- the order book -----------------------------------------------------------------------------------------


def test_every_filter_of_the_book_works(project: Project) -> None:
    pool = project.raw("workerpool", "show")["address"]
    publish = ("workerpool", "publish", "--force", "--trust", "1")
    open_to_all = project.raw(*publish, "--volume", "5")["orderHash"]
    tdx = project.raw(*publish, "--tag", "tee,tdx", "--category", "2")["orderHash"]
    private = project.raw(*publish, "--requester-restrict", OTHER)["orderHash"]

    def found(*words: str) -> set[str]:
        answer = project.raw("orderbook", "workerpool", pool, *words)
        assert answer["count"] == len(answer["workerpoolOrders"])
        return {item["orderHash"] for item in answer["workerpoolOrders"]}

    assert found() == {open_to_all, tdx}
    assert found("--tag", "tee,tdx") == found("--require-tag", "tee") == found("--category", "2") == {tdx}
    assert found("--max-tag", f"0x{0:064x}") == found("--min-volume", "5") == {open_to_all}
    assert found("--requester", OTHER) == {open_to_all, tdx, private}
    assert found("--requester", OTHER, "--requester-strict") == {private}
    assert found("--min-trust", "2") == set()
    assert project.refusal("orderbook", "workerpool", pool, "--requester-strict")[1].startswith(
        "--requester-strict needs --requester"
    )
    assert set(project.raw("workerpool", "unpublish", "--all", "--force")["unpublished"]) == {
        open_to_all,
        tdx,
        private,
    }


# --- from orders to a deal and back -------------------------------------------------------------------------


def test_four_orders_become_a_deal_that_is_claimed_after_its_time(place: Place, project: Project) -> None:
    with_all_four(project, project.here.name)
    published = project.raw("order", "publish", *KINDS, "--force")
    assert {len(published[f"{kind[2:]}order"]["orderHash"]) for kind in KINDS} == {66}

    hashes = [word for kind in KINDS for word in (kind, published[f"{kind[2:]}order"]["orderHash"])]
    made = project.raw("order", "fill", *hashes)
    deal = project.raw("deal", "show", made["dealid"])["deal"]
    assert (deal["botSize"], deal["requester"], deal["deadlineReached"]) == ("1", FIRST, False)
    assert project.refusal("order", "fill", *hashes)[1] == "workerpoolorder is fully consumed"
    [task_id] = deal["tasks"]
    assert project.refusal("task", "show", task_id)[0] == "ObjectNotFoundError"
    assert project.refusal("deal", "claim", made["dealid"])[1].startswith(
        "Cannot claim a deal before reaching the final time: "
    )

    with Node(place.chain_url) as node:
        node.call("evm_increaseTime", 3_600)
        node.call("evm_mine")
    claimed = project.raw("deal", "claim", made["dealid"])
    assert claimed["claimed"] == {"0": task_id}
    assert [one["type"] for one in claimed["transactions"]] == ["initializeAndClaimArray"]
    assert project.raw("task", "show", task_id)["task"]["statusName"] in ("FAILED", "TIMEOUT")
    assert project.refusal("deal", "claim", made["dealid"])[1] == "Nothing to claim"


def test_an_app_is_run_at_the_market_s_price(place: Place, project: Project, tmp_path: Path) -> None:
    """The provider's app and pool are on the market; another wallet runs the app."""
    app = deploy_own(project, "app", name=f"app on sale {tmp_path.name}")
    project.raw("app", "publish", "--price", "7", "nRLC", "--force")
    project.raw("account", "deposit", "1 RLC")
    project.raw("workerpool", "publish", "--price", "10 nRLC", "--trust", "1", "--force")
    (tmp_path / "requester").mkdir()
    requester = new_project(tmp_path / "requester", place, "0x" + "5a" * 32)
    address = requester.raw("wallet", "show")["wallet"]["address"]
    with Node(place.chain_url) as node:
        node.call("anvil_setBalance", address, hex(10**18))
    project.raw("wallet", "send-RLC", "100", "nRLC", "--to", address, "--force")

    too_poor = requester.refusal("app", "run", app, "--args", "hello", "--force")
    requester.raw("account", "deposit", "100")
    answered = requester.call("app", "run", app, "--args", "hello", "--raw", answers="n\n")
    deal_id = requester.raw("app", "run", app, "--args", "hello", "--force")["deals"][0]["dealid"]

    assert too_poor[1].startswith("Cost per task (17) is greater than requester account stake (0)")
    assert "Operation aborted by user." in answered.stderr
    deal = requester.raw("deal", "show", deal_id)["deal"]
    assert (deal["app"]["price"], deal["workerpool"]["price"], deal["requester"]) == ("7", "10", address)
    assert json.loads(deal["params"])["iexec_args"] == "hello"
    assert requester.refusal("app", "run", app, "--force")[1].startswith("No workerpool order available")
    asked = (
        "app",
        "request-execution",
        app,
        "--app-price",
        "7",
        "nRLC",
        "--workerpool-price",
        "70",
        "--force",
    )
    assert len(requester.raw(*asked)["orderHash"]) == 66
    assert requester.refusal(*asked, "--volume", "2")[1].startswith("Not enough RLC on your account")
