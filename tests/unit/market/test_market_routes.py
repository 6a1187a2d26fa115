"""Which handler answers a path and a verb."""

from __future__ import annotations

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from poolwright.market.routes import Handler, Route, Routes


def _saying(text: str) -> Handler:
    async def answer(request: Request) -> Response:
        return PlainTextResponse(text)

    return answer


ROUTES = Routes(
    [
        Route("/orders", _saying("list")),
        Route("/orders", _saying("publish"), ("POST",)),
        Route("/orders/{name}", _saying("one")),
        Route("/orders/{name}/match", _saying("match")),
        Route("/{chain}/pools/{pool}", _saying("pool")),
        Route("/apps/{rest:path}", _saying("rest"), ("GET", "PUT")),
    ]
)


async def _answer(verb: str, path: str) -> tuple[Response, dict[str, str]]:
    handler, places = ROUTES.find(verb, path)
    return await handler(Request({"type": "http"})), dict(places)


@pytest.mark.parametrize(
    ("verb", "path", "text", "places"),
    [
        ("GET", "/orders", b"list", {}),
        ("HEAD", "/orders", b"list", {}),
        ("POST", "/orders", b"publish", {}),
        ("GET", "/orders/0x1", b"one", {"name": "0x1"}),
        ("GET", "/orders/0x1/match", b"match", {"name": "0x1"}),
        ("GET", "/5/pools/0x2", b"pool", {"chain": "5", "pool": "0x2"}),
        ("PUT", "/apps/a/b/c", b"rest", {"rest": "a/b/c"}),
        ("GET", "/apps/", b"rest", {"rest": ""}),
    ],
)
async def test_a_path_and_a_verb_have_one_handler(
    verb: str, path: str, text: bytes, places: dict[str, str]
) -> None:
    answer, found = await _answer(verb, path)

    assert (answer.body, found) == (text, places)


@pytest.mark.parametrize(
    "path", ["/", "", "/order", "/orders/", "/orders/1/2", "/x/5/pools/0x2", "/orders\n"]
)
async def test_a_path_that_nobody_has_is_not_found(path: str) -> None:
    answer, _ = await _answer("GET", path)

    assert (answer.status_code, answer.body) == (404, b"Not Found")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/orders", "GET, HEAD, POST"), ("/orders/1", "GET, HEAD"), ("/apps/1", "GET, HEAD, PUT")],
)
async def test_another_verb_is_told_which_are_allowed(path: str, allowed: str) -> None:
    answer, _ = await _answer("DELETE", path)

    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
