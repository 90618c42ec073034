from __future__ import annotations

import re
from typing import Any

import pytest
from flask import Flask

from graycat.web.openapi.document import PUBLIC_ENDPOINTS
from tests.support.helpers import SECRET


def operations(web) -> dict[tuple[str, str], dict[str, Any]]:
    """Return every documented operation by its method and path."""
    paths = web.get("/openapi.json").json["paths"]
    return {(method.upper(), path): o for path, by_method in paths.items() for method, o in by_method.items()}


def address(path: str) -> str:
    """Return a path that a client could ask for."""
    return path.replace("{number}", "0").replace("{task_id}", "a-task").replace("{batch_id}", "a-batch")


def test_the_document_has_every_route_and_no_other(web, shared_app: Flask) -> None:
    rules = [rule for rule in shared_app.url_map.iter_rules() if rule.endpoint != "static"]
    routes = {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in rules
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert set(operations(web)) == routes
    assert ("POST", "/v1/chat/completions") in routes
    assert ("GET", "/tasks/{task_id}/images/{number}") in routes


def test_public_routes_are_documented_as_public(web, shared_app: Flask) -> None:
    client = shared_app.test_client()
    for (method, path), operation in operations(web).items():
        status = client.open(address(path), method=method).status_code
        assert (status == 401) == (operation.get("security") != []), f"{method} {path}"
    public = [
        r for r in shared_app.url_map.iter_rules() if r.endpoint in PUBLIC_ENDPOINTS and "GET" in (r.methods or ())
    ]
    assert len(public) == sum(o.get("security") == [] for o in operations(web).values())


def test_routes_that_accept_basic_auth_are_documented_so(web, shared_app: Flask) -> None:
    client = shared_app.test_client()
    for (method, path), operation in operations(web).items():
        taken = client.open(address(path), method=method, auth=("me", SECRET)).status_code != 401
        assert taken == ({"password": []} in operation.get("security", []) or operation.get("security") == []), path


def test_every_operation_says_what_it_does_and_what_can_go_wrong(web) -> None:
    for (_, path), operation in operations(web).items():
        assert operation["summary"].endswith("."), path
        assert {"200", "500", "503"} <= set(operation["responses"]), path


def test_every_part_that_is_referred_to_is_there(web) -> None:
    document = web.get("/openapi.json")
    schemas = document.json["components"]["schemas"]
    assert set(re.findall(r'"\$ref":"#/components/schemas/(\w+)"', document.text.replace(" ", ""))) == set(schemas)
    named = {name for o in operations(web).values() for way in o.get("security", []) for name in way}
    assert named <= set(document.json["components"]["securitySchemes"])


@pytest.mark.parametrize(
    ("path", "names"),
    [("/tasks/{task_id}/images/{number}", {"task_id": "string", "number": "integer"}), ("/health", {})],
)
def test_a_path_s_variables_are_documented(web, path: str, names: dict[str, str]) -> None:
    parameters = operations(web)["GET", path]["parameters"]
    assert {p["name"]: p["schema"]["type"] for p in parameters if p["in"] == "path"} == names


def test_the_page_shows_every_route_and_needs_nothing_from_elsewhere(web) -> None:
    page = web.get("/docs").text
    for _, path in operations(web):
        assert f">{path}<" in page
    assert re.findall(r"(?:src|href)=\"(?!/)[^\"]*\"", page) == []
    assert "<script" not in page


@pytest.mark.parametrize("field", ["hr_upscaler", "imageList", "response_format", "grammar"])
def test_the_page_shows_the_fields_of_bodies_and_forms(web, field: str) -> None:
    assert f"<code>{field}</code>" in web.get("/docs").text
