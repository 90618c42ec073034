"""The packaged engine's own table of routes: each is offered by graycat, or the document names it."""

from __future__ import annotations

import re

import pytest
from flask import Flask
from werkzeug.exceptions import MethodNotAllowed, NotFound

from graycat.settings import Settings
from graycat.web import create_app
from tests.support.engine_routes import METHODS, paths_in_binary, routes_of
from tests.support.stack import ROOT, Client

BINARY = paths_in_binary()
#: What a build that is older or newer by some thousands has, too.
ALWAYS = {"/health", "/props", "/completion", "/v1/chat/completions", "/v1/models", "/tokenize", "/infill", "/slots"}


@pytest.fixture(scope="module")
def routes(engine: Client) -> dict[str, set[str]]:
    return routes_of(engine, BINARY)


def is_offered(app: Flask, method: str, path: str) -> bool:
    try:
        app.url_map.bind("graycat").match(path.replace(":id_slot", "0"), method=method)
    except (NotFound, MethodNotAllowed):
        return False
    return True


def test_the_binary_tells_the_engine_s_routes(routes: dict[str, set[str]]) -> None:
    assert routes.keys() >= ALWAYS
    assert routes["/props"] == {"GET", "POST"}
    assert "/input_tokens" not in routes


def test_each_route_of_the_engine_is_offered_or_the_document_names_it(
    routes: dict[str, set[str]], no_app: Flask
) -> None:
    document = (ROOT / "docs" / "differences.md").read_text()
    named = set(re.findall(r"`(/[^` ]+)`", document))
    missing = [path for path in routes if not any(is_offered(no_app, method, path) for method in METHODS)]
    assert [path for path in missing if path not in named] == []
    # What the paragraph says not to be there is not.
    paragraph = document[document.index("Routes of this build") :].partition("\n\n")[0]
    listed = set(re.findall(r"`(/[^` ]+)`", paragraph))
    assert listed <= set(missing)


@pytest.fixture(scope="module")
def no_app(tmp_path_factory: pytest.TempPathFactory) -> Flask:
    """Return an application for its routes; it asks no broker."""
    return create_app(Settings(home=tmp_path_factory.mktemp("routes"), api_tokens="tests:a-secret-of-the-tests"))
