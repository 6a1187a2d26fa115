"""Which part of a list a query asks for."""

from __future__ import annotations

import pytest

from poolwright.market.errors import MarketRefusal
from poolwright.market.params import Params, Window, read_window


def test_pages_count_from_the_page_size() -> None:
    assert read_window(Params({"pageIndex": "2", "pageSize": "50"})) == Window(skip=100, count=50)


def test_without_a_page_the_offset_counts() -> None:
    assert read_window(Params({"page": "40"})) == Window(skip=40, count=20)


@pytest.mark.parametrize("name", ["page", "pageIndex"])
def test_a_place_that_does_not_count_is_refused_all_the_same_when_it_is_no_number(name: str) -> None:
    with pytest.raises(MarketRefusal, match=name):
        read_window(Params({"pageSize": "20", "cursor": "any", name: "first"}))
