"""Which handler answers: one look-up for a literal path, a try of the few patterns for any other.

/deals                literal
/deals/{dealid}       a pattern; the place stands for one part of the path, and is a string
/apps/{rest:path}     a pattern; the place stands for all the rest
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]

_PLACE: Final = re.compile(r"\{(\w+)(:path)?\}")
_NO_PLACES: Final[Mapping[str, str]] = {}


@dataclass(frozen=True, slots=True)
class Route:
    """What answers these verbs at this path; who answers GET answers HEAD too."""

    path: str
    handler: Handler
    verbs: tuple[str, ...] = ("GET",)


class Routes:
    """All routes of an application; of two patterns that fit the first counts."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._literal: dict[str, dict[str, Handler]] = {}
        self._patterns: list[tuple[re.Pattern[str], dict[str, Handler]]] = []
        by_path: dict[str, dict[str, Handler]] = {}
        for route in routes:
            verbs = by_path.setdefault(route.path, {})
            for verb in route.verbs:
                verbs[verb] = route.handler
                if verb == "GET":
                    verbs["HEAD"] = route.handler
        for path, verbs in by_path.items():
            if "{" in path:
                self._patterns.append((_pattern(path), verbs))
            else:
                self._literal[path] = verbs

    def find(self, verb: str, path: str) -> tuple[Handler, Mapping[str, str]]:
        """The handler, and what stands in the path's places. One that says 404 or 405 where there is none."""
        verbs, places = self._literal.get(path), _NO_PLACES
        if verbs is None:
            for pattern, of_pattern in self._patterns:
                found = pattern.fullmatch(path)
                if found is not None:
                    verbs, places = of_pattern, found.groupdict()
                    break
            else:
                return _no_such_page, _NO_PLACES
        return verbs.get(verb) or _not_allowed(verbs), places


def _pattern(path: str) -> re.Pattern[str]:
    """The path's regular expression; `re.escape` is not needed, since our paths have words and slashes."""
    return re.compile(_PLACE.sub(lambda place: f"(?P<{place[1]}>{'.*' if place[2] else '[^/]+'})", path))


async def _no_such_page(request: Request) -> Response:
    return PlainTextResponse("Not Found", status_code=404)


def _not_allowed(verbs: Iterable[str]) -> Handler:
    async def answer(request: Request) -> Response:
        return PlainTextResponse("Method Not Allowed", status_code=405, headers={"Allow": ", ".join(verbs)})

    return answer
