"""Our iexec and the official client 8.24.0 and 9.0.0 in one folder: what one publishes the other manages.

Each test names who does what; `ours` and `theirs` share iexec.json, orders.json, deployed.json and wallet.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from iexec_folder import FIRST, Place, Project, chain_and_market, deploy_own, new_project
from peers.official import MAJORS, OfficialClient, installed

pytestmark = pytest.mark.chain

PARTS = ("app", "dataset", "workerpool", "request")
FLAGS = tuple(f"--{part}" for part in PARTS)
KINDS = tuple(f"{part}order" for part in PARTS)
LISTED_AS = {"app": "app", "dataset": "dataset", "workerpool": "workerpool", "requester": "request"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with chain_and_market(tmp_path_factory.mktemp("market")) as place:
        yield place


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A folder with an app, a dataset and a workerpool of its own, for both clients."""

    ours: Project
    client: OfficialClient
    deployed: dict[str, str]

    def theirs(self, *words: str) -> dict[str, Any]:
        """Run a command of the official client that must succeed, with --raw; returns its answer."""
        return self.client.raw(self.ours.here, *words, "--quiet")

    def subject(self, noun: str) -> str:
        """Whose order book it is: an app's, a dataset's, a workerpool's, the requester's."""
        return FIRST if noun == "requester" else self.deployed[noun]

    def signed(self, by: str) -> dict[str, Any]:
        """Let one client write and sign fresh free orders of all four kinds; returns orders.json."""
        self.ours.raw("order", "init")
        self.ours.edit_order("requestorder", **self.deployed)
        if by == "ours":
            self.ours.raw("order", "sign", *FLAGS)
        else:
            self.theirs("order", "sign", *FLAGS, "--force")
        content = json.loads((self.ours.here / "orders.json").read_text())
        orders: dict[str, Any] = content["31337"]
        return orders


@pytest.fixture(scope="module", params=MAJORS, ids=["8.24.0", "9.0.0"])
def folder(place: Place, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    client = installed(request.param)
    project = new_project(tmp_path_factory.mktemp(f"beside-{client.major}"), place, major=client.major)
    checksum = "0x" + "ab" * 32
    deployed = {
        "app": deploy_own(project, "app", name=f"app beside {client.major}"),
        "dataset": deploy_own(
            project,
            "dataset",
            name=f"data beside {client.major}",
            multiaddr="https://a.b/c",
            checksum=checksum,
        ),
        "workerpool": deploy_own(project, "workerpool", description=f"pool beside {client.major}"),
    }
    return Folder(ours=project, client=client, deployed=deployed)


def hashes_of(answer: dict[str, Any]) -> dict[str, str]:
    """The order hash of each kind in an answer of `order publish` or `order unpublish`."""
    return {kind: answer[kind]["orderHash"] for kind in KINDS}


def test_what_theirs_publishes_ours_lists_shows_unpublishes_and_cancels(folder: Folder) -> None:
    signed = folder.signed(by="theirs")
    published = hashes_of(folder.theirs("order", "publish", *FLAGS, "--force"))

    for noun, part in LISTED_AS.items():
        listed = folder.ours.raw("orderbook", noun, folder.subject(noun), *any_partner(noun))
        assert published[f"{part}order"] in [one["orderHash"] for one in orders_in(listed)]
    shown = folder.ours.raw("order", "show", *FLAGS, "--deals")
    for kind in KINDS:
        assert (shown[kind]["orderHash"], shown[kind]["status"]) == (published[kind], "open")
        assert {key: str(value) for key, value in shown[kind]["order"].items()} == signed[kind]
        assert shown[kind]["deals"]["count"] == 0
    assert hashes_of(folder.ours.raw("order", "unpublish", *FLAGS, "--force")) == published
    named = [word for part in PARTS for word in (f"--{part}", published[f"{part}order"])]
    assert folder.ours.failed_parts("order", "show", *named) == [
        f"{kind}: API error: {kind} not found" for kind in KINDS
    ]
    canceled = folder.ours.raw("order", "cancel", *FLAGS, "--force")
    assert {len(canceled[kind]["txHash"]) for kind in KINDS} == {66}

    again = folder.client.call(folder.ours.here, "order", "cancel", *FLAGS, "--force", "--raw", "--quiet")

    assert json.loads(again.stderr)["fail"] == [f"{kind}: {kind} already canceled" for kind in KINDS]


def test_what_ours_publishes_theirs_lists_shows_unpublishes_and_cancels(folder: Folder) -> None:
    folder.signed(by="ours")
    published = hashes_of(folder.ours.raw("order", "publish", *FLAGS, "--force"))

    for noun in LISTED_AS:
        words = ("orderbook", noun, folder.subject(noun), *any_partner(noun))
        assert folder.theirs(*words) == folder.ours.raw(*words)
    shown = folder.theirs("order", "show", *FLAGS, "--deals")
    assert shown == folder.ours.raw("order", "show", *FLAGS, "--deals")
    assert hashes_of(shown) == published
    # A request leaves the market with the last offer that could serve it: it goes first.
    gone = folder.theirs("order", "unpublish", "--request", "--force")
    gone |= folder.theirs("order", "unpublish", *FLAGS[:3], "--force")
    assert hashes_of(gone) == published
    assert orders_in(folder.ours.raw("orderbook", "app", folder.deployed["app"])) == []
    canceled: dict[str, Any] = {}
    for flag in FLAGS:  # all at once theirs gives two transactions the same nonce when a block comes between
        canceled |= folder.theirs("order", "cancel", flag, "--force")
    assert {len(canceled[kind]["txHash"]) for kind in KINDS} == {66}

    assert folder.ours.failed_parts("order", "cancel", *FLAGS, "--force") == [
        f"{kind}: {kind} already canceled" for kind in KINDS
    ]


@pytest.mark.parametrize("signer", ["ours", "theirs"])
def test_orders_that_one_signs_and_publishes_the_other_fills(folder: Folder, signer: str) -> None:
    """Both preflights are on: a standard deal needs no secret service, for either client."""
    folder.signed(by=signer)
    if signer == "ours":
        published = hashes_of(folder.ours.raw("order", "publish", *FLAGS, "--force"))
        words = [word for part in PARTS for word in (f"--{part}", published[f"{part}order"])]
        made = folder.theirs("order", "fill", *words, "--force")
    else:
        published = hashes_of(folder.theirs("order", "publish", *FLAGS, "--force"))
        words = [word for part in PARTS for word in (f"--{part}", published[f"{part}order"])]
        made = folder.ours.raw("order", "fill", *words, "--force")

    deal = folder.ours.raw("deal", "show", made["dealid"])["deal"]
    assert deal == folder.theirs("deal", "show", made["dealid"])["deal"]
    named = {part: deal[part]["pointer"] for part in folder.deployed}
    assert (named, deal["requester"], made["volume"]) == (folder.deployed, FIRST, "1")


def test_one_command_offers_are_managed_by_the_other_client(folder: Folder) -> None:
    """`app|dataset|workerpool publish` and `unpublish`, without orders.json."""
    for noun in ("app", "dataset", "workerpool"):
        address = folder.deployed[noun]
        offer = (address, "--price", "2", "nRLC", "--volume", "3", "--force")
        by_us = folder.ours.raw(noun, "publish", *offer)["orderHash"]
        by_them = folder.theirs(noun, "publish", *offer)["orderHash"]
        listed = folder.theirs("orderbook", noun, address)
        assert listed == folder.ours.raw("orderbook", noun, address)
        offers = {one["orderHash"]: one for one in orders_in(listed)}
        assert {by_us, by_them} <= set(offers)
        assert offers[by_us] | {"orderHash": ""} == offers[by_them] | {"orderHash": ""}

        assert folder.ours.raw(noun, "unpublish", address, "--force")["unpublished"] == by_them
        assert folder.theirs(noun, "unpublish", address, "--force")["unpublished"] == by_us
        folder.ours.raw(noun, "publish", *offer)
        assert by_us not in folder.ours.raw(noun, "unpublish", address, "--all", "--force")["unpublished"]
        assert orders_in(folder.ours.raw("orderbook", noun, address)) == []


def any_partner(noun: str) -> tuple[str, ...]:
    """A request that names its workerpool is listed for those who ask for it."""
    return ("--workerpool", "any") if noun == "requester" else ()


def orders_in(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The items of an order book's answer."""
    [items] = (value for key, value in answer.items() if key.endswith("Orders"))
    assert len(items) == answer["count"]
    orders: list[dict[str, Any]] = items
    return orders


# --- the guide with the official client ---------------------------------------------------------------------


def test_the_guide_is_followed_with_the_official_client(place: Place, tmp_path: Path) -> None:
    """`manage-a-workerpool.md` by 8.24.0 in a folder that ours prepares; nothing but its own words."""
    project, client = new_project(tmp_path, place, major=8), installed(8)
    pool = deploy_own(project, "workerpool", description="the pool of the guide")

    def theirs(*words: str) -> str:
        done = client.call(tmp_path, *words, "--quiet", answers="y\n")
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout + done.stderr  # people read both

    theirs("order", "init", "--workerpool")
    project.edit_order("workerpoolorder", workerpoolprice="100000000", volume="3", trust="1")
    project.raw("account", "deposit", "1 RLC")
    theirs("order", "sign", "--workerpool")
    theirs("order", "publish", "--workerpool")
    book = theirs("orderbook", "workerpool", pool)
    [order_hash] = set(re.findall(r"0x[0-9a-f]{64}\b", book)) - {f"0x{0:064x}"}
    [offer] = orders_in(project.raw("orderbook", "workerpool", pool))
    assert (offer["orderHash"], offer["price"], offer["remaining"]) == (order_hash, 100_000_000, 3)

    theirs("order", "unpublish", "--workerpool", order_hash)
    assert orders_in(project.raw("orderbook", "workerpool", pool)) == []
    # Its last line with a hash, as the guide has it, works with ours alone: 8.24.0 takes none here.
    refused = client.call(tmp_path, "order", "cancel", "--workerpool", order_hash, "--quiet")
    assert (refused.returncode, "too many arguments" in refused.stderr) == (1, True)
    theirs("order", "cancel", "--workerpool")
    assert project.failed_parts("order", "cancel", "--workerpool", order_hash) == [
        "workerpoolorder: workerpoolorder already canceled"
    ]


def test_what_the_guide_warns_of_is_refused_by_one_of_the_two_clients(place: Place, tmp_path: Path) -> None:
    """8.24.0 refuses half of the wrong tags when it signs; ours refuses to publish what it lets pass."""
    project, client = new_project(tmp_path, place, major=8), installed(8)
    deploy_own(project, "workerpool", description="the pool of the warnings")
    project.raw("order", "init", "--workerpool")

    def sign(tag: int, trust: str) -> dict[str, Any]:
        project.edit_order("workerpoolorder", tag=f"0x{tag:064x}", trust=trust)
        done = client.call(tmp_path, "order", "sign", "--workerpool", "--force", "--raw", "--quiet")
        answer: dict[str, Any] = json.loads(done.stdout or done.stderr)
        return answer

    assert "'tee' tag must be used with a tee framework" in sign(0x1, "1")["fail"][0]
    assert "'tdx' tag must be used with 'tee' tag" in sign(0x8, "1")["fail"][0]
    for tag, trust, words in (
        (0x5, "1", "0x5 (TEE with Gramine) is a reserved value, do not use it"),
        (0x10, "1", "Unknown bit 4 in tag"),
        (0x3, "3", "workerpoolorder.trust: got 3, expected 1, because the tag has tee"),
        (0x9, "3", "workerpoolorder.trust: got 3, expected 1, because the tag has tee"),
    ):
        assert sign(tag, trust)["ok"]
        [failure] = project.failed_parts("order", "publish", "--workerpool", "--force")
        assert words in failure
    assert sign(0x3, "1")["ok"]
    assert (
        len(project.raw("order", "publish", "--workerpool", "--force")["workerpoolorder"]["orderHash"]) == 66
    )
