"""The secret service's routes where a network has none: 501, whatever is asked (reference: market-sdk.md 5).

The official client wants `sms` in chain.json even for orders that need no secret. A network without a secret
service names the marketplace there; a 404 from it would say "this secret is not set", as if it could be.
"""

from __future__ import annotations

import json
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from poolwright.market.routes import Route

PATHS: Final = ("/secrets/{rest:path}", "/apps/{rest:path}", "/requesters/{rest:path}", "/tee/{rest:path}")
VERBS: Final = ("GET", "POST", "PUT")
TEXT: Final = "this network offers no secret service"


def routes() -> list[Route]:
    """Routes that say so."""
    return [Route(path, _not_offered, VERBS) for path in PATHS]


async def _not_offered(request: Request) -> Response:
    body = json.dumps({"ok": False, "error": TEXT})
    return Response(body, status_code=501, media_type="application/json")
