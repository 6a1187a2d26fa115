"""The order book at a glance, and its words as the market's query."""

from __future__ import annotations

import pytest

from poolwright.cli.iexec.book_view import book_table, raw_item, summary
from poolwright.cli.iexec.errors import IexecError
from poolwright.cli.iexec.nouns.orderbook import BOOKS, query_of
from poolwright.cli.iexec.order_forms import free_order
from poolwright.cli.iexec.words import join_amounts, repeat_option
from poolwright.poco.tags import Tag
from poolwright.poco.types import Address

POOL, ANNA = Address(b"\1" * 20), Address(b"\2" * 20)


def entry(price: int, remaining: int, **changes: object) -> dict[str, object]:
    order = free_order("workerpoolorder", workerpool=POOL, workerpoolprice=price, **changes).to_json()
    numbers = {name: int(order[name]) for name in ("workerpoolprice", "category", "trust", "volume")}
    return {"orderHash": f"0x{price:064x}", "order": {**order, **numbers}, "remaining": remaining}


def items(*entries: dict[str, object]) -> list[dict[str, object]]:
    return [raw_item("workerpoolorder", one) for one in entries]


def test_an_item_has_the_official_client_s_keys_in_its_order() -> None:
    [item] = items(entry(5, 2))
    assert list(item) == [
        *("orderHash", "price", "remaining", "category", "tag", "trust", "workerpool"),
        *("apprestrict", "datasetrestrict", "requesterrestrict"),
    ]
    assert (item["price"], item["remaining"]) == (5, 2)


def test_the_summary_tells_best_price_depth_and_trust() -> None:
    book = items(entry(10**8, 2, trust=1), entry(10**8, 3, trust=5), entry(10**9, 4, trust=1))
    assert summary("workerpoolorder", book, 3) == (
        "best price 100000000 nRLC (0.1 RLC) for 5 tasks, depth 9 tasks in 3 orders, trust 1 to 5"
    )
    assert summary("workerpoolorder", book[:1], 40).endswith("depth 2 tasks in 1 order of 40, trust 1")
    assert summary("workerpoolorder", [], 0) == "no open order"


def test_the_table_adds_up_the_depth_and_keeps_the_hash_whole() -> None:
    book = items(entry(10**8, 2), entry(10**9, 4, tag=Tag(9), requesterrestrict=ANNA))
    lines = book_table("workerpoolorder", book).splitlines()
    assert lines[0].split()[:3] == ["RLC", "tasks", "depth"]
    assert lines[2].split()[:3] == ["0.1", "2", "2"]
    assert lines[3].split()[:3] == ["1", "4", "6"]
    assert "tee,tdx" in lines[3]
    assert "requester 0x0202…0202" in lines[3]
    assert lines[2].endswith(f"0x{10**8:064x}")
    assert str(ANNA) in book_table("workerpoolorder", book, is_full=True)


def test_words_become_the_market_s_query() -> None:
    words = {"require_tag": "tee,tdx", "min_trust": "2", "app": str(ANNA), "app_strict": True}
    assert query_of(BOOKS["workerpool"], str(POOL), words) == {
        "workerpool": str(POOL),
        "minTag": f"0x{9:064x}",
        "minTrust": "2",
        "app": str(ANNA),
        "isAppStrict": "true",
        "isDatasetStrict": "false",
        "isRequesterStrict": "false",
    }


def test_an_exact_tag_bounds_from_both_sides() -> None:
    query = query_of(BOOKS["app"], str(POOL), {"tag": "tee"})
    assert query["minTag"] == query["maxTag"] == f"0x{1:064x}"
    with pytest.raises(IexecError, match="--tag excludes"):
        query_of(BOOKS["app"], str(POOL), {"tag": "tee", "max_tag": "tee"})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"app": "foo"}, "--app foo is not a valid ethereum address"),
        ({"min_volume": "0"}, "--min-volume must be a valid integer"),
        ({"tag": "foo"}, "foo is not a valid tag. Unknown tag foo"),
        ({"dataset_strict": True}, "--dataset-strict needs --dataset <address>"),
    ],
)
def test_wrong_words_are_refused_by_their_option(words: dict[str, object], message: str) -> None:
    with pytest.raises(IexecError) as refusal:
        query_of(BOOKS["workerpool"], None, words)
    assert refusal.value.what == message


def test_anybody_is_a_filter_too() -> None:
    assert query_of(BOOKS["requester"], None, {"workerpool": "any"})["workerpool"] == "any"


def test_an_amount_may_be_two_words() -> None:
    words = ["--price", "0.5", "RLC", "0xab", "--volume", "3", "nRLC"]
    assert join_amounts(words, ["--price"]) == ["--price", "0.5 RLC", "0xab", "--volume", "3", "nRLC"]
    assert join_amounts(["--price", "5"], ["--price"]) == ["--price", "5"]


def test_a_list_option_is_repeated_until_another_option() -> None:
    words = ["--secret", "1=a", "2=b", "--args", "3=c", "0xab"]
    assert repeat_option(words, "--secret") == ["--secret", "1=a", "--secret", "2=b", "--args", "3=c", "0xab"]
    assert repeat_option(["--secret", "1=a", "--", "2=b"], "--secret") == ["--secret", "1=a", "--", "2=b"]
