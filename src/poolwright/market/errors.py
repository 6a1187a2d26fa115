"""Why the marketplace refuses, with the status and the very text that clients of the network compare.

    400   the query or the body is not readable        403   authorization, or a rule of the market
    404   no such order, deal, category                 413, 408   the body is too long, or comes too slowly
    429   too many requests; Retry-After says when      503   chain or database do not answer; Retry-After too

The reference's own service answers 500 for malformed JSON and for trouble of its node; a client that retries
on 5xx would repeat what can never succeed, so these are 400 and 503 here, with the same body.
"""

from __future__ import annotations

from typing import Final

from poolwright.chain.rpc import RpcError
from poolwright.poco.errors import InputError, PeerError, PoolwrightError, Unavailable

RETRY_LATER: Final = "Something went wrong, you should retry later."


class MarketRefusal(InputError):
    """The request is refused; `text` is what the client is told, `status` the HTTP status."""

    def __init__(self, text: str, *, status: int, code: str, retry_after: int | None = None) -> None:
        self.text = text
        self.status = status
        self.retry_after = retry_after
        """Seconds."""
        super().__init__(text, code=code)


def invalid(text: str) -> MarketRefusal:
    """The query or the body is not readable."""
    return MarketRefusal(text, status=400, code="invalid")


def forbidden(text: str) -> MarketRefusal:
    """A rule of the market does not allow it."""
    return MarketRefusal(text, status=403, code="forbidden")


def unauthorized() -> MarketRefusal:
    """Whatever is wrong with an authorization, the answer is the same."""
    return MarketRefusal("invalid authorization", status=403, code="unauthorized")


def not_found(what: str) -> MarketRefusal:
    return MarketRefusal(f"{what} not found", status=404, code="not-found")


def as_refusal(problem: PoolwrightError) -> MarketRefusal | None:
    """The refusal that says what this error means to a client; None for a bug of ours."""
    if isinstance(problem, MarketRefusal):
        return problem
    if isinstance(problem, Unavailable | PeerError | RpcError):  # the chain's node, or the database
        return MarketRefusal(RETRY_LATER, status=503, code=problem.code, retry_after=2)
    if isinstance(problem, InputError):
        return MarketRefusal(problem.what, status=getattr(problem, "http_status", 403), code=problem.code)
    return None
