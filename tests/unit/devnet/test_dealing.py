"""Orders of the demo's deal, and what is checked before they cost anything."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hub_in_memory import DOMAIN, KEYS, RLC, WHO, HubInMemory

from poolwright.chain.wallet import Wallet
from poolwright.compute.port import ImageRef
from poolwright.devnet.dealing import (
    Purse,
    Terms,
    Traded,
    check_money,
    connected_workers,
    image_checksum,
    signed_orders,
    unsigned_orders,
)
from poolwright.poco.errors import InputError, PeerError
from poolwright.poco.matching import match
from poolwright.poco.types import Address, Hash32, NRlc

TERMS = Terms(
    tasks=3,
    trust=1,
    category=0,
    arguments='coral --colours "deep sea"',
    app_price=NRlc(RLC // 10),
    dataset_price=NRlc(RLC // 20),
    pool_price=NRlc(RLC),
)
ETHER = 10**18


def purse(name: str, stake: int, ether: int = ETHER) -> Purse:
    return Purse(name=name, address=WHO[name], stake=NRlc(stake), ether=ether)


def check(terms: Terms = TERMS, **changed: object) -> None:
    """Check the money of a deal in which everybody has exactly enough, but for what is changed."""
    people: dict[str, object] = {
        "has_dataset": True,
        "worker_stake_ratio": 30,
        "requester": purse("requester", 3 * 115 * RLC // 100),
        "manager": purse("manager", 9 * RLC // 10),
        "workers": [purse("worker-1", 3 * RLC // 10)],
    }
    check_money(terms, **(people | changed))  # type: ignore[arg-type]  # keywords of check_money


@pytest.mark.parametrize("has_dataset", [False, True])
def test_the_signed_orders_match_into_the_wanted_deal(has_dataset: bool) -> None:
    hub = HubInMemory()
    dataset = hub.dataset if has_dataset else Address.zero()
    traded = Traded(app=hub.app, dataset=dataset, workerpool=hub.pool)
    orders = signed_orders(
        unsigned_orders(traded, TERMS, WHO["requester"], Hash32(b"\x07" * 32)),
        DOMAIN,
        provider=Wallet(KEYS["provider"]),
        manager=Wallet(KEYS["manager"]),
        requester=Wallet(KEYS["requester"]),
    )

    terms = match(orders, hub.poco, DOMAIN)

    assert (terms.volume, terms.trust, terms.category) == (3, 1, 0)
    assert terms.requester == terms.beneficiary == WHO["requester"]
    assert terms.params == '{"iexec_args": "coral --colours \\"deep sea\\""}'
    assert terms.payer_lock() == (345 if has_dataset else 330) * RLC // 100


def test_exactly_enough_is_enough() -> None:
    check()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"requester": purse("requester", 345 * RLC // 100 - 1)},
            "requester 0x.* cannot pay 3 tasks, expected 3.45 RLC free in the hub, got 3.449999999 RLC",
        ),
        (
            {"manager": purse("manager", 0)},
            "manager 0x.* cannot lock the workerpool's stake for 3 tasks, expected 0.9 RLC",
        ),
        ({"requester": purse("requester", 5 * RLC, ether=0)}, "requester 0x.* cannot pay for gas"),
        ({"workers": []}, "trust 1 cannot be reached, expected 1 connected workers that agree, got 0"),
        (
            {"workers": [purse("worker-1", 1)]},
            "worker-1 0x.* cannot lock a worker's stake, expected 0.3 RLC",
        ),
        ({"workers": [purse("worker-1", RLC, ether=0)]}, "worker-1 0x.* cannot pay for gas"),
    ],
)
def test_who_cannot_pay_is_named_with_what_is_missing(changed: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        check(**changed)


def test_without_a_dataset_its_price_is_not_asked_for() -> None:
    check(has_dataset=False, requester=purse("requester", 330 * RLC // 100))


def test_one_able_worker_is_enough_for_trust_one() -> None:
    check(workers=[purse("worker-1", 0), purse("worker-2", RLC)])


def test_trust_three_needs_two_workers() -> None:
    with pytest.raises(InputError, match="expected 2 connected workers that agree, got 1"):
        check(replace(TERMS, trust=3))


@pytest.mark.parametrize(("terms", "option"), [({"tasks": 0}, "--tasks"), ({"trust": 0}, "--trust")])
def test_terms_that_no_deal_can_have_are_refused(terms: dict[str, int], option: str) -> None:
    with pytest.raises(InputError, match=f"option {option}, expected 1 to"):
        replace(TERMS, **terms).check()


def test_silent_workers_are_not_counted() -> None:
    workers = [
        {"walletAddress": str(WHO[name]), "name": name, "isSilent": name == "worker-2"}
        for name in ("worker-1", "worker-2")
    ]

    assert connected_workers({"workers": workers}) == {WHO["worker-1"]: "worker-1"}


@pytest.mark.parametrize("pool", [None, {}, {"workers": [{}]}, {"workers": [{"walletAddress": "0x1"}]}])
def test_a_pool_report_that_is_none_is_refused(pool: object) -> None:
    with pytest.raises(PeerError, match="not understood"):
        connected_workers(pool)


@pytest.mark.parametrize("prefix", ["sha256:", ""])
def test_an_images_checksum_is_its_id(prefix: str) -> None:
    image = ImageRef(name="app:1", id=prefix + "ab" * 32, digests=(), size_bytes=1)

    assert image_checksum(image) == Hash32(b"\xab" * 32)
    assert image.matches(str(image_checksum(image)))
