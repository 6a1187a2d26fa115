"""Orders and authorizations of elsewhere or of the past; numbers and bodies without measure."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import CHAIN_ID, KEY_OF, MANAGER, PROVIDER, REQUESTER, Chain, Client, settings_of
from poolwright.market import service
from poolwright.market.login import digest_of
from poolwright.poco import calls
from poolwright.poco.orders import Domain, WorkerpoolOrder, order_hash
from poolwright.poco.signatures import sign_digest
from poolwright.poco.types import Address

pytestmark = pytest.mark.chain
OTHER_HUB = Address(b"\x05" * 20)


@pytest.mark.parametrize("where", ["another chain", "another hub"])
async def test_an_order_for_elsewhere_is_refused(chain: Chain, market: Client, where: str) -> None:
    home = chain.domain
    elsewhere = {
        "another chain": Domain(chain_id=134, hub=home.hub),
        "another hub": Domain(chain_id=CHAIN_ID, hub=OTHER_HUB),
    }[where]
    order = chain.pool_order()
    foreign = replace(order, sign=sign_digest(KEY_OF[MANAGER], order_hash(order, elsewhere)))

    assert await market.refused(foreign, MANAGER) == "invalid sign"
    assert (await market.published(order, MANAGER))["status"] == "open"


async def test_an_authorization_for_another_chain_is_refused(chain: Chain, market: Client) -> None:
    typed = (await market.ok("/challenge", address=str(MANAGER)))["data"]
    digest = digest_of(134, typed["message"]["challenge"])
    header = f"{digest}_0x{sign_digest(KEY_OF[MANAGER], digest).hex()}_{MANAGER}"

    status, body = await market.send("POST", "workerpoolorder", _body(chain.pool_order()), header)

    assert (status, body) == (403, {"ok": False, "error": "invalid authorization"})


async def test_an_authorization_is_good_for_one_request_whatever_became_of_it(
    chain: Chain, market: Client
) -> None:
    header = await market.authorization(MANAGER)
    bad = {"order": {**chain.pool_order().to_json(), "volume": 0}}
    assert (await market.send("POST", "workerpoolorder", bad, header))[0] == 400

    status, body = await market.send("POST", "workerpoolorder", _body(chain.pool_order()), header)

    assert (status, body["error"]) == (403, "invalid authorization")


async def test_a_resource_that_was_sold_is_its_new_owner_s_to_offer(chain: Chain, market: Client) -> None:
    order = chain.pool_order()
    registry, pool = chain.contracts.workerpool_registry, chain.entries["pool"]
    chain.send(MANAGER, registry, calls.transfer_entry(MANAGER, PROVIDER, pool))

    assert await market.refused(order, MANAGER) == f"only order signer {PROVIDER} can publish an order"
    assert await market.refused(order, PROVIDER) == "invalid sign"  # the old owner's signature
    mine = replace(order, sign=sign_digest(KEY_OF[PROVIDER], chain.hash(order)))
    assert (await market.published(mine, PROVIDER))["signer"] == str(PROVIDER)


async def test_nobody_publishes_or_unpublishes_for_another(chain: Chain, market: Client) -> None:
    order = chain.pool_order()
    assert await market.refused(order, REQUESTER) == f"only order signer {MANAGER} can publish an order"
    await market.published(order, MANAGER)

    body = {"orderHash": str(chain.hash(order))}
    status, answer = await market.send("PUT", "workerpoolorder", body, REQUESTER)

    assert (status, answer["error"]) == (403, f"only order signer {MANAGER} can unpublish an order")


@pytest.mark.parametrize(
    ("volume", "text"),
    [
        ("9007199254740992", "order.volume must be less than or equal to 9007199254740991"),
        ('"9007199254740992"', "order.volume must be less than or equal to 9007199254740991"),
        ("1" + "0" * 5000, "order.volume must be a `number` type"),
        ("1e400", "order.volume must be a `number` type"),
        ("1.5", "order.volume must be a `number` type"),
        ("true", "order.volume must be a `number` type"),
        ("NaN", "the body is not JSON"),
        ("-1", "order.volume must be greater than or equal to 1"),
        ("[1]", "order.volume must be a `number` type"),
    ],
)
async def test_a_number_that_no_order_can_have_is_refused(
    chain: Chain, market: Client, volume: str, text: str
) -> None:
    document = json.dumps(_body(chain.pool_order(volume=77))).replace('"77"', volume)
    assert volume in document
    async with market.http.post(
        f"{market.url}/workerpoolorders?chainId={CHAIN_ID}",
        data=document,
        headers={"authorization": await market.authorization(MANAGER)},
    ) as answer:
        status, body = answer.status, await answer.json()

    assert (status, body["ok"]) == (400, False)
    assert body["error"].startswith(text)


async def test_a_body_that_does_not_come_is_refused_in_the_market_s_words(
    chain: Chain, tmp_path: Path
) -> None:
    config = settings_of(chain, f"sqlite:///{tmp_path}/market.db", stall_seconds=0.3)
    async with service.serving(config) as running, asyncio.timeout(20):
        host, _, port = running.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = f"POST /apporders?chainId={CHAIN_ID} HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n"
        writer.write(head.encode() + b'{"order":')
        answer = await reader.read()
        writer.close()
        running.stop()

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in answer.lower()
    assert answer.endswith(b'{"ok": false, "error": "the body did not come within 0.3 seconds"}')


def _body(order: WorkerpoolOrder) -> dict[str, object]:
    return {"order": order.to_json()}
