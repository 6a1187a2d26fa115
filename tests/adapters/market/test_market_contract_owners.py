"""Orders whose signer is a contract, or a key's account with code: the market says what the hub will say."""

from __future__ import annotations

from dataclasses import replace

import pytest
from contract_wallet import wallet_code

from conftest import CHAIN_ID, KEYS, MANAGER, NOBODY, PROVIDER, REQUESTER, Chain, Client
from poolwright.market.login import digest_of
from poolwright.poco import calls, views
from poolwright.poco.orders import Order
from poolwright.poco.records import OrderOperation
from poolwright.poco.signatures import sign_digest
from poolwright.poco.types import Address, Hash32, NRlc

pytestmark = pytest.mark.chain
OWNER_KEY, STRANGER_KEY = KEYS[2], bytes(range(1, 33))


def deployed_wallet(chain: Chain, owner: Address) -> Address:
    tx = {"from": str(PROVIDER), "data": wallet_code(owner), "gas": hex(200_000)}
    [receipt] = chain.node.receipts([chain.node.call("eth_sendTransaction", tx)])
    return Address.parse(receipt["contractAddress"])


@pytest.fixture
def wallet(chain: Chain) -> Address:
    """A contract wallet that the requester's key signs for; it owns an app and a pool."""
    wallet = deployed_wallet(chain, REQUESTER)
    contracts, app = chain.contracts, ("its app", "DOCKER", b"app:2", Hash32.zero(), b"")
    chain.create(
        "its app", contracts.app_registry, views.predict_app(wallet, *app), calls.create_app(wallet, *app)
    )
    chain.create(
        "its pool",
        contracts.workerpool_registry,
        views.predict_workerpool(wallet, "its pool"),
        calls.create_workerpool(wallet, "its pool"),
    )
    return wallet


def signed(chain: Chain, order: Order, key: bytes) -> Order:
    return replace(order, sign=sign_digest(key, chain.hash(order)))


def says_the_hub(chain: Chain, signer: Address, order: Order) -> bool:
    call = views.verify_presignature_or_signature(signer, chain.hash(order), order.sign)
    return views.decode_bool(chain.ask(chain.contracts.hub, call))


async def authorized(market: Client, wallet: Address, key: bytes) -> str:
    """The header of a wallet for which a key signs."""
    typed = (await market.ok("/challenge", address=str(wallet)))["data"]
    digest = digest_of(CHAIN_ID, typed["message"]["challenge"])
    return f"{digest}_0x{sign_digest(key, digest).hex()}_{wallet}"


async def sent(market: Client, order: Order, header: str) -> tuple[int, str]:
    """Status and error of a publication with this header."""
    status, body = await market.send("POST", order.KIND, {"order": order.to_json()}, header)
    return status, body.get("error", "")


async def test_a_contract_publishes_what_its_owner_signed_and_the_hub_matches_it(
    chain: Chain, market: Client, wallet: Address
) -> None:
    app = signed(chain, chain.app_order(app=chain.entries["its app"]), OWNER_KEY)
    pool = signed(chain, chain.pool_order(workerpool=chain.entries["its pool"]), OWNER_KEY)
    request = chain.request_order(app=app.app, requester=wallet, beneficiary=wallet)
    request = signed(chain, request, OWNER_KEY)

    for order in (app, pool, request):
        assert says_the_hub(chain, wallet, order)
        assert await sent(market, order, await authorized(market, wallet, OWNER_KEY)) == (200, "")
    book = await market.ok("/workerpoolorders", workerpool=str(pool.workerpool))
    assert [each["signer"] for each in book["orders"]] == [str(wallet)]

    nothing = replace(chain.dataset_order(), dataset=NOBODY, volume=0, sign=b"")
    chain.send(PROVIDER, chain.contracts.hub, calls.match_orders(app, nothing, pool, request))
    await market.until(request, status="filled", remaining=0)

    unpublished = await market.send(
        "PUT",
        "workerpoolorder",
        {"orderHash": str(chain.hash(pool))},
        await authorized(market, wallet, OWNER_KEY),
    )
    assert unpublished == (200, {"ok": True, "unpublished": [str(chain.hash(pool))]})


async def test_what_the_contract_does_not_accept_is_refused(
    chain: Chain, market: Client, wallet: Address
) -> None:
    mine = chain.app_order(app=chain.entries["its app"])
    for wrong in (
        signed(chain, mine, STRANGER_KEY),
        replace(mine, sign=b""),
        replace(mine, sign=b"\x01" * 4096),
        replace(signed(chain, mine, OWNER_KEY), volume=7),
    ):
        assert not says_the_hub(chain, wallet, wrong)
        header = await authorized(market, wallet, OWNER_KEY)
        assert await sent(market, wrong, header) == (403, "invalid sign")


async def test_a_login_that_the_contract_does_not_accept_is_refused(
    chain: Chain, market: Client, wallet: Address
) -> None:
    order = signed(chain, chain.app_order(app=chain.entries["its app"]), OWNER_KEY)
    for header in (
        await authorized(market, wallet, STRANGER_KEY),
        await authorized(market, Address(b"\x07" * 20), OWNER_KEY),  # there is no contract
        await authorized(market, chain.contracts.hub, OWNER_KEY),  # a contract that signs nothing
        await authorized(market, NOBODY, b"\x02" * 32),
        f"{Hash32.zero()}_0x{'00' * 65}_{NOBODY}",
    ):
        assert await sent(market, order, header) == (403, "invalid authorization")


async def test_a_contract_presigns_an_order(chain: Chain, market: Client, wallet: Address) -> None:
    """A signature of the operation stands for the contract's own transaction."""
    order = replace(chain.app_order(app=chain.entries["its app"]), sign=b"")
    header = await authorized(market, wallet, OWNER_KEY)
    assert await sent(market, order, header) == (403, "invalid sign")

    chain.node.call("anvil_impersonateAccount", str(wallet))
    chain.node.call("anvil_setBalance", str(wallet), hex(10**18))
    chain.send(wallet, chain.contracts.hub, calls.manage_app_order(order, OrderOperation.SIGN))

    assert says_the_hub(chain, wallet, order)
    assert await sent(market, order, await authorized(market, wallet, OWNER_KEY)) == (200, "")


async def test_a_presignature_of_a_former_owner_counts_no_more(chain: Chain, market: Client) -> None:
    order = replace(chain.pool_order(), sign=b"")
    chain.send(MANAGER, chain.contracts.hub, calls.manage_workerpool_order(order, OrderOperation.SIGN))
    registry, pool = chain.contracts.workerpool_registry, chain.entries["pool"]
    chain.send(MANAGER, registry, calls.transfer_entry(MANAGER, PROVIDER, pool))

    assert not views.decode_bool(
        chain.ask(chain.contracts.hub, views.verify_presignature(PROVIDER, chain.hash(order)))
    )
    assert await market.refused(order, PROVIDER) == "invalid sign"


async def test_code_decides_for_an_account_that_delegates_to_it(chain: Chain, market: Client) -> None:
    """EIP-7702: with code at the account the hub asks the code, whatever the account's own key signed."""
    plain = chain.pool_order()
    assert says_the_hub(chain, MANAGER, plain)

    code = deployed_wallet(chain, REQUESTER)
    chain.node.call("anvil_setCode", str(MANAGER), "0xef0100" + bytes(code).hex())
    by_code = signed(chain, chain.pool_order(), OWNER_KEY)

    assert (says_the_hub(chain, MANAGER, plain), says_the_hub(chain, MANAGER, by_code)) == (False, True)
    assert await market.refused(plain, MANAGER) == "invalid sign"
    assert (await market.published(by_code, MANAGER))["signer"] == str(MANAGER)
    again = signed(chain, chain.pool_order(workerpoolprice=NRlc(0)), OWNER_KEY)
    assert await sent(market, again, await authorized(market, MANAGER, OWNER_KEY)) == (200, "")
