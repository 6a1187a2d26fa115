"""Finding or making the four orders of an execution, and paying for it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from poolwright.chain.reads import Question
from poolwright.cli.iexec import order_chain
from poolwright.cli.iexec.amounts import format_rlc, parse_rlc
from poolwright.cli.iexec.deal_chain import WATCH_SECONDS, read_deal
from poolwright.cli.iexec.errors import IexecError
from poolwright.cli.iexec.filling import MadeDeal, checked_terms, match
from poolwright.cli.iexec.nouns.order import market_of
from poolwright.cli.iexec.order_forms import free_order, read_params, read_signed
from poolwright.cli.iexec.preflight import both
from poolwright.cli.iexec.render import tree
from poolwright.cli.iexec.resources import deployed_or
from poolwright.cli.iexec.values import address_of, number_of
from poolwright.poco import ids, views
from poolwright.poco.matching import EntryKind, Orders
from poolwright.poco.orders import (
    NULL_DATASETORDER,
    AppOrder,
    DatasetOrder,
    Order,
    RequestOrder,
    WorkerpoolOrder,
)
from poolwright.poco.tags import TEE, TEE_FRAMEWORKS, Tag
from poolwright.poco.types import Address, DealId, OrderHash

if TYPE_CHECKING:
    from poolwright.cli.iexec.command import Run
    from poolwright.cli.iexec.execution_words import ExecutionWords
    from poolwright.cli.iexec.session import Session

DEPLOYED: Final = "deployed"


async def buy_execution(
    run: Run, session: Session, address: str | None, words: ExecutionWords, *, skip_preflight: bool
) -> MadeDeal:
    """Match orders for one task of an app at market price. Raises IexecError."""
    requester = run.wallet_file().address
    app = await deployed_or(run, "app", address, session.chain.id)
    dataset = await _named(run, session, "dataset", words.dataset)
    pool = await _named(run, session, "workerpool", words.workerpool)
    terms = words.request_terms(requester)
    tag: Tag = terms["tag"]
    parties = {"dataset": dataset, "workerpool": pool, "requester": requester}

    apporder = await _app_order(run, session, app, tag, parties)
    datasetorder: DatasetOrder = NULL_DATASETORDER
    if dataset is not None:
        datasetorder = await _dataset_order(run, session, dataset, tag, {**parties, "app": app})
    needed = apporder.tag | TEE_FRAMEWORKS.lacks(datasetorder.tag) | tag
    poolorder = await _pool_order(
        run, session, pool, needed, words, {"app": app, "dataset": dataset, "requester": requester}
    )
    request = free_order(
        "requestorder",
        **terms,
        app=app,
        appmaxprice=apporder.appprice,
        dataset=dataset or Address.zero(),
        datasetmaxprice=datasetorder.datasetprice,
        workerpool=poolorder.workerpool,
        workerpoolmaxprice=poolorder.workerpoolprice,
        category=poolorder.category,
        salt=order_chain.fresh_salt(),
    )
    assert isinstance(request, RequestOrder)
    total = apporder.appprice + datasetorder.datasetprice + poolorder.workerpoolprice
    run.confirm(
        f"Do you want to spend {both(total)} to execute the following request:\n"
        f"{tree(_shown(request, apporder, datasetorder, poolorder))}\n"
    )
    signed = await order_chain.signed(session, request, requester)
    assert isinstance(signed, RequestOrder)
    orders = Orders(app=apporder, dataset=datasetorder, workerpool=poolorder, request=signed)
    await checked_terms(run, session, orders, skip_preflight=skip_preflight)
    return await match(session, orders)


async def publish_request(
    run: Run,
    session: Session,
    address: str,
    words: ExecutionWords,
    caps: Mapping[str, str | None],
    volume: str,
    *,
    skip_preflight: bool,
) -> OrderHash:
    """Publish a request with price caps; returns its hash. Raises IexecError."""
    requester = run.wallet_file().address
    dataset = await _named(run, session, "dataset", words.dataset)
    pool = await _named(run, session, "workerpool", words.workerpool)
    request = free_order(
        "requestorder",
        **words.request_terms(requester),
        app=address_of(address),
        dataset=dataset or Address.zero(),
        workerpool=pool or Address.zero(),
        category=words.read_category() or 0,
        volume=number_of(volume, "volume", least=1),
        **{f"{name}maxprice": parse_rlc(cap, None, "nRLC") for name, cap in caps.items() if cap is not None},
        salt=order_chain.fresh_salt(),
    )
    assert isinstance(request, RequestOrder)
    checked = await order_chain.preflight(session, request, {}, skip=skip_preflight)
    cost = (request.appmaxprice + request.datasetmaxprice + request.workerpoolmaxprice) * request.volume
    stake = (await session.reader.account(requester)).stake
    if stake < cost:
        raise IexecError(
            f"Not enough RLC on your account ({format_rlc(cost)} RLC required). "
            'Run "iexec account deposit" to topup your account.',
            got=both(stake),
        )
    order_chain.tell_prices(run, request)
    shown = {name: value for name, value in request.to_json().items() if name not in ("salt", "sign")}
    run.confirm(f"Do you want to publish the following requestorder?\n{tree(shown)}\n")
    signed = await order_chain.signed(session, request, checked.signer)
    async with market_of(session) as market:
        with run.out.working("Publishing the request"):
            await market.publish("requestorder", signed.to_json(), await session.wallet())
    return await order_chain.hash_of(session, signed)


async def wait_for_deals(session: Session, hash_: OrderHash) -> list[DealId]:
    """Wait until a request is fully matched; returns its deals. Raises IexecError when it is cancelled.

    A deal's id follows from the request's hash and how much of it earlier deals took.
    """
    async with market_of(session) as market:
        volume = int((await market.order("requestorder", str(hash_)))["order"]["volume"])
    while (consumed := await session.reader.consumed(hash_)) < volume:
        with session.run.out.working(f"Waiting for a match: {consumed} of {volume} tasks"):
            await asyncio.sleep(WATCH_SECONDS)
    deal_ids: list[DealId] = []
    first = 0
    while first < volume:
        deal_id = ids.deal_id(hash_, first)
        deal_ids.append(deal_id)
        first += (await read_deal(session, deal_id)).deal.bot_size
    return deal_ids


# --- the orders of one execution ----------------------------------------------------------------------------


async def _app_order(
    run: Run, session: Session, app: Address, tag: Tag, parties: Mapping[str, Address | None]
) -> AppOrder:
    owner = await order_chain.owner_of_deployed(session, EntryKind.APP, app)
    requester = parties["requester"]
    if owner == requester:
        run.out.note("Creating apporder: you own the app")
        made = free_order(
            "apporder", app=app, tag=tag, requesterrestrict=requester, salt=order_chain.fresh_salt()
        )
        order = await order_chain.signed(session, made, owner)
    else:
        bounds = {"minTag": str(tag & (TEE | TEE_FRAMEWORKS)), "maxTag": str(tag)}
        order = await _best(session, "app", app, {"app": str(app), **bounds, **_restricted(parties)})
    assert isinstance(order, AppOrder)
    return order


async def _dataset_order(
    run: Run, session: Session, dataset: Address, tag: Tag, parties: Mapping[str, Address | None]
) -> DatasetOrder:
    owner = await order_chain.owner_of_deployed(session, EntryKind.DATASET, dataset)
    requester = parties["requester"]
    if owner == requester:
        run.out.note("Creating datasetorder: you own the dataset")
        made = free_order(
            "datasetorder",
            dataset=dataset,
            tag=tag,
            requesterrestrict=requester,
            salt=order_chain.fresh_salt(),
        )
        order = await order_chain.signed(session, made, owner)
    else:
        of_others = {name: party for name, party in parties.items() if name != "dataset"}
        filters = {"dataset": str(dataset), "maxTag": str(tag), **_restricted(of_others)}
        order = await _best(session, "dataset", dataset, filters)
    assert isinstance(order, DatasetOrder)
    return order


async def _pool_order(
    run: Run,
    session: Session,
    pool: Address | None,
    tag: Tag,
    words: ExecutionWords,
    parties: Mapping[str, Address | None],
) -> WorkerpoolOrder:
    requester, wanted, trust = parties["requester"], words.read_category(), words.read_trust()
    if pool is not None:
        owner = await order_chain.owner_of_deployed(session, EntryKind.WORKERPOOL, pool)
        if owner == requester:
            run.out.note("Creating workerpoolorder: you own the workerpool")
            made = free_order(
                "workerpoolorder",
                workerpool=pool,
                tag=tag,
                category=wanted or 0,
                trust=max(trust, 1),
                requesterrestrict=requester,
                salt=order_chain.fresh_salt(),
            )
            order = await order_chain.signed(session, made, owner)
            assert isinstance(order, WorkerpoolOrder)
            return order
    filters = {"minTag": str(tag), "minTrust": str(trust), **_restricted(parties)}
    if pool is not None:
        filters["workerpool"] = str(pool)
    count = await session.reader.ask(
        Question(to=session.hub, call=views.count_category(), read=views.decode_uint, what="countCategory")
    )
    for category in [wanted] if wanted is not None else range(count):
        found = await _first_open(session, "workerpoolorder", {**filters, "category": str(category)})
        if isinstance(found, WorkerpoolOrder):
            return found
    raise IexecError(
        f"No order available for workerpool {pool}" if pool else "No workerpool order available",
        expected=f"tag {', '.join(tag.names) or 'standard'}, trust {trust}, "
        f"category {'any' if wanted is None else wanted}",
        next_step="see `iexec orderbook workerpool`",
    )


async def _best(session: Session, part: str, entry: Address, filters: Mapping[str, str]) -> Order:
    found = await _first_open(session, f"{part}order", filters)
    if found is None:
        raise IexecError(
            f"No order available for {part} {entry}", next_step=f"see `iexec orderbook {part} {entry}`"
        )
    return found


async def _first_open(session: Session, kind: str, filters: Mapping[str, str]) -> Order | None:
    """The best order of the book of which the chain has volume left."""
    async with market_of(session) as market:
        async for page in market.pages(kind, filters):
            for entry in page.orders:
                order = read_signed(kind, entry.get("order") or {})
                if await session.reader.consumed(await order_chain.hash_of(session, order)) < order.volume:
                    session.run.out.note(f"Using {kind} {entry.get('orderHash')}")
                    return order
    return None


def _restricted(parties: Mapping[str, Address | None]) -> dict[str, str]:
    """Filters that let orders for these parties in, too."""
    return {name: str(party) for name, party in parties.items() if party is not None}


async def _named(run: Run, session: Session, part: str, text: str | None) -> Address | None:
    """An address, or the one of deployed.json, or none."""
    if text is None:
        return None
    given = None if text == DEPLOYED else text
    return await deployed_or(run, part, given, session.chain.id)


def _shown(
    request: RequestOrder, app: AppOrder, dataset: DatasetOrder, pool: WorkerpoolOrder
) -> dict[str, Any]:
    shown: dict[str, Any] = {"app": f"{app.app} ({format_rlc(app.appprice)} RLC)"}
    if request.dataset:
        shown["dataset"] = f"{dataset.dataset} ({format_rlc(dataset.datasetprice)} RLC)"
    shown["workerpool"] = f"{pool.workerpool} ({format_rlc(pool.workerpoolprice)} RLC)"
    shown["params"] = read_params(request.params)
    shown["category"] = str(request.category)
    if request.tag:
        shown["tag"] = ",".join(request.tag.names)
    if request.callback:
        shown["callback"] = str(request.callback)
    if request.beneficiary != request.requester:
        shown["beneficiary"] = str(request.beneficiary)
    return shown
