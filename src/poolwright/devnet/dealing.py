"""Makes a deal on the local network as its people would: register, sign, check, match.

The provider registers an app (and a dataset whose file it publishes) and signs orders for them, the manager
signs an order for the workerpool, the requester signs a request and matches all four in one transaction.
Registering the same content twice is not possible on the chain, and not needed: its address is known before.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp

from poolwright.chain import keystore
from poolwright.chain.reads import HubReader, Question
from poolwright.chain.sender import Receipt, TxRequest, TxSender
from poolwright.chain.wallet import Wallet
from poolwright.compute.port import ImageRef
from poolwright.devnet.amounts import format_rlc
from poolwright.devnet.record import NetworkRecord
from poolwright.poco import calls, ids, rewards, views
from poolwright.poco.consensus import workers_needed
from poolwright.poco.errors import InputError, PeerError, Unavailable
from poolwright.poco.matching import Orders
from poolwright.poco.orders import (
    NULL_DATASETORDER,
    AppOrder,
    DatasetOrder,
    Domain,
    Order,
    RequestOrder,
    WorkerpoolOrder,
    order_hash,
)
from poolwright.poco.tags import NO_TAG
from poolwright.poco.types import Address, DealId, Hash32, NRlc
from poolwright.results.cid import cid_of

HTTP_SECONDS = 30.0
_ANYBODY = Address.zero()


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the deal is to be; prices in nRLC per task."""

    tasks: int
    trust: int
    category: int
    arguments: str
    """The request's iexec_args."""
    app_price: NRlc
    dataset_price: NRlc
    pool_price: NRlc

    def check(self) -> None:
        """Raise InputError for terms that no deal can have."""
        for option, value, most in (("--tasks", self.tasks, 1_000), ("--trust", self.trust, 1_000_000)):
            if not 1 <= value <= most:
                raise InputError(
                    f"option {option}", code="bad-option", expected=f"1 to {most}", got=str(value)
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Traded:
    """The entries of the registries that the deal is about; `dataset` is zero for none."""

    app: Address
    dataset: Address
    workerpool: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Purse:
    """What one party has when the deal is to be made."""

    name: str
    address: Address
    stake: NRlc
    ether: int


# --- wallets and registries ---------------------------------------------------------------------------------


async def open_wallet(record: NetworkRecord, name: str) -> Wallet:
    """A wallet of the network, unlocked. Raises InputError when the network has none of that name."""
    if name not in record.wallets:
        raise InputError(
            f"the network has no wallet {name!r}",
            code="no-wallet",
            expected=f"one of {', '.join(record.wallets)}",
            next_step="start over with `poolwright up --fresh`",
        )
    its = record.wallets[name]
    return Wallet(await asyncio.to_thread(keystore.load, its.keystore, its.password))


async def registered_app(
    hub: HubReader, record: NetworkRecord, sender: TxSender, *, name: str, image: ImageRef
) -> tuple[Address, Receipt | None]:
    """The app of this image, registered by its owner if it is not yet; with the receipt if it was not."""
    content = (sender.address, name, "DOCKER", image.name.encode(), image_checksum(image), b"")
    return await _registered(
        hub, record.app_registry, sender, views.predict_app(*content), calls.create_app(*content)
    )


async def registered_dataset(
    hub: HubReader, record: NetworkRecord, sender: TxSender, *, path: Path, http: aiohttp.ClientSession
) -> tuple[Address, Receipt | None]:
    """The dataset of this file, published in the result repository and registered with its sha256."""
    content = await asyncio.to_thread(path.read_bytes)
    cid = await publish(http, record.results_url, content)
    entry = (sender.address, path.name, f"/ipfs/{cid}".encode(), Hash32(sha256(content).digest()))
    return await _registered(
        hub, record.dataset_registry, sender, views.predict_dataset(*entry), calls.create_dataset(*entry)
    )


def image_checksum(image: ImageRef) -> Hash32:
    """The on-chain checksum of an image: the engine's id of it, a sha256."""
    return Hash32(bytes.fromhex(image.id.removeprefix("sha256:")))


async def publish(http: aiohttp.ClientSession, results_url: str, content: bytes) -> str:
    """Add a file to the result repository; returns its CID.

    Raises Unavailable when the repository does not take it, PeerError when it calls it by another CID.
    """
    try:
        async with http.post(f"{results_url}/ipfs", data=content, timeout=_patience()) as answer:
            text = (await answer.text()).strip()
            if answer.status not in (200, 201):
                raise _no_service("result repository", results_url, f"{answer.status} {text[:300]}")
    except (aiohttp.ClientError, TimeoutError) as problem:
        raise _no_service("result repository", results_url, str(problem)) from problem
    wanted = await asyncio.to_thread(cid_of, content)
    if text != wanted:
        raise PeerError(
            "the result repository names a file wrongly", code="wrong-cid", expected=wanted, got=text[:100]
        )
    return text


async def _registered(
    hub: HubReader, registry: Address, sender: TxSender, predict: bytes, create: bytes
) -> tuple[Address, Receipt | None]:
    entry = await hub.ask(
        Question(to=registry, call=predict, read=views.decode_address, what="predicted address")
    )
    is_there = await hub.ask(
        Question(to=registry, call=views.is_registered(entry), read=views.decode_bool, what="isRegistered")
    )
    if is_there:
        return entry, None
    receipt = await sender.submit(TxRequest(key=f"register {entry}", to=registry, data=create))
    return entry, receipt


# --- orders -------------------------------------------------------------------------------------------------


def unsigned_orders(traded: Traded, terms: Terms, requester: Address, salt: Hash32) -> Orders:
    """The four orders of one deal; volumes are exactly its tasks, so nothing is left over."""
    app = AppOrder(
        app=traded.app,
        appprice=terms.app_price,
        volume=terms.tasks,
        tag=NO_TAG,
        datasetrestrict=_ANYBODY,
        workerpoolrestrict=_ANYBODY,
        requesterrestrict=_ANYBODY,
        salt=salt,
    )
    dataset = NULL_DATASETORDER
    if traded.dataset:
        dataset = DatasetOrder(
            dataset=traded.dataset,
            datasetprice=terms.dataset_price,
            volume=terms.tasks,
            tag=NO_TAG,
            apprestrict=_ANYBODY,
            workerpoolrestrict=_ANYBODY,
            requesterrestrict=_ANYBODY,
            salt=salt,
        )
    workerpool = WorkerpoolOrder(
        workerpool=traded.workerpool,
        workerpoolprice=terms.pool_price,
        volume=terms.tasks,
        tag=NO_TAG,
        category=terms.category,
        trust=terms.trust,
        apprestrict=_ANYBODY,
        datasetrestrict=_ANYBODY,
        requesterrestrict=_ANYBODY,
        salt=salt,
    )
    request = RequestOrder(
        app=traded.app,
        appmaxprice=terms.app_price,
        dataset=traded.dataset,
        datasetmaxprice=dataset.datasetprice,
        workerpool=traded.workerpool,
        workerpoolmaxprice=terms.pool_price,
        requester=requester,
        volume=terms.tasks,
        tag=NO_TAG,
        category=terms.category,
        trust=terms.trust,
        beneficiary=requester,
        callback=_ANYBODY,
        params=json.dumps({"iexec_args": terms.arguments}),
        salt=salt,
    )
    return Orders(app=app, dataset=dataset, workerpool=workerpool, request=request)


def signed_orders(
    orders: Orders, domain: Domain, *, provider: Wallet, manager: Wallet, requester: Wallet
) -> Orders:
    """The same orders, each signed by whose it is."""

    def sign(wallet: Wallet, order: Order) -> bytes:
        return wallet.sign_digest(order_hash(order, domain))

    dataset = orders.dataset
    if dataset.dataset:
        dataset = replace(dataset, sign=sign(provider, dataset))
    return Orders(
        app=replace(orders.app, sign=sign(provider, orders.app)),
        dataset=dataset,
        workerpool=replace(orders.workerpool, sign=sign(manager, orders.workerpool)),
        request=replace(orders.request, sign=sign(requester, orders.request)),
    )


def random_salt() -> Hash32:
    """Makes equal orders differ."""
    return Hash32(secrets.token_bytes(32))


async def match(hub: HubReader, orders: Orders, domain: Domain, sender: TxSender) -> tuple[DealId, Receipt]:
    """Match the orders into a deal, in one transaction. Raises TxReverted, OutOfGas, Unavailable."""
    request_hash = order_hash(orders.request, domain)
    deal_id = ids.deal_id(request_hash, await hub.consumed(request_hash))
    call = calls.match_orders(orders.app, orders.dataset, orders.workerpool, orders.request)
    receipt = await sender.submit(TxRequest(key=f"match {deal_id}", to=hub.hub, data=call))
    return deal_id, receipt


# --- what must be right before ------------------------------------------------------------------------------


def check_money(
    terms: Terms,
    *,
    has_dataset: bool,
    worker_stake_ratio: int,
    requester: Purse,
    manager: Purse,
    workers: list[Purse],
) -> None:
    """Check that every party can pay its part; `workers` are those that are connected.

    Raises InputError naming the party, what it needs and what it has. Rule: escrow `lock` at the match and
    at each contribution.
    """
    price = terms.app_price + terms.pool_price + (terms.dataset_price if has_dataset else 0)
    _check_stake(requester, price * terms.tasks, f"pay {terms.tasks} tasks")
    pool_stake = rewards.pool_stake(terms.pool_price) * terms.tasks
    _check_stake(manager, pool_stake, f"lock the workerpool's stake for {terms.tasks} tasks")
    for purse in (requester, manager):
        _check_ether(purse)
    needed = workers_needed({}, [], terms.trust)
    if len(workers) < needed:
        raise InputError(
            f"trust {terms.trust} cannot be reached",
            code="too-few-workers",
            expected=f"{needed} connected workers that agree",
            got=f"{len(workers)}",
            next_step="lower --trust, or start the network with more --workers",
        )
    worker_stake = rewards.worker_stake(terms.pool_price, worker_stake_ratio)
    able = [purse for purse in workers if purse.stake >= worker_stake and purse.ether > 0]
    if len(able) < needed:
        poor = next(purse for purse in workers if purse not in able)
        _check_stake(poor, worker_stake, "lock a worker's stake")
        _check_ether(poor)


def connected_workers(pool: Any) -> dict[Address, str]:
    """Address and name of the workers that the scheduler hears, from its `GET /pool`. Raises PeerError."""
    try:
        return {
            Address.parse(worker["walletAddress"]): str(worker["name"])
            for worker in pool["workers"]
            if not worker["isSilent"]
        }
    except (KeyError, TypeError, InputError) as problem:
        raise PeerError(
            "the scheduler's account of its pool is not understood",
            code="bad-pool-report",
            got=f"{type(problem).__name__}: {problem}"[:200],
            next_step="use a scheduler of the same version",
        ) from problem


async def fetch_json(http: aiohttp.ClientSession, url: str, service: str) -> Any:
    """GET a JSON document. Raises Unavailable when the service does not answer with one."""
    try:
        async with http.get(url, timeout=_patience()) as answer:
            if answer.status != 200:
                raise _no_service(service, url, f"status {answer.status}")
            return await answer.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError, ValueError) as problem:
        raise _no_service(service, url, str(problem) or type(problem).__name__) from problem


async def purses(hub: HubReader, people: Mapping[Address, str]) -> list[Purse]:
    """What these accounts have now."""

    async def one(address: Address, name: str) -> Purse:
        account, ether = await asyncio.gather(hub.account(address), hub.ether(address))
        return Purse(name=name, address=address, stake=account.stake, ether=ether)

    return list(await asyncio.gather(*(one(address, name) for address, name in people.items())))


def _check_stake(purse: Purse, needed: int, purpose: str) -> None:
    if purse.stake < needed:
        raise InputError(
            f"{purse.name} {purse.address} cannot {purpose}",
            code="low-stake",
            expected=f"{format_rlc(needed)} RLC free in the hub",
            got=f"{format_rlc(purse.stake)} RLC",
            next_step="lower --price or --tasks, or start over with `poolwright up --fresh`",
        )


def _check_ether(purse: Purse) -> None:
    if purse.ether <= 0:
        raise InputError(
            f"{purse.name} {purse.address} cannot pay for gas",
            code="no-ether",
            expected="some ETH",
            got="0",
            next_step="send it ETH, or start over with `poolwright up --fresh`",
        )


def _no_service(service: str, url: str, got: str) -> Unavailable:
    return Unavailable(
        f"the {service} at {url} does not answer as it should",
        code="service-unavailable",
        got=got[:400],
        next_step="see `poolwright status` and `poolwright logs`",
    )


def _patience() -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=HTTP_SECONDS)
