"""Every reason for which the contract refuses a match, the model refuses it too, and says it in words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cast import PROVIDER, REQUESTER, SCHEDULER, SPONSOR, STRANGER
from rejections import REJECTIONS
from stage import NOBODY, STAKE_EACH, WALLET_WORD, Stage

from poolwright.poco import views
from poolwright.poco.matching import MatchRejected, Orders, Policy, match
from poolwright.poco.orders import order_hash
from poolwright.poco.records import AppInfo, OrderOperation
from poolwright.poco.revert import Revert
from poolwright.poco.tags import GPU, SCONE, TDX, TEE
from poolwright.poco.types import Hash32, NRlc

pytestmark = pytest.mark.chain


def refusal(result: object) -> str:
    assert isinstance(result, Revert), f"expected a revert, got {result}"
    return result.reason


@pytest.mark.parametrize(
    ("number", "way"),
    [(number, way) for number, ways in REJECTIONS.items() for way in range(len(ways))],
    ids=lambda value: f"0x{value:02x}" if value in REJECTIONS else str(value),
)
def test_rejected_with_the_contracts_number_and_a_text_that_names_the_field(
    stage: Stage, number: int, way: int
) -> None:
    orders = REJECTIONS[number][way](stage)

    assert refusal(stage.match(STRANGER.address, orders)) == f"iExecV5-matchOrders-0x{number:02x}"

    with pytest.raises(MatchRejected) as rejected:
        match(orders, stage.poco, stage.domain)
    assert rejected.value.number == number
    assert rejected.value.fields
    assert rejected.value.expected
    assert rejected.value.got


@pytest.mark.parametrize("order", ["app", "dataset", "workerpool", "request"])
@pytest.mark.parametrize("length", [0, 1, 63, 66])
def test_signature_of_unknown_length_reverts_with_its_own_text(stage: Stage, order: str, length: int) -> None:
    orders = stage.orders()
    spoiled = replace(orders, **{order: replace(getattr(orders, order), sign=bytes(length))})

    assert refusal(stage.match(STRANGER.address, spoiled)) == "invalid-signature-format"


@pytest.mark.parametrize("order", ["app", "dataset", "workerpool"])
def test_resource_that_is_no_contract_reverts_without_text(stage: Stage, order: str) -> None:
    changes: dict[str, Any] = {order: {order: STRANGER.address}}

    assert refusal(stage.match(STRANGER.address, stage.orders(**changes))) == ""


def test_compact_signature_of_64_bytes_is_accepted(stage: Stage) -> None:
    def compact(sign: bytes) -> bytes:
        s = int.from_bytes(sign[32:64], "big") | (sign[64] - 27) << 255
        return sign[:32] + s.to_bytes(32, "big")

    orders = stage.orders()
    short = Orders(
        app=replace(orders.app, sign=compact(orders.app.sign)),
        dataset=replace(orders.dataset, sign=compact(orders.dataset.sign)),
        workerpool=replace(orders.workerpool, sign=compact(orders.workerpool.sign)),
        request=replace(orders.request, sign=compact(orders.request.sign)),
    )

    assert not isinstance(stage.match(STRANGER.address, short), Revert)


def test_group_contract_as_restriction_admits_its_members(stage: Stage) -> None:
    group = stage.group
    deal = stage.deal(
        request={"workerpool": group},
        app={"datasetrestrict": group, "workerpoolrestrict": group, "requesterrestrict": group},
        dataset={"apprestrict": group, "workerpoolrestrict": group, "requesterrestrict": group},
        workerpool={"apprestrict": group, "datasetrestrict": group, "requesterrestrict": group},
    )

    assert stage.poco.deal(deal).bot_size == 3


def test_contract_wallet_signs_for_its_app_and_pays_as_requester(stage: Stage) -> None:
    stage.deposit_for(SPONSOR.address, 10**9, stage.wallet)
    owned = AppInfo(
        owner=stage.wallet,
        name="wallet app",
        type="DOCKER",
        multiaddr=b"w",
        checksum=Hash32.zero(),
        mrenclave=b"",
    )
    stage.create_app(STRANGER.address, owned)
    entry = stage.poco.apps.predict(owned)
    right = stage.orders(
        app={"app": entry, "sign": WALLET_WORD}, request={"requester": stage.wallet, "sign": WALLET_WORD}
    )
    wrong = replace(right, app=replace(right.app, sign=bytes(65)))

    assert refusal(stage.match(STRANGER.address, wrong)) == "iExecV5-matchOrders-0x21"
    assert not isinstance(stage.match(STRANGER.address, right), Revert)
    assert stage.poco.account(stage.wallet).locked == 3 * 26_500


def test_zero_requester_can_be_sponsored_because_a_signature_of_nobody_is_its_own(stage: Stage) -> None:
    orders = stage.orders(request={"requester": NOBODY, "sign": bytes(65)})

    assert refusal(stage.match(STRANGER.address, orders)) == "IexecEscrow: Transfer from empty address"
    assert not isinstance(stage.sponsor_match(SPONSOR.address, orders), Revert)


def test_deal_is_paid_by_the_sponsor_who_calls(stage: Stage) -> None:
    assert not isinstance(stage.sponsor_match(SPONSOR.address, stage.orders()), Revert)

    assert stage.poco.account(SPONSOR.address).locked == 3 * 26_500
    assert stage.poco.account(REQUESTER.address).locked == 0
    assert stage.poco.account(SCHEDULER.address).locked == 3 * 7_500


@pytest.mark.parametrize("poor", [REQUESTER, SCHEDULER])
def test_payer_or_pool_owner_short_of_one_nrlc_reverts_and_locks_nothing(stage: Stage, poor: Any) -> None:
    needed = 3 * (26_500 if poor is REQUESTER else 7_500)
    stage.withdraw(poor.address, STAKE_EACH - needed + 1)
    orders = stage.orders()

    assert refusal(stage.match(STRANGER.address, orders)) == "IexecEscrow: Transfer amount exceeds balance"
    stage.deposit_for(STRANGER.address, 1, poor.address)
    assert not isinstance(stage.match(STRANGER.address, orders), Revert)


@pytest.mark.parametrize(
    "price", [2**256 - 1, 2**256 - 1500, 2**255, 2**250], ids=["max", "sum", "double", "stake"]
)
def test_prices_beyond_256_bits_panic(stage: Stage, price: int) -> None:
    result = stage.match(STRANGER.address, stage.orders(workerpool={"workerpoolprice": price}))

    assert isinstance(result, Revert)


def test_tags_of_app_dataset_and_request_add_up_in_the_deal(stage: Stage) -> None:
    deal = stage.deal(
        app={"tag": TEE},
        dataset={"tag": TEE | SCONE},
        request={"tag": TEE | GPU},
        workerpool={"tag": TEE | SCONE | GPU | TDX},
    )

    assert stage.poco.deal(deal).tag == TEE | SCONE | GPU


def test_one_request_makes_several_deals_whose_tasks_do_not_overlap(stage: Stage) -> None:
    first = stage.orders(app={"volume": 2}, request={"volume": 5})
    second = replace(stage.orders(), request=first.request)
    stage.match(STRANGER.address, first)
    stage.match(STRANGER.address, second)

    deals = [stage.poco.deal(deal_id) for deal_id in stage.deals]
    assert [(deal.bot_first, deal.bot_size) for deal in deals] == [(0, 2), (2, 3)]


def test_trust_zero_is_recorded_as_one(stage: Stage) -> None:
    assert stage.poco.deal(stage.deal(request={"trust": 0})).trust == 1


def test_price_of_a_dataset_order_without_dataset_is_compared_but_not_paid(stage: Stage) -> None:
    orders = stage.orders(with_dataset=False)
    dear = replace(orders, dataset=replace(orders.dataset, datasetprice=NRlc(500)))
    too_dear = replace(orders, dataset=replace(orders.dataset, datasetprice=NRlc(501)))

    assert refusal(stage.match(STRANGER.address, too_dear)) == "iExecV5-matchOrders-0x04"
    assert not isinstance(stage.match(STRANGER.address, dear), Revert)
    assert stage.poco.account(REQUESTER.address).locked == 3 * 26_000


def test_policy_holds_for_later_deals_only(stage: Stage) -> None:
    before = stage.deal()
    assert (
        refusal(stage.change_policy(STRANGER.address, stage.pool, Policy(10, 10)))
        == "caller is not the owner"
    )
    assert refusal(stage.change_policy(SCHEDULER.address, stage.pool, Policy(10, 101))) == ""
    stage.change_policy(SCHEDULER.address, stage.pool, Policy(250, 100))
    after = stage.deal()

    assert (stage.poco.deal(before).worker_stake, stage.poco.deal(before).scheduler_reward_ratio) == (8750, 5)
    assert (stage.poco.deal(after).worker_stake, stage.poco.deal(after).scheduler_reward_ratio) == (
        62_500,
        100,
    )


@pytest.mark.parametrize("order", ["app", "dataset", "workerpool", "request"])
def test_presigned_order_needs_no_signature_and_closed_one_matches_no_more(stage: Stage, order: str) -> None:
    orders = stage.orders()
    unsigned = replace(getattr(orders, order), sign=b"")
    presigned = replace(orders, **{order: unsigned})
    owner = {"app": PROVIDER, "dataset": PROVIDER, "workerpool": SCHEDULER, "request": REQUESTER}[order]

    assert refusal(stage.manage_order(STRANGER.address, unsigned, OrderOperation.SIGN)) == (
        "invalid-signature-format"
    )
    assert refusal(stage.manage_order(STRANGER.address, unsigned, OrderOperation.SIGN, bytes(65))) == (
        "invalid-sender-or-signature"
    )
    assert not isinstance(stage.manage_order(owner.address, unsigned, OrderOperation.SIGN), Revert)
    assert not isinstance(stage.match(STRANGER.address, presigned), Revert)
    permission = owner.operation(unsigned, OrderOperation.CLOSE, stage.domain)
    wrong = owner.operation(unsigned, OrderOperation.SIGN, stage.domain)
    assert refusal(stage.manage_order(STRANGER.address, unsigned, OrderOperation.CLOSE, wrong)) == (
        "invalid-sender-or-signature"
    )
    assert not isinstance(
        stage.manage_order(STRANGER.address, unsigned, OrderOperation.CLOSE, permission), Revert
    )
    assert refusal(stage.match(STRANGER.address, presigned)) == "iExecV5-matchOrders-0x60"


def test_presignature_of_a_former_owner_counts_no_more(stage: Stage) -> None:
    orders = stage.orders()
    unsigned = replace(orders, app=replace(orders.app, sign=b""))
    stage.manage_order(PROVIDER.address, unsigned.app, OrderOperation.SIGN)
    kind = stage.poco.apps.kind
    for caller, source, reason in (
        (STRANGER, PROVIDER, "ERC721: transfer caller is not owner nor approved"),
        (PROVIDER, STRANGER, "ERC721: transfer of token that is not own"),
    ):
        given = stage.transfer_entry(caller.address, kind, source.address, SPONSOR.address, stage.app)
        assert refusal(given) == reason
    stage.transfer_entry(PROVIDER.address, kind, PROVIDER.address, SPONSOR.address, stage.app)

    assert refusal(stage.match(STRANGER.address, unsigned)) == "invalid-signature-format"
    assert refusal(stage.match(STRANGER.address, orders)) == "iExecV5-matchOrders-0x21"


def test_same_content_for_the_same_owner_is_registered_once(stage: Stage) -> None:
    again = stage.create_workerpool(STRANGER.address, SCHEDULER.address, "pool")
    stage.entries.pop()

    assert refusal(again) == "Create2: Failed on deploy"


def test_volume_of_a_match_is_what_the_contract_computes(stage: Stage) -> None:
    orders = stage.orders(app={"volume": 7}, request={"volume": 9})
    stage.match(STRANGER.address, orders)
    fresh = replace(stage.orders(workerpool={"volume": 1}), request=orders.request)
    payload = views.compute_deal_volume(fresh.app, fresh.dataset, fresh.workerpool, fresh.request)
    answer = stage.node.call("eth_call", {"to": str(stage.hub), "data": "0x" + payload.hex()}, "latest")

    assert views.decode_uint(bytes.fromhex(answer[2:])) == 1
    assert match(fresh, stage.poco, stage.domain).volume == 1
    assert stage.poco.consumed(order_hash(orders.request, stage.domain)) == 7


def test_category_is_added_by_the_hubs_owner_only(stage: Stage) -> None:
    category = replace(stage.poco.category(0), name="XXL")

    assert refusal(stage.create_category(STRANGER.address, category)) == "Ownable: caller is not the owner"
    stage.create_category(stage.deployment.deployer, category)
    assert stage.poco.deal(stage.deal(request={"category": 5}, workerpool={"category": 5})).category == 5
    assert stage.poco.category(5) == category
    with pytest.raises(Revert):
        stage.poco.category(6)
