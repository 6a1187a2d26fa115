"""Preflight: every check names the field, what it got and what it expects."""

from __future__ import annotations

from dataclasses import replace

import pytest

from poolwright.cli.iexec.errors import IexecError
from poolwright.cli.iexec.order_forms import free_order
from poolwright.cli.iexec.preflight import (
    KnownFacts,
    OrderFacts,
    PreflightFailed,
    both,
    check_match,
    check_money,
    check_order,
    check_partners,
    check_tag,
    check_tags_together,
    groups_to_ask,
    price_lines,
    require,
)
from poolwright.poco.matching import EntryKind, Orders, Policy
from poolwright.poco.orders import NULL_DATASETORDER, Domain, order_hash
from poolwright.poco.tags import Tag
from poolwright.poco.types import Address, NRlc

APP, POOL, DATASET, REQUESTER, OWNER, OTHER = (Address(bytes([n]) * 20) for n in range(1, 7))
DOMAIN = Domain(chain_id=1, hub=OTHER)
FACTS = OrderFacts(category_count=5, stake=NRlc(10**9))


def pool_order(**changes: object):
    return free_order("workerpoolorder", workerpool=POOL, trust=1, **changes)


# --- tags ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["apporder", "workerpoolorder", "requestorder", "datasetorder"])
@pytest.mark.parametrize("tag", [0x0, 0x3, 0x9, 0x100, 0x103, 0x109])
def test_the_tags_of_the_list_pass_for_every_kind(kind: str, tag: int) -> None:
    assert check_tag(kind, Tag(tag)) == []


@pytest.mark.parametrize("tag", [0x1, 0x2, 0x4, 0x5, 0x7, 0x8, 0xB, 0xD, 0xF, 0x10, 0x105, 1 << 255])
def test_every_other_tag_of_a_pool_is_refused_with_the_valid_ones(tag: int) -> None:
    [finding] = check_order(pool_order(tag=Tag(tag)), FACTS)
    assert finding.field == "workerpoolorder.tag"
    assert finding.got.startswith(f"0x{tag:x} (")
    assert "0x0 (standard), 0x3 (TEE with Scone), 0x9 (TEE with TDX)" in finding.expected
    assert finding.is_blocking


def test_gramine_is_called_a_reserved_value() -> None:
    [finding] = check_tag("workerpoolorder", Tag(5))
    assert str(finding) == (
        "Unsupported legacy TEE framework tag ('gramine') (workerpoolorder.tag: got 0x5 (tee, gramine), "
        "expected 0x0 (standard), 0x3 (TEE with Scone), 0x9 (TEE with TDX); each may add 0x100 (GPU)); "
        "0x5 (TEE with Gramine) is a reserved value, do not use it"
    )


def test_the_official_sentences_stand_first() -> None:
    assert str(check_tag("apporder", Tag(8))[0]).startswith("'tdx' tag must be used with 'tee' tag (")
    assert str(check_tag("apporder", Tag(1))[0]).startswith("'tee' tag must be used with a tee framework")
    assert str(check_tag("apporder", Tag(16))[0]).startswith("Unknown bit 4 in tag (")


@pytest.mark.parametrize("kind", ["requestorder", "datasetorder"])
def test_requests_and_datasets_may_leave_the_framework_open(kind: str) -> None:
    assert check_tag(kind, Tag(1)) == []


# --- trust, category, enclave, stake ------------------------------------------------------------------------


@pytest.mark.parametrize("trust", [0, 2, 3])
def test_a_tee_pool_order_needs_trust_1(trust: int) -> None:
    [finding] = check_order(replace(pool_order(tag=Tag(9)), trust=trust), FACTS)
    assert (finding.field, finding.got) == ("workerpoolorder.trust", str(trust))
    assert finding.expected.startswith("1, because the tag has tee")


def test_a_standard_pool_order_may_have_any_trust() -> None:
    assert check_order(replace(pool_order(), trust=3), FACTS) == ()


def test_trust_0_of_a_tee_request_counts_as_1() -> None:
    assert check_order(free_order("requestorder", app=APP, tag=Tag(9), trust=0), FACTS) == ()
    [finding] = check_order(free_order("requestorder", app=APP, tag=Tag(9), trust=2), FACTS)
    assert finding.field == "requestorder.trust"


def test_a_category_that_does_not_exist_is_refused() -> None:
    [finding] = check_order(pool_order(category=5), FACTS)
    assert (finding.field, finding.got) == ("workerpoolorder.category", "5")
    assert finding.expected == "0 to 4, the hub's categories"


def test_the_stake_must_cover_all_offered_tasks() -> None:
    order = pool_order(workerpoolprice=1_000_000_000, volume=4)
    [finding] = check_order(order, FACTS)
    assert str(finding) == (
        "workerpoolorder.volume: got 4 tasks, which lock 1200000000 nRLC (1.2 RLC) of the owner's stake of "
        "1000000000 nRLC (1 RLC), expected at most 3 tasks at this price; "
        "run `iexec account deposit 0.2 RLC`, or offer less"
    )
    assert check_order(replace(order, volume=3), FACTS) == ()
    assert check_order(order, replace(FACTS, consumed=1)) == ()


def test_a_request_above_its_stake_is_only_warned_about() -> None:
    order = free_order("requestorder", app=APP, appmaxprice=1_000_000_001, volume=1)
    [finding] = check_order(order, FACTS)
    assert not finding.is_blocking
    assert require([finding]) == (finding,)


def test_a_scone_app_needs_a_measurement_and_others_have_none() -> None:
    measured, plain = replace(FACTS, mrenclave=b"{}"), replace(FACTS, mrenclave=b"")
    app = free_order("apporder", app=APP)
    [finding] = check_order(app, measured)
    assert f"App {APP} has an MREnclave, which is no longer supported" in finding.sentence
    assert check_order(app, plain) == ()
    assert check_order(replace(app, tag=Tag(3)), measured) == ()
    [finding] = check_order(replace(app, tag=Tag(3)), plain)
    assert finding.got == "0x3, while the app has no MREnclave"


def test_blocking_findings_stop_with_all_their_texts() -> None:
    findings = check_order(replace(pool_order(tag=Tag(5), category=9), trust=3), FACTS)
    with pytest.raises(PreflightFailed) as failure:
        require(findings)
    for field in ("workerpoolorder.tag", "workerpoolorder.trust", "workerpoolorder.category"):
        assert field in failure.value.what
    assert "--skip-preflight-check" in failure.value.next_step


# --- partners -----------------------------------------------------------------------------------------------


def test_an_order_that_excludes_its_neighbour_is_warned_about() -> None:
    pool = pool_order(apprestrict=OTHER)
    [finding] = check_partners(pool, {"apporder": free_order("apporder", app=APP)})
    assert (finding.field, finding.got) == ("workerpoolorder.apprestrict", str(OTHER))
    assert str(APP) in finding.expected
    assert not finding.is_blocking
    assert check_partners(pool, {"apporder": free_order("apporder", app=OTHER)}) == ()


def test_a_neighbour_that_excludes_the_order_is_warned_about() -> None:
    [finding] = check_partners(pool_order(), {"requestorder": request(workerpool=OTHER)})
    assert finding.field == "requestorder.workerpool"


# --- the match ----------------------------------------------------------------------------------------------


def request(**changes: object):
    terms = {"app": APP, "requester": REQUESTER, "appmaxprice": 10, "workerpoolmaxprice": 100}
    return free_order("requestorder", **{**terms, **changes})


def orders(**changes: object) -> Orders:
    made = Orders(
        app=free_order("apporder", app=APP, appprice=10),
        dataset=NULL_DATASETORDER,
        workerpool=pool_order(workerpoolprice=100, volume=2),
        request=request(volume=2),
    )
    return replace(made, **changes)


def facts_of(made: Orders, **changes: object) -> KnownFacts:
    signers = ((made.app, OWNER), (made.workerpool, OWNER), (made.request, REQUESTER))
    facts = KnownFacts(
        categories=5,
        owners={APP: OWNER, POOL: OWNER, DATASET: OWNER},
        registered=frozenset({(EntryKind.APP, APP), (EntryKind.WORKERPOOL, POOL)}),
        pool_policy=Policy(),
        consumed_volumes={},
        signed=frozenset((signer, order_hash(order, DOMAIN)) for order, signer in signers),
    )
    return replace(facts, **changes)


def test_orders_that_match_give_the_terms_of_their_deal() -> None:
    made = orders(app=free_order("apporder", app=APP, appprice=10, volume=7))
    terms = check_match(made, facts_of(made), DOMAIN)
    assert (terms.volume, terms.payer_lock(), terms.scheduler_lock()) == (2, 220, 60)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"workerpool": pool_order(category=1)},
            "category mismatch between requestorder (0) and workerpoolorder (1)",
        ),
        ({"app": free_order("apporder", app=APP, appprice=11)}, "appmaxprice too low (expected 11, got 10)"),
        (
            {"workerpool": pool_order(workerpoolprice=101)},
            "workerpoolmaxprice too low (expected 101, got 100)",
        ),
        (
            {"request": request(tag=Tag(9))},
            "Missing tags [tee,tdx] in workerpoolorder",
        ),
        (
            {"request": request(trust=2)},
            "workerpoolorder trust is too low (expected 2, got 1)",
        ),
        (
            {"request": request(app=OTHER)},
            f"app address mismatch between requestorder ({OTHER}) and apporder ({APP})",
        ),
        ({"app": free_order("apporder", app=OTHER)}, f"No app deployed at address {OTHER}"),
    ],
)
def test_orders_that_do_not_match_are_told_in_the_official_words(changes: dict, message: str) -> None:
    made = replace(orders(), **{"app": free_order("apporder", app=APP), **changes})
    with pytest.raises(IexecError) as refusal:
        check_match(made, facts_of(made), DOMAIN)
    assert refusal.value.what == message


def test_a_restriction_names_its_field_what_it_expects_and_what_it_got() -> None:
    made = orders(workerpool=pool_order(workerpoolprice=100, requesterrestrict=OTHER))
    with pytest.raises(IexecError) as refusal:
        check_match(made, facts_of(made), DOMAIN)
    for word in ("workerpoolorder.requesterrestrict", str(OTHER), str(REQUESTER)):
        assert word in refusal.value.what
    assert groups_to_ask(made) == ((OTHER, REQUESTER),)
    members = facts_of(made, members=frozenset({(OTHER, REQUESTER)}))
    assert check_match(made, members, DOMAIN).volume == 1


def test_a_foreign_signature_and_a_used_up_order_are_told() -> None:
    made = orders()
    with pytest.raises(IexecError, match="apporder invalid sign"):
        check_match(made, facts_of(made, signed=frozenset()), DOMAIN)
    used = {order_hash(made.workerpool, DOMAIN): 2}
    with pytest.raises(IexecError, match="workerpoolorder is fully consumed"):
        check_match(made, facts_of(made, consumed_volumes=used), DOMAIN)


def test_both_sides_need_the_money() -> None:
    made = orders(app=free_order("apporder", app=APP, appprice=10, volume=7))
    terms = check_match(made, facts_of(made), DOMAIN)
    assert check_money(terms, requester_stake=NRlc(220), pool_stake=NRlc(60)) == ()
    [short] = check_money(terms, requester_stake=NRlc(219), pool_stake=NRlc(60))
    assert short.sentence.startswith(
        "Total cost for 2 tasks (220) is greater than requester account stake (2"
    )
    [short] = check_money(terms, requester_stake=NRlc(109), pool_stake=NRlc(60))
    assert short.sentence.startswith("Cost per task (110) is greater than requester account stake (109)")
    [short] = check_money(terms, requester_stake=NRlc(220), pool_stake=NRlc(59))
    assert short.sentence.startswith("workerpool required stake (30) is greater than workerpool owner's")


def test_an_owner_that_is_its_own_requester_pays_from_one_purse() -> None:
    made = orders(app=free_order("apporder", app=APP, appprice=10, volume=7))
    terms = check_match(made, facts_of(made), DOMAIN)
    assert check_money(terms, requester_stake=NRlc(280), pool_stake=NRlc(280), is_one_purse=True) == ()
    [short] = check_money(terms, requester_stake=NRlc(279), pool_stake=NRlc(279), is_one_purse=True)
    assert short.field == "requestorder.volume"


def test_tags_that_make_no_deal_are_refused_together() -> None:
    made = orders(
        app=free_order("apporder", app=APP, tag=Tag(3)),
        request=free_order("requestorder", app=APP, tag=Tag(9)),
    )
    with pytest.raises(IexecError, match="Matching order would produce an invalid deal tag"):
        check_tags_together(made)
    check_tags_together(orders())


# --- prices -------------------------------------------------------------------------------------------------


def test_prices_are_shown_in_both_units_before_signing() -> None:
    assert both(5_000_000) == "5000000 nRLC (0.005 RLC)"
    assert price_lines(pool_order(workerpoolprice=5_000_000, volume=3)) == (
        "price 5000000 nRLC (0.005 RLC) per task, 3 tasks",
        "locks 1500000 nRLC (0.0015 RLC) of your stake per task, 4500000 nRLC (0.0045 RLC) in all",
    )
    asked = free_order("requestorder", app=APP, appmaxprice=1, workerpoolmaxprice=2, volume=2)
    assert price_lines(asked)[-1] == "at most 6 nRLC (0.000000006 RLC) for 2 tasks"
