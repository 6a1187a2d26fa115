"""Matching four orders into a deal: `order fill` and the end of `app run`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from poolwright.cli.iexec import order_chain
from poolwright.cli.iexec.errors import IexecError
from poolwright.cli.iexec.order_forms import NOBODY, free_order, read_params, signed_params
from poolwright.cli.iexec.preflight import (
    Finding,
    OrderFacts,
    both,
    check_match,
    check_money,
    check_order,
    check_tags_together,
    require,
    without_dataset,
)
from poolwright.cli.iexec.render import tree
from poolwright.poco import calls
from poolwright.poco.errors import PeerError
from poolwright.poco.events import OrdersMatched
from poolwright.poco.matching import DealTerms, Orders
from poolwright.poco.orders import (
    NULL_DATASETORDER,
    AppOrder,
    DatasetOrder,
    Order,
    RequestOrder,
    WorkerpoolOrder,
)
from poolwright.poco.tags import NO_TAG
from poolwright.poco.types import Address, DealId, TxHash

if TYPE_CHECKING:
    from poolwright.cli.iexec.command import Run
    from poolwright.cli.iexec.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class FillWish:
    """How orders are to be filled."""

    params: str | None = None
    """Make a request with these instead of taking a signed one."""
    skip_preflight: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeDeal:
    """A deal that our transaction made."""

    deal_id: DealId
    volume: int
    tx_hash: TxHash

    def fields(self) -> dict[str, str]:
        """As `--raw` tells it."""
        return {"dealid": str(self.deal_id), "volume": str(self.volume), "txHash": str(self.tx_hash)}


async def fill_orders(
    run: Run, session: Session, found: Mapping[str, Order | None], wish: FillWish
) -> MadeDeal:
    """Match the orders that were found, making the request when it is wished so. Raises IexecError."""
    app, dataset, pool = found["apporder"], found["datasetorder"], found["workerpoolorder"]
    request = found["requestorder"]
    assert isinstance(app, AppOrder)
    assert isinstance(pool, WorkerpoolOrder)
    if wish.params is not None:
        request = await _request_on_the_fly(run, session, app, dataset, pool, wish.params)
    assert isinstance(request, RequestOrder)
    if request.dataset and not isinstance(dataset, DatasetOrder):
        raise IexecError(
            f"Missing datasetorder: the requestorder names dataset {request.dataset}",
            next_step="name one with --dataset <orderHash>, or sign one with `iexec order sign --dataset`",
        )
    orders = without_dataset(
        Orders(
            app=app,
            dataset=dataset if isinstance(dataset, DatasetOrder) else NULL_DATASETORDER,
            workerpool=pool,
            request=request,
        )
    )
    await checked_terms(run, session, orders, skip_preflight=wish.skip_preflight)
    return await match(session, orders)


async def checked_terms(run: Run, session: Session, orders: Orders, *, skip_preflight: bool) -> DealTerms:
    """The terms of the deal that would be made, told to people with its cost. Raises IexecError."""
    check_tags_together(orders)
    facts = await order_chain.match_facts(session, orders)
    if not skip_preflight:
        await _check_each(session, orders, facts)
    terms = check_match(orders, facts.known, await session.reader.domain())
    require(
        check_money(
            terms,
            requester_stake=facts.requester_stake,
            pool_stake=facts.pool_stake,
            is_one_purse=facts.pool_owner == orders.request.requester,
        )
    )
    run.out.note(
        f"{terms.volume} task(s): app {both(terms.app.price)}, dataset {both(terms.dataset.price)}, "
        f"workerpool {both(terms.workerpool.price)} each; {both(terms.payer_lock())} in all"
    )
    return terms


async def match(session: Session, orders: Orders) -> MadeDeal:
    """Send `matchOrders` and read the deal from its event. Raises TxReverted, OutOfGas, Unavailable."""
    call = calls.match_orders(orders.app, orders.dataset, orders.workerpool, orders.request)
    receipt = await session.send(session.hub, call, "match orders")
    for event in await session.sending().events(receipt):
        if isinstance(event, OrdersMatched):
            return MadeDeal(deal_id=event.deal_id, volume=event.volume, tx_hash=receipt.tx_hash)
    raise PeerError(
        "the transaction made no deal", code="no-deal", got=str(receipt.tx_hash), next_step="check the hub"
    )


async def _check_each(session: Session, orders: Orders, facts: order_chain.MatchFacts) -> None:
    """What is wrong with each order on its own; stakes are compared with the deal, not with the volumes."""
    findings: list[Finding] = []
    parts: list[Order] = [orders.app, orders.workerpool, orders.request]
    if orders.dataset.dataset:
        parts.append(orders.dataset)
    for one in parts:
        enclave = None
        if isinstance(one, AppOrder) and one.app in facts.known.owners:
            enclave = (await session.reader.app(one.app)).mrenclave
        on_its_own = OrderFacts(
            category_count=facts.known.categories,
            stake=facts.pool_stake,
            consumed=one.volume,  # nothing is left to cover: the deal's own sums are checked later
            mrenclave=enclave,
        )
        findings += check_order(one, on_its_own)
        findings += await order_chain.missing_secrets(session, one)
    require(findings)


async def _request_on_the_fly(
    run: Run, session: Session, app: AppOrder, dataset: Order | None, pool: WorkerpoolOrder, params: str
) -> RequestOrder:
    """A request for one task at exactly these orders' prices, signed by the wallet."""
    requester = run.wallet_file().address
    terms: dict[str, Any] = {
        "app": app.app,
        "appmaxprice": app.appprice,
        "workerpool": pool.workerpool,
        "workerpoolmaxprice": pool.workerpoolprice,
        "category": pool.category,
        "requester": requester,
        "beneficiary": requester,
        "params": signed_params(params, Address.zero(), NO_TAG),
        "salt": order_chain.fresh_salt(),
    }
    if isinstance(dataset, DatasetOrder):
        terms |= {"dataset": dataset.dataset, "datasetmaxprice": dataset.datasetprice}
    request = free_order("requestorder", **terms)
    assert isinstance(request, RequestOrder)
    shown = {name: value for name, value in request.to_json().items() if name not in ("salt", "sign")}
    shown = {name: value for name, value in shown.items() if value != NOBODY}
    run.confirm(
        "The following requestorder has been created, do you want to sign it and complete your purchase?\n"
        f"{tree({**shown, 'params': read_params(request.params)})}\n"
    )
    signed = await order_chain.signed(session, request, requester)
    assert isinstance(signed, RequestOrder)
    return signed
