"""The packaged engine's own table of routes: each is offered by graycat, or the document names it."""

from __future__ import annotations

import re

import pytest

from tests.support.engine_routes import paths_in_binary, routes_of
from tests.support.stack import ROOT, Client

BINARY = paths_in_binary()
#: What a build that is older or newer by some thousands has, too.
ALWAYS = {"/health", "/props", "/completion", "/v1/chat/completions", "/v1/models", "/tokenize", "/infill", "/slots"}


@pytest.fixture(scope="module")
def routes(engine: Client) -> dict[str, set[str]]:
    return routes_of(engine, BINARY)


def is_offered(api: Client, method: str, path: str) -> bool:
    answer = api.request(method, path.replace(":id_slot", "0"), json={} if method == "POST" else None)
    return answer.status_code not in (404, 405)


def test_the_binary_tells_the_engine_s_routes(routes: dict[str, set[str]]) -> None:
    assert routes.keys() >= ALWAYS
    assert routes["/props"] == {"GET", "POST"}
    assert "/input_tokens" not in routes


def test_each_route_of_the_engine_is_offered_or_the_document_names_it(api: Client, routes: dict[str, set[str]]) -> None:
    document = (ROOT / "docs" / "differences.md").read_text()
    named = set(re.findall(r"`(/[^` ]+)`", document))
    missing = {path for path, methods in routes.items() if not any(is_offered(api, method, path) for method in methods)}
    assert sorted(missing - named) == []
    # What the paragraph says not to be there is not.
    paragraph = document[document.index("Routes of this build") :].partition("\n\n")[0]
    assert set(re.findall(r"`(/[^` ]+)`", paragraph)) <= missing
