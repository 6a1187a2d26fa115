"""Order hashes equal those of the official client, every field set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from poolwright.cli.iexec.order_forms import read_draft, read_signed
from poolwright.poco.orders import Domain, order_hash
from poolwright.poco.types import Address, Hash32

GOLDEN = json.loads((Path(__file__).parent / "golden/official_order_hashes.json").read_text())
DOMAIN = Domain(chain_id=GOLDEN["chainId"], hub=Address.parse(GOLDEN["hub"]))


@pytest.mark.parametrize("golden", GOLDEN["orders"], ids=lambda one: f"{one['kind']} {one['hash'][:8]}")
def test_the_hash_of_an_order_is_the_official_client_s(golden: dict) -> None:
    assert str(order_hash(read_signed(golden["kind"], golden["order"]), DOMAIN)) == golden["hash"]


@pytest.mark.parametrize(
    "golden",
    [one for one in GOLDEN["orders"] if one["kind"] != "requestorder"],
    ids=lambda one: f"{one['kind']} {one['hash'][:8]}",
)
def test_a_draft_with_numbers_and_a_hex_tag_gives_the_same_order(golden: dict) -> None:
    draft = dict(golden["order"])
    salt = Hash32.parse(draft.pop("salt"))
    draft["volume"] = int(draft["volume"])
    assert str(order_hash(read_draft(golden["kind"], draft, salt), DOMAIN)) == golden["hash"]
