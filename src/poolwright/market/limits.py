"""How often one client may ask."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from poolwright.market.errors import MarketRefusal

MOST_CLIENTS: Final = 100_000


@dataclass(slots=True)
class _Window:
    ends: float
    used: int


class RateLimit:
    """So many requests per client and period; whoever asks from this machine is not limited.

    Times are seconds of one monotonic clock.
    """

    def __init__(self, limit: int, period_seconds: float) -> None:
        self.limit: Final = limit
        self._period = period_seconds
        self._windows: dict[str, _Window] = {}

    def admit(self, client: str, now: float) -> Mapping[str, str]:
        """Count a request; returns the headers that tell how many are left. Raises MarketRefusal, 429."""
        if not self.limit or _is_local(client):
            return {}
        window = self._windows.get(client)
        if window is None or window.ends <= now:
            if len(self._windows) >= MOST_CLIENTS:
                self._windows = {name: each for name, each in self._windows.items() if each.ends > now}
            window = self._windows[client] = _Window(now + self._period, 0)
        window.used += 1
        wait = max(int(window.ends - now) + 1, 1)
        if window.used > self.limit:
            raise MarketRefusal("Rate limit exceeded", status=429, code="rate-limit", retry_after=wait)
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.limit - window.used),
            "X-RateLimit-Reset": str(wait),
        }


def client_of(headers: Mapping[str, str], peer: str, *, trusts_proxy: bool) -> str:
    """Who asks: the connection's other end, or whom a trusted proxy names."""
    if trusts_proxy:
        named = headers.get("x-real-ip") or headers.get("x-forwarded-for", "").partition(",")[0]
        if named.strip():
            return named.strip()
    return peer


def _is_local(client: str) -> bool:
    try:
        return ipaddress.ip_address(client.removeprefix("::ffff:")).is_loopback
    except ValueError:
        return False
