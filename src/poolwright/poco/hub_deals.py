"""Operations on orders: presigning, closing, and the match that makes a deal of four."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from poolwright.poco.events import (
    ClosedAppOrder,
    ClosedDatasetOrder,
    ClosedRequestOrder,
    ClosedWorkerpoolOrder,
    DealSponsored,
    HubEvent,
    OrdersMatched,
    SchedulerNotice,
    SignedAppOrder,
    SignedDatasetOrder,
    SignedRequestOrder,
    SignedWorkerpoolOrder,
)
from poolwright.poco.hub_accounts import Accounts
from poolwright.poco.hub_state import Call, operation
from poolwright.poco.matching import MatchRejected, Orders, match
from poolwright.poco.orders import (
    AppOrder,
    DatasetOrder,
    Order,
    RequestOrder,
    WorkerpoolOrder,
    operation_hash,
    order_hash,
)
from poolwright.poco.records import OrderOperation
from poolwright.poco.revert import Revert, require
from poolwright.poco.types import Address, DealId

_SIGNED: Final[Mapping[type[Order], Callable[..., HubEvent]]] = {
    AppOrder: SignedAppOrder,
    DatasetOrder: SignedDatasetOrder,
    WorkerpoolOrder: SignedWorkerpoolOrder,
    RequestOrder: SignedRequestOrder,
}
_CLOSED: Final[Mapping[type[Order], Callable[..., HubEvent]]] = {
    AppOrder: ClosedAppOrder,
    DatasetOrder: ClosedDatasetOrder,
    WorkerpoolOrder: ClosedWorkerpoolOrder,
    RequestOrder: ClosedRequestOrder,
}


class Deals(Accounts):
    """Orders and the deals that are made of them."""

    @operation
    def manage_order(self, call: Call, order: Order, operation: OrderOperation, sign: bytes = b"") -> None:
        """Presign or close an order: its owner, or anybody with the owner's signature of that operation."""
        owner = self._owner_of_order(order)
        require(
            owner == call.caller
            or self.is_signature_of(owner, operation_hash(order, operation, self.domain), sign),
            "only the owner manages an order, or who has the owner's signature of this operation",
            "invalid-sender-or-signature",
        )
        its_hash = order_hash(order, self.domain)
        match operation:
            case OrderOperation.SIGN:
                self._presigned[its_hash] = owner
                self._emit(self.hub, _SIGNED[type(order)](order_hash=its_hash))
            case OrderOperation.CLOSE:
                self._consumed[its_hash] = order.volume
                self._emit(self.hub, _CLOSED[type(order)](order_hash=its_hash))

    @operation
    def match_orders(self, call: Call, orders: Orders) -> None:
        """Make a deal that the requester pays, whoever calls."""
        self._match(call, orders, sponsor=orders.request.requester)

    @operation
    def sponsor_match_orders(self, call: Call, orders: Orders) -> None:
        """Make a deal that the caller pays."""
        deal_id = self._match(call, orders, sponsor=call.caller)
        self._emit(self.hub, DealSponsored(deal_id=deal_id, sponsor=call.caller))

    def _match(self, call: Call, orders: Orders, sponsor: Address) -> DealId:
        try:
            terms = match(orders, self, self.domain, release=self.release)
        except MatchRejected as rejection:
            raise Revert(rejection.reason, explanation=str(rejection)) from rejection
        deal = terms.deal(start_time=call.now, sponsor=sponsor)
        self._deals[terms.deal_id] = deal
        used = [terms.app_hash, terms.workerpool_hash, terms.request_hash]
        if deal.dataset.pointer:
            used.append(terms.dataset_hash)
        for its_hash in used:
            self._consumed[its_hash] += terms.volume

        self.escrow.lock(sponsor, terms.payer_lock())
        self.escrow.lock(deal.workerpool.owner, terms.scheduler_lock())
        self._emit(self.hub, SchedulerNotice(workerpool=deal.workerpool.pointer, deal_id=terms.deal_id))
        self._emit(
            self.hub,
            OrdersMatched(
                deal_id=terms.deal_id,
                app_hash=terms.app_hash,
                dataset_hash=terms.dataset_hash,
                workerpool_hash=terms.workerpool_hash,
                request_hash=terms.request_hash,
                volume=terms.volume,
            ),
        )
        return terms.deal_id

    def _owner_of_order(self, order: Order) -> Address:
        match order:
            case AppOrder():
                return self.owner_of(order.app)
            case DatasetOrder():
                return self.owner_of(order.dataset)
            case WorkerpoolOrder():
                return self.owner_of(order.workerpool)
            case RequestOrder():
                return order.requester
