"""The market's numbers for Prometheus; a registry per market, so that several can live in one process."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from poolwright.market.chain_market import ChainMarket
from poolwright.orderbook.listing import Kind


class Metrics:
    """What is counted as it happens, and what is looked up when somebody asks."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.responses = Counter(
            "poolwright_market_responses",
            "Answers by route and status",
            ["route", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "poolwright_market_request_seconds",
            "Time to an answer by route",
            ["route"],
            registry=self.registry,
            buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0),
        )
        self.open_orders = Gauge(
            "poolwright_market_open_orders", "Open orders", ["chain", "kind"], registry=self.registry
        )
        self.cursor = Gauge(
            "poolwright_market_cursor_block", "Last block taken", ["chain"], registry=self.registry
        )
        self.leads = Gauge(
            "poolwright_market_leads",
            "1 where this process follows the chain",
            ["chain"],
            registry=self.registry,
        )
        self.listeners = Gauge("poolwright_market_listeners", "Listeners to the feed", registry=self.registry)

        self._of_answer: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        """By route and status, both of which are few; the registry's own look-up is slow."""

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count an answer and the time to it."""
        found = self._of_answer.get((route, status))
        if found is None:
            found = self.responses.labels(route, str(status)), self.seconds.labels(route)
            self._of_answer[route, status] = found
        responses, times = found
        responses.inc()
        times.observe(seconds)

    def look(self, markets: Sequence[ChainMarket], listeners: int) -> None:
        """Read what is not counted."""
        for market in markets:
            chain = str(market.chain_id)
            for kind in Kind:
                self.open_orders.labels(chain, kind.value).set(len(market.book.shelves[kind]))
            self.cursor.labels(chain).set(market.cursor.number if market.cursor else 0)
            self.leads.labels(chain).set(market.leads)
        self.listeners.set(listeners)
